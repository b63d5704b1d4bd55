"""SMEA (Allouah et al. 2023): the mean of the rows that spread least in any direction."""

from math import comb

from byzax.aggregators.base import Aggregator, Array, Info, in_exchanges, require
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.kernels.measures import distances_between
from byzax.aggregators.kernels.sharding import Steps
from byzax.aggregators.kernels.spectrum import least_spread_subset
from byzax.options import PartError, checked

MOST_SUBSETS = 1_000_000  # about a second of one core at n = 30


@checked
def smea(n: int, f: int) -> Aggregator:
    """The mean of the subset of n-f rows whose covariance has the smallest largest eigenvalue, `[n, d] -> [d]`.

        F = mean of S,  S = the n-f rows with the smallest lambda_max of the mean over S of (x - m_S)(x - m_S)^T

    Condition: n >= 2f + 1
    Cost: O(n² d + C(n, f) n²), and C(n, f) must be at most a million

    Exact. Eigenvalues come from the distances between rows; those of most subsets are ruled out by a lower bound.

    Rows with a NaN or infinite entry are farther from all others than any finite row. Ties: the lexicographically first
    of the subsets whose eigenvalues are equal in floating point.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.

    Returns:
        The rule. Weights: 1/(n-f) for the rows of the subset.

    Raises:
        PartError: For f < 0, n < 2f + 1, or more than a million subsets.

    Example:
        >>> import numpy as np
        >>> rule = smea(n=5, f=2)
        >>> aggregate, _, info = rule.apply(np.array([[0], [1], [3], [9], [np.inf]], np.float32), rule.init(1))
        >>> aggregate.tolist(), (info.weights > 0).tolist()
        ([1.3333333730697632], [True, True, True, False, False])

    References:
        Allouah et al., ICML 2023, "On the Privacy-Robustness-Utility Trilemma in Distributed Learning" (SMEA)
    """
    least_rows = require("smea", n, f, factor=2, offset=1)
    if comb(n, f) > MOST_SUBSETS:
        most = max(k for k in range(f) if comb(n, k) <= MOST_SUBSETS)
        raise PartError(
            f"smea looks at all C(n, f) = {comb(n, f):,} subsets of n={n} rows without f={f}, at most "
            f"{MOST_SUBSETS:,}: with so many rows f is at most {most}; brute has no such limit"
        )

    def steps(rows: Array) -> Steps[tuple[Array, Info]]:
        apart = yield distances_between(rows)
        result, weights = mean_of(rows, least_spread_subset(apart, n - f))
        return result, Info(weights)

    return in_exchanges(n, steps, 1, linear=True, least_rows=least_rows)
