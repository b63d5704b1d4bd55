"""The example of the page on topologies of one's own: its numbers, under all executors, and mistakes in it."""

from typing import Any

import numpy as np
import pytest
import yaml

import byzax
from byzax.experiments import topologies
from byzax.simulator import executors
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.executors.base import digest
from byzax.simulator.executors.driver import Saving
from tests.docs.pages import DOCS, blocks
from tests.nightly import by_night

(EXAMPLE,) = [block.text for block in blocks(DOCS / "own-topology.md", "python") if block.title]
N, F, SERVERS, RATE = 12, 2, 3, 0.5


@pytest.fixture
def edges(tmp_path):
    """Writes the example, with a change to its text, and gives a scenario of it."""

    def scenario(old: str = "", new: str = "", servers: int = SERVERS, **changes: Any) -> Study:
        assert old in EXAMPLE
        (tmp_path / "edges.py").write_text(EXAMPLE.replace(old, new) if old else EXAMPLE)
        plain = {
            "name": "edges",
            "steps": 8,
            "evaluate_every": 4,
            "data": {"name": "gaussian_mixture", "samples": 240, "shape": [5], "classes": 3, "batch_size": 8},
            "model": "softmax",
            "optimizer": {"name": "sgd", "learning_rate": RATE},
            "rule": "trimmed_mean",
            "attack": "sign_flip",
            "workers": {"total": N, "byzantine": F},
            "worker_momentum": 0.5,
            "topology": {"name": f"{tmp_path}/edges.py:edges", "servers": servers},
            "executor": "loop",
        }
        return parse_as(Study, plain | changes)

    return scenario


def checkpoints(study, *given, **saving):
    with executors.session(study.executor) as execute:
        return list(execute(study.task, *given, **saving))


