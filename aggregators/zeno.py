"""Zeno (Xie et al. 2019): the mean of the rows that lower the loss on the server's own data most."""

import jax
import jax.numpy as jnp

from byzax.aggregators.base import (
    Aggregator,
    Array,
    Context,
    Info,
    Need,
    NotNegative,
    Positive,
    State,
    check_rows,
    require,
)
from byzax.aggregators.kernels.clipping import norms
from byzax.aggregators.kernels.means import mean_of
from byzax.options import checked


@checked
def zeno(n: int, f: int, *, learning_rate: Positive | None = None, rho: NotNegative = 5e-4) -> Aggregator:
    """The mean of the n-f rows along which a step lowers the loss on the server's own data most, less a penalty.

        s_i = L(w) - L(w - learning_rate x_i) - rho |x_i|²,  L = the mean loss on a batch of the server's own data

    Condition: n >= f + 1
    Cost: O(n d), and n + 1 losses on the server's own data

    Any f below n is tolerated as far as the server's data are like those of the workers. The authors' code takes the
    mean of squares in place of |x_i|²: rho is d times as large there. Rows that are not finite, or whose loss is not,
    come last. Ties: the lowest index.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        learning_rate: Of the step that is judged. None: the step that the server would take, with its optimizer, its
            rate in this update and its momentum; 0.1 where `apply` is called with a context without `after`.
        rho: Weight of the penalty, the squared length of the row.

    Returns:
        The rule. Weights: 1/(n-f) for the rows averaged. Its `apply` raises ValueError without a context that has
        params and loss.

    Raises:
        PartError: For f < 0, or n < f + 1.
        OptionError: For learning_rate <= 0 or rho < 0.

    References:
        Xie, Koyejo and Gupta, ICML 2019, "Zeno", definitions 2 and 3
    """
    least_rows = require("zeno", n, f, factor=1, offset=1)

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        if context is None or context.loss is None or context.params is None:
            raise ValueError(
                "zeno needs data of the server's own: in a scenario data.validation above 0, from Python "
                "apply(rows, state, Context(key, params, loss=lambda params: mean_loss))"
            )
        wide = jnp.asarray(rows).astype(jnp.promote_types(rows.dtype, jnp.float32))
        params, loss = context.params, context.loss
        after = context.after if learning_rate is None else None
        if after is None:
            rate = 0.1 if learning_rate is None else learning_rate
            after = lambda row: params - rate * row  # noqa: E731
        lengths = norms(wide)
        reached = jax.lax.map(lambda row: loss(after(row)), wide)
        scores = loss(params) - reached - rho * lengths**2
        scores = jnp.where(jnp.isfinite(lengths) & jnp.isfinite(scores), scores, -jnp.inf)
        best = jnp.argsort(-scores, stable=True)
        result, weights = mean_of(wide, jnp.zeros(n, bool).at[best].set(jnp.arange(n) < n - f))
        return result.astype(rows.dtype), state, Info(weights)

    needs: frozenset[Need] = frozenset({"loss", "after"} if learning_rate is None else {"loss"})
    return Aggregator(lambda d: (), apply, linear=True, least_rows=least_rows, needs=needs)
