"""Files of a run: its folder, written as the run goes on, so that a crash loses no measurement."""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from byzax.experiments import marks
from byzax.experiments.entries import Entry, described, labels_of
from byzax.experiments.records import METRICS, read_updates
from byzax.experiments.strict_yaml import dump
from byzax.experiments.versions import described_versions
from byzax.experiments.writing import atomically, json_text, sync, write_errors, write_json, write_text
from byzax.simulator import snapshots
from byzax.simulator.config.measures import ClassAccuracy, ConfusionMatrix, FurtherMeasure, columns_of, recalls
from byzax.simulator.diagnostics import Diagnostics, Evaluation, Traffic
from byzax.simulator.executors import Checkpoint
from byzax.simulator.executors.base import byzantine_updates, digest, fixed_byzantine_workers
from byzax.simulator.measuring import judged
from byzax.simulator.snapshots import Snapshot
from byzax.simulator.stopping import lost_in_words
from byzax.simulator.timeline import Timeline, truncate
from byzax.simulator.timeline_files import save
from byzax.simulator.usage import usage
from byzax.simulator.world import load as load_data

# The state that a run goes on from when it was cut; gone when it ended.
SNAPSHOT = "snapshot.npz"


def begin(folder: Path, run: Entry) -> None:
    """Makes the folder of a run with its description, whole or not at all; what an earlier try left there goes.

    Args:
        folder: The folder of the study.
        run: The run.

    Raises:
        WriteError: Where a file cannot be written.
    """
    here = folder / "runs" / f".{run.slug}"
    about = json_text(described_versions(run.scenario))
    with write_errors(here):
        _clear(folder / "runs" / run.slug)
        # an interrupted start may have left files here
        here.mkdir(parents=True, exist_ok=True)
        _clear(here, keep_folder=True)
        (here / "scenario.yaml").write_text(dump(described(run)))
        (here / "versions.json").write_text(about)
        # not waited for: what a power cut leaves of a run that has just begun begins again
        _write_table(here / "metrics.csv", [[*METRICS, *columns_of(run.scenario.measure)]])
        if _measures(run, ClassAccuracy):
            _write_table(here / "classes.csv", [("step", *range(_classes(run)))])
        _write_table(here / "updates.csv", [("step", *Diagnostics._fields)])
        if run.scenario.record.weights:
            _write_table(here / "weights.csv", [("step", *range(run.scenario.workers.total))])
        (here / "summary.json").write_text(json_text(_summary(run, "running", None)))
        here.rename(folder / "runs" / run.slug)


def _clear(here: Path, keep_folder: bool = False) -> None:
    """Removes the files of a run."""
    if here.is_dir():
        for path in marks.run_files(here):
            path.unlink()
        if not keep_folder:
            here.rmdir()


def resume(folder: Path, run: Entry, snapshot: Snapshot) -> list[Checkpoint]:
    """Takes the files of a run back to a snapshot.

    Args:
        folder: The folder of the study.
        run: The run.
        snapshot: The snapshot.

    Returns:
        The checkpoints until then, without models and timelines.

    Raises:
        WriteError: Where a file cannot be written.
    """
    here = folder / "runs" / run.slug
    evaluated = snapshot.evaluations[-1].step
    with write_errors(here):
        for name in ("metrics.csv", "updates.csv", "weights.csv", "classes.csv"):
            if (here / name).exists():
                _cut(here / name, evaluated)
        for path in marks.run_files(here):
            number = re.fullmatch(r"update-(\d+)\.npz", path.name)
            if path.name in ("workers.csv", "ages.csv", "confusion.csv", "error.txt") or (
                number and int(number[1]) >= evaluated
            ):
                path.unlink()
        # the executor may be another one
        write_text(here / "scenario.yaml", dump(described(run)))
        write_json(here / "summary.json", _summary(run, "running", None))
    updates = read_updates(here)[list(Diagnostics._fields)].to_numpy()
    history, since = [], 0
    for each in snapshot.evaluations:
        series = Diagnostics(*updates[since : each.step].T)
        history.append(
            Checkpoint(run.scenario.seed, *each[:-1], evaluation=each.evaluation, updates=series, params=np.empty(0))
        )
        since = each.step
    return history


def _cut(path: Path, last: int) -> None:
    """Removes the rows of a table that are later than update `last`."""
    with path.open(newline="") as file:
        heading, *rows = csv.reader(file)
    kept = [row for row in rows if len(row) == len(heading) and int(row[0]) <= last]
    write_text(path, _table_text([heading, *kept]))


