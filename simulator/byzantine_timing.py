"""The timing of a run's Byzantine workers; of one of the user's own each decision is checked."""

import numpy as np

from byzax.members import is_builtin
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.part import Part, function_of
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import ContractError, build, errors_of, location, type_name
from byzax.simulator.schedules import Board
from byzax.simulator.timings import HeldRow, Reply, Timing

KEY = "attack.timing"


def timing(run: Run) -> Timing:
    """The timing of a run.

    Args:
        run: The run.

    Returns:
        The times at which Byzantine workers send; those of honest workers where there are none.

    Raises:
        ScenarioError: For an option out of its range, and from its decisions where one fails, or gives something else
            than it must.
    """
    return _timing(run.attack.timing) if run.workers.byzantine.count else Timing()


@compiled_once
def _timing(part: Part) -> Timing:
    with errors_of(KEY, part):
        made: Timing = build(part)
    decide, send = made.reply, made.release
    if decide is None or is_builtin(function_of(part)):
        return made

    def reply(board: Board, worker: int, last: int | None) -> Reply | None:
        try:
            given = decide(board, worker, last)
            if mistake := _mistake(given, made):
                raise ContractError(f"{part.label}: {mistake}{location(part, decide)}")
        except Exception:
            with errors_of(KEY, part):
                raise
        return given

    def release(board: Board, row: HeldRow) -> bool:
        try:
            given = send(board, row)
            if not isinstance(given, (bool, np.bool_)):
                raise ContractError(
                    f"{part.label}: release must give true or false, got {type_name(given)}{location(part, send)}"
                )
        except Exception:
            with errors_of(KEY, part):
                raise
        return bool(given)

    return made._replace(reply=reply, release=release)


def _mistake(given: object, timing: Timing) -> str:
    """The mistake in a reply; empty where there is none."""
    if given is not None and not isinstance(given, Reply):
        return f"reply must give a Reply or None, got {type_name(given)}"
    if timing.always and (given is None or given.sent == "never"):
        return "reply leaves a job without a row: give the Timing always=False"
    if given is None:
        return ""
    if given.sent not in ("in_time", "held", "never"):
        return f"sent must be 'in_time', 'held' or 'never', got {given.sent!r}"
    if not isinstance(given.older, (int, np.integer)) or not 0 <= given.older <= timing.oldest:
        return f"older must be a whole number from 0 to {timing.oldest} (oldest of the Timing), got {given.older!r}"
    return ""
