"""Tables of a study, made from the files of its runs alone."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.scores import SUCCESS, Score, score_of
from simulator.diagnostics import Evaluation
from simulator.scenario import ScenarioError

MEASURED = [*Evaluation._fields]
STATISTICS = ["mean", "std", "count"]
METRICS = ",".join(["step", "time_s", "gradients", "wall_s", *MEASURED])
# How a schedule used its time: updates per second, mean age of the rows, share of the workers' time spent waiting, and
# of the jobs begun those whose rows went into no update.
TIMES = ["updates_per_s", "mean_age", "waiting", "unused"]
DETAIL = ["step", "time_s", "gradients", "wall_s", *MEASURED, *TIMES, "classes", "digest", "reason"]
# Keys of a grid that choose between ways to spend time, or to train: they share a figure.
WAYS = {"schedule", "filter", "local", "optimizer", "worker_momentum"}
# What a run is measured by besides its updates, with the words for it.
MEASURES = {"time_s": "seconds", "gradients": "gradients delivered"}


def gather(folder: Path) -> pd.DataFrame:
    """One row per run, in order: `run`, `rule`, `attack`, the other swept keys, `seed`, `status`, what it ended with.

    Raises ScenarioError where the folder holds no runs.
    """
    rows = []
    for path in folder.glob("runs/[!.]*/summary.json"):
        try:
            found = json.loads(path.read_text())
        except ValueError:
            raise ScenarioError(f"{path}: damaged: remove the folder of this run, or run it again") from None
        if found["status"] == "running":
            # killed: what it measured until then stands in its metrics alone
            found["status"] = "unfinished"
            found |= next(iter(metrics(path.parent).tail(1).to_dict("records")), {})
        names = {"run": path.parent.name, "rule": found["rule"], "attack": found["attack"], **found["others"]}
        row = {**names, "seed": found["seed"], "status": found["status"], **{key: found.get(key) for key in DETAIL}}
        rows.append((found["position"], row))
    if not rows:
        raise ScenarioError(f"{folder}: no results here: a folder that byzax run wrote is needed")
    frame = pd.DataFrame([row for _, row in sorted(rows, key=lambda pair: pair[0])])
    return frame.astype(dict.fromkeys([*MEASURED, *TIMES, "time_s", "gradients"], float))


def metrics(run: Path) -> pd.DataFrame:
    """The metrics of a run, one row per evaluation; a last line that was not written to its end is left out."""
    text = (run / "metrics.csv").read_text()
    return pd.read_csv(io.StringIO(text[: text.rfind("\n") + 1] or METRICS))


def curves(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The metrics of all runs, one row per run and evaluation, beside the names of the run."""
    names = frame[["run", "rule", "attack", *others(frame), "seed", "status", "classes"]]
    parts = [metrics(folder / "runs" / run).assign(run=run) for run in frame["run"]]
    # a run that failed before its first evaluation has no line, and pandas wants no empty part
    return names.merge(pd.concat([part for part in parts if len(part)] or parts[:1]), on="run")


def others(frame: pd.DataFrame) -> list[str]:
    """The keys, beside rule and attack, in which the runs differ."""
    columns = list(frame.columns)
    return columns[columns.index("attack") + 1 : columns.index("seed")]


def lines(frame: pd.DataFrame) -> list[str]:
    """What a line of a plot stands for: the rule, where ways to spend time are swept these, or both where both are."""
    keys = [key for key in others(frame) if key.partition(".")[0] in WAYS]
    if not keys or len(set(frame["rule"])) > 1:
        keys.insert(0, "rule")
    return [", ".join(map(str, chosen)) for chosen in frame[keys].to_numpy()]


def differs(curves: pd.DataFrame, measure: str) -> bool:
    """Whether runs at the same update are at different places of another measure."""
    return bool((curves.groupby("step")[measure].nunique() > 1).any())


def at_equal(frame: pd.DataFrame, curves: pd.DataFrame, measure: str) -> tuple[pd.DataFrame, float]:
    """The frame with the test accuracy, or loss, that each run had when the shortest one ended, and where that was.

    It is that of the last model evaluated by then.
    """
    column = score_of(frame).column
    complete = curves.loc[curves["status"] == "complete"]
    end = float(complete.groupby("run")[measure].max().min())
    then = complete.loc[complete[measure] <= end].groupby("run").tail(1).set_index("run")[column]
    return frame.assign(**{column: frame["run"].map(then)}), end


def table(frame: pd.DataFrame, score: Score) -> pd.DataFrame:
    """Rules (and other swept keys) by attacks: `mean` and `std` of the score and `count` of the repeats.

    Of regressions it is the test loss, infinite where it is NaN. Columns are pairs (attack, statistic); the standard
    deviation is that of a sample (n - 1), NaN for one repeat.
    """
    rows = [*others(frame), "rule"]
    values = frame[score.column].fillna(np.inf).where(frame["status"] == "complete")
    grouped = frame.assign(score=values).groupby([*rows, "attack"], sort=False)["score"].agg(STATISTICS)
    wide: Any = grouped.unstack("attack")
    wide.columns = wide.columns.swaplevel()
    columns = pd.MultiIndex.from_product([frame["attack"].unique(), STATISTICS])
    names = frame.set_index(rows).index.unique()
    return wide.reindex(index=names, columns=columns)


def cell(mean: float, std: float, count: float, digits: str) -> str:
    """`0.912 ± 0.004`; a dash where no run was completed."""
    if not count > 0:
        return "-"
    if not np.isfinite(mean):
        return "not finite"
    return f"{mean:{digits}}" if count == 1 else f"{mean:{digits}} ± {std:{digits}}"


