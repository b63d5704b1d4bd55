"""Progress of runs: bars on a terminal, one line in a notebook, else a line per run; or nothing."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from byzax.experiments.entries import Entry
from byzax.experiments.names import counted, duration
from byzax.experiments.scores import score_text
from byzax.simulator.executors import Checkpoint

# Least time between the lines of a long run without a terminal, and between rewrites of one line.
LINE_EVERY_S = 10
REWRITE_EVERY_S = 0.5
# Least time that a forecast is made from.
FORECAST_AFTER_S = 1.0


class Report(NamedTuple):
    """The messages of the runner.

    Attributes:
        starting: An executor of this name starts.
        begin: These runs begin together, with so many updates each; others may be under way.
        advance: A run has a new evaluation.
        done: A run ended.
        failed: A run failed, with the reason.
        notice: Something happened to the present runs, which go on.
    """

    starting: Callable[[str], None]
    begin: Callable[[Iterable[Entry], int], None]
    advance: Callable[[Entry, Checkpoint], None]
    done: Callable[[Entry, Checkpoint], None]
    failed: Callable[[Entry, str], None]
    notice: Callable[[str], None]


def report(console: Console, runs: int, steps: int, measure: str | None = None, quiet: bool = False):
    """The progress report for a console.

    Args:
        console: The console.
        runs: Number of runs.
        steps: Number of updates of all runs.
        measure: Field of an evaluation that is shown; None for the test accuracy or loss.
        quiet: Whether only failures and notices are shown.

    Returns:
        A context manager with a `Report`.
    """
    if quiet:
        return _failures(console)
    if can_animate(console):
        return _bars(console, runs, steps, measure)
    return (_rewritten if in_notebook() and console.is_terminal else _lines)(console, runs, steps, measure)


def can_animate(console: Console) -> bool:
    """Tells whether output can be rewritten: not in a file, pipe, or notebook, which shows escape codes as text.

    Args:
        console: The console.

    Returns:
        True on a terminal.
    """
    return console.is_terminal and not in_notebook()


def in_notebook() -> bool:
    """Tells whether this process is the kernel of a notebook, or a command begun in one of its cells.

    Returns:
        True in a notebook.
    """
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return "JPY_PARENT_PID" in os.environ or type(shell).__name__ == "ZMQInteractiveShell"


def run_name(run: Entry) -> str:
    """The name of a run in messages.

    Args:
        run: The run.

    Returns:
        Such as `krum, empire, workers.byzantine=3, seed 0`.
    """
    others = [f"{key}={value}" for key, value in run.others.items()]
    return ", ".join([run.rule, run.attack, *others, f"seed {run.scenario.seed}"])


class Forecast(NamedTuple):
    """A forecast of the remaining time, from the time taken so far.

    Attributes:
        advance: Sets the number of updates that a run has made.
        end: Ends a run; updates that it did not make take no time.
        text: Such as `about 3 min left`; empty without a forecast.
    """

    advance: Callable[[Entry, int], None]
    end: Callable[[Entry], None]
    text: Callable[[], str]


def forecast(steps: int) -> Forecast:
    """Starts a forecast.

    Args:
        steps: Number of updates of all runs.

    Returns:
        The forecast.
    """
    began, left, finished = time.monotonic(), steps, 0
    # two studies may have runs of one name
    reached: dict[int, int] = {}

    def advance(run: Entry, step: int) -> None:
        nonlocal left, finished
        new, reached[id(run)] = step - reached.get(id(run), 0), step
        left, finished = left - new, finished + new

    def end(run: Entry) -> None:
        nonlocal left
        left -= run.scenario.steps - reached.pop(id(run), 0)

    def text() -> str:
        spent = time.monotonic() - began
        if spent < FORECAST_AFTER_S or not finished or left <= 0:
            return ""
        rest = spent * left / finished
        return f"about {duration(rest)} left"

    return Forecast(advance, end, text)


def _count(completed: int, lost: int, runs: int) -> str:
    """`83 of 84 runs, 1 failed`: the number of completed runs, and of failed ones."""
    return f"{completed} of {counted(runs, 'run')}" + (f", {lost} failed" if lost else "")


@contextmanager
def _failures(console: Console) -> Iterator[Report]:
    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    yield Report(
        starting=lambda executor: None,
        begin=lambda some, steps: None,
        advance=lambda run, checkpoint: None,
        done=lambda run, checkpoint: None,
        failed=lambda run, reason: say(f"{run_name(run)}: failed: {reason}"),
        # shown, since it is no progress
        notice=say,
    )


@contextmanager
def _bars(console: Console, runs: int, steps: int, measure: str | None) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
    )
    # runs differ in speed: the estimate of the remaining time looks back over minutes
    progress = Progress(*columns, console=console, speed_estimate_period=300, transient=True)
    whole = progress.add_task("all runs", total=steps, note=_count(0, 0, runs))
    present = progress.add_task("", total=None, note="")
    # the updates of each run under way, and all that it shall have
    before: dict[int, tuple[int, int]] = {}
    ended: set[int] = set()
    completed, lost = 0, 0

    def starting(executor: str) -> None:
        progress.update(present, description=f"starting {executor}", note="", total=None)

    def begin(some: Iterable[Entry], steps: int) -> None:
        for run in ended:
            before.pop(run, None)
        ended.clear()
        others, some = len(before), list(some)
        before.update({id(run): (0, steps) for run in some})
        label = run_name(some[0]) + (f" to {some[-1].scenario.seed}" if len(some) > 1 else "")
        label += f" (and {others} more)" if others else ""
        # the bar pulses until the first updates are done: the functions are being compiled
        progress.reset(present, description=label, total=None, note="compiling")

    def advance(run: Entry, checkpoint: Checkpoint) -> None:
        new, before[id(run)] = checkpoint.step - before[id(run)][0], (checkpoint.step, run.scenario.steps)
        progress.update(whole, advance=new)
        if checkpoint.step:
            made, total = map(sum, zip(*before.values(), strict=True))
            note = score_text(checkpoint.evaluation, measure).removeprefix("test ")
            progress.update(present, completed=made, total=total, note=note)

    def done(run: Entry, checkpoint: Checkpoint) -> None:
        nonlocal completed
        completed += 1
        ended.add(id(run))
        # updates that an early end left out count as made
        progress.update(whole, note=_count(completed, lost, runs), advance=run.scenario.steps - checkpoint.step)

    def failed(run: Entry, reason: str) -> None:
        nonlocal lost
        lost += 1
        ended.add(id(run))
        rest = run.scenario.steps - before.get(id(run), (0, 0))[0]
        progress.update(whole, note=_count(completed, lost, runs), advance=rest)
        progress.console.print(f"[red]failed[/red] {escape(f'{run_name(run)}: {reason}')}", highlight=False)

    def notice(text: str) -> None:
        label = progress.tasks[present].description
        progress.console.print(f"[yellow]notice[/yellow] {escape(f'{label}: {text}')}", highlight=False)

    with progress:
        yield Report(starting, begin, advance, done, failed, notice)


@contextmanager
def _rewritten(console: Console, runs: int, steps: int, measure: str | None) -> Iterator[Report]:
    """One line that is rewritten with a carriage return; a failure has a line of its own."""
    expected = forecast(steps)
    completed, lost, shown, last, present = 0, 0, 0, 0.0, ""
    began = time.monotonic()

    def put(text: str, end: str = "") -> None:
        nonlocal shown, last
        text = text[: console.width - 1]
        console.file.write(f"\r{text:<{shown}}{end}")
        console.file.flush()
        shown, last = (0 if end else len(text)), time.monotonic()

    def now(text: str) -> None:
        if time.monotonic() - last > REWRITE_EVERY_S:
            put("; ".join(filter(None, [_count(completed, lost, runs), expected.text(), text])))

    def advance(run: Entry, checkpoint: Checkpoint) -> None:
        expected.advance(run, checkpoint.step)
        step = f"step {checkpoint.step} of {run.scenario.steps}"
        now(f"{run_name(run)}: {step}, {score_text(checkpoint.evaluation, measure)}")

    def done(run: Entry, checkpoint: Checkpoint) -> None:
        nonlocal completed
        completed += 1
        expected.end(run)
        now(f"{run_name(run)}: {score_text(checkpoint.evaluation, measure)}")

    def failed(run: Entry, reason: str) -> None:
        nonlocal lost
        lost += 1
        expected.end(run)
        put(f"{run_name(run)}: failed: {reason}", "\n")

    def begin(some: Iterable[Entry], steps: int) -> None:
        nonlocal present
        present = run_name(next(iter(some)))

    def notice(text: str) -> None:
        put(f"{present}: {text}", "\n")

    try:
        yield Report(lambda executor: put(f"starting {executor}"), begin, advance, done, failed, notice)
    finally:
        put(f"{_count(completed, lost, runs)}, in {time.monotonic() - began:.0f} s", "\n")


@contextmanager
def _lines(console: Console, runs: int, steps: int, measure: str | None) -> Iterator[Report]:
    completed, lost, present = 0, 0, ""
    last = began = time.monotonic()
    expected = forecast(steps)

    def say(text: str) -> None:
        nonlocal last
        last = time.monotonic()
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(some: Iterable[Entry], steps: int) -> None:
        nonlocal present
        present = run_name(next(iter(some)))

    def end(text: str, more: str = "") -> None:
        say(f"[{completed + lost:{len(str(runs))}}/{runs}] {text}{f'; {more}' if more else ''}")

    def done(run: Entry, checkpoint: Checkpoint) -> None:
        nonlocal completed
        completed += 1
        expected.end(run)
        end(
            f"{run_name(run)}: {score_text(checkpoint.evaluation, measure)} ({checkpoint.wall_s:.1f} s)",
            expected.text(),
        )

    def failed(run: Entry, reason: str) -> None:
        nonlocal lost
        lost += 1
        expected.end(run)
        end(f"{run_name(run)}: failed: {reason}")

    def advance(run: Entry, checkpoint: Checkpoint) -> None:
        expected.advance(run, checkpoint.step)
        if time.monotonic() - last > LINE_EVERY_S and checkpoint.step < run.scenario.steps:
            step = f"step {checkpoint.step} of {run.scenario.steps}"
            text = f"{run_name(run)}: {step}, {score_text(checkpoint.evaluation, measure)}"
            say("; ".join(filter(None, [text, expected.text()])))

    yield Report(
        starting=lambda executor: say(f"{counted(runs, 'run')}, {counted(steps, 'update')}; starting {executor}"),
        begin=begin,
        advance=advance,
        done=done,
        failed=failed,
        notice=lambda text: say(f"{present}: {text}"),
    )
    say(f"{_count(completed, lost, runs)}, in {time.monotonic() - began:.0f} s")
