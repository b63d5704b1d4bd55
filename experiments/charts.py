"""Figures of the values of runs: heat maps, boxes, points over seeds, performance profiles."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from byzax.experiments.figures import DASHES, STYLE, legend_columns, panel_title, rule_colours, verbatim, wrap_notes
from byzax.experiments.gathering import has_result
from byzax.experiments.plots import Displayed

# From light to dark in every rendering of it, for people who see few colours too.
HEAT = "cividis"
# Cells with a number in them; more are colour alone.
NUMBERED = 400
# Horizontal shift of points of one place, as a share of its width.
SPREAD = 0.5


def heat_map(runs: pd.DataFrame, x: str, y: str, col: str | None, words: str) -> Figure:
    """Draws the mean value of each pair of settings.

    Args:
        runs: One row per run, with its `value`.
        x: Column whose values are the columns of the map.
        y: Column whose values are its rows.
        col: Column of the panels; None for one panel.
        words: The value in words.

    Returns:
        The figure.

    Raises:
        ValueError: Where no run has a result.
    """
    runs = _with_result(runs)
    across, down = _values(runs, x), _values(runs, y)
    panels = _panels(runs, col)
    low, high = float(min(runs["value"])), float(max(runs["value"]))
    if "accuracy" in words or "success" in words:
        low, high = 0.0, 1.0
    with rc_context({**STYLE, "axes.grid": False}):
        size = (max(3.2, 0.62 * len(across) + 1.9) * len(panels), 0.34 * len(down) + 1.5)
        figure, grid = _subplots(1, len(panels), size)
        image: Any = None
        for axes, panel in zip(grid, panels, strict=True):
            shown = _of_panel(runs, col, panel)
            means: Any = shown.pivot_table("value", y, x, "mean", sort=False)
            cells = means.reindex(index=down, columns=across).to_numpy(float)
            image = axes.imshow(cells, cmap=HEAT, vmin=low, vmax=high, aspect="auto")
            axes.set_xticks(range(len(across)), [verbatim(each) for each in across], rotation=35, ha="right")
            axes.set_yticks(range(len(down)), [verbatim(each) for each in down])
            axes.set_xlabel(verbatim(x))
            if cells.size <= NUMBERED:
                _write_numbers(axes, cells, low, high)
            _title(axes, col, panel)
        grid[0].set_ylabel(verbatim(y))
        figure.colorbar(image, ax=grid, label=verbatim(words), shrink=0.9)
    return figure


def _write_numbers(axes: Axes, cells: np.ndarray, low: float, high: float) -> None:
    for (row, column), value in np.ndenumerate(cells):
        if math.isfinite(value):
            dark = value < (low + high) / 2
            text = f"{value:.2f}" if abs(value) < 100 else f"{value:.3g}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")


def distribution(
    runs: pd.DataFrame, x: str, hue: str | None, col: str | None, words: str, boxes: bool, seed: int = 0
) -> Figure:
    """Draws the value of every run, at its setting.

    Args:
        runs: One row per run, with its `value`.
        x: Column of the places.
        hue: Column of the colours, `x` for a colour at each place; None for one colour.
        col: Column of the panels; None for one panel.
        words: The value in words.
        boxes: Whether boxes (quartiles, median, and whiskers to 1.5 times their distance) stand behind the points.
        seed: Seed of the horizontal shifts.

    Returns:
        The figure.

    Raises:
        ValueError: Where no run has a result.
    """
    runs = _with_result(runs)
    places, panels = _values(runs, x), _panels(runs, col)
    # with a colour at each place there is one group of points there
    names: Sequence[Any] = [None] if hue in (None, x) else _values(runs, str(hue))
    paint = rule_colours([str(name) for name in (places if hue == x else names)])
    generator = np.random.default_rng(seed)
    width = 0.8 / len(names)
    with rc_context(STYLE):
        size = (max(3.4, 0.32 * len(places) * len(names) + 1.4) * len(panels), 3.1)
        figure, grid = _subplots(1, len(panels), size)
        for axes, panel in zip(grid, panels, strict=True):
            shown = _of_panel(runs, col, panel)
            for number, name in enumerate(names):
                group = shown if name is None else shown.loc[shown[hue] == name]
                colours = [paint[str(place if hue == x else name)] for place in places]
                at = [place - 0.4 + width * (number + 0.5) for place in range(len(places))]
                values = [group.loc[group[x] == place, "value"].dropna().to_numpy() for place in places]
                if boxes:
                    for where, some, colour in zip(at, values, colours, strict=True):
                        axes.boxplot(
                            [some] if len(some) else [], positions=[where] if len(some) else [], widths=0.7 * width,
                            showfliers=False, manage_ticks=False, medianprops={"color": colour},
                            boxprops={"color": colour}, whiskerprops={"color": colour}, capprops={"color": colour},
                        )  # fmt: skip
                for where, some, colour in zip(at, values, colours, strict=True):
                    shift = generator.uniform(-0.5, 0.5, len(some)) * SPREAD * width
                    axes.plot(where + shift, some, "o", color=colour, markersize=3.2, alpha=0.75, linewidth=0)
                axes.plot([], [], "o", color=colours[0], label=verbatim(name))
            axes.set_xticks(range(len(places)), [verbatim(each) for each in places], rotation=35, ha="right")
            axes.set_xlabel(verbatim(x))
            _title(axes, col, panel)
        grid[0].set_ylabel(verbatim(words))
        if hue not in (None, x):
            _legend(figure, grid[0], str(hue))
    return figure


def scatter(runs: pd.DataFrame, hue: str, col: str | None, across: str, words: str) -> Figure:
    """Draws a point for each run at the values of two measurements.

    Args:
        runs: One row per run, with its `across` and its `value`.
        hue: Column of the colours.
        col: Column of the panels; None for one panel.
        across: The horizontal measurement in words.
        words: The vertical one.

    Returns:
        The figure.

    Raises:
        ValueError: Where no run has a result.
    """
    runs = _with_result(runs)
    panels, names = _panels(runs, col), _values(runs, hue)
    paint = rule_colours([str(name) for name in names])
    with rc_context(STYLE):
        figure, grid = _subplots(1, len(panels), (3.2 * len(panels) + 0.8, 3.4))
        for axes, panel in zip(grid, panels, strict=True):
            shown = _of_panel(runs, col, panel)
            for number, name in enumerate(names):
                each = shown.loc[shown[hue] == name]
                marker = "os^Dvp*X"[number % 8]
                style: Any = {"color": paint[str(name)], "markersize": 4, "alpha": 0.8, "linewidth": 0}
                axes.plot(each["across"], each["value"], marker, label=verbatim(name), **style)
            axes.set_xlabel(verbatim(across))
            _title(axes, col, panel)
        grid[0].set_ylabel(verbatim(words))
        _legend(figure, grid[0], hue)
    return figure


def selection(weights: pd.DataFrame, col: str, byzantine: Mapping[str, Sequence[bool]]) -> Figure:
    """Draws the weights of the workers in the course of runs, a panel for each value of a column.

    Args:
        weights: One row per run, update and worker: `run`, `step`, `worker`, `weight` and `col`.
        col: Column of the panels; runs of one panel are averaged.
        byzantine: Of each run, whether each worker was Byzantine; an empty list where it is not known.

    Returns:
        The figure. The numbers of workers that were Byzantine in a run of the panel are marked.
    """
    panels = _values(weights, col)
    workers, most = int(max(weights["worker"])) + 1, float(max(weights["weight"]))
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    with rc_context({**STYLE, "axes.grid": False}):
        size = (3.6 * columns + 0.8, min(6.0, 0.13 * workers + 1.0) * rows + 0.6)
        figure, grid = _subplots(rows, columns, size)
        image: Any = None
        for axes, panel in zip(grid, panels, strict=False):
            shown = _of_panel(weights, col, panel)
            means: Any = shown.pivot_table("weight", "worker", "step", "mean")
            means = means.reindex(index=range(workers))
            ends = means.columns[0] - 0.5, means.columns[-1] + 0.5, workers - 0.5, -0.5
            image = axes.imshow(
                means, cmap=HEAT, vmin=0, vmax=most, aspect="auto", extent=ends, interpolation="nearest"
            )
            marked = {place for run in shown["run"].unique() for place, is_so in enumerate(byzantine[run]) if is_so}
            axes.set_yticks(range(0, workers, max(1, workers // 12)))
            axes.plot(np.full(len(marked), ends[0]), sorted(marked), ">", color="#D55E00", clip_on=False, markersize=5)
            axes.set_xlabel("server updates")
            _title(axes, col, panel)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[::columns]:
            axes.set_ylabel("worker")
        figure.colorbar(image, ax=grid, label="weight (\N{BLACK RIGHT-POINTING TRIANGLE}: Byzantine)", shrink=0.9)
    return figure


def staleness(runs: pd.DataFrame, ages: Mapping[str, np.ndarray], hue: str, col: str | None) -> Figure:
    """Draws the share of the rows of each age, in updates since the model that they were computed from.

    Args:
        runs: One row per run.
        ages: Of each run the number of rows of each age.
        hue: Column of the lines.
        col: Column of the panels; None for one panel.

    Returns:
        The figure.

    Raises:
        ValueError: Where no run has ages.
    """
    runs = runs.loc[runs["run"].isin(list(ages))]
    if runs.empty:
        raise ValueError("no run was completed: there are no ages to be drawn")
    oldest = max(map(len, ages.values()))
    panels, names = _panels(runs, col), _values(runs, hue)
    paint = rule_colours([str(name) for name in names])
    with rc_context(STYLE):
        figure, grid = _subplots(1, len(panels), (max(4.2, 3.0 * len(panels) + 0.8), 3.2))
        for axes, panel in zip(grid, panels, strict=True):
            shown = _of_panel(runs, col, panel)
            for number, name in enumerate(names):
                rows = np.zeros(oldest)
                for run in shown.loc[shown[hue] == name, "run"]:
                    rows[: len(ages[run])] += ages[run]
                if rows.sum():
                    style: Any = {"color": paint[str(name)], "linestyle": DASHES[number % len(DASHES)]}
                    axes.plot(range(oldest), rows / rows.sum(), marker="o", markersize=3, label=verbatim(name), **style)
            axes.set_xlabel("age of a row, in updates")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            _title(axes, col, panel)
        grid[0].set_ylabel("share of the rows")
        grid[0].set_ylim(bottom=0)
        _legend(figure, grid[0], hue)
    return figure


def profile(profiles: pd.DataFrame, words: str) -> Figure:
    """Draws performance profiles: the share of runs that are at least as good as a threshold.

    Args:
        profiles: The columns `rule`, `threshold`, `share`.
        words: The value in words.

    Returns:
        The figure.

    Raises:
        ValueError: Where there is no profile.
    """
    if profiles.empty:
        raise ValueError("no run was completed with the settings that all rules have: there is no profile to be drawn")
    rules = _values(profiles, "rule")
    paint = rule_colours([str(rule) for rule in rules])
    with rc_context(STYLE):
        figure, (axes,) = _subplots(1, 1, (5.2, 3.4))
        for number, rule in enumerate(rules):
            line = profiles.loc[profiles["rule"] == rule]
            style: Any = {"color": paint[str(rule)], "linestyle": DASHES[number % len(DASHES)]}
            axes.plot(
                line["threshold"], line["share"], label=verbatim(rule), linewidth=1.7, drawstyle="steps-pre", **style
            )
        axes.set_xlabel(f"threshold: {verbatim(words)}")
        axes.set_ylabel("share of the runs")
        axes.set_ylim(-0.02, 1.02)
        _legend(figure, axes, "rule")
    return figure


def thresholds(curve: pd.DataFrame, keys: Sequence[str], over: str, below: float, words: str) -> Figure:
    """Draws a score over a setting, a line for each combination of others, with a threshold.

    Args:
        curve: One row per combination and value: `keys`, `value`, `mean`, `interval_low`, `interval_high`.
        keys: The keys of the combinations. Each attack has a panel, and each other combination a line.
        over: The setting in words.
        below: The threshold.
        words: The score in words.

    Returns:
        The figure.

    Raises:
        ValueError: Where nothing was measured.
    """
    curve = curve.loc[curve["mean"].notna()]
    if curve.empty:
        raise ValueError("no run was completed: there is nothing to be drawn")
    attack = [key for key in keys if key.partition(".")[0] == "attack"]
    others = [key for key in keys if key not in attack]

    def joined_names(row: Any, chosen: Sequence[str]) -> str:
        return ", ".join(str(row[key]) for key in chosen)

    named = curve.assign(
        panel=[joined_names(row, attack) for _, row in curve.iterrows()],
        line=[joined_names(row, others) for _, row in curve.iterrows()],
    )
    panels, lines = [*named["panel"].unique()], [*named["line"].unique()]
    paint = rule_colours(lines)
    with rc_context(STYLE):
        figure, grid = _subplots(1, len(panels), (max(4.2, 3.2 * len(panels) + 0.6), 3.4))
        for axes, panel in zip(grid, panels, strict=True):
            for number, line in enumerate(lines):
                each = named.loc[(named["panel"] == panel) & (named["line"] == line)].sort_values("value")
                style: Any = {"color": paint[line], "linestyle": DASHES[number % len(DASHES)], "marker": "o"}
                axes.plot(each["value"], each["mean"], label=verbatim(line or "mean"), markersize=3.5, **style)
                axes.fill_between(
                    each["value"],
                    each["interval_low"],
                    each["interval_high"],
                    color=paint[line],
                    alpha=0.14,
                    linewidth=0,
                )
            axes.axhline(below, color="#444444", linewidth=0.9, linestyle=(0, (1, 2)))
            axes.set_xlabel(verbatim(over))
            if panel:
                _title(axes, attack[0] if len(attack) == 1 else "attack", panel)
        grid[0].set_ylabel(f"{verbatim(words)}, 95 % interval")
        _legend(figure, grid[0], ", ".join(others) or "score")
    return figure


def note(figure: Figure, text: str) -> None:
    """Writes a note below a figure.

    Args:
        figure: The figure.
        text: The note; empty for none.
    """
    if text:
        figure.supxlabel(wrap_notes([text], figure.get_figwidth()), fontsize=8, x=0.01, ha="left", color="#444444")


def _with_result(runs: pd.DataFrame) -> pd.DataFrame:
    found: Any = runs.loc[has_result(runs) & runs["value"].notna()]
    if found.empty:
        raise ValueError("no run was completed: there is nothing to be drawn")
    return found


def _values(frame: pd.DataFrame, column: str) -> list[Any]:
    """The values of a column: numbers in their order, others in that of the study."""
    values = [*frame[column].unique()]
    try:
        return sorted(values, key=float)
    except (TypeError, ValueError):
        return values


def _panels(frame: pd.DataFrame, col: str | None) -> list[Any]:
    return [None] if col is None else _values(frame, col)


def _of_panel(frame: pd.DataFrame, col: str | None, panel: Any) -> pd.DataFrame:
    found: Any = frame if col is None else frame.loc[frame[col] == panel]
    return found


def _subplots(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    figure = Displayed(figsize=(min(size[0], 20), min(size[1], 20)), layout="constrained")
    return figure, [*figure.subplots(rows, columns, sharey=True, squeeze=False).flat]


def _title(axes: Axes, col: str | None, panel: Any) -> None:
    if col is not None:
        whole: Any = axes.figure
        title = panel_title(col, panel, whole.get_figwidth() / len(whole.axes))
        axes.set_title(title, loc="left", fontweight="bold", fontsize=9.5, color="#222222")


def _legend(figure: Figure, axes: Axes, hue: str) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = legend_columns(labels, figure.get_figwidth())
    place: Any = {"loc": "outside upper left", "ncols": columns, "alignment": "left"}
    figure.legend(handles, labels, title=verbatim(hue), frameon=False, **place)
