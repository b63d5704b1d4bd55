"""The floor of a backdoor's success: the same trigger, measured in the run of the grid where nobody trains on it."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from byzax.simulator.config.attack import TRIGGER
from byzax.simulator.config.part import Part, source_of
from byzax.simulator.config.study import Study

# Options of backdoors that say what is measured; the others say how it is trained.
MEASURED = {"size", "place", "value", "target", "parts", "length", "gap"}


class StudyWithKey(NamedTuple):
    """A study and all of its settings that are not its attack."""

    study: Study
    others: tuple[Any, ...]


def with_floors(studies: Sequence[Study]) -> list[Study]:
    """The scenarios of a grid: those with attack none measure the trigger of the backdoors that they stand beside.

    Only where these have one trigger between them: a run measures one, and `trigger` chooses which.

    Args:
        studies: without impossible ones.

    Returns:
        The same scenarios in the same order, some with `trigger` set.
    """
    choices = [StudyWithKey(each, _settings_but_attack(each)) for each in studies]
    found: dict[tuple[Any, ...], dict[str, Part]] = {}
    for study, others in choices:
        for part in _triggers(study):
            found.setdefault(others, {}).setdefault(_measured_options(part), part)
    made = []
    for study, others in choices:
        triggers = [*found.get(others, {}).values()]
        unattacked = study.attack.name == "none" and not study.attack.beside and study.trigger is None
        if unattacked and len(triggers) == 1:
            study = study.replace(trigger=triggers[0])
        made.append(study)
    return made


def notes_on_floors(studies: Sequence[Study]) -> Iterator[str]:
    """A line where a grid has backdoors with several triggers, and attack none, which then measures none of them.

    Args:
        studies: those of a grid, from `with_floors`.

    Yields:
        One line at most, that begins with the key `trigger`.
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
    """The attack of a trigger without who carries it out; None where an attack has none, or cannot be made."""
    options = attack.options()
    if not MEASURED & set(options):
        return None
    try:
        goal = attack.make(n, f).goal
    except Exception:
        # what is wrong with it is said where it is built
        return None
    return None if goal is None else TRIGGER.validate({"name": source_of(attack), **options})


def _measured_options(part: Part) -> str:
    return str(sorted((key, value) for key, value in part.options().items() if key in MEASURED))
