"""The aggregate of an update: the rows that the rule sees of those that came, and its application to them."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from byzax.aggregators import Aggregator, Info
from byzax.simulator.compilation import compiled_once
from byzax.simulator.context import ServerKnowledge, with_server_row
from byzax.simulator.schedules.base import Weight

Array = jax.Array
State = Any


class RowsForRule(Protocol):
    """Makes the rows that the rule sees."""

    def __call__(self, rows: Array, workers: Array, ages: Array, /) -> Array:
        """The rows that the rule sees.

        Args:
            rows: `[m, d]`, new and kept rows.
            workers: `[m]`, their workers, -1 where no row is.
            ages: `[m]`, their ages in updates.

        Returns:
            `[num_rows, d]`: the rows times the factors of their ages, or their means in buckets.
        """
        ...


class ShareWeights(Protocol):
    """Shares the weights of the rows that the rule saw among the rows behind them."""

    def __call__(self, weights: Array, workers: Array, /) -> Array:
        """The weight of each row.

        Args:
            weights: `[num_rows]`, the rule's weights.
            workers: `[m]`, the workers of the rows, -1 where no row is.

        Returns:
            `[m]`; in buckets the rows of one have equal parts of its weight.
        """
        ...


class RuleInput(NamedTuple):
    """The rows that the rule sees, made of the new and kept rows of an update.

    Attributes:
        num_rows: Number of rows that the rule sees.
        make_rows: Makes these rows.
        share_weights: Shares the rule's weights among the rows behind them.
        factors: Gives the factors `[m]` of rows by their ages `[m]` in updates.
    """

    num_rows: int
    make_rows: RowsForRule
    share_weights: ShareWeights
    factors: Weight


@compiled_once
def build_rule_input(sees: str, buckets: int, weight: Weight | None, num_rows: int) -> RuleInput:
    """Builds the input of the rule.

    Args:
        sees: "rows", "table" or "buckets", as in `Schedule`.
        buckets: Number of buckets, with "buckets".
        weight: Gives the factors of rows by their ages; None for 1.
        num_rows: Number of rows that the rule sees.

    Returns:
        The functions that make the input.
    """

    def factors(ages: Array) -> Array:
        ages = jnp.asarray(ages).astype(float)
        return jnp.ones_like(ages) if weight is None else weight(ages)

    def make_rows(rows: Array, workers: Array, ages: Array) -> Array:
        if weight is not None:
            rows = rows * weight(ages.astype(rows.dtype))[:, None]
        return _bucket_means(rows, workers, buckets) if sees == "buckets" else rows

    def share_weights(weights: Array, workers: Array) -> Array:
        if sees != "buckets":
            return weights
        place, counts = _in_buckets(workers, buckets)
        return jnp.where(workers < 0, 0, weights[workers % buckets] / counts[place].astype(weights.dtype))

    return RuleInput(num_rows, make_rows, share_weights, factors)


def _in_buckets(workers: Array, buckets: int) -> tuple[Array, Array]:
    """The bucket of each row `[r]` and the rows in each `[buckets + 1]`, the last for places without a row."""
    place = jnp.where(workers < 0, buckets, workers % buckets)
    return place, jax.ops.segment_sum(jnp.ones(len(workers), jnp.float32), place, buckets + 1)


def _bucket_means(rows: Array, workers: Array, buckets: int) -> Array:
    """The mean of the rows in each bucket `[buckets, d]`."""
    place, counts = _in_buckets(workers, buckets)
    return jax.ops.segment_sum(rows, place, buckets + 1)[:buckets] / counts[:buckets, None].astype(rows.dtype)


class ApplyRule(Protocol):
    """Applies the rule in use."""

    def __call__(
        self, rows: Array, state: State, known: ServerKnowledge, samples: Array, /
    ) -> tuple[Array, State, Info]:
        """The aggregate of rows.

        Args:
            rows: `[m, d]`, as the rule sees them.
            state: State of the rule, as in `Server`.
            known: The server's knowledge beside the rows.
            samples: `[m]`, the number of samples behind each row.

        Returns:
            The aggregate `[d]`, the state after it, and diagnostics.
        """
        ...


@compiled_once
def build_apply_rule(rule: Aggregator, weights: str, remembers: bool) -> ApplyRule:
    """Builds the application of a rule.

    Where rows weigh by samples, the rule's weights are multiplied by the numbers of samples, and their sum stays as it
    is: FedAvg, where the rule is the average.

    Args:
        rule: The rule.
        weights: "equal" or "samples".
        remembers: Whether the server remembers its own rows for the rule.

    Returns:
        The function that applies the rule.
    """

    def plain(rows: Array, state: State, known: ServerKnowledge, samples: Array) -> tuple[Array, State, Info]:
        context, own, put = with_server_row(known, state, remembers)
        aggregate, after, info = rule.apply(rows, own, context)
        return aggregate, put(after), info

    if weights == "equal":
        return plain

    def by_samples(rows: Array, state: State, known: ServerKnowledge, samples: Array) -> tuple[Array, State, Info]:
        aggregate, state, info = plain(rows, state, known, samples)
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
        return weighted, state, info._replace(weights=shared)

    return by_samples
