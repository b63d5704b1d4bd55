"""(f, kappa)-robustness, measured: the largest ratio that a search of fixed length finds.

F is (f, kappa)-robust if for any n rows and every set S of n-f of them |F - m_S|² <= kappa / |S| sum over S of |x_i -
m_S|², with m_S the mean of S (Allouah et al., AISTATS 2023, definition 2). So for n rows every S counts as honest: all
of them where they are few, else likely ones, improved by exchanging rows. What is found is attained by rows that exist:
a **lower bound** on the rule's kappa, to set beside the proven upper bound and beside f / (n - 2f), below which no rule
is.

The search begins with the instances that are known to be the worst for some rule (two honest values and Byzantine rows
at any one, on a line: equality for trimmed_mean, for the median of an odd n, and in the proof of the lower bound), with
rows in general position, Byzantine rows at many distances in few and in n dimensions, with all of these far from the
origin, and with Byzantine rows far away of which one is on the way to the others, which a rule that looks along one
direction does not see. The best are then perturbed. n rows span n-1 dimensions, so that rules which treat all
directions alike have their worst case in n.
"""

import math
from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from byzax.experiments.certify import theory
from byzax.experiments.certify.draws import DrawPurpose, host_generator, key
from byzax.experiments.certify.subject import Subject, answers
from byzax.experiments.names import counted

BRIDGES, FAR = (0.03, 0.1, 0.3), 1e7  # shares of the way to Byzantine rows that are far away
ALL_SUBSETS = 1500  # and more are not enumerated
KEPT = 16  # instances that are perturbed
LARGEST = 1e6  # a ratio that only strength without limit reaches
ROUNDING = 2e-5  # of the answer, in lengths of the longest row of S: error of |F - m_S| in float32


class Robustness(NamedTuple):
    """The measured (f, kappa)-robustness of a rule.

    Attributes:
        found: The largest ratio; inf where it grows with the strength.
        lower: q = f / (n - 2f), a lower bound for every rule; NaN for rules with a row of the server's own.
        bound: The proven upper bound; None where none is known.
        where: The instance that reaches the largest ratio.
        evaluations: Number of answers of the rule.
    """

    found: float
    lower: float
    bound: theory.Bound | None
    where: str
    evaluations: int

    @property
    def verdict(self) -> str:
        """The ratio beside the bound, in words."""
        if not np.isfinite(self.found):
            return "fails: grows with the attack"
        if self.bound is None:
            return "no bound known"
        return "within the bound" if self.found <= self.bound.value * (1 + 1e-3) + 1e-6 else "above the bound"


