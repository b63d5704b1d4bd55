"""Estimates with 95 % confidence intervals, in float64 on the host."""

from typing import NamedTuple

import numpy as np

Array = np.ndarray
NORMAL = 1.959964  # 97.5 % of the normal distribution lie below
RESAMPLES = 1000
COLUMNS = 20_000  # of a product that are converted to float64 at once


class Estimate(NamedTuple):
    """An estimate with its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower end of the interval; `value` where it is no estimate.
        high: Upper end, likewise.
    """

    value: float
    low: float
    high: float


def mean(values: Array) -> Estimate:
    """Estimates a mean, with a normal interval from the standard deviation (ddof 1).

    Args:
        values: `[m]`, independent values.

    Returns:
        The mean; NaN where a value is not finite.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        return Estimate(np.nan, np.nan, np.nan)
    middle, half = float(values.mean()), float(NORMAL * values.std(ddof=1) / np.sqrt(len(values)))
    return Estimate(middle, middle - half, middle + half)


def products(one: Array, other: Array) -> Array:
    """`one @ other.T` in float64, without a copy of either as a whole.

    Args:
        one: `[m, d]`.
        other: `[k, d]`.

    Returns:
        `[m, k]`.
    """
    total = np.zeros((len(one), len(other)))
    for start in range(0, one.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        total += one[:, part].astype(np.float64) @ other[:, part].astype(np.float64).T
    return total


def length_of_mean(gram: Array) -> Estimate:
    """Estimates the length of E[x].

    |mean of x|² is too large by the noise of the mean. Its unbiased counterpart is the mean of <x_i, x_j> over i != j,
    a
    U-statistic; its standard error is that of the jackknife, which is rather too large than too small (Efron and Stein
    1981), its interval normal. Negative numbers count as 0 before the root is taken.

    Args:
        gram: `[m, m]`, products of m independent draws of x.

    Returns:
        The length; inf where a product is not finite.
    """
    m = len(gram)
    if not np.isfinite(gram).all():
        return Estimate(np.inf, np.inf, np.inf)
    # large draws, so that sums of their products are in range
    scale = np.sqrt(np.abs(gram).max()) or 1.0
    gram = gram / scale**2
    apart = gram.sum(axis=1) - np.diag(gram)
    total = apart.sum()
    value = total / (m * (m - 1))
    without = (total - 2 * apart) / ((m - 1) * (m - 2))
    half = NORMAL * np.sqrt((m - 1) / m * np.square(without - without.mean()).sum())
    ends = np.maximum([value, value - half, value + half], 0)
    return Estimate(*(float(scale * root) for root in np.sqrt(ends)))


def ratio(above: Array, below: Array, generator: np.random.Generator) -> Estimate:
    """Estimates mean(above) / mean(below), with a percentile bootstrap over the pairs.

    Args:
        above: `[m]`.
        below: `[m]`, drawn together with `above`.
        generator: For the bootstrap.

    Returns:
        The ratio; inf where a value above is not finite.
    """
    if not np.isfinite(above).all():
        return Estimate(np.inf, np.inf, np.inf)
    m = len(above)
    shares = generator.multinomial(m, np.full(m, 1 / m), RESAMPLES) / m
    # a common factor keeps fourth powers of large draws in range
    scale = above.max() or 1.0
    values = scale * (shares @ (above / scale)) / (shares @ below)
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(float(scale * np.mean(above / scale) / np.mean(below)), float(low), float(high))
