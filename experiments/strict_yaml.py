"""YAML as scenarios are written in it: version 1.2, where `1e-3` is a number and `on` a word, and no key twice."""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from byzax.experiments.yaml_mistakes import explain
from byzax.members import reference_of
from byzax.simulator.mistakes import MOST_LINES, ScenarioError, quote, shorten

CORE = "tag:yaml.org,2002:"
STRING, MERGE = f"{CORE}str", f"{CORE}merge"
# The core schema of YAML 1.2. PyYAML's own is that of 1.1: 1e-3 is text, on, off, yes and no are switches, 010 is 8,
# 1:30 is 90 and 2026-01-01 a date.
SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


# Limits of a file: bytes, values (an alias counts as all that it repeats), and nesting of lists and mappings.
LARGEST, MOST_VALUES, DEEPEST = 1_000_000, 20_000, 50
# Digits of a whole number: no key takes more.
MOST_DIGITS = 100
# Longest description of a mistake, in characters.
LONGEST_PROBLEM = 300


class Loader(yaml.SafeLoader):
    """Reads YAML 1.2 as scenarios are written in it, and refuses what is ambiguous or too large."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        # by node: number of its values, and depth of their nesting
        self.sizes: dict[int, tuple[int, int]] = {}
        self.composed, self.inside = 0, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node, unless it is nested too deeply or has a tag."""
        event: Any = self.peek_event()
        self.composed += 1
        self.inside += 1
        if self.composed > MOST_VALUES:
            _refuse(f"more than {MOST_VALUES} values: no scenario needs so many", event.start_mark)
        if self.inside > DEEPEST:
            _refuse(NESTED, event.start_mark)
        name: Any = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent) and name in self.anchors and self.anchors[name].end_mark is None:
            _refuse(
                f"*{shorten(name)} stands inside of &{shorten(name)}: a value cannot contain itself", event.start_mark
            )
        if (tag := getattr(event, "tag", None)) is not None:
            shown = shorten(tag.replace(CORE, "!!"))
            _refuse(f"{shown}: a scenario has no tags: put a value that begins with ! in quotes",
                    event.start_mark)  # fmt: skip
        node = super().compose_node(parent, index)
        self.inside -= 1
        return node

    def compose_sequence_node(self, anchor: Any) -> yaml.SequenceNode:
        """A list, unless its aliases stand for too much."""
        node = super().compose_sequence_node(anchor)
        self._measure(node, node.value)
        return node

    def _measure(self, node: Any, parts: Iterable[Any]) -> None:
        """Refuses a node whose aliases and merges stand for too much. Those inside of it are measured already."""
        inner = [self.sizes.get(id(part), (1, 0)) for part in parts]
        size, depth = 1 + sum(size for size, _ in inner), 1 + max((depth for _, depth in inner), default=0)
        if size > MOST_VALUES:
            _refuse(f"with what its aliases (*) and merges (<<) repeat this holds more than {MOST_VALUES} values: "
                    "repeat less", node.start_mark)  # fmt: skip
        if depth > DEEPEST:
            _refuse(NESTED, node.start_mark)
        self.sizes[id(node)] = size, depth

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping, unless a key is no text or stands there twice."""
        node = super().compose_mapping_node(anchor)
        self._measure(node, [part for pair in node.value for part in pair])
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                problem = "a key must be text, and this is a list or a mapping"
            elif key.tag not in (STRING, MERGE):
                problem = f"a key must be text, got {quote(key.value)}: put it in quotes"
            elif node.flow_style and key.style is None and ":" in key.value and value.value == "":
                problem = f"{shorten(key.value)}: a space is missing after the colon"
            elif key.value in lines:
                problem = (
                    f"{shorten(key.value)}: this key stands here twice, first in line {lines[key.value]}: remove one"
                )
            else:
                lines[key.value] = line
                continue
            _refuse(problem, key.start_mark)
        return node


NESTED = f"more than {DEEPEST} lists and mappings in each other: this is nested too deeply"


def _refuse(problem: str, mark: Any) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


class Dumper(yaml.SafeDumper):
    """Writes YAML 1.2 that `Loader` reads back to the same value, without aliases."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        """Tells whether a value is written out each time; it always is."""
        return True


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    if len(text) > MOST_DIGITS:
        _refuse(f"a number of {len(text)} digits: at most {MOST_DIGITS} can be read", node.start_mark)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


for _tag, (_pattern, _first) in SCALARS.items():
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(f"{CORE}{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
Loader.add_constructor(f"{CORE}int", _integer)


# a function of the user's own is written as file.py:name
def _reference(dumper: Dumper, value: Any) -> Any:
    return dumper.represent_str(reference_of(value)) if callable(value) else dumper.represent_undefined(value)


Dumper.add_multi_representer(object, _reference)
# short lists stay on one line, as a person writes them
Dumper.add_representer(
    list,
    lambda dumper, items: dumper.represent_sequence(
        f"{CORE}seq", items, flow_style=not any(isinstance(item, (dict, list)) for item in items)
    ),
)


def parse_text(text: str, source: str) -> Any:
    """Parses a YAML text.

    Args:
        text: The text.
        source: Name of the text in errors.

    Returns:
        The value.

    Raises:
        ScenarioError: One line that begins with `source:line:column`.
    """
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark, problem = explain(error, text)
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise ScenarioError(f"{place}: {shorten(problem, LONGEST_PROBLEM)}") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position].split("\n")
        place = f"{source}:{len(before)}:{len(before[-1]) + 1}"
        raise ScenarioError(f"{place}: the character U+{ord(text[error.position]):04X} cannot stand in YAML") from None
    except RecursionError:
        raise ScenarioError(f"{source}: lists and mappings are nested too deeply") from None
    except ValueError as error:
        raise ScenarioError(f"{source}: no valid YAML: {error}") from None


def shipped(folder: str = "scenarios") -> dict[str, Path]:
    """The files that are installed with byzax, by the name that stands for each.

    Args:
        folder: `scenarios` or `certificates`.

    Returns:
        The file of each name.
    """
    return {file.stem: file for file in sorted(Path(__file__).with_name(folder).glob("*.yaml"))}


def is_shipped(path: Path, folder: str = "scenarios") -> bool:
    """Tells whether a path is no file, but the bare name of one that is installed with byzax."""
    return str(path) in shipped(folder) and not os.path.lexists(path)


def read_mapping(path: Path, needed: str = "name, data, rule and attack", folder: str = "scenarios") -> dict[str, Any]:
    """Reads a mapping from a YAML file.

    Args:
        path: The file; or, where there is no such file, the bare name of one that is installed with byzax.
        needed: The keys that it must have, in words for an error.
        folder: Of the files that are installed with byzax, `scenarios` or `certificates`.

    Returns:
        The mapping.

    Raises:
        ScenarioError: One line that begins with the file's name.
    """
    if path.suffix == ".py":
        raise ScenarioError(f"{path}: this is Python, and a scenario is YAML, in which it stands as rule: {path}:mine")
    try:
        with (shipped(folder)[str(path)] if is_shipped(path, folder) else path).open("rb") as file:
            held = file.read(LARGEST + 1)
        if len(held) > LARGEST:
            raise ScenarioError(f"{path}: is larger than {LARGEST // 10**6} MB: is this a scenario?")
        text = held.decode("utf-8-sig")
    except FileNotFoundError:
        beside = sorted(each.name for each in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        neighbours = f"; beside it: {', '.join(beside[:MOST_LINES])}" if beside else ""
        near = difflib.get_close_matches(path.stem, shipped(folder), n=1)
        known = f"did you mean {near[0]}, which comes with byzax? " if near else ""
        hint = f": {known}byzax list {folder} shows those that come with it, such as {next(iter(shipped(folder)))}"
        raise ScenarioError(f"{path}: no such file{neighbours}{hint}") from None
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: not text in UTF-8 (byte {error.start}): is this a scenario?") from None
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from None
    mapping = parse_text(text, str(path))
    if not isinstance(mapping, dict):
        what = "is empty" if mapping is None else f"holds {type(mapping).__name__} {quote(mapping)}"
        hint = ": is the space after a colon missing?" if isinstance(mapping, str) and ":" in mapping else ""
        raise ScenarioError(f"{path}: a mapping with at least {needed} is needed, the file {what}{hint}")
    return mapping


def dump(value: Any) -> str:
    """A value as YAML.

    Args:
        value: The value; keys keep their order.

    Returns:
        YAML that `parse_text` reads back to the same value.
    """
    # in ASCII: PyYAML does not read back every other character that it writes (U+0085 becomes a space)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=False, width=120)
