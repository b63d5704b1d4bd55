"""Gradient ascent through the rule: rows of another attack, moved to where the rule's answer does the most harm."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from pydantic import Field

from byzax.attacks._distances import honest_distances
from byzax.attacks._search import MEASURE_NEEDS, MOST_EVALUATIONS, Measure, build_harm, length
from byzax.attacks.base import Array, Attack, Positive, State, View, check, honest_mean, nested
from byzax.options import Nested, OptionError, checked


class Ascent(NamedTuple):
    """The state of the ascent.

    Attributes:
        shift: `[n, d]`, or `[1, d]` for one shift of all, the best shift of the Byzantine rows so far.
        harm: The harm that it does.
        slope: The slope of the harm there, of the same shape.
        step: Length of the next step, in usual distances of an honest row from the mean.
    """

    shift: Array
    harm: Array
    slope: Array
    step: Array


@checked
def gradient_ascent(
    n: int,
    f: int,
    *,
    start: Nested = "little",
    steps: Annotated[int, Field(ge=1, le=MOST_EVALUATIONS)] = 10,
    step_size: Positive = 0.5,
    together: bool = True,
    measure: Measure = "distance",
) -> Attack:
    """Byzantine rows that climb the harm which the rule in use lets them do, from the rows of another attack.

    A step that does more harm is kept and the next one is twice as long; one that does not, or has no finite answer, is
    taken back and halved. So what is sent is never less harmful than the start, also where a rule selects and has no
    slope. Where a rule cannot be differentiated backwards (it iterates until it is done), the slope along one random
    direction in each step takes its place.

    Formula: x <- x + step * gradient / |gradient| of the harm of the rule's answer, while the harm grows
    Knows: all honest rows, the rule

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        start: The attack that forges the first rows: a name, `"file.py:name"`, its function, or a mapping whose `name`
            is one of these and whose other keys are options.
        steps: Number of times that the rule is asked and differentiated in one update, beside once for the start.
        step_size: Of the first step, in usual distances of an honest row from the mean.
        together: One shift for all Byzantine workers, whose rows support each other; or a shift for each.
        measure: The harm. distance: of the aggregate to the honest mean; cosine: minus that of their angle; loss: of
            the model that the server has after the update, on samples of the Byzantine workers.

    Returns:
        The attack, which forges rows, and poisons batches where the start does.

    Raises:
        PartError: Unless 0 <= f <= n, or for an unknown start.
        OptionError: For an option out of its range, or a start that forges no rows.

    References:
        byzax's own combination; ascent on the server's objective as in Shejwalkar and Houmansadr, NDSS 2021
    """
    check("gradient_ascent", n, f)
    name, make = nested("start", start)
    first = make(n, f)
    forge_first = first.forge
    if forge_first is None:
        raise OptionError("start", f"must be an attack that makes rows, such as little, got {name}, which makes none")

    def forge(key: Array, view: View, state: State) -> tuple[Array, State]:
        beginning, after = forge_first(key, view, state)
        mean, harm = honest_mean(view), build_harm(view, measure)
        wide = beginning.astype(mean.dtype)
        to_mean, _ = honest_distances(view)
        usual = jnp.sqrt(to_mean.sum() / jnp.maximum(view.known.sum(), 1))
        unit = jnp.where((usual > 0) & jnp.isfinite(usual), usual, length(mean))

        no_shift = jnp.zeros((1 if together else len(wide), wide.shape[1]), mean.dtype)
        slope_at, exact = _build_slope(lambda shift: harm(wide + shift), no_shift)

        def step(number: Array, best: Ascent) -> Ascent:
            sizes = jnp.sqrt(jnp.square(best.slope).sum(axis=1, keepdims=True))
            shift = best.shift + best.step * unit * best.slope / jnp.where(sizes > 0, sizes, 1)
            reached, slope = slope_at(shift, jax.random.fold_in(key, number))
            better = reached > best.harm
            return Ascent(
                jnp.where(better, shift, best.shift),
                jnp.where(better, reached, best.harm),
                # another direction, where only one is known
                jnp.where(better | (not exact), slope, best.slope),
                jnp.where(better, 2 * best.step, best.step / 2),
            )

        at_start = slope_at(no_shift, jax.random.fold_in(key, steps))
        best = lax.fori_loop(0, steps, step, Ascent(no_shift, *at_start, jnp.asarray(step_size, mean.dtype)))
        rows = jnp.where(best.shift == 0, beginning, (wide + best.shift).astype(view.rows.dtype))
        return jnp.where(view.byzantine[:, None], rows, view.rows), after

    return first._replace(
        least_known=1, forge=forge, questions=steps + 1 + first.questions, needs=MEASURE_NEEDS[measure] | first.needs
    )


SlopeAt = Callable[[Array, Array], tuple[Array, Array]]


def _build_slope(function: Callable[[Array], Array], at: Array) -> tuple[SlopeAt, bool]:
    """Gives `(shift, key) -> (harm, slope)`, and whether the slope is the gradient or that along a random direction."""

    def backwards(shift: Array, key: Array) -> tuple[Array, Array]:
        return jax.value_and_grad(function)(shift)

    def forwards(shift: Array, key: Array) -> tuple[Array, Array]:
        direction = jax.random.normal(key, shift.shape, shift.dtype)
        value, along = jax.jvp(function, (shift,), (direction,))
        return value, along * direction

    def make_finite(slope_at: SlopeAt) -> SlopeAt:
        def finite_slope(shift: Array, key: Array) -> tuple[Array, Array]:
            value, slope = slope_at(shift, key)
            # a common factor keeps squares in range
            largest = jnp.max(jnp.abs(slope))
            usable = jnp.isfinite(largest) & (largest > 0)
            return value, jnp.where(usable, slope / jnp.where(usable, largest, 1), 0)

        return finite_slope

    for slope_at in (backwards, forwards):
        try:
            jax.eval_shape(slope_at, at, jax.eval_shape(lambda: jax.random.key(0)))
        except (ValueError, NotImplementedError):
            # what JAX says of a loop until something is done, which has no way back, and of what it has no slope for
            continue
        return make_finite(slope_at), slope_at is backwards
    # a rule that calls what JAX does not see: only the start can be sent
    return lambda shift, key: (function(shift), jnp.zeros_like(shift)), True
