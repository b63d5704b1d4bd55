"""Notes about the attacks of a scenario before it starts: their cost, and options that do nothing there."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from byzax.attacks import Attack
from byzax.experiments.names import counted
from byzax.simulator.config.attack import AttackShare
from byzax.simulator.config.data import DataPart
from byzax.simulator.config.study import Study
from byzax.simulator.contracts import build
from byzax.simulator.executors.base import fixed_byzantine_workers
from byzax.simulator.file_cache import file_cache
from byzax.simulator.units import change_in_units, measure_units
from byzax.simulator.world import load, share_out

# Number of samples on which a trigger is tried.
CHECKED_SAMPLES = 200


def attack_notes(scenario: Study) -> Iterator[str]:
    """Notes about attacks that are costly or change nothing in a scenario.

    Args:
        scenario: The scenario, which has been built once: every component can be made.

    Returns:
        One line for each note, beginning with its key.
    """
    for key, part, first, end in scenario.attacks:
        count = end - first
        if not count:
            continue
        attack = _build(part, scenario.workers.total, count)
        questions = attack.questions * (count if part.knowledge == "own" else 1)
        if questions > 1:
            yield (
                f"{key}: {part.label} asks the rule {questions} times in every update, beside the one time that the "
                "server does: with a rule that takes long that is most of a run"
            )
        yield from _update_notes(key, part, scenario.steps)
        known = 1 if part.knowledge == "own" else count
        changes_rows = attack.corrupt is None and attack.claim is None
        if part.knowledge != "omniscient" and changes_rows and known < attack.least_known:
            yield (
                f"{key}.knowledge: {part.label} sends what its workers computed where they know no other row "
                f"({part.knowledge}, {counted(count, 'worker')}): choose omniscient, or colluding with several workers"
            )
        if attack.goal is not None and not _trigger_is_visible(part, count, scenario.data, scenario.workers.total):
            yield (
                f"{key}.value: the trigger of {part.label} changes none of {CHECKED_SAMPLES} images: it is of the "
                "colour that is there already"
            )
        yield from _target_notes(key, part, scenario, first, end)
        if part.name == "scaled" and part.options()["boost"] is None and scenario.local is not None:
            optimizer = scenario.optimizer
            if optimizer.name != "sgd" or optimizer.options()["momentum"]:
                how = "sgd with momentum" if optimizer.name == "sgd" else optimizer.name
                yield (
                    f"{key}.boost: with {how} at the server no one factor puts the Byzantine model in the place of the "
                    "shared one: n / f is taken"
                )


def _update_notes(key: str, part: AttackShare, steps: int) -> Iterator[str]:
    """Notes about attacks that are carried out once, or that replay updates before the first."""
    begin, end = getattr(part, "from"), min(steps, part.until or steps)
    if part.every > 1 and begin + part.every >= end:
        yield f"{key}.every: {part.label} is carried out once, in update {begin}: the next is {begin + part.every}"
    options = part.options()
    if part.name == "stale_replay" and options["age"] >= -(-(end - begin) // part.every):
        yield f"{key}.age: {part.label} sends zeros in all updates: there is none {options['age']} updates before"


def _target_notes(key: str, part: AttackShare, scenario: Study, first: int, end: int) -> Iterator[str]:
    """Notes about labels that no Byzantine worker holds, and about a target of mimicry that is Byzantine itself."""
    byzantine, options = scenario.workers.byzantine, part.options()
    if byzantine.per_round != "fixed":
        return
    source = options.get("source") if options.get("labels", "targeted") == "targeted" else None
    target = options.get("target") if part.name == "mimic" else None
    if source is None and not isinstance(target, int):
        return
    classes = load(scenario.data).classes
    for seed in scenario.seeds:
        workers = fixed_byzantine_workers(scenario.run.replace(seed=seed))
        if isinstance(target, int) and target in workers:
            yield f"{key}.target: {part.label} is to copy worker {target}, a Byzantine one itself: choose an honest one"
            return
        if source is not None and classes is not None:
            _, shares = share_out(scenario.data, scenario.workers.total, seed)
            held = np.concatenate([load(scenario.data).y[shares[worker]] for worker in workers[first:end]])
            if not (held == source).any():
                yield (
                    f"{key}.source: no Byzantine worker of {part.label} holds a sample of label {source} (seed "
                    f"{seed}): nothing is changed: choose a label that they hold, or workers.byzantine.which"
                )
                return


def _build(part: AttackShare, n: int, count: int) -> Attack:
    return build(part, n, count)


@file_cache(maxsize=128)
def _trigger_is_visible(part: AttackShare, count: int, data: DataPart, n: int) -> bool:
    """Tells whether the trigger of an attack changes any of the checked samples."""
    goal, dataset = _build(part, n, count).goal, load(data)
    assert goal is not None
    some = jnp.asarray(dataset.values(slice(None, None, max(1, len(dataset.x) // CHECKED_SAMPLES))))
    return bool((change_in_units(measure_units(dataset), some, goal.trigger) != some).any())
