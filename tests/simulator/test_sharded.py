"""The topology sharded: slices of the model at several servers make the run that one server makes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import byzax
from byzax.simulator import event_contract, executors
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.diagnostics import Diagnostics, compare_with_honest
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import network_of, plan, prepare
from byzax.simulator.executors.driver import Saving
from byzax.simulator.executors.ledger import link_totals, traffic
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.slices import Cuts, SeenSlice, flatten, join_measurements, takes_coordinates_alone, unflatten
from tests.nightly import by_night

STEPS, D = 5, 18
DATA = {
    "name": "gaussian_mixture", "samples": 240, "shape": [5], "classes": 3, "separation": 2.0, "batch_size": 8,
}  # fmt: skip
SCENARIO = {
    "name": "slices", "steps": STEPS, "evaluate_every": 2, "data": DATA, "model": "softmax", "attack": "none",
    "executor": "loop", "workers": {"total": 9, "byzantine": 2}, "record": {"weights": True, "rows": 2},
}  # fmt: skip
# between them: rules by coordinates, by distances and with several exchanges, states of rows' shape, of the rule and of
# the optimizer, forged rows that are drawn, an attack that asks the rule and one with a memory, momentum, local steps
CASES = {
    "coordinates": {"rule": "median", "attack": "gaussian", "worker_momentum": 0.9},
    "distances": {"rule": "multi_krum", "attack": "little", "optimizer": "adam"},
    "steps": {
        "rule": {"name": "centered_clipping", "iterations": 3}, "attack": "rop", "optimizer": "adagrad",
        "local": {"steps": 2, "learning_rate": 0.1},
    },
    "asked": {"rule": "foolsgold", "attack": "optimised", "pre": ["nnm"]},
    "points": {"rule": "geometric_median", "pre": [{"name": "bucketing", "s": 2}], "attack": "sign_flip"},
}  # fmt: skip


def scenario_of(name, servers=4, **changes):
    topology = "parameter_server" if servers is None else {"name": "sharded", "servers": servers}
    return parse_as(Study, SCENARIO | CASES[name] | {"topology": topology} | changes)


def checkpoints_of(study):
    with executors.session(study.executor) as execute:
        return list(execute(study.task))


def assert_close(some, others, rtol=0.0, diagnostics=2e-5):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(one.params, other.params, rtol=rtol, atol=2e-6)
        # of one server there is no worst of several
        np.testing.assert_allclose(one.evaluation, other.evaluation, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one.weights, other.weights, rtol=1e-4, atol=1e-6)
        for mine, expected in zip(one.updates, other.updates, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=diagnostics, atol=diagnostics)
        for a, b in zip(one.recorded, other.recorded, strict=True):
            # one server knows rows that nobody reads, which are not computed
            mine, rows = (np.where(np.isnan(b.rows), 0, each.rows) for each in (a, b))
            np.testing.assert_allclose(mine, rows, atol=1e-5)
            assert np.isnan(b.rows[~b.byzantine]).sum() == 0
            for field in ("workers", "byzantine", "forged", "aggregate", "params", "weights"):
                np.testing.assert_allclose(getattr(a, field), getattr(b, field), atol=1e-5, err_msg=field)


@pytest.mark.parametrize("name", [*CASES][:3] + [by_night(name) for name in [*CASES][3:]])
def test_slices_make_the_run_of_one_server(name):
    assert_close(checkpoints_of(scenario_of(name)), checkpoints_of(scenario_of(name, None)))


@pytest.mark.slow
@pytest.mark.parametrize("servers", [1, 2, 5, D])
def test_any_number_of_slices_makes_the_run_of_one_server(servers):
    assert_close(checkpoints_of(scenario_of("steps", servers)), checkpoints_of(scenario_of("steps", None)))


@pytest.mark.parametrize("name", ["distances", *(by_night(name) for name in CASES if name != "distances")])
def test_compiled_loops_are_within_rounding_of_one_event_after_the_other(name):
    made = checkpoints_of(scenario_of(name, executor="vectorised"))
    assert_close(made, checkpoints_of(scenario_of(name)), rtol=1e-5)


@pytest.mark.parametrize(("name", "actors"), [by_night(name, actors) for name in CASES for actors in (1, 3)])
def test_ray_is_bitwise_equal_to_loop(ray_session, name, actors):
    expected = checkpoints_of(scenario_of(name))
    got = list(ray_session(scenario_of(name, executor={"name": "ray", "actors": actors})))
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_array_equal(one.params, other.params)
        np.testing.assert_array_equal(one.evaluation, other.evaluation)
        for mine, theirs in zip(one.updates, other.updates, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for a, b in zip(one.recorded, other.recorded, strict=True):
            np.testing.assert_equal(a._asdict(), b._asdict())


@pytest.mark.parametrize("executor", ["loop", by_night("vectorised")])
def test_a_run_that_was_left_goes_on_to_the_same_numbers(executor):
    study, kept = scenario_of("steps", executor=executor), []
    with executors.session(study.executor) as execute:
        saving = Saving(lambda seed, snapshot: kept.append(snapshot), every_s=None, every=2)
        whole = list(execute(study.task, saving=saving))
        assert kept
        for snapshot in kept:
            rest = list(execute(study.task, {0: snapshot}))
            for one, other in zip(whole[-len(rest) :], rest, strict=True):
                np.testing.assert_array_equal(one.params, other.params)


def test_a_run_is_replayed():
    study = scenario_of("coordinates")
    for one, other in zip(checkpoints_of(study), loop.replay(study.task, plan(study.run)), strict=True):
        np.testing.assert_array_equal(one.params, other.params)


# --- who sends what to whom, and when ---------------------------------------------------------------------------------

DELAYS = {
    "name": "exponential",
    **{way: {"delay": {"name": "exponential", "mean": 0.3}, "bandwidth": 1e3} for way in ("up", "down", "peer")},
}


@pytest.mark.parametrize("name", CASES)
def test_the_table_can_be_carried_out(name):
    study = scenario_of(name, latency=DELAYS)
    network, here = network_of(study.run, prepare(study.run))
    byzantine = np.asarray(here.byzantine_rank) >= 0
    event_contract.check(network, STEPS, lambda update: byzantine)


@pytest.mark.parametrize(("name", "exchanged"), [("coordinates", []), ("distances", [9 * 9]), ("points", [5, 25])])
def test_every_message_is_a_slice_or_the_numbers_of_an_exchange(name, exchanged):
    n, servers = 9, 4
    run = scenario_of(name, servers).run
    found = {}
    for link in link_totals(run, plan(run)):
        found.setdefault(link.way, {})[link.sender[1], link.receiver[1]] = link.bits / STEPS
    # a slice has whole numbers: those of one are one more than those of another
    widths = [D * (s + 1) // servers - D * s // servers for s in range(servers)]
    assert len({*widths}) == 2
    assert found["up"] == {(i, s): 32 * widths[s] for i in range(n) for s in range(servers)}
    assert found["down"] == {(s, i): 32 * widths[s] for i in range(n) for s in range(servers)}
    between = {(s, t): 32.0 * sum(exchanged) for s in range(servers) for t in range(servers) if s != t}
    assert found.get("peer", {}) == pytest.approx(between if exchanged else {})
    sums = traffic(run, plan(run))
    assert sums.bits_up[-1] == STEPS * n * 32 * D
    assert sums.messages[-1] == STEPS * (2 * n * servers + len(exchanged) * servers * (servers - 1))


def test_a_round_takes_its_delays_and_its_bits():
    links = {way: {"delay": delay, "bandwidth": 1e3} for way, delay in (("up", 1.0), ("down", 2.0), ("peer", 4.0))}
    study = scenario_of("distances", 3, latency={"name": "constant", "seconds": 10.0, **links}, steps=2)
    slices, sums = 32 * D / 3 / 1e3, 32 * 81 / 1e3
    first = 10 + 1 + slices + 4 + sums
    np.testing.assert_allclose(plan(study.run).time_s, [first, 2 * first + 2 + slices])


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rule": "zeno", "data": DATA | {"validation": 0.1}}, "rule zeno measures whole models on data of the server"),
        ({"rule": "fltrust", "data": DATA | {"validation": 0.1}}, "rule fltrust measures whole models"),
        (
            {"rule": {"name": "bulyan", "base": "median"}, "workers": {"total": 11, "byzantine": 2}},
            "rule bulyan has no sharded form with these options: take another rule",
        ),
        ({"optimizer": "lamb"}, "optimizer lamb needs the whole model"),
        ({"regularisation": {"max_norm": 1.0}}, "leave regularisation.max_norm out"),
        ({"topology": {"name": "sharded", "servers": 19}}, "servers is 19, and the model has 18 parameters"),
        ({"privacy": {"level": "server", "clip": 1.0, "noise": 0.5}}, "take privacy.level worker or sample"),
        ({"wire": {"up": {"name": "powersgd", "rank": 1}}}, "wire.up: powersgd goes by the shapes"),
        ({"schedule": "asynchronous"}, "take schedule synchronous with quorum all"),
        ({"weights": "samples"}, "leave weights out"),
        ({"latency": {"name": "constant", "loss": 0.1}}, "leave latency.loss"),
        ({"topology": {"name": "sharded", "servers": 0}}, "topology.servers"),
    ],
)
def test_scenarios_that_cannot_be_are_refused_in_one_line(changes, words):
    with pytest.raises(ScenarioError, match=words) as caught:
        byzax.validate(parse_as(Study, SCENARIO | {"rule": "median", "topology": "sharded"} | changes))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(("topology", "wire"))


@pytest.mark.parametrize(
    ("optimizer", "alone"),
    [
        (optax.sgd(0.1, momentum=0.9), True),
        (optax.adam(0.1), True),
        (optax.lamb(0.1), False),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)), False),
    ],
)
def test_optimizers_that_need_the_whole_model_are_found(optimizer, alone):
    assert takes_coordinates_alone(optimizer) is alone


# --- slices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "servers"), [(10, 1), (10, 3), (7, 7), (11, 4)])
def test_slices_are_consecutive_and_as_long_as_each_other_or_one_longer(d, servers):
    cuts, values = Cuts(d, servers), np.arange(2 * d, dtype=np.float32).reshape(2, d)
    sizes = [cuts.slice(s).size for s in range(servers)]
    assert sum(sizes) == d
    assert {*sizes} <= {d // servers, -(-d // servers)}
    parts = [cuts.cut(values, s) for s in range(servers)]
    assert {part.shape for part in parts} == {(2, cuts.width)}
    np.testing.assert_array_equal(cuts.join(parts), values)
    where = jax.jit(cuts.slice_of)(servers - 1)
    assert (int(where.first), int(where.size)) == cuts.slice(servers - 1)[:2]


def test_a_tree_in_one_vector_is_the_tree_again():
    tree = (jnp.arange(6.0).reshape(2, 3), {"count": jnp.int32(7)}, ())
    again = unflatten(tree, flatten(tree))
    assert jax.tree.map(lambda leaf: leaf.dtype, again) == jax.tree.map(lambda leaf: leaf.dtype, tree)
    jax.tree.map(np.testing.assert_array_equal, again, tree)


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25])
def test_measurements_of_slices_are_those_of_the_whole(scale):
    rng = np.random.default_rng(0)
    made, honest = (scale * rng.normal(size=(2, 12))).astype(np.float32)
    # a slice that is nothing has no cosine
    made[:4] = 0
    seen = []
    for part in (slice(0, 4), slice(4, 9), slice(9, 12)):
        norm, cosine, distance = compare_with_honest(jnp.asarray(made[part]), jnp.asarray(honest[part]))
        given = dict.fromkeys(Diagnostics._fields, jnp.float32(1.0))
        given |= {"aggregate_norm": norm, "honest_cosine": cosine, "honest_distance": distance}
        other = compare_with_honest(jnp.asarray(honest[part]), jnp.asarray(honest[part]))[0]
        seen.append(SeenSlice(Diagnostics(**given), other, jnp.ones(3)))
    found, weights = join_measurements(seen)
    wide, other = made.astype(float), honest.astype(float)
    expected = [
        np.linalg.norm(wide),
        wide @ other / np.linalg.norm(wide) / np.linalg.norm(other),
        np.linalg.norm(wide - other),
    ]
    got = [found.aggregate_norm, found.honest_cosine, found.honest_distance]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert weights.tolist() == [1, 1, 1]
