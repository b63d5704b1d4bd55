"""The pages of the documentation as tests see them: blocks of code with their language, title and marks."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# the README is the first page of the site
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code.

    Attributes:
        language: Such as `python`.
        title: The file that holds it, as the reader sees it; empty without one.
        text: Its lines.
    """

    language: str
    title: str
    text: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in these languages, in order."""
    found = [Block(*match) for match in BLOCK.findall(page.read_text(encoding="utf-8"))]
    return [block for block in found if block.language in languages]


def name(page: Path) -> str:
    """The name of a page in tests."""
    return str(page.relative_to(ROOT))
