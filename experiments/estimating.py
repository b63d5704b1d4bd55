"""The content of `byzax run --dry-run`: the runs of a study, and an estimate of their time from a few updates."""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

from byzax.experiments.entries import entries_of
from byzax.experiments.names import counted
from byzax.experiments.progress import duration
from byzax.experiments.resuming import Standing
from byzax.simulator.config.grid import Cell, Expansion
from byzax.simulator.executors.sharing import split

# Programs that are measured, spread over the grid; updates of two measurements, whose difference is the time of some.
MEASURED = 8
FEW, MORE = 3, 23
# Lines of runs that are printed.
LISTED = 20


class TimeEstimate(NamedTuple):
    """The time of the runs of a study.

    Attributes:
        seconds: Of computing, one run after the other.
        measured: Number of programs that were measured.
        programs: Number of programs: combinations that differ in numbers alone share one.
        took: Seconds of measuring.
    """

    seconds: float
    measured: int
    programs: int
    took: float


def lines(expansion: Expansion, folder: Path, standing: Standing) -> list[str]:
    """Lines about the runs of a study that would be made.

    Args:
        expansion: The study.
        folder: Its folder.
        standing: The runs that are there.

    Returns:
        The lines.
    """
    entries = entries_of(expansion)
    todo = [entry for entry in entries if entry.slug not in standing.kept]
    keys = list(dict.fromkeys(key for cell in expansion.cells for key in cell.choices))
    repeats = expansion.study.repeats
    said = [f"{counted(len(expansion.cells), 'combination')} of {', '.join(keys)}"] if keys else ["one combination"]
    said += [f"{repeats} seeds of each"] if repeats > 1 else []
    said += [f"{len(expansion.skipped)} impossible ones left out"] if expansion.skipped else []
    made = [f"{folder}: {counted(len(entries), 'run')}: {', '.join(said)}"]
    made.append(f"{folder}: {len(standing.kept)} are there, {len(standing.snapshots)} go on, {len(todo)} are to be run")
    made += [f"  {entry.slug}" for entry in todo[:LISTED]]
    return made + ([f"  ... and {len(todo) - LISTED} more"] if len(todo) > LISTED else [])


def estimate(expansion: Expansion, standing: Standing) -> TimeEstimate | None:
    """Estimates the time of the runs that are to be made, from a few updates of some cells.

    Args:
        expansion: The study.
        standing: The runs that are there.

    Returns:
        The estimate; None where nothing is to be run, or runs are on Ray, whose actors would have to be hired.
    """
    begin = time.perf_counter()
    left: dict[int, int] = {}
    entries = iter(entries_of(expansion))
    for place, cell in enumerate(expansion.cells):
        left[place] = sum(next(entries).slug not in standing.kept for _ in cell.study.seeds)
    programs: dict[Any, list[int]] = {}
    for place, number in left.items():
        study = expansion.cells[place].study
        if number:
            programs.setdefault((split(study.run)[0], study.executor), []).append(place)
    if not programs or any(executor.name == "ray" for _, executor in programs):
        return None
    every = math.ceil(len(programs) / MEASURED)
    by_program = [*programs.values()]
    total = 0.0
    for at in range(0, len(by_program), every):
        first, run = _seconds(expansion.cells[by_program[at][0]])
        # a program stands for those after it, of which each is compiled once
        total += sum(first + run * sum(left[place] for place in some) for some in by_program[at : at + every])
    return TimeEstimate(total, len(by_program[::every]), len(by_program), time.perf_counter() - begin)


def _seconds(cell: Cell) -> tuple[float, float]:
    """The seconds that a cell takes once, to compile it, and those of each of its runs."""
    from byzax.simulator.executors import session

    def measure(steps: int) -> float:
        steps = min(steps, cell.study.steps)
        task = cell.study.replace(steps=steps, repeats=1, evaluate_every=steps, early_stopping=None, record={}).task
        with session(cell.study.executor) as execute:
            begin = time.perf_counter()
            for _ in execute(task):
                pass
            return time.perf_counter() - begin

    first = measure(FEW)
    few, more = measure(FEW), measure(MORE)
    steps = cell.study.steps
    between = max(min(MORE, steps) - min(FEW, steps), 1)
    update = max(more - few, 0) / between
    evaluation = max(few - FEW * update, 0) / 2
    evaluations = 1 + math.ceil(steps / cell.study.evaluate_every)
    return max(first - few, 0), update * steps + evaluation * evaluations


def estimate_line(found: TimeEstimate | None, jobs: int) -> str:
    """The estimate in words.

    Args:
        found: The estimate.
        jobs: Processes side by side.

    Returns:
        A line.
    """
    if found is None:
        return "no estimate of the time: nothing is to be run, or runs are on Ray"
    side = f" in {jobs} processes" if jobs > 1 else ""
    return (
        f"about {duration(found.seconds / jobs)}{side}, from a few updates of {found.measured} of {found.programs} "
        f"programs, measured in {duration(found.took)}; plots and tables not counted"
    )
