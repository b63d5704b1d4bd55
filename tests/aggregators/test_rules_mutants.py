"""Known wrong variants of the rules, planted: the comparison that accepts a rule rejects each of them.

Every mutant is the oracle with one mistake. If one survived, the inputs of the oracle tests could not tell it either.
"""

import functools
import itertools

import numpy as np
import oracles
import pytest
from rules_table import CORE, MEMBERS, agree, attacked, integers, normal, outputs

from tests.nightly import by_night

MEMBER = {member.id: member for member in MEMBERS}


def krum_by(scores_of):
    return lambda rows, f: np.asarray(rows, np.float64)[int(np.argmin(scores_of(np.asarray(rows, np.float64), f)))]


def squared_with_self(rows):
    return ((rows[:, None] - rows[None]) ** 2).sum(axis=2)


def gram_in_float32(rows, f):
    rows = rows.astype(np.float32)
    lengths = (rows * rows).sum(axis=1)
    squared = lengths[:, None] + lengths[None, :] - 2 * rows @ rows.T
    np.fill_diagonal(squared, np.inf)
    return np.sort(squared, axis=1)[:, : len(rows) - f - 2].sum(axis=1)


def nan_as_minimum(rows, f):
    squared = squared_with_self(rows)
    np.fill_diagonal(squared, np.inf)
    scores = np.sort(squared, axis=1)[:, : len(rows) - f - 2].sum(axis=1)
    return np.where(np.isnan(rows).any(axis=1), np.nan, scores)  # argmin returns the first NaN


def bulyan_by(selection=oracles.bulyan_selection, last=oracles.around_median, beta=lambda n, f: n - 4 * f):
    def rule(rows, f):
        rows = np.asarray(rows, np.float64)
        selected = rows[selection(rows, f)]
        return np.array([last(column, beta(len(rows), f)) for column in selected.T])

    return rule


def one_shot(rows, f):
    return list(np.argsort(oracles.krum_scores(rows, len(rows) - f - 2), kind="stable")[: len(rows) - 2 * f])


def neighbours_never_refreshed(rows, f):
    squared = squared_with_self(rows)
    np.fill_diagonal(squared, np.inf)
    nearest = np.argsort(squared, axis=1, kind="stable")[:, : len(rows) - f - 2]
    pool, selected = list(range(len(rows))), []
    for _ in range(len(rows) - 2 * f):
        scores = [sum(squared[i, j] for j in nearest[i] if j in pool) for i in pool]
        selected.append(pool.pop(int(np.argmin(scores))))
    return selected


def f_shrinks_too(rows, f):
    pool, selected = list(range(len(rows))), []
    for k in range(len(rows) - 2 * f):
        left = max(f - k, 0)
        scores = oracles.krum_scores(rows[pool], max(len(pool) - left - 2, 1))
        selected.append(pool.pop(int(np.argmin(scores))))
    return selected


def trimmed(values, beta):
    cut = (len(values) - beta) // 2
    return np.mean(np.sort(values)[cut : cut + beta])


def around_the_mean(values, beta):
    return np.mean(sorted(values, key=lambda value: (abs(value - np.mean(values)), value))[:beta])


def larger_of_ties(values, beta):
    centre = oracles.median_of(values)
    return np.mean(sorted(values, key=lambda value: (abs(value - centre), -value))[:beta])


def last_subset_first(indices, size):
    return reversed(list(itertools.combinations(indices, size)))


def smallest_sum_subset(rows, f):
    rows = np.asarray(rows, np.float64)
    squared = squared_with_self(rows)
    subsets = itertools.combinations(range(len(rows)), len(rows) - f)
    return rows[list(min(subsets, key=lambda s: squared[np.ix_(s, s)].sum()))].mean(axis=0)


def weiszfeld_three_steps_from_zero(rows, f):
    z = np.zeros(rows.shape[1])
    for _ in range(3):
        weights = 1 / np.maximum(0.1, np.linalg.norm(rows - z, axis=1))
        z = weights @ rows / weights.sum()
    return z


