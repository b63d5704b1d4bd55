"""Names in README, documentation, ARCHITECTURE and CONTRIBUTING: what they name is there."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

from byzax.members import KINDS
from tests.docs.pages import PAGES, ROOT, name

PROSE = [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]
SOURCES = ("src/byzax", "aggregators", "attacks", "models", "simulator", "experiments", "tests", "docs")
FOLDERS = tuple(f"{folder}/" for folder in SOURCES)
FILE = re.compile(r"[\w-]+\.(?:py|md|toml|lock|ya?ml)")
IDENTIFIER = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?=\(|$)")
# files that the text speaks of, and that are not of the repository
FOREIGN = {
    "mine.py", "models.py", "simulator.py",  # a user's own
    "scenario.yaml", "summary.md", "tuned.yaml",  # of results
}  # fmt: skip
# of entry points, and no modules
GROUPS = {f"byzax.{kind.folder}" for kind in KINDS.values()}


def codes(page: Path) -> list[str]:
    """The words in backticks in the text of a page, blocks and parts that are made from the code aside."""
    text = re.sub(
        r"^```.*?^```$|^<!-- (?:keys|help|options|table).*?^<!-- end -->", "", page.read_text(), flags=re.S | re.M
    )
    return sorted(set(re.findall(r"`([^`\n]+)`", text)))


@pytest.fixture(scope="module")
def words():
    """Every word of the source."""
    files = [file for folder in SOURCES for file in (ROOT / folder).rglob("*.py") if not file.is_symlink()]
    return {word for file in files for word in re.findall(r"\w+", file.read_text())}


@pytest.fixture(scope="module")
def file_names():
    """The names of the files at the root and in the folders."""
    places = [*ROOT.glob("*"), *(file for folder in SOURCES for file in (ROOT / folder).rglob("*.*"))]
    return {file.name for file in places} | FOREIGN


@pytest.mark.parametrize("page", [*PROSE, ROOT / "CHANGELOG.md"], ids=name)
def test_files_that_a_page_names_are_there(page, file_names):
    for code in codes(page):
        for word in code.split():
            path = word.partition("::")[0].partition(":")[0]
            if path.startswith(FOLDERS):
                assert (ROOT / path).exists(), code
            elif FILE.fullmatch(word):
                assert word in file_names, code


@pytest.mark.parametrize("page", PROSE, ids=name)
def test_names_of_the_code_that_a_page_names_are_there(page, words):
    for code in codes(page):
        found = IDENTIFIER.match(code)
        if found is None or FILE.fullmatch(code):
            continue
        first, *rest = found[0].split(".")
        if found[0] in GROUPS:
            continue
        if first == "byzax":
            modules = [each for each in rest[:-1] if each.islower()]
            parent = importlib.import_module(".".join([first, *modules]))
            reduce(getattr, rest[len(modules) :], parent)
        else:
            assert words.issuperset({first, *rest}), code


@pytest.mark.parametrize("page", PROSE, ids=name)
def test_what_a_page_says_a_file_holds_is_defined_there(page):
    for word, path in re.findall(r"`(\w+)`\)? (?:in|of) `([\w./]+\.py)`", page.read_text()):
        assert re.search(rf"^\s*(?:def|class) {word}\b|^\s*{word}\b *[:=]", (ROOT / path).read_text(), re.MULTILINE), (
            word
        )
