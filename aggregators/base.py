"""The type of a rule, and what every file of this folder shares: lookup of files, checks of arguments."""

import difflib
import importlib
import operator
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

Array = jax.Array
State = Any
# The type of an option that is another rule: its name, or a mapping of its name and options. A scenario, its JSON
# Schema and its refusals know from it which rules and options there are.
Nested = str | Mapping[str, Any]

LIMIT = "the steps that brute's `effort` allows; give it more, or take another rule or base, such as multi_krum"


class Info(NamedTuple):
    """Diagnostics of one aggregation, beside the aggregate.

    `weights`: `[n]`, the share of each row in the aggregate (sums to 1), or None where rows have no share of their own.
    `iterations`: how many steps a rule took that iterates until it is done; None for all others.
    `undecided`: true where the search of a rule did not end within its limit of work, so that the aggregate is NaN and
    no answer; None for rules without a limit.
    """

    weights: Array | None = None
    iterations: Array | None = None
    undecided: Array | None = None


class Context(NamedTuple):
    """The server's knowledge beside the rows; most rules ignore it.

    `key`: for what a rule draws, another one at every update. `params` `[d]`: the model that the update changes.
    `gradient()` gives the server's own row `[d]`, `loss(params)` the mean loss of a model, both on the server's own
    data; the two are None where there is none. The row is made the way workers make theirs: of the same gradients,
    local steps and momentum. `after(aggregate [d])`: the model `[d]` that the update makes of the model where this is
    the aggregate, None where that is not known.
    """

    key: Array
    params: Array | None = None
    gradient: Callable[[], Array] | None = None
    loss: Callable[[Array], Array] | None = None
    after: Callable[[Array], Array] | None = None


class Aggregator(NamedTuple):
    """A rule for `n` rows of which up to `f` may be Byzantine, as pure functions.

    `init(d)` gives the state before the first update. `apply(rows, state)` takes `rows` `[n, d]` (NumPy or JAX) and
    gives `(aggregate [d], state, info)`. Rules that draw, or ask the server's data, need `apply(rows, state, context)`;
    the others ignore the context.

    `among(rows)` does the work that all sub-pools of the rows share (their distances, say) and gives a function of
    `alive` `[n]`: the aggregate of the rows where `alive` is true, at the same `f`. Shapes stay fixed, so a loop that
    removes rows one by one compiles once. A rule without one has None there. `limited`: the rule may be undecided, and
    then `among` gives NaN.

    `linear`: the aggregate is the sum of the rows times `Info.weights`, so that weights can be multiplied by numbers of
    samples. `least_rows(f)`: the fewest rows that the rule accepts with the same options where `f` of them may be
    Byzantine. `needs`: what it asks of the `Context`, of "gradient", "loss" and "after".
    """

    init: Callable[[int], State]
    apply: Callable[..., tuple[Array, State, Info]]
    among: Callable[[Array], Callable[[Array], Array]] | None = None
    limited: bool = False
    linear: bool = False
    least_rows: Callable[[int], int] = lambda f: 1
    needs: frozenset[str] = frozenset()


def require(
    rule: str, n: int, f: int, factor: int = 2, offset: int = 1, unproven: bool | None = None, least: int = 1
) -> None:
    """Checks the numbers of rows that a rule is built for.

    Args:
        rule: its name, for the message.
        n: rows.
        f: Byzantine rows among them.
        factor: of the condition n >= `factor` f + `offset`.
        offset: of the condition.
        unproven: whether n >= `factor` f + `least` suffices, unproven as it is; None: the rule has no such option.
        least: takes the place of `offset` then.

    Raises:
        ValueError: unless n and f are whole numbers with f >= 0 that meet the condition.
    """
    for name, value in (("n", n), ("f", f)):
        try:
            operator.index(value)
        except TypeError:
            raise ValueError(f"{rule} needs a whole number {name}, got {name}={value!r}") from None
    if n < 1:
        raise ValueError(f"{rule} needs at least one row, got n={n}")
    if f < 0:
        raise ValueError(f"{rule} needs f >= 0 Byzantine rows, got f={f}")
    needed = least if unproven else offset
    if n < factor * f + needed:
        condition = f"n >= {'' if factor == 1 else factor}f" + (f" + {needed}" if needed else "")
        largest = (n - needed) // factor
        way_out = f" (or unproven: true, which takes n >= {factor}f + {least})"
        hint = way_out if unproven is False and n >= factor * f + least else ""
        if largest < 0:
            raise ValueError(f"{rule} needs {condition}: at least {needed} rows even for f = 0, got n={n}, f={f}{hint}")
        raise ValueError(f"{rule} needs {condition}: with n={n} rows f is at most {largest}, got f={f}{hint}")