def save_snapshot(folder: Path, run: Entry, snapshot: Snapshot) -> None:
    """Writes the snapshot of a run; the one before stays until it is whole.

    Args:
        folder: The folder of the study.
        run: The run.
        snapshot: The snapshot.

    Raises:
        WriteError: Where it cannot be written.
    """
    here = folder / "runs" / run.slug
    with write_errors(here):
        for path in here.glob("*.csv"):
            # the rows before a snapshot that says that they are there
            sync(path)
        atomically(here / SNAPSHOT, lambda file: snapshots.save(snapshot, file))


def record(folder: Path, run: Entry, checkpoint: Checkpoint, hidden: Sequence[str] = ()) -> dict[str, float]:
    """Appends a checkpoint to the files of a run.

    Args:
        folder: The folder of the study.
        run: The run.
        checkpoint: The checkpoint.
        hidden: Fields of the evaluation that are not written.

    Returns:
        The numbers that `metrics.csv` has of the evaluation, by column.

    Raises:
        WriteError: Where a file cannot be written.
    """
    here = folder / "runs" / run.slug
    wall_s = round(checkpoint.wall_s, 6)
    place = checkpoint.step, checkpoint.time_s, checkpoint.gradients, wall_s
    row = [*place, *_shown(checkpoint.evaluation, hidden), *_whole(checkpoint.traffic), checkpoint.epsilon]
    count = len(checkpoint.updates.aggregate_norm)
    steps = range(checkpoint.step - count + 1, checkpoint.step + 1)
    tables: dict[str, list[Any]] = {"metrics.csv": [row]}
    if run.scenario.measure:
        about = judged(run.scenario.run)
        confusion = about.confusion(checkpoint.params)
        row += [value for each in run.scenario.measure for value in each.values(confusion, about.shares)]
        if _measures(run, ClassAccuracy):
            tables["classes.csv"] = [(checkpoint.step, *recalls(confusion))]
        if _measures(run, ConfusionMatrix):
            rows = [
                ("label", *range(len(confusion)), "none"),
                *((i, *each) for i, each in enumerate(confusion.tolist())),
            ]
            with write_errors(here):
                write_text(here / "confusion.csv", _table_text(rows))
    tables["updates.csv"] = [*zip(steps, *(map(float, each) for each in checkpoint.updates), strict=True)]
    if checkpoint.weights is not None:
        tables["weights.csv"] = [(step, *each) for step, each in zip(steps, checkpoint.weights.tolist(), strict=True)]
    with write_errors(here):
        for name, lines in tables.items():
            with (here / name).open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(lines)
        for update in checkpoint.recorded:
            arrays = {name: value for name, value in update._asdict().items() if name != "diagnostics"}
            atomically(here / f"update-{update.step:08}.npz", lambda file, arrays=arrays: np.savez(file, **arrays))
    return dict(zip([*METRICS, *columns_of(run.scenario.measure)], map(float, row), strict=True))


def finish(
    folder: Path,
    run: Entry,
    seen: Sequence[Checkpoint],
    status: str,
    reason: str | None = None,
    hidden: Sequence[str] = (),
    trace: str = "",
) -> None:
    """Writes the last model, the summary and the error of a run.

    Args:
        folder: The folder of the study.
        run: The run.
        seen: The checkpoints so far; only the last one needs its parameters and timeline.
        status: complete, degraded, failed or interrupted.
        reason: The reason for the status; None where there is none.
        hidden: Fields of the evaluation that are not written.
        trace: Traceback of a failure, for `error.txt`; empty for none.

    Raises:
        WriteError: Where a file cannot be written.
    """
    here = folder / "runs" / run.slug
    with write_errors(here):
        # a run that went on has no model before its first evaluation then
        if seen and len(seen[-1].params):
            last = seen[-1]
            atomically(here / "params.npz", lambda file: np.savez(file, params=last.params, step=last.step))
        lost = _lost(seen[-1]) if seen else {}
        losses = [lost_in_words(of_kind, word) for word, of_kind in lost.items()]
        summary = _summary(run, status, "; ".join(filter(None, (reason, *losses))))
        for word, of_kind in lost.items():
            key = "lost" if word == "worker" else f"lost_{word}s"
            summary[key] = {str(node): step + 1 for node, step in sorted(of_kind.items())}
        if status in ("complete", "degraded"):
            summary["digest"] = digest(list(seen))
        if seen:
            last = seen[-1]
            summary |= {"step": last.step, "time_s": last.time_s, "gradients": last.gradients}
            summary |= {"wall_s": round(last.wall_s, 6)}
            if last.traffic is not None:
                summary |= dict(zip(last.traffic._fields, _whole(last.traffic), strict=True))
            if last.timeline is not None:
                if run.scenario.clock == "wall":
                    timeline = last.timeline
                    atomically(here / "timeline.npz", lambda file: save(timeline, file))
                # a run that was cut short has only the updates that were carried out
                happened = truncate(last.timeline, last.step)
                often = byzantine_updates(run.scenario.run, happened.steps)
                summary |= _times(here, happened, fixed_byzantine_workers(run.scenario.run), often)
            # JSON has no NaN
            measured = _shown(seen[-1].evaluation, hidden)._asdict() | {"epsilon": last.epsilon}
            summary |= {k: v if np.isfinite(v) else str(v) for k, v in measured.items()}
        if trace:
            write_text(here / "error.txt", trace)
        for path in here.glob("*.csv"):
            # on the disk before a summary with a final status
            sync(path)
        write_json(here / "summary.json", summary)
        if status != "interrupted":
            (here / SNAPSHOT).unlink(missing_ok=True)


