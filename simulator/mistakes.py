"""Mistakes of a person: the error that says one, and how a value stands in a message. Imports nothing that is slow."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

# Characters of a value in a message; lines that are said at once; mistakes after which no more are looked for.
LONGEST_VALUE, MOST_LINES, MOST_MISTAKES = 60, 20, 1000


class ScenarioError(ValueError):
    """A mistake in what was asked, said in one line: the key, what is wrong and the way out."""


class Impossible(ScenarioError):
    """Numbers that do not go together, such as n and f of a rule: in a grid, what `skip_impossible` leaves out."""


def quote(value: object) -> str:
    """A value as it stands in a message: `repr` on one line, of no more than 60 characters.

    >>> shown("krum"), shown([1, 2.5])
    ("'krum'", '[1, 2.5]')
    >>> shown("a" * 300)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaa'"
    """
    return shorten(repr(value))


def shorten(text: str, most: int = LONGEST_VALUE) -> str:
    """A text on one line, its middle left out where it has more than `most` characters.

    >>> cut("a key"), cut("abcdefghijklmnopqrstuvwxyz", 12)
    ('a key', 'abcde...wxyz')
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    if len(line) <= most:
        return line
    end = most // 3
    return f"{line[: most - end - 3]}...{line[len(line) - end :]}"


def join_lines(lines: Sequence[str], more: int = 0) -> str:
    """Mistakes, a line for each, and how many there are beside the first ones; `more`: those that have no line.

    >>> together(["a: is missing"])
    'a: is missing'
    """
    rest = max(0, len(lines) - MOST_LINES) + more
    return "\n".join([*lines[:MOST_LINES], *([f"and {rest} more of these: mend the first ones"] if rest else [])])


def choices_in_words(choices: Mapping[str, Any]) -> str:
    """The choices in words: `rule.name=krum, workers.byzantine=7`."""
    return ", ".join(f"{shorten(key)}={shorten(on_one_line(value))}" for key, value in choices.items())


def on_one_line(value: Any) -> str:
    """A value on one line: `empire epsilon=10` for a part, the YAML value for others; of a function its name."""
    if isinstance(value, Mapping):
        inner = [f"{key}={on_one_line(each)}" for key, each in value.items() if key != "name"]
        return " ".join([*([label_of(value["name"])] if "name" in value else []), *inner])
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(on_one_line(each) for each in value)}]"
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    if callable(value):
        return label_of(value)
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def label_of(name: Any) -> str:
    """A part's name as tables say it: `mine` of `path/to/file.py:mine`, and of a function.

    >>> label_of("krum"), label_of("rules.py:mine"), label_of(label_of)
    ('krum', 'mine', 'label_of')
    """
    if callable(name):
        return getattr(name, "__name__", type(name).__name__)
    path, _, last = str(name).rpartition(":")
    return last if path.endswith(".py") else str(name).strip("<>")