def measure(subject: Subject, budget: int, seed: int, tell: Callable[[str], None]) -> Robustness:
    """Searches the largest ratio of a rule.

    Args:
        subject: The rule.
        budget: Approximate number of answers of the rule.
        seed: The seed.
        tell: Receives a line about each stage.

    Returns:
        The robustness.
    """
    n, f = subject.n, subject.f
    bound, lower = theory.kappa(subject.part, subject.pre, n, f), theory.fraction(n, f)
    if f == 0:
        # S is all rows, and the mean is exact
        lower = 0.0
    generator, root = host_generator(seed, DrawPurpose.ROBUSTNESS), key(seed, DrawPurpose.ROBUSTNESS)
    subsets = _all_subsets(n, f) if comb(n, f) <= ALL_SUBSETS else None
    if subject.trusting:
        # the server's own row is the mean of one S: of no other is anything promised
        subsets, lower = np.arange(n)[None] >= f, math.nan

    def tried(rows: np.ndarray) -> np.ndarray:
        own = rows[:, f:].mean(axis=1)
        aggregates = answers(subject, rows, own, root)
        return np.array([ratio(x, y, f, subsets) for x, y in zip(rows, aggregates, strict=True)])

    starts, names = instances(n, f, generator, budget // 2)
    tell(f"kappa: {len(starts)} instances")
    scores = tried(starts)
    evaluations = len(starts)
    # equal up to rounding: the first, which is the simplest
    order = np.argsort(-np.round(scores, 3), kind="stable")[:KEPT]
    where = names[order[0]]
    rows, best, width = starts[order], scores[order], np.full(len(order), 0.3)
    rounds = max(1, (budget - budget // 2) // (4 * KEPT))
    tell(f"kappa: {rounds} rounds of perturbations")
    for _ in range(rounds):
        if best.max() >= LARGEST:
            break
        options = np.repeat(rows, 4, axis=0)
        options = options + np.repeat(width, 4)[:, None, None] * _noise(options, generator)
        options = options.astype(np.float32)
        new = tried(options).reshape(len(rows), 4)
        evaluations += new.size
        place, better = new.argmax(axis=1), new.max(axis=1) > best
        rows = np.where(
            better[:, None, None], options.reshape(len(rows), 4, *rows.shape[1:])[range(len(rows)), place], rows
        )
        if new.max() > best.max() + 1e-3:
            where = f"{names[order[int(new.max(axis=1).argmax())]]}, perturbed"
        best = np.maximum(best, new.max(axis=1))
        width = np.clip(np.where(better, width * 1.5, width * 0.75), 1e-4, 3)
    kappa = float(best.max())
    return Robustness(np.inf if kappa >= LARGEST else kappa, lower, bound, where, evaluations)


def _noise(rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Normal noise on all rows, on one, or on the Byzantine ones; on a line only along it."""
    count, n, d = rows.shape
    noise = generator.normal(size=rows.shape)
    chosen = generator.integers(0, 3, size=count)
    one = np.arange(n) == generator.integers(0, n, size=count)[:, None]
    kept = np.where((chosen == 0)[:, None], True, one)
    # the scale of the rows, and the directions that they use (one instance of four may leave its line)
    flat = (np.abs(rows).max(axis=1) > 0) | (generator.random(count) < 0.25)[:, None]
    scale = np.minimum(rows.std(axis=(1, 2)) * np.sqrt(d), 10.0)[:, None, None]
    return noise * kept[:, :, None] * flat[:, None, :] * scale / np.sqrt(np.maximum(flat.sum(axis=1), 1))[:, None, None]


def instances(n: int, f: int, generator: np.random.Generator, most: int) -> tuple[np.ndarray, list[str]]:
    """The first instances of the search.

    Args:
        n: Number of rows.
        f: Number of Byzantine rows.
        generator: For random instances.
        most: Number of instances; fixed ones may be more.

    Returns:
        Rows `[m, n, n]`, the first f meant as Byzantine, and a description of each instance.
    """
    instances: list[tuple[str, np.ndarray]] = []
    h = n - f
    line = np.zeros((n, n))
    values = [0.0, 1.0, -1.0, 2.0, 0.5, 1.5, -3.0, 10.0, 1e3, 1e5, -1e5]
    counts = np.unique([f, (n + 1) // 2 - f, n // 2 - f, *np.linspace(1, h - 1, min(h - 1, 12)).astype(int)])
    for ones in counts[(counts >= 1) & (counts < h)]:
        for value in values if f else [0.0]:
            rows = line.copy()
            rows[:f, 0] = value
            rows[f : f + ones, 0] = 1
            instances.append(
                (f"{counted(h - ones, 'honest row')} at 0, {ones} at 1, Byzantine rows at {value:g}", rows)
            )
    for shift in (100.0, -100.0):
        instances += [
            (f"{name}, moved by {shift:g}", rows + shift * _first(n)) for name, rows in instances[: len(values) * 3]
        ]
    while len(instances) < most:
        # honest rows in few or many directions, normal or with heavy tails; Byzantine rows alike, split, or apart
        dimensions = int(generator.choice([each for each in (1, 2, 3, n) if each <= n]))
        heavy = generator.random() < 0.3
        good = generator.standard_t(2, (h, dimensions)) if heavy else generator.normal(size=(h, dimensions))
        good /= np.sqrt(np.square(good - good.mean(axis=0)).sum(axis=1).mean()) or 1.0
        direction = generator.normal(size=dimensions)
        direction /= np.linalg.norm(direction)
        size = 10 ** generator.uniform(-0.7, 0.7)
        side = np.where(np.arange(f) % 2, -1.0, 1.0) if generator.random() < 0.25 else np.ones(f)
        apart = generator.choice([0.0, 0.1, 0.5]) * generator.normal(size=(f, dimensions))
        rows = line.copy()
        rows[:f, :dimensions] = good.mean(axis=0) + size * (side[:, None] * direction + apart)
        rows[f:, :dimensions] = good
        tails = "heavy tails" if heavy else "normal rows"
        where = f"{tails} in {counted(dimensions, 'dimension')}"
        instances.append((f"{where}, Byzantine rows at {size:.2g} deviations", rows))
    (bridges,) = generator.spawn(1)
    for share in BRIDGES if f > 1 else ():
        rows = line.copy()
        rows[f:] = bridges.normal(size=(h, n))
        rows[:f] = FAR * np.where(np.arange(f), 1, share)[:, None] * bridges.normal(size=n)
        instances.append((f"normal rows, Byzantine rows far away, one at {share:g} of the way to the others", rows))
    return np.stack([rows for _, rows in instances]).astype(np.float32), [name for name, _ in instances]


def _first(n: int) -> np.ndarray:
    return np.eye(n)[0]


def _all_subsets(n: int, f: int) -> np.ndarray:
    left_out = list(combinations(range(n), f))
    masks = np.ones((len(left_out), n), bool)
    for mask, out in zip(masks, left_out, strict=True):
        mask[list(out)] = False
    return masks


def ratio(rows: np.ndarray, answer: np.ndarray, f: int, subsets: np.ndarray | None = None) -> float:
    """The largest ratio |F - m_S|² |S| / sum over S of |x_i - m_S|².

    Args:
        rows: `[n, d]`.
        answer: `[d]`, the aggregate F.
        f: Number of Byzantine rows.
        subsets: `[k, n]`, masks of the sets S; None for likely ones, improved by exchanges of rows.

    Returns:
        The ratio; inf where the aggregate is not finite.
    """
    if not np.isfinite(answer).all():
        return np.inf
    away = rows.astype(np.float64) - answer.astype(np.float64)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    if subsets is not None:
        return float(_ratios(away, lengths, subsets).max())
    masks = _likely(away, f)
    best = -1.0
    for _ in range(len(rows)):
        ratios = _ratios(away, lengths, masks)
        if not ratios.max() > best * (1 + 1e-9):
            break
        best, mask = float(ratios.max()), masks[int(ratios.argmax())]
        # every exchange of a row of S for one outside
        inside, outside = np.flatnonzero(mask), np.flatnonzero(~mask)
        masks = np.repeat(mask[None], len(inside) * len(outside), axis=0)
        turn = np.arange(len(masks))
        masks[turn, np.repeat(inside, len(outside))] = False
        masks[turn, np.tile(outside, len(inside))] = True
        if not len(masks):
            break
    return best


def _likely(away: np.ndarray, f: int) -> np.ndarray:
    """Masks of n-f rows: around each row; and without the rows nearest to the aggregate along some direction."""
    n = len(away)
    apart = np.square(away[:, None] - away[None]).sum(axis=2) if away.size < 5_000 else _squared(away)
    chosen = [np.argsort(apart, axis=1, kind="stable")[:, : n - f], [np.arange(f, n)]]
    centre = away.mean(axis=0)
    axis = away[:, np.abs(away).max(axis=0).argmax()]
    for along in (away @ centre, axis, (away - centre) @ (away[f:].mean(axis=0) if f < n else centre)):
        order = np.argsort(along, kind="stable")
        chosen.append([np.concatenate([order[:low], order[low + f :]]) for low in {0, f // 2, (n - f) // 2, n - f}])
    places = np.concatenate([np.asarray(each) for each in chosen])
    masks = np.zeros((len(places), n), bool)
    masks[np.arange(len(places))[:, None], places] = True
    return np.unique(masks, axis=0)


def _squared(rows: np.ndarray) -> np.ndarray:
    lengths = np.square(rows).sum(axis=1)
    return lengths[:, None] + lengths[None, :] - 2 * rows @ rows.T


def _ratios(away: np.ndarray, lengths: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """|m_S|² over the mean of |x_i - m_S|² for rows seen from the answer, and every set; the largest one exactly."""
    share = masks / masks.sum(axis=1, keepdims=True)
    means, squares = share @ away, share @ np.square(away).sum(axis=1)
    longest = np.where(masks, lengths, 0).max(axis=1)
    distance = np.square(np.maximum(np.linalg.norm(means, axis=1) - ROUNDING * longest, 0))
    # a difference of squares, good enough to choose by
    varied = np.maximum(squares - np.square(means).sum(axis=1), 1e-13 * squares + 1e-300)
    ratios = np.where(distance > 0, distance / varied, 0.0)
    best = int(ratios.argmax())
    exact = np.square(away[masks[best]] - means[best]).sum(axis=1).mean()
    ratios[best] = distance[best] / max(exact, 1e-300) if distance[best] > 0 else 0.0
    return ratios