def choice(rule: str, option: str, value: object, allowed: Sequence[str]) -> None:
    """Raises ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{rule}: {option} must be one of {', '.join(allowed)}, got {value!r}")


def whole(rule: str, option: str, value: Any, least: int | None = None, most: int | None = None) -> None:
    """Raises ValueError unless `value` is a whole number, and within `least` and `most` where they are given."""
    try:
        operator.index(value)
    except TypeError:
        raise ValueError(f"{rule} needs a whole number {option}, got {option}={value!r}") from None
    if least is not None and value < least:
        raise ValueError(f"{rule} needs {option} >= {least}, got {option}={value}")
    if most is not None and value > most:
        raise ValueError(f"{rule} needs {option} <= {most}, got {option}={value}")


def files(folders: Iterable[str]) -> tuple[str, ...]:
    """The names of all files in these folders, `base` and those that begin with `_` aside."""
    found = pkgutil.iter_modules(folders)
    return tuple(sorted(m.name for m in found if not m.ispkg and m.name[0] != "_" and m.name != "base"))


def function_of(package: str, kind: str, name: str, names: Sequence[str]) -> Callable[..., Any]:
    """The function `name` of the file `name` in a package, one of `names`.

    Raises ValueError for a name that is none of them, with the nearest, or a file without its function.
    """
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown {kind} {name!r}: {hint}available: {', '.join(names)}")
    module = importlib.import_module(f"{package}.{name}")
    if not hasattr(module, name):
        raise ValueError(f"{module.__file__} must hold a function of its own name, {name}")
    return getattr(module, name)


def _gives(needed: str, count: int, given: Any, function: Callable[..., Any]) -> None:
    """Raises TypeError, with the place of the function, unless it gave so many values of which Info is the last."""
    if isinstance(given, tuple) and len(given) == count and isinstance(given[-1], Info):
        return
    code = getattr(function, "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    kinds = [type(each).__name__ for each in given] if isinstance(given, tuple) else []
    got = f"({', '.join(kinds)})" if kinds else type(given).__name__
    hint = "the last value must be an Info, such as Info()" if len(kinds) == count else "return Info() too"
    raise TypeError(f"this function must give {needed}, got {got}: {hint}{place}")


def stateless(
    n: int,
    aggregate: Callable[[Array], tuple[Array, Info]],
    among: Callable[[Array], Callable[[Array], Array]] | None = None,
) -> Aggregator:
    """An `Aggregator` without state from `aggregate(rows [n, d]) -> (aggregate [d], info)`.

    `aggregate` is jitted once here and sees float32 or float64; the aggregate is returned in the dtype of the rows.
    """

    @jax.jit
    def compiled(rows: Array) -> tuple[Array, Info]:
        given = aggregate(rows.astype(jnp.promote_types(rows.dtype, jnp.float32)))
        _gives("(aggregate, info)", 2, given, aggregate)
        result, info = given
        return result.astype(rows.dtype), info

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        result, info = compiled(rows)
        return result, state, info

    return Aggregator(init=lambda d: (), apply=apply, among=among)


def selecting(n: int, selection: Callable[[Array], Callable[[Array], Array]]) -> Aggregator:
    """An `Aggregator` without state that gives one of its rows, with weight 1.

    Args:
        n: number of rows.
        selection: `selection(rows [n, d])(alive [n])` is the index of the row selected of those alive.
    """

    def aggregate(rows: Array) -> tuple[Array, Info]:
        winner = selection(rows)(jnp.ones(n, bool))
        return rows[winner], Info((jnp.arange(n) == winner).astype(rows.dtype))

    def among(rows: Array) -> Callable[[Array], Array]:
        select = selection(rows)
        return lambda alive: rows[select(alive)]

    return stateless(n, aggregate, among)


def stateful(
    n: int, init: Callable[[int], State], aggregate: Callable[[Array, State], tuple[Array, State, Info]]
) -> Aggregator:
    """An `Aggregator` from `init(d) -> state` and `aggregate(rows [n, d], state) -> (aggregate [d], state, info)`.

    `aggregate` is jitted once here and sees float32 or float64; the aggregate is returned in the dtype of the rows, the
    state in those that `init` gave, so that a loop over updates compiles once.
    """

    @jax.jit
    def compiled(rows: Array, state: State) -> tuple[Array, State, Info]:
        expected = jax.eval_shape(lambda: init(rows.shape[1]))
        shapes = [jax.tree.map(jnp.shape, tree) for tree in (state, expected)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"state must be what init(d={rows.shape[1]}) or the last update gave, got {state!r}")
        given = aggregate(rows.astype(jnp.promote_types(rows.dtype, jnp.float32)), state)
        _gives("(aggregate, state, info)", 3, given, aggregate)
        result, new, info = given
        return result.astype(rows.dtype), jax.tree.map(lambda now, old: now.astype(old.dtype), new, state), info

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        return compiled(rows, state)

    return Aggregator(init=init, apply=apply)


def limited(rule: str, aggregator: Aggregator) -> Aggregator:
    """The same, which raises RuntimeError where it is undecided; in compiled code the caller has to look at `Info`."""

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


def drawn(rule: str, context: Context | None) -> Array:
    """The key for what `rule` draws. Raises ValueError without a context."""
    if context is None:
        raise ValueError(f"{rule} draws: apply(rows, state, Context(key=jax.random.key(seed))) is needed")
    return context.key


def distinct(key: Array, d: int, count: int) -> Array:
    """`count` of the numbers below `d`, each set of them equally likely, `[count]`; all of them if d is no larger."""
    if 4 * count > d:
        return jax.random.permutation(key, d)[:count]
    # Numbers drawn one after the other, those that were there before left out: cheaper than to permute all, and that
    # so many do not suffice has a chance below 1e-12. Then the last ones are there twice.
    picked = jax.random.randint(key, (4 * count // 3 + 60,), 0, d)
    order = jnp.argsort(picked, stable=True)
    again = jnp.zeros(len(picked), bool).at[order[1:]].set(picked[order][1:] == picked[order][:-1])
    return picked[jnp.argsort(again, stable=True)[:count]]


def eligible(alive: Array, finite: Array) -> Array:
    """Rows to choose from: those alive and finite, or all alive ones where none is finite."""
    good = alive & finite
    return jnp.where(good.any(), good, alive)
