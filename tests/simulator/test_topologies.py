"""Gossip as its page describes it: messages, measurements, refusals, and one server as a complete graph."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import byzax
from byzax.options import PartError
from byzax.simulator import graphs, topologies
from byzax.simulator.context import build_context
from byzax.simulator.graphs.base import closed_neighbourhoods, edge_weights
from byzax.simulator.senders import Arrivals
from byzax.simulator.server import Server, take_aggregate
from byzax.simulator.world import World, world
from tests.nightly import by_night

N, F = 7, 1
# a ring with two ways across: nodes with two, three and four neighbours
EDGES = (*((i, (i + 1) % N) for i in range(N)), (0, 3), (3, 5))
SMALL: dict[str, Any] = {
    "data": {"name": "gaussian_mixture", "samples": 150, "shape": [4], "classes": 3, "batch_size": 8},
    "model": "softmax",
    "optimizer": {"name": "sgd", "learning_rate": 0.5},
    "rule": "average",
    "attack": "none",
    "workers": {"total": N, "byzantine": F},
    "steps": 4,
}
LISTED = {"name": "edges", "pairs": EDGES}
INBOXES = closed_neighbourhoods(N, EDGES)


def rounds(**changes):
    return [*byzax.simulate(**SMALL | {"topology": gossip()} | changes)]


def gossip(**options):
    return {"name": "gossip", "graph": LISTED, **options}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        by_night({"optimizer": {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9}}),
        by_night({"worker_momentum": 0.9}),
        by_night({"local": {"steps": 3, "learning_rate": 0.2}, "optimizer": {"name": "sgd", "learning_rate": 1}}),
    ],
    ids=["SGD", "momentum", "momentum of workers", "FedAvg"],
)
def test_a_complete_graph_that_averages_is_one_server(changes):
    honest = {"workers": {"total": N, "byzantine": 0}} | changes
    server = rounds(**honest, topology="parameter_server")[-1].params
    nodes = rounds(**honest, topology=gossip(graph="complete"))[-1].params
    start = rounds(**honest, topology="parameter_server")[0].params
    assert np.abs(server - start).max() > 0.1
    np.testing.assert_allclose(nodes, np.broadcast_to(server, nodes.shape), rtol=1e-4, atol=1e-5)


def test_steps_that_are_not_linear_in_the_row_are_not_those_of_one_server():
    honest = {"workers": {"total": N, "byzantine": 0}, "optimizer": {"name": "adam", "learning_rate": 0.1}}
    server = rounds(**honest, topology="parameter_server")[-1].params
    nodes = rounds(**honest, topology=gossip(graph="complete"))[-1].params
    assert np.abs(nodes - server).max() > 0.01


@pytest.mark.parametrize("graph", [by_night("ring"), by_night("complete"), LISTED], ids=["ring", "complete", "pairs"])
def test_metropolis_weights_leave_the_mean_of_the_models_where_it_is(graph):
    topology = gossip(graph=graph, mixing="weighted_average")
    for each in rounds(topology=topology, workers={"total": N, "byzantine": 0}):
        np.testing.assert_allclose(each.params.mean(axis=0), each.rows.mean(axis=0), atol=1e-5)
    made = graphs.NodeGraph(EDGES) if graph == LISTED else graphs.build(graph, N)
    weights = edge_weights(made, closed_neighbourhoods(N, made.edges))
    np.testing.assert_allclose(weights, weights.T)
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_equal_weights_on_nodes_with_unequally_many_neighbours_move_the_mean():
    each = rounds(workers={"total": N, "byzantine": 0})[0]
    assert np.abs(each.params.mean(axis=0) - each.rows.mean(axis=0)).max() > 1e-3


@pytest.mark.parametrize("graph", ["ring", by_night("complete")])
def test_where_all_have_equally_many_neighbours_metropolis_weights_are_equal_ones(graph):
    plain, weighed = (rounds(topology=gossip(graph=graph, **more)) for more in ({}, {"mixing": "weighted_average"}))
    np.testing.assert_allclose(plain[-1].params, weighed[-1].params, atol=1e-5)


def test_every_node_mixes_the_models_of_its_neighbours_and_its_own_and_nobody_elses():
    for each in rounds(attack="sign_flip"):
        received = ~np.isnan(each.forged).any(axis=2)
        assert [np.flatnonzero(mine).tolist() for mine in received] == [mine.tolist() for mine in INBOXES]
        for i in range(N):
            np.testing.assert_array_equal(each.forged[i, i], each.rows[i])
            np.testing.assert_allclose(each.params[i], each.forged[i, INBOXES[i]].mean(axis=0), atol=1e-5)


def test_only_models_of_byzantine_nodes_are_forged_and_only_for_honest_ones():
    workers = {"total": N, "byzantine": 2}
    for each in rounds(attack="sign_flip", workers=workers):
        for i in range(N):
            for j in INBOXES[i]:
                is_sent = np.array_equal(each.forged[i, j], each.rows[j])
                assert is_sent == (i < 2 or j >= 2), (i, j)


def test_every_receiver_gets_a_model_forged_around_its_own():
    first, second, *_ = rounds(attack="sign_flip")
    for i in INBOXES[0][1:]:
        begin = first.params[i]
        # the way of the Byzantine model from the receiver's, turned round
        np.testing.assert_allclose(second.forged[i, 0], 2 * begin - second.rows[0], atol=1e-5)
    one, other, *_ = INBOXES[0][1:]
    assert np.abs(second.forged[one, 0] - second.forged[other, 0]).max() > 1e-3


def test_an_attack_knows_the_models_that_its_receiver_gets():
    graph = "ring"
    *_, before, last = rounds(attack={"name": "empire", "epsilon": 3}, topology=gossip(graph=graph))
    for i, honest in ((1, [1, 2]), (6, [5, 6])):
        way = before.params[i] - last.rows[honest]
        np.testing.assert_allclose(last.forged[i, 0], before.params[i] + 3 * way.mean(axis=0), rtol=1e-3, atol=1e-4)


def test_little_takes_its_statistics_from_a_receiver_and_its_honest_neighbours():
    *_, before, last = rounds(attack={"name": "little", "z": 1.5}, topology=gossip(graph="ring"))
    for i, honest in ((1, [1, 2]), (6, [5, 6])):
        ways = before.params[i] - last.rows[honest]
        expected = before.params[i] - (ways.mean(axis=0) - 1.5 * ways.std(axis=0))
        np.testing.assert_allclose(last.forged[i, 0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mixing", [None, "weighted_average", "monna"])
def test_dissensus_pushes_a_receiver_from_its_honest_neighbours_by_the_weights_that_it_mixes_by(mixing):
    *_, last = rounds(attack={"name": "dissensus", "epsilon": 2}, topology=gossip(mixing=mixing))
    size = {i: len(INBOXES[i]) for i in range(N)}
    for i in INBOXES[0][1:]:
        share = {j: 1 / max(size[i], size[j]) if mixing == "weighted_average" else 1 for j in INBOXES[i]}
        pull = sum(share[j] * (last.rows[j] - last.rows[i]) for j in INBOXES[i] if j not in (0, i))
        np.testing.assert_allclose(last.forged[i, 0], last.rows[i] - 2 * pull / share[0], rtol=1e-3, atol=1e-4)


def test_by_dissensus_of_strength_1_nobody_comes_nearer_to_anybody_by_averaging():
    attack, topology = {"name": "dissensus", "epsilon": 1}, gossip(graph="star", mixing="weighted_average")
    workers = {"total": N, "byzantine": 1}
    for each in rounds(attack=attack, topology=topology, workers=workers):
        # the centre alone hears a Byzantine node
        np.testing.assert_allclose(each.params[N - 1], each.rows[N - 1], atol=1e-5)
        assert np.abs(each.params[1] - each.rows[1]).max() > 1e-4


class Batches:
    """A model whose loss is the batch that it is measured on."""

    def loss(self, params, x, y):
        return x[:, 0]


def test_a_node_measures_losses_on_fresh_samples_of_its_own():
    nothing = jnp.zeros(0, int)
    key, samples = jax.random.key(3), jnp.arange(60.0)[:, None]
    shards, sizes = jnp.arange(60).reshape(3, 20), jnp.array([20, 5, 20])
    honest = -jnp.ones(3, int)
    here = World(key, key, key, samples, samples[:, 0], shards, sizes, nothing, nothing, nothing, honest, None, None)
    make_context = build_context(Batches(), 64, None, take_aggregate)  # pyright: ignore[reportArgumentType]
    arrived = Arrivals(jnp.arange(3), jnp.zeros(3, int), receiver=1, own=jnp.arange(3) == 1, weights=jnp.full(3, 1 / 3))
    drawn = []
    for step in range(2):
        server = Server(jnp.zeros(1), None, (), None, step)  # pyright: ignore[reportArgumentType]
        loss = make_context(here, server, jnp.int32(step), jax.random.fold_in(key, step), arrived).context.loss
        assert loss is not None
        # one batch for all models of a round
        np.testing.assert_array_equal(loss(jnp.zeros(1)), loss(jnp.ones(1)))
        drawn.append(np.asarray(loss(jnp.zeros(1))))
    assert {*np.concatenate(drawn).tolist()} == {20, 21, 22, 23, 24}
    assert (drawn[0] != drawn[1]).any()


def test_a_mixing_needs_no_rule():
    options: dict[str, Any] = {key: value for key, value in SMALL.items() if key != "rule"}
    study = byzax.Study(name="free", **options, topology=gossip(mixing="monna"))
    assert study.rule.label == "average"
    assert "rule" not in study.given()
    assert byzax.Study(**study.given()) == study
    with pytest.raises(byzax.ScenarioError, match=r"^rule: "):
        byzax.Study(name="bound", **options, topology=gossip())


def test_a_mixing_of_ones_own_is_a_function_in_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from byzax.aggregators import Aggregator, Info\n\n"
        "def stubborn(n: int, f: int, *, share: float = 0.5) -> Aggregator:\n"
        "    def apply(rows, state, context=None):\n"
        "        own = context.neighbourhood.own @ rows\n"
        "        return share * own + (1 - share) * rows.mean(axis=0), state, Info()\n"
        "    return Aggregator(lambda d: (), apply)\n"
    )
    *_, last = rounds(topology=gossip(mixing={"name": f"{file}:stubborn", "share": 0.75}))
    for i in range(N):
        expected = 0.75 * last.rows[i] + 0.25 * last.forged[i, INBOXES[i]].mean(axis=0)
        np.testing.assert_allclose(last.params[i], expected, rtol=1e-4, atol=1e-5)


def test_empire_of_models_sends_each_receiver_the_reversed_mean_model_of_itself_and_its_honest_neighbours():
    *_, last = rounds(attack={"name": "empire", "epsilon": 0.5, "of": "models"}, topology=gossip())
    lied = 0
    for receiver in range(F, N):
        inbox = INBOXES[receiver]
        honest = [j for j in inbox if j >= F]
        for liar in (j for j in inbox if j < F):
            expected = -0.5 * last.rows[honest].astype(np.float64).mean(axis=0)
            np.testing.assert_allclose(last.forged[receiver, liar], expected, rtol=1e-4, atol=1e-5)
            lied += 1
    assert lied


def test_evaluations_are_means_over_honest_nodes_with_the_worst_and_their_distance():
    changes: dict[str, Any] = {"attack": "sign_flip", "topology": gossip()}
    result = byzax.run(**{**SMALL, **changes, "evaluate_every": 1}, quiet=True)
    models = rounds(**changes)[-1].params[F:]
    measured = ["test_accuracy", "worst_accuracy", "consensus_distance", "mean_model_accuracy"]
    accuracy, worst, distances, of_mean = result.metrics[measured].to_numpy().T
    mean = models.mean(axis=0)
    # softmax regression by hand
    here = world(byzax.Run(**{**SMALL, **changes}))
    x, y = np.asarray(here.x, np.float64)[here.test], np.asarray(here.y)[here.test]
    logits = x @ mean[3:].reshape(4, 3) + mean[:3]
    assert of_mean[-1] == pytest.approx((logits.argmax(axis=1) == y).mean())
    distance = np.sqrt(np.square(models - mean).sum(axis=1).mean())
    np.testing.assert_allclose(distances[-1], distance, rtol=1e-4)
    (params,) = result.params.values()
    np.testing.assert_allclose(params, mean, atol=1e-5)
    assert (worst <= accuracy + 1e-6).all()
    # all models are the same before the first round
    assert distances[0] < 1e-6
    assert worst[0] == pytest.approx(accuracy[0])


def test_with_a_server_there_is_no_worst_node_and_no_distance():
    result = byzax.run(**SMALL, quiet=True)
    measured = ["worst_accuracy", "mean_model_accuracy", "consensus_distance"]
    assert np.isnan(result.metrics[measured].to_numpy()).all()


REFUSED = [
    ({"schedule": "asynchronous"}, "topology: gossip: all nodes wait for all others: take schedule synchronous"),
    ({"schedule": {"name": "synchronous", "quorum": 5}}, "topology: gossip: all nodes wait for all others"),
    ({"clock": "wall", "executor": "ray"}, "topology: gossip: has virtual time alone"),
    ({"latency": {"name": "constant", "loss": 0.1}}, "topology: gossip: all nodes wait for all others"),
    (
        {"latency": {"name": "constant", "crashes": [{"worker": 1, "at": 1}]}},
        "topology: gossip: all nodes wait for all others",
    ),
    ({"attack": {"name": "sign_flip", "timing": "first"}}, "topology: gossip: Byzantine nodes send in time"),
    ({"attack": "silent"}, "topology: gossip: Byzantine nodes send in time"),
    ({"workers": {"total": N, "byzantine": {"count": 1, "per_round": "sampled"}}}, "topology: gossip: the Byzantine"),
    ({"filter": "kardam"}, "topology: gossip: has no server that judges single rows"),
    ({"weights": "samples"}, "topology: gossip: weighs by the graph: leave weights out"),
    ({"rule": "fltrust"}, "rule: fltrust takes rows for gradients or changes"),
    ({"rule": "zeno"}, "rule: zeno takes rows for gradients or changes"),
    ({"attack": "claims"}, "attack: .*claims"),
    ({"local": {"steps": 2, "control_variates": True}}, "topology: gossip: has no server for common control variates"),
    ({"regularisation": {"max_norm": 1.0}}, "topology: gossip: has no server that bounds the model"),
    ({"topology": gossip(mixing="monna"), "rule": "median"}, "topology: gossip: mixing takes the place of the rule"),
    ({"topology": gossip(mixing="monna"), "pre": ["clip"]}, "topology: gossip: mixing takes the place of the rule"),
    ({"topology": gossip(graph="torus")}, "topology.graph: torus needs n = rows x columns"),
    (
        {"topology": gossip(graph={"name": "edges", "pairs": [[0, 1], [1, 7]]})},
        "topology.graph: names node 7, and the nodes are 0 to 6",
    ),
    (
        {"topology": gossip(graph={"name": "edges", "pairs": [[0, 1], [1, 1]]})},
        "topology.graph: joins node 1 to itself",
    ),
    (
        {"topology": gossip(graph={"name": "edges", "pairs": [[0, 1], [2, 3]]})},
        "topology.graph: has no way from node 0 to node 2",
    ),
    (
        {"topology": gossip(graph="ring"), "rule": "krum"},
        r"rule: krum needs n >= 2f \+ 3: .*; with the topology gossip \(.*ring.*\) the rule sees 3 rows of 7 workers",
    ),
    ({"workers": {"total": N, "byzantine": N}}, "(workers|topology).*honest"),
    ({"attack": "dissensus", "topology": "parameter_server"}, "attack: dissensus tells receivers apart"),
    (
        {"topology": gossip(mixing={"name": "self_centred", "rule": "zeno"})},
        "topology.mixing: self_centred: rule compares",
    ),
    (
        {"topology": gossip(mixing={"name": "self_centred", "rule": "krum"}), "workers": {"total": N, "byzantine": 2}},
        r"topology.mixing(.rule)?: krum needs n >= 2f \+ 3: .*node \d has \d neighbours",
    ),
    (
        {"topology": gossip(graph={"name": "edges", "pairs": [[i, i + 1] for i in range(6)], "weights": [0.1] * 6})},
        "topology: gossip: a rule does not read the weights of edges",
    ),
    ({"topology": gossip(byzantine_neighbours=-1)}, "topology.byzantine_neighbours: must be at least 0"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_gossip_cannot_do_is_refused_in_one_line_with_its_key(changes, said):
    with pytest.raises(byzax.ScenarioError, match=f"^({said})") as refused:
        byzax.validate(byzax.Study(name="refused", **SMALL | {"topology": gossip()} | changes))
    assert "\n" not in str(refused.value)


def test_equivocation_sends_receivers_of_even_and_odd_number_opposite_rows():
    *_, before, last = rounds(attack="equivocate", topology=gossip(graph="complete"))
    ways = [before.params[i] - last.forged[i, 0] - (before.params[i] - last.rows[1:]).mean(axis=0) for i in (1, 2)]
    assert np.dot(*ways) < 0


def test_equivocation_is_refused_where_there_is_one_receiver():
    said = "^attack.beside.0.: equivocate tells receivers apart, and parameter_server has one: take topology gossip"
    attack = {"name": "sign_flip", "workers": 1, "beside": ["equivocate"]}
    workers = {"total": N, "byzantine": 2}
    with pytest.raises(byzax.ScenarioError, match=said):
        byzax.validate(byzax.Study(name="refused", **SMALL | {"attack": attack, "workers": workers}))
    byzax.validate(byzax.Study(name="taken", **SMALL | {"attack": attack, "workers": workers, "topology": gossip()}))


def test_a_change_of_scale_knows_that_the_aggregate_is_the_next_model():
    local = {"steps": 2, "learning_rate": 0.1}
    changes = {"local": local, "optimizer": {"name": "sgd", "learning_rate": 0.5}, "attack": "scaled"}
    *_, before, last = rounds(**changes, topology=gossip(graph="complete"))
    way = before.params[1] - last.rows[0]
    np.testing.assert_allclose(before.params[1] - last.forged[1, 0], N / F * way, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("n", "f"), [(0, 0), (5, 6), (5, -1)])
def test_a_topology_for_impossible_numbers_of_nodes_is_refused(n, f):
    for name in topologies.available():
        with pytest.raises(PartError, match="needs n >= 1"):
            topologies.build(name, n, f)
