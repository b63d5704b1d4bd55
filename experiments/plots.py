"""Plots of a study: test accuracy or loss over updates, time and gradients."""

import math
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from byzax.experiments.figures import (
    DASHES,
    STYLE,
    TITLE_INCHES,
    add_head,
    legend_columns,
    panel_title,
    rule_colours,
    save_options,
    verbatim,
    wrap_notes,
)
from byzax.experiments.gathering import (
    MEASURES,
    WAYS,
    Results,
    differs_by_run,
    diverged,
    has_result,
    line_labels,
    num_expected,
    time_varies,
    varying_keys,
)
from byzax.experiments.names import counted, file_name, short
from byzax.experiments.outputs import save
from byzax.experiments.scores import ACCURACY, Score, score_of
from byzax.experiments.statistics import mean_intervals
from byzax.experiments.tables import FEWEST, shared_settings_line
from byzax.experiments.time_plot import draw_time

# The band around the mean of a line.
Band = Literal["sd", "ci", "range", "none"]
# Factor between the ends of runs from which the axis is logarithmic.
FAR = 8
# Top of the axis of a loss, in times of the largest one at the start.
HIGHEST = 10
# Largest number of evaluations with a marker at each.
MARKED = 12
# Largest number of places at which lines over time are evaluated.
PLACES = 200
# Largest number of cells with fewer runs that a note names.
NAMED = 3


def draw(results: Results, folder: Path) -> list[Path]:
    """Draws a figure for each combination of the other swept keys, as PNG and SVG.

    Args:
        results: The results.
        folder: The folder of the figures.

    Returns:
        The paths.

    Raises:
        OSError: Where there is no room; no half of a file is left.
        ScenarioError: Where a file that byzax did not write has the name of a figure.
    """
    frame, curves = results.frame, results.curves
    if curves.empty:
        return []
    frame = frame.assign(line=line_labels(frame))
    curves = curves.merge(frame[["run", "line"]], on="run")
    keys = [key for key in varying_keys(frame) if key.partition(".")[0] not in WAYS]
    groups: list[Any] = list(frame.groupby(keys, sort=False)) if keys else [((), frame)]
    axes = {"": "step"} | {
        f"-by-{measure.removesuffix('_s')}": measure
        for measure in MEASURES
        if differs_by_run(curves.loc[has_result(curves)], measure)
    }
    paths: list[Path] = []
    title = [results.name, shared_settings_line(results)]

    def keep(figure: Figure, parts: list[str]) -> None:
        name = file_name(parts, [path.stem for path in paths])
        for suffix in ("png", "svg"):
            path = folder / f"{name}.{suffix}"
            save(path, partial(figure.savefig, **save_options(suffix)))
            paths.append(path)

    for chosen, group in groups:
        measured = curves.loc[curves["run"].isin(group["run"])]
        if measured.empty:
            continue
        words = short({key: str(value) for key, value in zip(keys, chosen, strict=True)})
        every = list(frame["line"].unique())
        with rc_context(STYLE):
            for name, measure in axes.items():
                figure = draw_scores(group, measured, every, [*title, *words], measure)
                keep(figure, [f"{score_of(group).file}{name}", *words])
            if time_varies(frame, curves):
                keep(draw_time(results.records, group, [*title, *words]), ["time", *words])
    return paths