def test_byzantine_rows_of_each_server_are_held_against_the_f_of_its_rule(edges, tmp_path):
    path = tmp_path / "edges.yaml"
    # workers 0 and 1 are both at the first edge server, whose rule is told one
    path.write_text(yaml.safe_dump(edges().given()))
    structure = topologies.read(path, [])
    (wrong,) = [each for each in topologies.conditions(structure) if not each.met]
    assert wrong.receivers == "edge 0"
    assert wrong[1:3] == ("rows of 4 workers, 2 Byzantine", "at most f = 1 Byzantine workers: 2")
    apart = edges(workers={"total": N, "byzantine": {"count": 2, "which": "random", "seed": 1}})
    path.write_text(yaml.safe_dump(apart.given()))
    structure = topologies.read(path, [])
    groups = {node[1] // 4 for node in structure.byzantine}
    assert all(each.met for each in topologies.conditions(structure)) == (len(groups) == 2)


def trimmed_mean(rows, f):
    return np.sort(rows, axis=0)[f : len(rows) - f].mean(axis=0)


def test_the_aggregate_is_the_rule_over_the_rule_of_each_edge_server(edges):
    byzantine, params = np.arange(N) < F, None
    for update in byzax.simulate(edges().run):
        np.testing.assert_array_equal(update.forged[~byzantine], update.rows[~byzantine])
        np.testing.assert_allclose(update.forged[byzantine], -update.rows[byzantine], rtol=1e-5)
        # four rows of an edge server with f = 1, and three aggregates with f = 1
        sent = np.stack([trimmed_mean(rows, 1) for rows in update.forged.reshape(SERVERS, N // SERVERS, -1)])
        np.testing.assert_allclose(update.aggregate, trimmed_mean(sent, 1), rtol=1e-5, atol=1e-6)
        if params is not None:
            np.testing.assert_allclose(update.params, params - RATE * update.aggregate, rtol=1e-5, atol=1e-6)
        params = update.params


def test_means_of_means_are_the_mean_of_one_server(edges):
    honest = {"rule": "average", "attack": "none", "workers": {"total": N, "byzantine": 0}}
    (*_, ours), (*_, server) = (
        byzax.simulate(edges(**honest, **more).run) for more in ({}, {"topology": "parameter_server"})
    )
    np.testing.assert_allclose(ours.params, server.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.weights, np.full(N, 1 / N), rtol=1e-6)


def same(one, other):
    return all(
        np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
        for x, y in zip(one, other, strict=True)
        for a, b in zip((*x.evaluation, x.params, *x.updates), (*y.evaluation, y.params, *y.updates), strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"rule": "centered_clipping", "attack": "empire"}], ids=["plain", "with a state"]
)
def test_all_executors_carry_the_example_out(edges, ray_session, changes):
    record = {"record": {"weights": True}, "latency": "exponential"}
    expected = checkpoints(edges(**changes, **record))
    for one, other in zip(expected, checkpoints(edges(executor="vectorised", **changes, **record)), strict=True):
        np.testing.assert_allclose(other.params, one.params, rtol=1e-5 * 8, atol=1e-6)
        np.testing.assert_allclose(other.weights, one.weights, rtol=1e-5)
    for actors in (1, 2, 5):
        got = list(ray_session(edges(executor={"name": "ray", "actors": actors}, **changes, **record)))
        assert same(expected, got)
        assert digest(expected) == digest(got)


@pytest.mark.parametrize("executor", ["loop", by_night("vectorised")])
def test_a_run_of_the_example_that_was_left_goes_on_to_the_same_numbers(edges, executor):
    study, kept = edges(executor=executor), []
    whole = checkpoints(study, saving=Saving(lambda seed, snapshot: kept.append(snapshot), every_s=None, every=3))
    assert kept
    for snapshot in kept:
        rest = checkpoints(study, {0: snapshot})
        assert same(whole[-len(rest) :], rest)


@pytest.mark.slow
def test_what_one_executor_left_of_the_example_another_one_goes_on_with(edges, ray_session):
    kept = []
    saving = Saving(lambda seed, snapshot: kept.append(snapshot), every_s=None, every=3)
    whole = list(ray_session(edges(executor={"name": "ray", "actors": 2}), saving=saving))
    rest = checkpoints(edges(), {0: kept[0]})
    assert same(whole[-len(rest) :], rest)


MISTAKES = {
    "future": (
        ('RoundEvent("work", i, [model])', 'RoundEvent("work", i, [Message("update", 0)])'),
        r'event 0 of an update, work 0: reads the message of update 0, .* or read before\("update", 0\)',
    ),
    "unknown message": (
        ('[Message("gather", e)', '[Message("gathr", e)'),
        "event 16 of an update, update 0: reads the message of gathr 0, which is no event of an update",
    ),
    "unknown step": (
        ('NodeStep("gather"', 'NodeStep("collect"'),
        "event 13 of an update, gather 0: is of none of the steps work, forge, collect, update",
    ),
    "event twice": (
        ("model]) for e in range(servers)]", "model]) for e in range(servers)] * 2"),
        "event 16 of an update, gather 0: is event 13 too: list it once",
    ),
    "one sender twice": (
        ('[Message("gather", e)', '[Message("gather", 0)'),
        "edges: event 17, update 0 of server 0, in update 0: reads two messages of one sender",
    ),
    "worker without a job": (
        ("for i in range(n)]", "for i in range(n - 1)]"),
        "event 14 of an update, gather 2: reads the message of work 11, which is no event",
    ),
    "no such port": (
        ("[*receivers.rows(e), model]", '[Message("forge", 0, 7), model]'),
        r"edges: event 14, gather 0 of edge 0, in update 0: reads row 7 of message 13, of 5 forged",
    ),
    "inboxes": (
        ("tuple(sorted({each, servers}))", "(each,)"),
        r"edges: core_of is asked for 3 rows, and inboxes declares \(4,\): give Topology inboxes with 3",
    ),
    "together": (
        ('"edge server", together="map"', '"edge server"'),
        'the step gather does not say .*: give its NodeStep together="map", or take executor loop or ray',
    ),
    "state": (
        ("EventResult(top, public", "EventResult((top, 1), public"),
        "edges: event 17, update of server 0, changes its state from Server",
    ),
    "no state": (('{("server", 0): top, **', "{**"), "edges: start gives no state of server 0, of 1 nodes"),
    "unlike states": (
        ('("edge", e): edge for', '("edge", e): (edge,) * (e + 1) for'),
        "edges: start gives edge 0 and edge 1 states of unlike shapes: take two kinds of node",
    ),
    "no result": (
        ("return EventResult(edge, decision.aggregate, measured, arrays)", "return edge, decision.aggregate"),
        "edges: event 14, gather of edge 0, must give an EventResult, got",
    ),
    "message": (
        ("EventResult(edge, decision.aggregate,", "EventResult(edge, decision.aggregate[None],"),
        r"edges: event 14, gather of edge 0, must send a vector, got float32\[1, 18\]",
    ),
    "message of the next update": (
        ("EventResult(top, public_state(top),", "EventResult(top, top.params,"),
        r"edges: event 17, update of server 0, sends float32\[18\], and show gives Server",
    ),
    "list by a traced number": (
        ("*rows, top = messages", "[*rows, top], _ = messages, [*range(servers)][event.node]"),
        "edges: event 14, gather of edge 0, fails: a Python list or range cannot be indexed",
    ),
    "no network": (("return one_model", "one_model"), "edges: build must give a Network, got None"),
    "exception": (
        ("*rows, top = messages", "*rows, top = messages[0]"),
        "edges: event 14, gather of edge 0, fails: ",
    ),
}


@pytest.mark.parametrize(("change", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_with_the_event_and_the_file(edges, change, said):
    with pytest.raises(byzax.ScenarioError, match=f"^topology: {said}") as refused:
        byzax.validate(edges(*change, executor="vectorised"))
    assert "\n" not in str(refused.value)
    # what compiled loops cannot carry out is no mistake of a function in the file
    assert "edges.py:" in str(refused.value) or "take executor" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"servers": 5}, "topology.servers: is 5, and 12 workers cannot be shared out equally"),
        ({"rule": "krum"}, "rule: krum needs .*; with the topology edges .* the rule sees 3 rows of 12 workers"),
        ({"schedule": "asynchronous"}, "topology: edges: all nodes wait for all others: take schedule synchronous"),
        ({"weights": "samples", "rule": "average"}, "topology: edges: counts rows and no samples: leave weights out"),
    ],
)
def test_a_scenario_that_the_example_cannot_have_is_refused(edges, changes, said):
    with pytest.raises(byzax.ScenarioError, match=f"^{said}"):
        byzax.validate(edges(**changes))
