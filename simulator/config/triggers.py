"""The floor of a backdoor's success: that of its trigger in the run of the grid without the attack."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from byzax.simulator.config.attack import TRIGGER
from byzax.simulator.config.part import Part, source_of
from byzax.simulator.config.study import Study

# Options of backdoors that define the trigger and its target; the others are about training.
MEASURED = {"size", "place", "value", "target", "parts", "length", "gap"}


class StudyWithKey(NamedTuple):
    """A study and its settings without the attack, by which studies that differ in the attack alone are found.

    Attributes:
        study: The study.
        key: All of its settings but the attack and the trigger.
    """

    study: Study
    key: tuple[Any, ...]


def with_floors(studies: Sequence[Study]) -> list[Study]:
    """Sets the trigger of the runs without attack to that of the backdoors that differ from them in the attack alone.

    Only where these have one trigger between them: a run measures one, and `trigger` chooses which.

    Args:
        studies: The studies of a grid, without impossible ones.

    Returns:
        The same studies in the same order, some with `trigger` set.
    """
    choices = [StudyWithKey(each, _settings_but_attack(each)) for each in studies]
    by_trigger: dict[tuple[Any, ...], dict[str, Part]] = {}
    for study, key in choices:
        for part in _triggers(study):
            by_trigger.setdefault(key, {}).setdefault(_measured_options(part), part)
    measured = []
    for study, key in choices:
        triggers = [*by_trigger.get(key, {}).values()]
        unattacked = study.attack.name == "none" and not study.attack.beside and study.trigger is None
        if unattacked and len(triggers) == 1:
            study = study.replace(trigger=triggers[0])
        measured.append(study)
    return measured


def notes_on_floors(studies: Sequence[Study]) -> Iterator[str]:
    """Yields a note where a grid has backdoors with several triggers, none of which its runs without attack measure.

    Args:
        studies: The studies of a grid, from `with_floors`.

    Yields:
        At most one line, which begins with the key `trigger`.
    """
    triggers: dict[str, str] = {}
    for study in studies:
        for part in _triggers(study):
            triggers.setdefault(_measured_options(part), part.name)
    if len(triggers) > 1 and any(each.attack.name == "none" and each.trigger is None for each in studies):
        names = ", ".join(triggers.values())
        yield (
            f"trigger: the backdoors of this grid have {len(triggers)} triggers ({names}), and a run measures one: "
            "runs of none say nothing of the floor, unless trigger names one of them, such as grid.trigger: "
            f"[{names}] with attack none alone"
        )


def _settings_but_attack(study: Study) -> tuple[Any, ...]:
    return study.task.run.replace(attack="none", trigger=None), study.executor, study.evaluate_every


def _triggers(study: Study) -> Iterator[Part]:
    """The triggers of the backdoors that some Byzantine worker carries out."""
    for each in study.attacks:
        f = each.end - each.first
        if f and (part := _trigger(each.part, study.workers.total, f)) is not None:
            yield part


def _trigger(attack: Part, n: int, f: int) -> Any:
    """An attack as the part of a trigger; None where it has no trigger, or cannot be built."""
    options = attack.options()
    if not MEASURED & set(options):
        return None
    try:
        goal = attack.make(n, f).goal
    except Exception:
        # its mistakes are reported where the attack is built
        return None
    return None if goal is None else TRIGGER.validate({"name": source_of(attack), **options})


def _measured_options(part: Part) -> str:
    return str(sorted((key, value) for key, value in part.options().items() if key in MEASURED))
