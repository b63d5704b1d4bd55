"""Pairwise gossip: whole runs against a reference in NumPy, who meets whom and when, and how fast models agree."""

import heapq
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

import byzax
from byzax.simulator import event_contract, executors
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import digest, network_of, plan, prepare
from byzax.simulator.executors.driver import Saving
from byzax.simulator.executors.ledger import link_totals, traffic
from byzax.simulator.keys import Purpose, generator
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.timeline import Outcome, check
from tests.nightly import by_night
from tests.reference.drawn import drawn
from tests.reference.schedule import Row
from tests.reference.training import FORMULAS, Memory, row_of

STEPS = 24
DATA = {
    "name": "gaussian_mixture", "samples": 240, "shape": [5], "classes": 3, "separation": 2.0, "batch_size": 8,
    "partition": {"name": "dirichlet", "alpha": 0.5},
}  # fmt: skip
LATENCY = {
    "name": "exponential", "stragglers": {"share": 0.2, "factor": 5.0},
    "peer": {"delay": {"name": "exponential", "mean": 0.2}},
}  # fmt: skip
SCENARIO = {
    "name": "pairwise", "steps": STEPS, "evaluate_every": 6, "data": DATA, "model": "softmax", "rule": "average",
    "attack": "none", "executor": "loop", "optimizer": {"name": "sgd", "learning_rate": 0.3, "momentum": 0.5},
    "latency": LATENCY, "workers": {"total": 6, "byzantine": 0}, "topology": {"name": "pairwise", "graph": "ring"},
}  # fmt: skip
ATTACKED = {
    "attack": "sign_flip", "workers": {"total": 6, "byzantine": 2},
    "topology": {"name": "pairwise", "graph": "complete", "mixing": {"name": "clipped_gossip", "tau": 0.2}},
}  # fmt: skip


def scenario_of(**changes) -> Study:
    return parse_as(Study, SCENARIO | changes)


def pairs_of(made):
    """The node that was done with a job, and the one that it drew, of each exchange."""
    work, _, mix, *_ = made.rounds
    found = []
    for t in range(made.steps):
        (node,) = np.flatnonzero(np.isfinite(work.end_s[t]))
        (partner,) = set(np.flatnonzero(np.isfinite(mix.end_s[t])).tolist()) - {int(node)}
        found.append((int(node), partner))
    return found


def reference(study, given):
    """The models of all nodes after each exchange, in float64, straight from AD-PSGD."""
    inputs, n = drawn(study), study.workers.total
    memory, f = Memory(inputs), study.workers.byzantine.count
    models, base = np.array([inputs.first] * n), np.array([inputs.first] * n)
    shown, velocity = models.copy(), np.zeros_like(models)
    found = []
    for t, (node, partner) in enumerate(pairs_of(plan(study.run))):
        row = row_of(given, inputs, FORMULAS, memory, Row(worker=node, job=t, version=0), [base[node]])
        before = models.copy()
        for one, other in ((node, partner), (partner, node)):
            # to an honest node a Byzantine one goes the opposite way, seen from the node's own model
            sent = 2 * shown[one] - before[other] if other < f <= one else before[other]
            way = sent - before[one]
            tau = given["topology"].get("mixing", {}).get("tau", np.inf)
            clip = min(1, tau / max(np.linalg.norm(way), 1e-30))
            models[one] = before[one] + clip * way / 2
        velocity[node] = 0.5 * velocity[node] + row
        models[node] = models[node] - 0.3 * velocity[node]
        base[node] = models[node]
        shown[[node, partner]] = models[[node, partner]]
        found.append(models.copy())
    return np.array(found)


@pytest.mark.parametrize("changes", [{}, ATTACKED], ids=["average", "clipped, attacked"])
def test_a_run_is_that_of_the_reference(changes):
    study = scenario_of(**changes)
    expected = reference(study, SCENARIO | changes)
    for t, update in enumerate(byzax.simulate(study.run)):
        np.testing.assert_allclose(update.params, expected[t], rtol=1e-4, atol=1e-5)
    # a mistake would be seen: a job is begun at a model that others have changed since
    assert np.abs(expected[-1] - expected[-1][:1]).max() > 1e-3


