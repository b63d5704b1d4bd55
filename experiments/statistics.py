"""Statistics of results: intervals over seeds, paired comparisons, ranks and profiles. Formulas are those of scipy.

Seeds are the unit: runs of two settings with the same seed share data, batches and Byzantine workers, so that their
difference is a pair.
"""

# scipy.stats takes most of a second to import: it is imported where it is used
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

CONFIDENCE = 0.95
LEVEL = 0.05
# Resamples of a bootstrap, and the seed by which the same results have the same intervals.
RESAMPLES, SEED = 9_999, 0
# Smallest number of values whose interval is given: of two the bootstrap knows three means.
FEWEST = 3
# Most pairs with equal differences of which all signs are gone through, as scipy's `wilcoxon` does.
MOST_SIGNS = 13
# Results that are kept: all tables of a study are made for the terminal, in Markdown, CSV and LaTeX.
KEPT = 10_000


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
    return _mean_interval(tuple(map(float, values)))


@functools.lru_cache(KEPT)
def _mean_interval(values: tuple[float, ...]) -> Interval:
    from scipy import stats

    given = np.asarray(values)
    if len(given) < FEWEST or not np.isfinite(given).all():
        return NOTHING
    if (given == given[0]).all():
        return Interval(values[0], values[0])
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


def mean_intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % intervals of several means, by the percentile bootstrap with the same resamples of the seeds for all.

    Args:
        values: `[places, seeds]`.

    Returns:
        The lower and the upper ends, each `[places]`; NaN where a value is not finite.
    """
    from scipy import stats

    sound = np.isfinite(values).all(axis=1)
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    if sound.any():
        found = stats.bootstrap(
            (values[sound],),
            np.mean,
            axis=1,
            method="percentile",
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            batch=500,
            rng=np.random.default_rng(SEED),
        ).confidence_interval
        low[sound], high[sound] = found.low, found.high
    return low, high


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
    return _worst_interval(tuple(map(tuple, values.tolist())), higher_is_better)


@functools.lru_cache(KEPT)
def _worst_interval(rows: tuple[tuple[float, ...], ...], higher_is_better: bool) -> Interval:
    values = np.asarray(rows)
    drawn = np.random.default_rng(SEED).integers(0, values.shape[1], (RESAMPLES, values.shape[1]))
    means = values[:, drawn].mean(axis=2)
    worst = means.min(axis=0) if higher_is_better else means.max(axis=0)
    low, high = np.quantile(worst, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def paired_differences(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[float, ...]:
    """The differences of two settings, first minus second, on their common seeds.

    Args:
        first: The values of one by seeds.
        second: Those of the other.

    Returns:
        A difference for each common seed, by rising seeds; those that are not finite are left out.
    """
    common = sorted(first.keys() & second.keys())
    return tuple(each for seed in common if math.isfinite(each := first[seed] - second[seed]))


@functools.lru_cache(KEPT)
def signed_rank_p(differences: tuple[float, ...]) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test, exact for few pairs.

    Args:
        differences: Of pairs.

    Returns:
        The p-value; 1 where all differences are 0, or there are none.

    References:
        Wilcoxon 1945, "Individual Comparisons by Ranking Methods"
    """
    from scipy import stats

    given = np.array([each for each in differences if each])
    if not given.size:
        return 1.0
    sizes = np.abs(given)
    tested: Any
    if len(given) > MOST_SIGNS or len(np.unique(sizes)) == len(given):
        tested = stats.wilcoxon(given)
    else:
        # of equal differences `wilcoxon` goes through all signs too, one after the other
        ranks = np.sign(given) * stats.rankdata(sizes)
        tested = stats.permutation_test(
            (ranks,), np.sum, permutation_type="samples", n_resamples=2**MOST_SIGNS, vectorized=True
        )
    return float(tested.pvalue)


def compare_pairs(first: Mapping[int, float], second: Mapping[int, float]) -> Comparison:
    """Compares two settings on their common seeds.

    Args:
        first: The values of one by seeds.
        second: Those of the other.

    Returns:
        The comparison.
    """
    differences = paired_differences(first, second)
    mean = float(np.mean(differences)) if differences else math.nan
    return Comparison(mean, mean_interval(differences), len(differences), signed_rank_p(differences))


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
    from scipy import stats

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
    from scipy import stats

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