def closest_to(centre_of, kept=lambda n, f: n - f, larger=False):
    def rule(rows, f):
        rows = np.asarray(rows, np.float64)
        columns = zip(rows.T, centre_of(rows, f), strict=True)
        key = lambda value, centre: (abs(value - centre), -value if larger else value)  # noqa: E731
        return np.array([np.mean(sorted(c, key=lambda v: key(v, z))[: kept(len(rows), f)]) for c, z in columns])

    return rule


def clipped(factor, last=lambda rows: 0.0, divisor=len):
    """A step of (centred) clipping in which a difference of length l is multiplied by factor(l, median of all l)."""

    def rule(rows, f):
        rows = np.asarray(rows, np.float64)
        differences = rows - last(rows)
        lengths = np.linalg.norm(differences, axis=1)
        factors = np.array([factor(length, np.median(lengths)) for length in lengths])
        return last(rows) + (differences * factors[:, None]).sum(axis=0) / divisor(rows)

    return rule


def interleaved_groups(rows, f):
    means = [rows[start :: 2 * f + 1].mean(axis=0) for start in range(2 * f + 1)]
    return oracles.geometric_median(np.array(means), f)


def groups_of_equal_size_and_a_rest(rows, f):
    size = -(-len(rows) // (2 * f + 1))
    means = [rows[start : start + size].mean(axis=0) for start in range(0, len(rows), size)]
    return oracles.geometric_median(np.array(means), f)


def clipped_within(rows, unclipped):
    """The mean of the rows with this mean, shortened to the median of their own norms."""
    subsets = (list(s) for size in range(5, len(rows)) for s in itertools.combinations(range(len(rows)), size))
    (chosen,) = [s for s in subsets if np.allclose(rows[s].mean(axis=0), unclipped)]
    return oracles.norm_clipping(rows[chosen], 2)


def every_point(points):
    return range(len(points))


def over_the_largest(rows):
    shares = oracles.sign_shares(rows)
    return shares / (shares.max(axis=0) + 1e-8)


RANDOM = np.round(100 * np.concatenate([normal(60, 11, 5, seed=1), attacked(60, 11, 5, 2, seed=2)]))  # f = 2
EVEN = np.round(100 * normal(60, 12, 5, seed=4))
TIES = integers(150, 11, 2, seed=3)
SMALL = normal(60, 11, 5, seed=6)
# the sums of distances of the two rows in the middle are equal
LINE = integers(60, 12, 2, seed=8, largest=9) * np.float32([1, 0])
# long enough for their squared lengths to decide
LONG = np.float32(30) * normal(60, 11, 5, seed=7)
SHORT_ROWS = RANDOM * np.where(np.arange(11) % 3, 1, 0.01)[None, :, None].astype(np.float32)
FAR = 1000 + (0.01 * normal(60, 11, 400, seed=5)).astype(np.float32)
WITH_NAN = RANDOM.copy()
WITH_NAN[:, 4, 0] = np.nan

MUTANTS = [
    ("krum", "n-f-1 neighbours", RANDOM, lambda rows, f: oracles.krum(rows, f, neighbours=len(rows) - f - 1)),
    ("krum", "n-f-3 neighbours", RANDOM, lambda rows, f: oracles.krum(rows, f, neighbours=len(rows) - f - 3)),
    ("krum", "n-f neighbours", RANDOM, lambda rows, f: oracles.krum(rows, f, neighbours=len(rows) - f)),
    ("krum", "unsquared distances", RANDOM, lambda rows, f: oracles.krum(rows, f, power=1)),
    ("krum", "fourth powers", RANDOM, lambda rows, f: oracles.krum(rows, f, power=4)),
    (
        "krum",
        "own distance counted",
        RANDOM,
        krum_by(lambda rows, f: np.sort(squared_with_self(rows), axis=1)[:, : len(rows) - f - 2].sum(axis=1)),
    ),
    ("krum", "highest index of ties", TIES, lambda rows, f: oracles.krum(rows[::-1], f)),
    ("krum", "Gram matrix of raw rows", FAR, krum_by(gram_in_float32)),
    ("krum", "NaN is the minimum", WITH_NAN, krum_by(nan_as_minimum)),
    ("krum-distance=plain", "squared distances", RANDOM, oracles.krum),
    ("krum-neighbours=n-f-1", "n-f-2 neighbours", RANDOM, oracles.krum),
    ("krum-distance=fourth", "squared distances", RANDOM, oracles.krum),
    ("krum-distance=fourth", "cubes", RANDOM, lambda rows, f: oracles.krum(rows, f, power=3)),
    ("krum-neighbours=n-f", "n-f-1 neighbours", RANDOM, lambda rows, f: oracles.krum(rows, f, len(rows) - f - 1)),
    ("krum-neighbours=n-f-3", "n-f-2 neighbours", RANDOM, oracles.krum),
    ("multi_krum-distance=plain", "squared distances", RANDOM, oracles.multi_krum),
    ("multi_krum-neighbours=n-f-1", "n-f-2 neighbours", RANDOM, oracles.multi_krum),
    (
        "multi_krum",
        "Krum repeated on a shrinking pool",
        RANDOM,
        lambda rows, f: rows[oracles.bulyan_selection(rows, f, theta=len(rows) - f - 2)].mean(axis=0),
    ),
    ("multi_krum", "sum instead of mean", RANDOM, lambda rows, f: oracles.multi_krum(rows, f) * (len(rows) - f - 2)),
    ("multi_krum", "m = n-f", RANDOM, lambda rows, f: oracles.multi_krum(rows, f, m=len(rows) - f)),
    ("multi_krum", "m = n-f-1", RANDOM, lambda rows, f: oracles.multi_krum(rows, f, m=len(rows) - f - 1)),
    ("multi_krum", "one row only", RANDOM, oracles.krum),
    ("median", "lower of two", EVEN, lambda rows, f: np.sort(rows, axis=0)[(len(rows) - 1) // 2]),
    ("median", "upper of two", EVEN, lambda rows, f: np.sort(rows, axis=0)[len(rows) // 2]),
    (
        "median",
        "NaN is the minimum",
        WITH_NAN,
        lambda rows, f: np.median(np.where(np.isnan(rows), -1e30, rows), axis=0),
    ),
    ("average", "divided by n-1", RANDOM, lambda rows, f: rows.sum(axis=0) / (len(rows) - 1)),
    ("geometric_median", "three smoothed steps from zero", RANDOM, weiszfeld_three_steps_from_zero),
    ("geometric_median", "the medoid", RANDOM, oracles.medoid),
    ("geometric_median", "the coordinate-wise median", RANDOM, oracles.median),
    ("geometric_median-nu=2.0-iterations=1", "the minimiser", SMALL, oracles.geometric_median),
    (
        "geometric_median-nu=2.0-iterations=1",
        "two steps",
        SMALL,
        lambda rows, f: oracles.weiszfeld(rows, f, 2.0, iterations=2),
    ),
    (
        "geometric_median-nu=2.0-iterations=1",
        "from the mean",
        SMALL,
        lambda rows, f: oracles.weiszfeld(rows, f, 2.0, 1, start="mean"),
    ),
    (
        "geometric_median-nu=2.0-iterations=1",
        "nu added to the distance",
        SMALL,
        lambda rows, f: oracles.weiszfeld(rows, f, 2.0, 1, weight=lambda length, nu: 1 / (nu + length)),
    ),
    (
        "geometric_median-nu=2.0-iterations=3-start=mean",
        "squared distances",
        SMALL,
        lambda rows, f: oracles.weiszfeld(
            rows, f, 2.0, 3, start="mean", weight=lambda length, nu: 1 / np.maximum(nu, length) ** 2
        ),
    ),
    ("medoid", "squared distances", RANDOM, functools.partial(oracles.medoid, power=2)),
    ("medoid", "the geometric median", RANDOM, oracles.geometric_median),
    (
        "medoid",
        "closest to the mean",
        RANDOM,
        lambda rows, f: oracles.closest(rows, ((rows - rows.mean(0)) ** 2).sum(1), 1),
    ),
    ("medoid", "highest index of ties", LINE, lambda rows, f: oracles.medoid(rows[::-1], f)),
    ("median-median=lower", "the mean of the two", EVEN, oracles.median),
    ("median-median=upper", "the lower of the two", EVEN, lambda rows, f: oracles.median(rows, f, "lower")),
    ("aksel-median=lower", "the mean of the two", EVEN, oracles.aksel),
    ("centered_clipping-start=median", "from zero", RANDOM, oracles.centered_clipping),
    (
        "centered_clipping-start=mean-iterations=3",
        "from zero",
        RANDOM,
        lambda rows, f: oracles.centered_clipping(rows, f, iterations=3),
    ),
    ("bulyan-base={'name': 'krum', 'distance': 'plain'}", "squared distances", RANDOM, oracles.bulyan),
    (
        "brute",
        "last subset of ties",
        TIES,
        lambda rows, f: rows[list(oracles.smallest_diameter_subset(rows, f, last_subset_first))].mean(axis=0),
    ),
    ("brute", "smallest sum of distances", RANDOM, smallest_sum_subset),
    ("brute", "n-f-1 rows", RANDOM, lambda rows, f: oracles.brute(rows, f + 1)),
    ("brute", "n-f+1 rows", RANDOM, lambda rows, f: oracles.brute(rows, f - 1)),
    ("bulyan", "theta = n-2f-2", RANDOM, bulyan_by(lambda rows, f: oracles.bulyan_selection(rows, f)[:-2])),
    ("bulyan", "theta = n-2f-2, beta = n-4f-2", RANDOM, functools.partial(oracles.bulyan, theta=11 - 2 * 2 - 2)),
    ("bulyan-theta=n-2f-2", "theta = n-2f", RANDOM, oracles.bulyan),
    ("bulyan-theta=n-2f-2", "theta = n-2f-1", RANDOM, functools.partial(oracles.bulyan, theta=11 - 2 * 2 - 1)),
    ("bulyan-theta=n-2f-2", "beta = n-4f", RANDOM, bulyan_by(lambda rows, f: oracles.bulyan_selection(rows, f)[:-2])),
    ("bulyan", "beta = theta-2f-1", RANDOM, bulyan_by(beta=lambda n, f: n - 4 * f - 1)),
    ("bulyan", "beta = theta", RANDOM, bulyan_by(beta=lambda n, f: n - 2 * f)),
    ("bulyan", "one selection, no recursion", RANDOM, bulyan_by(one_shot)),
    ("bulyan", "neighbours never refreshed", RANDOM, bulyan_by(neighbours_never_refreshed)),
    ("bulyan", "f shrinks with the pool", RANDOM, bulyan_by(f_shrinks_too)),
    ("bulyan", "trimmed, not nearest to the median", RANDOM, bulyan_by(last=trimmed)),
    ("bulyan", "nearest to the mean", RANDOM, bulyan_by(last=around_the_mean)),
    ("bulyan", "larger value of ties", TIES, bulyan_by(last=larger_of_ties)),
    ("bulyan", "middle median of an even number", EVEN, lambda rows, f: oracles.bulyan(rows, f, kind="mid")),
    ("bulyan", "upper median of an even number", EVEN, lambda rows, f: oracles.bulyan(rows, f, kind="upper")),
    ("bulyan-median=mid", "lower median of an even number", EVEN, oracles.bulyan),
    ("bulyan-median=upper", "lower median of an even number", EVEN, oracles.bulyan),
    ("bulyan-base=median", "krum as base", RANDOM, oracles.bulyan),
    ("bulyan-base=average", "median as base", RANDOM, lambda rows, f: oracles.bulyan(rows, f, oracles.median)),
    ("bulyan-base=multi_krum", "krum as base", RANDOM, oracles.bulyan),
    ("trimmed_mean", "2f from above", RANDOM, lambda rows, f: np.sort(rows, axis=0)[: len(rows) - 2 * f].mean(axis=0)),
    ("trimmed_mean", "f+1 at each end", RANDOM, lambda rows, f: oracles.trimmed_mean(rows, f + 1)),
    ("trimmed_mean", "divided by n-f", RANDOM, lambda rows, f: oracles.trimmed_mean(rows, f) * 7 / 9),
    (
        "trimmed_mean",
        "closest to the median (ALIE's code)",
        RANDOM,
        lambda rows, f: oracles.mean_around_median(rows, f, 8),
    ),
    (
        "trimmed_mean",
        "NaN is the minimum",
        WITH_NAN,
        lambda rows, f: oracles.trimmed_mean(np.nan_to_num(rows, nan=-1e30), f),
    ),
    ("mean_around_median", "n-f-1 values", RANDOM, lambda rows, f: oracles.mean_around_median(rows, f, 8)),
    ("mean_around_median", "n-2f values", RANDOM, lambda rows, f: oracles.mean_around_median(rows, f, 7)),
    ("mean_around_median", "trimmed mean", RANDOM, oracles.trimmed_mean),
    ("mean_around_median", "closest to the mean", RANDOM, closest_to(oracles.average)),
    ("mean_around_median", "larger value of ties", TIES, closest_to(oracles.median, larger=True)),
    ("mean_around_median", "lower median", EVEN, lambda rows, f: oracles.mean_around_median(rows, f, kind="lower")),
    ("mean_around_median-count=n-f-1", "n-f values", RANDOM, oracles.mean_around_median),
    ("mean_around_median-median=lower", "middle median", EVEN, oracles.mean_around_median),
    ("phocas", "closest to the median", RANDOM, oracles.mean_around_median),
    ("phocas", "closest to the mean", RANDOM, closest_to(oracles.average)),
    ("phocas", "n-2f values", RANDOM, closest_to(oracles.trimmed_mean, kept=lambda n, f: n - 2 * f)),
    ("phocas", "n-f-1 values", RANDOM, closest_to(oracles.trimmed_mean, kept=lambda n, f: n - f - 1)),
    ("phocas", "larger value of ties", TIES, closest_to(oracles.trimmed_mean, larger=True)),
    ("phocas", "no second step", RANDOM, oracles.trimmed_mean),
    ("median_of_means", "f+1 groups", RANDOM, lambda rows, f: oracles.median_of_means(rows, f, groups=3)),
    ("median_of_means", "2f+2 groups", RANDOM, lambda rows, f: oracles.median_of_means(rows, f, groups=6)),
    ("median_of_means", "interleaved groups", RANDOM, interleaved_groups),
    ("median_of_means", "ceil(n/k) rows each and a rest", RANDOM, groups_of_equal_size_and_a_rest),
    (
        "median_of_means",
        "median of coordinates",
        RANDOM,
        lambda rows, f: oracles.median_of_means(rows, f, of=oracles.median),
    ),
    ("median_of_means-median=coordinate", "geometric median", RANDOM, oracles.median_of_means),
    ("cge", "sum instead of mean", RANDOM, lambda rows, f: oracles.cge(rows, f) * (len(rows) - f)),
    ("cge", "n-f-1 rows", RANDOM, lambda rows, f: oracles.cge(rows, f + 1)),
    ("cge", "sums of absolute values", RANDOM, lambda rows, f: oracles.closest(rows, np.abs(rows).sum(axis=1), 9)),
    ("cge", "largest absolute values", RANDOM, lambda rows, f: oracles.closest(rows, np.abs(rows).max(axis=1), 9)),
    ("cge", "farthest from the mean dropped", RANDOM, lambda rows, f: oracles.aksel(rows, f, centre=oracles.average)),
    ("cge", "highest index of ties", TIES, lambda rows, f: oracles.cge(rows[::-1], f)),
    ("cge-output=sum", "mean instead of sum", RANDOM, oracles.cge),
    ("norm_clipping", "short rows lengthened", RANDOM, clipped(lambda length, tau: tau / length)),
    ("norm_clipping", "long rows dropped", RANDOM, clipped(lambda length, tau: float(length <= tau))),
    ("norm_clipping", "squared norms", RANDOM, clipped(lambda length, tau: min(1, (tau / length) ** 2))),
    (
        "norm_clipping",
        "divided by n-f",
        RANDOM,
        clipped(lambda length, tau: min(1, tau / length), divisor=lambda rows: 9),
    ),
    ("norm_clipping", "not clipped", RANDOM, oracles.average),
    ("centered_clipping", "squared distances", RANDOM, clipped(lambda length, tau: min(1, (tau / length) ** 2))),
    (
        "centered_clipping",
        "divided by n-f",
        RANDOM,
        clipped(lambda length, tau: min(1, tau / length), divisor=lambda rows: 9),
    ),
    (
        "centered_clipping",
        "starts at the mean",
        RANDOM,
        clipped(lambda length, tau: min(1, tau / length), last=lambda rows: rows.mean(axis=0)),
    ),
    ("centered_clipping", "three iterations", RANDOM, lambda rows, f: oracles.centered_clipping(rows, f, iterations=3)),
    (
        "centered_clipping-tau=0.1-iterations=3",
        "one iteration",
        RANDOM,
        lambda rows, f: oracles.centered_clipping(rows, f, 0.1),
    ),
    (
        "clipped_clustering",
        "single linkage",
        RANDOM,
        lambda rows, f: oracles.clipped_clustering(rows, f, linkage=np.min),
    ),
    (
        "clipped_clustering",
        "complete linkage",
        RANDOM,
        lambda rows, f: oracles.clipped_clustering(rows, f, linkage=np.max),
    ),
    ("clipped_clustering", "smaller cluster", RANDOM, lambda rows, f: oracles.clipped_clustering(rows, f, size=min)),
    ("clipped_clustering", "not clipped", RANDOM, lambda rows, f: oracles.clipped_clustering(rows, f, past=[1e9] * 11)),
    (
        "clipped_clustering",
        "norms of the cluster only",
        RANDOM,
        lambda rows, f: clipped_within(rows, oracles.clipped_clustering(rows, f, past=[1e9] * 11)),
    ),
    ("clipped_clustering", "every row clipped, none dropped", RANDOM, oracles.norm_clipping),
    ("fltrust", "rows that disagree count negatively", RANDOM, functools.partial(oracles.fltrust, trust=lambda c: c)),
    ("fltrust", "rows that disagree count as well", RANDOM, functools.partial(oracles.fltrust, trust=abs)),
    ("fltrust", "equal weights", RANDOM, functools.partial(oracles.fltrust, trust=lambda c: float(c > 0))),
    ("fltrust", "rows of their own length", RANDOM, functools.partial(oracles.fltrust, resized=False)),
    ("fltrust", "divided by n", RANDOM, functools.partial(oracles.fltrust, counted=True)),
    ("zeno", "n-f-1 rows", SMALL, functools.partial(oracles.zeno, count=8)),
    ("zeno", "a step up the gradient", SMALL, functools.partial(oracles.zeno, learning_rate=-0.1)),
    ("zeno", "a step of length 1", SMALL, functools.partial(oracles.zeno, learning_rate=1)),
    ("zeno", "length, not squared", LONG, functools.partial(oracles.zeno, power=1)),
    ("zeno", "no weight of the length", LONG, functools.partial(oracles.zeno, rho=0)),
    ("zeno", "mean of squares (the authors' code)", LONG, functools.partial(oracles.zeno, rho=5e-4 / 5)),
    ("dnc", "not centred", RANDOM, functools.partial(oracles.dnc, centred=False)),
    ("dnc", "the second direction", RANDOM, functools.partial(oracles.dnc, which=1)),
    ("dnc", "signed, not squared", RANDOM, functools.partial(oracles.dnc, size=lambda along: along)),
    ("dnc", "the nearest dropped", RANDOM, functools.partial(oracles.dnc, size=lambda along: -(along**2))),
    ("dnc", "2f rows dropped", RANDOM, functools.partial(oracles.dnc, dropped=4)),
    ("caf", "until n-f", RANDOM, functools.partial(oracles.caf, until=lambda n, f: n - f)),
    ("caf", "the last mean", RANDOM, functools.partial(oracles.caf, keeps=lambda now, smallest: True)),
    ("caf", "the farthest dropped, no other touched", RANDOM, functools.partial(oracles.caf, hard=True)),
    ("caf", "covariance over n", RANDOM, functools.partial(oracles.caf, divided=False)),
    ("signguard-share=1.0", "rows of any length", RANDOM, functools.partial(oracles.signguard, low=0, high=np.inf)),
    ("signguard-share=1.0", "none too short", SHORT_ROWS, functools.partial(oracles.signguard, low=0)),
    ("signguard-share=1.0", "clusters of any sign", RANDOM, functools.partial(oracles.signguard, cluster=every_point)),
    ("signguard-share=1.0", "not clipped", RANDOM, functools.partial(oracles.signguard, clip=False)),
    (
        "signguard-share=1.0",
        "no share of zeros",
        TIES,
        functools.partial(oracles.signguard, features=lambda rows: oracles.sign_shares(rows)[:, ::2] * [1, 0]),
    ),
    (
        "signguard-share=1.0",
        "shares over the largest of them (the authors' code)",
        RANDOM,
        functools.partial(oracles.signguard, features=over_the_largest),
    ),
    (
        "signguard-share=1.0-similarity=cosine",
        "the median distance",
        RANDOM,
        functools.partial(oracles.signguard, similarity="distance"),
    ),
    ("signguard-share=1.0-similarity=distance", "signs alone", RANDOM, oracles.signguard),
    ("foolsgold", "no pardoning", RANDOM, functools.partial(oracles.foolsgold, pardon=False)),
    ("foolsgold", "not rescaled to 1", RANDOM, functools.partial(oracles.foolsgold, rescale=False)),
    ("foolsgold", "no logit", RANDOM, functools.partial(oracles.foolsgold, logit=False)),
    ("foolsgold", "kappa = 2", RANDOM, functools.partial(oracles.foolsgold, kappa=2)),
    ("foolsgold", "mean instead of sum", RANDOM, functools.partial(oracles.foolsgold, divide=True)),
    ("foolsgold-output=mean", "sum instead of mean", RANDOM, oracles.foolsgold),
    ("sign_majority", "sign of the mean", RANDOM, lambda rows, f: np.sign(rows.mean(axis=0))),
    ("sign_majority", "a tie is a yes", TIES, lambda rows, f: np.where(np.sign(rows).sum(axis=0) >= 0, 1, -1)),
    ("sign_majority", "zero is a yes", TIES, lambda rows, f: np.sign(np.where(rows >= 0, 1, -1).sum(axis=0))),
    ("sign_majority", "NaN is a yes", WITH_NAN, lambda rows, f: oracles.sign_majority(np.nan_to_num(rows, nan=1), f)),
    ("aksel", "n-f rows", RANDOM, lambda rows, f: oracles.aksel(rows, f, count=9)),
    ("aksel", "floor(n/2) rows", RANDOM, lambda rows, f: oracles.aksel(rows, f, count=5)),
    ("aksel", "n/2 + 1 rows", EVEN, lambda rows, f: oracles.aksel(rows, f, count=7)),
    ("aksel", "closest to the mean", RANDOM, lambda rows, f: oracles.aksel(rows, f, centre=oracles.average)),
    (
        "aksel",
        "closest to the geometric median",
        RANDOM,
        lambda rows, f: oracles.aksel(rows, f, centre=oracles.geometric_median),
    ),
    ("aksel", "lower median", EVEN, lambda rows, f: oracles.aksel(rows, f, centre=lambda r, f: np.sort(r, axis=0)[5])),
    ("aksel", "highest index of ties", TIES, lambda rows, f: oracles.aksel(rows[::-1], f)),
    ("aksel-count=n-f", "ceil(n/2) rows", RANDOM, oracles.aksel),
    ("aksel-count=n-f", "n-f-1 rows", RANDOM, lambda rows, f: oracles.aksel(rows, f, count=8)),
    ("smea", "n-f-1 rows", RANDOM, lambda rows, f: oracles.smea(rows, f + 1)),
    (
        "smea",
        "smallest variance",
        RANDOM,
        lambda rows, f: oracles.smea(rows, f, lambda s: np.trace(oracles.covariance(s))),
    ),
    ("smea", "not centred", RANDOM, lambda rows, f: oracles.smea(rows, f, lambda s: np.linalg.norm(s, ord=2))),
    ("smea", "smallest diameter", RANDOM, oracles.brute),
    ("monna", "first row trusted", RANDOM, lambda rows, f: oracles.monna(rows, f, pivot=0)),
    (
        "monna",
        "without the pivot",
        RANDOM,
        lambda rows, f: oracles.closest(rows[:-1], np.linalg.norm(rows[:-1] - rows[-1], axis=1), 9),
    ),
    ("monna", "n-f-1 rows", RANDOM, lambda rows, f: oracles.monna(rows, f, count=8)),
    ("monna", "n-f+1 rows", RANDOM, lambda rows, f: oracles.monna(rows, f, count=10)),
    ("monna", "highest index of ties", TIES, lambda rows, f: oracles.monna(np.roll(rows[::-1], -1, axis=0), f)),
    ("monna-pivot=0", "last row trusted", RANDOM, oracles.monna),
]
CACHE = {}


def rule_outputs(member, batches):
    """The answer of the rule, which its own oracle confirms."""
    key = (member.id, id(batches))
    if key not in CACHE:
        found = outputs(member, batches, 2)
        if batches is FAR:  # compared by what the rows differ in, not by the 1000 they share
            found, batches = found - 1000, batches - 1000
        oracle = member.oracle
        if batches is WITH_NAN:
            oracle = lambda rows, f: member.oracle(np.where(np.isnan(rows), member.nan, rows), f)  # noqa: E731
        assert agree_on(found, batches, np.nan_to_num(batches), oracle).all()
        CACHE[key] = found
    return CACHE[key]


@pytest.mark.parametrize(
    ("name", "mistake", "batches", "mutant"),
    # by day those that 11 rows of a few columns tell, for which each rule compiles once
    [
        each if each[0] in CORE and each[2] is not FAR and each[2].shape[1] == 11 else by_night(*each)
        for each in MUTANTS
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_comparison_with_the_oracle_rejects_the_mutant(name, mistake, batches, mutant):
    member = MEMBER[name]
    found = rule_outputs(member, batches)
    wrong = mutant
    if batches is FAR:
        wrong = lambda rows, f: mutant(rows + np.float32(1000), f) - 1000  # noqa: E731
        batches = batches - 1000
    assert not agree_on(found, batches, np.nan_to_num(batches), wrong).all()


def agree_on(found, batches, scale_from, oracle):
    expected = iter([oracle(rows, 2) for rows in batches])
    return agree(found, scale_from, 2, lambda rows, f: next(expected))


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("krum", 7),
        ("multi_krum", 7),
        ("medoid", 5),
        ("brute", 5),
        ("bulyan", 11),
        ("median", 5),
        ("geometric_median", 5),
        ("trimmed_mean", 5),
        ("mean_around_median", 5),
        ("phocas", 5),
        ("median_of_means", 5),
        ("cge", 5),
        ("norm_clipping", 5),
        ("sign_majority", 5),
        ("centered_clipping", 5),
        ("clipped_clustering", 5),
        ("aksel", 5),
        ("monna", 5),
        ("signguard-share=1.0", 5),
        ("foolsgold", 3),
        ("fltrust", 3),
        ("zeno", 3),
        ("dnc", 5),
        ("caf", 5),
        ("smea", 5),
    ],
)
def test_conditions_are_not_off_by_one(name, smallest):
    """With f = 2: 2f + 3, not 2f + 1 or 2f + 2; 2f + 1, not 2f; 4f + 3, not 4f + 2; f + 1, not f."""
    MEMBER[name].build(smallest, 2)
    for n in range(1, smallest):
        with pytest.raises(ValueError, match="needs n >="):
            MEMBER[name].build(n, 2)
