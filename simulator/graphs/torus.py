"""A torus: a grid that is closed at its edges."""

import math

import numpy as np

from byzax.options import PartError, checked
from byzax.simulator.graphs.base import NodeGraph


@checked
def torus(n: int) -> NodeGraph:
    """A grid of rows and columns that is closed at its edges, as nearly square as n allows.

    Neighbours: four

    Args:
        n: Number of nodes: rows x columns, 3 or more of each.

    Returns:
        The graph.

    Raises:
        PartError: For an n that is no such product.

    References:
        Nedic, Olshevsky and Rabbat 2018, "Network Topology and Communication-Computation Tradeoffs"
    """
    rows = max((each for each in range(1, math.isqrt(n) + 1) if n % each == 0), default=0)
    if rows < 3:
        raise PartError(f"torus needs n = rows x columns with 3 or more of each, as 9, 12, 15 or 16: got n={n}")
    node = np.arange(n).reshape(rows, -1)
    return NodeGraph(
        tuple(
            (int(one), int(other))
            for axis in (0, 1)
            for one, other in zip(node.ravel(), np.roll(node, -1, axis).ravel(), strict=True)
        )
    )
