"""The type of a filter, which stands before the rule: it lets a single row through, changed or not, or refuses it."""

from collections.abc import Callable
from typing import NamedTuple

from byzax.aggregators.base import Array, Context, State


class Sent(NamedTuple):
    """The origin of a row: its `worker`, and its `age`, how many updates old the version is that it was handed."""

    worker: Array
    age: Array


class Filter(NamedTuple):
    """A judge of the rows of `n` workers of which up to `f` may be Byzantine, one row at a time, as pure functions.

    `init(params [d])` gives the state before the first row. `judge(row [d], sent, context, state)` gives `(row [d],
    accepted, state)`: the row as the rule shall see it, whether it shall (a truth value, `[]`), and the new state. A
    refused row changes neither the model nor the states of rule and optimizer. `context` is that of a rule: a key, the
    model, and a gradient and a loss on the server's own data where there are any. `asks(state)`: whether the next row
    is judged with a new gradient, `[]`; None where a filter that asks for gradients does so for every row. `needs`: what
    it asks of the context, of "gradient", "loss" and "after".
    """

    init: Callable[[Array], State]
    judge: Callable[[Array, Sent, Context, State], tuple[Array, Array, State]]
    asks: Callable[[State], Array] | None = None
    needs: frozenset[str] = frozenset()
