"""Plots of a study: test accuracy or loss over updates, time and gradients; ages of rows and the workers' time."""

import itertools
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.names import file_name, short
from experiments.outputs import save
from experiments.scores import ACCURACY, Score, score_of
from experiments.summary import MEASURES, WAYS, differs, diverged, lines, others, timed

# Colours that people who see few colours can tell apart (Okabe and Ito; Tol's muted for what follows), dark enough for
# thin lines on white. A rule has the same colour in every plot; average, which everything is compared with, is grey.
COLOURS = {
    "average": "#555555",
    "median": "#E69F00",
    "geometric_median": "#882255",
    "krum": "#0072B2",
    "multi_krum": "#56B4E9",
    "brute": "#D55E00",
    "bulyan": "#009E73",
}
SPARE = ["#CC79A7", "#332288", "#999933", "#AA4499", "#44AA99", "#661100", "#6699CC", "#117733"]
# Of a whole list of rules the last ones are told apart by colour and dashes together (ColorBrewer's darker ones).
MORE = [
    "#000000", "#5254A3", "#BD9E39", "#AD494A", "#637939", "#7B4173", "#E6550D", "#3182BD", "#31A354", "#8C6D31",
    "#393B79", "#D6616B", "#8CA252", "#CE6DBD", "#843C39", "#6B6ECF", "#756BB1", "#A55194", "#999999",
]  # fmt: skip
# Lines that lie on each other remain visible: every rule has dashes of its own.
DASHES = ["-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2))]
# What workers do, and its colours.
KINDS = {"computing": "#009E73", "messages": "#E69F00", "waiting": "#dddddd"}
# Runs whose ends are farther apart than by this factor are drawn over a logarithmic axis.
FAR = 8
# A loss is drawn up to so many times the largest one at the start.
HIGHEST = 10
NO_AGES = pd.DataFrame({"age": [0], "rows": [0]})
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "byzax",
}


def draw(folder: Path, frame: pd.DataFrame, curves: pd.DataFrame) -> list[Path]:
    """Draws a figure for each combination of the other swept keys, as PNG and SVG; gives the paths."""
    if curves.empty:
        return []
    frame = frame.assign(line=lines(frame))
    curves = curves.merge(frame[["run", "line"]], on="run")
    keys = [key for key in others(frame) if key.partition(".")[0] not in WAYS]
    groups: list[Any] = list(frame.groupby(keys, sort=False)) if keys else [((), frame)]
    axes = {"": "step"} | {
        f"-by-{measure.removesuffix('_s')}": measure for measure in MEASURES if differs(curves, measure)
    }
    paths: list[Path] = []

    def keep(figure: Figure, parts: list[str]) -> None:
        name = file_name(parts, [path.stem for path in paths])
        for suffix in ("png", "svg"):
            path = folder / f"{name}.{suffix}"
            save(path, partial(figure.savefig, **appearance(suffix)))
            paths.append(path)

    for chosen, group in groups:
        measured = curves.loc[curves["run"].isin(group["run"])]
        if measured.empty:
            continue
        words = short({key: str(value) for key, value in zip(keys, chosen, strict=True)})
        every = list(frame["line"].unique())
        with rc_context(STYLE):
            for name, measure in axes.items():
                figure = scores(group, measured, every, words, measure)
                keep(figure, [f"{score_of(group).file}{name}", *words])
            if timed(frame, curves):
                keep(spending(folder, group, words), ["time", *words])
    return paths


def appearance(suffix: str) -> dict[str, Any]:
    """How a figure is saved as `png` or `svg`: without a date the same results give the same file."""
    return {"dpi": 200, "format": suffix, "metadata": {"Date": None} if suffix == "svg" else None}


def colours(rules: list[str]) -> dict[str, str]:
    """A colour for each rule: its own, or a spare one for a rule or variant that has none."""
    free = [c for name, c in COLOURS.items() if name not in {rule.split()[0] for rule in rules}]
    spare = itertools.cycle([*SPARE, *free, *MORE])
    taken: dict[str, str] = {}
    for rule in rules:
        own = COLOURS.get(rule.split()[0])
        taken[rule] = own if own and own not in taken.values() else next(spare)
    return taken


