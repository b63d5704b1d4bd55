"""The type of what stands before a rule, and mixes or shortens the rows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Context, Info, State, check_rows
from byzax.options import OptionError, PartError


class Mixer(NamedTuple):
    """A pre-aggregation of n rows, as pure functions.

    `mix(rows [n, d], context)` gives `(rows [kept, d], shares [kept, n])`: what the rule sees in place of the rows, and
    the share that each of the n rows has in each of them.

    `linear`: the mixed rows are the shares times the rows. `least_rows(kept, f)`: the fewest rows that it accepts, with
    the same options, and of which at least so many are left, where `f` may be Byzantine.
    """

    kept: int
    mix: Callable[[Array, Context | None], tuple[Array, Array]]
    linear: bool = False
    least_rows: Callable[[int, int], int] = lambda kept, f: kept


def chained(
    rule: Callable[[int, int], Aggregator], n: int, f: int, mixers: Sequence[Callable[[int, int], Mixer]]
) -> Aggregator:
    """The rule that `rule(kept, f)` makes, over what each of `mixers(n, f)` in turn makes of the rows.

    Raises ValueError where one of them does not accept the number of rows that the one before it leaves.
    """
    made: list[Mixer] = []
    for mixer in mixers:
        made.append(mixer(made[-1].kept if made else n, f))
    if not made:
        return rule(n, f)
    try:
        last = rule(made[-1].kept, f)
    except PartError as error:
        if made[-1].kept == n or isinstance(error, OptionError):
            raise
        raise PartError(f"{error}; of the n={n} rows {made[-1].kept} are left by what stands before it") from error
    return _preceded(last, n, made)


def _preceded(rule: Aggregator, n: int, mixers: Sequence[Mixer]) -> Aggregator:
    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        # at least float32: a mean of rounded means is not the mean
        mixed, shares = jnp.asarray(rows).astype(jnp.promote_types(rows.dtype, jnp.float32)), None
        for place, mixer in enumerate(mixers):
            own = None if context is None else context._replace(key=jax.random.fold_in(context.key, place))
            mixed, part = mixer.mix(mixed, own)
            shares = part if shares is None else part @ shares
        aggregate, state, info = rule.apply(mixed, state, context)
        weights = info.weights if info.weights is None or shares is None else info.weights @ shares
        return aggregate.astype(rows.dtype), state, info._replace(weights=weights)

    def least_rows(f: int) -> int:
        needed = rule.least_rows(f)
        for mixer in reversed(mixers):
            needed = mixer.least_rows(needed, f)
        return needed

    linear = rule.linear and all(mixer.linear for mixer in mixers)
    return Aggregator(rule.init, apply, linear=linear, least_rows=least_rows, needs=rule.needs)
