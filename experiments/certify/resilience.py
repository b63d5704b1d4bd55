"""(alpha, f)-Byzantine resilience, measured.

A rule F is (alpha, f)-resilient if for independent honest rows G with E G = g and any f other rows (i) <E F, g> >= (1 -
sin alpha) |g|² > 0 and (ii) for r = 2, 3, 4 E |F|^r is bounded by a linear combination of terms E |G|^r1 ... E |G|^rk
with r1 + ... + rk = r (Blanchard et al., NeurIPS 2017, definition 1). Where r = |E F - g| < |g|, (i) holds with sin
alpha = r / |g|, for <E F, g> >= |g|² - |g| |E F - g|; from r = |g| on no alpha is left.

Measured for each attack over the same draws: sin alpha with r from the unbiased U-statistic
(`intervals.length_of_mean`), the inner product <E F, g> / |g|² with a normal interval, and E |F|^r / E |G|^r with a
bootstrap, 95 % each. (ii) asks for some constant, which no finite number of attacks can deny or prove: the ratios say
how large it would have to be here.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from byzax.experiments.certify import intervals, search, theory
from byzax.experiments.certify.draws import DrawPurpose, Scene, honest_rows, host_generator, key
from byzax.experiments.certify.forging import BatchedAttack
from byzax.experiments.certify.intervals import Estimate
from byzax.experiments.certify.subject import Subject, answers, batch_size

SEARCHED = ("searched angle", "searched inner")
CHUNK_BYTES = 2**28


class Case(NamedTuple):
    """The measurements of one attack.

    Attributes:
        attack: Label of the attack.
        note: The attack in words, where it was searched.
        sine: |E F - g| / |g|.
        inner: <E F, g> / |g|².
        moments: E |F|^r / E |G|^r for r = 2, 3, 4.
    """

    attack: str
    note: str
    sine: Estimate
    inner: Estimate
    moments: tuple[Estimate, Estimate, Estimate]

    @property
    def verdict(self) -> str:
        """The resilience in words: holds, fails, or not decided by these draws."""
        if not np.isfinite(self.sine.value):
            return "fails: not finite"
        if self.inner.high < 0:
            return "fails: turned round"
        if self.sine.low >= 1:
            return "fails: no angle"
        if self.sine.high < 1:
            return f"holds at {np.degrees(np.arcsin(self.sine.value)):.0f}\N{DEGREE SIGN}"
        return "not decided"


class Resilience(NamedTuple):
    """The measured (alpha, f)-resilience of a rule.

    Attributes:
        cases: The measurements of each attack.
        proven: sin alpha of the theorem for this rule (from 1 on nothing is proven); None where there is none.
        skipped: A line for each attack that was left out.
    """

    cases: list[Case]
    proven: theory.Bound | None
    skipped: list[str]

    @property
    def worst(self) -> Case:
        """The attack with the largest angle."""
        return max(self.cases, key=lambda case: case.sine.value)


def measure(
    subject: Subject,
    scene: Scene,
    attacks: Sequence[BatchedAttack],
    skipped: list[str],
    samples: int,
    budget: int,
    tell: Callable[[str], None],
) -> tuple[Resilience, search.WorstAttacks | None]:
    """Measures the resilience of a rule against every attack, then against the searched ones.

    Args:
        subject: The rule.
        scene: The honest rows.
        attacks: The attacks.
        skipped: A line for each attack that was left out.
        samples: Number of draws of honest rows.
        budget: Number of answers of the rule that the search may use.
        tell: Receives a line about each stage.

    Returns:
        The resilience, and the searched attacks; None in place of these without Byzantine rows.
    """
    named_rows: list[tuple[str, str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]]] = [
        (
            each.label,
            "",
            lambda rows, own, numbers, each=each: each.forge(rows, numbers, key(scene.seed, DrawPurpose.FORGE)),
        )
        for each in attacks
    ]
    worst = None
    if scene.f:
        worst = search.search(subject, scene, budget, tell)
        for label, plan in zip(SEARCHED, worst, strict=True):

            def carried_out(
                rows: np.ndarray, own: np.ndarray, _: Any, plan: search.SearchedAttack = plan
            ) -> np.ndarray:
                return search.attack_rows(scene, search.search_data(scene, rows), plan)

            named_rows.append((label, search.attack_text(plan), carried_out))
    cases = []
    for label, note, attack in named_rows:
        tell(f"{label}: {samples} draws")
        cases.append(_case(subject, scene, label, note, attack, samples))
    proven = theory.sine(subject.part, subject.pre, scene.n, scene.f, scene.spread, scene.norm)
    return Resilience(cases, proven, skipped), worst


def _case(subject: Subject, scene: Scene, label: str, note: str, attack: Callable, samples: int) -> Case:
    size = batch_size(scene.n, scene.d)
    chunk = max(1, CHUNK_BYTES // (4 * scene.n * scene.d * size)) * size
    aggregates, lengths = [], []
    for start in range(0, samples, chunk):
        # a last chunk that is not full is filled up with further draws: one shape, one compilation
        numbers = np.arange(start, min(start + chunk, -(-samples // size) * size))
        kept = min(len(numbers), samples - start)
        rows = honest_rows(scene, (DrawPurpose.HONEST,), numbers)
        own = honest_rows(scene, (DrawPurpose.OWN,), numbers, rows=1)[:, 0]
        lengths.append(np.sqrt(np.square(rows[:kept, scene.f :], dtype=np.float64).sum(axis=2)))
        attacked = np.concatenate(
            [attack(rows[i : i + size], own[i : i + size], numbers[i : i + size]) for i in range(0, len(numbers), size)]
        )
        aggregates.append(answers(subject, attacked, own, key(scene.seed, DrawPurpose.RULE, 0, start))[:kept])
    return case(label, note, np.concatenate(aggregates), np.concatenate(lengths), scene)


def case(label: str, note: str, aggregates: np.ndarray, lengths: np.ndarray, scene: Scene) -> Case:
    """Estimates the resilience against one attack.

    Args:
        label: Label of the attack.
        note: The attack in words.
        aggregates: `[m, d]`, the aggregates.
        lengths: `[m, n-f]`, lengths of the honest rows.
        scene: The honest rows.

    Returns:
        The estimates.
    """
    gradient = scene.gradient
    with np.errstate(over="ignore", invalid="ignore"):
        products = intervals.products(aggregates, np.concatenate([aggregates, gradient[None]]))
        gram, along = products[:, :-1], products[:, -1]
        off = gram - along[:, None] - along[None, :] + float(gradient.astype(np.float64) @ gradient)
        sine = intervals.length_of_mean(off)
        inner = intervals.mean(along / scene.norm**2)
        own = np.sqrt(np.maximum(np.diag(gram), 0))
    generator = host_generator(scene.seed, DrawPurpose.BOOTSTRAP)
    moments = [intervals.ratio(own**r, (lengths**r).mean(axis=1), generator) for r in (2, 3, 4)]
    sine = Estimate(*(value / scene.norm for value in sine))
    return Case(label, note, sine, inner, (moments[0], moments[1], moments[2]))
