"""UBAR (Guo et al. 2021): neighbours that are near, and whose loss on a batch of one's own is not above the own one."""

import jax
import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Fraction, Info, Share, require
from byzax.aggregators.kernels.choosing import mask_smallest
from byzax.aggregators.kernels.distances import squared_distances_to
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.mixing.base import Models, mixing_without_state
from byzax.options import checked


@checked
def ubar(n: int, f: int, *, rho: Share | None = None, alpha: Fraction = 0.5) -> Aggregator:
    """The own model, and the mean of those of the near neighbours that are not worse on a batch of one's own.

        x_i <- alpha x_i + (1 - alpha) mean of the x_j, j in S with L_i(x_j) <= L_i(x_i);  S = the share rho of the
        neighbours nearest to x_i, L_i = the mean loss on a fresh batch of the samples of node i

    Condition: n >= f + 2
    Cost: O(n d), and n losses on a batch

    Where nobody in S is as good as the node itself, the best of them counts alone. Models that are not finite come
    last, and where no model of S has a finite loss the node keeps its own. In the paper the node's gradient is taken at
    the model before the mixing and applied after it; here nodes send the models after their steps, and mix these.

    Args:
        n: Number of models, the node's own among them.
        f: Number of them that may be Byzantine.
        rho: Share of the neighbours that are near, rounded down, one at least. None: all but f of them.
        alpha: Weight of the own model.

    Returns:
        The mixing. Weights: alpha of the own model, the rest in equal parts of those averaged.

    Raises:
        PartError: For f < 0, or n < f + 2.
        OptionError: For an option out of its range.

    References:
        Guo et al., IEEE TCSVT 2021, "Byzantine-Resilient Decentralized Stochastic Gradient Descent" (UBAR, MOZI)
    """
    least_rows = require("ubar", n, f, factor=1, offset=2)
    near = n - 1 - f if rho is None else max(1, int(rho * (n - 1) + 1e-9))

    def mix(models: Models) -> tuple[Array, Info]:
        rows, own, loss = models.rows, models.around.own, models.context.loss
        assert loss is not None
        distances = squared_distances_to(rows, models.own)
        chosen = mask_smallest(distances, near, ~own)
        losses = jax.lax.map(loss, rows)
        losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
        usable = chosen & jnp.isfinite(losses)
        good = usable & (losses <= losses[jnp.argmax(own)])
        best = usable & mask_smallest(losses, 1, usable)
        kept = jnp.where(good.any(), good, jnp.where(best.any(), best, own))
        mean, shares = mean_of(rows, kept)
        return alpha * models.own + (1 - alpha) * mean, Info((1 - alpha) * shares + alpha * own)

    return mixing_without_state("ubar", n, mix, linear=True, least_rows=least_rows, needs=frozenset({"loss"}))
