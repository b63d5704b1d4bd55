"""The random graph of Erdos and Renyi."""

import networkx

from byzax.options import checked
from byzax.simulator.graphs.base import NodeGraph, Probability, Seed, drawn, need_nodes


@checked
def erdos_renyi(n: int, *, p: Probability = 0.5, seed: Seed = 0) -> NodeGraph:
    """Every pair of nodes is joined with the same probability.

    Neighbours: p (n - 1) on average

    Args:
        n: Number of nodes.
        p: Probability of an edge.
        seed: Seed of the drawing, the same for all repeats of a run: graphs are compared by a grid over it.

    Returns:
        The graph.

    Raises:
        PartError: For fewer nodes.

    References:
        Erdos and Renyi 1959; Gilbert 1959
    """
    need_nodes("erdos_renyi", n)
    return drawn(networkx.gnp_random_graph(n, p, seed=int(seed)).edges)
