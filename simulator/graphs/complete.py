"""The complete graph."""

from byzax.options import checked
from byzax.simulator.graphs.base import NodeGraph, need_nodes


@checked
def complete(n: int) -> NodeGraph:
    """Every node with all others.

    Neighbours: all others

    Args:
        n: Number of nodes.

    Returns:
        The graph.

    Raises:
        PartError: For fewer nodes.

    References:
        El Mhamdi et al., NeurIPS 2021, "Collaborative Learning in the Jungle"
    """
    need_nodes("complete", n)
    return NodeGraph(tuple((one, other) for one in range(n) for other in range(one)))
