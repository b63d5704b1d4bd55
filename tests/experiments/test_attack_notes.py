"""Notes on attacks before a run: their questions, options that do nothing, and the floor of a backdoor."""

import jax
import numpy as np
import pytest

import byzax
from byzax import attacks
from byzax.attacks import Answer, View
from byzax.experiments.attack_notes import attack_notes
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.grid import expand
from byzax.simulator.config.study import Study
from byzax.simulator.config.triggers import notes_on_floors, with_floors
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.validation import validate
from byzax.simulator.validation.link_checks import link_notes
from tests.nightly import by_night
from tests.simulator.conftest import small

THREE = {"total": 9, "byzantine": 3}
ASKING = [
    by_night("fang", {"evaluations": 5}),
    by_night("hidden_vulnerability", {"evaluations": 5}),
    ("little", {"z": "search", "evaluations": 5}),
    ("empire", {"epsilon": "search", "evaluations": 5}),
    ("rop", {}),
    ("optimised", {"attack": "rop", "evaluations": 4}),
]


@pytest.mark.parametrize(("name", "options"), ASKING)
def test_an_attack_asks_the_rule_as_often_as_it_says(name, options):
    asked = []

    def ask(rows):
        asked.append(1)
        return Answer(rows.mean(axis=0), None, rows)

    rows, byzantine = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32), np.arange(9) < 3
    attack = attacks.build(name, 9, 3, **options)
    view = View(
        jax.numpy.asarray(rows), jax.numpy.asarray(byzantine), jax.numpy.asarray(~byzantine), np.arange(9),
        jax.numpy.zeros(4), ask, lambda params: params.sum(), np.int32(0),
    )  # fmt: skip
    with jax.disable_jit():
        attack.forge(jax.random.key(0), view, attack.init(4))
    assert len(asked) == attack.questions
    assert attacks.build("little", 9, 3).questions == attacks.build("fang", 9, 3, against="trimmed_mean").questions == 0


NOTES = [
    ({"attack": {"name": "little", "z": "search"}}, "attack: little asks the rule 20 times in every update"),
    by_night(
        {"attack": {"name": "fang", "knowledge": "own"}},
        "attack: fang asks the rule 48 times in every update",
        id="fang",
    ),
    ({"attack": {"name": "empire", "every": 9}}, "attack.every: empire is carried out once, in update 0"),
    ({"attack": {"name": "stale_replay", "age": 6}}, "attack.age: stale_replay sends zeros in all updates"),
    ({"attack": {"name": "mimic", "target": 1}}, "attack.target: mimic is to copy worker 1"),
    ({"attack": {"name": "little", "knowledge": "own"}}, "attack.knowledge: little sends what its workers computed"),
    ({"attack": {"name": "mimic", "knowledge": "own"}}, "attack.knowledge: mimic sends what its workers computed"),
    ({"attack": {"name": "backdoor", "value": 0.0, "place": "top_left", "size": 1}}, "attack.value: the trigger of"),
    (
        {
            "attack": {"name": "label_flip", "labels": "targeted", "source": 0, "target": 1},
            "data": {"name": "digits", "batch_size": 8, "partition": "extreme"},
        },
        "attack.source: no Byzantine worker of label_flip holds a sample of label 0",
    ),
    (
        {"attack": "scaled", "local": {"steps": 2}, "optimizer": {"name": "adam", "learning_rate": 0.1}},
        "attack.boost: with adam at the server",
    ),
]


@pytest.mark.parametrize(("changes", "expected"), NOTES)
def test_what_an_attack_costs_and_options_that_do_nothing_are_said(changes, expected):
    lines = [*attack_notes(small(workers=THREE, **changes))]
    assert any(line.startswith(expected) for line in lines), lines


@pytest.mark.parametrize(
    "attack",
    [
        "little",
        "empire",
        {"name": "empire", "knowledge": "own"},
        {"name": "little", "knowledge": "colluding"},
        "backdoor",
        {"name": "mimic", "target": 5},
        {"name": "label_flip", "labels": "targeted"},
        {"name": "stale_replay", "age": 2},
        {"name": "empire", "every": 2},
    ],
)
def test_nothing_is_said_of_attacks_that_do_something(attack):
    assert [*attack_notes(small(workers=THREE, attack=attack))] == []


