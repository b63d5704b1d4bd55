"""Zeno++ (Xie et al. 2020): rows that lower the loss on the server's own data, brought to the length of its own row."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from byzax.aggregators.base import Array, Context, Count, Finite, NotNegative, Positive, require
from byzax.aggregators.filters.base import Filter, Sent
from byzax.aggregators.kernels.clipping import directions, measure_lengths, norms
from byzax.options import checked


class ZenoState(NamedTuple):
    """Zeno++'s state.

    Attributes:
        own: `[d]`, the server's own row.
        judged: Number of rows judged so far.
    """

    own: Array
    judged: Array


@checked
def zeno_plus_plus(
    n: int,
    f: int,
    *,
    learning_rate: Positive = 0.1,
    rho: NotNegative = 1e-3,
    epsilon: Finite = 0.0,
    delay: Count = 10,
) -> Filter:
    """Rows that a step of the server's own data agrees with, each brought to the length of the server's own row.

        g = (|v| / |x|) x,  accepted if learning_rate <v, g> - rho |g|² + learning_rate epsilon >= 0,
        v = the server's row, made anew for every `delay` rows

    Condition: n >= f + 1
    Cost: O(d) for each row, a gradient on the server's own data for every `delay` rows, and the memory of a row

    Any f below n is tolerated as far as the server's data are like those of the workers. With epsilon = 0 the condition
    is a smallest cosine to the server's row, rho / learning_rate, whatever the rows are; epsilon is in the unit of
    their squares. Rows of length 0 have no direction and are refused, and so are those that are not finite, and all of
    them where v is 0 or not finite. Differences: the authors' code takes the length that x was sent with, not that of
    g, in the rho term.

    Args:
        n: Number of workers.
        f: Number of workers that may be Byzantine.
        learning_rate: Of the step that is judged: only rho / learning_rate matters, and with rows that are changes of
            local steps it stays in the unit of gradients.
        rho: Weight of the squared length.
        epsilon: Ascent that is tolerated.
        delay: Number of rows that are judged by one v, the first of them by a new one.

    Returns:
        The filter. Its `judge` raises ValueError without a context that has the server's gradient.

    Raises:
        PartError: For f < 0, or n < f + 1.
        OptionError: For learning_rate <= 0, rho < 0 or delay < 1.

    References:
        Xie, Koyejo and Gupta, ICML 2020, "Zeno++: Robust Fully Asynchronous SGD", algorithm 1
    """
    require("zeno_plus_plus", n, f, factor=1, offset=1)

    def init(params: Array) -> ZenoState:
        return ZenoState(jnp.zeros_like(params), jnp.zeros((), jnp.int32))

    def asks(state: ZenoState) -> Array:
        return state.judged % delay == 0

    def judge(row: Array, sent: Sent, context: Context, state: ZenoState) -> tuple[Array, Array, ZenoState]:
        if context.gradient is None:
            raise ValueError(
                "zeno_plus_plus needs data of the server's own: in a scenario data.validation above 0, from Python "
                "judge(row, sent, Context(key, gradient=lambda: own_row), state)"
            )
        new = context.gradient
        own = jax.lax.cond(asks(state), lambda: new().astype(row.dtype), lambda: state.own)
        pair = jnp.stack([row, own])
        unit, own_unit = directions(pair, measure_lengths(pair, jnp.zeros_like(own)))
        both = norms(pair)
        # divided by |v|², which may leave the range of the numbers: then what is left of epsilon is 0 or infinite
        cosine = jnp.matmul(unit, own_unit, precision=jax.lax.Precision.HIGHEST)
        score = learning_rate * cosine - rho + (learning_rate * epsilon / both[1] ** 2 if epsilon else 0)
        usable = jnp.isfinite(both) & (both > 0)
        return both[1] * unit, usable.all() & (score >= 0), ZenoState(own, state.judged + 1)

    return Filter(init, judge, asks, needs=frozenset({"gradient"}))