def draw_scores(
    frame: pd.DataFrame, curves: pd.DataFrame, rules: list[str], words: list[str], measure: str = "step"
) -> Figure:
    """Draws the mean score over a measure, with a band of one standard deviation over the repeats (of two their range).

    The test loss of a regression has a logarithmic axis if its range is wide. Runs that were not completed are thin
    lines that end in a cross, and count in no mean.

    Args:
        frame: One row per run.
        curves: One row per run and evaluation, with the `line` of each run.
        rules: The labels of all lines.
        words: The title, and notes.
        measure: Column of the horizontal axis.

    Returns:
        The figure, with a panel for each attack.
    """
    attacks = list(curves["attack"].unique())
    # three or four panels side by side, whichever leaves fewer places empty
    columns = len(attacks) if len(attacks) <= 4 else min((4, 3), key=lambda c: -len(attacks) % c)
    lines = math.ceil(len(attacks) / columns)
    width, height = max(5.2, 2.75 * columns + 0.6), 2.35 * lines + 1.25
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    paint, score = rule_colours(rules), score_of(curves)
    ends = np.array([run[measure].max() for _, run in curves.groupby("run")])
    # runs of which one takes many times as long as another; one that failed early has nothing but its start
    logarithmic = ends.max() > FAR * ends[ends > 0].min(initial=ends.max())
    places = curves[measure].to_numpy()
    between = np.geomspace(places[places > 0].min(), ends.max(), PLACES) if logarithmic else np.zeros(0)
    for axes, attack in zip(panels, attacks, strict=False):
        _panel(axes, curves.loc[curves["attack"] == attack], rules, paint, score, measure, between)
        axes.set_title(verbatim(attack), loc="left", fontweight="bold", fontsize=9.5, color="#222222")
    for spare in panels[len(attacks) :]:
        spare.set_visible(False)
    for i, axes in enumerate(panels[: len(attacks)]):
        if i + columns >= len(attacks):
            axes.set_xlabel({"step": "server updates", **MEASURES}[measure])
            axes.tick_params(labelbottom=True)
        if i % columns == 0:
            axes.set_ylabel(score.words)
        if score is ACCURACY and (i % columns == columns - 1 or i == len(attacks) - 1):
            # outside, where no line can run through the word
            place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "xytext": (4, 0)}
            axes.annotate(
                "chance", (1, 1 / curves["classes"].iloc[0]), va="center", fontsize=7, color="#888888", **place
            )
    if logarithmic:
        panels[0].set_xscale("log")
        for axis in (axes.xaxis for axes in panels):
            # 20 in place of 2 x 10^1, which neighbours run into
            axis.set_major_formatter(LogFormatter())
            axis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
        panels[0].set_xlim(left=between[0])
    if score is not ACCURACY:
        _fitted(panels[0], curves, score)
    title, *words = [word for word in words if word] or [""]
    head = wrap_notes([*words[:1], ", ".join([*words[1:], _spread(frame)]), *_marks(frame)], width)
    # a line whose runs all failed before their first evaluation is in no panel
    drawn = set(map(verbatim, curves["line"]))
    entries_of = zip(*panels[0].get_legend_handles_labels(), strict=True)
    handles, labels = zip(*((handle, label) for handle, label in entries_of if label in drawn), strict=True)
    # as many lines of entries as must be, each as long as the others; matplotlib fills columns first
    entry = 0.75 + 0.075 * max(map(len, labels))
    lines = math.ceil(len(labels) / max(1, int(width / entry)))
    entries = math.ceil(len(labels) / lines)
    figure.set_figwidth(max(width, entry + 0.3))
    order = [i for start in range(entries) for i in range(start, len(labels), entries)]
    figure.set_figheight(height + 0.16 * head.count("\n") + TITLE_INCHES * bool(title))
    add_head(figure, title, head, [handles[i] for i in order], [labels[i] for i in order], entries)
    return figure


class Displayed(Figure):
    """A figure that notebooks show, without pyplot, which would keep every figure in memory."""

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


def compare(curves: pd.DataFrame, x: str, y: str, hue: str, col: str | None, band: Band = "sd") -> Figure:
    """Draws a measurement over another: a line for each value of a column, a panel for each value of another.

    Args:
        curves: One row per run and evaluation.
        x: Column of the horizontal axis.
        y: Column of the vertical axis.
        hue: Column of the lines.
        col: Column of the panels; None for one panel.
        band: The band around the means, as of `mean_curve`.

    Returns:
        The figure: means over the runs with a result.

    Raises:
        ValueError: Where no run has a result.
    """
    curves = curves.loc[has_result(curves)]
    if curves.empty:
        raise ValueError("no run was completed: there is no line to be drawn")
    panels = [None] if col is None else [*curves[col].unique()]
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    names = [*curves[hue].unique()]
    paint = rule_colours([str(name) for name in names])
    score = Score(y, y.replace("_", " "), "", "", True)
    with rc_context(STYLE):
        figure = Displayed(figsize=(max(4.6, 2.75 * columns + 0.6), 2.35 * rows + 0.9), layout="constrained")
        grid = [*figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat]
        for axes, panel in zip(grid, panels, strict=False):
            shown = curves if panel is None else curves.loc[curves[col] == panel]
            for i, name in enumerate(names):
                mean = mean_curve(shown.loc[shown[hue] == name], score, x, np.zeros(0), band)
                style: Any = {"color": paint[str(name)], "linestyle": DASHES[i % len(DASHES)]}
                axes.plot(mean.index, mean["mean"], label=verbatim(name), linewidth=1.7, **style)
                axes.fill_between(
                    mean.index, mean["low"], mean["high"], color=paint[str(name)], alpha=0.14, linewidth=0
                )
            if panel is not None:
                title = panel_title(str(col), panel, figure.get_figwidth() / columns)
                axes.set_title(title, loc="left", fontweight="bold", fontsize=9.5, color="#222222")
            _tick(axes, x)
            axes.set_xlabel({"step": "server updates", "wall_s": "seconds of the clock", **MEASURES}.get(x, x))
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[::columns]:
            axes.set_ylabel(score.words)
        handles, labels = grid[0].get_legend_handles_labels()
        across = legend_columns(labels, figure.get_figwidth())
        place: Any = {"loc": "outside upper left", "ncols": across, "alignment": "left"}
        figure.legend(handles, labels, title=verbatim(hue), frameon=False, **place)
    return figure


