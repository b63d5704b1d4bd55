"""Gossip: whole runs against a reference in NumPy, what the graph promises, and the table of its events."""

import re
from functools import cache

import numpy as np
import psutil
import pytest

import byzax
from byzax.simulator import event_contract, executors
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import digest, network_of, plan, prepare
from byzax.simulator.executors.compiled_updates import build_advance
from byzax.simulator.executors.driver import Saving
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.parts import topology
from byzax.simulator.world import load, share_out
from tests.nightly import by_day, by_night
from tests.reference.drawn import drawn
from tests.reference.schedule import Row
from tests.reference.training import FORMULAS, Memory, row_of

STEPS = 8
DATA = {
    "name": "gaussian_mixture", "samples": 240, "shape": [5], "classes": 3, "separation": 2.0, "batch_size": 8,
    "partition": {"name": "dirichlet", "alpha": 0.5},
}  # fmt: skip
TREE = [[0, 1], [0, 2], [1, 3], [1, 4], [2, 5], [2, 6]]
LISTED = {"name": "edges", "pairs": TREE}
THREE = {"name": "malicious_ring", "honest": 3}
# honest nodes 7, 8 and 9 with two Byzantine leaves each, and one more at the first
MALICIOUS = [[7, 8], [8, 9], [9, 7], [0, 7], [1, 7], [2, 8], [3, 8], [4, 9], [5, 9], [6, 7]]
LINKS = {"name": "exponential", "peer": {"delay": {"name": "exponential", "mean": 0.5}}}
MISHAPS = LINKS | {
    "loss": 0.05, "crashes": [{"worker": 3, "at": 2.0, "back": 5.0}, {"worker": 6, "at": 4.0}],
    "outages": [
        {"from": 2.0, "until": 4.0, "between": [[0, 1], [2, 5]]},
        {"from": 5.0, "until": 7.0, "between": [[0, 1, 2], [4, 5]], "messages": "delayed"},
    ],
}  # fmt: skip
CASES = {
    "ring, average": {},
    "torus, median": {"topology": {"graph": "torus"}, "workers": 9, "rule": "median", "byzantine": 1},
    "tree, Metropolis": {"topology": {"graph": LISTED, "mixing": "weighted_average"}},
    "complete, trimmed mean, momentum": {
        "topology": {"graph": "complete", "byzantine_neighbours": 2}, "rule": "trimmed_mean", "byzantine": 2,
        "worker_momentum": {"beta": 0.5},
    },
    "ring, local steps, server momentum": {
        "local": {"steps": 2, "learning_rate": 0.2}, "rule": "median", "byzantine": 1,
        "optimizer": {"name": "sgd", "learning_rate": 0.7, "momentum": 0.5},
    },
    "malicious ring, ClippedGossip, dissensus": {
        "topology": {"graph": THREE, "mixing": {"name": "clipped_gossip", "tau": 0.1}},
        "workers": 10, "byzantine": 7, "attack": "dissensus",
    },
    "exponential, BRIDGE, dissensus": {
        "topology": {"graph": "exponential", "mixing": "bridge"}, "workers": 9, "byzantine": 2, "attack": "dissensus",
    },
    "ring, models sent": {
        "local": {"steps": 2, "learning_rate": 0.2, "send": "model"}, "rule": "median", "byzantine": 1,
    },
    "complete, quorum, trimmed mean, mishaps": {
        "topology": {"graph": "complete", "byzantine_neighbours": 1, "quorum": 3}, "rule": "trimmed_mean",
        "byzantine": 1, "latency": MISHAPS, "optimizer": {"name": "sgd", "learning_rate": 0.3, "momentum": 0.5},
    },
    "exponential, quorum, Metropolis, mishaps": {
        "topology": {"graph": "exponential", "quorum": 2, "mixing": "weighted_average"}, "latency": MISHAPS,
    },
    "ring, gradient tracking, momentum": {
        "topology": {"graph": "ring", "mixing": "weighted_average", "tracking": True}, "workers": 5,
        "worker_momentum": {"beta": 0.5},
    },
    "drawn anew, median": {
        "topology": {"graph": {"name": "random_regular", "degree": 3}, "redraw_every": 1, "byzantine_neighbours": 1},
        "workers": 8, "rule": "median", "byzantine": 1, "latency": LINKS,
    },
    "drawn anew, Metropolis": {
        "topology": {"graph": {"name": "erdos_renyi", "p": 0.3}, "redraw_every": 2, "mixing": "weighted_average"},
        "workers": 5,
    },
}  # fmt: skip
# in which nodes wait for neighbours alone, or these change
APART = [name for name, case in CASES.items() if {"quorum", "redraw_every"} & {*case.get("topology", {})}]


