"""What a person sees while runs go on: bars on a terminal, else a line per run."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments.names import counted
from experiments.results import Run
from experiments.scores import said
from simulator.executors import Checkpoint

# Without a terminal a long run says where it is, but not more often than this.
LINE_EVERY_S = 10


class Report(NamedTuple):
    """What the runner tells: an executor starts; runs begin together; an evaluation; the end of a run.

    `notice`: what happens to the present runs, which go on.
    """

    starting: Callable[[str], None]
    begin: Callable[[Iterable[Run], int], None]
    advance: Callable[[Run, Checkpoint], None]
    done: Callable[[Run, Checkpoint], None]
    failed: Callable[[Run, str], None]
    notice: Callable[[str], None]


def report(console: Console, runs: int, steps: int, measure: str | None = None, quiet: bool = False):
    """The fitting report: a context manager that gives a `Report` for so many runs with so many updates in all.

    `measure`: the field of an evaluation that is told, None for the test accuracy or loss. `quiet`: only failures.
    """
    # a notebook gives its commands a terminal, and shows the codes that move a cursor as they are
    notebook = console.is_terminal and "JPY_PARENT_PID" in os.environ
    fitting = _silence if quiet else _one_line if notebook else _bars if console.is_terminal else _lines
    return fitting(console, runs, steps, measure)


def name(run: Run) -> str:
    """`krum, empire, workers.byzantine=3, seed 0`."""
    others = [f"{key}={value}" for key, value in run.others.items()]
    return ", ".join([run.rule, run.attack, *others, f"seed {run.scenario.seed}"])


def _count(completed: int, lost: int, runs: int) -> str:
    """`83 of 84 runs, 1 failed`: how many were completed, and how many never will be."""
    return f"{completed} of {counted(runs, 'run')}" + (f", {lost} failed" if lost else "")


@contextmanager
def _bars(console: Console, runs: int, steps: int, measure: str | None) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
    )
    # runs differ in speed: the estimate of what is left looks back over minutes
    progress = Progress(*columns, console=console, speed_estimate_period=300, transient=True)
    whole = progress.add_task("all runs", total=steps, note=_count(0, 0, runs))
    present = progress.add_task("", total=None, note="")
    before: dict[Run | str, int] = {}
    completed, lost = 0, 0

    def starting(executor: str) -> None:
        progress.update(present, description=f"starting {executor}", note="", total=None)

    def begin(some: Iterable[Run], steps: int) -> None:
        before.clear()
        some = list(some)
        for run in some:
            before[run.slug] = 0
        label = name(some[0]) + (f" to {some[-1].scenario.seed}" if len(some) > 1 else "")
        # the bar pulses until the first updates are done: the functions are being compiled
        progress.reset(present, description=label, total=None, note="compiling")

    def advance(run: Run, checkpoint: Checkpoint) -> None:
        new, before[run.slug] = checkpoint.step - before[run.slug], checkpoint.step
        progress.update(whole, advance=new)
        if checkpoint.step:
            total = run.scenario.steps * len(before)
            note = said(checkpoint.evaluation, measure).removeprefix("test ")
            progress.update(present, completed=sum(before.values()), total=total, note=note)

    def done(run: Run, checkpoint: Checkpoint) -> None:
        nonlocal completed
        completed += 1
        # what an early end leaves undone is done
        progress.update(whole, note=_count(completed, lost, runs), advance=run.scenario.steps - checkpoint.step)

    def failed(run: Run, reason: str) -> None:
        nonlocal lost
        lost += 1
        rest = run.scenario.steps - before.get(run.slug, 0)
        progress.update(whole, note=_count(completed, lost, runs), advance=rest)
        progress.console.print(f"[red]failed[/red] {escape(f'{name(run)}: {reason}')}", highlight=False)

    def notice(text: str) -> None:
        label = progress.tasks[present].description
        progress.console.print(f"[yellow]degraded[/yellow] {escape(f'{label}: {text}')}", highlight=False)

    with progress:
        yield Report(starting, begin, advance, done, failed, notice)


@contextmanager
def _lines(console: Console, runs: int, steps: int, measure: str | None) -> Iterator[Report]:
    completed, lost, present = 0, 0, ""
    last = began = time.monotonic()

    def say(text: str) -> None:
        nonlocal last
        last = time.monotonic()
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(some: Iterable[Run], steps: int) -> None:
        nonlocal present
        present = name(next(iter(some)))

    def end(text: str) -> None:
        say(f"[{completed + lost:{len(str(runs))}}/{runs}] {text}")

    def done(run: Run, checkpoint: Checkpoint) -> None:
        nonlocal completed
        completed += 1
        end(f"{name(run)}: {said(checkpoint.evaluation, measure)} ({checkpoint.wall_s:.1f} s)")

    def failed(run: Run, reason: str) -> None:
        nonlocal lost
        lost += 1
        end(f"{name(run)}: failed: {reason}")

    def advance(run: Run, checkpoint: Checkpoint) -> None:
        if time.monotonic() - last > LINE_EVERY_S and checkpoint.step < run.scenario.steps:
            say(f"{name(run)}: step {checkpoint.step} of {run.scenario.steps}, {said(checkpoint.evaluation, measure)}")

    yield Report(
        starting=lambda executor: say(f"{counted(runs, 'run')}, {counted(steps, 'update')}; starting {executor}"),
        begin=begin,
        advance=advance,
        done=done,
        failed=failed,
        notice=lambda text: say(f"{present}: {text}"),
    )
    say(f"{_count(completed, lost, runs)}, in {time.monotonic() - began:.0f} s")


@contextmanager
def _one_line(console: Console, runs: int, steps: int, measure: str | None) -> Iterator[Report]:
    """One line that is written over, by a carriage return alone."""
    completed, lost, widest = 0, 0, 0
    began = time.monotonic()

    def say(text: str, end: str = "") -> None:
        nonlocal widest
        widest = max(widest, len(text))
        console.file.write(f"\r{text:{widest}}{end}")
        console.file.flush()

    def where(text: str) -> str:
        return f"[{completed + lost}/{runs}] {text}"

    def advance(run: Run, checkpoint: Checkpoint) -> None:
        told = said(checkpoint.evaluation, measure)
        say(where(f"{name(run)}: step {checkpoint.step} of {run.scenario.steps}, {told}"))

    def done(run: Run, checkpoint: Checkpoint) -> None:
        nonlocal completed
        completed += 1
        say(where(f"{name(run)}: {said(checkpoint.evaluation, measure)}"))

    def failed(run: Run, reason: str) -> None:
        nonlocal lost
        lost += 1
        say(where(f"{name(run)}: failed: {reason}"), "\n")

    yield Report(
        starting=lambda executor: say(where(f"starting {executor}")),
        begin=lambda some, steps: None,
        advance=advance,
        done=done,
        failed=failed,
        notice=lambda text: say(text, "\n"),
    )
    say(f"{_count(completed, lost, runs)}, in {time.monotonic() - began:.0f} s", "\n")


@contextmanager
def _silence(console: Console, runs: int, steps: int, measure: str | None) -> Iterator[Report]:
    def failed(run: Run, reason: str) -> None:
        console.print(f"{name(run)}: failed: {reason}", highlight=False, markup=False, soft_wrap=True)

    yield Report(
        starting=lambda executor: None,
        begin=lambda some, steps: None,
        advance=lambda run, checkpoint: None,
        done=lambda run, checkpoint: None,
        failed=failed,
        # what happens to a run is no progress
        notice=lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True),
    )
