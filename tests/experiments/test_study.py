"""From a scenario file to its cells: overrides and the grid."""

import itertools
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from byzax.experiments.labels import labels
from byzax.experiments.strict_yaml import dump, parse_text
from byzax.experiments.study import load, override
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.dotted_keys import put
from byzax.simulator.config.grid import expand
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.validation import validate
from tests.experiments.command import SMALL, write
from tests.nightly import by_night

YAML_1_2 = [
    ("1e-3", 0.001),
    ("1E3", 1000.0),
    (".5", 0.5),
    ("-.inf", -math.inf),
    ("010", 10),
    ("0x1F", 31),
    ("0o17", 15),
    ("1_000", "1_000"),
    ("1:30", "1:30"),
    ("2026-01-01", "2026-01-01"),
    ("on", "on"),
    ("yes", "yes"),
    ("n", "n"),
    ("True", True),
    ("~", None),
    ("nan", "nan"),
    ('"1e30"', "1e30"),
]


@pytest.mark.parametrize(("text", "value"), YAML_1_2)
def test_scalars_are_read_as_yaml_1_2_says(text, value):
    read = parse_text(text, "here")
    assert (read, type(read)) == (value, type(value))


def test_anchors_and_merges_work_and_an_own_key_wins():
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: *b, z: 4}"
    assert parse_text(text, "here")["c"] == {"x": 1, "y": 3, "z": 4}


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(values)
@example("\x85")
def test_what_is_dumped_is_read_back_the_same(value):
    assert parse_text(dump(value), "here") == value


PLAIN = {"name": "krum", "distance": "plain"}
PUT = [
    # where it is put, what is put, what comes out
    ({"rule": "krum"}, "rule.distance", "plain", {"rule": PLAIN}),
    ({"rule": PLAIN}, "rule.name", "krum", {"rule": PLAIN}),
    ({"rule": PLAIN}, "rule.name", "median", {"rule": {"name": "median"}}),
    ({"rule": PLAIN}, "rule", "krum", {"rule": {"name": "krum"}}),
    ({}, "optimizer.learning_rate", 0.5, {"optimizer": {"name": "sgd", "learning_rate": 0.5}}),
    ({"executor": "ray"}, "executor.actors", 2, {"executor": {"name": "ray", "actors": 2}}),
    # where no name is known yet
    ({}, "rule.m", 3, {"rule": {"m": 3}}),
    ({"attack": "little"}, "attack.timing.age", 3, {"attack": {"name": "little", "timing": {"age": 3}}}),
    ({"attack": "little"}, "attack.timing", "late", {"attack": {"name": "little", "timing": {"name": "late"}}}),
    ({}, "workers.total", 5, {"workers": {"total": 5}}),
    ({"data": "digits"}, "data.partition.a", 1, {"data": {"name": "digits", "partition": {"name": "iid", "a": 1}}}),
    (
        {"data": {"name": "mnist", "root": "there", "batch_size": 8, "partition": "iid"}},
        "data.name",
        "digits",
        {"data": {"name": "digits", "batch_size": 8, "partition": "iid"}},
    ),
    (
        {"data": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 1}, "batch_size": 8}},
        "data.partition",
        {"name": "by_label", "labels": 2},
        {"data": {"name": "digits", "partition": {"name": "by_label", "labels": 2}, "batch_size": 8}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("mapping", "key", "value", "expected"), PUT)
def test_a_dotted_key_reaches_into_components_and_a_new_name_replaces_them(mapping, key, value, expected):
    before = repr(mapping)
    assert put(mapping, key, value) == expected
    assert repr(mapping) == before, "the mapping given was changed"


OVERRIDES = [
    # the grid before, the override, the grid after
    ({"rule.name": ["krum"], "steps": [1, 2]}, "rule.name=median", {"steps": [1, 2]}),
    ({"rule.name": ["krum"], "rule.m": [1]}, "rule=median", {}),
    ({"rule": ["krum"]}, "rule.name=median", {}),
    ({"rule.name": ["krum"], "steps": [1]}, "grid.rule.name=[median]", {"rule.name": ["median"], "steps": [1]}),
    ({"rule": ["krum"]}, "grid.rule.name=[median]", {"rule.name": ["median"]}),
    ({"rule.name": ["krum"]}, "grid={}", {}),
    ({"workers.byzantine": [1]}, "workers.declared=2", {"workers.byzantine": [1]}),
]


@pytest.mark.parametrize(("before", "text", "after"), OVERRIDES)
def test_setting_a_key_ends_the_sweep_over_it(before, text, after):
    grid = override({"rule": "krum", "grid": before}, text)["grid"]
    assert list(grid.items()) == list(after.items())


def test_declared_follows_a_swept_byzantine_unless_it_is_given(tmp_path):
    grid = {"workers.byzantine": [0, 1, 2]}
    cells = load(write(tmp_path, grid=grid)).cells
    assert [cell.study.workers.declared for cell in cells] == [0, 1, 2]
    cells = load(write(tmp_path, grid=grid), ["workers.declared=2"]).cells
    assert [cell.study.workers.declared for cell in cells] == [2, 2, 2]


def test_a_grid_takes_names_and_whole_components(tmp_path):
    grid = {"attack": ["none", "empire", {"name": "empire", "epsilon": 10}]}
    cells = load(write(tmp_path, attack={"name": "empire", "epsilon": 3}, grid=grid)).cells
    assert [cell.study.attack.options() for cell in cells] == [
        {},
        {"epsilon": 1.1, "of": "rows", "evaluations": 20},
        {"epsilon": 10, "of": "rows", "evaluations": 20},
    ]


