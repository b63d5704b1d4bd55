"""Multi-Krum (Blanchard et al. 2017): the mean of the rows with the smallest Krum scores."""

from collections.abc import Callable

import jax.numpy as jnp

from byzax.aggregators.average import average
from byzax.aggregators.base import AggregateAlive, Aggregator, Array, Count, Info, in_exchanges, require
from byzax.aggregators.kernels.choosing import eligible
from byzax.aggregators.kernels.distances import build_sums_of_nearest
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.kernels.measures import distances_between
from byzax.aggregators.kernels.scores import Distance, Neighbours, neighbour_count, score_summands
from byzax.aggregators.kernels.sharding import Steps, on_whole
from byzax.options import OptionError, checked


@checked
def multi_krum(
    n: int,
    f: int,
    *,
    m: Count | None = None,
    distance: Distance = "squared",
    neighbours: Neighbours = "n-f-2",
    unproven: bool = False,
) -> Aggregator:
    """The mean of the m rows with the smallest Krum scores of one pass, `[n, d] -> [d]`.

        s(i) = sum of |x_i - x_j|² over the n-f-2 other rows j closest to x_i;  F = mean of the m rows with smallest s

    Condition: n >= 2f + 3
    Cost: O(n² d)

    Proven: (alpha, f)-resilience for m <= n-f-2 and the default options (AggregaThor); kappa as that of `krum` with the
    same distance and neighbours for m <= n-f, since the sum of the m smallest scores is at most m/(n-f) of the sum of
    the honest rows' scores. Nothing is proven here of other options.

    Rows with a NaN or infinite entry come after all finite ones. Ties: the lowest index wins. Other variants in
    circulation: the sum of the m rows (epfml, right for m = 1 only); Krum repeated on a shrinking pool (Shejwalkar and
    Houmansadr).

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        m: Number of rows averaged, 1 (Krum) to n-f (byzfl), or n, which is the average of all rows and promises nothing
            against Byzantine ones. None: n-f-2, the largest m whose resilience is proven.
        distance: As in `krum`: `plain`, `squared` or `fourth` powers (blades; epfml).
        neighbours: As in `krum`: `n-f`, `n-f-1` (byzfl, with m = n-f), `n-f-2` or `n-f-3`.
        unproven: Whether n >= 2f + 1 suffices, as in byzfl and ALIE's code; m = None is then at least 1.

    Returns:
        The rule. Weights: 1/m for the m rows.

    Raises:
        PartError: For f < 0, or n < 2f + 3 (2f + 1 with unproven).
        OptionError: For m out of its range, or an option that is none of those named.

    Example:
        >>> import numpy as np
        >>> rule = multi_krum(n=5, f=0, m=2)
        >>> aggregate, _, info = rule.apply(np.array([[0], [1], [2], [4], [9]], np.float32), rule.init(1))
        >>> aggregate.tolist(), info.weights.tolist()
        ([1.5], [0.0, 0.5, 0.5, 0.0, 0.0])

    References:
        Blanchard et al., NeurIPS 2017 (Multi-Krum); Damaskinos et al. 2019 (AggregaThor), range of m
    """
    required = require("multi_krum", n, f, factor=2, offset=3, unproven=unproven)

    def least_rows(f: int) -> int:
        if m is None:
            return required(f)
        # m rows are accepted too, as the average; up to f = 1 no number between m and m + f is refused
        return max(required(f), m + f if f > 1 else m)

    if m == n:
        return average(n, f)._replace(least_rows=least_rows)
    if m is not None and m > n - f:
        raise OptionError(
            "m",
            f"must be at most n - f = {n - f}: with more rows a Byzantine one is always averaged (m = n = {n} is the "
            f"plain average), got m={m}",
        )

    def build_selection(rows: Array) -> Steps[Callable[[Array], Array]]:
        squared, finite, _ = yield distances_between(rows)
        sums = build_sums_of_nearest(score_summands(squared, distance))

        def select(alive: Array) -> Array:
            # in a pool smaller than n, as Bulyan makes them, m and the neighbours shrink with it, down to one
            size = jnp.sum(alive)
            most = size - f if m is not None and m > n - f - 2 else size - f - 2
            averaged = jnp.maximum(most if m is None else jnp.minimum(m, most), 1)
            scores = sums(alive, neighbour_count(size, f, neighbours))
            best_first = jnp.lexsort((scores.finite, scores.infinite, ~eligible(alive, finite)))
            return jnp.zeros(n, bool).at[best_first].set(jnp.arange(n) < averaged)

        return select

    def steps(rows: Array) -> Steps[tuple[Array, Info]]:
        select = yield from build_selection(rows)
        result, weights = mean_of(rows, select(jnp.ones(n, bool)))
        return result, Info(weights)

    def among(rows: Array) -> AggregateAlive:
        select = on_whole(build_selection(rows))
        return lambda alive: mean_of(rows, select(alive))[0]

    return in_exchanges(n, steps, 1, among, linear=True, least_rows=least_rows)
