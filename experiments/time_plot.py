"""Plot of the use of time: ages of rows, and computing, messages and waiting of each worker."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from byzax.experiments.figures import TITLE_INCHES, add_bars, add_head, verbatim, wrap_notes
from byzax.experiments.gathering import has_result
from byzax.experiments.records import SPENT, Record

# Uses of time, and their colours.
TIME_USES = {"computing": "#009E73", "messages": "#E69F00", "waiting": "#dddddd"}


def draw_time(records: Mapping[str, Record], frame: pd.DataFrame, words: list[str]) -> Figure:
    """Draws the use of time, a line of panels for each schedule: ages of rows, and mean shares of the workers' time.

    Args:
        records: The files of each run.
        frame: One row per run, with its `line`; runs with a result count, of all rules, attacks and repeats.
        words: The title, and notes.

    Returns:
        The figure.
    """
    frame = frame.loc[has_result(frame)] if bool(has_result(frame).any()) else frame
    title, *words = [word for word in words if word] or [""]
    ways, oldest, first = list(frame["line"].unique()), 1, True
    figure = Figure(figsize=(8.2, 1.75 * len(ways) + 0.8), layout="constrained")
    grid = figure.subplots(len(ways), 2, squeeze=False, sharex="col", width_ratios=[1, 1.35])
    for (left, right), way in zip(grid, ways, strict=True):
        runs = [records[run] for run in frame.loc[frame["line"] == way, "run"]]
        # a run that ended before its first update has no rows
        ages = [run.ages for run in runs if run.ages is not None] or [np.zeros(1)]
        rows = np.sum([np.pad(each, (0, max(map(len, ages)) - len(each))) for each in ages], axis=0)
        below = np.cumsum(rows) / max(1, rows.sum())
        oldest = max(oldest, int(np.searchsorted(below, 0.995)) if rows.any() else 0)
        add_bars(left, rows / max(1, rows.sum()), 1.0, facecolor="#56B4E9", edgecolor="white", linewidth=0.3)
        left.set_title(verbatim(way), loc="left", fontweight="bold", fontsize=9.5, color="#222222")
        left.set_ylabel("share of rows")
        parts = [run.spent for run in runs if run.spent is not None]
        if not parts:
            continue
        by_worker = pd.concat(parts).groupby("worker")
        spent: Any = by_worker[SPENT].sum()
        byzantine = by_worker["byzantine"].any().to_numpy(bool)
        first &= bool(byzantine.any() and not byzantine.all() and byzantine[: byzantine.sum()].all())
        seconds = spent.to_numpy()
        shares = seconds / np.maximum(seconds.sum(axis=1, keepdims=True), 1e-300)
        bottoms = np.cumsum(shares, axis=1) - shares
        for (kind, colour), share, bottom in zip(TIME_USES.items(), shares.T, bottoms.T, strict=True):
            add_bars(right, share, 0.9, bottom, facecolor=colour, linewidth=0, label=kind)
        right.set_ylabel("share of time")
        right.set_ylim(0, 1)
    # a few rows of slow workers can be very old
    grid[-1][0].set_xlim(-0.7, oldest + 0.7)
    grid[-1][0].set_xlabel("age of a row, in updates")
    grid[-1][1].set_xlabel("worker (the Byzantine ones first)" if first else "worker")
    for axes in grid[-1]:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    head = wrap_notes([*words[:1], ", ".join(words[1:])], 8.2)
    figure.set_figheight(figure.get_figheight() + 0.16 * (head.count("\n") + 1) + TITLE_INCHES * bool(title))
    add_head(figure, title, head, *grid[0][1].get_legend_handles_labels(), columns=3)
    return figure