def test_none_measures_the_trigger_of_the_backdoors_that_it_stands_beside():
    raw = {
        "name": "x", "workers": THREE, "data": "digits", "rule": "average", "attack": "none",
        "grid": {
            "rule.name": ["average", "median"],
            # boost and share are how a trigger is trained, not what it is
            "attack": ["none", {"name": "backdoor", "size": 2}, {"name": "neurotoxin", "size": 2, "boost": 3.0}],
        },
    }  # fmt: skip
    cells = expand(parse_as(Study, raw)).cells
    triggers = [cell.study.trigger for cell in cells]
    assert [each and (each.name, each.options()["size"]) for each in triggers] == [("backdoor", 2), None, None] * 2
    # several triggers, or none: nothing is chosen for the user, who can
    several = raw | {"grid": {"attack": ["none", "backdoor", {"name": "backdoor", "size": 2}, "empire"]}}
    assert [cell.study.trigger for cell in expand(parse_as(Study, several)).cells] == [None] * 4
    assert with_floors([small(attack="none", trigger="backdoor")])[0].trigger.name == "backdoor"


def test_it_is_said_where_none_can_measure_no_floor():
    def said(*attacks, **changes):
        return list(notes_on_floors(with_floors([small(workers=THREE, attack=each, **changes) for each in attacks])))

    several = ("none", "backdoor", "distributed_backdoor", "neurotoxin")
    assert len(said(*several)) == 1
    assert "2 triggers (backdoor, distributed_backdoor)" in said(*several)[0]
    assert not said(*several, trigger="backdoor")
    assert not said("none", "backdoor", "neurotoxin")
    assert not said("backdoor", "distributed_backdoor")
    assert not said("none", "sign_flip")


def test_a_trigger_is_measured_whoever_trains_on_it():
    from byzax.simulator.core import build as core_of
    from byzax.simulator.world import world

    same = {"workers": THREE, "data": {"name": "digits", "batch_size": 8}}
    found = []
    for changes in ({"attack": "backdoor"}, {"attack": "none", "trigger": "backdoor"}, {"attack": "none"}):
        scenario = small(**same, **changes)
        core, here = core_of(scenario.run, 9), world(scenario.run)
        found.append(float(core.evaluate(here, core.start(here).params).attack_success))
    assert found[0] == found[1]
    assert np.isnan(found[2])
    with pytest.raises(ScenarioError, match=r"^trigger: label_flip has no trigger"):
        validate(small(attack="none", trigger="label_flip").task)


def test_the_note_about_a_trigger_that_does_not_show_is_of_the_images_as_they_are_now(tmp_path):
    x, y = np.random.default_rng(0).random((60, 8, 8)).astype(np.float32), np.arange(60) % 3
    scenario = small(data={"name": "arrays", "path": str(tmp_path / "a.npz"), "batch_size": 4}, attack="backdoor")
    x[0], x[:, 5:, 5:] = 0, 1
    for corner, said in ((1, True), (0, False)):
        x[:, 5:, 5:] = corner
        np.savez(tmp_path / "a.npz", x=x, y=y)
        assert any("the trigger of backdoor changes none" in line for line in attack_notes(scenario)) == said


def test_delays_of_links_that_change_nothing_are_noted():
    latency = {"name": "constant", "peer": {"delay": 1.0}}
    (line,) = link_notes(small(latency=latency).task.run)
    assert line.startswith("latency.peer: with topology parameter_server no message takes its time from it")
    pairs = {"topology": "pairwise", "rule": "average", "attack": "none", "workers": {"total": 4, "byzantine": 0}}
    assert [*link_notes(small(latency=latency, **pairs).task.run)] == []
    (line,) = link_notes(small(latency={"name": "constant", "up": {"delay": 1.0}}, **pairs).task.run)
    assert line.startswith("latency.up: ")
    # and in Python by a warning, once for all combinations
    with pytest.warns(UserWarning, match=r"^latency.peer: with topology parameter_server") as caught:
        byzax.validate(small(latency=latency, grid={"rule": ["average", "median"]}))
    assert len(caught) == 1
    with pytest.warns(UserWarning, match=r"^latency.peer: with topology parameter_server"):
        byzax.simulate(small(latency=latency).run)
