"""A binary tree."""

from byzax.options import checked
from byzax.simulator.graphs.base import NodeGraph, need_nodes


@checked
def tree(n: int) -> NodeGraph:
    """A binary tree: every node with its two children, the levels filled from the root.

    Neighbours: three; two at the root, one at the leaves

    The root is the last node and the leaves are the first ones, since the Byzantine nodes are the first ones unless
    `workers.byzantine.which` says otherwise.

    Args:
        n: Number of nodes.

    Returns:
        The graph.

    Raises:
        PartError: For fewer nodes.

    References:
        Nedic, Olshevsky and Rabbat 2018, "Network Topology and Communication-Computation Tradeoffs"
    """
    need_nodes("tree", n)
    # numbered from the root as a heap, and then backwards
    return NodeGraph(tuple((n - 1 - i, n - 1 - (i - 1) // 2) for i in range(1, n)))
