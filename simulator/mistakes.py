"""Mistakes of a person: the error that says one, and how a value stands in a message. Imports nothing that is slow."""

from collections.abc import Sequence

# Characters of a value in a message; lines that are said at once; mistakes after which no more are looked for.
LONGEST_VALUE, MOST_LINES, MOST_MISTAKES = 60, 20, 1000


class ScenarioError(ValueError):
    """A mistake in what was asked, said in one line: the key, what is wrong and the way out."""


class Impossible(ScenarioError):
    """Numbers that do not go together, such as n and f of a rule: in a grid, what `skip_impossible` leaves out."""


def shown(value: object) -> str:
    """A value as it stands in a message: `repr` on one line, of no more than 60 characters.

    >>> shown("krum"), shown([1, 2.5])
    ("'krum'", '[1, 2.5]')
    >>> shown("a" * 300)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaa'"
    """
    return cut(repr(value))


def cut(text: str, most: int = LONGEST_VALUE) -> str:
    """A text on one line, its middle left out where it has more than `most` characters.

    >>> cut("a key"), cut("abcdefghijklmnopqrstuvwxyz", 12)
    ('a key', 'abcde...wxyz')
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    if len(line) <= most:
        return line
    end = most // 3
    return f"{line[: most - end - 3]}...{line[len(line) - end :]}"


def together(lines: Sequence[str], more: int = 0) -> str:
    """Mistakes, a line for each, and how many there are beside the first ones; `more`: those that have no line.

    >>> together(["a: is missing"])
    'a: is missing'
    """
    rest = max(0, len(lines) - MOST_LINES) + more
    return "\n".join([*lines[:MOST_LINES], *([f"and {rest} more of these: mend the first ones"] if rest else [])])
