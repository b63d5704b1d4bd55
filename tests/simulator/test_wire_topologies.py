"""Wires of all-reduce, all-gather, slices and gradient tracking: sums, equal models, states, bits, all executors."""

import functools
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest

import byzax
from byzax.simulator import event_contract, executors, transforms
from byzax.simulator.chunk_wire import encoded_first
from byzax.simulator.core import build
from byzax.simulator.exchanges import ALGORITHMS, chunk_sizes
from byzax.simulator.executors.base import digest, network_of, plan, prepare
from byzax.simulator.executors.driver import Saving
from byzax.simulator.executors.ledger import link_totals, traffic
from byzax.simulator.transforms._chain import fixed_bits
from byzax.simulator.transforms._parts import in_parts
from byzax.simulator.wire import wire_bits
from byzax.simulator.world import world
from tests.nightly import by_night
from tests.reference import all_reduce as reference
from tests.simulator.conftest import loop, run, same, small

# 35 numbers: 5 and 7 processes share them out equally, others do not
DATA = {"name": "gaussian_mixture", "samples": 120, "shape": [6], "classes": 5, "separation": 2.0, "batch_size": 4}
D, STEPS = 35, 3
FEW = {"data": DATA, "steps": STEPS, "evaluate_every": 1}
ERRORS = {"name": "top_k", "share": 0.2, "error_feedback": True}
CASES: dict[str, dict[str, Any]] = {
    "pair": {
        "topology": "all_reduce", "wire": {"peer": "int8"}, "workers": {"total": 2, "byzantine": 0}, "attack": "none",
    },
    "ring": {
        "topology": {"name": "all_reduce", "algorithm": "ring", "corrupts": "everything"},
        "wire": {"peer": "qsgd"}, "attack": {"name": "sign_flip", "wire": "ignored"}, "worker_momentum": 0.5,
    },
    "butterfly": {
        "topology": {"name": "all_reduce", "algorithm": "butterfly"}, "wire": {"peer": ["top_k", "float16"]},
        "attack": {"name": "sign_flip", "wire": "malformed"}, "workers": {"total": 6, "byzantine": 1},
    },
    "all to all": {
        "topology": {"name": "all_reduce", "algorithm": "all_to_all"}, "wire": {"peer": "int8"},
        "attack": {"name": "sign_flip", "wire": "malformed"},
    },
    "gather": {
        "topology": "all_gather", "wire": {"peer": {"name": "ef21", "inner": "sign"}}, "rule": "median",
        "attack": {"name": "equivocate", "wire": "malformed"}, "worker_momentum": 0.5,
    },
    "slices": {
        "topology": {"name": "sharded", "servers": 3}, "wire": {"up": ERRORS, "down": "threshold"}, "rule": "krum",
        "attack": {"name": "little", "wire": "malformed"}, "worker_momentum": 0.5,
    },
    "tracking": {
        "topology": {"name": "gossip", "mixing": "weighted_average", "tracking": True}, "wire": {"peer": ERRORS},
        "attack": "none", "workers": {"total": 7, "byzantine": 0},
    },
}  # fmt: skip
BY_DAY = ("pair", "gather")
each_case = pytest.mark.parametrize("name", [name if name in BY_DAY else by_night(name) for name in CASES])


def changes_of(name):
    return FEW | CASES[name]


