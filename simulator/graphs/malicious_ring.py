"""A ring of honest nodes with Byzantine ones at each (He, Karimireddy, Jaggi 2022)."""

from typing import Annotated

from pydantic import Field

from byzax.options import OptionError, checked
from byzax.simulator.graphs.base import NodeGraph, closed_neighbourhoods, edge_weights


@checked
def malicious_ring(n: int, *, honest: Annotated[int, Field(ge=3)] = 5, lazy: bool = False) -> NodeGraph:
    """Honest nodes in a ring, two Byzantine leaves at each, and one more at the first of them where n has room for it.

    Neighbours: four of an honest node, of which two are Byzantine; one of a Byzantine node

    With n = 3 `honest` every honest node has an honest majority around it: itself and two neighbours against two. With
    one node more the first honest node has three Byzantine neighbours, and no majority.

    Nodes 0 to f - 1 are Byzantine, where f is n - `honest`, and the others honest, in the order of the ring. Another
    number of Byzantine nodes, or others, are refused.

    The authors' code does not mix by the Metropolis weights W but by (W + c I) / (1 + c), where c is 1 minus the
    smallest own weight of an honest node: `lazy`. With honest = 5 and n = 16 the three Byzantine neighbours of the
    first honest node weigh 3/11 there, and 1/2 otherwise.

    Args:
        n: Number of nodes, 3 `honest` or 3 `honest` + 1.
        honest: Number of honest nodes.
        lazy: Whether nodes keep more of their own models, as in the authors' code.

    Returns:
        The graph, which says how many nodes are Byzantine.

    Raises:
        OptionError: For a number of honest nodes that does not fit n.

    References:
        He, Karimireddy and Jaggi 2022, "Byzantine-Robust Decentralized Learning via ClippedGossip"
    """
    if n not in (3 * honest, 3 * honest + 1):
        raise OptionError(
            "honest", f"is {honest}, with which there are {3 * honest} or {3 * honest + 1} nodes, and n is {n}"
        )
    f = n - honest
    ring = [(f + i, f + (i + 1) % honest) for i in range(honest)]
    leaves = [(leaf, f + leaf // 2 % honest) for leaf in range(f)]
    made = NodeGraph((*ring, *leaves), byzantine=f)
    if not lazy:
        return made
    weights = edge_weights(made, closed_neighbourhoods(n, made.edges))
    scale = 2 - weights.diagonal()[f:].min()
    return made._replace(weights=tuple(float(weights[edge] / scale) for edge in made.edges))
