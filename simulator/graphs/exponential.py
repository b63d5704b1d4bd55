"""The exponential graph."""

from byzax.options import checked
from byzax.simulator.graphs.base import NodeGraph, drawn, need_nodes


@checked
def exponential(n: int) -> NodeGraph:
    """Every node with those 1, 2, 4, 8, ... places away in a ring, to both sides.

    Neighbours: about 2 log2 n

    Args:
        n: Number of nodes; at least 2.

    Returns:
        The graph.

    Raises:
        PartError: For fewer nodes.

    References:
        Ying et al., NeurIPS 2021, "Exponential NodeGraph is Provably Efficient for Decentralized Deep Learning"
    """
    need_nodes("exponential", n, 2)
    return drawn({(i, (i + 2**k) % n) for i in range(n) for k in range((n - 1).bit_length()) if 2**k < n})