def caption(frame: pd.DataFrame, score: Score, when: str = "") -> str:
    """What the numbers of the table are, `when` being such as "final "."""
    what = f"{when}{score.words}"
    seeds = len(set(frame["seed"]))
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else f"seed {frame['seed'].iloc[0]}"
    return f"{what}, {spread}"


def text_rows(wide: pd.DataFrame, score: Score) -> tuple[list[str], list[list[str]]]:
    """The table as headings and rows of text."""
    attacks = list(dict.fromkeys(wide.columns.get_level_values(0)))
    headings = [*[str(name) for name in wide.index.names], *attacks]
    rows = []
    for key, values in zip(wide.index, wide.to_numpy(), strict=True):
        cells = [cell(*values[3 * i : 3 * i + 3], digits=score.digits) for i in range(len(attacks))]
        rows.append([*(map(str, key) if isinstance(key, tuple) else [str(key)]), *cells])
    return headings, rows


def troubles(frame: pd.DataFrame) -> list[str]:
    """One line for each run that was not completed, or that diverged."""
    lines = []
    for run in frame.to_dict("records"):
        if run["status"] != "complete":
            step = "" if pd.isna(run["step"]) else f" after step {run['step']:.0f}"
            reason = f" ({run['reason']})" if isinstance(run["reason"], str) else ""
            lines.append(f"{run['run']}: {run['status']}{step}{reason}")
    return lines + [
        f"{run}: diverged (its test loss is not finite: what else is measured is that of a broken model)"
        for run in frame.loc[diverged(frame), "run"]
    ]


def early(frame: pd.DataFrame) -> list[str]:
    """One line for each completed run that was stopped early."""
    ended = frame.loc[(frame["status"] == "complete") & frame["reason"].notna()]
    return [f"{run}: {reason}" for run, reason in zip(ended["run"], ended["reason"], strict=True)]


def diverged(frame: pd.DataFrame) -> Any:
    """Which completed runs ended with a test loss that is not finite."""
    return (frame["status"] == "complete") & ~np.isfinite(frame["test_loss"])


def tables(frame: pd.DataFrame, curves: pd.DataFrame) -> list[tuple[str, pd.DataFrame, Score]]:
    """The captions, frames and scores of all tables: at the end, and where it matters at equal time and work.

    Runs whose data has classes and runs whose data has values are not in one table. How far backdoors succeeded is in
    one of its own.
    """
    made: list[tuple[str, pd.DataFrame, Score]] = []
    for part in (frame.loc[frame["classes"].notna()], frame.loc[frame["classes"].isna()]):
        if part.empty:
            continue
        mine = curves.loc[curves["run"].isin(part["run"])]
        score = score_of(part)
        made.append((caption(part, score, "final "), part, score))
        for measure, words in MEASURES.items():
            if bool((part["status"] == "complete").any()) and differs(mine, measure):
                then, end = at_equal(part, mine, measure)
                made.append((f"{caption(part, score)}, at {end:.4g} {words}, where the shortest run ends", then, score))
    backdoors = frame.loc[frame["attack_success"].notna()]
    if len(backdoors):
        made.append((caption(backdoors, SUCCESS, "final "), backdoors, SUCCESS))
    return made


def spent(frame: pd.DataFrame) -> pd.DataFrame:
    """How each rule and schedule under each attack used its time: means over the repeats."""
    names = [*others(frame), "rule", "attack"]
    means: Any = frame.groupby(names, sort=False)[["time_s", "gradients", *TIMES]].mean()
    return means


def spent_rows(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The same as headings and rows of text."""
    wide = spent(frame)
    headings = [
        "seconds",
        "gradients",
        "updates per second",
        "mean age of a row",
        "workers' time waiting",
        "jobs unused",
    ]
    rows = []
    for key, (time_s, gradients, rate, age, waiting, unused) in zip(wide.index, wide.to_numpy(), strict=True):
        numbers = [f"{time_s:.4g}", f"{gradients:.0f}", f"{rate:.3g}", f"{age:.2f}", f"{waiting:.0%}", f"{unused:.0%}"]
        rows.append([*map(str, key), *numbers])
    return [*map(str, wide.index.names), *headings], rows


def markdown(title: str, frame: pd.DataFrame, curves: pd.DataFrame, plots: Sequence[Path]) -> str:
    """The study as a page: tables, what failed, plots."""
    lines = [f"# {title}"]
    for words, each, score in tables(frame, curves):
        lines += ["", f"{words[0].upper()}{words[1:]}.", "", *_in_markdown(*text_rows(table(each, score), score))]
    if timed(frame, curves):
        lines += ["", "How the time was used, on average over the repeats.", "", *_in_markdown(*spent_rows(frame))]
    if bad := troubles(frame):
        lines += ["", "Not completed or diverged:", "", *[f"- {line}" for line in bad]]
    if ended := early(frame):
        lines += ["", "Ended before the last update:", "", *[f"- {line}" for line in ended]]
    for plot in plots:
        lines += ["", f"![{plot.stem.replace('_', ' ').replace('-', ' ')}]({plot.name})"]
    return "\n".join(lines) + "\n"


def timed(frame: pd.DataFrame, curves: pd.DataFrame) -> bool:
    """Whether there is something to say about time: not where every update takes a second and every row is fresh."""
    idle = frame[["mean_age", "waiting", "unused"]].fillna(0).to_numpy()
    return bool(idle.any()) or any(differs(curves, measure) for measure in MEASURES)


def _in_markdown(headings: list[str], rows: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]
