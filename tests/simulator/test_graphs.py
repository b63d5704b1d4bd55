"""Graphs: edges, degrees and shapes from their definitions, weights, mistakes, and how fast averaging contracts."""

import itertools
from collections import Counter
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import byzax
from byzax.options import OptionError, PartError
from byzax.simulator import graphs
from byzax.simulator.graphs import NodeGraph
from byzax.simulator.graphs.base import closed_neighbourhoods, edge_weights
from byzax.simulator.parts import topology as topology_of
from byzax.simulator.topologies import build, gossip


def neighbours_of(name, n, **options):
    inboxes = closed_neighbourhoods(n, graphs.build(name, n, **options).edges)
    return [{*each.tolist()} - {i} for i, each in enumerate(inboxes)]


def degrees(name, n, **options):
    return [len(each) for each in neighbours_of(name, n, **options)]


def beside(n, *distances):
    """The neighbours of each node of a ring that are so far away."""
    return [{(i + sign * far) % n for far in distances for sign in (1, -1)} - {i} for i in range(n)]


def on_a_torus(rows, columns):
    at = [divmod(i, columns) for i in range(rows * columns)]
    near = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    return [{(r + dr) % rows * columns + (c + dc) % columns for dr, dc in near} for r, c in at]


SHAPES = [
    ("ring", 1, [set()]),
    ("ring", 2, [{1}, {0}]),
    ("ring", 7, beside(7, 1)),
    ("chain", 4, [{1}, {0, 2}, {1, 3}, {2}]),
    ("complete", 5, [{*range(5)} - {i} for i in range(5)]),
    ("star", 4, [{3}, {3}, {3}, {0, 1, 2}]),
    ("torus", 9, on_a_torus(3, 3)),
    ("torus", 15, on_a_torus(3, 5)),
    ("torus", 16, on_a_torus(4, 4)),
    # root 6 with 5 and 4; 5 with 3 and 2, 4 with 1 and 0
    ("tree", 7, [{4}, {4}, {5}, {5}, {6, 0, 1}, {6, 2, 3}, {4, 5}]),
    ("exponential", 9, beside(9, 1, 2, 4, 8)),
    ("exponential", 8, beside(8, 1, 2, 4)),
    ("dumbbell", 6, [{1, 2}, {0, 2}, {0, 1, 3}, {4, 5, 2}, {3, 5}, {3, 4}]),
]


@pytest.mark.parametrize(("name", "n", "expected"), SHAPES)
def test_graphs_are_what_their_names_say(name, n, expected):
    assert neighbours_of(name, n) == expected


def test_a_dumbbell_with_as_many_bridges_as_nodes_joins_every_node_with_one_of_the_other_clique():
    found = neighbours_of("dumbbell", 10, bridges=5)
    for i, near in enumerate(found):
        mine, others = (set(range(5)), set(range(5, 10))) if i < 5 else (set(range(5, 10)), set(range(5)))
        assert near & mine == mine - {i}
        assert near & others == {9 - i}


@pytest.mark.parametrize(("n", "more"), [(15, 0), (16, 1)])
def test_a_malicious_ring_has_two_byzantine_leaves_at_each_honest_node_and_may_have_one_more(n, more):
    made, found = graphs.build("malicious_ring", n), neighbours_of("malicious_ring", n)
    f = 10 + more
    assert made.byzantine == f
    for i, honest in enumerate(range(f, n)):
        byzantine = {each for each in found[honest] if each < f}
        assert found[honest] - byzantine == {f + (i + 1) % 5, f + (i - 1) % 5}
        assert len(byzantine) == 2 + (more and i == 0)
        # an honest majority, itself counted, but for the one with three
        assert (len(byzantine) < 3) == (not more or i > 0)
    assert all(len(found[leaf]) == 1 for leaf in range(f))


@pytest.mark.parametrize(("n", "own", "edge"), [(15, 5 / 9, 1 / 9), (16, 6 / 11, 1 / 11)])
def test_a_lazy_malicious_ring_has_the_weights_that_the_authors_code_prints(n, own, edge):
    made = graphs.build("malicious_ring", n, lazy=True)
    plain = graphs.build("malicious_ring", n)
    assert made.edges == plain.edges
    first = n - 5
    weights, metropolis = (edge_weights(each, closed_neighbourhoods(n, each.edges)) for each in (made, plain))
    assert weights[first, first] == pytest.approx(own)
    assert weights[first, first + 1] == pytest.approx(edge)
    # (W + c I) / (1 + c), of which c follows from any entry
    c = metropolis[first, first + 1] / edge - 1
    np.testing.assert_allclose(weights, (metropolis + c * np.eye(n)) / (1 + c), rtol=1e-12)


