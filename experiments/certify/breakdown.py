"""The breakdown point, measured, and the smallest strength of an attack that turns the aggregate round.

The finite-sample breakdown point is the smallest number of rows that, moved, take the answer beyond any bound (Donoho
and Huber 1983). The rule is built once, with its declared f; k rows really lie. It counts as broken by k liars where
some pattern moves the answer farther from the honest mean than 1,000 times the honest spread at a distance of up to
1e30 spreads: a rule that holds stays within a few spreads at all of them, one that breaks goes along with the liars.
That k liars break the rule is shown by an example; that fewer do not is what a search of these patterns found.

Strength: all f liars send -epsilon times the honest mean (Xie, Koyejo and Gupta 2019), or the searched direction and
pattern at another size; the smallest at which the mean over draws of <F, g> is negative, to 1 % by bisection, and where
that ends again: a rule may be turned round by a small one that hides among the honest rows and not by a large one, so a
grid comes first.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from byzax.experiments.certify import search, theory
from byzax.experiments.certify.draws import DrawPurpose, Scene, honest, host, key
from byzax.experiments.certify.subject import Subject, answers, batch_size, within_memory

STRENGTHS = (1e3, 1e6, 1e12, 1e30)  # distances of the liars in honest spreads
BEYOND = 1e3  # spreads, and the rule counts as broken
POINTS = 33  # numbers of liars that are looked at before the bisection
DRAWS = 2
TURNED_DRAWS = 64
WEAKEST, STRONGEST, GRID = 1e-3, 1e6, 46
NO_NUMBERS = {"NaN": [np.nan], "infinite": [np.inf], "mixed": [np.nan, np.inf, -np.inf, 1e30]}
BRIDGES = (0.03, 0.1, 0.3)


class Window(NamedTuple):
    """Strengths that turn the aggregate round: `low` (0: the smallest tried) to `high` (inf: the largest tried)."""

    low: float
    high: float


class Breakdown(NamedTuple):
    """`liars`: the smallest number that breaks the rule (None: not even n - 1); `curve`: liars -> largest deviation.

    Deviations are in honest spreads. `standing`: the number that is proven too few. `epsilon`, `searched`: the first
    strengths that turn the aggregate round, None where none from 0.001 to a million does.
    """

    liars: int | None
    pattern: str
    curve: dict[int, float]
    standing: theory.Bound | None
    epsilon: Window | None
    searched: Window | None
    plan: str

    @property
    def verdict(self) -> str:
        """In words."""
        return f"breaks at {self.liars}" if self.liars is not None else "stands"


def measure(subject: Subject, scene: Scene, found: search.Found | None, tell: Callable[[str], None]) -> Breakdown:
    """Liars from 0 to n - 1 (one honest row is left to compare with), then the strengths."""
    curve: dict[int, float] = {}
    patterns: dict[int, str] = {}

    def broken(liars: int) -> bool:
        if liars not in curve:
            curve[liars], patterns[liars] = deviation(subject, scene, liars)
        return curve[liars] > BEYOND

    tell(f"breakdown: liars from 0 to {scene.n - 1}")
    points = np.unique(np.linspace(0, scene.n - 1, min(POINTS, scene.n)).astype(int)).tolist()
    first = next((at for at, liars in enumerate(points) if broken(liars)), None)
    if first is None:
        liars = None
    else:
        # the rest of the curve is for the plot; between the last point that stands and this one bisection decides
        for point in points[first:]:
            broken(point)
        low, liars = points[first - 1] if first else -1, points[first]
        while liars - low > 1:
            middle = (low + liars) // 2
            low, liars = (low, middle) if broken(middle) else (middle, liars)
    epsilon = searched = None
    if scene.f:
        tell("breakdown: strengths that turn the aggregate round")
        epsilon = turning(subject, scene, None)
        searched = turning(subject, scene, found.inner if found else None) if found else None
    return Breakdown(
        liars,
        patterns[liars] if liars is not None else "",
        dict(sorted(curve.items())),
        theory.standing(subject.part, subject.pre, subject.n, subject.f),
        epsilon,
        searched,
        search.describe(found.inner) if found else "",
    )


def deviation(subject: Subject, scene: Scene, liars: int) -> tuple[float, str]:
    """The largest distance of the answer from the honest mean, in honest spreads, and the pattern that makes it."""
    rows = honest(scene, (DrawPurpose.BREAKDOWN,), np.arange(DRAWS))
    own = honest(scene, (DrawPurpose.OWN, 2), np.arange(DRAWS), rows=1)[:, 0]
    mean = rows[:, liars:].mean(axis=1, dtype=np.float64)
    made: list[tuple[str, Callable[[], np.ndarray]]] = [("no liars", lambda: rows)]
    if liars:
        made = [
            (f"{name} at {strength:g} spreads", partial(_moved, rows, mean, scene.spread, offsets, strength))
            for name, offsets in _patterns(liars, scene).items()
            for strength in STRENGTHS
        ]
        made += [(name, partial(_filled, rows, liars, values)) for name, values in NO_NUMBERS.items()]
    at_once = max(1, batch_size(scene.n, scene.d) // DRAWS)
    found: list[float] = []
    for start in range(0, len(made), at_once):
        some = made[start : start + at_once]
        attacked = np.concatenate([make() for _, make in some])
        given = answers(subject, attacked, np.tile(own, (len(some), 1)), key(scene.seed, DrawPurpose.RULE, 2))
        away = np.linalg.norm(given.astype(np.float64) - np.tile(mean, (len(some), 1)), axis=1) / scene.spread
        found += np.where(np.isfinite(away), away, np.inf).reshape(len(some), DRAWS).max(axis=1).tolist()
    worst = int(np.argmax(found))
    return found[worst], made[worst][0]


def _filled(rows: np.ndarray, liars: int, values: list[float]) -> np.ndarray:
    bad = rows.copy()
    bad[:, :liars] = np.resize(values, liars)[None, :, None]
    return bad


def _moved(rows: np.ndarray, mean: np.ndarray, spread: float, offsets: np.ndarray, strength: float) -> np.ndarray:
    attacked, largest = rows.copy(), np.finfo(np.float32).max
    for i, each in enumerate(attacked):
        # beyond the largest float a liar is the largest float: infinity is a pattern of its own
        each[: len(offsets)] = np.clip(mean[i] + strength * spread * offsets, -largest, largest)
    return attacked


def _patterns(liars: int, scene: Scene) -> dict[str, np.ndarray]:
    """Where the liars are, `[liars, d]`, in units of the strength."""
    generator = host(scene.seed, DrawPurpose.BREAKDOWN)
    direction = generator.normal(size=scene.d)
    direction /= np.linalg.norm(direction)
    every = generator.normal(size=(liars, scene.d))
    every /= np.linalg.norm(every, axis=1, keepdims=True)
    alike = np.tile(direction, (liars, 1))
    coordinate = np.zeros((liars, scene.d))
    coordinate[:, 0] = 1
    made = {
        "all alike": alike,
        "one coordinate": coordinate,
        "each its own way": every,
        "split": alike * np.where(np.arange(liars) % 2, -1, 1)[:, None],
        "ladder": alike * (np.arange(1, liars + 1) / liars)[:, None],
    }
    for share in BRIDGES if liars > 1 else ():
        # a liar on the way to the others, who has them and the honest rows for neighbours
        made[f"one at {share:g} of the way to the others"] = alike * np.where(np.arange(liars), 1, share)[:, None]
    return made


def turning(subject: Subject, scene: Scene, plan: search.Plan | None) -> Window | None:
    """The first strengths at which the mean of <F, g> is negative: of `plan`, else of -epsilon * honest mean."""
    numbers = np.arange(within_memory(TURNED_DRAWS, scene.n, scene.d))
    rows = honest(scene, (DrawPurpose.STRENGTH,), numbers)
    own = honest(scene, (DrawPurpose.OWN, 3), numbers, rows=1)[:, 0]
    where = search.ground(scene, rows) if plan else None
    mean, attacked = rows[:, scene.f :].mean(axis=1), rows.copy()

    def turned(strength: float) -> bool:
        if plan and where:
            search.carry_out(scene, where, plan._replace(size=strength), attacked)
        else:
            attacked[:, : scene.f] = np.float32(-strength) * mean[:, None]
        given = answers(subject, attacked, own, key(scene.seed, DrawPurpose.RULE, 3)).astype(np.float64)
        return bool((given @ scene.gradient.astype(np.float64)).mean() < 0)

    def border(inside: float, outside: float) -> float:
        """The last strength that turns, between one that does and one that does not."""
        while max(inside / outside, outside / inside) > 1.01:
            middle = float(np.sqrt(inside * outside))
            inside, outside = (middle, outside) if turned(middle) else (inside, middle)
        return inside

    # the size that was found may be the only one: what turns a rule that selects is a narrow range
    found = [plan.size] if plan else []
    grid = sorted({*np.geomspace(WEAKEST, STRONGEST, GRID).tolist(), *found})
    first = next((i for i, strength in enumerate(grid) if turned(strength)), None)
    if first is None:
        return None
    low = border(grid[first], grid[first - 1]) if first else 0.0
    after = next((i for i in range(first + 1, len(grid)) if not turned(grid[i])), None)
    return Window(low, border(grid[after - 1], grid[after]) if after else np.inf)