def _spread(frame: pd.DataFrame) -> str:
    """The meaning of lines and bands, for the head of a plot."""
    most = max(frame["of"].tolist())
    return {1: "one seed", 2: "mean and range of 2 seeds"}.get(most, f"mean and one standard deviation of {most} seeds")


def _marks(frame: pd.DataFrame) -> list[str]:
    """The meaning of the marks, and the lines with fewer runs than others."""
    notes = []
    cells: Any = frame.groupby(["line", "attack"], sort=False)
    fewer = [
        f"{line} under {attack} {count} of {of}"
        for (line, attack), group in cells
        if 0 < (count := int(has_result(group).sum())) < (of := num_expected(group))
    ]
    if fewer:
        more = f" and {len(fewer) - NAMED} more" if len(fewer) > NAMED else ""
        notes.append(f"fewer runs than asked for: {'; '.join(fewer[:NAMED])}{more} (of two the band is their range)")
    marks = {
        "\N{MULTIPLICATION SIGN} not completed, not in the mean": sum(~has_result(frame)),
        "\N{WHITE DOWN-POINTING TRIANGLE} diverged": sum(diverged(frame)),
        "\N{WHITE DIAMOND} lost workers or servers": sum(frame["status"] == "degraded"),
    }
    return notes + [f"{words}: {counted(int(count), 'run')}" for words, count in marks.items() if count]


def _fitted(axes: Axes, curves: pd.DataFrame, score: Score) -> None:
    """Fits the axis of a loss: cut far above the start, and logarithmic where the range is wide."""
    values = curves[score.column].to_numpy()
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return
    start = curves.loc[curves["step"] == curves["step"].min(), score.column]
    top = min(values.max(), HIGHEST * start.where(np.isfinite(start)).max())
    wide = top > FAR * values.min()
    if wide:
        axes.set_yscale("log")
    axes.set_ylim(values.min() / 1.2 if wide else 0, 1.2 * top)


