"""All-reduce and all-gather: sums and costs against the textbooks, lies, times, all executors and refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import byzax
from byzax.options import PartError
from byzax.simulator import event_contract, exchange_plan, executors
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.config.part import Choice
from byzax.simulator.config.study import Study
from byzax.simulator.durations import Durations
from byzax.simulator.exchange_plan import plan_exchanges
from byzax.simulator.exchanges import ALGORITHMS, AllReduce, Transfer, chunk_sizes, count_rows, ring
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import digest, network_of, plan, prepare
from byzax.simulator.executors.driver import Saving
from byzax.simulator.executors.ledger import link_totals, traffic
from byzax.simulator.keys import Purpose, generator
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.parts import topology
from byzax.simulator.processes import UPDATE
from byzax.simulator.round_table import WORK
from byzax.simulator.rounds import Rounds, RoundStep
from byzax.simulator.timeline_files import load, save
from tests.nightly import by_day, by_night
from tests.reference import all_reduce as reference

SIZES = range(2, 10)
# 35 numbers: only 5 and 7 processes share them out equally
DATA = {"name": "gaussian_mixture", "samples": 120, "shape": [6], "classes": 5, "separation": 2.0, "batch_size": 4}
D = 35
SCENARIO = {
    "name": "processes", "steps": 6, "evaluate_every": 1, "data": DATA, "model": "softmax", "rule": "average",
    "attack": "sign_flip", "executor": "loop", "optimizer": {"name": "sgd", "learning_rate": 0.3},
    "workers": {"total": 5, "byzantine": 1},
}  # fmt: skip
LATENCY = {
    "name": "exponential",
    "peer": {"delay": {"name": "exponential", "mean": 0.4}, "bandwidth": 1e4},
}
CASES = {
    **{f"{name}, everything": {"topology": {"name": "all_reduce", "algorithm": name, "corrupts": "everything"}}
       for name in ALGORITHMS},
    "ring": {
        "topology": "all_reduce", "worker_momentum": {"beta": 0.5},
        "optimizer": {"name": "sgd", "learning_rate": 0.3, "momentum": 0.5},
    },
    "gather": {"topology": "all_gather", "rule": "trimmed_mean", "worker_momentum": {"beta": 0.5}},
}  # fmt: skip
BY_DAY = ("ring, everything", "gather")


def scenario_of(name=None, **changes) -> Study:
    return parse_as(Study, SCENARIO | {"latency": LATENCY} | CASES.get(name, {}) | changes)


def with_algorithm(name, n, **changes) -> Study:
    corrupts = changes.pop("corrupts", "contribution")
    workers = {"total": n, "byzantine": changes.pop("byzantine", 1)}
    return scenario_of(
        topology={"name": "all_reduce", "algorithm": name, "corrupts": corrupts}, workers=workers, **changes
    )


# sums


@pytest.mark.parametrize("m", SIZES)
def test_every_all_reduce_has_the_sum_in_the_order_of_the_textbook(m):
    for name in ALGORITHMS:
        for update in byzax.simulate(with_algorithm(name, m, steps=2).run):
            assert update.aggregate.shape == (m, D)
            np.testing.assert_allclose(
                update.aggregate, np.tile(update.forged.astype(float).mean(axis=0), (m, 1)), rtol=2e-6, atol=2e-6
            )
            # to the last bit, and the same at all processes
            expected = getattr(reference, name)(update.forged) * np.float32(1 / m)
            np.testing.assert_array_equal(update.aggregate, expected)
            assert (update.params == update.params[0]).all()
            assert (update.forged[1:] == update.rows[1:]).all()
            assert (update.forged[0] != update.rows[0]).any()


@pytest.mark.parametrize("m", [2, by_night(3), 5, by_night(6), by_night(8), by_night(9)])
@pytest.mark.parametrize("which", ["first", "random"])
def test_what_a_liar_in_everything_passes_on_is_as_many_times_its_row(m, which):
    for name in ALGORITHMS:
        # the seed with which the last process is drawn
        seed = next(i for i in range(99) if generator(i, Purpose.BYZANTINE).permutation(m)[0] == m - 1)
        byzantine = {"count": 1, "which": which, "seed": seed if which == "random" else None}
        study = with_algorithm(name, m, corrupts="everything", steps=2, byzantine=byzantine)
        for update in byzax.simulate(study.run):
            (liar,) = np.flatnonzero(update.byzantine).tolist()
            assert liar == (0 if which == "first" else m - 1)
            send = reference.in_all(liar, update.forged[liar])
            expected = getattr(reference, name)(update.forged, send) * np.float32(1 / m)
            np.testing.assert_array_equal(update.aggregate, expected)
            # the reference makes a difference, but for algorithms in which this process passes nothing on
            sums = [] if name == "all_to_all" else count_rows(m, ALGORITHMS[name](m))
            passes = any(rows.get(liar, 0) > 1 for rows in sums)
            assert passes == (update.aggregate != getattr(reference, name)(update.forged) * np.float32(1 / m)).any()


def test_an_attack_that_pauses_corrupts_nothing_meanwhile():
    attack = {"name": "sign_flip", "from": 2}
    lying, honest = (
        [*byzax.simulate(with_algorithm("ring", 5, corrupts=corrupts, attack=each).run)]
        for corrupts, each in (("everything", attack), ("contribution", "none"))
    )
    for one, other in zip(lying[:2], honest[:2], strict=True):
        np.testing.assert_array_equal(one.params, other.params)
    assert np.abs(lying[2].params - honest[2].params).max() > 1e-2
    assert np.ptp(lying[2].params[1:], axis=0).max() > 1e-3


def test_a_row_that_is_not_finite_is_summed_as_it_is():
    attack = {"name": "non_finite"}
    for corrupts in ("contribution", "everything"):
        *_, last = byzax.simulate(with_algorithm("ring", 3, corrupts=corrupts, attack=attack, steps=1).run)
        assert np.isnan(last.aggregate[1:]).all()


def test_a_plan_that_adds_twice_or_forgets_is_seen():
    for m in SIZES:
        for name, make in ALGORITHMS.items():
            made = make(m)
            counts = count_rows(m, made)
            assert len(counts) == len(made.exchanges)
            for exchange in made.exchanges:
                senders, receivers = ([getattr(each, end) for each in exchange] for end in ("sender", "receiver"))
                # one message at a time
                assert len({*senders}) == len(senders)
                assert len({*receivers}) == len(receivers)
                assert all(each.sender != each.receiver for each in exchange), name
    made = ring(4)
    with pytest.raises(ValueError, match=r"process . adds chunk . of row . twice"):
        count_rows(4, AllReduce(4, (made.exchanges[0], *made.exchanges)))
    with pytest.raises(ValueError, match="has not the sum of all rows"):
        count_rows(4, AllReduce(4, made.exchanges[:-1]))
    shifted = tuple(Transfer(p, (p + 1) % 4, (p + 1) % 4, True) for p in range(4))
    with pytest.raises(ValueError, match=r"has not the sum|twice"):
        count_rows(4, AllReduce(4, (shifted, *made.exchanges[1:])))


@pytest.mark.parametrize(("d", "chunks"), [(35, 4), (36, 4), (3, 5), (1, 1), (0, 2)])
def test_chunks_differ_by_one_number_at_most(d, chunks):
    assert chunk_sizes(d, chunks).tolist() == [len(each) for each in np.array_split(np.arange(d), chunks)]


def test_fewer_numbers_than_processes_are_summed_too():
    small = DATA | {"shape": [1], "classes": 2}
    *_, last = byzax.simulate(with_algorithm("ring", 6, data=small, steps=2).run)
    np.testing.assert_array_equal(last.aggregate, reference.ring(last.forged) * np.float32(1 / 6))


# costs


@pytest.mark.parametrize("m", SIZES)
def test_messages_bits_and_time_are_those_of_the_textbooks(m):
    latency = {"name": "constant", "seconds": 3.0, "peer": {"delay": 0.5, "bandwidth": 320.0}}
    for name in ALGORITHMS:
        run = with_algorithm(name, m, latency=latency, steps=2).run
        timeline = plan(run)
        messages, numbers, (latencies, in_turn) = reference.costs(name, m, D)
        sent = traffic(run, timeline)
        assert sent.messages.tolist() == [0, messages, 2 * messages]
        assert sent.bits_peer.tolist() == [0, 32 * numbers, 64 * numbers]
        assert not sent.bits_up.any()
        assert not sent.bits_down.any()
        seconds = 3 + 0.5 * latencies + in_turn * 32 / 320.0
        np.testing.assert_allclose(timeline.time_s, [seconds, 2 * seconds], rtol=1e-12)
        of_master = [link.bits for link in link_totals(run, timeline) if 0 in (link.sender[1], link.receiver[1])]
        if name == "master_worker":
            assert sum(of_master) == 2 * 2 * D * 32 * (m - 1)
        if name in ("ring", "round_robin"):
            by_process, parts = np.zeros(m), chunk_sizes(D, m)
            for link in link_totals(run, timeline):
                by_process[link.sender[1]] += link.bits
            # 2 N (m - 1) / m each, where m divides N
            sent_twice = 2 * D - np.roll(parts, -1) - np.roll(parts, -2), D + (m - 2) * parts
            assert by_process.tolist() == (2 * 32 * sent_twice[name == "round_robin"]).tolist()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_nodes_send_and_receive_one_message_at_a_time(data):
    m, steps = data.draw(st.integers(2, 6), "processes"), 3
    made = ALGORITHMS[data.draw(st.sampled_from([*ALGORITHMS]), "algorithm")](m)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), "seed"))
    computing = rng.integers(0, 5, (steps, m)).astype(float)
    links = {
        (t, p, q): rng.integers(0, 5, 2 * m).astype(float) for t in range(steps) for p in range(m) for q in range(m)
    }
    # what is planned
    nobody = ((),) * m

    def step(number, exchange):
        senders = {each.receiver: (each.sender,) for each in exchange}
        return RoundStep(f"exchange {number}", "worker", tuple(senders.get(p, ()) for p in range(m)), WORK)

    described = Rounds(
        (
            RoundStep(WORK, "worker", nobody, works=True),
            *(step(number, exchange) for number, exchange in enumerate(made.exchanges)),
            RoundStep(UPDATE, "worker", nobody),
        ),
        UPDATE, (0,), exchanges=True,
    )  # fmt: skip

    def build_draws(source, n, seed, bits):
        def draw(worker):
            return lambda first, count: Durations(*[np.zeros(count)] * 4)._replace(
                compute=np.resize(computing[:, worker], count)
            )

        return [draw(worker) for worker in range(n)]

    def build_links(source, seed, bits, way, senders):
        def draw(first, count):
            uses = count // exchange_plan.BLOCK
            seconds = np.zeros((count, m, m))
            for (t, p, q), times in links.items():
                if p in senders[q]:
                    seconds[t * uses : (t + 1) * uses, q, senders[q].index(p)] = times[:uses]
            return seconds, np.zeros(seconds.shape, bool)

        return draw

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(exchange_plan, "build_draws", build_draws)
        monkeypatch.setattr(exchange_plan, "build_links", build_links)
        source = Choice("latency", LatencyPart).validate({"name": "constant"})
        timeline = plan_exchanges(described, steps, source, 0, 32)
    # message by message
    free = [0.0] * m
    for t in range(steps):
        ready = [max(free[p] + computing[t, p] for p in range(m))] * m
        used = {}
        for number, exchange in enumerate(made.exchanges):
            after = [*ready]
            for each in exchange:
                link = each.sender, each.receiver
                end = max(ready[each.sender], ready[each.receiver]) + links[t, *link][used.get(link, 0)]
                used[link] = used.get(link, 0) + 1
                after[each.sender], after[each.receiver] = max(after[each.sender], end), max(after[each.receiver], end)
            ready = after
            assert timeline.rounds[1 + number].end_s[t].tolist() == ready
        free = ready
        assert timeline.time_s[t] == ready[0]


def test_each_message_of_a_link_has_a_delay_of_its_own():
    ends = {each.step: each.end_s for each in plan(with_algorithm("master_worker", 3, steps=50).run).rounds}
    taking = np.stack([ends[f"exchange {i}"].max(axis=1) for i in range(1, 5)])
    assert len(np.unique(np.round(np.diff(taking, axis=0), 9))) == 150


# runs


def checkpoints_of(name, executor, **changes):
    study = scenario_of(name, executor=executor, **changes)
    with executors.session(study.executor) as execute:
        return list(execute(study.task))


def same(one, other):
    return all(
        np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
        for a, b in zip((*one.evaluation, one.params), (*other.evaluation, other.params), strict=True)
    )


@pytest.mark.parametrize("topology", ["all_reduce", "all_gather"])
def test_processes_train_as_one_server_does(topology):
    rule = "average" if topology == "all_reduce" else "trimmed_mean"
    changes = {
        "rule": rule,
        "worker_momentum": {"beta": 0.5},
        "optimizer": {"name": "sgd", "learning_rate": 0.3, "momentum": 0.5},
    }
    server, processes = (
        checkpoints_of(None, "loop", topology=each, **changes) for each in ("parameter_server", topology)
    )
    for one, other in zip(server, processes, strict=True):
        np.testing.assert_allclose(other.params, one.params, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.evaluation[:7], one.evaluation[:7], rtol=1e-4)
        for mine, expected in zip(other.updates, one.updates, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)
    assert processes[-1].evaluation.consensus_distance < 1e-6


@pytest.mark.parametrize("name", by_day(BY_DAY, CASES))
def test_compiled_loops_are_within_rounding_of_one_event_after_the_other(name):
    recording = {"record": {"weights": True, "rows": 2}}
    for one, other in zip(*(checkpoints_of(name, each, **recording) for each in ("loop", "vectorised")), strict=True):
        np.testing.assert_allclose(other.params, one.params, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.evaluation, one.evaluation, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(other.weights, one.weights, rtol=1e-5)
        for a, b in zip(other.recorded, one.recorded, strict=True):
            for name_of, mine, expected in zip(a._fields, a, b, strict=True):
                np.testing.assert_allclose(mine, expected, rtol=1e-3, atol=1e-5, err_msg=name_of)


@pytest.mark.parametrize(("name", "actors"), [by_night(name, actors) for name in CASES for actors in (1, 2, 5)])
def test_ray_is_bitwise_equal_to_loop(ray_session, name, actors):
    changes = {"record": {"weights": True, "rows": 2}, "evaluate_every": 3}
    expected = checkpoints_of(name, "loop", **changes)
    got = list(ray_session(scenario_of(name, executor={"name": "ray", "actors": actors}, **changes)))
    for one, other in zip(expected, got, strict=True):
        assert same(one, other)
        for a, b in zip(one.recorded, other.recorded, strict=True):
            np.testing.assert_equal(a._asdict(), b._asdict())
    assert digest(expected) == digest(got)


@pytest.mark.parametrize(
    ("name", "executor"), [("ring, everything", "loop"), by_night("ring", "vectorised"), by_night("gather", "loop")]
)
def test_a_run_that_was_left_goes_on_to_the_same_numbers(name, executor):
    kept, study = [], scenario_of(name, executor=executor)
    with executors.session(study.executor) as execute:
        saving = Saving(lambda seed, snapshot: kept.append(snapshot), every_s=None, every=3)
        whole = list(execute(study.task, saving=saving))
        assert kept
        for snapshot in kept:
            rest = list(execute(study.task, {0: snapshot}))
            assert all(same(*pair) for pair in zip(whole[-len(rest) :], rest, strict=True))


def test_a_replay_gives_the_same_bits(tmp_path):
    study = scenario_of("ring, everything")
    save(plan(study.run), tmp_path / "timeline.npz")
    replayed = list(loop.replay(study.task, load(tmp_path / "timeline.npz")))
    assert digest(replayed) == digest(checkpoints_of("ring, everything", "loop"))


@pytest.mark.parametrize("name", CASES)
def test_the_table_can_be_carried_out_and_a_forged_message_of_an_honest_process_is_seen(name):
    study = scenario_of(name)
    network, here = network_of(study.run, prepare(study.run))
    byzantine = np.asarray(here.byzantine_rank) >= 0
    for at_once in (2, 6):
        event_contract.check(network, 6, lambda update: byzantine, at_once)
    with pytest.raises(ValueError, match="which is honest"):
        event_contract.check(network, 6, lambda update: np.zeros(5, bool))


def test_a_second_seed_builds_nothing():
    network, other = (network_of(each, prepare(each))[0] for each in (
        scenario_of("ring").run, scenario_of("ring", seed=1).run
    ))  # fmt: skip
    assert network.steps == other.steps


def test_receivers_are_told_apart_by_all_gather():
    gather = {"attack": "equivocate", "workers": {"total": 5, "byzantine": 1}}
    *_, last = byzax.simulate(scenario_of("gather", **gather).run)
    assert len(np.unique(last.forged[1:, 0], axis=0)) > 1
    assert len(np.unique(last.params[1:], axis=0)) > 1


def test_diagnostics_say_what_was_corrupted():
    changes = {"record": {"weights": True}}
    honest, corrupted = (
        checkpoints_of(None, "loop", topology={"name": "all_reduce", "corrupts": each}, **changes)[-1]
        for each in ("contribution", "everything")
    )
    np.testing.assert_allclose(honest.updates.byzantine_weight, 0.2)
    np.testing.assert_allclose(honest.weights, 0.2)
    assert np.isnan(corrupted.updates.byzantine_weight).all()
    assert np.isnan(corrupted.weights).all()
    assert corrupted.updates.honest_distance[-1] > honest.updates.honest_distance[-1]
    assert corrupted.evaluation.consensus_distance > 1e-3


# refusals


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rule": "median"}, "take rule average without pre, or topology all_gather"),
        ({"pre": ["nnm"]}, "take rule average without pre, or topology all_gather"),
        ({"attack": "equivocate"}, "take topology all_gather"),
        ({"latency": {"name": "constant", "loss": 0.1}}, "waits for everybody"),
        ({"latency": {"name": "constant", "crashes": [{"worker": 1, "at": 2.0}]}}, "take topology guanyu"),
        ({"schedule": {"name": "synchronous", "quorum": 3}}, "take schedule synchronous with quorum all"),
        ({"schedule": "asynchronous"}, "take schedule synchronous with quorum all"),
        ({"clock": "wall", "executor": "ray"}, "clock"),
        ({"workers": {"total": 5, "byzantine": 5}}, "leave one of them honest"),
        ({"weights": "samples"}, "leave weights out"),
        ({"topology": {"name": "all_reduce", "algorithm": "star"}}, "topology.algorithm"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, words):
    with pytest.raises(ScenarioError, match=words) as refused:
        byzax.run(**SCENARIO | {"topology": "all_reduce"} | changes, quiet=True)
    assert "\n" not in str(refused.value).strip()


def test_numbers_of_processes_are_checked():
    with pytest.raises(PartError):
        byzax.simulator.topologies.build("all_reduce", 3, 4)
    assert topology(with_algorithm("ring", 4).run).inboxes == (4,)
