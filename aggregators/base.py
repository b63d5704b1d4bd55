"""The types of a rule, and what the files of this folder share: aliases for options, checks, ways to build a rule."""

import operator
import sys
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.core import Tracer
from pydantic import Field

from byzax.aggregators._knowledge import Context as Context
from byzax.aggregators._knowledge import Info as Info
from byzax.aggregators._knowledge import Need as Need
from byzax.aggregators._knowledge import Neighbourhood as Neighbourhood
from byzax.aggregators.kernels.sharding import ShardedForm, Steps, coordinate_wise, on_whole, without_state
from byzax.members import place_of
from byzax.options import PartError

Array = jax.Array
State = Any

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
# one compiled loop, which no signal ends
Iterations = Annotated[int, Field(ge=1, le=1000)]

LIMIT = "the steps that brute's `effort` allows; give it more, or take another rule or base, such as multi_krum"
# what `least_rows` gives where the options of a rule allow no number of rows at all
NEVER = sys.maxsize


class RuleInit(Protocol):
    """The state of a rule before the first update.

    Args:
        d: Number of parameters.

    Returns:
        A pytree; `()` for a rule without state.
    """

    def __call__(self, d: int, /) -> State: ...


class Apply(Protocol):
    """One aggregation.

    Args:
        rows: `[n, d]`, NumPy or JAX, floating point.
        state: That of `init`, or of the last aggregation.
        context: Knowledge of the server beside the rows; required by rules that draw, or whose `needs` are not empty.

    Returns:
        The aggregate `[d]` in the dtype of the rows, the new state, and diagnostics.
    """

    def __call__(self, rows: Any, state: State, context: Context | None = None, /) -> tuple[Array, State, Info]: ...


class AggregateAlive(Protocol):
    """The aggregate of some of the rows.

    Args:
        alive: `[n]`, which of the rows are there.

    Returns:
        The aggregate `[d]` of the rows that are `alive`, with the same f as that of all rows.
    """

    def __call__(self, alive: Array, /) -> Array: ...


class Among(Protocol):
    """The work that all sub-pools of the rows share, such as the distances between them.

    Args:
        rows: `[n, d]`.

    Returns:
        The function that aggregates some of the rows. Shapes stay fixed, so that a loop that removes rows one by one
        compiles once.
    """

    def __call__(self, rows: Array, /) -> AggregateAlive: ...


class LeastRows(Protocol):
    """The fewest rows that a rule accepts with the same options.

    Args:
        f: Number of rows that may be Byzantine.

    Returns:
        The smallest number such that it and every larger number of rows meets the rule's condition; `NEVER` where the
        options do not fit this f, however many rows there are. Limits of size (smea's number of subsets,
        clipped_clustering's memory) are not part of it.
    """

    def __call__(self, f: int, /) -> int: ...


def one_row(f: int) -> int:
    """`least_rows` of a rule without a condition: 1."""
    return 1


class Aggregator(NamedTuple):
    """A rule for `n` rows of which up to `f` may be Byzantine, as pure functions.

    Attributes:
        init: The state before the first update, from the number of parameters.
        apply: One aggregation: `apply(rows, state)`, or `apply(rows, state, context)`.
        among: The same rule for parts of the rows, at the same f; None where a rule cannot do that.
        limited: Whether the rule may be undecided (`Info.undecided`), and `among` then gives NaN.
        linear: Whether the aggregate is the sum over rows of `Info.weights[i] * rows[i]`, so that the weights may be
            multiplied by numbers of samples.
        least_rows: The fewest rows that the rule accepts with the same options, from f.
        needs: The functions of the `Context` that `apply` calls, of "gradient", "loss" and "after".
        weighs: Whether `apply` reads the weights of the neighbourhood's edges.
        sharded: The same rule over slices of the coordinates, for servers that hold one each; None where it has none.
    """

    init: RuleInit
    apply: Apply
    among: Among | None = None
    limited: bool = False
    linear: bool = False
    least_rows: LeastRows = one_row
    needs: frozenset[Need] = frozenset()
    weighs: bool = False
    sharded: ShardedForm | None = None


def require(
    rule: str, n: int, f: int, factor: int = 2, offset: int = 1, unproven: bool | None = None, least: int = 1
) -> LeastRows:
    """Checks the numbers of rows that a rule is built for.

    Args:
        rule: Name of the rule, for the message.
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        factor: Of the condition n >= `factor` f + `offset`.
        offset: Of the condition.
        unproven: Whether n >= `factor` f + `least` suffices, without a proof; None: the rule has no such option.
        least: Takes the place of `offset` then.

    Returns:
        `least_rows` of the rule: from f the fewest rows that meet the condition.

    Raises:
        PartError: Unless n and f are whole numbers with f >= 0 that meet the condition.
    """
    for name, value in (("n", n), ("f", f)):
        try:
            operator.index(value)
        except TypeError:
            raise PartError(f"{rule} needs a whole number {name}, got {name}={value!r}") from None
    if n < 1:
        raise PartError(f"{rule} needs at least one row, got n={n}")
    if f < 0:
        raise PartError(f"{rule} needs f >= 0 Byzantine rows, got f={f}")
    needed = least if unproven else offset
    if n < factor * f + needed:
        condition = f"n >= {'' if factor == 1 else factor}f" + (f" + {needed}" if needed else "")
        largest = (n - needed) // factor
        way_out = f" (or unproven: true, which takes n >= {factor}f + {least})"
        hint = way_out if unproven is False and n >= factor * f + least else ""
        if largest < 0:
            raise PartError(f"{rule} needs {condition}: at least {needed} rows even for f = 0, got n={n}, f={f}{hint}")
        raise PartError(f"{rule} needs {condition}: with n={n} rows f is at most {largest}, got f={f}{hint}")
    return lambda f: max(1, factor * f + needed)