def _panel(
    axes: Axes,
    curves: pd.DataFrame,
    rules: list[str],
    paint: dict[str, str],
    score: Score,
    measure: str,
    between: np.ndarray,
) -> None:
    """Draws the lines of one attack.

    `between`: places on a logarithmic axis, from its left end, at which lines are also evaluated: a line that is
    straight over the measure is curved there, and its start at 0 has no place.
    """
    left = between.min(initial=np.inf) if len(between) else -np.inf

    def placed(run: pd.DataFrame) -> Any:
        return run[measure].clip(lower=left)

    for i, rule in enumerate(rules):
        style: Any = {"color": paint[rule], "linestyle": DASHES[i % len(DASHES)]}
        mark: Any = {"color": paint[rule], "linestyle": "none", "clip_on": False, "zorder": 4}
        runs = curves.loc[curves["line"] == rule]
        complete = runs.loc[has_result(runs)]
        mean = mean_curve(complete, score, measure, between)
        few = complete.groupby("run").size().max() <= MARKED if len(complete) else False
        evaluated = np.flatnonzero(np.isin(mean.index, complete[measure]))
        points: Any = {"marker": "o", "markersize": 3, "markevery": evaluated.tolist()} if few else {}
        axes.plot(mean.index, mean["mean"], label=verbatim(rule), linewidth=1.7, zorder=3, **points, **style)
        most = 1 if score is ACCURACY else np.inf
        low, high = mean["low"].clip(0, most), mean["high"].clip(0, most)
        axes.fill_between(mean.index, low, high, color=paint[rule], alpha=0.14, linewidth=0, zorder=2)
        for _, run in runs.loc[~has_result(runs)].groupby("run"):
            places = _places(run[measure], between)
            values = np.interp(places, run[measure], run[score.column])
            axes.plot(places, values, linewidth=0.8, zorder=3, **style)
            axes.plot(placed(run).iloc[-1:], run[score.column].iloc[-1:], marker="x", markersize=6, **mark)
        for _, run in complete.loc[complete["status"] == "degraded"].groupby("run"):
            # the first model evaluated without the lost workers
            since = run.loc[run["step"] >= min(run["degraded_at"].iloc[0], run["step"].max())].iloc[:1]
            axes.plot(placed(since), since[score.column], **mark, marker="D", markersize=5, markerfacecolor="white")
        for _, run in complete.loc[~np.isfinite(complete["test_loss"])].groupby("run"):
            first, place = run.iloc[:1], mark | {"marker": "v", "markersize": 6, "markerfacecolor": "white"}
            if score is ACCURACY:
                axes.plot(placed(first), first[score.column], **place)
            else:
                # the loss itself has no place on the axis
                axes.plot(placed(first), [1], transform=axes.get_xaxis_transform(), **place)
    if score is ACCURACY:
        axes.axhline(1 / curves["classes"].iloc[0], color="#999999", linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        axes.set_ylim(0, 1.02)
    axes.margins(x=0.01)
    _tick(axes, measure)


def _tick(axes: Axes, measure: str) -> None:
    """Puts the ticks of what is counted at whole numbers."""
    if measure in ("step", "gradients"):
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))


def _places(evaluated: Any, between: np.ndarray) -> np.ndarray:
    """The places at which a line is drawn: evaluations, and on a logarithmic axis those `between` them, without 0."""
    places = np.unique(evaluated)
    return np.union1d(places[places > 0], between[between <= places.max()]) if len(between) else places


def mean_curve(
    complete: pd.DataFrame, score: Score, measure: str, between: np.ndarray, band: Band = "sd"
) -> pd.DataFrame:
    """The mean of a score over repeats, and its band.

    Args:
        complete: One row per run and evaluation, of runs with a result.
        score: The score.
        measure: The column over which it is drawn, such as `step`.
        between: Further places of it, as of `_panel`.
        band: One standard deviation on both sides (of two repeats their range), the 95 % interval of the mean by the
            bootstrap over repeats (of two none), their range, or nothing.

    Returns:
        One row per place: `mean`, and the band from `low` to `high`. NaN where a score is not finite.
    """
    values = complete[score.column]
    complete = complete.assign(value=values.where(np.isfinite(values)))
    if complete.empty:
        return pd.DataFrame({"mean": [], "low": [], "high": []})
    if measure == "step":
        # infinity marks values that are not finite, while a run that was stopped early keeps its last value
        wide = complete.fillna({"value": np.inf}).pivot(index="step", columns="run", values="value").ffill()
        wide = wide.where(np.isfinite(wide))
    else:
        runs = [run for _, run in complete.groupby("run")]
        # repeats are evaluated at different places: their lines are read off at all of these, up to the first end
        end = min(run[measure].max() for run in runs)
        places = np.unique(np.concatenate([run[measure] for run in runs]))
        places = _places(places[places <= end] if len(places) <= PLACES else np.linspace(0, end, PLACES), between)
        read = [np.interp(places, run[measure], run["value"]) for run in runs]
        wide = pd.DataFrame(np.stack(read, axis=1), index=places)
    mean = wide.mean(axis=1, skipna=False)
    if band == "none" or (band == "ci" and wide.shape[1] < FEWEST):
        low = high = mean
    elif band == "ci":
        low, high = (pd.Series(end, wide.index) for end in mean_intervals(wide.to_numpy()))
    elif band == "range" or wide.shape[1] < FEWEST:
        low, high = wide.min(axis=1), wide.max(axis=1)
    else:
        low, high = mean - wide.std(axis=1), mean + wide.std(axis=1)
    return pd.DataFrame({"mean": mean, "low": low.where(mean.notna()), "high": high.where(mean.notna())})
