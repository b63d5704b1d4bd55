"""Uphill through the rule."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from byzax.attacks._distances import honest_distances
from byzax.attacks._search import MOST_EVALUATIONS, check_measure, harm, length
from byzax.attacks.base import Array, Attack, State, View, check, honest_mean


class Climb(NamedTuple):
    """The best shift of the Byzantine rows so far, its harm, the slope there `[n or 1, d]` and the length of a step."""

    shift: Array
    harm: Array
    slope: Array
    step: Array


def gradient_ascent(
    n: int,
    f: int,
    *,
    start: str = "little",
    steps: int = 10,
    step_size: float = 0.5,
    together: bool = True,
    measure: Literal["distance", "cosine", "loss"] = "distance",
) -> Attack:
    """Byzantine rows that climb the harm which the rule in use lets them do, from the rows of another attack.

    A step that does more harm is kept and the next one is twice as long; one that does not, or has no finite answer, is
    taken back and halved. So what is sent is never less harmful than the start, also where a rule selects and has no
    slope. Where a rule cannot be differentiated backwards (it iterates until it is done), the slope along one random
    direction in each step takes its place.

    Formula: x <- x + step * gradient / |gradient| of the harm of the rule's answer, while the harm grows
    Knows: all honest rows, the rule
    Source: byzax's own combination; ascent on the server's objective as in Shejwalkar and Houmansadr, NDSS 2021

    Args:
        start: the name of an attack that makes the first rows, with its default options.
        steps: how often the rule is asked and differentiated in one update, beside once for the start.
        step_size: of the first step, in usual distances of an honest row from the mean.
        together: one shift for all liars, whose rows support each other; or a shift for each.
        measure: the harm. distance: of the aggregate to the honest mean; cosine: minus that of their angle; loss: of
            the model that the server has after the update, on samples of the Byzantine workers.

    Raises:
        ValueError: unless 0 <= f <= n, step_size > 0, for an unknown measure, steps outside
            1..1000, an unknown start or one that makes no rows.
    """
    # only here: the package finds this file by name
    from byzax.attacks import factory

    check("gradient_ascent", n, f)
    check_measure("gradient_ascent", measure)
    if not 1 <= steps <= MOST_EVALUATIONS:
        raise ValueError(f"gradient_ascent needs steps in 1..{MOST_EVALUATIONS}, got {steps}")
    if not step_size > 0:
        raise ValueError(f"gradient_ascent needs step_size > 0, got {step_size}")
    first = factory(start)(n, f)
    forge_first = first.forge
    if forge_first is None:
        raise ValueError(f"gradient_ascent starts from an attack that makes rows, and {start} makes none")

    def forge(key: Array, view: View, state: State) -> tuple[Array, State]:
        beginning, after = forge_first(key, view, state)
        mean, harm_of = honest_mean(view), harm(view, measure)
        wide = beginning.astype(mean.dtype)
        to_mean, _ = honest_distances(view)
        usual = jnp.sqrt(to_mean.sum() / jnp.maximum(view.known.sum(), 1))
        unit = jnp.where((usual > 0) & jnp.isfinite(usual), usual, length(mean))

        nowhere = jnp.zeros((1 if together else len(wide), wide.shape[1]), mean.dtype)
        slope_of, exact = _slope(lambda shift: harm_of(wide + shift), nowhere)

        def step(number: Array, best: Climb) -> Climb:
            sizes = jnp.sqrt(jnp.square(best.slope).sum(axis=1, keepdims=True))
            shift = best.shift + best.step * unit * best.slope / jnp.where(sizes > 0, sizes, 1)
            reached, slope = slope_of(shift, jax.random.fold_in(key, number))
            better = reached > best.harm
            return Climb(
                jnp.where(better, shift, best.shift),
                jnp.where(better, reached, best.harm),
                # another direction, where only one is known
                jnp.where(better | (not exact), slope, best.slope),
                jnp.where(better, 2 * best.step, best.step / 2),
            )

        at_start = slope_of(nowhere, jax.random.fold_in(key, steps))
        best = lax.fori_loop(0, steps, step, Climb(nowhere, *at_start, jnp.asarray(step_size, mean.dtype)))
        rows = jnp.where(best.shift == 0, beginning, (wide + best.shift).astype(view.rows.dtype))
        return jnp.where(view.byzantine[:, None], rows, view.rows), after

    questions = steps + 1 + first.questions
    return Attack(init=first.init, forge=forge, corrupt=first.corrupt, goal=first.goal, questions=questions)


def _slope(of: Callable[[Array], Array], at: Array) -> tuple[Callable[[Array, Array], tuple[Array, Array]], bool]:
    """Gives `(shift, key) -> (harm, slope)`, and whether the slope is the gradient or that along a random direction."""

    def backwards(shift: Array, key: Array) -> tuple[Array, Array]:
        return jax.value_and_grad(of)(shift)

    def forwards(shift: Array, key: Array) -> tuple[Array, Array]:
        direction = jax.random.normal(key, shift.shape, shift.dtype)
        value, along = jax.jvp(of, (shift,), (direction,))
        return value, along * direction

    def usable_parts(slope_of: Callable[[Array, Array], tuple[Array, Array]]) -> Callable[..., tuple[Array, Array]]:
        def finite(shift: Array, key: Array) -> tuple[Array, Array]:
            value, slope = slope_of(shift, key)
            # a common factor keeps squares in range
            largest = jnp.max(jnp.abs(slope))
            usable = jnp.isfinite(largest) & (largest > 0)
            return value, jnp.where(usable, slope / jnp.where(usable, largest, 1), 0)

        return finite

    for slope_of in (backwards, forwards):
        try:
            jax.eval_shape(slope_of, at, jax.eval_shape(lambda: jax.random.key(0)))
        except (ValueError, NotImplementedError):
            # what JAX says of a loop until something is done, which has no way back, and of what it has no slope for
            continue
        return usable_parts(slope_of), slope_of is backwards
    # a rule that calls what JAX does not see: only the start can be sent
    return lambda shift, key: (of(shift), jnp.zeros_like(shift)), True
