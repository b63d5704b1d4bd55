"""Edges that are listed."""

from typing import Annotated

from pydantic import Strict

from byzax.options import checked
from byzax.simulator.graphs.base import Edge, NodeGraph, Weight, need_nodes


@checked
def edges(
    n: int, *, pairs: tuple[Edge, ...], weights: Annotated[tuple[Weight, ...], Strict(False)] | None = None
) -> NodeGraph:
    """The pairs of nodes that are listed.

    Neighbours: those that a pair joins a node with

    Args:
        n: Number of nodes.
        pairs: The edges, each two numbers of nodes, 0 to n - 1.
        weights: The weight of each of them, for a `mixing` that reads weights; at each node they sum to at most 1.
            None: Metropolis weights.

    Returns:
        The graph.

    Raises:
        PartError: For fewer nodes.

    References:
        A list
    """
    need_nodes("edges", n)
    return NodeGraph(pairs, weights)
