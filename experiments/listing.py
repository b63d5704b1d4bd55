"""Tables of the names that a scenario can use, made from the docstrings and signatures of their functions."""

import inspect
import itertools
import re
from collections.abc import Callable
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from byzax import members
from byzax.experiments.strict_yaml import shipped
from byzax.members import PluginError
from byzax.simulator.config.executors import EXECUTORS
from byzax.simulator.mistakes import on_one_line

# What can be listed, its kind among byzax.members.KINDS, and the fields of a docstring that are worth a column.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rules": ("rule", ("Condition", "Cost", "References")),
    "pre": ("pre", ("Condition", "Cost", "References")),
    "filters": ("filter", ("Condition", "Cost", "References")),
    "attacks": ("attack", ("Formula", "Knows", "References")),
    "models": ("model", ("Size", "References")),
    "data": ("data", ("Samples", "References")),
    "partitions": ("partition", ("Splits", "References")),
    "augmentations": ("augmentation", ("Formula", "References")),
    "schedules": ("schedule", ("Waits", "Ages", "References")),
    "timings": ("timing", ("Sends", "Model", "References")),
    "topologies": ("topology", ("Sends", "Rule", "References")),
    "transforms": ("transform", ("Formula", "Bits", "Error", "References")),
    "graphs": ("graph", ("Neighbours", "References")),
    "mixing": ("mixing", ("Condition", "Cost", "References")),
    "latency": ("latency", ("Formula", "References")),
    "rates": ("rate", ("Formula", "References")),
    "optimizers": ("optimizer", ()),
    "loggers": ("logger", ("References",)),
    "executors": ("", ()),
}


def functions(kind: str) -> tuple[dict[str, Callable[..., Any]], list[str]]:
    """The functions of a kind by name, and a line for each file that cannot be used."""
    member = KINDS[kind][0]
    if not member:
        return dict(EXECUTORS), []
    factories, unusable = {}, []
    for name in members.available(member):
        try:
            factories[name] = members.find(member, name)
        except PluginError as error:
            unusable.append(str(error))
    return factories, unusable


def names(kind: str) -> tuple[str, ...]:
    """The names of a kind; nothing is loaded."""
    return members.available(KINDS[kind][0]) if KINDS[kind][0] else tuple(EXECUTORS)


def kinds() -> Table:
    """One row per kind: how many names there are, the first of them, and the command that lists them all."""
    overview = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title="what a scenario can name", title_justify="left")
    overview.add_column("kind", style="bold", no_wrap=True)
    overview.add_column("names", justify="right")
    overview.add_column("such as", ratio=2)
    overview.add_column("all of them", no_wrap=True)
    for kind in KINDS:
        known = names(kind)
        overview.add_row(kind, str(len(known)), Text(", ".join(known[:6])), f"byzax list {kind}")
    for folder in ("scenarios", "certificates"):
        known = [*shipped(folder)]
        overview.add_row(folder, str(len(known)), Text(", ".join(known[:6])), f"byzax list {folder}")
    return overview


def files(folder: str) -> Table:
    """One row per file that comes with byzax: its name, and the first sentence of its first comment.

    Args:
        folder: `scenarios` or `certificates`.
    """
    found = shipped(folder)
    place = next(iter(found.values())).parent
    listed = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"{folder}, in {place}", title_justify="left")
    listed.add_column("name", style="bold", no_wrap=True)
    listed.add_column("what it shows", ratio=1)
    for name, file in found.items():
        comment = itertools.takewhile(lambda line: line.startswith("# "), file.read_text().splitlines())
        first, _, _ = " ".join(line[2:] for line in comment).partition(". ")
        listed.add_row(name, Text(_plain(first.rstrip(".:"))))
    return listed


def table(kind: str) -> Table:
    """One row per name: what it is, its fields, and its options with their defaults."""
    (factories, _), columns = functions(kind), KINDS[kind][1]
    listed = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 1, 0), title=kind, title_style="bold", title_justify="left")
    listed.add_column("name", style="bold", no_wrap=True)
    listed.add_column("what it is", ratio=3)
    for column in columns:
        listed.add_column(_heading(column), ratio=2)
    listed.add_column("options and defaults", ratio=2)
    for name, function in factories.items():
        text = inspect.getdoc(function) or ""
        chosen = fields(text)
        cells = [Text(_plain(chosen.get(column, ""))) for column in columns]
        listed.add_row(name, Text(_plain(text.split("\n")[0])), *cells, Text("\n".join(options(function))))
    return listed


def markdown(kind: str) -> str:
    """The same as a table in Markdown, without the options: what the documentation holds of each kind."""
    (factories, _), columns = functions(kind), KINDS[kind][1]
    lines = [f"| {' | '.join([kind, 'what it is', *map(_heading, columns)])} |", f"|{'---|' * (2 + len(columns))}"]
    for name, function in factories.items():
        text = inspect.getdoc(function) or ""
        chosen = fields(text)
        what = re.sub(r",? `\[n, d\] -> \[[^]]*\]`", "", text.split("\n")[0])
        cells = [f"`{name}`", what, *(chosen.get(column, "") for column in columns)]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def fields(text: str) -> dict[str, str]:
    """The fields of a docstring that stand on a line of their own, and its first reference.

    Args:
        text: A docstring: `Condition: n >= 2f + 3`, with the lines that continue it, and a section `References:`.

    Returns:
        The text of each by its name, on one line.
    """
    values = {
        name: " ".join(value.split())
        for name, value in re.findall(r"^([A-Z][a-z]+): *(\S.*(?:\n(?![A-Z][a-z]+:) *\S.*)*)", text, re.MULTILINE)
    }
    if section := re.search(r"^References:\n((?: +\S.*\n?)+)", text, re.MULTILINE):
        first, *rest = section[1].splitlines()
        indent = len(first) - len(first.lstrip())
        more = itertools.takewhile(lambda line: len(line) - len(line.lstrip()) > indent, rest)
        values["References"] = " ".join([first.strip(), *(line.strip() for line in more)])
    return values


def nulls(function: Callable[..., Any]) -> dict[str, str]:
    """The meaning of null, of each option of a factory that is null by default.

    Args:
        function: A factory whose docstring says `None: ...` at the end of such an option.

    Returns:
        The text of each by its name, on one line.
    """
    if hasattr(function, "model_fields"):
        return {}
    text, found = inspect.getdoc(function) or "", {}
    for option in inspect.signature(function).parameters.values():
        if option.kind is option.KEYWORD_ONLY and option.default is None:
            *_, said = re.findall(rf"^ +{option.name}: (.*(?:\n {{8,}}.*)*)", text, re.MULTILINE)
            found[option.name] = " ".join(said.split()).partition("None: ")[2].rstrip(".")
    return found


def options(function: Callable[..., Any]) -> list[str]:
    """`name: default` for every option of a factory, and for every field of a description; `required` without one."""
    if hasattr(function, "model_fields"):
        described = function.model_fields.items()  # pyright: ignore[reportFunctionMemberAccess]
        return [f"{name}: {on_one_line(field.default)}" for name, field in described if name != "name"]
    return [
        f"{option.name}: {'required' if option.default is option.empty else on_one_line(option.default)}"
        for option in inspect.signature(function).parameters.values()
        if option.kind is option.KEYWORD_ONLY
    ]


def _heading(column: str) -> str:
    return "source" if column == "References" else column.lower()


def _plain(text: str) -> str:
    return text.replace("`", "")
