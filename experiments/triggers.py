"""The floor of a backdoor's success: the same trigger, measured in the run of the grid where nobody trains on it."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from byzax.simulator.components import ATTACKS, Component
from byzax.simulator.parts import Trigger
from byzax.simulator.scenario import Scenario

# Options of backdoors that say what is measured; the others say how it is trained.
MEASURED = {"size", "place", "value", "target", "parts", "length", "gap"}


class Choice(NamedTuple):
    """A scenario and the name of its attack, beside all that is not its attack."""

    scenario: Scenario
    others: str


def with_floors(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """The scenarios of a grid: those with attack none measure the trigger of the backdoors that they stand beside.

    Only where these have one trigger between them: a run measures one, and `trigger` chooses which.

    Args:
        scenarios: without impossible ones.

    Returns:
        The same scenarios in the same order, some with `trigger` set.
    """
    choices = [Choice(each, each.model_dump_json(exclude={"attack", "trigger"})) for each in scenarios]
    found: dict[str, dict[str, Component]] = {}
    for scenario, others in choices:
        for part in _triggers(scenario):
            found.setdefault(others, {}).setdefault(_measured(part), part)
    made = []
    for scenario, others in choices:
        triggers = [*found.get(others, {}).values()]
        unattacked = scenario.attack.name == "none" and not scenario.attack.beside and scenario.trigger is None
        if unattacked and len(triggers) == 1:
            scenario = scenario.model_copy(update={"trigger": triggers[0]})
        made.append(scenario)
    return made


def floorless(scenarios: Sequence[Scenario]) -> Iterator[str]:
    """A line where a grid has backdoors with several triggers, and attack none, which then measures none of them.

    Args:
        scenarios: those of a grid, from `with_floors`.

    Yields:
        One line at most, that begins with the key `trigger`.
    """
    triggers: dict[str, str] = {}
    for scenario in scenarios:
        for part in _triggers(scenario):
            triggers.setdefault(_measured(part), part.name)
    if len(triggers) > 1 and any(each.attack.name == "none" and each.trigger is None for each in scenarios):
        names = ", ".join(triggers.values())
        yield (
            f"trigger: the backdoors of this grid have {len(triggers)} triggers ({names}), and a run measures one: "
            "runs of none say nothing of the floor, unless trigger names one of them, such as grid.trigger: "
            f"[{names}] with attack none alone"
        )


def _triggers(scenario: Scenario) -> Iterator[Component]:
    """The triggers of the backdoors that some Byzantine worker carries out."""
    for lie, first, end in scenario.lies:
        if end > first and (part := _trigger(lie, scenario.workers.total, end - first)) is not None:
            yield part


def _trigger(lie: Component, n: int, f: int) -> Any:
    """The attack of a trigger without who carries it out; None where an attack has none, or cannot be made."""
    options = lie.options()
    if not MEASURED & set(options):
        return None
    try:
        goal = ATTACKS[lie.name](n, f, **options).goal
    except Exception:
        # what is wrong with it is said where it is built
        return None
    return None if goal is None else TypeAdapter(Trigger).validate_python({"name": lie.name, **options})


def _measured(part: Component) -> str:
    return str(sorted((key, value) for key, value in part.options().items() if key in MEASURED))
