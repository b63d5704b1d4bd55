"""GuanYu and ByzSGD: who hears whom and whole runs against references, all executors, mishaps and refusals."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import byzax
from byzax.options import OptionError, PartError
from byzax.simulator import event_contract, executors, rounds
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.config.part import Choice
from byzax.simulator.config.study import Study
from byzax.simulator.durations import Durations, MessageBits
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import digest, network_of, plan, prepare
from byzax.simulator.executors.driver import Saving
from byzax.simulator.executors.programs import Program
from byzax.simulator.executors.waves import held_rows
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.replica_steps import GATHER, PULL, UPDATE
from byzax.simulator.round_table import WORK
from byzax.simulator.rounds import Rounds, RoundStep, plan_rounds
from byzax.simulator.timeline import Outcome
from byzax.simulator.timeline_files import load, save
from byzax.simulator.topologies import build
from tests.nightly import by_night
from tests.reference import replicas as reference
from tests.reference.drawn import drawn

STEPS = 8
PHASES = {UPDATE: reference.UPDATE, GATHER: reference.GATHER, PULL: reference.PULL}
DATA = {
    "name": "gaussian_mixture", "samples": 240, "shape": [5], "classes": 3, "separation": 2.0, "batch_size": 8,
    "partition": {"name": "dirichlet", "alpha": 0.5},
}  # fmt: skip
DELAYS = {
    "name": "exponential",
    **{
        way: {"delay": {"name": "exponential", "mean": mean}}
        for way, mean in (("up", 0.5), ("down", 0.3), ("peer", 0.4))
    },
}
CASES = {
    "GuanYu": {"topology": {"name": "guanyu", "servers": 7, "byzantine_servers": 1, "quorum_servers": 5}},
    "GuanYu, momentum": {
        "topology": {"name": "guanyu", "servers": 6, "byzantine_servers": 1, "quorum_workers": 8},
        "worker_momentum": {"beta": 0.5}, "optimizer": {"name": "sgd", "learning_rate": 0.3, "momentum": 0.5},
    },
    "ByzSGD": {
        "topology": {
            "name": "byzsgd", "servers": 6, "byzantine_servers": 1, "quorum_servers": 4, "quorum_workers": 7,
            "gather_every": 3,
        },
        "rule": "trimmed_mean",
    },
}  # fmt: skip
SCENARIO = {
    "name": "replicas", "steps": STEPS, "evaluate_every": 1, "data": DATA, "model": "softmax", "rule": "median",
    "attack": "sign_flip", "executor": "loop", "optimizer": {"name": "sgd", "learning_rate": 0.3}, "latency": DELAYS,
    "workers": {"total": 10, "byzantine": 2},
}  # fmt: skip


def given_of(name, **changes):
    given = SCENARIO | CASES[name] | changes
    return given | {"topology": {"server_attack": "sign_flip"} | given["topology"]}


def scenario_of(name, **changes) -> Study:
    return parse_as(Study, given_of(name, **changes))


def taken_by(study):
    """The senders of the messages that a node took, by phase, node and round."""
    times = {PHASES[each.step]: each.taken for each in plan(study.run).rounds if each.step in PHASES}
    return lambda phase, node, t: np.flatnonzero(times[phase][t, node]).tolist()


# who hears whom


def rounds_of(n, servers, rows, models, every):
    everyone, them = tuple(range(n)), tuple(range(servers))
    steps = (
        RoundStep(WORK, "worker", ((),) * n, works=True),
        RoundStep(UPDATE, "server", (everyone,) * servers, WORK, rows),
        RoundStep(GATHER, "server", (them,) * servers, UPDATE, models, every=every),
        RoundStep(PULL, "worker", (them,) * n, GATHER, models),
    )
    return Rounds(steps, GATHER, them)


def planned_with(monkeypatch, described, steps, computing, delays, **latency):
    """The plan with these seconds of computing `[T, n]`, and of the messages of each step `[T, receivers, senders]`."""

    def build_draws(source, n, seed, bits):
        def draw(worker):
            return lambda first, count: rounds_durations(computing[:, worker], count)

        return [draw(worker) for worker in range(n)]

    def rounds_durations(seconds, count):
        nothing = np.zeros(count)
        return Durations(nothing, np.resize(seconds, count), nothing, np.zeros(count, bool))

    order = iter([step for step in described.steps if step.reads])

    def build_links(source, seed, bits, way, senders):
        step = next(order)
        spans = delays[step.name].copy()
        if way == "peer":
            spans[:, range(len(senders)), range(len(senders))] = 0
        whole = np.concatenate([spans, np.zeros((rounds.BLOCK - len(spans), *spans.shape[1:]))])
        return lambda first, count: (whole, np.zeros(whole.shape, bool))

    monkeypatch.setattr(rounds, "build_draws", build_draws)
    monkeypatch.setattr(rounds, "build_links", build_links)
    source = Choice("latency", LatencyPart).validate({"name": "constant", **latency})
    return plan_rounds(described, steps, source, 0, MessageBits(32, 32, 32))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nodes_hear_whom_the_messages_one_by_one_say(data):
    n, servers = data.draw(st.integers(3, 5), "workers"), data.draw(st.integers(3, 5), "servers")
    rows, models = data.draw(st.integers(1, n), "rows"), data.draw(st.integers(1, servers), "models")
    every, steps = data.draw(st.integers(1, 3), "every"), 4
    # few different seconds: many messages arrive together
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), "seed"))
    seconds = [*range(data.draw(st.integers(1, 6), "different seconds"))]
    computing = rng.choice(seconds, (steps, n)).astype(float)
    shapes = {UPDATE: (servers, n), GATHER: (servers, servers), PULL: (n, servers)}
    delays = {name: rng.choice(seconds, (steps, *shape)).astype(float) for name, shape in shapes.items()}
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = planned_with(monkeypatch, rounds_of(n, servers, rows, models, every), steps, computing, delays)
    names = {phase: name for name, phase in PHASES.items()}
    expected = reference.heard(
        n, servers, rows, models, every, steps, lambda worker, t: computing[t, worker],
        lambda phase, t, sender, receiver: delays[names[phase]][t, receiver, sender],
    )  # fmt: skip
    times = {each.step: each for each in made.rounds}
    assert len(expected) == steps * (2 * servers + n)
    for (phase, node, t), (end_s, senders) in expected.items():
        mine = times[names[phase]]
        assert mine.end_s[t, node] == end_s
        assert np.flatnonzero(mine.taken[t, node]).tolist() == senders


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_every_order_of_arrival_gives_the_first_of_a_quorum(monkeypatch, order):
    # server 0 hears four workers in this order, the others in that of their numbers
    delays = {UPDATE: np.tile(np.arange(4.0), (1, 4, 1)), GATHER: np.zeros((1, 4, 4)), PULL: np.zeros((1, 4, 4))}
    delays[UPDATE][0, 0, list(order)] = range(4)
    made = planned_with(monkeypatch, rounds_of(4, 4, 3, 3, 1), 1, np.ones((1, 4)), delays)
    taken = {each.step: each.taken for each in made.rounds}[UPDATE]
    assert np.flatnonzero(taken[0, 0]).tolist() == sorted(order[:3])
    assert (taken[0, 1:] == [True, True, True, False]).all()


def test_every_link_has_its_own_delays_and_every_node_its_own_order():
    taken, study = taken_by(scenario_of("GuanYu")), scenario_of("GuanYu")
    for phase, nodes in ((reference.UPDATE, 7), (reference.GATHER, 7), (reference.PULL, 10)):
        chosen = {tuple(taken(phase, node, t)) for node in range(nodes) for t in range(STEPS)}
        assert len(chosen) > 5
    assert all(node in taken(reference.GATHER, node, t) for node in range(7) for t in range(STEPS))
    # no number of one worker's delays depends on how many servers there are
    wider = scenario_of("GuanYu", topology={"name": "guanyu", "servers": 9, "byzantine_servers": 1})
    one, other = (plan(each.run).rounds[0].end_s[0] for each in (study, wider))
    np.testing.assert_array_equal(one, other)


def test_messages_take_their_delay_and_their_bits():
    links = {way: {"delay": delay, "bandwidth": 1e3} for way, delay in (("up", 1.0), ("down", 2.0), ("peer", 4.0))}
    study = scenario_of("GuanYu", latency={"name": "constant", "seconds": 10.0, **links}, steps=2)
    bits = 32 * 18 / 1e3
    made = plan(study.run)
    ends = [each.end_s[0].max() for each in made.rounds]
    np.testing.assert_allclose(np.diff(ends, prepend=0), [10, 1 + bits, 4 + bits, 2 + bits])
    np.testing.assert_allclose(made.time_s, np.array([1, 2]) * (15 + 2 * bits) + np.array([0, 2 + bits]))


# runs


@pytest.mark.parametrize("name", CASES)
def test_a_run_is_that_of_the_paper(name):
    study = scenario_of(name)
    expected = reference.train(given_of(name), drawn(study), taken_by(study))
    for t, update in enumerate(byzax.simulate(study.run)):
        np.testing.assert_allclose(update.params, expected[t + 1], rtol=1e-4, atol=1e-5)
    # a mistake would be seen: servers differ, and so do rounds
    assert np.abs(expected[-1] - expected[-1][:1]).max() > 1e-3
    assert np.abs(expected[-1] - expected[-2]).max() > 1e-3


def checkpoints_of(name, executor, **changes):
    study = scenario_of(name, executor=executor, **changes)
    with executors.session(study.executor) as execute:
        return list(execute(study.task))


def same(one, other):
    return all(
        np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
        for a, b in zip((*one.evaluation, one.params), (*other.evaluation, other.params), strict=True)
    )


MISHAPS = DELAYS | {"loss": 0.02, "crashes": [{"worker": 3, "at": 2.0, "back": 6.0}, {"worker": 9, "at": 5.0}]}


@pytest.mark.parametrize("name", ["GuanYu", by_night("GuanYu, momentum"), by_night("ByzSGD")])
def test_compiled_loops_are_within_rounding_of_one_event_after_the_other(name):
    recording = {"record": {"weights": True, "rows": 2}}
    for one, other in zip(*(checkpoints_of(name, each, **recording) for each in ("loop", "vectorised")), strict=True):
        np.testing.assert_allclose(other.params, one.params, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.evaluation, one.evaluation, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(other.weights, one.weights, rtol=1e-5)
        for a, b in zip(other.recorded, one.recorded, strict=True):
            for name_of, mine, expected in zip(a._fields, a, b, strict=True):
                np.testing.assert_allclose(mine, expected, rtol=1e-3, atol=1e-5, err_msg=name_of)


@pytest.mark.parametrize("name", ["GuanYu, momentum", by_night("GuanYu"), by_night("ByzSGD")])
def test_compiled_loops_leave_out_what_does_not_happen(name):
    changes = {"record": {"weights": True, "rows": 3}, "latency": MISHAPS, "steps": 12}
    for one, other in zip(*(checkpoints_of(name, each, **changes) for each in ("loop", "vectorised")), strict=True):
        np.testing.assert_allclose(other.params, one.params, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.evaluation, one.evaluation, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(other.weights, one.weights, rtol=1e-5)
        for mine, expected in zip(other.updates, one.updates, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-6)
        for a, b in zip(other.recorded, one.recorded, strict=True):
            for name_of, mine, expected in zip(a._fields, a, b, strict=True):
                np.testing.assert_allclose(mine, expected, rtol=1e-3, atol=1e-5, err_msg=name_of)


def test_updates_in_which_other_nodes_take_part_are_of_one_kind():
    study = scenario_of("GuanYu", latency=MISHAPS, topology=CASES["GuanYu"]["topology"], steps=60)
    prepared = prepare(study.run)
    network, _ = network_of(study.run, prepared)
    times = {each.step: np.isfinite(each.end_s) for each in prepared.timeline.rounds}
    assert len(np.unique(times[WORK], axis=0)) > 2
    held = held_rows(network.steps, prepared.timeline, study.run.workers.total)
    assert len(Program(network, prepared.timeline, held).kinds) == 1


@pytest.mark.parametrize(("name", "actors"), [by_night(name, actors) for name in CASES for actors in (1, 2, 5)])
def test_ray_is_bitwise_equal_to_loop(ray_session, name, actors):
    changes = {"record": {"weights": True, "rows": 2}, "evaluate_every": 3, "latency": MISHAPS}
    expected = checkpoints_of(name, "loop", **changes)
    got = list(ray_session(scenario_of(name, executor={"name": "ray", "actors": actors}, **changes)))
    for one, other in zip(expected, got, strict=True):
        assert same(one, other)
        for a, b in zip(one.recorded, other.recorded, strict=True):
            np.testing.assert_equal(a._asdict(), b._asdict())
    assert digest(expected) == digest(got)


@pytest.mark.parametrize("executor", ["loop", by_night("vectorised")])
def test_a_run_that_was_left_goes_on_to_the_same_numbers(executor):
    name, kept = "GuanYu, momentum", []
    study = scenario_of(name, executor=executor, latency=MISHAPS, topology=CASES[name]["topology"])
    with executors.session(study.executor) as execute:
        saving = Saving(lambda seed, snapshot: kept.append(snapshot), every_s=None, every=3)
        whole = list(execute(study.task, saving=saving))
        assert kept
        for snapshot in kept:
            rest = list(execute(study.task, {0: snapshot}))
            assert all(same(*pair) for pair in zip(whole[-len(rest) :], rest, strict=True))


def test_every_honest_node_gets_another_lie_and_honest_messages_are_untouched():
    study = scenario_of("GuanYu", topology=CASES["GuanYu"]["topology"] | {"server_attack": "random_model"})
    network, here = network_of(study.run, prepare(study.run))
    event_contract.check(network, STEPS, lambda update: np.asarray(here.byzantine_rank) >= 0)
    *_, before, last = byzax.simulate(study.run)
    assert len(np.unique(last.params[1:], axis=0)) > 3
    assert np.abs(before.params[1:]).max() < 10


# unproven numbers of servers

LIAR = {"name": "guanyu", "servers": 1, "byzantine_servers": 1, "unproven": True}


@pytest.mark.parametrize("executor", ["loop", "vectorised"])
def test_one_server_that_does_not_lie_is_a_parameter_server(executor):
    changes = {"attack": "none", "rule": "average", "latency": "constant", "executor": executor}
    changes |= {"workers": {"total": 9, "byzantine": 0}}
    alone = byzax.run(SCENARIO | changes | {"topology": "parameter_server"}, quiet=True)
    for server in ({"server_attack": "none"}, {"byzantine_servers": 0}):
        one = byzax.run(SCENARIO | changes | {"topology": LIAR | server}, quiet=True)
        for mine, expected in zip(one.params.values(), alone.params.values(), strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-6)


def test_workers_of_one_server_that_lies_compute_at_its_lies():
    changes = {"workers": {"total": 9, "byzantine": 0}, "attack": "none", "rule": "average", "steps": 3}
    study = parse_as(Study, SCENARIO | changes | {"topology": LIAR | {"server_attack": "random_model"}})
    network, here = network_of(study.run, prepare(study.run))
    event_contract.check(network, 3, lambda update: np.asarray(here.byzantine_rank) >= 0)
    told = byzax.run(SCENARIO | changes | {"topology": LIAR}, quiet=True).metrics
    # the mean model of nine random ones, each with numbers of deviation 1
    assert told["consensus_distance"].iloc[-1] > 1
    assert told["worst_accuracy"].iloc[-1] < told["test_accuracy"].iloc[-1]


@pytest.mark.parametrize(
    ("topology", "words"),
    [
        ({"byzantine_servers": 2}, "is 2, and there are 1 servers"),
        ({"quorum_servers": 2}, "is 2, and there are 1 servers"),
        ({"quorum_workers": 99}, "is 99, and there are 9 workers"),
        ({"unproven": False}, "or unproven true"),
    ],
)
def test_unproven_numbers_are_numbers_of_what_there_is(topology, words):
    with pytest.raises(ScenarioError, match=words):
        byzax.run(SCENARIO | {"workers": {"total": 9, "byzantine": 2}, "topology": LIAR | topology}, quiet=True)


def test_without_an_honest_server_an_honest_worker_is_needed():
    with pytest.raises(ScenarioError, match="leave one of them honest"):
        byzax.run(SCENARIO | {"workers": {"total": 9, "byzantine": 9}, "rule": "average", "topology": LIAR}, quiet=True)


# mishaps


@pytest.mark.parametrize("name", CASES)
def test_lost_messages_and_dead_workers_leave_a_table_that_can_be_carried_out(name):
    study = scenario_of(name, latency=MISHAPS, steps=25)
    network, here = network_of(study.run, prepare(study.run))
    made = plan(study.run)
    byzantine = np.asarray(here.byzantine_rank) >= 0
    for at_once in (1, 7, 25):
        event_contract.check(network, made.steps, lambda update: byzantine, at_once)
    times = {each.step: each for each in made.rounds}
    for each in times.values():
        happened = np.isfinite(each.end_s)
        quorums = each.taken.sum(axis=2)
        assert (quorums[~happened] == 0).all()
    # dead from second 2 to 6: no job then, and others after
    begun = times[WORK].begin_s[:, 3]
    begun = begun[np.isfinite(begun)]
    assert not ((begun >= 2) & (begun < 6)).any()
    assert (begun > 6).any()
    assert not np.isfinite(times[WORK].end_s[:, 9][times[WORK].begin_s[:, 9] > 5]).any()
    assert {Outcome.DROPPED, Outcome.LOST} & {*made.outcomes.tolist()}


def test_a_timeline_is_read_as_it_was_written_and_replayed(tmp_path):
    study = scenario_of("GuanYu, momentum", latency=MISHAPS)
    save(plan(study.run), tmp_path / "timeline.npz")
    read = load(tmp_path / "timeline.npz")
    for one, other in zip(read.rounds, plan(study.run).rounds, strict=True):
        np.testing.assert_equal(one, other)
    with executors.session(study.executor) as execute:
        whole = list(execute(study.task))
    assert all(same(*pair) for pair in zip(whole, loop.replay(study.task, read), strict=True))


def test_a_run_without_enough_workers_ends_and_says_why():
    crashes = [{"worker": worker, "at": 4.0} for worker in range(4)]
    study = scenario_of("GuanYu", latency=DELAYS | {"crashes": crashes}, steps=60)
    with (
        executors.session(study.executor) as execute,
        pytest.raises(RuntimeError, match=r"^update \d+ never happens: "),
    ):
        list(execute(study.task))


# what is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"servers": 5}, r"servers must be at least 3 byzantine_servers \+ 3 = 6 with byzantine_servers=1, got 5"),
        ({"quorum_servers": 4}, "quorum_servers must be 5 to 5 with 6 servers, got 4"),
        ({"quorum_workers": 9}, "quorum_workers must be 7 to 8 with 10 workers, got 9"),
        ({"server_attack": "label_flip"}, "server_attack label_flip forges no models"),
        (
            {"server_attack": {"name": "optimised", "measure": "loss"}},
            "server_attack optimised measures losses on data, and servers have none",
        ),
        ({"server_attack": "radom_model"}, "unknown attack 'radom_model'; did you mean 'random_model'"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_with_what_would(options, words):
    with pytest.raises((OptionError, PartError), match=words):
        build("guanyu", 10, 2, **options)


def test_too_few_workers_are_refused():
    with pytest.raises(PartError, match=r"n must be at least 3 f \+ 3 = 9 with f=2, got 8"):
        build("guanyu", 8, 2)
    assert build("byzsgd", 8, 2).inboxes == (6,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rule": "brute", "topology": {"name": "guanyu", "quorum_workers": 7}}, None),
        (
            {"schedule": "asynchronous"},
            "^topology: guanyu: quorums are options of the topology: take schedule synchronous with quorum all",
        ),
        ({"attack": {"name": "empire", "timing": "late"}}, "^topology: guanyu: .*attack.timing honest"),
        ({"filter": "kardam"}, "^topology: guanyu: .*filter"),
        ({"topology": {"name": "guanyu", "servers": 4}}, "^topology.servers: must be at least"),
        ({"topology": {"name": "guanyu", "server_attack": "none", "byzantine_servers": 0, "servers": 3}}, None),
        # no worker is Byzantine, and a server is
        ({"workers": {"total": 10, "byzantine": 0}, "attack": "none"}, None),
    ],
)
def test_scenarios_that_cannot_be_are_refused_in_one_line(changes, words):
    study = scenario_of("GuanYu", **changes)
    if words is None:
        byzax.validate(study)
        return
    with pytest.raises(ScenarioError, match=words) as caught:
        byzax.validate(study)
    assert "\n" not in str(caught.value)
