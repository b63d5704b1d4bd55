"""Statistics of results: intervals over seeds, paired comparisons, ranks and profiles. Formulas are those of scipy.

Seeds are the unit: runs of two settings with the same seed share data, batches and Byzantine workers, so that their
difference is a pair.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
LEVEL = 0.05
# Resamples of a bootstrap, and the seed by which the same results have the same intervals.
RESAMPLES, SEED = 9_999, 0
# Smallest number of values whose interval is given: of two the bootstrap knows three means.
FEWEST = 3


class Interval(NamedTuple):
    """An interval of a mean.

    Attributes:
        low: Its lower end; NaN where there are too few values, or one is not finite.
        high: Its upper end.
    """

    low: float
    high: float


NOTHING = Interval(math.nan, math.nan)


class Comparison(NamedTuple):
    """The paired differences of two settings, first minus second.

    Attributes:
        difference: Their mean.
        interval: Its 95 % interval.
        pairs: Number of seeds that both have.
        p: Two-sided p-value of Wilcoxon's signed-rank test; 1 where all differences are 0, or no seed is common.
    """

    difference: float
    interval: Interval
    pairs: int
    p: float


class Ranking(NamedTuple):
    """The average ranks of methods over settings, 1 for the best.

    Attributes:
        ranks: `[methods]`.
        critical: The difference of average ranks that is significant at 5 % (Nemenyi); NaN for fewer than two settings.
        p: P-value of Friedman's test that all methods are alike; NaN for fewer than three methods or two settings.
    """

    ranks: np.ndarray
    critical: float
    p: float


def mean_interval(values: Sequence[float]) -> Interval:
    """The 95 % interval of a mean, by the percentile bootstrap.

    Args:
        values: One for each seed.

    Returns:
        The interval; of equal values both ends are that value.

    References:
        Efron and Tibshirani 1993, "An Introduction to the Bootstrap"
    """
    given = np.asarray(values, float)
    if len(given) < FEWEST or not np.isfinite(given).all():
        return NOTHING
    if (given == given[0]).all():
        return Interval(given[0], given[0])
    # corrected for bias and skewness it jumps by several percent of its width where few values are rounded otherwise
    found = stats.bootstrap(
        (given,),
        np.mean,
        method="percentile",
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def worst_interval(values: np.ndarray, higher_is_better: bool) -> Interval:
    """The 95 % interval of the worst of several means, by the percentile bootstrap over seeds.

    Args:
        values: `[settings, seeds]`, such as a rule under each attack.
        higher_is_better: Whether the worst mean is the smallest.

    Returns:
        The interval of the worst mean. Seeds are drawn for all settings together, and the worst setting is found anew
        in each draw.
    """
    if values.shape[1] < FEWEST or not np.isfinite(values).all():
        return NOTHING
    drawn = np.random.default_rng(SEED).integers(0, values.shape[1], (RESAMPLES, values.shape[1]))
    means = values[:, drawn].mean(axis=2)
    worst = means.min(axis=0) if higher_is_better else means.max(axis=0)
    low, high = np.quantile(worst, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def compare_pairs(first: Mapping[int, float], second: Mapping[int, float]) -> Comparison:
    """Compares two settings on their common seeds.

    Args:
        first: The values of one by seeds.
        second: Those of the other.

    Returns:
        The comparison; seeds with a value that is not finite do not count.

    References:
        Wilcoxon 1945, "Individual Comparisons by Ranking Methods"
    """
    common = sorted(seed for seed in first.keys() & second.keys() if math.isfinite(first[seed] - second[seed]))
    differences = np.array([first[seed] - second[seed] for seed in common])
    if not len(common):
        return Comparison(math.nan, NOTHING, 0, 1.0)
    # exact for few pairs, also where differences are 0 or equal
    tested: Any = stats.wilcoxon(differences) if differences.any() else None
    p = 1.0 if tested is None else float(tested.pvalue)
    return Comparison(float(differences.mean()), mean_interval(differences.tolist()), len(common), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts the p-values of several tests, so that one of them is below 5 % by chance in 5 % of all cases at most.

    Args:
        p_values: Those of the tests.

    Returns:
        The adjusted ones, in the same order.

    References:
        Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure"
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values, float)[order] * factors), 1)
    return adjusted.tolist()


def seeds_needed(comparisons: int) -> int:
    """The fewest seeds with which Wilcoxon's test can find a difference, however large, after Holm's adjustment.

    Args:
        comparisons: Number of tests.

    Returns:
        The smallest m with 2 / 2^m <= 5 % / comparisons.
    """
    return math.ceil(math.log2(2 * max(comparisons, 1) / LEVEL))


def interquartile_mean(values: np.ndarray) -> float:
    """The mean of the middle half of values.

    Args:
        values: Of all settings and seeds.

    Returns:
        The mean, which a quarter of failures does not change.

    References:
        Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
    """
    return float(stats.trim_mean(np.ravel(values), 0.25))


def profile(values: np.ndarray, thresholds: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """The performance profile: the share of runs that are at least as good as each threshold.

    Args:
        values: `[settings, seeds]`, NaN where a run is missing; every setting counts alike.
        thresholds: `[t]`.
        higher_is_better: Whether larger values are better.

    Returns:
        The shares `[t]`.

    References:
        Agarwal et al. 2021
    """
    there = np.isfinite(values)
    compared = np.where(there, values, -np.inf if higher_is_better else np.inf)[:, :, None]
    good = compared >= thresholds if higher_is_better else compared <= thresholds
    return (good.sum(axis=1) / there.sum(axis=1)[:, None]).mean(axis=0)


def rank(values: np.ndarray, higher_is_better: bool) -> Ranking:
    """Ranks methods by their values in each setting; equal values share the mean of their ranks.

    Args:
        values: `[settings, methods]`, finite.
        higher_is_better: Whether larger values are better.

    Returns:
        The average ranks, and the difference that counts.

    References:
        Demsar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets"
    """
    settings, methods = values.shape
    ranks = stats.rankdata(-values if higher_is_better else values, axis=1)
    critical = p = math.nan
    if settings > 1 and methods > 1:
        studentised = stats.studentized_range.ppf(1 - LEVEL, methods, math.inf) / math.sqrt(2)
        critical = float(studentised * math.sqrt(methods * (methods + 1) / (6 * settings)))
    if settings > 1 and methods > 2:
        # all ranks equal in every setting: nothing tells the methods apart
        alike = (ranks == ranks[:, :1]).all()
        p = 1.0 if alike else float(stats.friedmanchisquare(*ranks.T).pvalue)
    return Ranking(ranks.mean(axis=0), critical, p)
