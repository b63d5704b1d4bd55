"""Style of all figures: colours and dashes, how texts are shown, and the head with title, notes and legend."""

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

# Colours that people who see few colours can tell apart (Okabe and Ito, then Tol's muted), dark enough for
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
# For the last rules of a long list, which differ in colour and dashes together (ColorBrewer's darker ones).
MORE = [
    "#000000", "#5254A3", "#BD9E39", "#AD494A", "#637939", "#7B4173", "#E6550D", "#3182BD", "#31A354", "#8C6D31",
    "#393B79", "#D6616B", "#8CA252", "#CE6DBD", "#843C39", "#6B6ECF", "#756BB1", "#A55194", "#999999",
]  # fmt: skip
# Lines on top of each other remain visible: every rule has dashes of its own.
DASHES = ["-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2))]
# Longest label, in letters; letters of a note per inch.
LONGEST, PER_INCH = 60, 15
# The height of a title.
TITLE_INCHES = 0.25
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


def save_options(suffix: str) -> dict[str, Any]:
    """Options for saving a figure; without a date the same results give the same file.

    Args:
        suffix: `png` or `svg`.

    Returns:
        Keyword arguments of `Figure.savefig`.
    """
    return {"dpi": 200, "format": suffix, "metadata": {"Date": None} if suffix == "svg" else None}


def verbatim(text: Any) -> str:
    """A text that Matplotlib shows literally: a dollar begins no formula.

    Args:
        text: The text.

    Returns:
        The text, shortened where it is long.
    """
    return textwrap.shorten(str(text), LONGEST, placeholder=" ...").replace("$", r"\$")


def wrap_notes(parts: Sequence[str], width: float) -> str:
    """Wraps notes for the head of a figure.

    Args:
        parts: The notes; each begins a line.
        width: Width of the figure, in inches.

    Returns:
        The lines.
    """
    lines = [line for part in parts if part for line in textwrap.wrap(part, max(20, int(width * PER_INCH)))]
    return "\n".join(lines).replace("$", r"\$")


def rule_colours(rules: list[str]) -> dict[str, str]:
    """A colour for each rule.

    Args:
        rules: The labels of the rules.

    Returns:
        The colour of the rule's own, or a spare one for a rule or variant without.
    """
    # a pre-aggregation (`nnm + krum`) does not change the colour of its rule
    names = {rule: (rule.rpartition(" + ")[2].split() or [rule])[0] for rule in rules}
    free = [c for name, c in COLOURS.items() if name not in names.values()]
    spare = itertools.cycle([*SPARE, *free, *MORE])
    taken: dict[str, str] = {}
    for rule in rules:
        own = COLOURS.get(names[rule])
        taken[rule] = own if own and own not in taken.values() else next(spare)
    return taken


def add_head(
    figure: Figure, title: str, head: str, handles: Sequence[Any], labels: Sequence[str], columns: int
) -> None:
    """Adds the head of a figure: its title, lines of notes, and the entries of a legend below them.

    Args:
        figure: The figure.
        title: The title; empty for none.
        head: The notes, a line each, from `wrap_notes`.
        handles: Artists of the legend.
        labels: Their words.
        columns: Columns of the legend.
    """
    # the notes begin with an empty line, on which the title stands: a legend has one font for all its title
    figure.text(0.012, 1 - 0.08 / figure.get_figheight(), verbatim(title), va="top", fontsize=10.5, fontweight="bold",
                color="#222222")  # fmt: skip
    figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, frameon=False, handlelength=2.6,
        title=f"\n{head}" if title else head or None, title_fontproperties={"size": 8.5}, alignment="left",
    )  # fmt: skip


def panel_title(key: str, value: Any, width: float) -> str:
    """The title of a panel, in lines that fit.

    Args:
        key: The setting that panels differ in.
        value: Its value.
        width: Width of a panel, in inches.

    Returns:
        Such as `attack: little`.
    """
    letters = max(12, int(width * PER_INCH * 0.62))
    return "\n".join(textwrap.wrap(f"{key}: {value}", letters, max_lines=3, placeholder=" ...")).replace("$", r"\$")


def legend_columns(labels: Sequence[str], width: float) -> int:
    """The columns of a legend above a figure, so that no label is cut off.

    Args:
        labels: The words of its entries.
        width: Width of the figure, in inches.

    Returns:
        One to four.
    """
    each = max(map(len, labels), default=0) + 6
    return max(1, min(4, len(labels), int(width * PER_INCH * 0.8) // each))


def add_bars(axes: Axes, heights: np.ndarray, width: float, bottoms: np.ndarray | float = 0.0, **style: Any) -> None:
    """Adds bars at 0, 1, 2, ... as one artist: `Axes.bar` makes one for each, which takes seconds for 1,000 workers.

    Args:
        axes: The panel.
        heights: `[n]`, of the bars.
        width: Of each bar.
        bottoms: `[n]`, or one for all.
        style: Keyword arguments of `PolyCollection`.
    """
    left, low = np.arange(len(heights)) - width / 2, np.broadcast_to(bottoms, len(heights))
    right, high = left + width, low + heights
    corners = np.stack([left, low, left, high, right, high, right, low], axis=1).reshape(-1, 4, 2)
    bars = PolyCollection([*corners], **style)
    # no margin below bars that stand on the axis
    bars.sticky_edges.y.append(0)
    axes.add_collection(bars)
    axes.autoscale_view()
