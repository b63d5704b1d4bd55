"""Mistakes of a person: the error that says one, and how a value stands in a message. Imports nothing that is slow."""

# Characters of a value in a message.
LONGEST_VALUE = 60


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
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    end = most // 3
    return f"{line[: most - end - 3]}...{line[len(line) - end :]}"
