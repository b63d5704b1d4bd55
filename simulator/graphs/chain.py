"""A chain of nodes: a ring that is open."""

from byzax.options import checked
from byzax.simulator.graphs.base import NodeGraph, need_nodes


@checked
def chain(n: int) -> NodeGraph:
    """Every node with the one before and the one after it, from the first to the last.

    Neighbours: two; one at both ends

    Args:
        n: Number of nodes.

    Returns:
        The graph.

    Raises:
        PartError: For fewer nodes.

    References:
        Nedic, Olshevsky and Rabbat 2018, "Network Topology and Communication-Computation Tradeoffs"
    """
    need_nodes("chain", n)
    return NodeGraph(tuple((i, i + 1) for i in range(n - 1)))
