"""A star: one node joined to all others."""

from byzax.options import checked
from byzax.simulator.graphs.base import NodeGraph, need_nodes


@checked
def star(n: int) -> NodeGraph:
    """The last node with each of the others.

    Neighbours: one; all others at the centre

    The centre is the last node, since the Byzantine nodes are the first ones unless `workers.byzantine.which` says
    otherwise.

    Args:
        n: Number of nodes; at least 2.

    Returns:
        The graph.

    Raises:
        PartError: For fewer nodes.

    References:
        Nedic, Olshevsky and Rabbat 2018, "Network Topology and Communication-Computation Tradeoffs"
    """
    need_nodes("star", n, 2)
    return NodeGraph(tuple((leaf, n - 1) for leaf in range(n - 1)))
