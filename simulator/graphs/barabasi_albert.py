"""The random graph of Barabasi and Albert."""

import networkx

from byzax.options import OptionError, checked
from byzax.simulator.graphs.base import Count, NodeGraph, Seed, drawn, need_nodes


@checked
def barabasi_albert(n: int, *, m: Count = 2, seed: Seed = 0) -> NodeGraph:
    """Nodes join one after the other, each with edges to m others, the sooner to those that have many.

    Neighbours: about 2m on average, of a few nodes many

    Args:
        n: Number of nodes; at least 2.
        m: Edges of a node that joins, fewer than n.
        seed: Seed of the drawing, the same for all repeats of a run: graphs are compared by a grid over it.

    Returns:
        The graph.

    Raises:
        PartError: For fewer nodes.
        OptionError: For an m that is not below n.

    References:
        Barabasi and Albert 1999, "Emergence of scaling in random networks"
    """
    need_nodes("barabasi_albert", n, 2)
    if m >= n:
        raise OptionError("m", f"must be less than the number of nodes, {n}, got {m}")
    return drawn(networkx.barabasi_albert_graph(n, m, seed=int(seed)).edges)
