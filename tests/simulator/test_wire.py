"""Runs with compressed messages: by hand, over all executors, with their bits, and with senders that break them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import byzax
from byzax.simulator import executors, transforms
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.core import build
from byzax.simulator.executors import loop as loop_executor
from byzax.simulator.executors.base import network_of, plan, prepare
from byzax.simulator.executors.driver import Saving
from byzax.simulator.executors.ledger import traffic
from byzax.simulator.transforms import Transform
from byzax.simulator.transforms._chain import chained, fixed_bits
from byzax.simulator.transforms.base import stateless
from byzax.simulator.wire import transform_of, wire_bits
from byzax.simulator.world import world
from tests.nightly import by_night
from tests.simulator.conftest import loop, run, same, small

D, N, STEPS = 650, 7, 6
HONEST = {"attack": "none", "workers": {"total": N, "byzantine": 0}}
GUANYU = {"topology": {"name": "guanyu", "server_attack": "sign_flip"}, "rule": "median", "attack": "sign_flip"}
# Between them: every topology; states of both ends; a state at the receiver alone; lists; broken messages; shared keys;
# table and buffers; models that workers send; rounds in which servers do not exchange models; sizes that vary.
CASES: dict[str, dict[str, Any]] = {
    "errors": {
        "wire": {"up": {"name": "top_k", "share": 0.1, "error_feedback": True}, "down": "qsgd"},
        "rule": "median",
        "attack": "sign_flip",
        "worker_momentum": 0.5,
    },
    "both ends": {
        "wire": {"up": {"name": "ef21", "inner": "sign"}, "down": {"name": "difference", "probability": 0.3}},
        "rule": "median",
        "attack": {"name": "little", "wire": "malformed"},
    },
    "table": {
        "wire": {"up": ["shared_mask", "float16"], "down": {"name": "threshold", "above": 1e-3}},
        "rule": "median",
        "attack": {"name": "empire", "knowledge": "colluding"},
        "schedule": {"name": "asynchronous"},
        "latency": {"name": "exponential"},
        "worker_momentum": 0.5,
        "steps": 20,
    },
    "models": {
        "wire": {"up": {"name": "powersgd", "rank": 1, "error_feedback": True}},
        "local": {"steps": 2, "send": "model"},
        "rule": "median",
        "attack": {"name": "sign_flip", "wire": "ignored"},
    },
    "servers": {
        **GUANYU,
        "wire": {"up": "int8", "down": "natural", "peer": {"name": "ef21", "inner": "sign"}},
        "latency": {"name": "exponential", "up": {"delay": {"name": "exponential"}}},
    },
    "scatter": {
        "topology": {"name": "byzsgd", "gather_every": 3},
        "wire": {"peer": {"name": "top_k", "share": 0.3, "error_feedback": True}},
        "rule": "median",
    },
    "neighbours": {
        "topology": {"name": "gossip", "byzantine_neighbours": 1},
        "wire": {"peer": {"name": "ef21", "inner": {"name": "top_k", "share": 0.3}}},
        "rule": "median",
        "attack": {"name": "sign_flip", "wire": "malformed"},
    },
}
BY_DAY = ["errors"]
each_case = pytest.mark.parametrize("name", [name if name in BY_DAY else by_night(name) for name in CASES])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ray_gives_the_numbers_and_bits_of_the_reference(ray_session, name):
    expected = loop(**CASES[name])
    got = list(ray_session(small(**CASES[name], executor={"name": "ray", "actors": 2})))
    assert same(expected, got)
    assert [each.traffic for each in expected] == [each.traffic for each in got]


@each_case
def test_the_compiled_loop_gives_the_numbers_and_bits_of_the_reference(name):
    compiled = run(small(**CASES[name], executor="vectorised"))
    for one, other in zip(loop(**CASES[name]), compiled, strict=True):
        np.testing.assert_allclose(one.params, other.params, rtol=1e-5, atol=1e-6 * np.abs(one.params).max())
        np.testing.assert_allclose(one.traffic, other.traffic, rtol=1e-3)


@each_case
def test_a_run_that_was_left_goes_on_with_what_both_ends_remember(name):
    scenario, kept = small(**CASES[name]), []
    with executors.session(scenario.executor) as execute:
        saving = Saving(lambda seed, snapshot: kept.append(snapshot), every_s=None, every=1)
        whole = list(execute(scenario.task, saving=saving))
        for snapshot in kept[1 :: max(1, len(kept) // 2)]:
            later = [each for each in whole if each.step > snapshot.evaluations[-1].step]
            rest = list(execute(scenario.task, {0: snapshot}))
            assert same(later, rest)
            assert [each.traffic for each in later] == [each.traffic for each in rest]


ALL = {"name": "top_k", "share": 1.0}
FINE = {"name": "qsgd", "levels": 2**20}


@pytest.mark.parametrize(
    "whole", [by_night(ALL), FINE, by_night({"name": "ef21", "inner": ALL}), by_night([ALL, FINE])], ids=str
)
@pytest.mark.parametrize(
    "case",
    [
        {"wire": ("up", "down"), "rule": "median", "attack": "sign_flip"},
        by_night({"wire": ("up", "down", "peer"), **GUANYU}),
        by_night({"wire": ("peer",), "topology": {"name": "gossip", "byzantine_neighbours": 1}, "rule": "median"}),
    ],
    ids=str,
)
def test_a_compressor_that_keeps_all_changes_nothing_but_rounding(case, whole):
    plain = {key: value for key, value in case.items() if key != "wire"}
    expected, got = loop(**plain), loop(**plain, wire=dict.fromkeys(case["wire"], whole))
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_allclose(one.params, other.params, rtol=1e-4, atol=1e-5)


def kept(vector, k):
    """The k largest of a vector by absolute value, in NumPy; of equal ones the first."""
    places = np.argsort(-np.abs(vector), kind="stable")[:k]
    made = np.zeros_like(vector)
    made[places] = vector[places]
    return made


def by_hand(**changes):
    """The updates of a run, its world, its functions, and the row of a worker in an update from a model."""
    scenario = small(**HONEST, **changes)
    here, core = world(scenario.run), build(scenario.run, N)

    def row(params, worker, update):
        return np.asarray(core.work(here, jnp.asarray(params, jnp.float32), worker, update, update), np.float64)

    return list(byzax.simulate(scenario.run)), np.asarray(core.start(here).params, np.float64), row


def test_error_feedback_sends_what_it_left_out_later():
    updates, params, row = by_hand(wire={"up": {"name": "top_k", "share": 0.02, "error_feedback": True}})
    memory, total = np.zeros((N, D)), np.zeros((N, D))
    for update in updates:
        for worker in range(N):
            gradient = row(params, worker, update.step)
            total[worker] += gradient
            sent = kept(gradient + memory[worker], 13)
            memory[worker] += gradient - sent
            np.testing.assert_allclose(update.rows[worker], sent, rtol=1e-4, atol=1e-6)
        params = np.asarray(update.params, np.float64)
    # all gradients were sent but for what is remembered
    np.testing.assert_allclose(total - sum(update.rows for update in updates), memory, atol=1e-5)
    assert np.abs(memory).max() > 1e-3


def test_models_are_sent_as_their_change_since_the_first_and_each_worker_has_an_estimate():
    inner = {"name": "top_k", "share": 0.02}
    updates, first, row = by_hand(wire={"down": {"name": "ef21", "inner": inner}}, worker_momentum=0.5)
    estimate, params, velocity = np.zeros(D), first, np.zeros((N, D))
    for update in updates:
        estimate = estimate + kept(params - first - estimate, 13)
        for worker in range(N):
            velocity[worker] = 0.5 * velocity[worker] + 0.5 * row(first + estimate, worker, update.step)
        np.testing.assert_allclose(update.rows, velocity, rtol=1e-3, atol=1e-5)
        params = np.asarray(update.params, np.float64)
    assert np.abs(first + estimate - params).max() > 1e-3


def test_models_that_workers_send_are_compressed_as_their_change_since_the_first():
    share = {"name": "top_k", "share": 0.02}
    updates, first, row = by_hand(wire={"up": share}, local={"steps": 2, "send": "model"})
    params = first
    for update in updates:
        for worker in range(N):
            model = first + kept(row(params, worker, update.step) - first, 13)
            np.testing.assert_allclose(update.rows[worker], model, rtol=1e-4, atol=1e-6)
        params = np.asarray(update.params, np.float64)


def test_a_node_mixes_its_own_model_as_it_is_with_what_others_sent():
    changes = {"topology": {"name": "gossip", "graph": "ring"}, "wire": {"peer": {"name": "top_k", "share": 0.02}}}
    updates, first, row = by_hand(**changes)
    models, rate = [first] * N, small().optimizer.options()["learning_rate"]
    for update in updates:
        half = [model - rate * row(model, i, update.step) for i, model in enumerate(models)]
        sent = [first + kept(each - first, 13) for each in half]
        models = [(half[i] + sent[i - 1] + sent[(i + 1) % N]) / 3 for i in range(N)]
        np.testing.assert_allclose(update.params, models, rtol=1e-4, atol=1e-6)
        models = list(np.asarray(update.params, np.float64))


@pytest.mark.parametrize(("name", "alike"), [("shared_mask", True), ("random_k", False)])
@pytest.mark.parametrize("schedule", ["synchronous", by_night("asynchronous")])
def test_workers_that_were_handed_one_version_share_a_mask_and_nothing_else(name, alike, schedule):
    changes = {"wire": {"up": {"name": name, "share": 0.1}}, "schedule": schedule, "latency": "exponential"}
    scenario = small(**changes, rule="average", attack={"name": "gaussian"}, steps=10)
    timeline, compared = plan(scenario.run), 0
    places_of = np.arange(len(timeline.rows.workers))
    noise: dict[int, np.ndarray] = {}
    for update in byzax.simulate(scenario.run):
        rows = timeline.rows
        handed = {
            int(rows.workers[i]): int(rows.handed[i]) for i in places_of[timeline.places_of(update.step)].tolist()
        }
        places = dict(zip(update.workers.tolist(), update.forged != 0, strict=True))
        if 0 in places:
            # noise is 0 nowhere, and the samples of digits are in places
            noise[handed[0]] = places.pop(0)
            assert noise[handed[0]].sum() == 65
        for worker, mine in places.items():
            if handed[worker] in noise:
                compared += 1
                assert (mine <= noise[handed[worker]]).all() == alike
    masks = np.array([*noise.values()])
    assert compared > 5
    assert len(np.unique(masks, axis=0)) == len(masks)


@pytest.mark.parametrize("how", ["encoded", "ignored", "malformed"])
def test_forged_rows_are_compressed_once_or_not_at_all_or_broken(how):
    share = {"up": {"name": "top_k", "share": 0.02}}
    scenario = small(wire=share, attack={"name": "sign_flip", "wire": how}, rule="median")
    core, here = build(scenario.run, N), world(scenario.run)
    params = core.start(here).params
    broken = 0
    for update in byzax.simulate(scenario.run):
        assert ((update.rows[1:] != 0).sum(axis=1) <= 13).all()
        assert (update.forged[1:] == update.rows[1:]).all()
        # an attacker knows its own row as it computed it
        own = np.asarray(core.work(here, params, 0, update.step, update.step))
        np.testing.assert_allclose(update.rows[0], own, rtol=1e-5, atol=1e-7)
        forged = update.forged[0]
        if how == "ignored":
            np.testing.assert_allclose(forged, -own, rtol=1e-5, atol=1e-7)
        else:
            assert (forged != 0).sum() <= 13
            same_row = np.allclose(forged, kept(-own, 13), rtol=1e-5, atol=1e-7)
            broken += not same_row
            assert same_row or how == "malformed"
        assert np.isfinite(update.params).all()
        params = jnp.asarray(update.params)
    assert broken == (STEPS if how == "malformed" else 0)


@pytest.mark.parametrize(
    "name", [name if name in ("ef21", "int8", "top_k") else by_night(name) for name in transforms.available()]
)
def test_no_broken_message_ends_a_run_or_reaches_what_is_kept_of_others(name):
    options = {"ef21": {"inner": "sign"}, "top_k": {"share": 0.1}, "random_k": {"share": 0.1}}.get(name, {})
    wire = {"up": {"name": name, **options}}
    attacked, quiet = (
        list(byzax.simulate(small(wire=wire, rule="median", attack={"name": "sign_flip", "wire": how}).run))
        for how in ("malformed", "encoded")
    )
    assert np.isfinite(attacked[-1].params).all()
    # what honest workers send first has nothing to do with it
    assert np.array_equal(attacked[0].forged[1:], quiet[0].forged[1:])
    pairs = [(one.forged[0], other.forged[0]) for one, other in zip(attacked, quiet, strict=True)]
    assert not all(np.array_equal(*pair, equal_nan=True) for pair in pairs)


def test_an_attack_that_is_not_carried_out_sends_what_an_honest_worker_would():
    wire = {"up": {"name": "ef21", "inner": "sign"}}
    expected = loop(wire=wire, rule="median", attack="none")
    got = loop(wire=wire, rule="median", attack={"name": "sign_flip", "from": 5})
    # the adversary encodes several at once
    np.testing.assert_allclose(expected[1].params, got[1].params, rtol=1e-4, atol=1e-6)


# bits of messages by hand, of models with 640 + 10 parameters: 10 bits for a place
SIZES = {
    "float16": ("float16", 16 * 650),
    "top_k": ({"name": "top_k", "share": 0.1}, 65 * (32 + 10)),
    "top_k and float16": ([{"name": "top_k", "share": 0.1}, "float16"], 65 * (16 + 10)),
    "random_k and qsgd": ([{"name": "random_k", "share": 0.1}, {"name": "qsgd", "levels": 3}], 32 + 32 + 65 * 3),
    "powersgd": ({"name": "powersgd", "rank": 2}, 32 * (2 * (64 + 10) + 10)),
    "ef21": ({"name": "ef21", "inner": "sign"}, 32 + 650),
    "three": ([{"name": "top_k", "share": 0.1}, {"name": "random_k", "share": 0.2}, "bfloat16"],
              65 * 10 + 32 + 13 * 16),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_bits_are_those_of_the_messages_counted_by_hand(name):
    wire, size = SIZES[name]
    # a second for the model, one for the row, none for anything else
    links = {"up": {"bandwidth": size}, "down": {"bandwidth": 32 * 650}}
    checkpoint = loop(wire={"up": wire}, rule="median", latency={"name": "constant", "seconds": 0.0, **links})[-1]
    assert checkpoint.traffic == (2 * N * STEPS, size * N * STEPS, 32 * 650 * N * STEPS, 0)
    assert checkpoint.time_s == 2 * STEPS


def test_messages_between_servers_and_to_workers_have_sizes_of_their_own():
    sizes = {"up": 8 * 650 + 32 * 3, "down": 9 * 650, "peer": 650 + 32}
    wire = {"up": "int8", "down": "natural", "peer": "sign"}
    scenario = small(**GUANYU, wire=wire)
    assert wire_bits(scenario.run)._asdict() == sizes
    sent = traffic(scenario.run, plan(scenario.run))
    assert [each[-1] for each in sent] == [
        STEPS * 6 * (2 * N + 5),
        *(STEPS * 6 * count * sizes[way] for way, count in (("up", N), ("down", N), ("peer", 5))),
    ]


def test_the_ledger_sums_the_sizes_of_messages_that_vary():
    above, probability = 0.05, 0.4
    wire = {"up": {"name": "threshold", "above": above}, "down": {"name": "difference", "probability": probability}}
    changes = {**HONEST, "wire": wire, "rule": "median"}
    checkpoints, expected, models = loop(**changes, evaluate_every=2), 0, 0
    for update in byzax.simulate(small(**changes, evaluate_every=2).run):
        counts = (update.rows != 0).sum(axis=1)
        expected += sum(10 + min(32 * k + min(10 * k, 650), 32 * 650) for k in counts.tolist())
        if update.step % 2:
            checkpoint = next(each for each in checkpoints if each.step == update.step + 1)
            assert checkpoint.traffic.bits_up == expected
            models = checkpoint.traffic.bits_down
    # the first model is sent whole, and each of the others whole or as 6 numbers and a seed, to all workers alike
    wholes = {N * (sum(1 + 32 * 650 for _ in range(k)) + (STEPS - k) * (1 + 32 * 6 + 32)) for k in range(1, STEPS + 1)}
    assert models in wholes


def test_rows_that_nobody_uses_count_as_the_mean_of_the_others():
    changes = {
        "wire": {"up": {"name": "threshold", "above": 0.05}}, "rule": "median", "steps": 12,
        "schedule": {"name": "synchronous", "quorum": 5}, "latency": "exponential",
    }  # fmt: skip
    scenario = small(**changes)
    checkpoint = loop(**changes)[-1]
    network, here = network_of(scenario.run, prepare(scenario.run))
    counts = traffic(scenario.run, plan(scenario.run))
    messages = counts.bits_up[-1] / wire_bits(scenario.run).up
    begin = loop_executor._start(network, loop_executor._begin(scenario.run, network, here), None)
    *_, (_, last) = loop_executor.updates(network, here, begin, plan(scenario.run), lambda step: False)
    assert network.measure_bits is not None
    bits, measured = network.measure_bits(last.states)["up"].sum(axis=0)
    assert measured < messages
    assert checkpoint.traffic.bits_up == round(bits * messages / measured)


def test_sizes_are_counted_beyond_32_bits():
    from byzax.simulator.wired import _counts

    def always(shapes):
        made = stateless(lambda keys, vector: vector, lambda keys, values: values, lambda v: v[0] * 0 + 4e9)
        return made

    scenario = small(wire={"up": always}, rule="median", steps=3)
    assert run(scenario)[-1].traffic.bits_up == 3 * N * 4_000_000_000
    assert _counts.__doc__


def test_what_varies_in_size_is_found_out():
    varying = {"threshold", "difference"}
    for name in transforms.available():
        assert (fixed_bits(transforms.build(name, ((64, 10), (10,))), D) is None) == (name in varying)
    assert fixed_bits(transforms.build("qsgd", ((64, 10), (10,)), coding="elias"), D) is None


def test_a_list_sends_the_numbers_of_the_first_as_the_second_does():
    shapes = ((64, 10), (10,))
    first, second = transforms.build("top_k", shapes, share=0.1), transforms.build("float16", ((65,),))
    both = chained(
        [("top_k", functools.partial(transforms.build, "top_k", share=0.1)),
         ("float16", functools.partial(transforms.build, "float16"))], shapes,
    )  # fmt: skip
    keys = transforms.WireKeys(jax.random.key(0), jax.random.key(1))
    vector = jax.random.normal(jax.random.key(2), (D,))
    made, _ = both.decode(keys, both.encode(keys, vector, both.init())[0], both.init_receiver())
    message, _ = first.encode(keys, vector, first.init())
    numbers, _ = second.encode(keys, message.values, second.init())
    rounded, _ = second.decode(keys, numbers, second.init_receiver())
    expected, _ = first.decode(keys, message._replace(values=rounded), first.init_receiver())
    assert np.array_equal(made, expected)
    assert not np.array_equal(made, first.decode(keys, message, first.init_receiver())[0])


REFUSED = [
    ({"wire": {"peer": "sign"}}, "wire.peer: parameter_server sends no messages between nodes"),
    ({"wire": {"up": "sign"}, "topology": "gossip"}, "wire.up: gossip sends no rows of workers"),
    ({"wire": {"up": "ef21"}, "latency": {"name": "exponential", "loss": 0.1}}, "wire.up: both ends of ef21 must know"),
    ({"wire": {"down": "ef21"}, "latency": {"name": "constant", "crashes": [{"worker": 3, "at": 2.0}]}},
     "wire.down: both ends of ef21 must know every message, and with latency.crashes"),
    ({"wire": {"peer": "ef21"},
      "topology": {"name": "gossip", "graph": {"name": "erdos_renyi", "p": 0.9}, "redraw_every": 1}},
     "wire.peer: both ends of ef21 must know every message, and in a graph that is drawn anew"),
    ({"wire": {"down": "ef21"}, "clock": "wall", "executor": "ray", "schedule": "asynchronous"},
     "wire.down: ef21 remembers every model"),
    ({"wire": {"up": {"name": "top_k", "share": 2.0}}}, "wire.up.share: must be at most 1"),
    ({"wire": {"up": {"name": "ef21", "inner": "qsgd"}}}, "wire.up.inner: must be a contractive compressor"),
    ({"wire": {"up": ["float16", {"name": "top_k", "share": 2.0}]}}, "wire.up[1].share: must be at most 1"),
    ({"wire": {"up": ["float16", "sign"]}}, "wire.up: sign behind float16: float16 sends no float32 numbers"),
    ({"wire": {"up": ["threshold", "float16"]}}, "wire.up: float16 behind threshold: the number of float32 numbers"),
    ({"wire": {"up": ["ef21", "float16"]}}, "wire.up: float16 behind ef21: both ends of ef21 must know"),
    ({"wire": {"up": ["top_k", {"name": "sign", "error_feedback": True}]}}, "wire.up: sign behind top_k: it remembers"),
    ({"attack": {"name": "empire", "wire": "ignored"}}, "attack.wire: ignored says how"),
    ({"attack": {"name": "empire", "wire": "ignored"}, "wire": {"down": "sign"}},
     "attack.wire: ignored says how forged messages are sent where they are compressed, and of wire.down none"),
    ({"attack": {"name": "label_flip", "wire": "malformed"}, "wire": {"up": "sign"}}, "attack.wire: malformed says"),
    ({"attack": {"name": "empire", "wire": "ignored"}, "wire": {"up": "sign"}, "workers": {"total": 7, "byzantine": 0}},
     "attack.wire: ignored says how"),
    ({"wire": {"peer": {"name": "top_k", "error_feedback": True}}, "topology": "all_reduce", "rule": "average",
      "attack": "none"}, "wire.peer: top_k remembers messages of a sender"),
    ({"wire": {"peer": "threshold"}, "topology": "all_reduce", "rule": "average", "attack": "none"},
     "wire.peer: messages of threshold vary in size"),
    ({"wire": {"peer": "powersgd"}, "topology": "all_reduce", "rule": "average", "attack": "none"},
     "wire.peer: powersgd goes by the shapes of parameters"),
    ({"wire": {"up": ["powersgd", "float16"]}, "topology": "sharded"}, "wire.up: powersgd goes by the shapes"),
    ({"wire": {"peer": "sign"}, "topology": "sharded"}, "wire.peer: sharded sends no messages between nodes"),
    ({"wire": {"peer": "sign"}, "topology": "all_reduce", "rule": "average", "attack": "none",
      "local": {"steps": 2, "send": "model"}}, "wire.peer: sums of models are compressed badly"),
    ({"wire": {"up": "sign"}, "workers": {"total": 7, "byzantine": {"count": 1, "per_round": "sampled"}}},
     "wire.up: what a Byzantine worker sends has states of its own"),
    ({"wire": {"down": "qsgd"}, "local": {"steps": 2, "learning_rate": 0.1, "control_variates": True}},
     "wire.down: control variates are read off"),
    ({"wire": {"up": "sign"}, "rule": "average", "masks": {"groups": 2, "range": 1.0}}, "wire.up: rows under masks"),
    ({"wire": {"up": "sign"}, "topology": "all_reduce", "rule": "average", "attack": "none"},
     "wire.up: all_reduce sends no rows of workers"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_a_wire_that_does_not_fit_is_refused_before_a_start(changes, said):
    with pytest.raises(byzax.ScenarioError) as caught:
        byzax.validate(small(**changes))
    text = str(caught.value)
    assert text.startswith(said), text
    assert "leave" in text or "take" in text or "must be" in text


def wrong(**changes):
    def mine(shapes):
        made = transforms.build("top_k", shapes)
        return made._replace(**changes)

    return mine


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda shapes: 3, "must give a Transform, got int"),
        (wrong(encode=lambda keys, vector, state: vector), "encode must give (message, state)"),
        (wrong(decode=lambda keys, message, state: (message.values, state)), "decode must give a vector [d=650]"),
        (wrong(bits=lambda message: message.values), "bits must give a number"),
        (wrong(encode=lambda keys, vector, state: (vector, vector)), "encode changes its state"),
        (wrong(init=lambda: {}["x"]), "init fails: KeyError"),
        (wrong(omega="large"), "omega must be"),
    ],
)
def test_a_transform_of_the_users_own_that_breaks_its_contract_is_told_with_its_line(function, said):
    with pytest.raises(byzax.ScenarioError) as caught:
        byzax.validate(small(wire={"up": [function]}))
    text = str(caught.value)
    assert text.startswith("wire.up: ")
    assert said in text
    assert "test_wire.py:" in text


def test_a_transform_of_the_users_own_is_used_from_a_file_and_recorded(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import jax.numpy as jnp\n"
        "from byzax.simulator.transforms import Transform\n"
        "from byzax.simulator.transforms.base import stateless\n"
        "def halves(shapes, *, factor: float = 0.5) -> Transform:\n"
        "    d = sum(a * (shape[1] if len(shape) > 1 else 1) for shape in shapes for a in shape[:1])\n"
        "    return stateless(lambda keys, vector: vector * factor, lambda keys, message: message, 7 * d)\n"
    )
    given = {"wire": {"up": {"name": f"{file}:halves", "factor": 0.25}}, **HONEST}
    plain, scaled = run(small(**HONEST)), run(small(**given))
    assert scaled[-1].traffic.bits_up == 7 * D * N * STEPS
    assert not np.array_equal(plain[-1].params, scaled[-1].params)
    described = parse_as(Study, small(**given).given())
    assert described.wire.up[0].options() == {"factor": 0.25}
    assert isinstance(transform_of(described.run, "up"), Transform)


ERRORS = {"name": "top_k", "share": 0.1, "error_feedback": True}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"wire": {"up": ERRORS, "down": "qsgd"}, "schedule": "asynchronous", "worker_momentum": 0.5},
        {"wire": {"up": ERRORS, "down": {"name": "ef21", "inner": "sign"}, "peer": "qsgd"}, "topology": "guanyu"},
        {"wire": {"peer": {"name": "difference", "probability": 0.3}},
         "topology": {"name": "gossip", "graph": "complete", "quorum": 4, "byzantine_neighbours": 1}},
    ],
    ids=["one server", "servers", "neighbours"],
)  # fmt: skip
def test_a_race_replays_with_what_both_ends_remember(ray_session, changes):
    race = {"clock": "wall", "rule": "median", "attack": "sign_flip", "executor": {"name": "ray", "actors": 2}}
    scenario = small(**changes, **race)
    raced = list(ray_session(scenario))
    assert same(raced, list(loop_executor.replay(scenario.task, raced[-1].timeline)))
