"""Views of a timeline: a chart of workers over time, and a table of the outcomes of their jobs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from byzax.experiments import study
from byzax.experiments.figures import STYLE, verbatim
from byzax.experiments.records import Damaged, read_metrics
from byzax.experiments.replay import run_folders, timeline_of
from byzax.experiments.strict_yaml import is_shipped
from byzax.experiments.time_plot import TIME_USES
from byzax.experiments.writing import check_replaceable, write_picture
from byzax.simulator.config.run import Run
from byzax.simulator.executors.base import fixed_byzantine_workers, plan
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.timeline import Outcome, Rows, Timeline, truncate
from byzax.simulator.timeline_files import load
from byzax.simulator.usage import usage

# Largest number of jobs of a worker in a chart without --from and --to.
JOBS_SHOWN = 12
# Largest number of rows that are labelled with the numbers of their updates.
NUMBERED = 150
# Inches: matplotlib draws no picture of more than 65,535 pixels.
TALLEST = 300
ENDS = {Outcome.DROPPED: ("dropped", "x", "#555555"), Outcome.LOST: ("lost", "X", "#D55E00")}


class LabelledTimeline(NamedTuple):
    """A timeline with its workers and name.

    Attributes:
        timeline: The timeline.
        n: Number of workers.
        byzantine: The workers that are Byzantine in every update.
        name: Title of the chart and table.
        run: The run; None for a file of a timeline.
        measured: The last line of the run's measurements; None for a scenario or a file of a timeline.
    """

    timeline: Timeline
    n: int
    byzantine: list[int]
    name: str
    run: Run | None = None
    measured: Mapping[str, Any] | None = None


def read(path: Path, overrides: Sequence[str]) -> LabelledTimeline:
    """Reads a timeline.

    Args:
        path: A scenario, the folder of a run or of a study (its first run), or a file of a timeline.
        overrides: Texts `key=value` for a scenario.

    Returns:
        The timeline; of a run only the updates that were carried out.

    Raises:
        ScenarioError: Where there is no timeline, or overrides are given for anything but a scenario.
    """
    scenario = (path.suffix in (".yaml", ".yml") and not path.is_dir()) or is_shipped(path)
    if overrides and not scenario:
        raise ScenarioError(f"--set: changes a scenario, and {path} is none")
    if scenario or path.is_dir():
        run = path if scenario else run_folders(path)[0]
        cell = study.load(path if scenario else run / "scenario.yaml", overrides).cells[0].study
        if scenario and cell.clock == "wall":
            raise ScenarioError(
                f"{path}: clock: wall has no timeline before the race: run it, and name its folder here"
            )
        try:
            timeline = plan(cell.run) if scenario else timeline_of(run)
        except ValueError as error:
            raise ScenarioError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
        name = f"{cell.name}: {cell.schedule.label}, {cell.latency.label} latency, seed {cell.seed}"
        measured = None if scenario else _last_measured(run)
        if measured is not None and (reached := int(measured["step"])) < cell.steps:
            name += f"; {reached} of {cell.steps} updates were carried out"
            timeline = truncate(timeline, reached)
        byzantine = fixed_byzantine_workers(cell.run)
        return LabelledTimeline(timeline, cell.workers.total, byzantine, name, cell.run, measured)
    try:
        timeline = load(path)
    except ValueError as error:
        raise ScenarioError(str(error)) from error
    n = 1 + int(np.concatenate([timeline.rows.workers, timeline.unused.workers]).max(initial=0))
    return LabelledTimeline(timeline, n, [], path.name)


def _last_measured(run: Path) -> Mapping[str, Any]:
    """The last line of a run's measurements. Raises ScenarioError where it has no update."""
    try:
        metrics = read_metrics(run)
    except Damaged as error:
        raise ScenarioError(f"{run}: damaged: {error}") from None
    if not len(metrics) or metrics["step"].iloc[-1] < 1:
        raise ScenarioError(f"{run}: it ended before its first update was measured: there is nothing to draw")
    return metrics.iloc[-1].to_dict()


def table(labelled: LabelledTimeline) -> Table:
    """The table of a timeline.

    Args:
        labelled: The timeline.

    Returns:
        A line for each worker: its jobs by outcome, and its use of time.
    """
    spent = usage(labelled.timeline, labelled.n)
    end = float(labelled.timeline.time_s[-1]) if labelled.timeline.steps else 0.0
    caption = f"{labelled.timeline.steps} updates in {end:.6g} s"
    if labelled.timeline.stopped:
        caption += f"; {labelled.timeline.stopped}"
    outcomes_table = Table(title=Text(labelled.name), caption=Text(caption), box=box.SIMPLE_HEAD, title_style="bold")
    for heading in ("worker", "used", "dropped", "lost", "unfinished", "computing", "messages", "waiting", "mean age"):
        outcomes_table.add_column(heading, justify="right")
    ages = np.bincount(labelled.timeline.rows.workers, labelled.timeline.ages, labelled.n) / np.maximum(spent.used, 1)
    for worker in range(labelled.n):
        counts = [str(int(part[worker])) for part in spent[:4]]
        shares = [f"{part[worker] / end:.0%}" if end else "-" for part in spent[4:]]
        name = f"{worker} (Byzantine)" if worker in labelled.byzantine else str(worker)
        outcomes_table.add_row(name, *counts, *shares, f"{ages[worker]:.2f}" if spent.used[worker] else "-")
    return outcomes_table


