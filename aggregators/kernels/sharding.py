"""Rules over slices: servers that hold parts of the coordinates exchange what a rule measures on all of them."""

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp

from byzax.aggregators._knowledge import Context, Info

Array = jax.Array
State = Any
Made = TypeVar("Made")


class Slice(NamedTuple):
    """Consecutive coordinates out of all of them, which a server holds.

    The arrays of a slice `[..., w]` may be wider than it: what follows is filled up with zeros.

    Attributes:
        first: The first coordinate.
        size: Number of coordinates.
        d: Number of all coordinates.
    """

    first: Array | int
    size: Array | int
    d: int


class Quantity(NamedTuple):
    """Something that is measured on all coordinates of rows, such as their norms, on one server or on several.

    Attributes:
        whole: `whole(*arrays)`, the value of all coordinates where one server has them, an array or several.
        part: `part(*arrays)`, of the slices of these arrays: the numbers `[m]` that a server sends.
        join: `join(parts, *arrays)`, the value of all coordinates as `whole` gives it, from the numbers `[S, m]` of all
            servers; of the arrays, which are slices, it may use the shapes but that of the coordinates.
    """

    whole: Callable[..., Any]
    part: Callable[..., Array]
    join: Callable[..., Any]


class Exchange(NamedTuple):
    """A value of all coordinates that a rule asks for; servers with slices exchange what they measured.

    Attributes:
        quantity: The quantity.
        arrays: The arrays that it is taken of.
    """

    quantity: Quantity
    arrays: tuple[Any, ...]


# A rule that yields the values it asks for, is sent them, and returns what it makes of the rows.
Steps = Generator[Exchange, Any, Made]


class RunSteps(Protocol):
    """One aggregation of a slice of the rows."""

    def __call__(self, rows: Array, state: State, context: Context | None, where: Slice, /) -> Steps[Any]:
        """The steps of the aggregation.

        Args:
            rows: `[n, w]`, the slice of the rows, float32 or float64.
            state: The state of the rule at this server.
            context: Knowledge of the server beside the rows: its key is that of all servers.
            where: The slice.

        Yields:
            Each value of all coordinates that it needs.

        Returns:
            The slice of the aggregate `[w]`, the state after it, and diagnostics, which all servers have alike.
        """
        ...


class InitSlice(Protocol):
    """The state of a rule at a server before the first update."""

    def __call__(self, where: Slice, width: int, /) -> State:
        """The state, as `RunSteps` takes it.

        Args:
            where: The slice.
            width: Number of columns of its arrays.

        Returns:
            A pytree of the structure that the state of one server has; axes that are d there are `width` here.
        """
        ...


class ShardedForm(NamedTuple):
    """A rule over slices, equal to the rule over all coordinates but for rounding.

    Attributes:
        exchanges: Number of values that `steps` yields; 0 for a rule that takes every coordinate by itself.
        init: The state before the first update.
        steps: One aggregation.
    """

    exchanges: int
    init: InitSlice
    steps: RunSteps


def on_whole(steps: Steps[Made]) -> Made:
    """Runs steps where all coordinates are there.

    Args:
        steps: The steps.

    Returns:
        What they return.
    """
    return answered(steps, lambda asked: asked.quantity.whole(*asked.arrays))


def answered(steps: Steps[Made], answer: Callable[[Exchange], Any]) -> Made:
    """Runs steps with an answer to each value that they ask for.

    Args:
        steps: The steps.
        answer: Gives the value of all coordinates.

    Returns:
        What they return.
    """
    try:
        asked = next(steps)
        while True:
            asked = steps.send(answer(asked))
    except StopIteration as end:
        return end.value


def part_of_next(steps: Steps[Any], heard: Sequence[Array]) -> Array:
    """The numbers that a server sends in an exchange. In compiled code what only earlier exchanges need is left out.

    Args:
        steps: The steps on its slice, from their beginning.
        heard: `[S, m]` each, the numbers of all servers in the exchanges before, in their order.

    Returns:
        `[m]`.
    """
    asked, _ = _advance(steps, heard)
    if asked is None:
        raise ValueError(f"a rule asks for {len(heard)} values of all coordinates, and its sharded form has more")
    return asked.quantity.part(*asked.arrays)