def test_exchanges_come_in_the_order_in_which_jobs_and_messages_end():
    slow = [1.0, 1.5, 4.0, 2.25]
    peer = {"delay": 0.25}
    study = scenario_of(
        workers={"total": 4, "byzantine": 0}, latency={"name": "constant", "factors": slow, "peer": peer}, steps=40,
        topology={"name": "pairwise", "graph": "complete"},
    )  # fmt: skip
    made = plan(study.run)
    queue = [(seconds + 0.25, node) for node, seconds in enumerate(slow)]
    heapq.heapify(queue)
    for t, (node, _) in enumerate(pairs_of(made)):
        now, expected = heapq.heappop(queue)
        assert (node, made.time_s[t]) == (expected, pytest.approx(now))
        heapq.heappush(queue, (now + slow[node] + 0.25, node))
    # a slow node keeps nobody
    assert Counter(node for node, _ in pairs_of(made))[0] > 3 * Counter(node for node, _ in pairs_of(made))[2]


FACTORS, DELAY = [1.0, 1.5, 4.0, 2.25, 0.75], 0.25
# node 1 dies twice and is back, node 4 for ever; between 6.0 and 9.0 nodes 0 and 1 reach nobody else
CRASHES = [{"worker": 1, "at": 3.0, "back": 5.0}, {"worker": 1, "at": 12.0, "back": 12.1}, {"worker": 4, "at": 20.0}]
OUTAGE = {"from": 6.0, "until": 9.0, "between": [[0, 1], [2, 3, 4]]}
FAILURES = {
    "workers": {"total": 5, "byzantine": 0}, "topology": {"name": "pairwise", "graph": "complete"}, "steps": 60,
    "latency": {"name": "constant", "factors": FACTORS, "peer": {"delay": DELAY}, "crashes": CRASHES,
                "outages": [OUTAGE]},
}  # fmt: skip


def life(node):
    """The spells in which a node is alive."""
    return {1: [(0, 3), (5, 12), (12.1, np.inf)], 4: [(0, 20)]}.get(node, [(0, np.inf)])


def alive(node, begin, end):
    return any(low <= begin and end < high for low, high in life(node))


def by_hand(steps, seed=0, delayed=False):
    """The exchanges that take place, and those that do not, one event after the other."""
    draws = [generator(seed, Purpose.PARTNER, node) for node in range(5)]
    queue, exchanges, failed = [], [], []

    def begin(node, now):
        for low, high in life(node):
            if now < high:
                begun = max(low, now)
                break
        else:
            return
        others = [other for other in range(5) if other != node]
        partner = others[draws[node].integers(4)]
        done = begun + FACTORS[node]
        cut = 6 <= done < 9 and (node < 2) != (partner < 2)
        sent = 9 if cut and delayed else done
        heapq.heappush(queue, (sent + DELAY, node, partner, begun, done, cut and not delayed))

    for node in range(5):
        begin(node, 0.0)
    while len(exchanges) < steps:
        now, node, partner, begun, done, cut = heapq.heappop(queue)
        if not cut and alive(node, begun, now) and alive(partner, done, now):
            exchanges.append((node, partner, now))
            begin(node, now)
        else:
            over = min([now, *(high for low, high in life(node) if low <= begun < high)])
            failed.append((node, over))
            begin(node, over)
    return exchanges, failed


@pytest.mark.parametrize("messages", ["lost", "delayed"])
def test_an_exchange_with_a_dead_node_or_over_a_link_that_is_down_does_not_take_place(messages):
    latency = FAILURES["latency"] | {"outages": [OUTAGE | {"messages": messages}]}
    made = plan(scenario_of(**FAILURES | {"latency": latency}).run)
    exchanges, failed = by_hand(60, delayed=messages == "delayed")
    assert pairs_of(made) == [each[:2] for each in exchanges]
    np.testing.assert_allclose(made.time_s, [each[2] for each in exchanges])
    assert list(zip(made.unused.workers.tolist(), made.unused.arrived_s.tolist(), strict=True)) == failed
    assert len(failed) >= 5
    assert (made.outcomes == Outcome.LOST).all()
    check(made, 5)
    # all of these happened: a node in an outage, a dead one, and one that is back
    assert any(4 in each[:2] and each[2] < 20 for each in exchanges)
    assert any(1 in each[:2] and each[2] > 12.1 for each in exchanges)


