"""A ring of nodes."""

from byzax.options import checked
from byzax.simulator.graphs.base import NodeGraph, need_nodes


@checked
def ring(n: int) -> NodeGraph:
    """Every node with the one before and the one after it, in a ring.

    Neighbours: two

    Args:
        n: Number of nodes.

    Returns:
        The graph.

    Raises:
        PartError: For fewer nodes.

    References:
        Lian et al., NeurIPS 2017 (D-PSGD)
    """
    need_nodes("ring", n)
    return NodeGraph(tuple((i, (i + 1) % n) for i in range(n if n > 2 else n - 1)))
