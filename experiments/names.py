"""Names for the choices of a grid: in messages, in tables, and in names of files."""

import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence

# A reason in a table; `error.txt` holds all of it.
LONGEST_REASON = 200


def counted(number: int, noun: str) -> str:
    """A number and its noun.

    Args:
        number: The number.
        noun: The noun, singular.

    Returns:
        The words.

    Example:
        >>> counted(1, "run"), counted(84, "run")
        ('1 run', '84 runs')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """A time in words.

    Args:
        seconds: The time.

    Returns:
        The words.

    Example:
        >>> duration(12.3), duration(300), duration(7200)
        ('12 s', '5 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def joined(words: Sequence[str]) -> str:
    """A list in words.

    Args:
        words: The items, at least one.

    Returns:
        The words.

    Example:
        >>> joined(["pre", "rule", "attack"]), joined(["rule"])
        ('pre, rule and attack', 'rule')
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def short(others: Mapping[str, str]) -> list[str]:
    """Choices with the last word of each key.

    Args:
        others: Values by dotted key.

    Returns:
        Such as `byzantine=3`, `partition=iid`.
    """
    return [f"{key.removesuffix('.name').rpartition('.')[2]}={value}" for key, value in others.items()]


def file_name(parts: Iterable[str], taken: Collection[str]) -> str:
    """A readable file name that every file system accepts.

    Args:
        parts: Parts of the name.
        taken: Names that are in use.

    Returns:
        A name that is not in use.
    """
    plain = "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.") for part in parts)[:150]
    name, count = plain, 1
    while name in taken:
        count += 1
        name = f"{plain}_{count}"
    return name


def one_line(text: str) -> str:
    """A message as one readable line, with the last line of a traceback in it, cut to fit a table.

    Args:
        text: The message.

    Returns:
        The line.

    Example:
        >>> one_line("work failed: Traceback (most recent call last):\\n  File ...\\nValueError: no")
        'work failed: ValueError: no'
    """
    message, _, trace = text.partition("Traceback (most recent call last):")
    last = next((line for line in reversed(trace.splitlines()) if line.strip()), "")
    return textwrap.shorten(f"{message} {last}", LONGEST_REASON, placeholder=" ...")