def test_a_lost_exchange_changes_no_model_and_takes_a_job():
    latency = LATENCY | {"loss": 0.3}
    study = scenario_of(latency=latency, steps=400)
    made = plan(study.run)
    share = len(made.unused.workers) / (400 + len(made.unused.workers))
    # one of two messages is lost with probability 1 - 0.7²: within four standard deviations
    assert abs(share - 0.51) < 4 * np.sqrt(0.51 * 0.49 / 800)
    assert plan(scenario_of(steps=400).run).time_s[-1] < 0.7 * made.time_s[-1]
    check(made, 6)
    changes = {"latency": latency | {"crashes": [{"worker": 2, "at": 1.0, "back": 4.0}]}}
    study = scenario_of(**changes)
    expected = reference(study, SCENARIO | changes)
    for t, update in enumerate(byzax.simulate(study.run)):
        np.testing.assert_allclose(update.params, expected[t], rtol=1e-4, atol=1e-5)


def test_a_run_ends_where_nobody_has_a_neighbour_any_more():
    crashes = [{"worker": node, "at": 3.0 + node} for node in range(5)]
    made = plan(scenario_of(latency={"name": "exponential", "crashes": crashes}, steps=900).run)
    assert 0 < made.steps < 900
    assert made.stopped.startswith(f"update {made.steps + 1} never happens: no node is alive that has a neighbour")
    assert made.time_s[-1] < 8.0
    # without time too
    outage = {"from": 0.0, "until": 3.0, "between": [[0, 1, 2], [3, 4, 5]]}
    dead = [{"worker": node, "at": 0.0, "back": 2.0} for node in (1, 2, 4, 5)]
    still = {"name": "constant", "seconds": 0.0, "crashes": dead, "outages": [outage]}
    ring = {"name": "edges", "pairs": [[0, 3], [0, 1], [1, 2], [3, 4], [4, 5]]}
    found = plan(scenario_of(latency=still, topology={"name": "pairwise", "graph": ring}, steps=5).run)
    assert found.time_s[0] == 2.0


def test_every_neighbour_is_drawn_as_often_and_nobody_else():
    made = plan(scenario_of(steps=3000, latency="exponential").run)
    counts = Counter(pairs_of(made))
    assert {*counts} == {(i, j % 6) for i in range(6) for j in (i - 1, i + 1)}
    # within five standard deviations
    assert max(abs(count - 250) for count in counts.values()) < 5 * np.sqrt(250)


def test_the_distance_of_models_shrinks_by_the_second_eigenvalue_of_the_mean_exchange():
    n, steps = 6, 30

    def once(updates: int):
        """A step in the first job of each node, which takes the models apart, and none afterwards."""
        return lambda step: jnp.where(step == 0, 5.0, 0.0)

    # of all the exchanges that may come next: E |W x - mean|² <= second eigenvalue of E W times |x - mean|²
    ways = [(i, (i + side) % n) for i in range(n) for side in (1, -1)]
    mean = sum(exchange(n, *way) for way in ways) / len(ways)
    second = np.sort(np.linalg.eigvalsh(mean))[-2]
    x = np.random.default_rng(0).normal(size=(n, 500))
    x -= x.mean(axis=0)
    ratios = [np.sum((exchange(n, *way) @ x) ** 2) / np.sum(x**2) for way in ways]
    assert np.mean(ratios) <= second
    # the run is made of just these exchanges
    study = scenario_of(latency="exponential", optimizer={"name": "sgd", "learning_rate": once}, steps=steps)
    pairs, models = pairs_of(plan(study.run)), [each.params.astype(float) for each in byzax.simulate(study.run)]
    begun = next(t for t in range(steps) if {node for node, _ in pairs[: t + 1]} == {*range(n)})
    assert begun < steps - 5
    for t in range(begun + 1, steps):
        np.testing.assert_allclose(models[t], exchange(n, *pairs[t]) @ models[t - 1], atol=1e-4)
        np.testing.assert_allclose(models[t].mean(axis=0), models[t - 1].mean(axis=0), atol=1e-4)


def exchange(n, one, other):
    """The matrix by which an exchange of two nodes averages."""
    found = np.eye(n)
    found[[one, one, other, other], [one, other, one, other]] = 0.5
    return found


def checkpoints_of(executor="loop", **changes):
    study = scenario_of(executor=executor, **changes)
    with executors.session(study.executor) as execute:
        return list(execute(study.task))


LOSSES = {"latency": LATENCY | {"loss": 0.3, "crashes": [{"worker": 3, "at": 1.0, "back": 2.0}]}}
TOP = {"wire": {"peer": {"name": "top_k", "share": 0.3, "error_feedback": True}}}


