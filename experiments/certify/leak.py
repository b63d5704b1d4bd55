"""The hidden vulnerability, measured: what one coordinate can be moved by, as d grows.

f equal Byzantine rows are mu + gamma e_c, with mu the honest mean and honest rows independent N(g, sigma² I) (El Mhamdi
et al., ICML 2018, section 3). For every draw the largest deviation |F_c - mu_c| over gamma, in sigma, is searched: on a
grid that goes beyond what distances between honest rows can hide, then ever finer around the best. For a rule that
selects a row it is the largest gamma at which the Byzantine row still wins. The value is the median over draws; the
slope is that of its logarithm over log d, fitted by least squares to the points from d = 100 on (all points where fewer
than two are). Distances between rows grow with sqrt(d): slope 1/2 for a rule that judges rows as a whole, 0 for one
that judges coordinates.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from byzax.experiments.certify import theory
from byzax.experiments.certify.draws import DrawPurpose, Scene, honest_rows, key
from byzax.experiments.certify.intervals import Estimate
from byzax.experiments.certify.subject import Subject, answers, batch_size

DRAWS, GRID, ROUNDS, FINER = 8, 32, 3, 8
SMALLEST = 0.1  # of gamma, in sigma; the largest is FAR times what Krum could hide at f = (n-3)/2
FAR = 10.0
FLAT = 0.25  # slopes below it are those of a rule that judges coordinates


class Point(NamedTuple):
    """The measurement for one number of parameters.

    Attributes:
        d: Number of parameters.
        value: Median over draws of the largest deviation, in sigma, with quartiles.
        closed: Closed form for Krum; None for other rules.
    """

    d: int
    value: Estimate
    closed: float | None


class Leak(NamedTuple):
    """The deviation of one coordinate over d.

    Attributes:
        points: The points.
        slope: Slope of log deviation over log d.
    """

    points: list[Point]
    slope: float

    @property
    def verdict(self) -> str:
        """The growth in words."""
        if not np.isfinite(self.slope):
            return "no limit"
        return f"grows as d^{self.slope:.2f}" if self.slope > FLAT else "flat"


def measure(
    make: Callable[[int], Subject],
    scenes: Callable[[int], Scene],
    dimensions: tuple[int, ...],
    tell: Callable[[str], None],
) -> Leak:
    """Measures the deviation of one coordinate for several d.

    Args:
        make: Builds the rule for d parameters.
        scenes: Builds the honest rows for d parameters.
        dimensions: Numbers of parameters.
        tell: Receives a line about each stage.

    Returns:
        One point for each d, and the slope.
    """
    points = []
    for d in sorted(set(dimensions)):
        tell(f"leak: d = {d}")
        subject, scene = make(d), scenes(d)
        values = largest_deviations(subject, scene)
        # no interpolation: a deviation may be infinite
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], method="nearest")
        closed = theory.leak(subject.part, subject.pre, scene.n, scene.f, d)
        points.append(Point(d, Estimate(float(middle), float(low), float(high)), closed))
    return Leak(points, slope(points))


def slope(points: list[Point]) -> float:
    """Fits the slope of log deviation over log d.

    Args:
        points: The points; those from d = 100 on count where there are at least two.

    Returns:
        The slope; inf where a deviation is not finite.
    """
    chosen = [point for point in points if point.d >= 100]
    chosen = chosen if len(chosen) > 1 else points
    if not all(np.isfinite(point.value.value) for point in chosen):
        return float("inf")
    values = [max(point.value.value, 1e-12) for point in chosen]
    return float(np.polyfit(np.log([point.d for point in chosen]), np.log(values), 1)[0])


def largest_deviations(subject: Subject, scene: Scene) -> np.ndarray:
    """Searches the largest deviation of coordinate 0 over gamma.

    Args:
        subject: The rule.
        scene: The honest rows.

    Returns:
        `[DRAWS]`, in sigma.
    """
    numbers = np.arange(DRAWS)
    rows = honest_rows(scene, (DrawPurpose.LEAK, scene.d), numbers)
    own = honest_rows(scene, (DrawPurpose.OWN, 4), numbers, rows=1)[:, 0]
    mean = rows[:, scene.f :].mean(axis=1)
    root = key(scene.seed, DrawPurpose.RULE, 4)
    at_once = max(1, batch_size(scene.n, scene.d) // DRAWS)
    limit = FAR * np.sqrt(scene.d * scene.n)

    def deviations(sizes: np.ndarray) -> np.ndarray:
        """`[m, DRAWS]` for sizes `[m, DRAWS]` in sigma."""
        largest = []
        for some in np.split(sizes, range(at_once, len(sizes), at_once)):
            attacked = np.tile(rows, (len(some), 1, 1))
            attacked[:, : scene.f] = np.tile(mean, (len(some), 1))[:, None]
            attacked[:, : scene.f, 0] += (some * scene.sigma).reshape(-1, 1)
            aggregates = answers(subject, attacked, np.tile(own, (len(some), 1)), root)[:, 0].astype(np.float64)
            away = np.abs(aggregates - np.tile(mean[:, 0], len(some))) / scene.sigma
            largest.append(np.where(np.isfinite(away), away, np.inf).reshape(len(some), DRAWS))
        return np.concatenate(largest)

    grid = np.geomspace(SMALLEST, limit, GRID)
    tried = deviations(np.repeat(grid[:, None], DRAWS, axis=1))
    # without a limit: the deviation follows gamma to the end
    if np.median(tried[-1]) > 0.5 * limit / scene.n and np.median(tried.argmax(axis=0)) == GRID - 1:
        return np.full(DRAWS, np.inf)
    best, size = tried.max(axis=0), grid[tried.argmax(axis=0)]
    step = grid[1] / grid[0]
    for _ in range(ROUNDS):
        sizes = size * np.geomspace(1 / step, step, FINER)[:, None]
        finer = deviations(sizes)
        better = finer.max(axis=0) > best
        size = np.where(better, sizes[finer.argmax(axis=0), np.arange(DRAWS)], size)
        best = np.maximum(best, finer.max(axis=0))
        step = step ** (2 / (FINER - 1))
    return best
