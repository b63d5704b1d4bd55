"""Errors about mistakes in a scenario, and values in their messages. Imports nothing that is slow."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Most characters of a value in a message; most lines of a message; number of mistakes after which the checks stop.
LONGEST_VALUE, MOST_LINES, MOST_MISTAKES = 60, 20, 1000


class ScenarioError(ValueError):
    """A mistake in a scenario, in one line: the key, what is wrong and what would work."""


class Impossible(ScenarioError):
    """Numbers that do not go together, such as n and f of a rule; `skip_impossible` leaves such runs of a grid out."""


@contextmanager
def prefix_errors(source: str | Path) -> Iterator[None]:
    """Prefixes every line of a ScenarioError from inside with its source.

    Args:
        source: Such as the name of a file; empty for no prefix.
    """
    try:
        yield
    except ScenarioError as error:
        if not str(source):
            raise
        raise type(error)("\n".join(f"{source}: {line}" for line in str(error).splitlines())) from None


def quote(value: object) -> str:
    """Quotes a value for a message.

    Args:
        value: The value.

    Returns:
        Its `repr` on one line, of no more than `LONGEST_VALUE` characters.

    Example:
        >>> quote("krum"), quote([1, 2.5])
        ("'krum'", '[1, 2.5]')
        >>> quote("a" * 300)
        "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaa'"
    """
    return shorten(repr(value))


def shorten(text: str, most: int = LONGEST_VALUE) -> str:
    """Shortens a text to one line.

    Args:
        text: The text.
        most: Most characters.

    Returns:
        The text on one line, its middle replaced by dots where it has more characters.

    Example:
        >>> shorten("a key"), shorten("abcdefghijklmnopqrstuvwxyz", 12)
        ('a key', 'abcde...wxyz')
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    if len(line) <= most:
        return line
    end = most // 3
    return f"{line[: most - end - 3]}...{line[len(line) - end :]}"


def join_lines(lines: Sequence[str], more: int = 0) -> str:
    """Joins the lines of a message.

    Args:
        lines: A line for each mistake.
        more: Number of further mistakes without a line.

    Returns:
        At most `MOST_LINES` of the lines, and one that counts the other mistakes.

    Example:
        >>> join_lines(["a: is missing"])
        'a: is missing'
    """
    rest = max(0, len(lines) - MOST_LINES) + more
    return "\n".join([*lines[:MOST_LINES], *([f"and {rest} more of these: mend the first ones"] if rest else [])])


def choices_in_words(choices: Mapping[str, Any]) -> str:
    """The choices of a run of a grid in words.

    Args:
        choices: The value of each swept key.

    Returns:
        Such as `rule.name=krum, workers.byzantine=7`.
    """
    return ", ".join(f"{shorten(key)}={shorten(on_one_line(value))}" for key, value in choices.items())


def on_one_line(value: Any) -> str:
    """A value of a scenario on one line.

    Args:
        value: As in YAML, or a function.

    Returns:
        Such as `empire epsilon=10` for a part, the name of a function, the YAML value for others.
    """
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
    """The name of a part in tables and messages.

    Args:
        name: A name, `path/to/file.py:name`, or a function.

    Returns:
        The last part of it.

    Example:
        >>> label_of("krum"), label_of("rules.py:mine"), label_of(label_of)
        ('krum', 'mine', 'label_of')
    """
    if callable(name):
        name = getattr(name, "__name__", type(name).__name__)
    path, _, last = str(name).rpartition(":")
    return last if path.endswith(".py") else str(name).strip("<>")
