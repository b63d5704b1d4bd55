"""A random regular graph."""

import networkx

from byzax.options import OptionError, checked
from byzax.simulator.graphs.base import Count, NodeGraph, Seed, drawn, need_nodes


@checked
def random_regular(n: int, *, degree: Count = 4, seed: Seed = 0) -> NodeGraph:
    """A random graph in which all nodes have equally many neighbours.

    Neighbours: `degree`

    Args:
        n: Number of nodes.
        degree: Number of neighbours, fewer than n; even where n is odd.
        seed: Seed of the drawing, the same for all repeats of a run: graphs are compared by a grid over it.

    Returns:
        The graph.

    Raises:
        PartError: For fewer nodes.
        OptionError: For a degree that does not fit n.

    References:
        Kim and Vu 2003, "Generating random regular graphs"
    """
    need_nodes("random_regular", n)
    if degree >= n or degree * n % 2:
        raise OptionError("degree", f"must be less than n = {n}, and even where n is odd, got {degree}")
    return drawn(networkx.random_regular_graph(degree, n, seed=int(seed)).edges)
