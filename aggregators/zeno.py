"""Zeno: rows count by how much they lower the loss on the server's own data."""

import jax
import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Context, Info, State, check_rows, require
from byzax.aggregators.kernels.clipping import norms
from byzax.aggregators.kernels.means import mean_of


def zeno(n: int, f: int, *, learning_rate: float | None = None, rho: float = 5e-4) -> Aggregator:
    """The mean of the n-f rows with the best scores, each the descent that a step along the row gives.

        s_i = L(w) - L(w - learning_rate x_i) - rho |x_i|²,  L = the mean loss on a batch of the server's own data

    Condition: n >= f + 1
    Cost: O(n d), and n + 1 losses on the server's own data
    Source: Xie, Koyejo and Gupta, ICML 2019, "Zeno", definitions 2 and 3

    Any f below n is tolerated as far as the server's data are like those of the workers. Rows that are not finite, or
    whose loss is not, come last. Ties: the lowest index. Weights: 1/(n-f) for the rows averaged. The authors' code
    takes the mean of squares in place of |x_i|²: rho is d times as large there.

    Args:
        learning_rate: of the step that is judged; null: the step that the server would take, with its optimizer, its
            rate in this update and its momentum, or 0.1 where the context does not know it.
        rho: weight of the squared length.

    Raises:
        ValueError: n < 1, f < 0, f >= n, learning_rate <= 0 or rho < 0; without a context that has params and loss.
    """
    require("zeno", n, f, factor=1, offset=1)
    if learning_rate is not None and not learning_rate > 0:
        raise ValueError(f"zeno needs a learning_rate > 0, such as 0.1, got {learning_rate!r}")
    if not rho >= 0:
        raise ValueError(f"zeno needs rho >= 0, such as 5e-4, got {rho!r}")

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        if context is None or context.loss is None or context.params is None:
            raise ValueError(
                "zeno needs data of the server's own: in a scenario data.validation above 0, from Python "
                "apply(rows, state, Context(key, params, loss=lambda params: mean_loss))"
            )
        wide = jnp.asarray(rows).astype(jnp.promote_types(rows.dtype, jnp.float32))
        params, loss, after = context.params, context.loss, context.after
        if learning_rate is not None or after is None:
            rate = 0.1 if learning_rate is None else learning_rate
            after = lambda row: params - rate * row  # noqa: E731
        lengths = norms(wide)
        reached = jax.lax.map(lambda row: loss(after(row)), wide)
        scores = loss(params) - reached - rho * lengths**2
        scores = jnp.where(jnp.isfinite(lengths) & jnp.isfinite(scores), scores, -jnp.inf)
        best = jnp.argsort(-scores, stable=True)
        result, weights = mean_of(wide, jnp.zeros(n, bool).at[best].set(jnp.arange(n) < n - f))
        return result.astype(rows.dtype), state, Info(weights)

    return Aggregator(lambda d: (), apply)