@pytest.mark.parametrize("name", CASES)
def test_the_table_can_be_carried_out(name):
    scenario = small(**changes_of(name))
    network, here = network_of(scenario.run, prepare(scenario.run))
    event_contract.check(network, STEPS, lambda update: np.asarray(here.byzantine_rank) >= 0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ray_gives_the_numbers_and_bits_of_the_reference(ray_session, name):
    expected = loop(**changes_of(name))
    got = list(ray_session(small(**changes_of(name), executor={"name": "ray", "actors": 2})))
    assert digest(expected) == digest(got)
    assert [each.traffic for each in expected] == [each.traffic for each in got]


@each_case
def test_the_compiled_loop_gives_the_numbers_and_bits_of_the_reference(name):
    compiled = run(small(**changes_of(name), executor="vectorised"))
    for one, other in zip(loop(**changes_of(name)), compiled, strict=True):
        np.testing.assert_allclose(one.params, other.params, rtol=1e-5, atol=1e-6 * np.nanmax(np.abs(one.params)))
        np.testing.assert_allclose(one.traffic, other.traffic, rtol=1e-3)


@each_case
def test_a_run_that_was_left_goes_on_with_what_both_ends_remember(name):
    scenario, kept = small(**changes_of(name)), []
    with executors.session(scenario.executor) as execute:
        saving = Saving(lambda seed, snapshot: kept.append(snapshot), every_s=None, every=1)
        whole = list(execute(scenario.task, saving=saving))
        later = [each for each in whole if each.step > kept[1].evaluations[-1].step]
        rest = list(execute(scenario.task, {0: kept[1]}))
        assert same(later, rest)
        assert [each.traffic for each in later] == [each.traffic for each in rest]


# --- all-reduce -------------------------------------------------------------------------------------------------------


def half(vector):
    """A vector as float16 holds it."""
    return vector.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize("m", [by_night(2), by_night(3), 5, by_night(6), by_night(8)])
def test_sums_of_rounded_chunks_are_those_of_the_textbook_with_every_message_rounded(m):
    for name in ALGORITHMS:
        changes = {
            "topology": {"name": "all_reduce", "algorithm": name}, "wire": {"peer": "float16"}, "attack": "none",
            "workers": {"total": m, "byzantine": 0},
        }  # fmt: skip
        for update in byzax.simulate(small(**FEW | changes | {"steps": 1}).run):
            rows = update.forged
            # the last to hold a sum rounds it too, as who gets it has it so
            expected = rounding(name, rows) * np.float32(1 / m)
            np.testing.assert_array_equal(update.aggregate, expected)
            assert np.abs(update.aggregate - rows.mean(axis=0)).max() > 1e-6
            np.testing.assert_allclose(update.aggregate, np.tile(rows.mean(axis=0), (m, 1)), atol=2e-3)


def rounding(name, rows):
    """The sums at all processes, where each message is rounded and its sender goes on with what it sent."""
    m = len(rows)
    if name == "all_to_all":
        return reference.all_to_all(half(rows))
    if name == "master_worker":
        total = rows[0]
        for row in rows[1:]:
            total = total + half(row)
        return np.tile(half(total), (m, 1))
    if name == "butterfly":
        held, core = rows.copy(), 1 << (m.bit_length() - 1)
        for p in range(core, m):
            held[p - core] += half(held[p])
        gap = 1
        while gap < core:
            held[:core] = [half(held[p]) + half(held[p ^ gap]) for p in range(core)]
            gap *= 2
        if core < m:
            held[:] = half(held[:1])
        return held
    # of the others a finished sum comes from one process
    done = getattr(reference, name)(rows, lambda sender, numbers, count, begin: half(numbers))
    return half(done)


def draws(seed, m):
    return np.random.default_rng(seed).normal(size=(m, D)).astype(np.float32)


@pytest.mark.parametrize("m", [by_night(2), by_night(5), 6, by_night(7), by_night(9)])
@pytest.mark.parametrize("wire", ["qsgd", by_night("random_k"), by_night("shared_mask"), by_night("sign")])
def test_all_processes_end_with_the_same_model_whatever_is_drawn(m, wire):
    for name in ALGORITHMS:
        changes = {
            "topology": {"name": "all_reduce", "algorithm": name}, "wire": {"peer": wire}, "rule": "average",
            "attack": {"name": "little", "wire": "malformed"}, "workers": {"total": m, "byzantine": int(m > 4)},
        }  # fmt: skip
        if m <= 4:
            changes["attack"] = "none"
        for update in byzax.simulate(small(**FEW | changes | {"steps": 1}).run):
            assert all(np.array_equal(each, update.params[-1], equal_nan=True) for each in update.params)


@pytest.mark.parametrize(
    "wire", [{"name": "shared_mask", "share": 0.5}, by_night({"name": "qsgd", "levels": 1})], ids=str
)
def test_the_mean_of_many_sums_of_unbiased_messages_is_the_sum(wire):
    # the same model and batches in all updates: what differs is what messages draw
    changes = {
        "topology": {"name": "all_reduce", "algorithm": "ring"}, "attack": "none", "steps": 200,
        "optimizer": {"name": "sgd", "learning_rate": 1e-30}, "data": DATA | {"batch_size": 4},
        "workers": {"total": 3, "byzantine": 0}, "evaluate_every": 200,
    }  # fmt: skip
    updates = byzax.simulate(small(**changes, wire={"peer": wire}).run)
    errors = np.array([each.aggregate[0] - each.forged.mean(axis=0) for each in updates])
    deviation = errors.std(axis=0)
    assert (deviation > 1e-3).mean() > 0.9
    # within five standard errors
    assert (np.abs(errors.mean(axis=0)) <= 5 * deviation / np.sqrt(len(errors)) + 1e-6).all()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_chunk_is_encoded_once_and_every_sum_of_the_same_rows_alike(name):
    for m in range(2, 10):
        made = ALGORITHMS[name](m)
        found = encoded_first(m, made)
        if made.gathers:
            # each its own row, which is sent to all
            assert found[0].tolist() == [[0, p] for p in range(m)]
            continue
        # the rows that each process has in each chunk, and whether it knows an encoding of them
        held = {(p, c): (frozenset({p}), False) for p in range(m) for c in range(made.chunks)}
        sums: dict[tuple[int, int, int], frozenset[int]] = {}
        for i, exchange in enumerate(made.exchanges):
            for p, (chunk, total) in enumerate(found[i].tolist()):
                if chunk >= 0:
                    rows, known = held[p, chunk]
                    assert not known
                    # a number is of one sum, and all who encode that sum have it
                    assert sums.setdefault((i, total, chunk), rows) == rows
                    held[p, chunk] = rows, True
            sent = {each.sender: held[each.sender, each.chunk] for each in exchange}
            assert all(known for _, known in sent.values())
            for each in exchange:
                mine, _ = held[each.receiver, each.chunk]
                rows, _ = sent[each.sender]
                held[each.receiver, each.chunk] = (mine | rows, False) if each.adds else (rows, True)
        assert len({known for _, known in held.values()}) == 1


@pytest.mark.parametrize("name", ["ring", by_night("tree"), by_night("butterfly"), by_night("all_to_all")])
def test_bits_and_time_are_those_of_the_compressed_chunks(name):
    m, wire = 6, {"name": "qsgd", "levels": 3}
    peer = {"delay": 0.5, "bandwidth": 100.0}
    changes = {
        "topology": {"name": "all_reduce", "algorithm": name}, "wire": {"peer": wire}, "attack": "none",
        "workers": {"total": m, "byzantine": 0}, "latency": {"name": "constant", "seconds": 1.0, "peer": peer},
    }  # fmt: skip
    scenario = small(**FEW | changes | {"steps": 1})
    made = ALGORITHMS[name](m)
    # 32 bits for the length, and 1 + ceil(log2 4) for each number
    bits = [32 + 3 * size for size in chunk_sizes(D, made.chunks).tolist()]
    sent = sum(bits[each.chunk] for exchange in made.exchanges for each in exchange)
    timeline = plan(scenario.run)
    assert traffic(scenario.run, timeline).bits_peer[-1] == sent
    assert sum(each.bits for each in link_totals(scenario.run, timeline)) == sent
    longest = sum(0.5 + max(bits[each.chunk] for each in exchange) / 100 for exchange in made.exchanges)
    if name != "ring":
        assert timeline.time_s[0] == pytest.approx(1 + longest)
    else:
        assert 1 < timeline.time_s[0] <= 1 + longest


@pytest.mark.parametrize("how", ["encoded", "ignored", "malformed"])
def test_a_byzantine_process_sends_its_own_row_as_the_attack_says(how):
    # of what is gathered: process 0 is the only one whose row may be broken
    changes = {
        "topology": {"name": "all_reduce", "algorithm": "all_to_all"}, "wire": {"peer": "float16"},
        "attack": {"name": "sign_flip", "wire": how},
    }  # fmt: skip
    for update in byzax.simulate(small(**FEW | changes | {"steps": 1}).run):
        others = half(update.forged[1:]).sum(axis=0)
        mine = update.aggregate[1] * 7 - others
        rounded, whole = (np.abs(mine - each).max() for each in (half(update.forged[0]), update.forged[0]))
        assert np.isfinite(update.forged).all()
        near = {"rounded": rounded < 1e-5, "whole": whole < 1e-5}
        assert near == {"rounded": how == "encoded", "whole": how == "ignored"}


# --- all-gather -------------------------------------------------------------------------------------------------------


def test_what_is_gathered_is_what_one_server_gets():
    changes = {"rule": "median", "attack": {"name": "little"}, "worker_momentum": 0.5}
    one = loop(**FEW | changes, wire={"up": ["top_k", "float16"]})
    all_get = list(
        byzax.simulate(small(**FEW | changes, topology="all_gather", wire={"peer": ["top_k", "float16"]}).run)
    )
    np.testing.assert_allclose(all_get[-1].params, np.tile(one[-1].params, (7, 1)), rtol=1e-5, atol=1e-7)
    assert wire_bits(small(**FEW, topology="all_gather", wire={"peer": "sign"}).run).peer == 32 + D


@pytest.mark.parametrize("attack", ["none", {"name": "little"}, {"name": "little", "wire": "malformed"}])
def test_rows_that_are_the_same_for_all_stay_so_on_the_wire(attack):
    changes = {"topology": "all_gather", "wire": {"peer": "qsgd"}, "rule": "median", "attack": attack}
    for update in byzax.simulate(small(**FEW | changes).run):
        assert (update.params == update.params[0]).all()
        assert (update.forged == update.forged[:1]).all()
        assert (update.forged[1, 2] != update.rows[2]).any()


# --- slices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("servers", [1, by_night(2), 3])
def test_compressors_that_take_coordinates_alone_give_the_run_of_one_server(servers):
    changes = FEW | {"rule": "median", "attack": {"name": "little"}, "worker_momentum": 0.5}
    changes |= {"wire": {"up": "float16", "down": "bfloat16"}}
    one, slices = loop(**changes), loop(**changes, topology={"name": "sharded", "servers": servers})
    for each, other in zip(one, slices, strict=True):
        np.testing.assert_allclose(other.params, each.params, rtol=1e-6, atol=1e-7)
        assert (other.traffic.bits_up, other.traffic.bits_down) == (each.traffic.bits_up, each.traffic.bits_down)
    # of one server any compressor does
    if servers == 1:
        changes |= {"wire": {"up": ERRORS, "down": {"name": "difference", "probability": 0.5}}}
        one, slices = loop(**changes), loop(**changes, topology={"name": "sharded", "servers": 1})
        np.testing.assert_allclose(slices[-1].params, one[-1].params, rtol=1e-6, atol=1e-7)


def test_each_server_gets_the_largest_numbers_of_its_own_slice():
    changes = {"topology": {"name": "sharded", "servers": 3}, "wire": {"up": {"name": "top_k", "share": 0.2}}}
    bounds = [D * s // 3 for s in range(4)]
    for update in byzax.simulate(small(**FEW | changes, rule="median", attack="none").run):
        for row in update.forged:
            kept = [(row[begin:end] != 0).sum() for begin, end in pairwise(bounds)]
            assert kept == [max(1, round(0.2 * (end - begin))) for begin, end in pairwise(bounds)]


def test_parts_are_compressed_by_themselves_and_their_bits_add_up():
    sizes = (12, 12, 11)
    made = [transforms.build("qsgd", ((size,),)) for size in sizes]
    whole = in_parts(made, sizes)
    assert fixed_bits(whole, D) == sum(fixed_bits(each, size) or 0 for each, size in zip(made, sizes, strict=True))
    keys, vector = transforms.WireKeys(jax.random.key(0), jax.random.key(1)), draws(0, 1)[0]
    message, _ = whole.encode(keys, vector, whole.init())
    received, _ = whole.decode(keys, message, whole.init_receiver())
    # each part by its own length, of which a sixteenth is a level
    for part, own in zip(np.split(np.asarray(received), [12, 24]), np.split(vector, [12, 24]), strict=True):
        levels = part / (np.linalg.norm(own) / 16)
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    # the same numbers in two parts are rounded by other draws
    twice = np.tile(draws(1, 1)[0][:12], 2)
    both = in_parts([made[0], made[0]], (12, 12))
    got, _ = both.decode(keys, both.encode(keys, twice, both.init())[0], both.init_receiver())
    assert (got[:12] != got[12:]).any()


# --- gradient tracking ------------------------------------------------------------------------------------------------


def test_both_vectors_of_gradient_tracking_are_compressed_and_the_own_ones_kept():
    share = {"name": "top_k", "share": 0.2}
    base = {**FEW, **CASES["tracking"]}
    scenario = small(**base | {"wire": {"peer": share}})
    bits = loop(**base | {"wire": {"peer": share}})[-1].traffic
    # 7 numbers of 35 with a bitmap of their places, two vectors to two neighbours
    assert bits.bits_peer == STEPS * 7 * 2 * 2 * (7 * 32 + 35)
    core, here = build(scenario.run, 3), world(scenario.run)
    first = np.asarray(core.start(here).params, np.float64)
    rate = float(scenario.optimizer.options()["learning_rate"])

    def kept(vector):
        found, places = np.zeros_like(vector), np.argsort(-np.abs(vector), kind="stable")[:7]
        found[places] = vector[places]
        return found

    models, rows, tracked = [first] * 7, [np.zeros(D)] * 7, [np.zeros(D)] * 7
    for update in byzax.simulate(scenario.run):
        new = [
            np.asarray(core.work(here, np.asarray(model, np.float32), i, update.step, update.step), np.float64)
            for i, model in enumerate(models)
        ]
        tracked = [y + g - old for y, g, old in zip(tracked, new, rows, strict=True)]
        rows = new
        halves = [model - rate * y for model, y in zip(models, tracked, strict=True)]
        sent, told = [first + kept(each - first) for each in halves], [kept(each) for each in tracked]
        around = [((i - 1) % 7, (i + 1) % 7) for i in range(7)]
        models = [(halves[i] + sent[a] + sent[b]) / 3 for i, (a, b) in enumerate(around)]
        tracked = [(tracked[i] + told[a] + told[b]) / 3 for i, (a, b) in enumerate(around)]
        np.testing.assert_allclose(update.params, models, rtol=1e-3, atol=1e-5)


def test_models_of_gossip_take_the_time_of_their_compressed_size():
    changes = {"topology": "gossip", "rule": "average", "attack": "none", "workers": {"total": 7, "byzantine": 0}}
    latency = {"name": "constant", "seconds": 0.0, "up": {"bandwidth": 32.0 * D}}
    seconds = functools.partial(small, **FEW | changes, latency=latency)
    assert plan(seconds().run).time_s[0] == pytest.approx(1.0)
    assert plan(seconds(wire={"peer": "float16"}).run).time_s[0] == pytest.approx(0.5)
