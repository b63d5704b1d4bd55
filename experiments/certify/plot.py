"""The plot of a certificate: one panel for each part, one colour for each rule."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from byzax.experiments.certify.breakdown import BEYOND
from byzax.experiments.certify.measuring import Findings, MeasurementPlan
from byzax.experiments.figures import DASHES, STYLE, rule_colours, save_options, verbatim
from byzax.experiments.outputs import save

MARKS = ["o", "s", "D", "^", "v", "P", "X", "*"]
WIDEST_SINE = 1.6  # farther values are arrows at the edge
LOWEST, HIGHEST = 1e-2, 1e6  # of the deviation, in spreads; values beyond are at the edge
SHADE = "#f4e3dc"
TITLE: Any = {"loc": "left", "fontweight": "bold", "fontsize": 9.5, "color": "#222222"}
ASIDE: Any = {"fontsize": 7, "color": "#777777"}


def draw(folder: Path, plan: MeasurementPlan, findings: Sequence[Findings]) -> list[Path]:
    """Draws a certificate as PNG and SVG.

    Args:
        folder: The folder.
        plan: The plan.
        findings: The measurements.

    Returns:
        The paths.
    """
    with rc_context(STYLE):
        figure = certificate(plan, findings)
        paths = [folder / f"certificate.{suffix}" for suffix in ("png", "svg")]
        for path in paths:
            save(path, partial(figure.savefig, **save_options(path.suffix[1:])), "certificate")
    return paths


def certificate(plan: MeasurementPlan, findings: Sequence[Findings]) -> Figure:
    """The figure of a certificate: a panel each for angles, kappa, breakdown and leak.

    Args:
        plan: The plan.
        findings: The measurements.

    Returns:
        The figure.
    """
    panels = {"resilience": _angles, "robustness": _kappas, "breakdown": _deviations, "leak": _leaks}
    shown = [(name, panel) for name, panel in panels.items() if any(getattr(each, name) for each in findings)]
    columns = min(2, max(1, len(shown)))
    lines = -(-len(shown) // columns) or 1
    attacks = max((len(each.resilience.cases) for each in findings if each.resilience), default=0)
    # a line of text for each rule beside the last panel
    lower = max(2.9, 0.9 + 0.125 * len(findings))
    height = 0.85 + max(2.9, 0.9 + attacks * (0.12 + 0.075 * len(findings))) + lower * (lines - 1)
    figure = Figure(figsize=(9.4 if columns == 2 else 5.4, height), layout="constrained")
    heights = [height - 0.85 - lower * (lines - 1), *[lower] * (lines - 1)]
    grid = figure.subplots(lines, columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    paint = rule_colours([each.label for each in findings])
    for axes, (_, panel) in zip(grid.flat, shown, strict=False):
        panel(axes, findings, paint, plan)
    for spare in list(grid.flat)[len(shown) :]:
        spare.set_visible(False)
    scene = plan.scene
    noise = scene.spread / scene.norm
    labels = [each.label for each in findings]
    handles = [Line2D([], [], **_line_style(i, paint[label])) for i, label in enumerate(labels)]
    figure.legend(
        handles,
        [verbatim(label) for label in labels],
        loc="outside upper left",
        ncols=min(len(labels), 5),
        frameon=False,
        handlelength=2.6,
        title=f"n = {scene.n} rows, f = {scene.f}, d = {scene.d}, "
        f"\N{GREEK SMALL LETTER SIGMA}\N{SQUARE ROOT}d / |g| = {noise:.3g}",
        title_fontproperties={"size": 8.5},
        alignment="left",
    )
    return figure


def _line_style(number: int, colour: str) -> dict[str, Any]:
    """The look of the line of rule `number`, in the legend and in every panel with lines."""
    return {"color": colour, "marker": MARKS[number % len(MARKS)], "linestyle": DASHES[number % len(DASHES)]}


def _angles(axes: Axes, findings: Sequence[Findings], paint: dict[str, str], plan: MeasurementPlan) -> None:
    axes.set_title("(\N{GREEK SMALL LETTER ALPHA}, f)-resilience: angle by attack", **TITLE)
    attacks = list(dict.fromkeys(c.attack for each in findings if each.resilience for c in each.resilience.cases))
    step = 0.7 / max(len(findings), 1)
    for i, each in enumerate(findings):
        for case in each.resilience.cases if each.resilience else ():
            y = attacks.index(case.attack) + (i - (len(findings) - 1) / 2) * step
            style: Any = {"color": paint[each.label], "zorder": 3}
            if case.sine.value > WIDEST_SINE or not np.isfinite(case.sine.value):
                axes.plot([WIDEST_SINE], [y], marker=">", markersize=5, clip_on=False, linestyle="none", **style)
                continue
            axes.plot([case.sine.value], [y], marker=MARKS[i % len(MARKS)], markersize=4, linestyle="none", **style)
            axes.plot([case.sine.low, min(case.sine.high, WIDEST_SINE)], [y, y], linewidth=1.6, alpha=0.6, **style)
    axes.axvspan(1, WIDEST_SINE, color=SHADE, zorder=0, linewidth=0)
    axes.annotate("no angle left", (1, 1), xycoords=("data", "axes fraction"), xytext=(3, -2), va="top",
                  textcoords="offset points", **ASIDE)  # fmt: skip
    axes.set_xlim(0, WIDEST_SINE)
    axes.set_ylim(len(attacks) - 0.5, -0.5)
    axes.set_yticks(range(len(attacks)), [verbatim(attack) for attack in attacks])
    axes.set_xlabel(
        "sin \N{GREEK SMALL LETTER ALPHA} = |E F \N{MINUS SIGN} g| / |g|, 95 % interval  (arrow: beyond the axis)"
    )
    axes.grid(axis="y", visible=False)


def _kappas(axes: Axes, findings: Sequence[Findings], paint: dict[str, str], plan: MeasurementPlan) -> None:
    axes.set_title("(f, \N{GREEK SMALL LETTER KAPPA})-robustness: found and proven", **TITLE)
    some = [each for each in findings if each.robustness]
    values = [
        value
        for each in some
        if (robust := each.robustness)
        for value in (robust.found, robust.lower, robust.bound.value if robust.bound else np.nan)
        if np.isfinite(value) and value > 0
    ]
    low, high = (min(values, default=0.1) / 2, max(values, default=1) * 3)
    for i, each in enumerate(some):
        robust = each.robustness
        assert robust is not None
        place = findings.index(each)
        style: Any = {"color": paint[each.label], "zorder": 3, "clip_on": False}
        kappa = float(np.clip(robust.found, low, high))
        bound = robust.bound.value if robust.bound else None
        axes.plot([low, kappa], [i, i], linewidth=1.6, alpha=0.6, **style)
        if not np.isfinite(robust.found):
            axes.plot([high], [i], marker=">", markersize=6, linestyle="none", **style)
        else:
            axes.plot([kappa], [i], marker=MARKS[place % len(MARKS)], markersize=5, linestyle="none", **style)
        if bound:  # 0 has no place on the axis
            axes.plot([bound], [i], marker="|", markersize=14, markeredgewidth=2, linestyle="none", **style)
        note = "no limit" if not np.isfinite(robust.found) else f"{robust.found:.3g}"
        if bound is not None:
            note += f", at most {bound:.3g}"
        elif np.isfinite(robust.found):
            note += ", no bound known"
        axes.annotate(note, (low, i), xytext=(3, 6), textcoords="offset points", **ASIDE)
    if lower := max((r.lower for each in some if (r := each.robustness) and 0 < r.lower < np.inf), default=0.0):
        axes.axvline(lower, color="#999999", linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        axes.annotate(
            f"any rule: at least {lower:.3g}", (lower, 0), xycoords=("data", "axes fraction"),
            xytext=(3, 4), textcoords="offset points", **ASIDE,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(low, high)
    axes.set_ylim(len(some) - 0.4, -0.7)
    axes.set_yticks(range(len(some)), [verbatim(each.label) for each in some])
    axes.set_xlabel("\N{GREEK SMALL LETTER KAPPA}  (mark: found by search; bar: proven upper bound)")
    axes.grid(axis="y", visible=False)


def _deviations(axes: Axes, findings: Sequence[Findings], paint: dict[str, str], plan: MeasurementPlan) -> None:
    axes.set_title("Breakdown: what so many Byzantine rows can do", **TITLE)
    for i, each in enumerate(findings):
        if not (broken := each.breakdown):
            continue
        numbers, values = np.array(list(broken.curve)), np.array(list(broken.curve.values()))
        style = _line_style(i, paint[each.label])
        axes.plot(numbers, np.clip(values, 1e-3, HIGHEST), linewidth=1.5, markersize=2.8, **style)
        if broken.num_byzantine is not None:
            height = HIGHEST ** (0.95 - 0.08 * (i % 5))
            axes.annotate(
                str(broken.num_byzantine), (broken.num_byzantine, height), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=8, fontweight="bold", color=paint[each.label], zorder=5,
                bbox={"facecolor": SHADE, "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
    axes.axvline(plan.scene.f, color="#999999", linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    beside: Any = (
        {"xytext": (3, 0), "ha": "left"} if 2 * plan.scene.f < plan.scene.n else {"xytext": (-3, 0), "ha": "right"}
    )
    axes.annotate(
        f"declared f = {plan.scene.f}", (plan.scene.f, 0.03), xycoords=("data", "axes fraction"),
        textcoords="offset points", **beside, **ASIDE,
    )  # fmt: skip
    axes.set_xlim(-0.5, plan.scene.n - 0.5)
    axes.axhspan(BEYOND, HIGHEST, color=SHADE, zorder=0, linewidth=0)
    axes.set_yscale("log")
    axes.set_ylim(LOWEST / 1.5, HIGHEST)
    axes.annotate("broken", (1, BEYOND), xycoords=("axes fraction", "data"), xytext=(-3, 3), ha="right",
                  textcoords="offset points", **ASIDE)  # fmt: skip
    axes.set_xlabel("Byzantine rows")
    axes.set_ylabel("distance from the honest mean\n(honest spreads, cut off above)")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_minor_locator(LogLocator(numticks=1))


def _leaks(axes: Axes, findings: Sequence[Findings], paint: dict[str, str], plan: MeasurementPlan) -> None:
    axes.set_title("Hidden vulnerability: one coordinate", **TITLE)
    ends: list[tuple[float, str, str]] = []
    last = max(plan.asked.dimensions)
    for i, each in enumerate(findings):
        if not (leaking := each.leak):
            continue
        if not np.isfinite(leaking.slope):
            ends.append((np.inf, "no limit", paint[each.label]))
            continue
        d = [point.d for point in leaking.points]
        style = _line_style(i, paint[each.label])
        axes.plot(d, [p.value.value for p in leaking.points], linewidth=1.5, markersize=4, **style)
        axes.fill_between(
            d, [p.value.low for p in leaking.points], [p.value.high for p in leaking.points], color=paint[each.label],
            alpha=0.14, linewidth=0,
        )  # fmt: skip
        closed = [(p.d, p.closed) for p in leaking.points if p.closed]
        if closed:
            axes.plot(*zip(*closed, strict=True), color="#333333", linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=4)
            axes.annotate("closed form", closed[-1], xytext=(-12, 0), ha="right", textcoords="offset points", **ASIDE)
        ends.append((leaking.points[-1].value.value, leaking.verdict.replace("grows as ", ""), paint[each.label]))
    axes.set_xscale("log")
    axes.set_yscale("log")
    heights = sorted(end for end in ends if np.isfinite(end[0]))
    low, high = np.log(axes.get_ylim())
    # one above the other where they would overlap, and none above the panel
    gap = min(0.055, 1 / max(len(heights) - 1, 1)) * (high - low)
    places = [float(np.log(value)) for value, _, _ in heights]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], places[i + 1] - gap if i + 1 < len(places) else high)
    for place, (_, word, colour) in zip(places, heights, strict=True):
        axes.annotate(word, (last, np.exp(place)), xytext=(7, 0), textcoords="offset points", va="center", fontsize=7.5,
                      color=colour, annotation_clip=False)  # fmt: skip
    if unlimited := [each.label for each in findings if each.leak and not np.isfinite(each.leak.slope)]:
        axes.annotate(
            f"without limit: {', '.join(unlimited)}", (0.02, 0.97), xycoords="axes fraction", va="top", **ASIDE
        )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("d")
    axes.set_ylabel(
        "largest deviation of one coordinate\n(\N{GREEK SMALL LETTER SIGMA}, median and quartiles of draws)"
    )
