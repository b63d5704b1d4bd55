"""Explanations of PyYAML's errors for authors of scenarios."""

import re
from collections.abc import Callable
from typing import Any

import yaml

# a fixed text, or a function of the match, the error and the lines of the text
Explanation = str | Callable[[re.Match[str], Any, list[str]], str]
CLOSES = {"[": "]", "{": "}"}


def explain(error: yaml.MarkedYAMLError, text: str) -> tuple[yaml.Mark | None, str]:
    """Explains a mistake in a YAML text.

    Args:
        error: The error of PyYAML.
        text: The text.

    Returns:
        The place of the mistake, None where it is not known, and one line with the way out.
    """
    problem = " ".join((error.problem or error.context or "no valid YAML").split())
    mark = error.problem_mark or error.context_mark
    for pattern, explanation in MISTAKES.items():
        if match := re.search(pattern, problem):
            # these are found at the end of the text or a line too late
            if pattern in BEGIN and error.context_mark:
                mark = error.context_mark
            explained = explanation if isinstance(explanation, str) else explanation(match, error, text.splitlines())
            return mark, explained
    return mark, problem


def _unclosed(match: re.Match[str], error: Any, lines: list[str]) -> str:
    wanted, got = match[1], match[2]
    opening = next(bracket for bracket, closing in CLOSES.items() if closing == wanted)
    begin = f"the {opening} of line {error.context_mark.line + 1}"
    if got in CLOSES.values():
        return f"this {got} does not close {begin}: a {wanted} is needed"
    return f"a comma or a {wanted} is missing before this place: {begin} is not closed"


def _colon(match: re.Match[str], error: Any, lines: list[str]) -> str:
    mark = error.problem_mark
    line = lines[mark.line]
    if re.search(r":\s", line[: mark.column]):
        return "a second ': ' in one line: put a value that holds ': ' in quotes, and each key on a line of its own"
    above = next((each for each in reversed(lines[: mark.line]) if each.strip()), "")
    if not above:
        return (
            "this colon cannot stand here: put the text before it in quotes, or make it shorter than 1,024 characters"
        )
    if _indent(line) > _indent(above):
        return (
            "this line is indented deeper than the one above it, which has a value already: give keys of one mapping "
            "the same indentation"
        )
    return f"the line above, {above.strip()[:40]!r}, is no 'key: value': a colon or the space after it is missing"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _no_colon(match: re.Match[str], error: Any, lines: list[str]) -> str:
    begun = lines[error.context_mark.line][error.context_mark.column :].strip()
    return f"{begun[:40]!r} is no 'key: value': a colon or the space after it is missing"


def _misplaced(match: re.Match[str], error: Any, lines: list[str]) -> str:
    got, first = match[1], error.context_mark.line + 1 if error.context_mark else 1
    match got:
        case "<block mapping start>" | "<block sequence start>":
            return (
                f"the indentation fits no line of the level around it, which begins in line {first}: give keys of one "
                f"mapping the same indentation"
            )
        case "-":
            return f"a list item (- ) among the keys that begin in line {first}: indent it below its key"
        case "?":
            return f"a key among the list items that begin in line {first}: indent it, or give its item a '- '"
        case "]" | "}":
            return f"this {got} closes nothing: remove it"
        case ":":
            return "a key is missing before this colon"
        case _:
            return "text after a value that is complete: put the whole value in quotes, or remove one part"


MISTAKES: dict[str, Explanation] = {
    r"expected ',' or '([\]}])', but got '(.*)'": _unclosed,
    "mapping values are not allowed here": _colon,
    "could not find expected ':'": _no_colon,
    "expected <block end>, but found '(.*)'": _misplaced,
    r"found character '\\t'": "YAML indents with spaces, not with tabs",
    "found character '(.)' that cannot start": lambda found, *_: (
        f"a value cannot begin with {found[1]}: put it in quotes"
    ),
    "found unexpected (?:end of stream|document separator)": "this quote is not closed",
    "second occurrence": lambda found, error, _: (
        f"this anchor (&) stands here for the second time, first in line {error.context_mark.line + 1}: "
        f"choose another name"
    ),
    "found undefined alias '(.*)'": lambda found, *_: (
        f"no &{found[1]} stands before *{found[1]}: put a value that begins with * in quotes"
    ),
    "expected alphabetic or numeric character": lambda found, error, _: (
        "a name is missing here: put a value that begins with & or * in quotes"
    ),
    "found unknown escape character '(.*)'": lambda found, *_: (
        f"\\{found[1]} has no meaning in double quotes: use single quotes, or \\\\ for a backslash"
    ),
    "found another document|expected '<document start>'": "a second document begins here: one scenario per file",
    "for merging": "<< needs a mapping, such as the alias of one (<<: *name)",
    "expected a comment or a line break": (
        "the text after | or > begins on a line of its own: put a value that begins with | or > in quotes"
    ),
    "sequence entries are not allowed": (
        "a list item (- ) cannot stand here: give it a line of its own, or write the list as [a, b]"
    ),
}
BEGIN = {"could not find expected ':'", "found unexpected (?:end of stream|document separator)"}
