"""Names for what a grid chose: in messages, in tables, and as names of files."""

import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence

# A reason in a table; `error.txt` holds all of it.
LONGEST_REASON = 200


def counted(number: int, noun: str) -> str:
    """A number and what it counts.

    >>> counted(1, "run"), counted(84, "run")
    ('1 run', '84 runs')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def joined(words: Sequence[str]) -> str:
    """Words as a person lists them.

    >>> joined(["pre", "rule", "attack"]), joined(["rule"])
    ('pre, rule and attack', 'rule')
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def short(others: Mapping[str, str]) -> list[str]:
    """The choices with the last word of each key: `byzantine=3`, `partition=iid`."""
    return [f"{key.removesuffix('.name').rpartition('.')[2]}={value}" for key, value in others.items()]


def file_name(parts: Iterable[str], taken: Collection[str]) -> str:
    """A readable name that any file system takes and that is not among those taken."""
    plain = "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.") for part in parts)[:150]
    name, count = plain, 1
    while name in taken:
        count += 1
        name = f"{plain}_{count}"
    return name


def one_line(text: str) -> str:
    """A message as one readable line: of a traceback in it the last line, and no more than fits a table.

    >>> one_line("work failed: Traceback (most recent call last):\\n  File ...\\nValueError: no")
    'work failed: ValueError: no'
    """
    said, _, trace = text.partition("Traceback (most recent call last):")
    last = next((line for line in reversed(trace.splitlines()) if line.strip()), "")
    return textwrap.shorten(f"{said} {last}", LONGEST_REASON, placeholder=" ...")
