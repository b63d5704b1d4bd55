"""A certificate on a terminal, as JSON with every number, and as a long ("tidy") table."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from byzax.experiments.certify.breakdown import Window
from byzax.experiments.certify.intervals import Estimate
from byzax.experiments.certify.measuring import Findings, MeasurementPlan
from byzax.experiments.marks import NAMES
from byzax.experiments.names import counted
from byzax.experiments.outputs import save_text
from byzax.experiments.versions import versions
from byzax.experiments.writing import json_text

FILES = NAMES["certificate"]
COLUMNS = ("rule", "part", "case", "quantity", "value", "low", "high", "bound", "verdict", "note")
MOMENTS = (2, 3, 4)


def show(plan: MeasurementPlan, findings: Sequence[Findings], console: Console) -> None:
    """Prints a certificate: its settings, one table of all rules, and one of the attacks for each rule.

    Args:
        plan: The plan.
        findings: The measurements.
        console: The console.
    """
    scene = plan.scene
    noise = scene.spread / scene.norm
    console.print(
        f"n={scene.n} rows, f={scene.f} Byzantine, d={scene.d}, |g|={scene.norm:.4g}, sigma={scene.sigma:.4g} "
        f"(sqrt(d) sigma / |g| = {noise:.3g}), {plan.asked.samples} draws, seed {scene.seed}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_summary(findings))
    for each in findings:
        if each.resilience:
            console.print(_attacks(each))
    notes = list(dict.fromkeys(line for each in findings for line in [*plan.skipped, *_notes(each)]))
    for line in [*notes, "Searched numbers come from attacks that exist: they are lower bounds on the worst case."]:
        console.print(Text(line, style="dim"), soft_wrap=True)


def _summary(findings: Sequence[Findings]) -> Table:
    summary = Table(
        box=box.SIMPLE_HEAD,
        title="certificate",
        title_style="bold",
        padding=(0, 1, 0, 0),
        caption="kappa at most, Byzantine rows proven to stand: from theory (? nothing known to us); the rest is "
        "measured",
    )
    widest = max(len(each.label) for each in findings)
    summary.add_column("rule", style="bold", no_wrap=True, min_width=widest, vertical="bottom")
    summary.add_column("worst sin alpha", no_wrap=True, vertical="bottom")
    summary.add_column("(alpha, f)", no_wrap=True, vertical="bottom")
    for heading in ("kappa\nfound", "kappa\nat most", "broken\nby", "proven\nto stand"):
        summary.add_column(heading, justify="right", vertical="bottom")
    summary.add_column("turned by\nepsilon", no_wrap=True, vertical="bottom")
    summary.add_column("one coordinate", no_wrap=True, vertical="bottom")
    for each in findings:
        cells: list[str | Text] = ["-"] * 8
        if each.resilience:
            worst = each.resilience.worst
            cells[:2] = [interval_text(worst.sine), _coloured(worst.verdict)]
        if robust := each.robustness:
            cells[2:4] = [
                _coloured(number_text(robust.found), robust.verdict),
                number_text(robust.bound.value) if robust.bound else "?",
            ]
        if broken := each.breakdown:
            proven = f"{broken.standing.value:g}" if broken.standing else "?"
            # without Byzantine rows no strength was tried
            turned = window_text(broken.epsilon) if each.subject.f else "-"
            cells[4:7] = ["none" if broken.num_byzantine is None else str(broken.num_byzantine), proven, turned]
        if each.leak:
            cells[7] = _coloured(each.leak.verdict)
        summary.add_row(each.label, *cells)
    return summary


def _attacks(each: Findings) -> Table:
    assert each.resilience is not None
    title = f"{each.label}: (alpha, f)-resilience, 95 % intervals (of moments the longer side)"
    attacks = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", padding=(0, 1, 0, 0))
    attacks.add_column("attack")
    for heading in ("sin alpha = r/|g|", "<E F, g>/|g|²"):
        attacks.add_column(heading, justify="right", no_wrap=True)
    for power in "²³\N{SUPERSCRIPT FOUR}":
        attacks.add_column(f"E|F|{power}/E|G|{power}", justify="right")
    attacks.add_column("verdict", no_wrap=True)
    for case in each.resilience.cases:
        moments = [value_with_margin(moment) for moment in case.moments]
        attacks.add_row(
            case.attack, interval_text(case.sine), interval_text(case.inner), *moments, _coloured(case.verdict)
        )
    return attacks


def _notes(each: Findings) -> list[str]:
    lines = []
    if measured := each.resilience:
        if measured.proven:
            says = "proven" if measured.proven.value < 1 else "from 1 on it says nothing"
            sine = number_text(measured.proven.value)
            lines.append(f"{each.label}: sin alpha of the theorem {sine}: {says} ({measured.proven.note})")
        lines += [f"{each.label}: {case.attack}: {case.note}" for case in measured.cases if case.note]
    if robust := each.robustness:
        bound = f"; bound: {robust.bound.note}" if robust.bound else ""
        least = "" if math.isnan(robust.lower) else f" (of any rule at least {number_text(robust.lower)})"
        lines.append(f"{each.label}: kappa{least} found with {robust.where}{bound}")
    if broken := each.breakdown:
        how = (
            f"broken by {counted(broken.num_byzantine, 'Byzantine row')}, {broken.pattern}"
            if broken.num_byzantine
            else "not broken"
        )
        more = f"; sizes that turn it round ({broken.plan}): {window_text(broken.searched)}" if broken.plan else ""
        lines.append(f"{each.label}: {how}{more}")
    if leaking := each.leak:
        values = ", ".join(
            f"d={point.d}: {number_text(point.value.value)}"
            + (f" (closed form {number_text(point.closed)})" if point.closed else "")
            for point in leaking.points
        )
        lines.append(f"{each.label}: largest deviation of one coordinate, in sigma: {values}")
    return lines


def number_text(value: float) -> str:
    """A number in three digits, or a word.

    Args:
        value: The number.

    Returns:
        The text.
    """
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "no limit"
    return f"{value:.3g}" if abs(value) < 1e4 or not value else f"{value:.1e}"


def interval_text(estimate: Estimate) -> str:
    """An estimate with its interval.

    Args:
        estimate: The estimate.

    Returns:
        Such as `0.97 [0.89, 1.04]`.
    """
    if not math.isfinite(estimate.value):
        return number_text(estimate.value)
    if abs(estimate.value) >= 1e4:
        return number_text(estimate.value)
    low, high = (0.0 if abs(end) < 5e-4 else end for end in estimate[1:])
    return f"{estimate.value:.3f} [{low:.3f}, {high:.3f}]" if abs(estimate.value) < 10 else (
        f"{estimate.value:.4g} [{low:.4g}, {high:.4g}]"
    )  # fmt: skip


def value_with_margin(estimate: Estimate) -> str:
    """An estimate with the longer side of its interval.

    Args:
        estimate: The estimate.

    Returns:
        Such as `0.561 ± 0.012`.
    """
    side = max(estimate.high - estimate.value, estimate.value - estimate.low)
    if not math.isfinite(estimate.value) or not math.isfinite(side) or abs(estimate.value) >= 1e4:
        return number_text(estimate.value)
    if abs(estimate.value) < 10:
        return f"{estimate.value:.3f} ± {max(side, 0):.3f}"
    return f"{number_text(estimate.value)} ± {number_text(side)}"


def window_text(window: Window | None) -> str:
    """Strengths in words.

    Args:
        window: The strengths; None for none.

    Returns:
        Such as `4.01 and more`, `up to 0.25`, `none up to 1e6`.
    """
    if window is None:
        return "none up to 1e6"
    if not window.low:
        return "any up to 1e6" if math.isinf(window.high) else f"any up to {window.high:.3g}"
    return f"{window.low:.3g} and more" if math.isinf(window.high) else f"{window.low:.3g} to {window.high:.3g}"


def _coloured(text: str, verdict: str | None = None) -> Text:
    words = verdict or text
    bad = words.startswith(("fails", "above", "grows", "no limit"))
    good = words.startswith(("holds", "within", "flat"))
    return Text(text, style="red" if bad else "green" if good else "")


def write(folder: Path, plan: MeasurementPlan, findings: Sequence[Findings]) -> list[Path]:
    """Writes the certificate as JSON, and the long table as CSV.

    Args:
        folder: The folder.
        plan: The plan.
        findings: The measurements.

    Returns:
        The paths.
    """
    scene = plan.scene
    described = {
        "settings": plan.asked.model_dump(mode="json"),
        "scene": {
            "n": scene.n,
            "f": scene.f,
            "d": scene.d,
            "norm": scene.norm,
            "sigma": scene.sigma,
            "seed": scene.seed,
        },
        "skipped": plan.skipped,
        # not empty where the command was interrupted
        "not_measured": [each.label for each in plan.subjects[len(findings) :]],
        "rules": [{"rule": each.label, **_plain(each)} for each in findings],
        "versions": versions(),
    }
    save_text(folder / FILES[0], json_text(json_value(described)), "certificate")
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, list[str](COLUMNS), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table_rows(findings))
    save_text(folder / FILES[1], lines.getvalue(), "certificate")
    return [folder / name for name in FILES[:2]]


def _plain(each: Findings) -> dict[str, Any]:
    parts = {name: getattr(each, name) for name in ("resilience", "robustness", "breakdown", "leak")}
    fields: dict[str, Any] = {}
    for name, part in parts.items():
        if part is not None:
            fields[name] = {
                **part._asdict(),
                "verdict": part.worst.verdict if name == "resilience" else part.verdict,
            }
    if each.resilience:
        fields["resilience"]["cases"] = [{**c._asdict(), "verdict": c.verdict} for c in each.resilience.cases]
        del fields["resilience"]["skipped"]
    return fields


def json_value(value: Any) -> Any:
    """A value as JSON takes it.

    Args:
        value: The value.

    Returns:
        Named tuples as mappings, and numbers that are not finite as texts.
    """
    if isinstance(value, dict):
        return {str(key): json_value(each) for key, each in value.items()}
    if hasattr(value, "_asdict"):
        return json_value(value._asdict())
    if isinstance(value, (list, tuple)):
        return [json_value(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    return value


def table_rows(findings: Sequence[Findings]) -> list[dict[str, Any]]:
    """The long table.

    Args:
        findings: The measurements.

    Returns:
        One row for each number: rule, part, case, quantity, value and, where known, interval, bound and words.
    """
    rows: list[dict[str, Any]] = []
    for each in findings:

        def row(part: str, case: Any, quantity: str, value: Any, rule: str = each.label, **more: Any) -> None:
            if isinstance(value, Estimate):
                more |= {"low": value.low, "high": value.high}
                value = value.value
            rows.append({"rule": rule, "part": part, "case": case, "quantity": quantity, "value": value, **more})

        if measured := each.resilience:
            for case in measured.cases:
                bound = measured.proven.value if measured.proven else ""
                row(
                    "resilience", case.attack, "sin_alpha", case.sine, bound=bound, verdict=case.verdict, note=case.note
                )
                row("resilience", case.attack, "inner_product", case.inner)
                for r, moment in zip(MOMENTS, case.moments, strict=True):
                    row("resilience", case.attack, f"moment_{r}", moment)
        if robust := each.robustness:
            bound = robust.bound.value if robust.bound else ""
            row("robustness", "search", "kappa", robust.found, bound=bound, verdict=robust.verdict, note=robust.where)
            row("robustness", "any rule", "kappa_lower", robust.lower)
        if broken := each.breakdown:
            num_byzantine = "" if broken.num_byzantine is None else broken.num_byzantine
            row("breakdown", "search", "num_byzantine", num_byzantine, verdict=broken.verdict, note=broken.pattern)
            for count, deviation in broken.curve.items():
                row("breakdown", count, "deviation", deviation)
            for name, window in (("empire", broken.epsilon), ("searched", broken.searched)):
                if window:
                    row("breakdown", name, "turned_from", window.low)
                    row("breakdown", name, "turned_to", window.high)
        if leaking := each.leak:
            for point in leaking.points:
                bound = "" if point.closed is None else point.closed
                row("leak", point.d, "deviation", point.value, bound=bound)
            row("leak", "fit", "slope", leaking.slope, verdict=leaking.verdict)
    return rows
