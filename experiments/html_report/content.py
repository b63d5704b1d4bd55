"""The content of a report: tables, curves and statistics of a study, as values of JSON."""

import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from byzax.experiments import overall, tables
from byzax.experiments.figures import rule_colours
from byzax.experiments.gathering import has_result, varying_keys
from byzax.experiments.names import counted, joined
from byzax.experiments.plots import mean_curve
from byzax.experiments.records import read_weights
from byzax.experiments.result import Result
from byzax.experiments.scores import score_named
from byzax.simulator.config.measures import MEASURE_COLUMNS

# Evaluations of a curve, of which a long one keeps so many at equal distances, and the last.
POINTS = 200
# Measurements that have curves, where any run has them.
MEASURED = ["test_accuracy", "test_loss", "train_loss", "attack_success", *MEASURE_COLUMNS]
# Workers and updates of a map of weights.
MAPPED = 100


def content(result: Result) -> dict[str, Any]:
    """Everything that a report shows.

    Args:
        result: The results; runs that have not ended are counted, and in no mean.

    Returns:
        A mapping of texts, numbers and lists; numbers that are not finite are None.
    """
    results, frame = result._results, result.runs
    listed = tables.tables(results)
    first = listed[0]
    keys = [*varying_keys(frame), "rule", "attack"]
    done = int(has_result(frame).sum())
    about = result._read(str(frame["run"].iloc[0]), _description)
    return _finite(
        {
            "name": results.name,
            "question": _question(frame, keys),
            "settings": tables.shared_settings_line(results),
            "progress": f"{done} of {counted(_runs_asked(result), 'run')} done",
            "running": bool((frame["status"] == "unfinished").any()) or done < _runs_asked(result),
            "problems": [*results.damaged, *tables.problem_lines(results), *results.skipped],
            "scenario": _text(result.folder / "scenario.yaml"),
            "resolved": about["scenario"],
            "versions": about["versions"],
            "command": f"byzax run scenario.yaml --out {shlex.quote(result.folder.name)}",
            "keys": keys,
            "tables": [_table(each) for each in listed],
            "colours": rule_colours([str(rule) for rule in dict.fromkeys(frame["rule"])]),
            "score": {"words": first.words, "caption": first.caption, "better": first.score.higher_is_better},
            "curves": _curves(result, keys),
            "ranks": _ranks(result),
            "pairs": _records(result.compare()) if len(set(frame["rule"])) > 1 else [],
            "profiles": _profiles(result),
            "classes": _classes(result, keys),
            "confusion": _confusion(result, keys),
            "selection": _selection(result, keys),
            "weights": _weights(result, keys),
        }
    )


def empty_content(name: str, progress: str) -> dict[str, Any]:
    """The content of a study of which nothing can be shown yet.

    Args:
        name: Its name.
        progress: The state in words.

    Returns:
        A mapping with the keys of `content`.
    """
    texts = dict.fromkeys(("question", "settings", "scenario", "resolved", "versions", "command"), "")
    lists: dict[str, Any] = {
        key: []
        for key in ("problems", "keys", "tables", "pairs", "profiles", "classes", "confusion", "selection", "weights")
    }
    more = {"colours": {}, "score": {"words": ""}, "curves": {}, "ranks": None}
    return {"name": name, "progress": progress, "running": True, **texts, **lists, **more}


def _runs_asked(result: Result) -> int:
    asked = [record.summary.runs or 0 for record in result._results.records.values()]
    return max(len(result.runs), *asked)


def _description(folder: Path) -> dict[str, str]:
    return {"scenario": _text(folder / "scenario.yaml"), "versions": _text(folder / "versions.json")}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _question(frame: pd.DataFrame, keys: Sequence[str]) -> str:
    """The question of a study: the settings that it varies, with their values."""
    varied = [key for key in keys if len(set(frame[key])) > 1]
    seeds = counted(len(set(frame["seed"])), "seed")
    if not varied:
        return f"One combination of settings, over {seeds}."
    values = [f"{key} ({', '.join(dict.fromkeys(frame[key].astype(str)))})" for key in varied]
    return f"Runs that differ in {joined(values)}, each over {seeds}."


def _table(listed: tables.Table) -> dict[str, Any]:
    rows = []
    for name, cells, best in zip(listed.names, listed.cells, listed.best, strict=True):
        rows.append(
            {
                "names": list(name),
                "cells": [
                    {
                        "text": tables.cell_text(cell, listed.score.digits),
                        "mean": cell.mean,
                        "low": cell.interval.low,
                        "high": cell.interval.high,
                        "runs": cell.counted,
                        "best": bool(mark),
                    }
                    for cell, mark in zip(cells, best, strict=True)
                ],
            }
        )
    return {
        "title": listed.title,
        "words": listed.words,
        "caption": listed.caption,
        "keys": listed.keys,
        "columns": listed.columns,
        "rows": rows,
        "better": listed.score.higher_is_better,
        "share": listed.score.digits == ".3f",
    }


