"""A ring of honest nodes with Byzantine ones at each (He, Karimireddy, Jaggi 2022)."""

from typing import Annotated

from pydantic import Field

from byzax.options import OptionError, checked
from byzax.simulator.graphs.base import NodeGraph


@checked
def malicious_ring(n: int, *, honest: Annotated[int, Field(ge=3)] = 5) -> NodeGraph:
    """Honest nodes in a ring, two Byzantine leaves at each, and one more at the first of them where n has room for it.

    Neighbours: four of an honest node, of which two are Byzantine; one of a Byzantine node

    With n = 3 `honest` every honest node has an honest majority around it: itself and two neighbours against two. With
    one node more the first honest node has three Byzantine neighbours, and no majority.

    Nodes 0 to f - 1 are Byzantine, where f is n - `honest`, and the others honest, in the order of the ring. Another
    number of Byzantine nodes, or others, are refused.

    Args:
        n: Number of nodes, 3 `honest` or 3 `honest` + 1.
        honest: Number of honest nodes.

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
    return NodeGraph((*ring, *leaves), byzantine=f)
