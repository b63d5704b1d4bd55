"""All parts of a certificate, rule after rule."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from byzax.experiments.certify import breakdown, draws, forging, leak, resilience, robustness, search, subject
from byzax.experiments.certify.description import Certificate
from byzax.experiments.labels import labels
from byzax.simulator.mistakes import ScenarioError, on_one_line

# Bytes for each number of the rows of one update: draws of a search, the same attacked, and directions for each draw.
BYTES_FOR_ROWS, BYTES_FOR_INSTANCES = 200, 12


class Findings(NamedTuple):
    """The measurements of one rule; None for a part that was not asked for.

    Attributes:
        label: Label of the rule.
        subject: The rule.
        resilience: (alpha, f)-resilience.
        robustness: (f, kappa)-robustness.
        breakdown: The breakdown point.
        leak: The hidden vulnerability.
    """

    label: str
    subject: subject.Subject
    resilience: resilience.Resilience | None
    robustness: robustness.Robustness | None
    breakdown: breakdown.Breakdown | None
    leak: leak.Leak | None


class MeasurementPlan(NamedTuple):
    """Everything that is built and traced before the first measurement.

    Attributes:
        asked: The certificate.
        scene: The honest rows.
        subjects: The rules.
        attacks: The attacks on each rule.
        skipped: A line for each attack that was left out.
    """

    asked: Certificate
    scene: draws.Scene
    subjects: list[subject.Subject]
    attacks: list[list[forging.BatchedAttack]]
    skipped: list[str]


def plan_measurements(asked: Certificate) -> MeasurementPlan:
    """Builds and traces every rule and attack.

    Args:
        asked: The certificate.

    Returns:
        The plan.

    Raises:
        ScenarioError: A line for each rule that cannot be built, or where the rows do not fit into memory.
    """
    scene = draws.scene(asked)
    _check_memory(asked, scene.d)
    names = labels(asked.subjects)
    before = [on_one_line({"name": each.name, **each.model_dump(exclude_defaults=True)}) for each in asked.pre]
    subjects, mistakes = [], []
    for part in asked.subjects:
        try:
            label = " + ".join([*before, names[part]])
            subjects.append(subject.build_subject(label, part, asked.pre, asked.n, asked.f, scene.d))
        except ScenarioError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ScenarioError("\n".join(dict.fromkeys(mistakes)))
    attackers = asked.attackers
    called = labels(attackers)
    built = [forging.build_batched_attacks(attackers, called, each, bool(asked.attacks)) for each in subjects]
    return MeasurementPlan(asked, scene, subjects, [attacks for attacks, _ in built], built[0][1])


def _check_memory(asked: Certificate, d: int) -> None:
    """Raises ScenarioError where the rows alone are more than this machine's memory."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        # not every system tells
        return
    widest = max([d, *(asked.dimensions if "leak" in asked.parts else ())])
    needed = {f"d={widest}, n={asked.n}": BYTES_FOR_ROWS * asked.n * widest}
    if "robustness" in asked.parts:
        needed[f"budget={asked.budget}, n={asked.n}"] = BYTES_FOR_INSTANCES * (asked.budget // 2) * asked.n**2
    what, most = max(needed.items(), key=lambda item: item[1])
    if most > memory:
        key = what.partition("=")[0]
        raise ScenarioError(
            f"{key}: measuring takes {most / 1e9:,.0f} GB with {what}, this machine has {memory / 1e9:,.0f} GB: take a "
            f"smaller {key}, or fewer rows" + (", or leave out the part robustness" if key == "budget" else "")
        )


def measure_all(plan: MeasurementPlan, tell: Callable[[str], None]) -> Iterator[Findings]:
    """Measures all parts of all rules.

    Args:
        plan: The plan.
        tell: Receives a line about each stage.

    Returns:
        The measurements, rule after rule.
    """
    for each, attacks in zip(plan.subjects, plan.attacks, strict=True):
        yield _measure_rule(plan, each, attacks, lambda text, each=each: tell(f"{each.label}: {text}"))


def _measure_rule(
    plan: MeasurementPlan, rule: subject.Subject, attacks: list[forging.BatchedAttack], tell: Callable[[str], None]
) -> Findings:
    asked, scene, parts = plan.asked, plan.scene, plan.asked.parts
    measured = worst = robust = broken = leaking = None
    if "resilience" in parts:
        measured, worst = resilience.measure(rule, scene, attacks, plan.skipped, asked.samples, asked.budget, tell)
    if "robustness" in parts:
        robust = robustness.measure(rule, asked.budget, asked.seed, tell)
    if "breakdown" in parts:
        if worst is None and scene.f:
            worst = search.search(rule, scene, asked.budget, tell)
        broken = breakdown.measure(rule, scene, worst, tell)
    if "leak" in parts and scene.f:
        build = partial(subject.build_subject, rule.label, rule.part, rule.pre, rule.n, rule.f)
        plain = asked.replace(gradients=None, norm=1.0, sigma=None)
        leaking = leak.measure(build, lambda d: draws.scene(plain.replace(d=d)), asked.dimensions, tell)
    return Findings(rule.label, rule, measured, robust, broken, leaking)
