"""The numbers of all targets as Markdown: the content of REPRODUCTION.md."""

import math
from collections.abc import Mapping
from pathlib import Path

from byzax.experiments.reproduction.reproducing import OUTCOME, names, read_outcome, read_target
from byzax.experiments.reproduction.target import Finding, Reproduction, Target

MEASURED = Path(__file__).parent / "measured"


def read_outcomes(folder: Path) -> dict[str, Reproduction]:
    """The outcomes below a folder.

    Args:
        folder: A folder with one of each target.

    Returns:
        The outcomes by name of their targets, in the order of the alphabet.

    Raises:
        ScenarioError: For a damaged file.
    """
    return {name: read_outcome(path) for name in names() if (path := folder / name / OUTCOME).is_file()}


def document(folder: Path, place: str) -> str:
    """A table of all targets, and a section for each that was run.

    Args:
        folder: Folder of the outcomes and figures, one of each target.
        place: The folder as links to its figures write it.

    Returns:
        Markdown.
    """
    outcomes = read_outcomes(folder)
    lines = ["| target | claim | paper | statements that hold | verdict |", "|---|---|---|---|---|"]
    for name in names():
        target, outcome = read_target(name), outcomes.get(name)
        source = f"{target.paper.partition(',')[0]}, {target.place}"
        if outcome is None:
            lines.append(f"| `{name}` | {target.title} | {source} |  | not run |")
            continue
        bounded = [each for each in outcome.measured if each.holds is not None]
        count = f"{sum(bool(each.holds) for each in bounded)} of {len(bounded)}" if bounded else ""
        lines.append(f"| [`{name}`](#{name}) | {target.title} | {source} | {count} | {_verdict(outcome)} |")
    sections = [
        section(name, outcome, f"{place}/{name}/{name}.png" if (folder / name / f"{name}.png").is_file() else None)
        for name, outcome in outcomes.items()
    ]
    return "\n".join(lines) + "\n\n" + "\n".join(sections)


def section(name: str, outcome: Reproduction, figure: str | None) -> str:
    """The section of a target.

    Args:
        name: Its name.
        outcome: Its numbers.
        figure: Path of its figure, as a link; None for none.

    Returns:
        Markdown.
    """
    target = read_target(name)
    lines = [
        f"## {name}",
        "",
        f"**{target.title}.** {target.paper}; {target.place}.",
        "",
        f"* **Claim**: {target.claim}",
        f"* **Setting**: {target.setting}",
        *([f"* **Other than in the paper**: {target.scaled}"] if target.scaled else []),
        f"* **Run**: {_run(target, outcome)}",
        f"* **Verdict**: {_verdict(outcome)}.{f' {target.remark}' if target.remark else ''}",
        "",
        *statement_table(outcome),
        "",
        *([f"![{target.title}: curves of the runs]({figure})", ""] if figure else []),
    ]
    return "\n".join(lines)


def statement_table(outcome: Reproduction) -> list[str]:
    """The statements of a target with their numbers, as lines of Markdown.

    Args:
        outcome: Its numbers.

    Returns:
        The lines.
    """
    rows = [[each.text, number_text(each), bound_text(each), holds_text(each)] for each in outcome.measured]
    head = ["| statement | measured | bound | holds |", "|---|---|---|---|"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def number_text(measured: Finding) -> str:
    """The mean of a statement with its interval and number of seeds."""
    text = _number(measured.mean)
    low, high = measured.interval
    if math.isfinite(low) and low != high:
        text += f" [{_number(low)}, {_number(high)}]"
    return f"{text} ({len(measured.values)})" if len(measured.values) > 1 else text


def bound_text(measured: Finding) -> str:
    """The bounds of a statement."""
    low, high = (None if bound is None else _number(bound) for bound in (measured.low, measured.high))
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else ""


def holds_text(measured: Finding) -> str:
    """Yes or no, as a statement holds, or nothing where it has no bound."""
    return "" if measured.holds is None else "yes" if measured.holds else "**no**"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def _verdict(outcome: Reproduction) -> str:
    return outcome.verdict if outcome.form == "full" else f"{outcome.verdict} (quick form)"


def _run(target: Target, outcome: Reproduction) -> str:
    links = ", ".join(f"`{name}.yaml`" for name in target.scenarios)
    data = f" with {outcome.data} in place of the data" if outcome.data else ""
    versions: Mapping[str, str] = outcome.versions
    said = ", ".join(f"{package} {version}" for package, version in versions.items())
    seconds = f", {outcome.seconds / 60:.0f} minutes of computing" if outcome.seconds >= 60 else ""
    runs = f"{outcome.runs} runs of {links}{data}{seconds}" if outcome.runs else "computed without training"
    return f"`{outcome.command}`, {outcome.date}; {runs}; {said}."
