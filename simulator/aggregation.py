"""The aggregate of an update: the rows that the rule sees of those that came, and its application to them."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from byzax.aggregators import Aggregator, Info
from byzax.simulator.compilation import compiled_once
from byzax.simulator.context import ServerKnowledge, with_server_row
from byzax.simulator.schedules.base import Weight

Array = jax.Array
State = Any


class Aggregate(Protocol):
    """Aggregates the rows of an update."""

    def __call__(
        self,
        rows: Array,
        workers: Array,
        ages: Array,
        samples: Array,
        state: State,
        known: ServerKnowledge,
        /,
    ) -> tuple[Array, State, Info]:
        """The aggregate of rows.

        Args:
            rows: `[m, d]`, new and kept rows.
            workers: `[m]`, their workers, -1 where no row is.
            ages: `[m]`, their ages in updates.
            samples: `[m]`, the number of samples behind each.
            state: State of the rule, as in `Server`.
            known: The server's knowledge beside the rows.

        Returns:
            The aggregate `[d]`, the state after it, and diagnostics, of which the weights `[m]` are those of these
            rows as the rule saw them: without the factors of their ages.
        """
        ...


@compiled_once
def build_aggregate(rule: Aggregator, weight: Weight | None, buckets: int, weighed: bool, remembers: bool) -> Aggregate:
    """Builds the aggregation of rows: factors by their ages, means in buckets, the rule, weights by samples.

    Where rows weigh by samples, the rule's weights are multiplied by the numbers of samples, and their sum stays as it
    is: FedAvg, where the rule is the average.

    Args:
        rule: The rule.
        weight: Gives the factors of rows by their ages; None for 1.
        buckets: Number of buckets whose means the rule sees; 0 where it sees the rows.
        weighed: Whether rows weigh by samples.
        remembers: Whether the server remembers its own rows for the rule.

    Returns:
        The function that aggregates.
    """

    def aggregate(
        rows: Array, workers: Array, ages: Array, samples: Array, state: State, known: ServerKnowledge
    ) -> tuple[Array, State, Info]:
        if weight is not None:
            rows = rows * weight(ages.astype(rows.dtype))[:, None]
        if buckets:
            place, counts = _in_buckets(workers, buckets)
            rows = jax.ops.segment_sum(rows, place, buckets + 1)[:buckets] / counts[:buckets, None].astype(rows.dtype)
        context, own, put = with_server_row(known, state, remembers)
        made, after, info = rule.apply(rows, own, context)
        if weighed:
            made, info = _weigh_by_samples(rows, made, info, samples)
        if buckets and info.weights is not None:
            # the rows of one bucket have equal parts of its weight
            place, counts = _in_buckets(workers, buckets)
            shared = info.weights[workers % buckets] / counts[place].astype(info.weights.dtype)
            info = info._replace(weights=jnp.where(workers < 0, 0, shared))
        return made, put(after), info

    return aggregate


def _in_buckets(workers: Array, buckets: int) -> tuple[Array, Array]:
    """The bucket of each row `[m]` and the rows in each `[buckets + 1]`, the last for places without a row."""
    place = jnp.where(workers < 0, buckets, workers % buckets)
    return place, jax.ops.segment_sum(jnp.ones(len(workers), jnp.float32), place, buckets + 1)


def _weigh_by_samples(rows: Array, aggregate: Array, info: Info, samples: Array) -> tuple[Array, Info]:
    weights = info.weights
    assert weights is not None
    shared = weights * samples
    total = shared.sum()
    shared = jnp.where(total > 0, shared * (weights.sum() / total), weights).astype(rows.dtype)
    # a row without weight may be infinite
    sound = jnp.where((shared != 0)[:, None], rows, 0)
    weighted = jnp.matmul(shared, sound, precision=jax.lax.Precision.HIGHEST)
    if info.undecided is not None:
        weighted = jnp.where(info.undecided, aggregate, weighted)
    return weighted, info._replace(weights=shared)