def test_random_graphs_have_the_degrees_they_promise_and_are_the_same_for_a_seed():
    assert degrees("random_regular", 20, degree=3) == [3] * 20
    # m nodes without edges, then m edges for each of the others
    assert sum(degrees("barabasi_albert", 20, m=3)) == 2 * 3 * 17
    assert max(degrees("barabasi_albert", 200, m=2)) > 20
    expected, n = 0.3 * 200 * 199 / 2, 200
    edges = graphs.build("erdos_renyi", n, p=0.3).edges
    assert abs(len(edges) - expected) < 4 * (expected * 0.7) ** 0.5
    for name, options in (("erdos_renyi", {"p": 0.4}), ("barabasi_albert", {}), ("random_regular", {})):
        one, again, other = (graphs.build(name, 20, seed=seed, **options).edges for seed in (1, 1, 2))
        assert one == again != other


@pytest.mark.parametrize("name", [name for name in graphs.available() if name not in ("edges", "edge_file")])
def test_edges_are_there_once_and_join_all_nodes(name):
    made = graphs.build(name, 16)
    assert max(Counter(frozenset(each) for each in made.edges).values()) == 1
    assert all(one != other for one, other in made.edges)
    # raises unless all nodes are joined
    assert gossip(16, 0, graph=name).inboxes == tuple(sorted({len(each) + 1 for each in neighbours_of(name, 16)}))


# weights


@pytest.mark.parametrize("name", ["ring", "torus", "tree", "complete", "star", "dumbbell", "barabasi_albert"])
def test_metropolis_weights_keep_the_mean_and_bring_models_together(name):
    made = graphs.build(name, 16)
    weights = edge_weights(made, closed_neighbourhoods(16, made.edges))
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    np.testing.assert_array_equal(weights, weights.T)
    assert (weights >= 0).all()
    assert np.sort(np.abs(np.linalg.eigvalsh(weights)))[-2] < 1 - 1e-3
    near = neighbours_of(name, 16)
    for i, j in made.edges:
        assert weights[i, j] == pytest.approx(1 / (1 + max(len(near[i]), len(near[j]))))


def test_given_weights_are_those_of_their_edges_and_the_rest_is_a_nodes_own():
    made = graphs.build("edges", 3, pairs=[[2, 0], [1, 2]], weights=[0.25, 0.5])
    weights = edge_weights(made, closed_neighbourhoods(3, made.edges))
    np.testing.assert_allclose(weights, [[0.75, 0, 0.25], [0, 0.5, 0.5], [0.25, 0.5, 0.25]])


SMALL: dict[str, Any] = {
    "data": {"name": "gaussian_mixture", "samples": 200, "shape": [4], "classes": 3, "batch_size": 8},
    "model": "softmax",
    "workers": {"total": 8, "byzantine": 0},
    "attack": "none",
    "steps": 9,
}


@pytest.mark.parametrize("graph", ["ring", "tree", {"name": "dumbbell", "bridges": 2}])
def test_averaging_contracts_by_the_second_largest_eigenvalue(graph):
    options = {"name": graph} if isinstance(graph, str) else dict(graph)
    made = graphs.build(options.pop("name"), 8, **options)
    weights = edge_weights(made, closed_neighbourhoods(8, made.edges))
    second = np.sort(np.abs(np.linalg.eigvalsh(weights)))[-2]

    def once(updates: int):
        """A step in the first round, which takes the models apart, and none afterwards."""
        return lambda step: jnp.where(step == 0, 5.0, 0.0)

    topology = {"name": "gossip", "graph": graph, "mixing": "weighted_average"}
    optimizer = {"name": "sgd", "learning_rate": once}
    models = [each.params.astype(float) for each in byzax.simulate(**SMALL, topology=topology, optimizer=optimizer)]
    distances = [np.linalg.norm(each - each.mean(axis=0)) for each in models]
    for before, after in itertools.pairwise(models):
        np.testing.assert_allclose(after, weights @ before, atol=1e-5)
        np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0), atol=1e-5)
    assert distances[0] > 0.1
    for before, after in itertools.pairwise(distances):
        assert after <= second * before * (1 + 1e-4)
    # no faster either, once the other eigenvalues are gone
    assert distances[-1] > 0.7 * second * distances[-2]


