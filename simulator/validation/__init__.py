"""All checks that can be made before a run: `validate` for runs, studies and their grids."""

from collections.abc import Callable
from typing import Any

from byzax.simulator import interrupts
from byzax.simulator.config.grid import Cell, Expansion, expand
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Study, Task
from byzax.simulator.contracts import build, errors_of
from byzax.simulator.data.base import DataError
from byzax.simulator.mistakes import MOST_MISTAKES, ScenarioError, prefix_errors
from byzax.simulator.validation.part_checks import check_numbers, check_parts, load_data, share_data
from byzax.simulator.validation.task_checks import check_task

__all__ = ["load_data", "share_data", "validate", "validate_quickly"]


def validate(described: Run | Task | Study | Expansion) -> Expansion | None:
    """Builds and traces every part, for every seed and every combination of a grid, without running anything.

    Args:
        described: A run, a task, a study or its expansion.

    Returns:
        Of a study its expansion, without the combinations that are impossible where `skip_impossible` leaves these out;
        else None.

    Raises:
        ScenarioError: One line for each mistake, which begins with its key and says what would work.
    """
    if isinstance(described, Run):
        described = Study(name="run", **{key: getattr(described, key) for key in described.model_fields_set}).task
    if isinstance(described, Task):
        check_task(described)
        return None
    expansion = expand(described) if isinstance(described, Study) else described
    _check_loggers(expansion)
    return _checked(expansion, check_task)


def validate_quickly(expansion: Expansion) -> Expansion:
    """Makes the checks that take no more than a second or two: numbers such as n and f, and missing data.

    Args:
        expansion: The expansion of a study.

    Returns:
        The expansion, without the combinations that are impossible where `skip_impossible` leaves these out.

    Raises:
        ScenarioError: As `validate`.
    """
    _check_loggers(expansion)
    expansion = _checked(expansion, lambda task: check_parts(task.run))
    return _checked(expansion, lambda task: check_numbers(task.run))


def _check_loggers(expansion: Expansion) -> None:
    """Raises ScenarioError for a logger that cannot be made, such as one whose package is not installed."""
    for part in dict.fromkeys(part for cell in expansion.cells for part in cell.study.log):
        with prefix_errors(expansion.source), errors_of("log", part):
            build(part)


def _checked(expansion: Expansion, check: Callable[[Task], Any]) -> Expansion:
    mistakes: list[tuple[ScenarioError, Cell]] = []
    for cell in expansion.cells:
        interrupts.check()
        try:
            check(cell.study.task)
        except ScenarioError as error:
            mistakes.append((error, cell))
            # every cell would try to download the missing files again
            many = len(mistakes) >= MOST_MISTAKES and not expansion.study.skip_impossible
            if isinstance(error.__cause__, DataError) or many:
                break
    return expansion.without(mistakes)