def draw(labelled: LabelledTimeline, since: float, until: float | None, path: Path) -> Path:
    """Draws the chart of a timeline.

    Args:
        labelled: The timeline.
        since: Start of the chart, in seconds.
        until: End of the chart, in seconds; None for one with a readable number of jobs.
        path: The picture, PNG or SVG.

    Returns:
        The path.

    Raises:
        ScenarioError: Where nothing happens in that time, or the picture cannot be written.
    """
    timeline = labelled.timeline
    if timeline.steps and not timeline.time_s[-1] > 0:
        raise ScenarioError(
            f"{labelled.name}: all {timeline.steps} updates happen at 0 s, for nobody takes any time: there is nothing "
            "to draw (latency says what jobs take)"
        )
    last = until if until is not None else _readable(timeline, labelled.n, since)
    if not np.isfinite([since, last]).all():
        raise ScenarioError(f"--from and --to: seconds are needed, got {since:g} and {last:g}")
    everything = Rows(*(np.concatenate(pair) for pair in zip(timeline.rows, timeline.unused, strict=True)))
    updates = np.concatenate([timeline.updates, np.full(len(timeline.outcomes), -1)])
    ends = np.concatenate([np.full(len(timeline.updates), -1), timeline.outcomes])
    over = np.where(np.isnan(everything.arrived_s), max(last, since), everything.arrived_s)
    shown = (everything.started_s < last) & (over >= since)
    if not last > since or not shown.any():
        raise ScenarioError(f"--from and --to: nothing happens from {since:g} to {last:g} seconds")
    if path.suffix not in (".png", ".svg"):
        raise ScenarioError(f"--out {path}: .png or .svg is needed")
    check_replaceable(path, "--out")
    with rc_context(STYLE):
        figure = Figure(figsize=(11, min(TALLEST, 0.32 * labelled.n + 1.6)), layout="constrained")
        axes: Any = figure.subplots()
        # a stage that did not happen lasts until the end of the job
        times = [np.fmin(t, over)[shown] for t in everything[4:7]] + [over[shown]]
        workers = everything.workers[shown]
        for kind, begin, end in (("messages", 0, 1), ("computing", 1, 2), ("messages", 2, 3)):
            label = kind if begin < 2 else None
            axes.barh(
                workers, times[end] - times[begin], 0.62, times[begin], color=TIME_USES[kind], edgecolor="white",
                linewidth=0.4, label=label,
            )  # fmt: skip
        _mark(axes, workers, over[shown], updates[shown], ends[shown])
        for time_s in timeline.time_s[(timeline.time_s >= since) & (timeline.time_s <= last)]:
            axes.axvline(time_s, color="#0072B2", linewidth=0.5, alpha=0.5, zorder=0)
        axes.plot([], [], color="#0072B2", linewidth=0.8, label="update")
        axes.set_xlim(since, last)
        axes.set_ylim(labelled.n - 0.5, -0.5)
        axes.set_yticks(range(labelled.n))
        axes.tick_params(axis="y", labelsize=max(3, min(8, 240 / labelled.n)))
        for worker in labelled.byzantine:
            axes.get_yticklabels()[worker].set_color("#D55E00")
        axes.grid(axis="y", visible=False)
        numbered = (updates[shown] >= 0).sum() <= NUMBERED
        axes.set_xlabel("seconds" + ("; numbers are the update that a row went into, from 0" if numbered else ""))
        axes.set_ylabel("worker" + (" (Byzantine in red)" if labelled.byzantine else ""))
        figure.legend(
            loc="outside upper left", ncols=6, frameon=False, title=verbatim(labelled.name), alignment="left",
            title_fontproperties={"size": 9.5, "weight": "bold"},
        )  # fmt: skip
        write_picture(path, figure, "--out")
    return path


def _mark(axes: Any, workers: np.ndarray, over: np.ndarray, updates: np.ndarray, ends: np.ndarray) -> None:
    """Marks the end of each job with the number of the update that used its row, or its other outcome."""
    for outcome, (word, marker, colour) in ENDS.items():
        marked = ends == outcome
        if marked.any():
            axes.plot(over[marked], workers[marked], marker, color=colour, markersize=5, label=word, linestyle="none")
    used = updates >= 0
    if used.sum() > NUMBERED:
        axes.plot(over[used], workers[used], "|", color="#0072B2", markersize=6, label="used", linestyle="none")
        return
    for worker, moment, number in zip(workers[used], over[used], updates[used], strict=True):
        axes.annotate(str(number), (moment, worker), ha="right", va="center", fontsize=6, xytext=(-1.5, 0),
                      textcoords="offset points", annotation_clip=True)  # fmt: skip


def _readable(timeline: Timeline, n: int, since: float) -> float:
    """The end of a chart in which most workers have no more than JOBS_SHOWN jobs."""
    begun = np.sort(np.concatenate([timeline.rows.started_s, timeline.unused.started_s]))
    later = begun[begun >= since]
    end = float(timeline.time_s[-1]) if timeline.steps else float(later.max(initial=since + 1.0))
    return min(end, float(later[JOBS_SHOWN * n])) if len(later) > JOBS_SHOWN * n else end
