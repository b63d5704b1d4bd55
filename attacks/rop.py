"""Off to the side of what the server remembers."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from byzax.attacks._search import length
from byzax.attacks.base import Array, Attack, View, check, honest_mean
from byzax.attacks.little import default_z


class Memory(NamedTuple):
    """The last `aggregate` `[d]` as the adversary expects it, and whether there was one."""

    aggregate: Array
    any: Array


def rop(
    n: int,
    f: int,
    *,
    z: float | None = None,
    location: float = 1.0,
    reference: float = 0.9,
    angle: float = 90.0,
) -> Attack:
    """All Byzantine rows stand where the server looks from, moved to the side in the same direction at every update.

    Centred clipping bounds how far a row lies from the last aggregate and not in which direction: what is orthogonal to
    the gradient is let in and adds up over time.

    Formula: a + z u; a = location * m + (1 - location) * mean, m the last aggregate; u = (1, ..., 1) made orthogonal to
        r = reference * m + (1 - reference) * mean, turned towards r to the angle, of length 1
    Knows: all honest rows, the rule
    Source: Özfatura, Özfatura, Küpçü and Gündüz, IEEE Transactions on Information Forensics and Security 2024,
        "Byzantines can also learn from history: fall of centered clipping in federated learning"

    As in the authors' code; before there was an aggregate m is 0 and r the mean. The last aggregate is what the rule
    gave for the rows that were sent, as far as an adversary can know: a rule that draws has drawn otherwise.

    Args:
        z: length of the perturbation; None takes the z of little.
        location: 1 is at the last aggregate, 0 at the honest mean. The authors' code now has 1 by default, and had 0.
        reference: what the perturbation is orthogonal to: 1 the last aggregate, 0 the honest mean.
        angle: in degrees, between perturbation and reference: 90 is orthogonal, 180 against it. Their 270 is a z below
            0 at 90.

    Raises:
        ValueError: unless 0 <= f <= n, for a location or reference outside [0, 1], an angle outside [0, 180], or
            without z where little has none.
    """
    check("rop", n, f)
    for option, value in (("location", location), ("reference", reference)):
        if not 0 <= value <= 1:
            raise ValueError(f"rop needs 0 <= {option} <= 1, got {value}")
    if not 0 <= angle <= 180:
        raise ValueError(f"rop needs an angle in [0, 180] degrees, got {angle}")
    size = z if z is not None else default_z(n, f)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))

    def init(d: int) -> Memory:
        return Memory(jnp.zeros(d), jnp.asarray(False))

    def forge(key: Array, view: View, memory: Memory) -> tuple[Array, Memory]:
        mean = honest_mean(view)
        last = memory.aggregate.astype(mean.dtype)
        seen_from = _unit(jnp.where(memory.any, reference * last + (1 - reference) * mean, mean))
        ones = jnp.ones_like(mean)
        aside = _unit(ones - jnp.vdot(ones, seen_from) * seen_from)
        row = location * last + (1 - location) * mean + size * _unit(sine * aside + cosine * seen_from)
        rows = jnp.where(view.byzantine[:, None], row.astype(view.rows.dtype), view.rows)
        aggregate = view.ask_rule(rows).aggregate.astype(memory.aggregate.dtype)
        finite = jnp.isfinite(aggregate).all()
        return rows, Memory(jnp.where(finite, aggregate, memory.aggregate), memory.any | finite)

    return Attack(init=init, forge=forge, questions=1)


def _unit(vector: Array) -> Array:
    found = length(vector)
    return vector / jnp.where(found > 0, found, 1)