def scenario_of(name, **changes) -> Study:
    case = CASES[name]
    n, f = case.get("workers", 7), case.get("byzantine", 0)
    plain = {
        "name": "gossip", "steps": STEPS, "evaluate_every": 1, "data": DATA, "model": "softmax", "rule": "average",
        "attack": "sign_flip" if f else "none", "executor": "loop", "optimizer": {"name": "sgd", "learning_rate": 0.3},
        **{key: value for key, value in case.items() if key != "byzantine"},
    } | {
        "workers": {"total": n, "byzantine": f}, "topology": {"name": "gossip", **case.get("topology", {})},
    }  # fmt: skip
    return parse_as(Study, plain | changes)


@cache
def updates_of(name):
    return [*byzax.simulate(scenario_of(name).run)]


def neighbours(n, graph):
    """The closed neighbourhood of each node, from the definition of the graph."""
    if isinstance(graph, dict):
        pairs = MALICIOUS if graph["name"] == "malicious_ring" else graph["pairs"]
        return [sorted({i, *(b if a == i else a for a, b in pairs if i in (a, b))}) for i in range(n)]
    if graph == "exponential":
        return [sorted({i, *((i + sign * 2**k) % n for k in range(4) for sign in (1, -1))}) for i in range(n)]
    if graph == "complete":
        return [list(range(n))] * n
    if graph == "torus":
        side = round(n**0.5)
        at = [divmod(i, side) for i in range(n)]
        near = [(0, 0), (0, 1), (0, side - 1), (1, 0), (side - 1, 0)]
        return [sorted((r + dr) % side * side + (c + dc) % side for dr, dc in near) for r, c in at]
    return [sorted({i, (i - 1) % n, (i + 1) % n}) for i in range(n)]


def reference(name):
    """The models of all nodes at the start and after each round, `[T + 1, n, d]`, in float64."""
    case, study = CASES[name], scenario_of(name)
    n, f, given = study.workers.total, study.workers.byzantine.count, dict(case)
    graph, options = case.get("topology", {}).get("graph", "ring"), case.get("topology", {})
    inputs, whole = drawn(study), plan(study.run)
    # in each round whom a node read; nobody where it was dead
    heard = [[np.flatnonzero(each) for each in taken] for taken in whole.rounds[1].taken] if whole.rounds else None
    joined = topology(study.run).rounds and topology(study.run).rounds(study.run).steps[1].joined
    memory, sgd = Memory(inputs), {"learning_rate": 0.3, "momentum": 0.0} | case.get("optimizer", {})
    models, velocity = [[inputs.first] * n], np.zeros((n, len(inputs.first)))
    tracked, last, mixed = np.zeros((3, n, len(inputs.first)))
    for t in range(STEPS):
        around = neighbours(n, graph) if joined is None else [np.flatnonzero(each) for each in joined(0, t)]
        degree = [len(each) - 1 for each in around]
        inboxes = (
            around
            if heard is None
            else [[near[j] for j in mine] for near, mine in zip(around, heard[t], strict=False)]
            if joined is None
            else heard[t]
        )
        halves = []
        for i, w in enumerate(models[-1]):
            if not len(inboxes[i]):
                halves.append(None)
                continue
            # each node goes on from its own model
            row = row_of(given, inputs, FORMULAS, memory, Row(worker=i, job=t, version=0), [w])
            descent = w - row if case.get("local", {}).get("send") == "model" else row
            if options.get("tracking"):
                # the mean of what the neighbours tracked, and how the own row changed
                tracked[i], last[i] = mixed[i] + row - last[i], row
                descent = tracked[i]
            velocity[i] = sgd["momentum"] * velocity[i] + descent
            halves.append(w - sgd["learning_rate"] * velocity[i])
        after = []
        for i, inbox in enumerate(inboxes):
            if len(inbox) < 2:
                after.append(halves[i] if len(inbox) else models[-1][i])
                continue
            share = {j: 1 / (1 + max(degree[i], degree[j])) for j in inbox if j != i}
            share[i] = 1 - sum(share.values())
            mixed[i] = sum(share[j] * tracked[j] for j in inbox)
            mixing = options.get("mixing")
            # a rule that knows no weights takes all neighbours alike
            counted = {j: 1 if mixing == "bridge" else share[j] for j in inbox}
            if case.get("attack") == "dissensus" and i >= f:
                pull = sum(counted[j] * (halves[j] - halves[i]) for j in inbox if j >= f)
                lie = halves[i] - 1.5 * pull / sum(counted[j] for j in inbox if j < f)
            else:
                lie = None
            # to an honest node a Byzantine one goes the opposite way, seen from the node's own model
            own = models[-1][i]
            lies = {j: 2 * own - halves[j] if lie is None else lie for j in range(f) if j in inbox}
            rows = np.stack([lies[j] if j < f <= i else halves[j] for j in inbox])
            b = min(options.get("byzantine_neighbours", f), len(inbox) - 1)
            if mixing == "weighted_average":
                after.append(sum(share[j] * row for j, row in zip(inbox, rows, strict=True)))
            elif mixing == "bridge":
                others = np.sort(rows[[j != i for j in inbox]], axis=0)[b : len(rows) - 1 - b]
                after.append(np.concatenate([others, halves[i][None]]).mean(axis=0))
            elif mixing is not None:
                ways = {j: row - halves[i] for j, row in zip(inbox, rows, strict=True) if j != i}
                clip = {j: min(1, mixing["tau"] / np.linalg.norm(way)) for j, way in ways.items()}
                after.append(halves[i] + sum(share[j] * clip[j] * way for j, way in ways.items()))
            elif case.get("rule") == "median":
                after.append(np.median(rows, axis=0))
            elif case.get("rule") == "trimmed_mean":
                after.append(np.sort(rows, axis=0)[b : len(rows) - b].mean(axis=0))
            else:
                after.append(rows.mean(axis=0))
        models.append(after)
    return np.array(models)


