"""ROP (Özfatura et al. 2024): against centred clipping, a step aside of the last aggregates."""

import math
from typing import Annotated, NamedTuple

import jax.numpy as jnp
from pydantic import Field

from byzax.attacks._search import length
from byzax.attacks.base import ASKS_RULE, Array, Attack, Finite, Fraction, View, check, honest_mean
from byzax.attacks.little import default_z
from byzax.options import checked


class RopState(NamedTuple):
    """The memory of the attackers.

    Attributes:
        aggregate: `[d]`, the last aggregate as the adversary expects it.
        any: Whether there was one.
    """

    aggregate: Array
    any: Array


@checked
def rop(
    n: int,
    f: int,
    *,
    z: Finite | None = None,
    location: Fraction = 1.0,
    reference: Fraction = 0.9,
    angle: Annotated[float, Field(ge=0, le=180)] = 90.0,
) -> Attack:
    """All Byzantine rows stand at the centre of the server's clipping, moved in the same direction at every update.

    Centred clipping bounds how far a row lies from the last aggregate and not in which direction: what is orthogonal to
    the gradient is let in and adds up over time.

    Formula: a + z u; a = location * m + (1 - location) * mean, m the last aggregate; u = (1, ..., 1) made orthogonal to
        r = reference * m + (1 - reference) * mean, turned towards r to the angle, of length 1
    Knows: all honest rows, the rule

    As in the authors' code; before there was an aggregate m is 0 and r the mean. The last aggregate is what the rule
    gave for the rows that were sent, as far as an adversary can know: a rule that draws has drawn otherwise.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        z: Length of the perturbation. None: the z of little.
        location: 1 is at the last aggregate, 0 at the honest mean. The authors' code now has 1 by default, and had 0.
        reference: The vector that the perturbation is orthogonal to: 1 the last aggregate, 0 the honest mean.
        angle: In degrees, between perturbation and reference: 90 is orthogonal, 180 against it. Their 270 is a z below
            0 at 90.

    Returns:
        The attack, which forges rows and has a state.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range, or without z where little has none.

    References:
        Özfatura, Özfatura, Küpçü and Gündüz, IEEE Transactions on Information Forensics and Security 2024, "Byzantines
            can also learn from history: fall of centered clipping in federated learning"
    """
    check("rop", n, f)
    size = z if z is not None else default_z(n, f)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))

    def init(d: int) -> RopState:
        return RopState(jnp.zeros(d), jnp.asarray(False))

    def forge(key: Array, view: View, state: RopState) -> tuple[Array, RopState]:
        mean = honest_mean(view)
        last = state.aggregate.astype(mean.dtype)
        r = _unit(jnp.where(state.any, reference * last + (1 - reference) * mean, mean))
        ones = jnp.ones_like(mean)
        orthogonal = _unit(ones - jnp.vdot(ones, r) * r)
        row = location * last + (1 - location) * mean + size * _unit(sine * orthogonal + cosine * r)
        rows = jnp.where(view.byzantine[:, None], row.astype(view.rows.dtype), view.rows)
        aggregate = view.ask_rule(rows).aggregate.astype(state.aggregate.dtype)
        finite = jnp.isfinite(aggregate).all()
        return rows, RopState(jnp.where(finite, aggregate, state.aggregate), state.any | finite)

    return Attack(init=init, forge=forge, questions=1, needs=ASKS_RULE, reads_own=False)


def _unit(vector: Array) -> Array:
    size = length(vector)
    return vector / jnp.where(size > 0, size, 1)