def _check_result(needed: str, count: int, result: Any, function: Callable[..., Any]) -> None:
    """Raises TypeError, with the place of the function, unless `result` is `count` values of which Info is the last."""
    if isinstance(result, tuple) and len(result) == count and isinstance(result[-1], Info):
        return
    kinds = [_kind(each) for each in result] if isinstance(result, tuple) else []
    got = f"({', '.join(kinds)})" if kinds else _kind(result)
    hint = "the last value must be an Info, such as Info()" if len(kinds) == count else "return Info() too"
    raise TypeError(f"this function must give {needed}, got {got}: {hint}{place_of(function)}")


def _kind(value: Any) -> str:
    """Type and shape of an array, traced or not, such as float32[7, 3]; the type of anything else."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    return type(value).__name__ if dtype is None or shape is None else f"{dtype}{list(shape)}"


def check_array(what: str, value: Any, shape: tuple[int, ...], function: Callable[..., Any]) -> None:
    """Checks what a function gave, before anything casts or broadcasts it.

    Args:
        what: Its kind, with the names of its axes, such as "an aggregate [d]".
        value: The value that the function gave.
        shape: The shape that it must have.
        function: The function.

    Raises:
        TypeError: Unless it is an array of that shape of floating-point numbers; names the place of the function.
    """
    dtype, got = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is not None and got == shape and jnp.issubdtype(dtype, jnp.floating):
        return
    wanted = f"{what} of floating-point numbers, {list(shape)}"
    raise TypeError(f"this function must give {wanted}, got {_kind(value)}{place_of(function)}")


def _check_state(new: State, old: State, function: Callable[..., Any]) -> None:
    """Raises TypeError, with the place of the function, unless a state keeps structure, shapes and kinds of numbers."""

    def kinds(state: State) -> Any:
        def kind(leaf: Any) -> tuple[Any, ...]:
            dtype = jnp.result_type(leaf)
            return jnp.shape(leaf), "floating" if jnp.issubdtype(dtype, jnp.floating) else str(dtype)

        leaves, structure = jax.tree.flatten(state)
        return structure, [kind(leaf) for leaf in leaves]

    if kinds(new) != kinds(old):
        given, wanted = (jax.tree.map(lambda leaf: f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}", each)
                         for each in (new, old))  # fmt: skip
        raise TypeError(f"this function must give a state like that of init, {wanted}, got {given}{place_of(function)}")


def stateless(
    n: int,
    aggregate: Callable[[Array], tuple[Array, Info]],
    among: Among | None = None,
    *,
    linear: bool = False,
    least_rows: LeastRows = one_row,
    by_coordinate: bool = False,
) -> Aggregator:
    """Builds a rule without state from a function of the rows.

    Args:
        n: Number of rows.
        aggregate: From the rows `[n, d]` the aggregate `[d]` and an `Info`. It is jitted once here and sees float32 or
            float64; the aggregate is returned in the dtype of the rows.
        among: As in `Aggregator`.
        linear: As in `Aggregator`.
        least_rows: As in `Aggregator`, such as `require` gives it.
        by_coordinate: Whether it takes every coordinate by itself, so that servers may hold slices of them.

    Returns:
        The rule.
    """

    @jax.jit
    def compiled(rows: Array) -> tuple[Array, Info]:
        given = aggregate(rows.astype(jnp.promote_types(rows.dtype, jnp.float32)))
        _check_result("(aggregate, info)", 2, given, aggregate)
        result, info = given
        check_array("an aggregate [d]", result, rows.shape[1:], aggregate)
        return result.astype(rows.dtype), info

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        result, info = compiled(rows)
        return result, state, info

    sharded = coordinate_wise(apply) if by_coordinate else None
    return Aggregator(lambda d: (), apply, among, linear=linear, least_rows=least_rows, sharded=sharded)


def in_exchanges(
    n: int,
    steps: Callable[[Array], Steps[tuple[Array, Info]]],
    exchanges: int,
    among: Among | None = None,
    *,
    linear: bool = False,
    least_rows: LeastRows = one_row,
) -> Aggregator:
    """Builds a rule without state whose values of all coordinates are yielded: for one server, and for slices.

    Args:
        n: Number of rows.
        steps: From rows `[n, d]`, or the slices `[n, w]` of a server, the steps that return the aggregate, or its
            slice, and an `Info`.
        exchanges: Number of values that they yield.
        among: As in `Aggregator`.
        linear: As in `Aggregator`.
        least_rows: As in `Aggregator`, such as `require` gives it.

    Returns:
        The rule.
    """

    rule = stateless(n, lambda rows: on_whole(steps(rows)), among, linear=linear, least_rows=least_rows)
    return rule._replace(sharded=without_state(steps, exchanges))


def selecting(
    n: int,
    build_selection: Callable[[Array], Steps[Callable[[Array], Array]]],
    exchanges: int,
    *,
    least_rows: LeastRows = one_row,
) -> Aggregator:
    """Builds a rule without state that gives one of its rows, with weight 1.

    Args:
        n: Number of rows.
        build_selection: The steps on rows `[n, d]`, or slices of them, that return a function: from `alive` `[n]` it
            gives the index of the row selected of those alive.
        exchanges: Number of values that the steps yield.
        least_rows: As in `Aggregator`, such as `require` gives it.

    Returns:
        The rule, which is linear.
    """

    def steps(rows: Array) -> Steps[tuple[Array, Info]]:
        select = yield from build_selection(rows)
        winner = select(jnp.ones(n, bool))
        return rows[winner], Info((jnp.arange(n) == winner).astype(rows.dtype))

    def among(rows: Array) -> AggregateAlive:
        select = on_whole(build_selection(rows))
        return lambda alive: rows[select(alive)]

    return in_exchanges(n, steps, exchanges, among, linear=True, least_rows=least_rows)


def stateful(
    n: int,
    init: RuleInit,
    aggregate: Callable[[Array, State], tuple[Array, State, Info]],
    *,
    linear: bool = False,
    least_rows: LeastRows = one_row,
) -> Aggregator:
    """Builds a rule with a state.

    Args:
        n: Number of rows.
        init: The state before the first update, from d.
        aggregate: From the rows `[n, d]` and the state the aggregate `[d]`, the new state and an `Info`. It is jitted
            once here and sees float32 or float64; the aggregate is returned in the dtype of the rows, the state in
            those that `init` gave, so that a loop over updates compiles once.
        linear: As in `Aggregator`.
        least_rows: As in `Aggregator`, such as `require` gives it.

    Returns:
        The rule.
    """

    @jax.jit
    def compiled(rows: Array, state: State) -> tuple[Array, State, Info]:
        expected = jax.eval_shape(lambda: init(rows.shape[1]))
        shapes = [jax.tree.map(jnp.shape, tree) for tree in (state, expected)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"state must be what init(d={rows.shape[1]}) or the last update gave, got {state!r}")
        given = aggregate(rows.astype(jnp.promote_types(rows.dtype, jnp.float32)), state)
        _check_result("(aggregate, state, info)", 3, given, aggregate)
        result, new, info = given
        check_array("an aggregate [d]", result, rows.shape[1:], aggregate)
        _check_state(new, state, aggregate)
        new = jax.tree.map(lambda now, old: jnp.asarray(now, jnp.result_type(old)), new, state)
        return result.astype(rows.dtype), new, info

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        return compiled(rows, state)

    return Aggregator(init, apply, linear=linear, least_rows=least_rows)


def limited(rule: str, aggregator: Aggregator) -> Aggregator:
    """Makes a rule raise where its search is undecided.

    Args:
        rule: Name of the rule, for the message.
        aggregator: A rule whose `Info.undecided` is set.

    Returns:
        The same rule, marked as `limited`, whose `apply` raises RuntimeError where it is undecided; in compiled code
        the caller has to look at `Info`.
    """

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        aggregate, state, info = aggregator.apply(rows, state, context)
        if not isinstance(info.undecided, Tracer) and info.undecided:
            raise RuntimeError(f"{rule} is undecided: its search did not end within {LIMIT}")
        return aggregate, state, info

    return aggregator._replace(apply=apply, limited=True)


def check_rows(rows: Any, n: int) -> None:
    """Raises ValueError unless `rows` is one array `[n, d]` of floating-point numbers."""
    shape, dtype = getattr(rows, "shape", None), getattr(rows, "dtype", None)
    if shape is None or dtype is None:
        raise ValueError(f"rows must be one array [n, d] with n={n}, got {type(rows).__name__}")
    if len(shape) != 2 or shape[0] != n or shape[1] < 1:
        raise ValueError(f"rows must have shape [n, d] with n={n} and d >= 1, got shape {tuple(shape)}")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"rows must be floating point (float32, bfloat16, float64), got {dtype}")


def require_key(part: str, context: Context | None) -> Array:
    """The key for what a rule or pre-aggregation draws. Raises ValueError without a context.

    Args:
        part: Its name, for the message.
        context: The context it was given.
    """
    if context is None:
        raise ValueError(f"{part} draws: apply(rows, state, Context(key=jax.random.key(seed))) is needed")
    return context.key