@pytest.mark.parametrize("name", by_day([[*CASES][1], *APART], CASES))
def test_a_run_is_that_of_the_reference(name):
    expected = reference(name)
    for t, update in enumerate(updates_of(name)):
        np.testing.assert_allclose(update.params, expected[t + 1], rtol=1e-4, atol=1e-5)
    # a mistake would be seen: nodes differ, and so do rounds
    assert np.abs(expected[-1] - expected[-1][:1]).max() > 1e-3 or "complete" in name
    assert np.abs(expected[-1] - expected[-2]).max() > 1e-3


def checkpoints_of(name, executor, **changes):
    study = scenario_of(name, executor=executor, **changes)
    with executors.session(study.executor) as execute:
        return list(execute(study.task))


@pytest.mark.parametrize("name", by_day([*CASES][1:2], CASES))
def test_compiled_loops_are_within_rounding_of_one_event_after_the_other(name):
    recording = {"record": {"weights": True, "rows": 2}}
    for one, other in zip(*(checkpoints_of(name, each, **recording) for each in ("loop", "vectorised")), strict=True):
        np.testing.assert_allclose(other.params, one.params, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.evaluation, one.evaluation, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(other.weights, one.weights, rtol=1e-5)
        for a, b in zip(other.updates, one.updates, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
        for a, b in zip(other.recorded, one.recorded, strict=True):
            assert (a.step, a.time_s) == (b.step, b.time_s)
            for name_of, mine, expected in zip(a._fields, a, b, strict=True):
                np.testing.assert_allclose(mine, expected, rtol=1e-3, atol=1e-5, err_msg=name_of)


@pytest.mark.parametrize(
    ("name", "actors"),
    [by_night(name, actors) for name in CASES for actors in (1, 2, 5)],
)
def test_ray_is_bitwise_equal_to_loop(ray_session, name, actors):
    recording = {"record": {"weights": True, "rows": 2}, "evaluate_every": 3}
    expected = checkpoints_of(name, "loop", **recording)
    by_hand = [*byzax.simulate(scenario_of(name).run)][::2]
    whole = [update for each in expected for update in each.recorded]
    for a, b in zip(whole, by_hand, strict=True):
        np.testing.assert_equal(a._asdict(), b._asdict())
    got = list(ray_session(scenario_of(name, executor={"name": "ray", "actors": actors}, **recording)))
    for one, other in zip(expected, got, strict=True):
        assert same(one, other)
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_array_equal(one.updates, other.updates)
        for a, b in zip(one.recorded, other.recorded, strict=True):
            np.testing.assert_equal(a._asdict(), b._asdict())
    assert digest(expected) == digest(got)


@pytest.mark.slow
def test_a_killed_actor_is_replaced_and_the_rounds_go_on_with_the_same_numbers(ray_session, notices):
    longer = {"steps": 900, "evaluate_every": 50}
    expected = checkpoints_of("torus, median", "loop", **longer)
    by_ray = scenario_of("torus, median", executor={"name": "ray", "actors": 2}, **longer)
    notices.clear()
    checkpoints = ray_session(by_ray, saving=Saving(every_s=None, every=60))
    kept = [next(checkpoints) for _ in range(3)]
    victims = [each for each in psutil.Process().children(recursive=True) if each.name().startswith("ray::WorkerActo")]
    victims[0].kill()
    kept.extend(checkpoints)
    assert all(same(*pair) for pair in zip(expected, kept, strict=True))
    (line,) = notices
    assert re.fullmatch(r"worker actor [01] died: its process was killed .*; the run goes on after update \d+", line)


@pytest.mark.slow
def test_what_one_executor_left_another_one_goes_on_with(ray_session):
    name, kept = "torus, median", []
    saving = Saving(lambda seed, snapshot: kept.append(snapshot), every_s=None, every=3)
    by_ray = scenario_of(name, executor={"name": "ray", "actors": 2})
    whole = list(ray_session(by_ray, saving=saving))
    study = scenario_of(name)
    with executors.session(study.executor) as execute:
        rest = list(execute(study.task, {0: kept[0]}))
        again = list(execute(study.task, saving=saving))
    assert all(same(*pair) for pair in zip(whole[-len(rest) :], rest, strict=True))
    assert all(same(*pair) for pair in zip(whole, again, strict=True))
    rest = list(ray_session(by_ray, {0: kept[-1]}))
    assert all(same(*pair) for pair in zip(whole[-len(rest) :], rest, strict=True))
    compiled = scenario_of(name, executor="vectorised")
    with executors.session(compiled.executor) as execute:
        rest = list(execute(compiled.task, {0: kept[0]}))
    np.testing.assert_allclose(rest[-1].params, whole[-1].params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("topology", ["gossip", "parameter_server"])
def test_a_second_seed_builds_and_compiles_nothing(topology):
    study = scenario_of("torus, median", executor="vectorised", topology=topology, seed=3)
    with executors.session(study.executor) as execute:
        list(execute(study.task))
        before = build_advance.cache_info().misses
        list(execute(study.task._replace(run=study.run.replace(seed=4), seeds=(4,))))
    assert build_advance.cache_info().misses == before


def test_attackers_send_each_neighbour_another_row_and_touch_no_honest_one():
    study = scenario_of("torus, median")
    inboxes = neighbours(9, "torus")
    for update in byzax.simulate(study.run):
        for i, inbox in enumerate(inboxes):
            received = np.isfinite(update.forged[i]).all(axis=1)
            assert np.flatnonzero(received).tolist() == inbox
            honest = [j for j in inbox if j > 0]
            np.testing.assert_array_equal(update.forged[i, honest], update.rows[honest])
        attacked = [i for i in range(1, 9) if 0 in inboxes[i]]
        sent = np.stack([update.forged[i, 0] for i in attacked])
        # what it computed goes to itself alone
        np.testing.assert_array_equal(update.forged[0, 0], update.rows[0])
        assert (np.abs(sent - update.rows[0]).max(axis=1) > 0).all()
        if update.step:
            assert len(np.unique(sent, axis=0)) == len(attacked)


def test_random_forgeries_differ_from_receiver_to_receiver():
    study = scenario_of("torus, median", attack="gaussian", steps=1)
    (update,) = byzax.simulate(study.run)
    sent = [update.forged[i, 0] for i, inbox in enumerate(neighbours(9, "torus")) if 0 in inbox and i]
    assert len(np.unique(np.stack(sent), axis=0)) == 4


def same(one, other):
    return all(
        np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
        for a, b in zip((*one.evaluation, one.params), (*other.evaluation, other.params), strict=True)
    )


@pytest.mark.parametrize("executor", ["loop", by_night("vectorised")])
@pytest.mark.parametrize(
    "name", ["torus, median", "complete, quorum, trimmed mean, mishaps", by_night("complete, trimmed mean, momentum")]
)
def test_a_run_that_was_left_goes_on_to_the_same_numbers(name, executor):
    study, kept = scenario_of(name, executor=executor), []
    with executors.session(study.executor) as execute:
        saving = Saving(lambda seed, snapshot: kept.append(snapshot), every_s=None, every=3)
        whole = list(execute(study.task, saving=saving))
        for snapshot in kept:
            rest = list(execute(study.task, {0: snapshot}))
            assert rest
            assert all(same(*pair) for pair in zip(whole[-len(rest) :], rest, strict=True))


def test_ubar_judges_anew_in_every_round_and_alike_in_compiled_loops():
    name, changes = "torus, median", {"topology": {"name": "gossip", "graph": "complete", "mixing": "ubar"}}
    recording = {"record": {"weights": True}, "rule": "average", **changes}
    for one, other in zip(*(checkpoints_of(name, each, **recording) for each in ("loop", "vectorised")), strict=True):
        np.testing.assert_allclose(other.params, one.params, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.weights, one.weights, rtol=1e-5)
    # others are good enough from round to round
    assert len({each.weights.tobytes() for each in checkpoints_of(name, "loop", **recording)}) > 2


def test_gradient_tracking_reaches_the_optimum_where_gossip_stays_beside_it():
    def ends(tracking):
        study = parse_as(
            Study,
            {
                "name": "tracking", "steps": 400, "evaluate_every": 400, "rule": "average", "attack": "none",
                "data": {
                    "name": "linear_regression", "samples": 120, "features": 3, "noise": 1.0, "batch_size": 200,
                    "partition": "feature_skew", "normalise": "none",
                },
                "model": "linear", "workers": {"total": 6, "byzantine": 0}, "executor": "vectorised",
                # one step on all samples of the node: no noise
                "local": {"epochs": 1, "learning_rate": 1.0}, "optimizer": {"name": "sgd", "learning_rate": 0.02},
                "topology": {"name": "gossip", "graph": "ring", "mixing": "weighted_average", "tracking": tracking},
            },
        )  # fmt: skip
        with executors.session(study.executor) as execute:
            *_, last = execute(study.task)
        return study, last

    study, tracked = ends(tracking=True)
    _, plain = ends(tracking=False)
    data, (_, shares) = load(study.data), share_out(study.run.data, 6, study.run.seed)
    normal, right = np.zeros((4, 4)), np.zeros(4)
    for share in shares:
        x = np.column_stack([data.x[share].astype(float), np.ones(len(share))])
        normal += x.T @ x / len(share)
        right += x.T @ data.y[share] / len(share)
    best = np.linalg.solve(normal, right)
    # of any order of weights and bias
    np.testing.assert_allclose(np.sort(tracked.params), np.sort(best), atol=1e-4)
    assert tracked.evaluation.consensus_distance < 1e-4
    assert plain.evaluation.consensus_distance > 0.02


def test_weights_are_means_over_the_honest_nodes():
    study = scenario_of("tree, Metropolis", record={"weights": True})
    with executors.session(study.executor) as execute:
        *_, last = execute(study.task)
    # those of the mean of the rows of a matrix whose columns sum to 1
    np.testing.assert_allclose(last.weights, np.full((1, 7), 1 / 7), rtol=1e-6)


def test_a_replay_gives_the_same_bits():
    study = scenario_of("torus, median")
    with executors.session(study.executor) as execute:
        whole = list(execute(study.task))
    again = list(loop.replay(study.task, whole[-1].timeline))
    assert all(same(*pair) for pair in zip(whole, again, strict=True))


# refusals


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"rule": "krum", "topology": "gossip"},
            "^rule: krum needs .*; with the topology gossip the rule sees 3 rows of 9 workers: node 0 has 2 neigh",
        ),
        (
            {"rule": "average", "topology": {"name": "gossip", "graph": "tree", "mixing": "monna"}},
            r"^topology.mixing: monna needs n >= 2f \+ 1: .* sees 2 rows of 9 workers: node 0 has 1 neighbour$",
        ),
        (
            {"topology": {"name": "gossip", "graph": {"name": "random_regular", "degree": 9}}},
            "^topology.graph.degree: must be less than n = 9",
        ),
        (
            {"topology": {"name": "gossip", "graph": "tori"}},
            "^topology.graph: unknown graph 'tori'; did you mean 'torus'",
        ),
        (
            {"topology": {"name": "gossip", "graph": "torus", "mixing": {"name": "clipped_gossip", "tau": 0}}},
            "^topology.mixing.tau: must be",
        ),
        (
            {"topology": {"name": "gossip", "graph": THREE}},
            "^topology: gossip: in the graph malicious_ring the first 6 nodes are Byzantine: take workers.byzantine 6",
        ),
        (
            {
                "topology": {"name": "gossip", "graph": THREE},
                "workers": {"total": 9, "byzantine": {"count": 6, "which": "random"}},
            },
            "^topology: gossip: in the graph malicious_ring .* and which first",
        ),
        ({"schedule": "asynchronous"}, "^topology: gossip: .*schedule synchronous"),
        ({"schedule": {"name": "synchronous", "quorum": 8}}, "^topology: gossip: .*quorum all"),
        ({"latency": {"name": "exponential", "loss": 0.1}}, "^topology: gossip: .*latency.loss.* give topology.quorum"),
        (
            {"latency": {"name": "constant", "outages": [{"from": 1.0, "until": 2.0, "between": [[0], [1]]}]}},
            "^topology: gossip: .*latency.outages out, or give topology.quorum",
        ),
        (
            {"rule": "krum", "topology": {"name": "gossip", "graph": "torus", "quorum": 2, "byzantine_neighbours": 1}},
            "^rule: krum needs .* sees 3 rows of 9 workers.*: node 0 has 4 neighbours, and waits for 2 of them",
        ),
        (
            {
                "topology": {"name": "gossip", "graph": "torus", "quorum": 2},
                "latency": MISHAPS | {"crashes": [{"server": 0, "at": 1.0}]},
            },
            "^topology: gossip: has no server 0, which latency.crashes names: name workers",
        ),
        (
            {"topology": {"name": "gossip", "graph": "torus", "tracking": True}},
            "^topology.tracking: is for the weights of edges .* take mixing weighted_average",
        ),
        (
            {
                "topology": {"name": "gossip", "graph": "torus", "tracking": True, "mixing": "weighted_average"},
                "rule": "average",
            },
            "^topology: gossip: what is tracked .* take workers.byzantine 0",
        ),
        (
            {"topology": {"name": "gossip", "graph": "torus", "redraw_every": 1}},
            "^topology.redraw_every: needs a graph that is drawn by a seed: take erdos_renyi",
        ),
        (
            {
                "topology": {"name": "gossip", "graph": "erdos_renyi", "redraw_every": 1, "byzantine_neighbours": 1},
                "rule": "krum",
            },
            "^rule: krum needs .*: in some rounds a node has 1 neighbour: take a graph in which all have as many",
        ),
        ({"weights": "samples"}, "^topology: gossip: .*weights"),
        ({"attack": {"name": "empire", "timing": "late"}}, "^topology: gossip: .*attack.timing honest"),
        ({"topology": {"name": "gossip", "graph": "torus", "mixing": "monna"}}, "^topology: gossip: .*mixing"),
        (
            {"topology": {"name": "gossip", "graph": "star"}, "rule": "foolsgold"},
            "^rule: foolsgold keeps a state by the number of rows, and nodes see 2 and 9",
        ),
    ],
)
def test_what_cannot_be_without_a_server_is_refused_in_one_line(changes, words):
    with pytest.raises(ScenarioError, match=words) as caught:
        byzax.validate(scenario_of("torus, median", **changes))
    assert "\n" not in str(caught.value)