def scores(
    frame: pd.DataFrame, curves: pd.DataFrame, rules: list[str], words: list[str], measure: str = "step"
) -> Figure:
    """Mean test accuracy over a measure (server updates) with a band of one standard deviation over the repeats.

    Where the data has values in place of classes it is the test loss, over a logarithmic axis if its range is wide.
    Runs that were not completed are thin lines of their own, which end in a cross, and count in no mean.
    """
    attacks = list(curves["attack"].unique())
    # three or four panels side by side, whichever leaves fewer places empty
    columns = len(attacks) if len(attacks) <= 4 else min((4, 3), key=lambda c: -len(attacks) % c)
    lines = math.ceil(len(attacks) / columns)
    width, height = max(5.2, 2.75 * columns + 0.6), 2.35 * lines + 1.25
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    paint, score = colours(rules), score_of(curves)
    for axes, attack in zip(panels, attacks, strict=False):
        _panel(axes, curves.loc[curves["attack"] == attack], rules, paint, score, measure)
        axes.set_title(str(attack), loc="left", fontweight="bold", fontsize=9.5, color="#222222")
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
    ends = np.array([run[measure].max() for _, run in curves.groupby("run")])
    # a run that failed early has nothing but its start
    if ends.max() > FAR * ends[ends > 0].min(initial=ends.max()):
        # runs of which one takes many times as long as another
        panels[0].set_xscale("log")
        places = curves[measure].to_numpy()
        panels[0].set_xlim(left=places[places > 0].min())
    if score is not ACCURACY:
        _fitted(panels[0], curves, score)
    seeds = len(set(curves["seed"]))
    notes = [", ".join([*words, f"mean and one standard deviation of {seeds} seeds" if seeds > 1 else "one seed"])]
    if stopped := sum(frame["status"] != "complete"):
        notes.append(f"\N{MULTIPLICATION SIGN} not completed, not in the mean: {_runs(stopped)}")
    if lost := sum(diverged(frame)):
        notes.append(f"\N{WHITE DOWN-POINTING TRIANGLE} diverged: {_runs(lost)}")
    handles, labels = panels[0].get_legend_handles_labels()
    # as many lines of entries as must be, each as long as the others; matplotlib fills columns first
    entries = math.ceil(len(labels) / math.ceil(len(labels) * (0.75 + 0.075 * max(map(len, labels))) / width))
    order = [i for start in range(entries) for i in range(start, len(labels), entries)]
    figure.set_figheight(height + 0.16 * (len(notes) - 1))
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside upper left",
        ncols=entries,
        frameon=False,
        handlelength=2.6,
        title="\n".join(notes),
        title_fontproperties={"size": 8.5},
        alignment="left",
    )
    return figure


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _fitted(axes: Axes, curves: pd.DataFrame, score: Score) -> None:
    """The axis of a loss: what rises far above the start leaves it, and it is logarithmic where its range is wide."""
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
    axes: Axes, curves: pd.DataFrame, rules: list[str], paint: dict[str, str], score: Score, measure: str
) -> None:
    for i, rule in enumerate(rules):
        style: Any = {"color": paint[rule], "linestyle": DASHES[i % len(DASHES)]}
        mark: Any = {"color": paint[rule], "linestyle": "none", "clip_on": False, "zorder": 4}
        mine = curves.loc[curves["line"] == rule]
        complete = mine.loc[mine["status"] == "complete"]
        mean = _mean(complete, score, measure)
        axes.plot(mean.index, mean["mean"], label=rule, linewidth=1.7, zorder=3, **style)
        most = 1 if score is ACCURACY else np.inf
        low, high = (mean["mean"] - mean["std"]).clip(0, most), (mean["mean"] + mean["std"]).clip(0, most)
        axes.fill_between(mean.index, low, high, color=paint[rule], alpha=0.14, linewidth=0, zorder=2)
        for _, run in mine.loc[mine["status"] != "complete"].groupby("run"):
            axes.plot(run[measure], run[score.column], linewidth=0.8, zorder=3, **style)
            axes.plot(run[measure].iloc[-1:], run[score.column].iloc[-1:], marker="x", markersize=6, **mark)
        for _, run in complete.loc[~np.isfinite(complete["test_loss"])].groupby("run"):
            first, place = run.iloc[:1], mark | {"marker": "v", "markersize": 6, "markerfacecolor": "white"}
            if score is ACCURACY:
                axes.plot(first[measure], first[score.column], **place)
            else:
                # the loss itself is nowhere
                axes.plot(first[measure], [1], transform=axes.get_xaxis_transform(), **place)
    if score is ACCURACY:
        axes.axhline(1 / curves["classes"].iloc[0], color="#999999", linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        axes.set_ylim(0, 1.02)
    axes.margins(x=0.01)
    if measure == "step":
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))


