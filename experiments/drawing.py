"""Figures of a result: what is asked for is checked, and runs are chosen, before `charts` and `plots` draw."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from byzax.experiments import charts, overall, plots
from byzax.experiments.gathering import has_result, varying_keys
from byzax.experiments.plots import Band
from byzax.experiments.reported import report_of
from byzax.experiments.scores import score_of
from byzax.simulator.diagnostics import Diagnostics

if TYPE_CHECKING:
    from byzax.experiments.result import Result

Kind = Literal["line", "heatmap", "box", "strip", "scatter", "profile", "selection", "staleness"]
# The band around lines, in words.
BANDS: dict[Band, str] = {
    "sd": "bands: one standard deviation, of two runs their range",
    "ci": "bands: 95 % interval of the mean, by the bootstrap over runs (three at least)",
    "range": "bands: range of the runs",
    "none": "",
}
# The columns over which lines are drawn.
OVER = ("step", "time_s", "gradients", "bits", "wall_s")


class FigureRequest(NamedTuple):
    """The arguments of `Result.plot`.

    Attributes:
        x: The horizontal axis; None for the default of the kind.
        y: The measurement; None for the score of the runs.
        hue: The setting of colours or rows.
        col: The setting of panels.
        where: Settings and values of the runs that are drawn.
        report: The value of a run; None for that of the study.
        band: The band around lines.
    """

    x: str | None
    y: str | None
    hue: str | None
    col: str | None
    where: Mapping[str, Any]
    report: str | int | None
    band: Band


def draw(result: "Result", kind: Kind, asked: FigureRequest) -> Figure:
    """Draws the runs of a result.

    Args:
        result: The result.
        kind: The kind of figure.
        asked: The arguments.

    Returns:
        The figure.

    Raises:
        ValueError: As `Result.plot`.
    """
    ways: dict[Kind, Callable[[Result, Kind, FigureRequest], Figure]] = {
        "line": _lines, "heatmap": _heat_map, "box": _distribution, "strip": _distribution, "scatter": _scattered,
        "profile": _profile, "selection": _selection, "staleness": _staleness,
    }  # fmt: skip
    known("kind", kind, list(ways))
    known("band", asked.band, get_args(Band))
    return ways[kind](result, kind, asked)


def known(argument: str, value: str, words: Sequence[str]) -> None:
    """Checks that an argument is one of several words.

    Args:
        argument: Its name.
        value: The argument.
        words: The words.

    Raises:
        ValueError: Where it is none of them.
    """
    if value not in words:
        raise ValueError(f"{argument} must be one of {', '.join(words)}, got {value!r}")


def _lines(result: "Result", kind: Kind, asked: FigureRequest) -> Figure:
    x, hue, column = asked.x or "step", asked.hue or "rule", asked.y or score_of(result.runs).column
    known("x", x, OVER)
    known("y", column, [*result.measurements, *(Diagnostics._fields if x == "step" else ())])
    _check_settings(result, hue, asked.col)
    if column in Diagnostics._fields:
        curves = result.updates.merge(result.runs[["run", "status"]], on="run")
    else:
        curves = result._results.curves
    if not np.isfinite(curves[x].to_numpy(float)).any():
        raise ValueError(f"x: no run has {x}: one of {', '.join(each for each in OVER if each != x)}")
    figure = plots.compare(_chosen(result, curves, asked.where), x, column, hue, asked.col, asked.band)
    charts.note(figure, "; ".join(filter(None, (BANDS[asked.band], _averaged(result, (hue, asked.col), asked, True)))))
    return figure


def _heat_map(result: "Result", kind: Kind, asked: FigureRequest) -> Figure:
    across, hue = asked.x or "attack", asked.hue
    runs, words, panels = _valued(result, across, asked)
    if hue is None or hue == across:
        raise ValueError(f"hue: a heat map needs a column for its rows, other than that of x ({across})")
    figure = charts.heat_map(runs, across, hue, panels, words)
    charts.note(figure, _averaged(result, (across, hue, panels), asked, True))
    return figure


def _distribution(result: "Result", kind: Kind, asked: FigureRequest) -> Figure:
    across = asked.x or "rule"
    runs, words, panels = _valued(result, across, asked)
    figure = charts.distribution(runs, across, asked.hue, panels, words, boxes=kind == "box")
    charts.note(figure, _averaged(result, (across, asked.hue, panels), asked, False))
    return figure


def _valued(result: "Result", across: str, asked: FigureRequest) -> tuple[pd.DataFrame, str, str | None]:
    """The runs with their `value`, the value in words, and the setting of panels."""
    column = asked.y or score_of(result.runs).column
    known("y", column, result.measurements)
    panels = None if asked.col in (across, asked.hue) else asked.col
    for name, value in {"x": across, "hue": asked.hue, "col": panels}.items():
        if value is not None:
            known(name, value, result.settings)
    runs = result.runs.assign(value=result.values(column, asked.report))
    return _chosen(result, runs, asked.where), column.replace("_", " "), panels


def _scattered(result: "Result", kind: Kind, asked: FigureRequest) -> Figure:
    x, hue, down = asked.x, asked.hue or "rule", asked.y or score_of(result.runs).column
    if x is None:
        raise ValueError(f"x: a scatter plot needs a measurement: one of {', '.join(result.measurements)}")
    for name, column in (("x", x), ("y", down)):
        known(name, column, result.measurements)
    _check_settings(result, hue, asked.col)
    values = {"value": result.values(down, asked.report), "across": result.values(x, asked.report)}
    runs = _chosen(result, result.runs.assign(**values), asked.where)
    figure = charts.scatter(runs, hue, asked.col, x.replace("_", " "), down.replace("_", " "))
    charts.note(figure, _averaged(result, (hue, asked.col), asked, False))
    return figure


def _profile(result: "Result", kind: Kind, asked: FigureRequest) -> Figure:
    if asked.y is not None:
        known("y", asked.y, result.measurements)
    given = {
        "x": asked.x,
        "y": asked.y,
        "where": asked.where,
        "hue": asked.hue not in ("rule", None),
        "col": asked.col not in ("attack", None),
    }
    if wrong := [name for name, value in given.items() if value]:
        raise ValueError(f"{wrong[0]}: a profile is of the rules, by the score of all runs: leave it out")
    results = result._results
    how = results.report if asked.report is None else report_of(str(asked.report))
    words = score_of(result.runs).column.replace("_", " ")
    return charts.profile(overall.profiles(results._replace(report=how)), words)


def _selection(result: "Result", kind: Kind, asked: FigureRequest) -> Figure:
    panel = asked.col or "rule"
    known("col", panel, result.settings)
    runs, weights = _with_result(result, asked), result.weights
    weights = weights.loc[weights["run"].isin(runs["run"]) & weights["weight"].notna()]
    if weights.empty:
        raise ValueError("kind: no run has weights: record: {weights: true} keeps them, of rules that give any")
    spent = {run: result._results.records[run].spent for run in runs["run"]}
    byzantine = {run: [] if each is None else each["byzantine"].tolist() for run, each in spent.items()}
    figure = charts.selection(weights, panel, byzantine)
    charts.note(figure, _averaged(result, (panel,), asked, True))
    return figure


def _staleness(result: "Result", kind: Kind, asked: FigureRequest) -> Figure:
    hue = asked.hue or "rule"
    _check_settings(result, hue, asked.col)
    runs = _with_result(result, asked)
    ages = {run: result._results.records[run].ages for run in runs["run"]}
    figure = charts.staleness(runs, {run: each for run, each in ages.items() if each is not None}, hue, asked.col)
    charts.note(figure, _averaged(result, (hue, asked.col), asked, True))
    return figure


def _check_settings(result: "Result", hue: str, col: str | None) -> None:
    for name, value in {"hue": hue, **({} if col is None else {"col": col})}.items():
        known(name, value, result.settings)


def _with_result(result: "Result", asked: FigureRequest) -> pd.DataFrame:
    return _chosen(result, result.runs.loc[has_result(result.runs)], asked.where)


def _chosen(result: "Result", frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of a frame that have the settings of `where`."""
    chosen: Any = frame
    for name, value in where.items():
        known("where", name, result.settings)
        rows = chosen[name].astype(str) == str(value)
        if not rows.any():
            there = ", ".join(dict.fromkeys(chosen[name].astype(str)))
            raise ValueError(f"where: no run has {name}={value}: one of {there}")
        chosen = chosen.loc[rows]
    return chosen


def _averaged(result: "Result", shown: Sequence[str | None], asked: FigureRequest, means: bool) -> str:
    """The settings that a figure does not tell apart, in words."""
    rest = [
        key
        for key in [*varying_keys(result.runs), "rule", "attack"]
        if key not in shown and key not in asked.where and len(set(result.runs[key])) > 1
    ]
    return f"{'means over' if means else 'runs of'} all values of {', '.join(rest)}, and all seeds" if rest else ""
