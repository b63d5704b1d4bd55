"""A dumbbell: two cliques with a bridge."""

import itertools

from byzax.options import OptionError, PartError, checked
from byzax.simulator.graphs.base import Count, NodeGraph


@checked
def dumbbell(n: int, *, bridges: Count = 1) -> NodeGraph:
    """Two cliques of n/2 nodes each, the first and the second half, joined by one edge or by several.

    Neighbours: n/2 - 1, and one more at a bridge

    With one edge it is the dumbbell of the source; with n/2, where every node of one clique has its own in the other,
    two joined cliques.

    Args:
        n: Number of nodes, an even one, at least 4.
        bridges: Edges between the cliques: from the last node of the first one to the first of the second one, from the
            last but one to the second, and so on.

    Returns:
        The graph.

    Raises:
        PartError: For an n that is odd or smaller.
        OptionError: For more bridges than a clique has nodes.

    References:
        He, Karimireddy and Jaggi 2022, "Byzantine-Robust Decentralized Learning via ClippedGossip"
    """
    if n < 4 or n % 2:
        raise PartError(f"dumbbell needs an even number of nodes, 4 or more, got n={n}")
    half = n // 2
    if bridges > half:
        raise OptionError("bridges", f"must be at most {half}, the nodes of a clique, got {bridges}")
    cliques = [*itertools.combinations(range(half), 2), *itertools.combinations(range(half, n), 2)]
    return NodeGraph((*cliques, *((half - 1 - i, half + i) for i in range(bridges))))