def _mean(complete: pd.DataFrame, score: Score, measure: str) -> Any:
    """`mean` and `std` of the score over the repeats, at each place of the measure; NaN where one is not finite."""
    values = complete[score.column]
    complete = complete.assign(value=values.where(np.isfinite(values)))
    if complete.empty:
        return complete.groupby(measure)["value"].agg(["mean", "std"])
    if measure == "step":
        # infinity marks what is not finite while a run that was stopped early keeps what it ended with
        wide = complete.fillna({"value": np.inf}).pivot(index="step", columns="run", values="value").ffill()
        wide = wide.where(np.isfinite(wide))
        mean = wide.mean(axis=1, skipna=False)
        return pd.DataFrame({"mean": mean, "std": wide.std(axis=1).fillna(0).where(mean.notna())})
    runs = [run for _, run in complete.groupby("run")]
    # repeats are evaluated at different places: their lines are read off at the same ones, up to the first end
    places = np.linspace(0, min(run[measure].max() for run in runs), 200)
    read = np.stack([np.interp(places, run[measure], run["value"]) for run in runs])
    spread = read.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(len(places))
    return pd.DataFrame({"mean": read.mean(axis=0), "std": spread}, index=places)


def spending(folder: Path, frame: pd.DataFrame, words: list[str]) -> Figure:
    """How time was used, a line of panels for each schedule: ages of the rows, and what workers did, in mean shares.

    Runs of all rules, attacks and repeats count that have the same ways to spend time.
    """
    ways, oldest, first = list(frame["line"].unique()), 1, True
    figure = Figure(figsize=(8.2, 1.75 * len(ways) + 0.8), layout="constrained")
    grid = figure.subplots(len(ways), 2, squeeze=False, sharex="col", width_ratios=[1, 1.35])
    for (left, right), way in zip(grid, ways, strict=True):
        runs = [folder / "runs" / run for run in frame.loc[frame["line"] == way, "run"]]
        # a run that ended before its first update has no rows
        files = [run / "ages.csv" for run in runs if (run / "ages.csv").exists()]
        ages = pd.concat([pd.read_csv(file, dtype=int) for file in files] or [NO_AGES])
        rows = np.bincount(ages["age"], ages["rows"])
        below = np.cumsum(rows) / max(1, rows.sum())
        oldest = max(oldest, int(np.searchsorted(below, 0.995)) if rows.any() else 0)
        left.bar(
            np.arange(len(rows)),
            rows / max(1, rows.sum()),
            width=1.0,
            color="#56B4E9",
            edgecolor="white",
            linewidth=0.3,
        )
        left.set_title(str(way), loc="left", fontweight="bold", fontsize=9.5, color="#222222")
        left.set_ylabel("share of rows")
        parts = [pd.read_csv(run / "workers.csv") for run in runs if (run / "workers.csv").exists()]
        if not parts:
            continue
        by_worker = pd.concat(parts).groupby("worker")
        spent: Any = by_worker[[f"{kind}_s" for kind in KINDS]].sum()
        lie = by_worker["byzantine"].any().to_numpy(bool)
        first &= bool(lie.any() and not lie.all() and lie[: lie.sum()].all())
        seconds = spent.to_numpy()
        shares = seconds / np.maximum(seconds.sum(axis=1, keepdims=True), 1e-300)
        bottoms = np.cumsum(shares, axis=1) - shares
        for (kind, colour), share, bottom in zip(KINDS.items(), shares.T, bottoms.T, strict=True):
            right.bar(np.arange(len(share)), share, bottom=bottom, width=0.9, color=colour, label=kind)
        right.set_ylabel("share of time")
        right.set_ylim(0, 1)
    # a few rows of slow workers can be very old
    grid[-1][0].set_xlim(-0.7, oldest + 0.7)
    grid[-1][0].set_xlabel("age of a row, in updates")
    grid[-1][1].set_xlabel("worker (the Byzantine ones first)" if first else "worker")
    for axes in grid[-1]:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = grid[0][1].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper right", ncols=3, frameon=False, title=", ".join(words) or None,
        title_fontproperties={"size": 8.5},
    )  # fmt: skip
    return figure