def test_names_are_chosen_before_options_in_whatever_order_the_grid_says(tmp_path):
    options = {"rule.distance": ["plain", "squared"]}
    for grid in ({**options, "rule.name": ["krum"]}, {"rule.name": ["krum"], **options}):
        cells = load(write(tmp_path, rule="average", grid=grid)).cells
        assert [cell.study.rule.options()["distance"] for cell in cells] == ["plain", "squared"]


def test_an_optimizer_is_chosen_before_its_rate_and_the_rate_before_its_options(tmp_path):
    grid = {
        "optimizer.learning_rate.start": [0.5],
        "optimizer.learning_rate": [{"name": "cosine", "final": 0.1}],
        "optimizer.name": ["adam"],
    }
    for keys in (grid, dict(reversed(grid.items()))):
        found = load(write(tmp_path, grid=keys)).cells[0].study.optimizer
        assert found.name == "adam"
        assert found.learning_rate.model_dump() == {
            "name": "cosine", "warm_up": 0, "start": 0.5, "final": 0.1, "steps": None
        }  # fmt: skip


def test_what_is_written_down_of_a_study_is_what_was_given():
    written = {
        **SMALL,
        "workers": {"total": 9, "byzantine": 2},
        "worker_momentum": 0.5,
        "local": {"steps": 2, "learning_rate": 0.2},
        "pre": ["nnm", {"name": "clip", "bound": 2.0}],
        "attack": {"name": "little", "timing": "first", "workers": 1, "beside": ["empire"]},
        "grid": {"rule.name": ["krum", "median"]},
    }
    assert parse_as(Study, written).given() == written


def test_defaults_that_follow_another_setting_follow_it_in_copies_and_in_a_grid():
    local, speed = {"steps": 2}, lambda study: study.optimizer.options()["learning_rate"]
    study = parse_as(Study, {**SMALL, "local": local})
    assert (speed(study), speed(study.run), speed(study.replace(local=None))) == (1.0, 1.0, 0.1)
    swept = expand(parse_as(Study, {**SMALL, "local": local, "grid": {"local": [None, local]}}))
    assert [speed(cell.study) for cell in swept.cells] == [0.1, 1.0]
    race = parse_as(Study, {**SMALL, "executor": "ray", "clock": "wall"})
    assert [each.latency.options()["seconds"] for each in (race, race.replace(clock="virtual"))] == [0.0, 1.0]


SWEEPS = {
    "rule.name": ["median", "average"],
    "attack.name": ["none", "empire"],
    "steps": [2, 1],
    "workers.declared": [0, 1],
    "optimizer.learning_rate": [0.1, 1],
}


@pytest.mark.parametrize("examples", [10, by_night(30)])
def test_the_cells_are_all_combinations_in_the_order_written(examples):
    drawn = given(st.lists(st.sampled_from(list(SWEEPS)), unique=True))(are_all_combinations)
    settings(max_examples=examples, deadline=None)(drawn)()


def are_all_combinations(keys):
    cells = expand(parse_as(Study, {**SMALL, "grid": {key: SWEEPS[key] for key in keys}})).cells
    combinations = list(itertools.product(*(SWEEPS[key] for key in keys)))
    assert [tuple(cell.choices.values()) for cell in cells] == combinations
    for cell in cells:
        for key, value in cell.choices.items():
            found = cell.study
            for part in key.split("."):
                found = getattr(found, part)
            assert found == value


def test_a_mistake_of_many_cells_is_said_once(tmp_path):
    study = load(write(tmp_path, rule="krum", grid={"workers.byzantine": [1, 3], "seed": [0, 1, 2]}))
    with pytest.raises(ScenarioError) as caught:
        validate(study)
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).endswith("(in 3 runs, such as workers.byzantine=3, seed=0)")


def test_the_label_of_a_rule_with_a_rule_as_an_option_leaves_out_the_default():
    rules = [
        parse_as(Study, {**SMALL, "workers": {"total": 15, "byzantine": 2}, "rule": each}).rule
        for each in ("krum", "bulyan", {"name": "bulyan", "base": "median"})
    ]
    assert list(labels(rules[:2]).values()) == ["krum", "bulyan"]
    assert list(labels(rules[::2]).values()) == ["krum", "bulyan base=median"]


@pytest.mark.parametrize(
    ("attacks", "expected"),
    [
        (
            [{"name": "little", "z": 1.5, "sign": "plus", "knowledge": each} for each in ("own", "colluding")],
            ["little knowledge=own", "little knowledge=colluding"],
        ),
        (
            [{"name": "little", "z": 1.5, "timing": each} for each in ("first", {"name": "late", "age": 3})],
            ["little timing=first", "little timing=late age=3"],
        ),
        # what differs may stand beside
        (
            [{"name": "little", "z": 1.5, "workers": 1, "beside": [{"name": "zero", "from": each}]} for each in (0, 2)],
            ["little + zero from=0", "little + zero from=2"],
        ),
        (
            [{"name": "little", "z": each, "workers": 1, "beside": [{"name": "zero", "from": 2}]} for each in (1, 2)],
            ["little z=1", "little z=2"],
        ),
        # other names: options that are not the default
        (
            ["none", *({"name": "little", "z": 1.5, "from": each} for each in (0, 2))],
            ["none", "little from=0 z=1.5", "little from=2 z=1.5"],
        ),
        (
            ["none", {"name": "none", "workers": 1, "beside": [{"name": "little", "z": 1.5}]}],
            ["none workers=null", "none workers=1 + little z=1.5"],
        ),
        ([{"name": "little", "z": 1.5, "from": 2}], ["little z=1.5"]),
    ],
)
def test_a_label_says_what_sets_an_attack_apart_and_no_more(attacks, expected):
    workers = {"total": 7, "byzantine": 2}
    parts = [parse_as(Study, {**SMALL, "workers": workers, "attack": each}).attack for each in attacks]
    assert list(labels(parts).values()) == expected
