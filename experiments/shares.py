"""The samples of each worker: tables of the labels of splits and workers, and a chart."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from byzax.experiments import study
from byzax.experiments.figures import STYLE, add_bars, verbatim
from byzax.experiments.replay import run_folders
from byzax.experiments.writing import check_replaceable, write_picture
from byzax.simulator.config.part import Part
from byzax.simulator.data import Dataset
from byzax.simulator.executors.base import fixed_byzantine_workers
from byzax.simulator.mistakes import ScenarioError, on_one_line, prefix_errors, shorten
from byzax.simulator.validation import load_data, share_data
from byzax.simulator.world import own_seed

# Largest number of workers drawn as bars; for more, circles.
BARS = 50
# Number of groups of values in a regression, of equally many training samples; largest number of named labels.
GROUPS, NAMED = 10, 20
# Largest number of missing labels that are named.
LISTED = 10
# Longest name of a label, in characters.
LONGEST = 30
BYZANTINE = "#D55E00"


class SplitCounts(NamedTuple):
    """The labels of the training, validation or test samples.

    Attributes:
        counts: `[labels]`, samples of each label, or of each group of values.
        mean: Mean value of a regression; None for labels.
        owners: Number of different owners of the samples; None where the data names none.
        unseen: Number of these owners without a training sample.
    """

    counts: np.ndarray
    mean: float | None
    owners: int | None
    unseen: int


class Holdings(NamedTuple):
    """The labels of the samples of each worker.

    Attributes:
        counts: `[n, labels]`, samples of each label; in a regression labels are groups of values, in order.
        means: `[n]`, mean value of each worker in a regression; None for labels.
        labels: Names of the labels.
        parts: The splits by name.
        training: Number of training samples.
        byzantine: The workers that are Byzantine in every update.
        name: Title of the table and chart.
    """

    counts: np.ndarray
    means: np.ndarray | None
    labels: list[str]
    parts: dict[str, SplitCounts]
    training: int
    byzantine: list[int]
    name: str


def read(path: Path, overrides: Sequence[str], seed: int | None) -> Holdings:
    """Reads or computes the partition of a scenario.

    Args:
        path: A scenario, or the folder of a run or study (its first run).
        overrides: Texts `key=value` for a scenario.
        seed: Seed of the run and data; None for that of the scenario.

    Returns:
        The samples of each worker.

    Raises:
        ScenarioError: Where the scenario or its data cannot be used.
    """
    if overrides and path.is_dir():
        raise ScenarioError(f"--set: changes a scenario, and {path} is none")
    file = run_folders(path)[0] / "scenario.yaml" if path.is_dir() else path
    # a seed of the data would win over the seed of the run
    seeded = [] if seed is None else [f"seed={seed}", "data.seed=null"]
    cell = study.load(file, [*overrides, *seeded]).cells[0].study
    with prefix_errors(path):
        dataset = load_data(cell.run)
        parts, shares = share_data(cell.run)
    means = None
    if dataset.classes is None:
        # equal values are one group
        edges = np.unique(np.quantile(dataset.y[parts.train], np.linspace(0, 1, GROUPS + 1)))
        numbers = np.clip(np.searchsorted(edges, dataset.y, side="right") - 1, 0, max(len(edges) - 2, 0))
        labels = [f"{low:.3g} to {high:.3g}" for low, high in itertools.pairwise(edges)] or ["all"]
        means = np.array([dataset.y[share].mean(dtype=np.float64) for share in shares])
    else:
        numbers, labels = (
            dataset.y,
            [shorten(each, LONGEST) for each in dataset.labels or map(str, range(dataset.classes))],
        )
    counts = np.stack([np.bincount(numbers[share], minlength=len(labels)) for share in shares])
    how = " ".join(f"{key}={on_one_line(value)}" for key, value in _chosen(cell.data.partition).items())
    seed = own_seed(cell.data.seed, cell.seed)
    name = f"{cell.data.label}, {cell.data.partition.label}{f' {how}' if how else ''}, seed {seed}"
    splits = {
        name: _part(dataset, positions, numbers, len(labels), parts.train)
        for name, positions in parts._asdict().items()
        if len(positions)
    }
    return Holdings(counts, means, labels, splits, len(parts.train), fixed_byzantine_workers(cell.run), name)


def _part(dataset: Dataset, positions: np.ndarray, numbers: np.ndarray, labels: int, train: np.ndarray) -> SplitCounts:
    counts = np.bincount(numbers[positions], minlength=labels)
    mean = None if dataset.classes is not None else float(dataset.y[positions].mean(dtype=np.float64))
    if dataset.owners is None:
        return SplitCounts(counts, mean, None, 0)
    # -1: not known
    known = np.setdiff1d(dataset.owners[positions], [-1])
    return SplitCounts(counts, mean, len(known), len(np.setdiff1d(known, dataset.owners[train])))


def splits(holdings: Holdings) -> Table:
    """The table of the splits.

    Args:
        holdings: The samples.

    Returns:
        A line for each of training, validation and test: its samples and the share of each label, in per cent.
    """
    what = "labels" if holdings.means is None else "groups"
    owned = any(part.owners is not None for part in holdings.parts.values())
    listed = Table(title="splits", caption=_lacking(holdings) or None, box=box.SIMPLE_HEAD, title_style="bold")
    for heading in ("split", "samples", *(["owners", "of them new"] if owned else []), "entropy", what):
        listed.add_column(heading, justify="right")
    several = len(holdings.labels) <= NAMED
    one = "label" if holdings.means is None else "group"
    for heading in (f"{one}: share in %" if several else "share in %", *([] if one == "label" else ["mean value"])):
        listed.add_column(heading, overflow="fold")
    for name, part in holdings.parts.items():
        held, size = part.counts[part.counts > 0], part.counts.sum()
        if several:
            each = zip(holdings.labels, 100 * part.counts / size, strict=True)
            shares = "  ".join(f"{escape(label)}: {share:.1f}" for label, share in each)
        else:
            shares = f"{100 * held.min() / size:.2g} to {100 * held.max() / size:.2g}"
        owners = [str(part.owners), str(part.unseen)] if owned else []
        mean = [] if part.mean is None else [f"{part.mean:.4g}"]
        entropy = f"{entropies(part.counts[None])[0]:.2f}"
        listed.add_row(name, str(size), *owners, entropy, str(len(held)), shares, *mean)
    return listed


def _lacking(holdings: Holdings) -> str:
    """A line about labels that one split lacks and others have."""
    lines = []
    for name, part in holdings.parts.items():
        missing = [label for label, count in zip(holdings.labels, part.counts, strict=True) if not count]
        if missing and holdings.means is None:
            few = ", ".join(missing[:LISTED]) + (", ..." if len(missing) > LISTED else "")
            lines.append(f"{name} has no sample of {'label' if len(missing) == 1 else 'the labels'} {few}")
    return escape("; ".join(lines))


def table(holdings: Holdings) -> Table:
    """The table of the workers.

    Args:
        holdings: The samples.

    Returns:
        A line for each worker: its samples, its labels and their entropy (or its mean value); and one for all.
    """
    sizes, bits = holdings.counts.sum(axis=1), entropies(holdings.counts)
    held = int(sizes.sum())
    what = "labels" if holdings.means is None else "groups"
    most = f"log2({len(holdings.labels)}) = {np.log2(len(holdings.labels)):.3g}"
    caption = f"entropy of the {what} in bits: mean {bits.mean():.3g}, at most {most}"
    if held < holdings.training:
        caption += f"; {holdings.training - held} of {holdings.training} training samples are held by nobody"
    listed = Table(title=Text(holdings.name), caption=Text(caption), box=box.SIMPLE_HEAD, title_style="bold")
    for heading in ("worker", "samples", "entropy", what):
        listed.add_column(heading, justify="right")
    listed.add_column("which" if holdings.means is None else "mean value", overflow="fold")
    means = [None] * len(sizes) if holdings.means is None else holdings.means
    for worker, (counts, mean) in enumerate(zip(holdings.counts, means, strict=True)):
        name = f"{worker} (Byzantine)" if worker in holdings.byzantine else str(worker)
        listed.add_row(name, str(sizes[worker]), f"{bits[worker]:.2f}", *_labels(holdings, counts, mean))
    whole = holdings.counts.sum(axis=0)
    mean = None if holdings.means is None else float(np.average(holdings.means, weights=sizes))
    listed.add_section()
    listed.add_row("all", str(held), f"{entropies(whole[None])[0]:.2f}", *_labels(holdings, whole, mean))
    return listed


def _chosen(partition: Part) -> dict[str, Any]:
    """The options of a partition that differ from their defaults."""
    fields = type(partition).model_fields
    return {key: value for key, value in partition.options().items() if value != fields[key].default}


def entropies(counts: np.ndarray) -> np.ndarray:
    """The entropy of each worker's labels.

    Args:
        counts: `[n, labels]`, samples of each label.

    Returns:
        `[n]`, in bits.
    """
    shares = counts / counts.sum(axis=1, keepdims=True)
    # not -0 for one label alone
    return np.abs(np.sum(shares * np.log2(np.where(shares > 0, shares, 1)), axis=1))


def draw(holdings: Holdings, chart: str, path: Path) -> list[Path]:
    """Draws the samples of each worker.

    Args:
        holdings: The samples.
        chart: `bars`, `bubbles`, or `auto` for bars up to 50 workers.
        path: The picture; PNG and SVG are both written.

    Returns:
        The paths.

    Raises:
        ScenarioError: Where the pictures cannot be written.
    """
    if path.suffix not in (".png", ".svg"):
        raise ScenarioError(f"--out {path}: .png or .svg is needed")
    bars = chart == "bars" or (chart == "auto" and len(holdings.counts) <= BARS)
    written = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    for place in written:
        check_replaceable(place, "--out")
    with rc_context(STYLE):
        figure = _bars(holdings) if bars else _bubbles(holdings)
        for place in written:
            write_picture(place, figure, "--out")
    return written


def _labels(holdings: Holdings, counts: np.ndarray, mean: float | None) -> tuple[str, str]:
    """The number of labels of a worker and their names (a range as `3-7`); of a regression the mean value."""
    held = np.flatnonzero(counts)
    if mean is not None:
        return str(len(held)), f"{mean:.4g}"
    spans = np.split(held, np.flatnonzero(np.diff(held) > 1) + 1)
    names = holdings.labels
    words = [names[span[0]] if len(span) == 1 else f"{names[span[0]]}-{names[span[-1]]}" for span in spans]
    return str(len(held)), escape(" ".join(words))


def _colours(holdings: Holdings) -> list[Any]:
    """A colour for each label: pairs of dark and light up to twenty; beyond, and for values, along a scale."""
    if holdings.means is None and len(holdings.labels) <= NAMED:
        return [matplotlib.colormaps["tab20"](label % 10 * 2 + label // 10) for label in range(len(holdings.labels))]
    scale = matplotlib.colormaps["viridis"]
    return [scale(place) for place in np.linspace(0, 1, len(holdings.labels))]


def _plain(label: str) -> str:
    """A label that Matplotlib shows literally: $ would begin a formula, a first _ would drop it from legends."""
    escaped = label.replace("$", r"\$")
    return f" {escaped}" if label.startswith("_") else escaped


def _bars(holdings: Holdings) -> Figure:
    n = len(holdings.counts)
    figure = Figure(figsize=(max(5.5, 0.24 * n + 2.2), 4.2), layout="constrained")
    axes: Any = figure.subplots()
    below = np.zeros(n)
    for label, colour in enumerate(_colours(holdings)):
        add_bars(
            axes, holdings.counts[:, label], 0.8, below, facecolor=colour, edgecolor="white", linewidth=0.3,
            label=_plain(holdings.labels[label]),
        )  # fmt: skip
        below = below + holdings.counts[:, label]
    axes.set_ylabel("samples")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1.03 * below.max())
    axes.grid(axis="x", visible=False)
    if len(holdings.labels) <= NAMED:
        handles, names = axes.get_legend_handles_labels()
        # in the order of the bars, the highest first
        title = "label" if holdings.means is None else "value"
        axes.legend(
            handles[::-1], names[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, title=title,
            fontsize=8,
        )  # fmt: skip
    else:
        _scale(figure, axes, holdings)
    _name(axes, holdings)
    return figure


def _bubbles(holdings: Holdings) -> Figure:
    n, labels = holdings.counts.shape
    size = (min(14.0, max(5.5, 0.13 * n + 1.5)), min(9.0, max(3.2, 0.26 * labels + 1.6)))
    figure = Figure(figsize=size, layout="constrained")
    axes: Any = figure.subplots()
    worker, label = np.nonzero(holdings.counts)
    counts = holdings.counts[worker, label]
    # the largest circle fills the room between two workers or two labels, whichever is less; area is the number
    room = 0.72 * 72 * min((size[0] - 1.2) / n, (size[1] - 1.2) / labels)
    area = np.maximum((1.6 * room) ** 2 * counts / counts.max(), 0.3)
    byzantine = np.isin(worker, holdings.byzantine)
    for who, colour in ((~byzantine, "#0072B2"), (byzantine, BYZANTINE)):
        axes.scatter(worker[who], label[who], area[who], color=colour, alpha=0.6, linewidth=0)
    axes.set_ylabel("label" if holdings.means is None else "value")
    if labels <= NAMED:
        axes.set_yticks(range(labels), [_plain(label) for label in holdings.labels])
    axes.set_ylim(-0.8, labels - 0.2)
    axes.set_title(f"the largest circle: {counts.max()} samples", fontsize=8, loc="right", color="#666666")
    _name(axes, holdings)
    return figure


def _scale(figure: Figure, axes: Any, holdings: Holdings) -> None:
    """Adds a colour bar for many labels."""
    norm = Normalize(0, len(holdings.labels) - 1)
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, label="label")


def _name(axes: Any, holdings: Holdings) -> None:
    n = len(holdings.counts)
    axes.set_xlim(-0.7, n - 0.3)
    axes.set_xlabel("worker" + (" (Byzantine in red)" if holdings.byzantine else ""))
    if n <= BARS:
        axes.set_xticks(range(n))
        axes.tick_params(axis="x", labelsize=max(5, min(8, 240 / n)))
        for worker in holdings.byzantine:
            axes.get_xticklabels()[worker].set_color(BYZANTINE)
    axes.set_title(verbatim(holdings.name), fontsize=9.5, fontweight="bold", loc="left")
