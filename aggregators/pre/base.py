"""The type of a pre-aggregation, which mixes or shortens the rows before a rule sees them, and chains of them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp

from byzax.aggregators.base import NEVER, Aggregator, Array, Context, Count, Info, State, check_array, check_rows
from byzax.aggregators.kernels.sharding import ShardedForm, Slice, Steps
from byzax.members import place_of
from byzax.options import OptionError, PartError


class Mix(Protocol):
    """Makes the rows that the rule sees.

    Args:
        rows: `[n, d]`.
        context: Knowledge of the server beside the rows; required by those that draw.

    Returns:
        The rows `[kept, d]` that stand in place of the n rows, and the share `[kept, n]` that each of the n rows has
        in each of them.
    """

    def __call__(self, rows: Any, context: Context | None, /) -> tuple[Array, Array]: ...


class LeastRowsKept(Protocol):
    """The fewest rows that a pre-aggregation accepts with the same options, and of which enough are left.

    Args:
        kept: Number of rows that must be left.
        f: Number of rows that may be Byzantine.

    Returns:
        The smallest number such that it and every larger number of rows is accepted and leaves at least `kept` rows.
    """

    def __call__(self, kept: int, f: int, /) -> int: ...


class MixSlice(Protocol):
    """Makes the slices of the rows that the rule sees."""

    def __call__(self, rows: Array, context: Context | None, /) -> Steps[tuple[Array, Array]]:
        """The steps of the pre-aggregation.

        Args:
            rows: `[n, w]`, the slices of the rows.
            context: Knowledge of the server beside the rows: its key is that of all servers.

        Yields:
            Each value of all coordinates that it needs.

        Returns:
            The slices `[kept, w]`, and the shares `[kept, n]`, as `Mix` gives them.
        """
        ...


class ShardedMix(NamedTuple):
    """A pre-aggregation over slices of the coordinates.

    Attributes:
        exchanges: Number of values that `steps` yields.
        steps: Makes the slices of the rows.
    """

    exchanges: int
    steps: MixSlice


def all_kept(kept: int, f: int) -> int:
    """`least_rows` of a pre-aggregation that leaves as many rows as it is given, and has no condition."""
    return kept


class Mixer(NamedTuple):
    """A pre-aggregation of n rows, as pure functions.

    Attributes:
        kept: Number of rows that are left.
        mix: Makes them of the n rows.
        linear: Whether the mixed rows are the shares times the rows.
        least_rows: The fewest rows that are accepted, and of which enough are left, from that number and f.
        sharded: The same over slices of the coordinates; None where it has no such form.
    """

    kept: Count
    mix: Mix
    linear: bool = False
    least_rows: LeastRowsKept = all_kept
    sharded: ShardedMix | None = None


def mix_by_coordinate(mix: Mix) -> ShardedMix:
    """The sharded form of a pre-aggregation that takes every coordinate by itself.

    Args:
        mix: As in `Mixer`.

    Returns:
        The form.
    """

    def steps(rows: Array, context: Context | None) -> Steps[tuple[Array, Array]]:
        yield from ()
        return mix(rows, context)

    return ShardedMix(0, steps)


def chained(
    rule: Callable[[int, int], Aggregator], n: int, f: int, mixers: Sequence[Callable[[int, int], Mixer]]
) -> Aggregator:
    """Builds a rule over pre-aggregations, which follow one another.

    Args:
        rule: `rule(kept, f)` builds the rule for the rows that are left.
        n: Number of rows before the first pre-aggregation.
        f: Number of rows that may be Byzantine, the same for each.
        mixers: `mixer(n, f)` builds a pre-aggregation of n rows; the first one sees the rows first.

    Returns:
        The rule for n rows: it is linear where all of them are, and accepts as few rows as all of them do.

    Raises:
        PartError: Where one of them does not accept the number of rows that the one before it leaves.
        TypeError: Where a function gives something else.
    """
    made: list[Mixer] = []
    for mixer in mixers:
        made.append(_require(Mixer, mixer(made[-1].kept if made else n, f), mixer))
    if not made:
        return _require(Aggregator, rule(n, f), rule)
    try:
        last = _require(Aggregator, rule(made[-1].kept, f), rule)
    except ValueError as error:
        if made[-1].kept == n or isinstance(error, OptionError):
            raise
        raise PartError(f"{error}; of the n={n} rows {made[-1].kept} are left by what stands before it") from error
    return _over_mixed_rows(last, n, made)


Made = TypeVar("Made")


def _require(kind: type[Made], made: Any, function: Callable[..., Any]) -> Made:
    """The value that a function gave. Raises TypeError, with the place of the function, unless it is of this kind."""
    if isinstance(made, kind):
        return made
    raise TypeError(f"this function must give {kind.__name__}, got {type(made).__name__}{place_of(function)}")


def _over_mixed_rows(rule: Aggregator, n: int, mixers: Sequence[Mixer]) -> Aggregator:
    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        # at least float32: a mean of rounded means is not the mean
        mixed, shares = jnp.asarray(rows).astype(jnp.promote_types(rows.dtype, jnp.float32)), None
        for place, mixer in enumerate(mixers):
            given = mixer.mix(mixed, _own_key(context, place))
            if not isinstance(given, tuple) or len(given) != 2:
                raise TypeError(f"this function must give (rows, shares){place_of(mixer.mix)}")
            count = len(mixed)
            mixed, part = given
            check_array("rows [kept, d]", mixed, (mixer.kept, rows.shape[1]), mixer.mix)
            check_array("shares [kept, n]", part, (mixer.kept, count), mixer.mix)
            shares = part if shares is None else part @ shares
        aggregate, state, info = rule.apply(mixed, state, context)
        check_array("an aggregate [d]", aggregate, rows.shape[1:], rule.apply)
        weights = info.weights if info.weights is None or shares is None else info.weights @ shares
        return aggregate.astype(rows.dtype), state, info._replace(weights=weights)

    def least_rows(f: int) -> int:
        needed = rule.least_rows(f)
        for mixer in reversed(mixers):
            needed = mixer.least_rows(needed, f)
        return min(needed, NEVER)

    return Aggregator(
        rule.init,
        apply,
        limited=rule.limited,
        linear=rule.linear and all(mixer.linear for mixer in mixers),
        least_rows=least_rows,
        needs=rule.needs,
        sharded=_sharded(rule, mixers),
    )


def _own_key(context: Context | None, place: int) -> Context | None:
    return None if context is None else context._replace(key=jax.random.fold_in(context.key, place))


def _sharded(rule: Aggregator, mixers: Sequence[Mixer]) -> ShardedForm | None:
    """The sharded form of a rule over mixed rows; None where one of them has none."""
    form, forms = rule.sharded, [mixer.sharded for mixer in mixers if mixer.sharded is not None]
    if form is None or len(forms) < len(mixers):
        return None

    def steps(rows: Array, state: State, context: Context | None, where: Slice) -> Steps[Any]:
        shares = None
        for place, mix in enumerate(forms):
            rows, part = yield from mix.steps(rows, _own_key(context, place))
            shares = part if shares is None else part @ shares
        aggregate, state, info = yield from form.steps(rows, state, context, where)
        weights = info.weights if info.weights is None or shares is None else info.weights @ shares
        return aggregate, state, info._replace(weights=weights)

    return ShardedForm(form.exchanges + sum(mix.exchanges for mix in forms), form.init, steps)
