"""The breakdown point, measured, and the smallest strength of an attack that turns the aggregate round.

The finite-sample breakdown point is the smallest number of rows that, moved, take the answer beyond any bound (Donoho
and Huber 1983). The rule is built once, with its declared f; k rows are really Byzantine. It counts as broken by k of
them where some pattern moves the answer farther from the honest mean than 1,000 times the honest spread at a distance
of up to 1e30 spreads: a rule that holds stays within a few spreads at all of them, one that breaks goes along with
them. That k rows break the rule is shown by an example; that fewer do not is what a search of these patterns found.

Strength: all f Byzantine workers send -epsilon times the honest mean (Xie, Koyejo and Gupta 2019), or the searched
direction and pattern at another size; the smallest at which the mean over draws of <F, g> is negative, to 1 % by
bisection, and where that ends again: a rule may be turned round by a small one that hides among the honest rows and not
by a large one, so a grid comes first.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from byzax.experiments.certify import search, theory
from byzax.experiments.certify.draws import DrawPurpose, Scene, honest_rows, host_generator, key
from byzax.experiments.certify.subject import Subject, answers, batch_size, draws_within_memory

STRENGTHS = (1e3, 1e6, 1e12, 1e30)  # distances of the Byzantine rows in honest spreads
BEYOND = 1e3  # spreads, and the rule counts as broken
POINTS = 33  # numbers of Byzantine rows that are looked at before the bisection
DRAWS = 2
TURNED_DRAWS = 64
WEAKEST, STRONGEST, GRID = 1e-3, 1e6, 46
NO_NUMBERS = {"NaN": [np.nan], "infinite": [np.inf], "mixed": [np.nan, np.inf, -np.inf, 1e30]}
BRIDGES = (0.03, 0.1, 0.3)


class Window(NamedTuple):
    """The strengths of an attack that reverse the aggregate.

    Attributes:
        low: Smallest such strength; 0 where the smallest one tried does.
        high: Largest such strength; inf where the largest one tried does.
    """

    low: float
    high: float


class Breakdown(NamedTuple):
    """The measured breakdown point of a rule, and the strengths that reverse its aggregate.

    Attributes:
        num_byzantine: Smallest number of Byzantine rows that breaks the rule; None where n - 1 do not.
        pattern: The pattern of Byzantine rows that breaks it.
        curve: Largest deviation from the honest mean by number of Byzantine rows, in honest spreads.
        standing: Number of Byzantine rows that provably cannot break the rule; None where nothing is known.
        epsilon: First strengths of -epsilon times the honest mean that reverse the aggregate; None where none from
            0.001 to a million does.
        searched: The same for the searched direction and pattern.
        plan: The searched attack in words.
    """

    num_byzantine: int | None
    pattern: str
    curve: dict[int, float]
    standing: theory.Bound | None
    epsilon: Window | None
    searched: Window | None
    plan: str

    @property
    def verdict(self) -> str:
        """The breakdown point in words."""
        return f"breaks at {self.num_byzantine}" if self.num_byzantine is not None else "stands"


def measure(
    subject: Subject, scene: Scene, worst: search.WorstAttacks | None, tell: Callable[[str], None]
) -> Breakdown:
    """Measures the breakdown point, then the strengths that reverse the aggregate.

    Args:
        subject: The rule.
        scene: The honest rows.
        worst: The searched attacks; None without Byzantine rows.
        tell: Receives a line about each stage.

    Returns:
        The breakdown point, from 0 to n - 1 Byzantine rows (one honest row is needed to compare with).
    """
    curve: dict[int, float] = {}
    patterns: dict[int, str] = {}

    def broken(num_byzantine: int) -> bool:
        if num_byzantine not in curve:
            curve[num_byzantine], patterns[num_byzantine] = largest_deviation(subject, scene, num_byzantine)
        return curve[num_byzantine] > BEYOND

    tell(f"breakdown: Byzantine rows from 0 to {scene.n - 1}")
    points = np.unique(np.linspace(0, scene.n - 1, min(POINTS, scene.n)).astype(int)).tolist()
    first = next((at for at, num_byzantine in enumerate(points) if broken(num_byzantine)), None)
    if first is None:
        num_byzantine = None
    else:
        # the rest of the curve is for the plot; between the last point that stands and this one bisection decides
        for point in points[first:]:
            broken(point)
        low, num_byzantine = points[first - 1] if first else -1, points[first]
        while num_byzantine - low > 1:
            middle = (low + num_byzantine) // 2
            low, num_byzantine = (low, middle) if broken(middle) else (middle, num_byzantine)
    epsilon = searched = None
    if scene.f:
        tell("breakdown: strengths that turn the aggregate round")
        epsilon = reversing_strengths(subject, scene, None)
        searched = reversing_strengths(subject, scene, worst.inner if worst else None) if worst else None
    return Breakdown(
        num_byzantine,
        patterns[num_byzantine] if num_byzantine is not None else "",
        dict(sorted(curve.items())),
        theory.standing(subject.part, subject.pre, subject.n, subject.f),
        epsilon,
        searched,
        search.attack_text(worst.inner) if worst else "",
    )


def largest_deviation(subject: Subject, scene: Scene, num_byzantine: int) -> tuple[float, str]:
    """Measures how far so many Byzantine rows move the aggregate.

    Args:
        subject: The rule.
        scene: The honest rows.
        num_byzantine: Number of Byzantine rows.

    Returns:
        The largest distance from the honest mean over all patterns, in honest spreads, and the pattern that reaches it.
    """
    rows = honest_rows(scene, (DrawPurpose.BREAKDOWN,), np.arange(DRAWS))
    own = honest_rows(scene, (DrawPurpose.OWN, 2), np.arange(DRAWS), rows=1)[:, 0]
    mean = rows[:, num_byzantine:].mean(axis=1, dtype=np.float64)
    cases: list[tuple[str, Callable[[], np.ndarray]]] = [("no Byzantine rows", lambda: rows)]
    if num_byzantine:
        cases = [
            (f"{name} at {strength:g} spreads", partial(_moved, rows, mean, scene.spread, offsets, strength))
            for name, offsets in _patterns(num_byzantine, scene).items()
            for strength in STRENGTHS
        ]
        cases += [(name, partial(_filled, rows, num_byzantine, values)) for name, values in NO_NUMBERS.items()]
    at_once = max(1, batch_size(scene.n, scene.d) // DRAWS)
    deviations: list[float] = []
    for start in range(0, len(cases), at_once):
        some = cases[start : start + at_once]
        attacked = np.concatenate([make() for _, make in some])
        aggregates = answers(subject, attacked, np.tile(own, (len(some), 1)), key(scene.seed, DrawPurpose.RULE, 2))
        away = np.linalg.norm(aggregates.astype(np.float64) - np.tile(mean, (len(some), 1)), axis=1) / scene.spread
        deviations += np.where(np.isfinite(away), away, np.inf).reshape(len(some), DRAWS).max(axis=1).tolist()
    worst = int(np.argmax(deviations))
    return deviations[worst], cases[worst][0]


def _filled(rows: np.ndarray, num_byzantine: int, values: list[float]) -> np.ndarray:
    bad = rows.copy()
    bad[:, :num_byzantine] = np.resize(values, num_byzantine)[None, :, None]
    return bad


def _moved(rows: np.ndarray, mean: np.ndarray, spread: float, offsets: np.ndarray, strength: float) -> np.ndarray:
    attacked, largest = rows.copy(), np.finfo(np.float32).max
    for i, each in enumerate(attacked):
        # beyond the largest float a Byzantine row is the largest float: infinity is a pattern of its own
        each[: len(offsets)] = np.clip(mean[i] + strength * spread * offsets, -largest, largest)
    return attacked


def _patterns(num_byzantine: int, scene: Scene) -> dict[str, np.ndarray]:
    """Places of the Byzantine rows, `[num_byzantine, d]`, in units of the strength."""
    generator = host_generator(scene.seed, DrawPurpose.BREAKDOWN)
    direction = generator.normal(size=scene.d)
    direction /= np.linalg.norm(direction)
    every = generator.normal(size=(num_byzantine, scene.d))
    every /= np.linalg.norm(every, axis=1, keepdims=True)
    alike = np.tile(direction, (num_byzantine, 1))
    coordinate = np.zeros((num_byzantine, scene.d))
    coordinate[:, 0] = 1
    patterns = {
        "all alike": alike,
        "one coordinate": coordinate,
        "each its own way": every,
        "split": alike * np.where(np.arange(num_byzantine) % 2, -1, 1)[:, None],
        "ladder": alike * (np.arange(1, num_byzantine + 1) / num_byzantine)[:, None],
    }
    for share in BRIDGES if num_byzantine > 1 else ():
        # a Byzantine row on the way to the others, which has them and the honest rows for neighbours
        patterns[f"one at {share:g} of the way to the others"] = (
            alike * np.where(np.arange(num_byzantine), 1, share)[:, None]
        )
    return patterns


def reversing_strengths(subject: Subject, scene: Scene, plan: search.SearchedAttack | None) -> Window | None:
    """Searches the first strengths at which the mean of <F, g> is negative.

    Args:
        subject: The rule.
        scene: The honest rows.
        plan: The searched attack; None for -epsilon times the honest mean.

    Returns:
        The strengths, to 1 %; None where none of those tried is one.
    """
    numbers = np.arange(draws_within_memory(TURNED_DRAWS, scene.n, scene.d))
    rows = honest_rows(scene, (DrawPurpose.STRENGTH,), numbers)
    own = honest_rows(scene, (DrawPurpose.OWN, 3), numbers, rows=1)[:, 0]
    where = search.search_data(scene, rows) if plan else None
    mean, attacked = rows[:, scene.f :].mean(axis=1), rows.copy()

    def turned(strength: float) -> bool:
        if plan and where:
            search.attack_rows(scene, where, plan._replace(size=strength), attacked)
        else:
            attacked[:, : scene.f] = np.float32(-strength) * mean[:, None]
        aggregates = answers(subject, attacked, own, key(scene.seed, DrawPurpose.RULE, 3)).astype(np.float64)
        return bool((aggregates @ scene.gradient.astype(np.float64)).mean() < 0)

    def border(inside: float, outside: float) -> float:
        """The last strength that turns, between one that does and one that does not."""
        while max(inside / outside, outside / inside) > 1.01:
            middle = float(np.sqrt(inside * outside))
            inside, outside = (middle, outside) if turned(middle) else (inside, middle)
        return inside

    # the size that was found may be the only one: a rule that selects is reversed by a narrow range of sizes
    reversing = [plan.size] if plan else []
    grid = sorted({*np.geomspace(WEAKEST, STRONGEST, GRID).tolist(), *reversing})
    first = next((i for i, strength in enumerate(grid) if turned(strength)), None)
    if first is None:
        return None
    low = border(grid[first], grid[first - 1]) if first else 0.0
    after = next((i for i in range(first + 1, len(grid)) if not turned(grid[i])), None)
    return Window(low, border(grid[after - 1], grid[after]) if after else np.inf)
