"""Ways to build a mixing."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from byzax.aggregators.base import (
    Aggregator,
    Array,
    Context,
    Info,
    LeastRows,
    Need,
    Neighbourhood,
    State,
    check_rows,
)


class Models(NamedTuple):
    """The models that a node mixes.

    Attributes:
        rows: `[n, d]`, those that it received and its own, float32 or wider.
        own: `[d]`, its own.
        around: The place of its own row, the weights of edges, and the Byzantine rows.
        context: The node's knowledge beside the models.
    """

    rows: Array
    own: Array
    around: Neighbourhood
    context: Context


def require_neighbourhood(mixing: str, context: Context | None) -> Context:
    """The context of a node. Raises ValueError without a neighbourhood in it.

    Args:
        mixing: Name of the mixing, for the message.
        context: The context that it was given.
    """
    if context is None or context.neighbourhood is None:
        raise ValueError(
            f"{mixing} mixes the models of neighbours: in a scenario topology gossip with mixing {mixing}, from Python "
            "apply(models, state, Context(key, neighbourhood=Neighbourhood(own, weights, byzantine)))"
        )
    return context


def models_of(rows: Array, context: Context) -> Models:
    """The models that a node mixes.

    Args:
        rows: `[n, d]`, as they were received.
        context: The context, with a neighbourhood.

    Returns:
        The models.
    """
    around = context.neighbourhood
    assert around is not None
    wide = jnp.asarray(rows).astype(jnp.promote_types(rows.dtype, jnp.float32))
    return Models(wide, wide[jnp.argmax(around.own)], around, context)


def mixing_without_state(
    name: str,
    n: int,
    mix: Callable[[Models], tuple[Array, Info]],
    *,
    linear: bool = False,
    least_rows: LeastRows,
    needs: frozenset[Need] = frozenset(),
    weighs: bool = False,
) -> Aggregator:
    """Builds a mixing without state.

    Args:
        name: Its name, for messages.
        n: Number of models.
        mix: From the models the next model `[d]`, and an `Info`.
        linear: As in `Aggregator`.
        least_rows: As in `Aggregator`.
        needs: As in `Aggregator`.
        weighs: As in `Aggregator`.

    Returns:
        The mixing, a rule whose `apply` raises ValueError without a context that has a neighbourhood.
    """

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        mixed, info = mix(models_of(rows, require_neighbourhood(name, context)))
        return mixed.astype(rows.dtype), state, info

    return Aggregator(lambda d: (), apply, linear=linear, least_rows=least_rows, needs=needs, weighs=weighs)