def final_status(last: Checkpoint) -> str:
    """The status of a run that made all its updates.

    Args:
        last: The last checkpoint.

    Returns:
        complete, or degraded where workers or servers were lost unplanned.
    """
    return "degraded" if _lost(last) else "complete"


def _lost(last: Checkpoint) -> dict[str, dict[int, int]]:
    """The workers and servers that were lost unplanned, each with the position of the first update without it."""
    if last.timeline is None:
        return {}
    happened = truncate(last.timeline, last.step)
    lost = {"worker": happened.lost, "server": happened.lost_servers}
    return {word: {node: step for step, node in pairs.tolist()} for word, pairs in lost.items() if len(pairs)}


def _measures(run: Entry, kind: type[FurtherMeasure]) -> bool:
    return any(isinstance(each, kind) for each in run.scenario.measure)


def _classes(run: Entry) -> int:
    return load_data(run.scenario.data).classes or 0


def _shown(evaluation: Evaluation, hidden: Sequence[str]) -> Evaluation:
    return evaluation._replace(**dict.fromkeys(hidden, np.nan))


def _whole(sent: Traffic | None) -> list[int | float]:
    """The messages and bits, as whole numbers where they are; NaN where they are not known."""
    values = [math.nan] * len(Traffic._fields) if sent is None else [*sent]
    return [int(value) if value.is_integer() else value for value in values]


def _times(here: Path, timeline: Timeline, byzantine: list[int], often: np.ndarray) -> dict[str, float]:
    """Writes `workers.csv` and `ages.csv`: the time of each worker, and the number of rows of each age.

    Args:
        here: The folder of the run.
        timeline: The updates that were carried out.
        byzantine: The workers that are Byzantine in every update.
        often: `[n]`, the number of updates in which each worker is Byzantine.

    Returns:
        The use of time for the summary, by field.
    """
    n = len(often)
    spent = usage(timeline, n)
    ever = [worker in byzantine or count > 0 for worker, count in enumerate(often.tolist())]
    columns = [part.tolist() for part in (often, *spent)]
    heading = ("worker", "byzantine", "byzantine_updates", *spent._fields)
    _write_table(here / "workers.csv", [heading, *zip(range(n), ever, *columns, strict=True)])
    ages = np.bincount(timeline.ages)
    _write_table(here / "ages.csv", [("age", "rows"), *enumerate(ages.tolist())])
    end = timeline.time_s[-1] if timeline.steps else 0.0
    begun = sum(part.sum() for part in spent[:4])
    return {
        "updates_per_s": float(timeline.steps / end) if end else 0.0,
        "mean_age": float(timeline.ages.mean()) if len(timeline.ages) else 0.0,
        "waiting": float(spent.waiting_s.sum() / (n * end)) if end else 0.0,
        "unused": float(1 - spent.used.sum() / begun) if begun else 0.0,
    }


def _summary(run: Entry, status: str, reason: str | None) -> dict[str, Any]:
    data = load_data(run.scenario.data)
    return {
        **labels_of(run),
        "seed": run.scenario.seed,
        "status": status,
        **({"reason": reason} if reason else {}),
        "classes": data.classes,
        # which number stands for which label, where they had other names
        **({"labels": list(data.labels)} if data.labels else {}),
    }


def _write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    path.write_bytes(_table_text(rows).encode())


def _table_text(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
