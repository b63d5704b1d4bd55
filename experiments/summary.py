"""Tables of a study, made from the files of its runs alone."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulator.scenario import ScenarioError

MEASURED = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
STATISTICS = ["mean", "std", "count"]
METRICS = ",".join(["step", "time_s", "wall_s", *MEASURED])
DETAIL = ["step", "time_s", "wall_s", *MEASURED, "classes", "digest", "reason"]


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
    return frame.astype(dict.fromkeys(MEASURED, float))


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


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Rules (and other swept keys) by attacks: `mean` and `std` of the final test accuracy and `count` of the repeats.

    Columns are pairs (attack, statistic); the standard deviation is that of a sample (n - 1), NaN for one repeat.
    """
    rows = [*others(frame), "rule"]
    done = frame.assign(test_accuracy=frame["test_accuracy"].where(frame["status"] == "complete"))
    grouped = done.groupby([*rows, "attack"], sort=False)["test_accuracy"].agg(STATISTICS)
    wide: Any = grouped.unstack("attack")
    wide.columns = wide.columns.swaplevel()
    columns = pd.MultiIndex.from_product([frame["attack"].unique(), STATISTICS])
    names = frame.set_index(rows).index.unique()
    return wide.reindex(index=names, columns=columns)


def cell(mean: float, std: float, count: float) -> str:
    """`0.912 ± 0.004`; a dash where no run was completed."""
    if not count > 0:
        return "-"
    return f"{mean:.3f}" if count == 1 else f"{mean:.3f} ± {std:.3f}"


def caption(frame: pd.DataFrame) -> str:
    """What the numbers of the table are."""
    seeds = len(set(frame["seed"]))
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else f"seed {frame['seed'].iloc[0]}"
    return f"final test accuracy, {spread}"


def text_rows(wide: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The table as headings and rows of text."""
    attacks = list(dict.fromkeys(wide.columns.get_level_values(0)))
    headings = [*[str(name) for name in wide.index.names], *attacks]
    rows = []
    for key, values in zip(wide.index, wide.to_numpy(), strict=True):
        cells = [cell(*values[3 * i : 3 * i + 3]) for i in range(len(attacks))]
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
        f"{run}: diverged (its test loss is not finite; the accuracy is that of a broken model)"
        for run in frame.loc[diverged(frame), "run"]
    ]


def diverged(frame: pd.DataFrame) -> Any:
    """Which completed runs ended with a test loss that is not finite."""
    return (frame["status"] == "complete") & ~np.isfinite(frame["test_loss"])


def markdown(title: str, frame: pd.DataFrame, plots: Sequence[Path]) -> str:
    """The study as a page: table, what failed, plots."""
    headings, rows = text_rows(table(frame))
    lines = [f"# {title}", "", f"{caption(frame)[0].upper()}{caption(frame)[1:]}.", ""]
    lines += [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    if bad := troubles(frame):
        lines += ["", "Not completed or diverged:", "", *[f"- {line}" for line in bad]]
    for plot in plots:
        lines += ["", f"![Test accuracy over server updates]({plot.name})"]
    return "\n".join(lines) + "\n"
