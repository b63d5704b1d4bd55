"""What a rule is: types shared by every file of this folder."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
State = Any


class Info(NamedTuple):
    """What a rule says about one aggregation, beside the aggregate.

    `weights`: `[n]`, the share of each row in the aggregate (sums to 1), or None where rows have no share of their own.
    """

    weights: Array | None = None


class Aggregator(NamedTuple):
    """A rule for `n` rows of which up to `f` may be Byzantine, as pure functions.

    `init(d)` gives the state before the first update. `apply(rows, state)` takes `rows` `[n, d]` (NumPy or JAX) and gives
    `(aggregate [d], state, info)`. `among(rows, alive)` is the rule over the rows where `alive` `[n]` is true, at the
    same `f`; a rule without one has None there.
    """

    init: Callable[[int], State]
    apply: Callable[..., tuple[Array, State, Info]]
    among: Callable[[Array, Array], Array] | None = None
