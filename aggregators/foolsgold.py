"""FoolsGold (Fung et al. 2020): workers whose sums of rows point the same way lose their weight."""

from typing import Any, Literal

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, Positive, require, stateful
from byzax.aggregators.kernels.cosines import cosine_distances
from byzax.aggregators.kernels.distances import largest_entries
from byzax.aggregators.kernels.means import sum_of_differences
from byzax.aggregators.kernels.measures import lengths_from
from byzax.aggregators.kernels.sharding import ShardedForm, Steps, largest_of, on_whole
from byzax.options import checked


@checked
def foolsgold(n: int, f: int, *, kappa: Positive = 1.0, output: Literal["sum", "mean"] = "sum") -> Aggregator:
    """The sum of the rows, weighted by how little a worker's rows so far are like those of others, `[n, d] -> [d]`.

        H_i = sum of the rows of worker i so far;  cs_ij = cos(H_i, H_j);  v_i = max over j of cs_ij, at least 0
        pardoning: cs_ij = cs_ij v_i / v_j where v_j > v_i
        a_i = 1 - max over j of cs_ij, at most 1;  a = a / max a
        w_i = kappa (ln(a_i / (1 - a_i)) + 1/2), held in [0, 1];  F = sum of w_i x_i

    Condition: n >= f + 1
    Cost: O(n² d)

    Meant for sybils that pursue one goal among workers whose data differ, however many they are. Nothing is promised
    else: a Byzantine worker alone has the largest weight, and honest workers with the same kind of data are taken for
    sybils of one another. The state is the H_i, `[n, d]`: rows are known by their place. As in the authors' code v_i
    and a_i stay in [0, 1]; all features have one weight there, and rows are not clipped first, as their clients do.

    Rows with a NaN or infinite entry weigh nothing and are not added to H_i, nor is a row that would make it infinite:
    the worker stands as before with its next row. A row of 1e30 stays in H_i for good, of that worker alone. Neither a
    row that is not finite nor one of a worker whose H_i is 0 counts in max a. Where all a_i are 0 the weights are
    equal.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        kappa: Steepness with which the weights go from 0 to 1.
        output: `sum`, as in the paper, or `mean`, which divides by the sum of the weights, for step sizes that fit
            other rules.

    Returns:
        The rule. Weights: w_i over their sum.

    Raises:
        PartError: For f < 0, or n < f + 1.
        OptionError: For kappa <= 0, or an output that is none of those named.

    Example:
        >>> import numpy as np
        >>> rule = foolsgold(n=3, f=2)
        >>> rows = np.array([[0, 2], [5, 0], [5, 0]], np.float32)
        >>> aggregate, state, info = rule.apply(rows, rule.init(2))
        >>> aggregate.tolist(), info.weights.tolist()
        ([0.0, 2.0], [1.0, 0.0, 0.0])

    References:
        Fung, Yoon and Beschastnikh, RAID 2020, "The Limitations of Federated Learning in Sybil Settings"
    """
    least_rows = require("foolsgold", n, f, factor=1, offset=1)

    def steps(rows: Array, past: Array, *_: Any) -> Steps[tuple[Array, Array, Info]]:
        origin = jnp.zeros_like(rows[0])
        largest = yield largest_of(largest_entries(rows))
        finite = jnp.isfinite(largest)
        kept = jnp.where(finite[:, None], rows, 0)
        total = past.astype(rows.dtype) + kept
        largest = yield largest_of(largest_entries(total))
        history = jnp.where(jnp.isfinite(largest)[:, None], total, past.astype(rows.dtype))

        lengths = yield lengths_from(history, origin)
        itself = jnp.eye(n, dtype=bool)
        # 1 - cs throughout: of workers that are nearly alike cs itself would keep no digit of the difference
        cosines = yield from cosine_distances(history, lengths)
        apart = jnp.where(itself, 1, cosines)
        nearest = jnp.minimum(jnp.min(apart, axis=1), 1)
        mine, theirs = nearest[:, None], nearest[None, :]
        pardoned = (mine - theirs + (1 - mine) * apart) / jnp.where(mine > theirs, 1 - theirs, 1)
        apart = jnp.where(~itself & (mine > theirs), pardoned, apart)
        alone = jnp.minimum(jnp.min(apart, axis=1), 1)

        counted = finite & (lengths.fraction > 0)
        largest = jnp.max(jnp.where(counted, alone, 0))
        alone = jnp.where(largest > 0, alone / jnp.where(largest > 0, largest, 1), 1)
        alone = jnp.where(counted, jnp.minimum(alone, 1), 0)
        weights = jnp.clip(kappa * (jnp.log(alone) - jnp.log1p(-alone) + 0.5), 0, 1)
        shares = weights / jnp.where(counted.any(), jnp.sum(weights), 1)
        return sum_of_differences(kept, weights if output == "sum" else shares, origin), history, Info(shares)

    def init(d: int) -> Array:
        return jnp.zeros((n, d))

    def aggregate(rows: Array, past: Array) -> tuple[Array, Array, Info]:
        return on_whole(steps(rows, past))

    rule = stateful(n, init, aggregate, linear=output == "mean", least_rows=least_rows)
    return rule._replace(sharded=ShardedForm(4, lambda where, width: init(width), steps))
