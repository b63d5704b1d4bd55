"""Gradient tracking: each node follows the mean row of all, by the changes of its own row and what neighbours track."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from byzax.simulator.events import NodeEvent
from byzax.simulator.messages import stack_rows
from byzax.simulator.receivers import EdgeWeights


class Tracker(NamedTuple):
    """The estimate of a node.

    Attributes:
        direction: `[d]`, its estimate of the mean row; after a round that of its neighbours and itself, mixed.
        row: `[d]`, its own row of the round before.
    """

    direction: Any
    row: Any


def start_tracker(d: int) -> Tracker:
    """The estimate of a node before the first round, of rows `[d]`."""
    return Tracker(jnp.zeros(d), jnp.zeros(d))


@jax.jit
def follow_row(tracker: Tracker, row: Any) -> Tracker:
    """The estimate of a node once it has computed its row `[d]` of a round."""
    return Tracker(tracker.direction + (row - tracker.row), row)


def mix_directions(weights: EdgeWeights, event: NodeEvent, directions: Sequence[Any]) -> jax.Array:
    """The sum of the estimates of neighbours, by the weights of edges.

    Args:
        weights: The weights, which are given.
        event: The event of the node.
        directions: The estimates of its neighbours and its own, `[d]` each.

    Returns:
        `[d]`.
    """
    shares = jnp.asarray(weights.given, jnp.float32)[event.node][event.senders]
    return _sum(shares, stack_rows(directions))


@jax.jit
def _sum(shares: jax.Array, rows: jax.Array) -> jax.Array:
    return jnp.matmul(shares, rows, precision=jax.lax.Precision.HIGHEST)
