"""The type of a graph, types of options, and the neighbourhoods and weights that follow from its edges."""

from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field, Strict

from byzax.options import OptionError, PartError

Count = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Node = Annotated[int, Field(ge=0)]
Edge = Annotated[tuple[Node, Node], Strict(False)]
Weight = Annotated[float, Field(gt=0, le=1)]


class NodeGraph(NamedTuple):
    """The edges between nodes 0 to n - 1. Each goes both ways.

    Attributes:
        edges: The pairs of nodes that exchange models.
        weights: The weight of each edge; None for Metropolis weights.
        byzantine: The number of Byzantine nodes, which are then the first ones, where the graph says who is Byzantine;
            None where any node may be.
    """

    edges: Annotated[tuple[Edge, ...], Strict(False)]
    weights: Annotated[tuple[Weight, ...], Strict(False)] | None = None
    byzantine: Annotated[int, Field(ge=0)] | None = None


def need_nodes(graph: str, n: int, least: int = 1) -> None:
    """Checks the number of nodes.

    Args:
        graph: Name of the graph, for the message.
        n: Number of nodes.
        least: The smallest number allowed.

    Raises:
        PartError: For fewer nodes.
    """
    if n < least:
        raise PartError(f"{graph} needs n >= {least} nodes, got n={n}")


def drawn(edges: Iterable[tuple[int, int]]) -> NodeGraph:
    """The graph with the edges that networkx gives, in the order of their nodes.

    Args:
        edges: Pairs of nodes, in any order, some perhaps twice.

    Returns:
        The graph.
    """
    return NodeGraph(tuple(sorted({(min(each), max(each)) for each in edges})))


def closed_neighbourhoods(n: int, edges: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """The neighbours of each node, and the node itself.

    Args:
        n: Number of nodes.
        edges: Pairs of nodes.

    Returns:
        For each node the numbers of these, rising.

    Raises:
        OptionError: For edges that do not fit n, or leave nodes without a way to each other; the option is `graph`.

    Example:
        >>> [each.tolist() for each in closed_neighbourhoods(3, [(0, 1), (1, 2)])]
        [[0, 1], [0, 1, 2], [1, 2]]
    """
    linked = np.eye(n, dtype=bool)
    for one, other in edges:
        if max(one, other) >= n:
            raise OptionError("graph", f"names node {max(one, other)}, and the nodes are 0 to {n - 1}")
        if one == other:
            raise OptionError("graph", f"joins node {one} to itself, which every node is anyway: leave that out")
        linked[one, other] = linked[other, one] = True
    reached = linked[0]
    for _ in range(n):
        reached = linked[reached].any(axis=0)
    if not reached.all():
        to = int(np.argmin(reached))
        raise OptionError("graph", f"has no way from node 0 to node {to}: add edges, or draw it with another seed")
    return [np.flatnonzero(each) for each in linked]


def edge_weights(graph: NodeGraph, inboxes: Sequence[np.ndarray]) -> np.ndarray:
    """The weights of a graph's edges: those given, or Metropolis weights.

    The Metropolis weight of an edge is 1 / (1 + the larger number of neighbours of its two nodes).

    Args:
        graph: The graph.
        inboxes: The neighbours of each node and the node itself, as `closed_neighbourhoods` gives them.

    Returns:
        `[n, n]`, symmetric, of which every row and column sums to 1: the weight of node j at node i. A node's own
        weight is what is left to 1.

    Raises:
        OptionError: For weights that are not one for each edge, or sum to more than 1 at a node; the option is `graph`.

    References:
        Xiao, Boyd and Kim 2007, "Distributed average consensus with least-mean-square deviation"
    """
    given, n = graph.weights, len(inboxes)
    if given is not None and len(given) != len(graph.edges):
        raise OptionError("graph", f"gives {len(given)} weights for {len(graph.edges)} edges: give one for each")
    weights = np.zeros((n, n))
    for place, (i, j) in enumerate(graph.edges):
        # an inbox is one larger than the number of neighbours
        weight = 1 / max(len(inboxes[i]), len(inboxes[j])) if given is None else given[place]
        weights[i, j] = weights[j, i] = weight
    own = 1 - weights.sum(axis=1)
    if (own < -1e-9).any():
        node = int(np.argmin(own))
        raise OptionError(
            "graph", f"has edges at node {node} whose weights sum to {1 - own[node]:g}: at most 1 is left"
        )
    return weights + np.diag(np.maximum(own, 0))
