"""The runs of one study, or of several joined, as one long ("tidy") table read from the files of the runs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from byzax.experiments.records import COUNTED, MEASURED, METRICS, SENT, TIMES, Damaged, Record, Summary, read
from byzax.experiments.scores import score_of
from byzax.experiments.settings import differing_keys, setting_text
from byzax.simulator.config.executors import ReportField
from byzax.simulator.config.measures import MEASURE_COLUMNS

NUMBERS = ["degraded_at", "time_s", "gradients", "wall_s", "classes"]
DETAIL = ["step", "time_s", "gradients", "wall_s", *MEASURED, *SENT, "epsilon", *TIMES, "classes", "digest", "reason"]
# Keys of a grid that choose between ways to spend time, or to train: they share a figure.
WAYS = {"schedule", "topology", "filter", "local", "optimizer", "wire", "worker_momentum"}
# What a run is measured by besides its updates, with the words for it.
MEASURES = {"time_s": "seconds", "gradients": "gradients delivered", "bits": "bits sent"}
# Factor from which runs differ in the bits sent for each gradient: schedules of one server differ by messages that are
# under way at the end.
BITS_DIFFER = 1.5


class Results(NamedTuple):
    """The runs of one study, or of several that are joined.

    Attributes:
        name: Name of the study.
        frame: One row per run, in order: `run`, `rule`, `attack`, the other keys in which runs differ, `seed`,
            `status`, `of` (number of runs that its cell should have), `degraded_at` (first update without a lost
            worker), and the last measurements.
        curves: One row per run and evaluation.
        records: The files of each run, by the name of the run.
        damaged: A line for each run or study that cannot be read.
        skipped: A line for each combination that was left out.
        report: The value that tables give of a run.
    """

    name: str
    frame: pd.DataFrame
    curves: pd.DataFrame
    records: dict[str, Record]
    damaged: list[str]
    skipped: Sequence[str] = ()
    report: ReportField = "last"


def gather(folders: Sequence[Path], name: str) -> Results:
    """Reads the results of studies.

    Args:
        folders: The folders of the studies.
        name: Name of the results in tables.

    Returns:
        The results; damaged runs are listed and left out.
    """
    records: dict[str, Record] = {}
    damaged: list[str] = []
    for folder in folders:
        of_study, lines = _study(folder)
        damaged += lines
        # a run is called by its folder, and by that of its study too where there are several
        records |= {f"{folder.name}/{run}" if len(folders) > 1 else run: record for run, record in of_study.items()}
    frame = _frame(records, joined=len(folders) > 1)
    return Results(name, frame, _curves(records, frame), records, damaged)


def _study(folder: Path) -> tuple[dict[str, Record], list[str]]:
    """Reads the runs of a study in order, and a line for each that cannot be read."""
    records: dict[str, Record] = {}
    damaged = []
    # a name that begins with a dot is a run that was about to begin
    runs = sorted(path for path in folder.glob("runs/[!.]*") if path.is_dir())
    for path in runs:
        try:
            records[path.name] = read(path)
        except Damaged as error:
            damaged.append(damage_line(path, error))
    if not runs:
        damaged.append(f"{folder}: no run here")
    return dict(sorted(records.items(), key=lambda pair: (pair[1].summary.position, pair[0]))), damaged


def damage_line(run: Path, error: Damaged) -> str:
    """The message for a run that cannot be read.

    Args:
        run: Folder of the run.
        error: The error.

    Returns:
        One line, with the way out.
    """
    return f"{run}: damaged: {error}: remove the folder of this run, or run it again"


def _frame(records: dict[str, Record], joined: bool) -> pd.DataFrame:
    summaries = [record.summary for record in records.values()]
    keys = list(dict.fromkeys(key for summary in summaries for key in summary.others))
    # a key that some grids sweep and others fix is read from the settings of all, so that it has one spelling
    swept = [key for key in keys if all(key in summary.others for summary in summaries)]
    if joined:
        keys += differing_keys([summary.settings for summary in summaries if summary.settings], keys)
    rows = []
    for (run, record), summary in zip(records.items(), summaries, strict=True):
        known = summary.settings
        varied = {key: setting_text(known, key) if known else summary.others.get(key, "-") for key in keys}
        ended = {key: getattr(summary, key) for key in DETAIL}
        if chosen := [name for name in record.metrics if name in MEASURE_COLUMNS and len(record.metrics)]:
            ended |= record.metrics[chosen].iloc[-1].to_dict()
        if summary.status == "running" and len(record.metrics):
            # killed: only the metrics hold its last measurements
            ended |= record.metrics[METRICS].iloc[-1].to_dict()
        rows.append(
            {
                "study": record.folder.parent.parent.name,
                "run": run,
                "rule": summary.rule,
                "attack": summary.attack,
                **varied,
                **{key: summary.others[key] for key in swept},
                "seed": summary.seed,
                "status": "unfinished" if summary.status == "running" else summary.status,
                "of": summary.of or math.nan,
                "degraded_at": min([*summary.lost.values(), *summary.lost_servers.values()], default=math.nan),
                **ended,
            }
        )
    columns = ["study", "run", "rule", "attack", *keys, "seed", "status", "of", "degraded_at", *DETAIL]
    columns += [name for name in MEASURE_COLUMNS if any(name in row for row in rows)]
    frame = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys([*MEASURED, *TIMES, *NUMBERS], float))
    # results from before cells knew how many runs they have
    frame["of"] = frame["of"].fillna(frame.groupby("study")["seed"].transform("nunique")).astype(int)
    return _separate_kinds(frame, summaries) if joined else frame


def _separate_kinds(frame: pd.DataFrame, summaries: Sequence[Summary]) -> pd.DataFrame:
    """Sorts joined studies by their keys and separates runs that one label would mix in a cell of a table."""
    for part in ("rule", "attack"):
        # labels are made per study: the settings tell components of two studies apart
        whole = [setting_text(each.settings, part) if each.settings else getattr(each, part) for each in summaries]
        alike = pd.Series(whole, frame.index).groupby(frame[part]).transform("nunique") == 1
        frame[part] = frame[part].where(alike, pd.Series(whole, frame.index))
    frame["order"] = pd.factorize(frame["rule"])[0]
    frame = frame.sort_values([*varying_keys(frame), "order"], key=_ranks, kind="stable").drop(columns="order")
    if frame.duplicated([*varying_keys(frame), "rule", "attack", "seed"]).any():
        # the same runs twice: they differ in a setting that changes no number, such as the executor
        frame.insert(list(frame.columns).index("attack") + 1, "folder", frame["study"])
    return frame.reset_index(drop=True)


def _ranks(column: pd.Series) -> pd.Series:
    """The rank of each value among all: numbers by size, then texts."""

    def place(value: Any) -> tuple[float, str]:
        try:
            return float(value), ""
        except ValueError:
            return math.inf, value

    ranks = {value: i for i, value in enumerate(sorted(column.unique(), key=place))}
    return column.map(ranks.__getitem__)


def _curves(records: dict[str, Record], frame: pd.DataFrame) -> pd.DataFrame:
    names = frame[["run", "rule", "attack", *varying_keys(frame), "seed", "status", "degraded_at", "classes"]]
    parts = [records[run].metrics.assign(run=run) for run in frame["run"]]
    # a run that failed before its first evaluation has no line, and pandas wants no empty part
    parts = [part for part in parts if len(part)] or [pd.DataFrame(columns=[*METRICS, "run"])]
    joined = names.merge(pd.concat(parts), on="run")
    return joined.assign(bits=joined[["bits_up", "bits_down", "bits_peer"]].sum(axis=1, skipna=False))


def varying_keys(frame: pd.DataFrame) -> list[str]:
    """The keys, beside rule and attack, in which runs differ.

    Args:
        frame: One row per run.

    Returns:
        Names of columns.
    """
    columns = list(frame.columns)
    return columns[columns.index("attack") + 1 : columns.index("seed")]


def line_labels(frame: pd.DataFrame) -> list[str]:
    """The labels of the lines of a plot.

    Args:
        frame: One row per run.

    Returns:
        For each run its rule, or its settings of `WAYS` where these vary, or both where both do.
    """
    keys = [key for key in varying_keys(frame) if key.partition(".")[0] in WAYS]
    if not keys or len(set(frame["rule"])) > 1:
        keys.insert(0, "rule")
    return [", ".join(map(str, chosen)) for chosen in frame[keys].to_numpy()]


def num_expected(runs: pd.DataFrame) -> int:
    """The number of runs that were asked for.

    Args:
        runs: Runs of one cell; studies that hold the same cell add theirs.

    Returns:
        The number.
    """
    of: Any = runs.groupby("study")["of"].max()
    return max(int(of.sum()), len(runs))


def has_result(frame: pd.DataFrame) -> Any:
    """The runs that count in tables and means.

    Args:
        frame: One row per run or evaluation.

    Returns:
        A mask: True for complete and degraded runs.
    """
    return frame["status"].isin(COUNTED)


def differs_by_run(curves: pd.DataFrame, measure: str) -> bool:
    """Tells whether runs differ in another measure at the same update.

    Args:
        curves: One row per run and evaluation.
        measure: Column of the measure, such as `time_s`.

    Returns:
        True where they differ; in bits where they differ in those for each gradient too.
    """
    if measure == "bits":
        last = curves.loc[curves["gradients"] > 0].groupby("run").tail(1)
        # models of labels and of values have no table or plot together
        each = (last["bits"] / last["gradients"]).groupby(last["classes"].isna())
        if not (each.max() > BITS_DIFFER * each.min()).any():
            return False
    return bool((curves.groupby("step")[measure].nunique() > 1).any())


def scores_at_equal(frame: pd.DataFrame, curves: pd.DataFrame, measure: str) -> tuple[pd.DataFrame, float]:
    """The scores of all runs at an equal value of a measure: where the shortest run ends.

    Args:
        frame: One row per run.
        curves: One row per run and evaluation.
        measure: Column of the measure, such as `time_s`.

    Returns:
        The frame with the score of the last model evaluated by then, and the value of the measure.
    """
    column = score_of(frame).column
    complete = curves.loc[has_result(curves)]
    end = float(complete.groupby("run")[measure].max().min())
    then = complete.loc[complete[measure] <= end].groupby("run").tail(1).set_index("run")[column]
    return frame.assign(**{column: frame["run"].map(then)}), end


def diverged(frame: pd.DataFrame) -> Any:
    """The runs that ended with a test loss that is not finite.

    Args:
        frame: One row per run.

    Returns:
        A mask; False for runs without a result.
    """
    return has_result(frame) & ~np.isfinite(frame["test_loss"])


def time_varies(frame: pd.DataFrame, curves: pd.DataFrame) -> bool:
    """Tells whether the use of time differs between runs, or rows have ages.

    Runs that were cut short do not count: they end at different times for another reason.

    Args:
        frame: One row per run.
        curves: One row per run and evaluation.

    Returns:
        False where every update takes a second and every row is fresh.
    """
    frame, curves = frame.loc[has_result(frame)], curves.loc[has_result(curves)]
    idle = frame[["mean_age", "waiting", "unused"]].fillna(0).to_numpy()
    return bool(idle.any()) or any(differs_by_run(curves, measure) for measure in MEASURES)
