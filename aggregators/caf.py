"""The covariance-bound-agnostic filter (CAF; Allouah et al. 2025): a weighted mean."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import Aggregator, Array, Info, in_exchanges, require
from byzax.aggregators.kernels.columns import sort_columns
from byzax.aggregators.kernels.means import sum_of_differences
from byzax.aggregators.kernels.measures import distances_between
from byzax.aggregators.kernels.sharding import Steps
from byzax.aggregators.kernels.spectrum import leading_eigenpair
from byzax.options import checked

ROUNDING = 16  # times the spacing of numbers: rows as far as the farthest but for that lose their weight together


class FilterState(NamedTuple):
    """The state of the filter.

    Attributes:
        weights: `[n]`, before the next step.
        share: `[n]`, the share of each row where the eigenvalue was the smallest.
        smallest: The smallest eigenvalue so far.
        done: Whether no row stands out any more.
    """

    weights: Array
    share: Array
    smallest: Array
    done: Array


@checked
def caf(n: int, f: int) -> Aggregator:
    """The weighted mean of least spread among those of a filter that lowers the weights of far rows step by step.

        c = 1; while the sum of c is above n - 2f:
            mu = weighted mean, (lambda, v) = first eigenpair of weighted covariance; mu is kept if lambda is smallest
            c_i = c_i (1 - t_i / max t),  t_i = <v, x_i - mu>² (max over c_i > 0)

    Condition: n >= 2f + 1
    Cost: O(n² d), and O(n³) for each of at most 2f + 1 steps; O(n²) times 100 or so for many rows

    The spread is the largest eigenvalue of the weighted covariance: the variance along the direction v in which the
    rows differ most. A step lowers the weight of each row by its squared distance from the mean along v; of the means
    of all steps the one of least spread is kept. Every step takes the weight of at least one row away, so that there
    are at most 2f + 1, whatever the outliers. All eigenvectors come from one n by n matrix. Rows with a NaN or infinite
    entry have no weight from the start.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.

    Returns:
        The rule. Weights: c over its sum, at the mean that is kept.

    Raises:
        PartError: For f < 0, or n < 2f + 1.

    References:
        Allouah, Guerraoui and Stephan, ICML 2025, "Towards Trustworthy Federated Learning with Untrusted Participants",
        algorithm 2
    """
    least_rows = require("caf", n, f, factor=2, offset=1)

    def steps(rows: Array) -> Steps[tuple[Array, Info]]:
        squared, finite, _ = yield distances_between(rows)
        pairs = finite[:, None] & finite[None, :]
        spacing = jnp.finfo(rows.dtype).eps
        # Far rows go first, wherever they are; nearer, they leave the digits of the others alone, whose weights they
        # change by less than rounding. Their unit is the median row's median distance, which f rows cannot move.
        half = jnp.sum(finite) // 2
        usual = jnp.sort(sort_columns(jnp.where(pairs, squared, jnp.inf))[half])[half]
        squared = jnp.where(pairs, jnp.minimum(squared, jnp.where(usual > 0, usual, 1) / spacing), 0)

        def step(state: FilterState) -> FilterState:
            share = state.weights / jnp.sum(state.weights)
            # products of the rows, seen from their weighted mean, from their distances alone
            to_mean = squared @ share - 0.5 * (share @ squared @ share)
            products = 0.5 * (to_mean[:, None] + to_mean[None, :] - squared)
            root = jnp.sqrt(share)
            value, vector = leading_eigenpair(root[:, None] * products * root[None, :])
            along = products @ (root * vector)  # <v, x_i - mu> up to a common factor
            distance = jnp.where(state.weights > 0, along**2, 0)
            largest = jnp.max(distance)
            better = value < state.smallest
            reduced = state.weights * (1 - distance / jnp.where(largest > 0, largest, 1))
            return FilterState(
                weights=jnp.where(distance >= (1 - ROUNDING * spacing) * largest, 0, reduced),
                share=jnp.where(better, share, state.share),
                smallest=jnp.where(better, value, state.smallest),
                done=largest <= 0,
            )

        def unfinished(state: FilterState) -> Array:
            return (jnp.sum(state.weights) > n - 2 * f) & ~state.done

        start = jnp.where(finite.any(), finite, True).astype(rows.dtype)
        first = FilterState(start, start / jnp.sum(start), jnp.asarray(jnp.inf, rows.dtype), jnp.asarray(False))
        share = lax.while_loop(unfinished, step, first).share
        reference = rows[jnp.argmax(share)]
        return reference + sum_of_differences(jnp.where((share > 0)[:, None], rows, reference), share, reference), Info(
            share
        )

    return in_exchanges(n, steps, 1, linear=True, least_rows=least_rows)