def _curves(result: Result, keys: Sequence[str]) -> dict[str, Any]:
    """The mean curves of all combinations over their seeds, for each measurement, over updates."""
    curves = result._results.curves
    curves = curves.loc[has_result(curves)]
    found: dict[str, Any] = {}
    for measure in MEASURED:
        if measure not in curves or curves[measure].isna().all():
            continue
        lines = []
        groups: Any = curves.groupby(list(keys), sort=False, dropna=False)
        for names, group in groups:
            mean = mean_curve(group, score_named(measure), "step", np.zeros(0))
            if np.isfinite(mean["mean"].to_numpy()).any():
                kept = mean.iloc[_kept(len(mean))]
                lines.append(
                    {
                        "names": [str(name) for name in names],
                        "step": [int(step) for step in kept.index],
                        **{part: [_short(value) for value in kept[part]] for part in ("mean", "low", "high")},
                    }
                )
        if lines:
            found[measure] = {"words": score_named(measure).words, "lines": lines}
    return found


def _kept(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).round().astype(int))


def _short(value: float) -> float:
    """Four digits: what a curve shows."""
    return float(f"{value:.4g}")


def _ranks(result: Result) -> dict[str, Any] | None:
    found = overall.overall(result._results)
    if found is None:
        return None
    headings, rows = overall.overall_rows(found)
    return {"headings": headings, "rows": rows, "caption": found.caption}


def _profiles(result: Result) -> list[dict[str, Any]]:
    frame = result.profiles()
    groups: Any = frame.groupby("rule", sort=False)
    return [
        {"rule": str(rule), "threshold": [*map(_short, each["threshold"])], "share": [*map(_short, each["share"])]}
        for rule, each in groups
    ]


def _classes(result: Result, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The accuracy on each label of the last model, means over the seeds of each combination."""
    frame = result.classes
    if frame.empty:
        return []
    last = frame.loc[frame["step"] == frame.groupby("run")["step"].transform("max")]
    groups: Any = last.groupby(list(keys), sort=False, dropna=False)
    rows = []
    for names, group in groups:
        means = group.groupby("label")["accuracy"].mean()
        rows.append({"names": [*map(str, names)], "labels": [*map(int, means.index)], "values": means.tolist()})
    return rows


def _confusion(result: Result, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The confusion matrices, sums over the seeds of each combination."""
    matrices = result.confusion
    if not matrices:
        return []
    groups: Any = result.runs.groupby(list(keys), sort=False, dropna=False)
    rows = []
    for names, group in groups:
        there = [matrices[run] for run in group["run"] if run in matrices]
        if there:
            rows.append({"names": [*map(str, names)], "counts": np.sum(there, axis=0).tolist()})
    return rows


def _selection(result: Result, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The weight of Byzantine rows, means over the seeds of each combination."""
    frame = result.selection
    frame = frame.loc[frame["byzantine_weight"].notna()]
    groups: Any = frame.groupby(list(keys), sort=False, dropna=False)
    return [
        {
            "names": [*map(str, names)],
            "weight": group["byzantine_weight"].mean(),
            "chosen": group["byzantine_chosen"].mean(),
        }
        for names, group in groups
    ]


def _weights(result: Result, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The weights of the workers in the first run of each combination that kept them, means over some updates each."""
    rows = []
    groups: Any = result.runs.groupby(list(keys), sort=False, dropna=False)
    for names, group in groups:
        for run in group["run"]:
            wide = result._read(run, read_weights)
            if wide is None or wide.empty:
                continue
            spent = result._results.records[run].spent
            values = wide.drop(columns="step").to_numpy(float)[:, :MAPPED]
            stretches = np.array_split(np.arange(len(values)), min(len(values), MAPPED))
            means = np.stack([values[each].mean(axis=0) for each in stretches], axis=1)
            byzantine = [] if spent is None else [bool(flag) for flag in spent["byzantine"].iloc[: len(means)]]
            steps = [int(wide["step"].iloc[each[0]]) for each in stretches]
            rows.append(
                {
                    "names": [*map(str, names)],
                    "run": run,
                    "steps": steps,
                    "byzantine": byzantine,
                    "values": [[*map(_short, each)] for each in means],
                }
            )
            break
    return rows


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.to_dict("records")


def _finite(value: Any) -> Any:
    """Values of JSON, in which no number is infinite or NaN."""
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, (str, bool)) or value is None:
        return value
    if isinstance(value, Iterable):
        return [_finite(each) for each in value]
    if isinstance(value, (int, np.integer)):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None