@pytest.mark.parametrize("more", [{}, LOSSES, TOP], ids=["as it is", "losses", "wire"])
def test_the_table_can_be_carried_out(more):
    study = scenario_of(**ATTACKED | more)
    network, here = network_of(study.run, prepare(study.run))
    for at_once in (1, 5, STEPS):
        event_contract.check(network, STEPS, lambda update: np.asarray(here.byzantine_rank) >= 0, at_once)


@pytest.mark.parametrize(
    "changes", [{}, by_night(ATTACKED | TOP | LOSSES, id="attacked"), by_night(ATTACKED, id="no wire")]
)
def test_compiled_loops_are_within_rounding_of_one_event_after_the_other(changes):
    for one, other in zip(*(checkpoints_of(each, **changes) for each in ("loop", "vectorised")), strict=True):
        np.testing.assert_allclose(other.params, one.params, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.evaluation, one.evaluation, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("actors", [1, 2, 5])
def test_ray_is_bitwise_equal_to_loop(ray_session, actors):
    changes = {"record": {"weights": True, "rows": 2}, **ATTACKED, **(LOSSES | TOP if actors == 2 else {})}
    expected = checkpoints_of(**changes)
    got = list(ray_session(scenario_of(executor={"name": "ray", "actors": actors}, **changes)))
    assert digest(expected) == digest(got)


def test_a_run_that_was_left_goes_on_and_a_replay_gives_the_same_bits():
    study, kept = scenario_of(**ATTACKED, **LOSSES, **TOP), []
    with executors.session(study.executor) as execute:
        whole = list(execute(study.task, saving=Saving(lambda seed, each: kept.append(each), every_s=None, every=7)))
        for snapshot in kept:
            rest = list(execute(study.task, {0: snapshot}))
            assert digest(rest[-1:]) == digest(whole[-1:])
    again = list(loop.replay(study.task, whole[-1].timeline))
    assert digest(again) == digest(whole)


def kept_of(vector, k):
    """The k largest numbers of a vector by absolute value, and zeros."""
    found, places = np.zeros_like(vector), np.argsort(-np.abs(vector), kind="stable")[:k]
    found[places] = vector[places]
    return found


def test_on_a_wire_a_node_keeps_its_own_model_and_gets_a_compressed_one():
    changes = {"wire": {"peer": {"name": "top_k", "share": 0.3}}, "optimizer": {"name": "sgd", "learning_rate": 0.3}}
    study = scenario_of(**changes)
    inputs, given = drawn(study), SCENARIO | changes
    memory, models = Memory(inputs), np.array([inputs.first] * 6)
    base = models.copy()
    for (t, update), (node, partner) in zip(
        enumerate(byzax.simulate(study.run)), pairs_of(plan(study.run)), strict=True
    ):
        row = row_of(given, inputs, FORMULAS, memory, Row(worker=node, job=t, version=0), [base[node]])
        sent = [inputs.first + kept_of(each - inputs.first, round(0.3 * len(inputs.first))) for each in models]
        mine, theirs = (models[node] + sent[partner]) / 2, (models[partner] + sent[node]) / 2
        models[node], models[partner] = mine - 0.3 * row, theirs
        base[node] = models[node]
        np.testing.assert_allclose(update.params, models, rtol=1e-4, atol=1e-5)


def test_an_exchange_is_two_messages():
    study = scenario_of()
    made = plan(study.run)
    counted = traffic(study.run, made)
    assert counted.messages.tolist() == [2 * t for t in range(STEPS + 1)]
    assert counted.bits_peer[-1] == 2 * STEPS * 32 * 18
    links = {(link.sender[1], link.receiver[1]): link.messages for link in link_totals(study.run, made)}
    expected = Counter(way for one, other in pairs_of(made) for way in ((one, other), (other, one)))
    assert links == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workers": {"total": 6, "byzantine": 1}, "attack": "sign_flip", "rule": "median"}, "median needs"),
        ({"clock": "wall", "executor": "ray"}, "^topology: pairwise: has virtual time alone"),
        (
            {"latency": {"name": "constant", "crashes": [{"server": 0, "at": 1.0}]}},
            "^topology: pairwise: has no server 0",
        ),
        ({"wire": {"peer": "ef21"}}, "^wire.peer: both ends of ef21 must know every message, and in pairs"),
        ({"schedule": "asynchronous"}, "^topology: pairwise: .*schedule synchronous"),
    ],
)
def test_what_cannot_be_in_pairs_is_refused_in_one_line(changes, words):
    with pytest.raises(ScenarioError, match=words) as caught:
        byzax.validate(scenario_of(**changes))
    assert "\n" not in str(caught.value)