def metropolis(linked):
    """The weights of a graph, from its definition."""
    degree = linked.sum(axis=1) - 1
    found = np.where(linked, 1 / (1 + np.maximum.outer(degree, degree)), 0)
    np.fill_diagonal(found, 0)
    return found + np.diag(1 - found.sum(axis=1))


@pytest.mark.parametrize("graph", [{"name": "random_regular", "degree": 3}, {"name": "erdos_renyi", "p": 0.3}])
def test_averaging_over_graphs_drawn_anew_contracts_by_the_mean_of_squares(graph):
    def once(updates: int):
        return lambda step: jnp.where(step == 0, 5.0, 0.0)

    topology = {"name": "gossip", "graph": graph, "mixing": "weighted_average", "redraw_every": 1}
    optimizer = {"name": "sgd", "learning_rate": once}
    run = byzax.Run(**SMALL, topology=topology, optimizer=optimizer)
    described = topology_of(run).rounds
    assert described is not None
    joined = described(run).steps[1].joined
    assert joined is not None
    drawn = [metropolis(joined(run.seed, t)) for t in range(400)]
    models = [each.params.astype(float) for each in byzax.simulate(run)]
    for t, (before, after) in enumerate(itertools.pairwise(models), 1):
        np.testing.assert_allclose(after, drawn[t] @ before, atol=1e-5)
    # other repeats have other graphs
    assert any((joined(run.seed, t) != joined(run.seed + 1, t)).any() for t in range(3))
    # E |W x - mean|² <= second eigenvalue of E W² times |x - mean|²: of half of the draws for the other half
    second = np.sort(np.linalg.eigvalsh(np.mean([each @ each for each in drawn[:200]], axis=0)))[-2]
    x = models[0] - models[0].mean(axis=0)
    ratios = [np.sum((each @ x) ** 2) / np.sum(x**2) for each in drawn[200:]]
    assert second < 1
    assert np.mean(ratios) <= second + 5 * np.std(ratios) / np.sqrt(200)
    # single graphs may not contract at all
    assert max(ratios) > np.mean(ratios)


# mistakes


@pytest.mark.parametrize(
    ("n", "name", "options", "words"),
    [
        (7, "torus", {}, "torus needs n = rows x columns with 3 or more of each, .* got n=7"),
        (8, "torus", {}, "torus needs n = rows x columns"),
        (7, "dumbbell", {}, "dumbbell needs an even number of nodes, 4 or more, got n=7"),
        (6, "dumbbell", {"bridges": 4}, "dumbbell: bridges must be at most 3, the nodes of a clique, got 4"),
        (14, "malicious_ring", {}, "malicious_ring: honest is 5, with which there are 15 or 16 nodes, and n is 14"),
        (1, "star", {}, "star needs n >= 2 nodes, got n=1"),
        (5, "random_regular", {"degree": 3}, "random_regular: degree must be less than n = 5, and even where n is odd"),
        (4, "random_regular", {"degree": 4}, "random_regular: degree must be less than n = 4"),
        (4, "barabasi_albert", {"m": 4}, "barabasi_albert: m must be less than the number of nodes, 4, got 4"),
    ],
)
def test_a_number_of_nodes_that_does_not_fit_is_refused_in_one_line(n, name, options, words):
    with pytest.raises(PartError, match=f"^{words}") as refused:
        graphs.build(name, n, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("n", "graph", "words"),
    [
        (3, {"name": "edges", "pairs": [(0, 1), (1, 3)]}, "graph names node 3, and the nodes are 0 to 2"),
        (3, {"name": "edges", "pairs": [(0, 1), (1, 1)]}, "graph joins node 1 to itself"),
        (4, {"name": "edges", "pairs": [(0, 1), (2, 3)]}, "graph has no way from node 0 to node 2: add edges"),
        (20, {"name": "erdos_renyi", "p": 0.05}, "graph has no way from node 0 to node .*another seed"),
        (3, {"name": "edges", "pairs": [(0, 1), (1, 2)], "weights": [0.5]}, "graph gives 1 weights for 2 edges"),
        (
            3,
            {"name": "edges", "pairs": [(0, 1), (1, 2)], "weights": [0.5, 0.7]},
            "graph has edges at node 1 whose weights sum to 1.2: at most 1",
        ),
        (3, {"pairs": [(0, 1)]}, "graph must have a name, such as"),
        (3, lambda n: [(0, 1), (1, 2)], "graph must give a NodeGraph, got list .*test_graphs.py"),
    ],
)
def test_edges_that_do_not_fit_are_refused_in_one_line(n, graph, words):
    with pytest.raises(OptionError, match=f"^gossip: {words}") as refused:
        build("gossip", n, 0, graph=graph)
    assert "\n" not in str(refused.value)


