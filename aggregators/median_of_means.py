"""Median of means (Chen et al. 2017): the median of the means of groups of rows."""

from typing import Any, Literal

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import NEVER, Aggregator, Array, Context, Count, Info, State, require, stateless
from byzax.aggregators.geometric_median import geometric_median
from byzax.aggregators.kernels.columns import median_of_sorted, order_statistics
from byzax.aggregators.kernels.means import group_means
from byzax.aggregators.kernels.sharding import Slice, Steps
from byzax.aggregators.median import median as marginal_median
from byzax.options import OptionError, checked


@checked
def median_of_means(
    n: int, f: int, *, groups: Count | None = None, median: Literal["geometric", "coordinate"] = "geometric"
) -> Aggregator:
    """The geometric median of the means of k groups of rows, `[n, d] -> [d]`.

        F = argmin over z of |z - m_1| + ... + |z - m_k|,  m_j = mean of the rows of group j

    Condition: n >= 2f + 1
    Cost: O(n d), and the cost of the median of k rows

    The groups are neighbours in the matrix: of n rows the first n mod k groups have ceil(n/k), the others floor(n/k).
    The order of the rows matters: who shares a group with whom. A group with a NaN or infinite entry is left out
    (`geometric`) or NaN counts as +inf in its coordinate alone (`coordinate`). The paper cuts group means above a
    threshold in its analysis; that is not done here.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        groups: The number k, 2f+1 to n. More groups bear more Byzantine rows, larger ones average more noise away; the
            paper asks for k >= 2(1+e)f with an e > 0. None: 2f+1, the largest groups of which most hold no Byzantine
            row.
        median: `geometric` is the paper's; `coordinate` takes the median of each coordinate by itself.

    Returns:
        The rule. Weights (`geometric` only): the weight of a group in the geometric median, in equal parts to its rows.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For groups out of its range, or a median that is none of those named.

    Example:
        >>> import numpy as np
        >>> rule = median_of_means(n=6, f=1)
        >>> aggregate, _, info = rule.apply(np.array([[1], [3], [4], [4], [5], [1e30]], np.float32), rule.init(1))
        >>> aggregate.tolist(), info.weights.tolist()
        ([4.0], [0.0, 0.0, 0.5, 0.5, 0.0, 0.0])

    References:
        Chen, Su and Xu, POMACS 2017, "Distributed Statistical Machine Learning in Adversarial Settings"
    """
    required = require("median_of_means", n, f, factor=2, offset=1)
    if groups is not None and not 2 * f + 1 <= groups <= n:
        raise OptionError(
            "groups",
            f"must be at least 2f + 1 = {2 * f + 1} and at most n = {n}: of fewer groups most could hold a Byzantine "
            f"row, got groups={groups}",
        )
    k = 2 * f + 1 if groups is None else groups
    rule = (geometric_median if median == "geometric" else marginal_median)(k, f)

    form = rule.sharded
    assert form is not None

    def least_rows(f: int) -> int:
        if groups is None:
            return required(f)
        return groups if required(f) <= groups else NEVER

    def seen_from_middle(rows: Array) -> tuple[Array, Array]:
        # seen from rows in the middle: a mean far from the origin would round away what the groups differ in
        spread = rows[:: n // k][:k]
        centre = lax.optimization_barrier(median_of_sorted(order_statistics(spread, range(k)), "lower"))
        return centre, group_means(rows - centre, k)

    def seen_from_origin(centre: Array, result: Array, info: Info) -> tuple[Array, Info]:
        if info.weights is None:
            return centre + result, Info()
        sizes = jnp.full(k, n // k).at[: n % k].add(1)
        weights = jnp.repeat(info.weights / sizes, sizes, total_repeat_length=n)
        return centre + result, info._replace(weights=weights)

    def aggregate(rows: Array) -> tuple[Array, Info]:
        centre, means = seen_from_middle(rows)
        result, _, info = rule.apply(means, ())
        return seen_from_origin(centre, result, info)

    def of_slice(rows: Array, state: State, context: Context | None, where: Slice) -> Steps[Any]:
        centre, means = seen_from_middle(rows)
        result, _, info = yield from form.steps(means, (), context, where)
        result, info = seen_from_origin(centre, result, info)
        return result, state, info

    whole = stateless(n, aggregate, linear=median == "geometric", least_rows=least_rows)
    return whole._replace(sharded=form._replace(steps=of_slice))