# the table


def network_and_byzantine(study):
    """The network of a scenario, and its Byzantine nodes."""
    network, here = network_of(study.run, prepare(study.run))
    return network, np.asarray(here.byzantine_rank) >= 0


@pytest.mark.parametrize("name", ["torus, median", "tree, Metropolis", *APART])
def test_the_table_can_be_carried_out_and_its_parts_are_those_of_the_whole(name):
    latency = CASES[name].get("latency", "exponential")
    network, byzantine = network_and_byzantine(scenario_of(name, latency=latency))
    for at_once in (1, 3, STEPS):
        event_contract.check(network, STEPS, lambda update: byzantine, at_once)
    whole = network.table.events(0, STEPS)
    for since in range(STEPS):
        part = network.table.events(since, since + 1)
        mine = slice(part.begin - whole.begin, part.begin - whole.begin + len(part.step))
        for field in ("step", "node", "turn", "row", "last", "begin_s", "arrive_s"):
            np.testing.assert_array_equal(getattr(part, field), getattr(whole, field)[mine])
        np.testing.assert_array_equal(part.source, whole.source[whole.first[mine.start] : whole.first[mine.stop]])


def test_a_message_of_an_honest_node_that_is_forged_is_seen():
    network, _ = network_and_byzantine(scenario_of("torus, median"))
    event_contract.check(network, 3, lambda update: np.arange(9) == 0)
    with pytest.raises(ValueError, match="forged message of worker 0, which is honest"):
        event_contract.check(network, 3, lambda update: np.arange(9) == 1)