FILES = {
    "0,1\n1,2\n": (((0, 1), (1, 2)), None),
    "\ufeff0, 1\n\n2, 1\n": (((0, 1), (2, 1)), None),
    "0,1,0.5\n1,2,0.25\n": (((0, 1), (1, 2)), (0.5, 0.25)),
}


@pytest.mark.parametrize("text", FILES)
def test_a_file_holds_an_edge_on_every_line(text, tmp_path):
    file = tmp_path / "graph.csv"
    file.write_text(text, encoding="utf-8")
    assert graphs.build("edge_file", 3, file=str(file)) == NodeGraph(*FILES[text])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read: No such file"),
        ("", "holds no line: one for each edge is needed"),
        ("0,1\n1\n", "line 2: two numbers of nodes are needed, and a weight or none on all lines"),
        ("0\n", "line 1: two numbers of nodes are needed"),
        ("0,1\n1,2,0.5\n", "line 2: two numbers of nodes are needed, and a weight or none"),
        ("from,to\n0,1\n", "line 1: two numbers of nodes, 0 to 2, are needed, got from,to"),
        ("0,1\n1,3\n", "line 2: two numbers of nodes, 0 to 2, are needed, got 1,3"),
        ("0,1.5\n", "line 1: two numbers of nodes, 0 to 2, are needed, got 0,1.5"),
        ("0,1\n\n-1,2\n", "line 3: two numbers of nodes, 0 to 2, are needed, got -1,2"),
        ("0,1,1.5\n", "line 1: a weight above 0 and at most 1 is needed, got 1.5"),
        ("0,1,heavy\n", "line 1: a weight above 0 and at most 1 is needed, got heavy"),
    ],
)
def test_a_file_that_is_no_list_of_edges_is_refused_with_its_line(text, words, tmp_path):
    file = tmp_path / "graph.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(PartError, match=f"^edge_file .*graph.csv: {words}") as refused:
        graphs.build("edge_file", 3, file=str(file))
    assert "\n" not in str(refused.value)


def test_a_file_that_changes_is_read_again_and_its_mistakes_stand_at_the_key_of_the_graph(tmp_path):
    file = tmp_path / "graph.csv"
    topology = {"name": "gossip", "graph": {"name": "edge_file", "file": str(file)}, "mixing": "weighted_average"}
    whole = SMALL | {"topology": topology, "workers": {"total": 4, "byzantine": 0}, "steps": 1}
    for text, inboxes in (("0,1\n1,2\n2,3\n", [2, 3, 3, 2]), ("0,1\n1,2\n2,3\n3,0\n", [3, 3, 3, 3])):
        file.write_text(text)
        (update,) = byzax.simulate(**whole)
        assert (~np.isnan(update.forged).any(axis=2)).sum(axis=1).tolist() == inboxes
    file.write_text("0,1\n1,4\n")
    with pytest.raises(
        byzax.ScenarioError, match=r"^topology.graph: edge_file .*: line 2: two numbers of nodes, 0 to 3"
    ):
        byzax.validate(byzax.Run(**whole))


def test_a_graph_of_ones_own_is_a_function_in_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from byzax.simulator.graphs import NodeGraph\n\n"
        "def wheel(n: int, *, hub: int = 0) -> NodeGraph:\n"
        "    rim = [i for i in range(n) if i != hub]\n"
        "    return NodeGraph([*((hub, i) for i in rim), *zip(rim, rim[1:] + rim[:1])])\n"
    )
    topology = {"name": "gossip", "graph": {"name": f"{file}:wheel", "hub": 3}, "mixing": "weighted_average"}
    *_, last = byzax.simulate(**SMALL, topology=topology)
    received = ~np.isnan(last.forged).any(axis=2)
    assert received[3].all()
    assert np.flatnonzero(received[0]).tolist() == [0, 1, 3, 7]
