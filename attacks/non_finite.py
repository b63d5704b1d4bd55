"""Lost or broken numbers (Damaskinos et al. 2019): rows of NaN, infinity or huge numbers."""

from typing import Literal

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, View, check, rank, stateless
from byzax.options import checked

VALUES = {"nan": jnp.nan, "inf": jnp.inf, "-inf": -jnp.inf}
HUGE = 1e30  # finite, but its square is not in float32


@checked
def non_finite(n: int, f: int, *, value: Literal["nan", "inf", "-inf", "mixed"] | float = "nan") -> Attack:
    """Byzantine rows full of NaN, infinity or a huge number, as from a crash or a broken wire.

    Formula: the value at every coordinate; "mixed": NaN, infinity, -infinity, 1e30 from the first, second, ...
        Byzantine worker
    Knows: nothing

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        value: The content of the rows: one of the words, or a number such as 1e30, whose square is infinite in float32.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Damaskinos et al. 2019 (AggregaThor), where lost packets are read as NaN
    """
    check("non_finite", n, f)
    values = [*VALUES.values(), HUGE] if value == "mixed" else [VALUES[value] if isinstance(value, str) else value]

    def make_rows(key: Array, view: View) -> Array:
        turn = rank(view.byzantine) % len(values)
        return jnp.broadcast_to(jnp.asarray(values)[turn, None], view.rows.shape)

    return stateless(make_rows, reads_own=False)
