"""Searches that ask the rule in use: the harm that rows do, and the strength of an attack that does the most."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, NamedTuple

import jax.numpy as jnp
from jax import lax
from pydantic import Field

from byzax.attacks.base import ASKS_RULE, Array, Need, View, honest_mean, num_rows
from byzax.options import PartError

# the next point lies at this share of the wider side of a bracket: golden section
GOLDEN = (3 - 5**0.5) / 2
MOST_EVALUATIONS = 1000  # one compiled loop, which no signal ends

Evaluations = Annotated[int, Field(ge=4, le=MOST_EVALUATIONS)]
Measure = Literal["distance", "cosine", "loss"]
# the functions of a view that measuring harm calls
MEASURE_NEEDS: Mapping[Measure, frozenset[Need]] = {
    "distance": ASKS_RULE,
    "cosine": ASKS_RULE,
    "loss": frozenset({"ask_rule", "loss", "after"}),
}


def length(vector: Array) -> Array:
    """The Euclidean norm of a vector `[d]`, also where its square is no float."""
    largest = jnp.max(jnp.abs(vector))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    squares = jnp.square(vector / scale).sum()
    # the root of 0 has no slope, and 0 times infinity is NaN
    return scale * jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), squares)


def build_harm(view: View, measure: Measure = "distance") -> Callable[[Array], Array]:
    """The harm of Byzantine rows, measured at the answer of the rule in use.

    Args:
        view: The update.
        measure: distance, of the aggregate to the honest mean; cosine, minus that of the angle between the two; loss,
            of the model that the server has after the update.

    Returns:
        A function of rows `[n, d]`, of which only the Byzantine ones count. It gives a scalar: -infinity, which never
        wins, where the harm is no finite number.
    """
    mean = honest_mean(view)

    def harm(rows: Array) -> Array:
        attempt = jnp.where(view.byzantine[:, None], rows.astype(view.rows.dtype), view.rows)
        aggregate = view.ask_rule(attempt).aggregate.astype(mean.dtype)
        if measure == "loss":
            if view.after is None:
                raise PartError("the measure loss needs a view with `after`, the model that an aggregate leads to")
            found = view.loss(view.after(aggregate)).astype(mean.dtype)
        elif measure == "cosine":
            sizes = length(aggregate), length(mean)
            one, other = (
                vector / jnp.where(size > 0, size, 1) for vector, size in zip((aggregate, mean), sizes, strict=True)
            )
            found = -jnp.vdot(one, other)
        else:
            found = length(aggregate - mean)
        return jnp.where(jnp.isfinite(found), found, -jnp.inf)

    return harm


class Bracket(NamedTuple):
    """The state of a search for the strength that does the most harm.

    Attributes:
        low: A strength below the best; a better one may lie between the two.
        best: The best strength so far.
        high: A strength above the best, likewise.
        harm: The harm of the best.
    """

    low: Array
    best: Array
    high: Array
    harm: Array


def find_strongest(harm: Callable[[Array], Array], evaluations: int, middle: float = 1.0) -> Array:
    """The strength that does the most harm of those that are tried.

    The first half of the evaluations are doublings, `middle` among them, all of which are tried: for a rule that throws
    rows out from some strength on, harm is not unimodal, and a climb that starts at a strength which is thrown out
    leads nowhere. The others are golden section between the neighbours of the best.

    Args:
        harm: The harm of a strength, both scalars.
        evaluations: Number of strengths that are tried.
        middle: The strength in the middle of the doublings.

    Returns:
        The strength, a scalar; `middle` where no harm is finite.
    """
    doublings = evaluations // 2

    def attempt(number: Array, found: Bracket) -> Bracket:
        bracketing = number < doublings
        upwards = found.high - found.best > found.best - found.low
        inner = jnp.where(
            upwards,
            found.best + GOLDEN * (found.high - found.best),
            found.best - GOLDEN * (found.best - found.low),
        )
        strength = jnp.where(bracketing, middle * jnp.exp2(jnp.asarray(number - doublings // 2, inner.dtype)), inner)
        reached = harm(strength).astype(inner.dtype)
        better = reached > found.harm
        low = jnp.where(bracketing, strength / 2, jnp.where(upwards, found.best, found.low))
        high = jnp.where(bracketing, strength * 2, jnp.where(upwards, found.high, found.best))
        # a worse strength is the new end of its side
        kept_low = jnp.where(bracketing | upwards, found.low, strength)
        kept_high = jnp.where(bracketing | ~upwards, found.high, strength)
        return Bracket(
            jnp.where(better, low, kept_low),
            jnp.where(better, strength, found.best),
            jnp.where(better, high, kept_high),
            jnp.where(better, reached, found.harm),
        )

    first = jnp.asarray(middle, float)
    start = Bracket(first / 2, first, first * 2, jnp.full_like(first, -jnp.inf))
    return lax.fori_loop(0, evaluations, attempt, start).best


def find_farthest(accepted: Callable[[Array], Array], most: Array, evaluations: int) -> Array:
    """The largest size up to `most` that is accepted, by bisection.

    `most` itself is tried first, then halves of it until one is accepted, then sizes between that and the next larger
    one that is not. With k evaluations the result is right to most / 2^(k-1).

    Args:
        accepted: Whether a size, a scalar, is accepted.
        most: The largest size to try, a scalar.
        evaluations: Number of sizes that are tried.

    Returns:
        The size, a scalar; the smallest of those tried where none is accepted.
    """

    def attempt(number: Array, limits: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = limits
        middle = jnp.where(number == 0, most, low + (high - low) / 2)
        fits = accepted(middle)
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    low, high = lax.fori_loop(0, evaluations, attempt, (jnp.zeros_like(most), most))
    return jnp.where(low > 0, low, high)


def build_acceptance(view: View, share: float | None) -> Callable[[Array, Array], Array]:
    """Builds the test of whether the rule in use accepts rows.

    The part of the tried rows in the aggregate is what is left of it without the other rows, each times its weight; a
    rule that gives its rows no weights is taken to put all of them at the honest mean. The rule accepts the tried rows
    where that part reaches at least `share` of the way from the honest mean to their place. So a rule that selects
    accepts a row if it selects it, and not where it selects an honest row that happens to lie on that side; an average
    of m selected rows accepts k of them with a share up to k / m.

    Where the aggregate is not the weighted mean of the rows (bulyan, trimmed means), the part also holds what the rule
    chooses of honest values: the sizes that are accepted are then no single interval, and a bisection ends at the upper
    end of one of them. To go by the weights alone would accept what such a rule cuts off: Bulyan selects rows that are
    equal however far they are, and then leaves their values out.

    Args:
        view: The update. Its Byzantine rows that are new are tried; all others are at the server already.
        share: 1 is all of the way, b / n what b of n averaged rows go; None for half of what an average does.

    Returns:
        A function of `rows` `[n, d]`, of which only the tried ones count, and their place `[d]`; it gives a truth
        value.
    """
    mean, tried = honest_mean(view), view.byzantine & view.new
    least = tried.sum() / (2 * num_rows(view)) if share is None else share
    # a share that is met exactly, such as that of one of m averaged rows, is met in spite of rounding
    least = least * (1 - 1e-3)

    def accepts(rows: Array, place: Array) -> Array:
        answer = view.ask_rule(jnp.where(view.byzantine[:, None], rows.astype(view.rows.dtype), view.rows))
        aggregate, way = answer.aggregate.astype(mean.dtype), place - mean
        if answer.weights is None:
            part = aggregate - mean
        else:
            weights = answer.weights.astype(mean.dtype)
            # the aggregate is the weighted mean of the rows: seen from the honest mean nothing large is cancelled
            others = jnp.where((weights != 0) & ~tried, weights, 0)
            apart = jnp.where((others != 0)[:, None], answer.rows.astype(mean.dtype) - mean, 0)
            part = aggregate - weights.sum() * mean - jnp.matmul(others, apart, precision=lax.Precision.HIGHEST)
        largest = jnp.max(jnp.abs(way))
        scale = jnp.where(largest > 0, largest, 1)
        return jnp.vdot(part / scale, way / scale) >= least * jnp.square(way / scale).sum()

    return accepts
