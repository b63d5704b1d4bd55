"""What an attack is: types shared by every file of this folder."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
State = Any


class View(NamedTuple):
    """What an omniscient adversary sees of one update.

    `rows` `[n, d]`: what each worker computed by the protocol, the Byzantine ones included. `byzantine` `[n]`: which
    rows the adversary may replace. `params` `[d]`: the model the server holds. `aggregate`: the rule in use with its
    present state, `[n, d] -> [d]`. `step`: the server's count of updates so far.
    """

    rows: Array
    byzantine: Array
    params: Array
    aggregate: Callable[[Array], Array]
    step: Array


class Batch(NamedTuple):
    """One batch of samples: `x` `[b, ...]`, labels `y` `[b]` in 0..`classes`-1; `classes` is a scalar."""

    x: Array
    y: Array
    classes: Array


class Attack(NamedTuple):
    """An attack by `f` of `n` workers, as pure functions.

    `init(d)` gives the state before the first update. `forge(key, view, state)` gives `(rows [n, d], state)`; only the
    Byzantine rows of it are used. `corrupt(key, batch)` gives the batch that a Byzantine worker trains on. Each of the
    two is None where the attack does not use it.
    """

    init: Callable[[int], State] = lambda d: ()
    forge: Callable[[Array, View, State], tuple[Array, State]] | None = None
    corrupt: Callable[[Array, Batch], Batch] | None = None
