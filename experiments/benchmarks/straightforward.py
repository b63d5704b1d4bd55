"""The rules as they are usually written, in NumPy or `jax.numpy`: what the benchmark compares byzax's own with.

Every function takes the module (`numpy` or `jax.numpy`), `rows` `[n, d]` and f, and gives `[d]`, or rows where it
stands before a rule. None is careful with NaN, huge numbers or digits. `feasible` says which end in reasonable time.
"""

import itertools
from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np

SUBSETS = 60_000  # that an enumeration may have: about a second
UNROLLED = 64  # rows up to which a recursion may be written out for XLA


def average(xp: Any, rows: Any, f: int) -> Any:
    """The mean."""
    return rows.mean(axis=0)


def median(xp: Any, rows: Any, f: int) -> Any:
    """The median of each coordinate, by sorting."""
    ascending, n = xp.sort(rows, axis=0), len(rows)
    return 0.5 * (ascending[(n - 1) // 2] + ascending[n // 2])


def trimmed_mean(xp: Any, rows: Any, f: int) -> Any:
    """The mean of each coordinate without the f smallest and the f largest values."""
    return xp.sort(rows, axis=0)[f : len(rows) - f].mean(axis=0)


def _closest(xp: Any, rows: Any, centre: Any, count: int) -> Any:
    order = xp.argsort(xp.abs(rows - centre), axis=0)[:count]
    return xp.take_along_axis(rows, order, axis=0).mean(axis=0)


def mean_around_median(xp: Any, rows: Any, f: int) -> Any:
    """The mean of the n - f values of each coordinate closest to its median."""
    return _closest(xp, rows, median(xp, rows, f), len(rows) - f)


def phocas(xp: Any, rows: Any, f: int) -> Any:
    """The mean of the n - f values of each coordinate closest to its trimmed mean."""
    return _closest(xp, rows, trimmed_mean(xp, rows, f), len(rows) - f)


def sign_majority(xp: Any, rows: Any, f: int) -> Any:
    """The sign that most rows have at each coordinate."""
    return xp.sign(xp.sign(rows).sum(axis=0))


def _norms(xp: Any, rows: Any) -> Any:
    return xp.sqrt((rows**2).sum(axis=1))


def cge(xp: Any, rows: Any, f: int) -> Any:
    """The mean of the n - f shortest rows."""
    return rows[xp.argsort(_norms(xp, rows))[: len(rows) - f]].mean(axis=0)


def monna(xp: Any, rows: Any, f: int) -> Any:
    """The mean of the n - f rows closest to the last one."""
    return rows[xp.argsort(_norms(xp, rows - rows[-1]))[: len(rows) - f]].mean(axis=0)


def aksel(xp: Any, rows: Any, f: int) -> Any:
    """The mean of the half of the rows closest to the median."""
    return rows[xp.argsort(_norms(xp, rows - median(xp, rows, f)))[: (len(rows) + 1) // 2]].mean(axis=0)


def norm_clipping(xp: Any, rows: Any, f: int) -> Any:
    """The mean of the rows, each shortened to the median length."""
    lengths = _norms(xp, rows)
    return (rows * xp.minimum(1, xp.median(lengths) / lengths)[:, None]).mean(axis=0)


centered_clipping = norm_clipping  # one iteration from the first state, 0


def squared_distances(xp: Any, rows: Any) -> Any:
    """`[n, n]`, without care for cancellation."""
    if xp is np:
        return np.stack([((rows - row) ** 2).sum(axis=1) for row in rows])
    return ((rows[:, None] - rows[None]) ** 2).sum(axis=2)


def _scores(xp: Any, squared: Any, count: int) -> Any:
    # the distance of a row to itself is the first
    return xp.sort(squared, axis=1)[:, 1 : count + 1].sum(axis=1)


def krum(xp: Any, rows: Any, f: int) -> Any:
    """The row with the smallest sum of squared distances to its n - f - 2 nearest others."""
    return rows[_scores(xp, squared_distances(xp, rows), len(rows) - f - 2).argmin()]


def multi_krum(xp: Any, rows: Any, f: int) -> Any:
    """The mean of the n - f - 2 rows with the smallest scores of Krum."""
    count = len(rows) - f - 2
    return rows[xp.argsort(_scores(xp, squared_distances(xp, rows), count))[:count]].mean(axis=0)


def medoid(xp: Any, rows: Any, f: int) -> Any:
    """The row with the smallest sum of distances to the others."""
    return rows[xp.sqrt(squared_distances(xp, rows)).sum(axis=1).argmin()]


def bulyan(xp: Any, rows: Any, f: int) -> Any:
    """Krum's selection on a shrinking pool, then the mean around the median."""
    n = len(rows)
    squared, alive, selected = squared_distances(xp, rows), xp.arange(n), []
    for left in range(n, 2 * f, -1):
        place = _scores(xp, squared[alive][:, alive], max(left - f - 2, 1)).argmin()
        selected.append(alive[place])
        alive = xp.delete(alive, place, **({} if xp is np else {"assume_unique_indices": True}))
    chosen = rows[xp.stack(selected)]
    return _closest(xp, chosen, xp.sort(chosen, axis=0)[(len(selected) - 1) // 2], n - 4 * f)


def _subsets(n: int, f: int) -> np.ndarray:
    return np.array(list(itertools.combinations(range(n), n - f)))


def brute(xp: Any, rows: Any, f: int) -> Any:
    """The mean of the subset of n - f rows with the smallest diameter, by enumeration."""
    subsets = xp.asarray(_subsets(len(rows), f))
    squared = squared_distances(xp, rows)
    return rows[subsets[squared[subsets[:, :, None], subsets[:, None, :]].max(axis=(1, 2)).argmin()]].mean(axis=0)


def smea(xp: Any, rows: Any, f: int) -> Any:
    """The mean of the subset of n - f rows with the smallest largest eigenvalue, by enumeration."""
    subsets, products = xp.asarray(_subsets(len(rows), f)), rows @ rows.T
    within = products[subsets[:, :, None], subsets[:, None, :]]
    within = within - within.mean(axis=1, keepdims=True)
    within = within - within.mean(axis=2, keepdims=True)
    return rows[subsets[xp.linalg.eigvalsh(within)[:, -1].argmin()]].mean(axis=0)


def geometric_median(xp: Any, rows: Any, f: int, steps: int = 8) -> Any:
    """Eight steps of Weiszfeld from the mean, as RFA takes them."""
    z = rows.mean(axis=0)
    for _ in range(steps):
        weights = 1 / xp.maximum(_norms(xp, rows - z), 1e-6)
        z = (weights[:, None] * rows).sum(axis=0) / weights.sum()
    return z


def median_of_means(xp: Any, rows: Any, f: int) -> Any:
    """The geometric median of the means of 2f + 1 groups."""
    groups = np.array_split(np.arange(len(rows)), 2 * f + 1)
    return geometric_median(xp, xp.stack([rows[group].mean(axis=0) for group in groups]), f)


def nnm(xp: Any, rows: Any, f: int) -> Any:
    """Each row replaced by the mean of its n - f nearest."""
    nearest = xp.argsort(squared_distances(xp, rows), axis=1)[:, : len(rows) - f]
    return xp.stack([rows[each].mean(axis=0) for each in nearest])


def clip(xp: Any, rows: Any, f: int) -> Any:
    """Each row shortened to length 1."""
    return rows * xp.minimum(1, 1 / _norms(xp, rows))[:, None]


def arc(xp: Any, rows: Any, f: int) -> Any:
    """Each row shortened to the length that ARC chooses."""
    n, lengths = len(rows), _norms(xp, rows)
    bound = xp.sort(lengths)[n - 2 * f * (n - f) // n - 1]
    return rows * xp.minimum(1, bound / lengths)[:, None]


RULES: dict[str, Callable[[Any, Any, int], Any]] = {
    function.__name__: function
    for function in (
        *(average, median, trimmed_mean, mean_around_median, phocas, sign_majority, cge, monna, aksel, norm_clipping),
        *(krum, multi_krum, medoid, bulyan, brute, smea, geometric_median, median_of_means, nnm, clip, arc),
    )
} | {"centered_clipping": centered_clipping}


def feasible(name: str, xp: Any, n: int, f: int) -> bool:
    """Tells whether the straightforward rule is there and ends within minutes with n rows."""
    if name in ("brute", "smea"):
        return comb(n, f) <= SUBSETS
    if xp is not np and name in ("bulyan", "nnm"):
        return n <= UNROLLED
    return name in RULES