def result_of(steps: Steps[Made], heard: Sequence[Array]) -> Made:
    """The result of steps on a slice.

    Args:
        steps: The steps, from their beginning.
        heard: `[S, m]` each, the numbers of all servers in all exchanges.

    Returns:
        What they return.
    """
    asked, made = _advance(steps, heard)
    if asked is not None:
        raise ValueError(f"a rule asks for more values of all coordinates than the {len(heard)} of its sharded form")
    return made


def _advance(steps: Steps[Made], heard: Sequence[Array]) -> tuple[Exchange | None, Any]:
    """The next exchange of steps after so many, or the value that they return."""
    try:
        asked = next(steps)
        for parts in heard:
            asked = steps.send(asked.quantity.join(parts, *asked.arrays))
    except StopIteration as end:
        return None, end.value
    return asked, None


def together(*exchanges: Exchange) -> Exchange:
    """Several values that are asked for in one exchange.

    Args:
        *exchanges: The values.

    Returns:
        An exchange whose value is the tuple of theirs.
    """

    def each(arrays: Sequence[Any]) -> list[tuple[Quantity, Sequence[Any]]]:
        counts, begin = [len(exchange.arrays) for exchange in exchanges], 0
        found = []
        for exchange, count in zip(exchanges, counts, strict=True):
            found.append((exchange.quantity, arrays[begin : begin + count]))
            begin += count
        return found

    def whole(*arrays: Any) -> tuple[Any, ...]:
        return tuple(measure.whole(*mine) for measure, mine in each(arrays))

    def part(*arrays: Any) -> Array:
        return jnp.concatenate([measure.part(*mine) for measure, mine in each(arrays)])

    def join(parts: Array, *arrays: Any) -> tuple[Any, ...]:
        found, begin = [], 0
        for measure, mine in each(arrays):
            size = jax.eval_shape(measure.part, *mine).shape[0]
            found.append(measure.join(parts[:, begin : begin + size], *mine))
            begin += size
        return tuple(found)

    return Exchange(Quantity(whole, part, join), tuple(array for exchange in exchanges for array in exchange.arrays))


def total_of(values: Array) -> Exchange:
    """The sum over all coordinates.

    Args:
        values: The sums over those that are here, of any shape.

    Returns:
        The exchange.
    """
    return Exchange(_SUM, (values,))


def largest_of(values: Array) -> Exchange:
    """The largest value over all coordinates.

    Args:
        values: The largest values of those that are here, of any shape.

    Returns:
        The exchange.
    """
    return Exchange(_LARGEST, (values,))


_SUM = Quantity(lambda values: values, jnp.ravel, lambda parts, values: parts.sum(axis=0).reshape(values.shape))
_LARGEST = Quantity(lambda values: values, jnp.ravel, lambda parts, values: parts.max(axis=0).reshape(values.shape))


def coordinate_wise(apply: Callable[..., Any], init: Callable[[int], State] = lambda d: ()) -> ShardedForm:
    """The sharded form of a rule that takes every coordinate by itself: the rule over each slice.

    Args:
        apply: As in `Aggregator`.
        init: As in `Aggregator`.

    Returns:
        The form.
    """

    def steps(rows: Array, state: State, context: Context | None, where: Slice) -> Steps[Any]:
        yield from ()
        return apply(rows, state, context)

    return ShardedForm(0, lambda where, width: init(width), steps)


def without_state(steps: Callable[[Array], Steps[tuple[Array, Info]]], exchanges: int) -> ShardedForm:
    """The sharded form of a rule without state that needs the rows alone.

    Args:
        steps: From the slices of the rows `[n, w]` the steps that return the slice of the aggregate, and an `Info`.
        exchanges: Number of values that they yield.

    Returns:
        The form.
    """

    def of_slice(rows: Array, state: State, context: Context | None, where: Slice) -> Steps[Any]:
        result, info = yield from steps(rows)
        return result, state, info

    return ShardedForm(exchanges, lambda where, width: (), of_slice)
