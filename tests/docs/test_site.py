"""The documentation as a site: what it makes from the code, its links, its notebooks."""

import html
import inspect
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import unquote

import pytest

from byzax import members
from byzax.experiments import listing
from byzax.simulator.config.study import Study
from byzax.simulator.diagnostics import Update
from tests.docs.pages import DOCS, PAGES, ROOT, name

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
PROSE = [*PAGES, *(ROOT / file for file in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
# executors are few, and stand in a table of their own
KINDS = [kind for kind in listing.KINDS if kind != "executors"]


@pytest.fixture(scope="module")
def hooks():
    spec = spec_from_file_location("hooks", DOCS / "hooks.py")
    made = module_from_spec(spec)
    before = os.environ["BYZAX_PLUGINS"]
    spec.loader.exec_module(made)
    os.environ["BYZAX_PLUGINS"] = before
    return made


@pytest.mark.parametrize("kind", listing.KINDS)
def test_every_kind_has_its_table_on_one_page(kind):
    with_table = [name(page) for page in PAGES if f"<!-- table: {kind} -->" in page.read_text()]
    assert len(with_table) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_options_on_one_page(kind):
    assert len([page for page in PAGES if f"<!-- options: {kind} -->" in page.read_text()]) == 1


@pytest.mark.parametrize("kind", listing.KINDS)
def test_tables_say_what_the_code_says(hooks, kind):
    table = hooks.table(kind)
    for part, function in listing.functions(kind)[0].items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{part}` |")]
        # what Markdown needs escaped reads as it does in the docstring
        read = re.sub(r"\\(.)", r"\1", row)
        text = inspect.getdoc(function) or ""
        # but for the shapes of a rule, which are the same for all
        summary = re.sub(r",? `\[n, d\].*`", "", text.split("\n")[0])
        shown = {name: said for name, said in listing.fields(text).items() if name in listing.KINDS[kind][1]}
        for said in (summary, *shown.values()):
            # names of options stay code
            assert said in read, part


@pytest.mark.parametrize("kind", listing.KINDS)
def test_every_option_that_is_null_by_default_is_explained(hooks, kind):
    options = hooks.options(kind)
    for part, function in listing.functions(kind)[0].items():
        if kind == "executors":
            continue
        null = [option.removesuffix(": null") for option in listing.options(function) if option.endswith(": null")]
        said = listing.nulls(function)
        assert [*said] == null, part
        assert all(said.values()), f"{part}: `None: ...` at the end of each says what it stands for: {said}"
        (row,) = [line for line in options.splitlines() if line.startswith(f"| `{part}` |")]
        assert all(f"`{option}`: " in row for option in null), row


def test_every_key_of_a_scenario_is_on_its_page(hooks):
    rows = re.findall(r"^\| `([\w. ()]+)` \| (.*) \| (.*) \| (.*) \|$", hooks.keys(), re.MULTILINE)
    found = [key for key, *_ in rows]
    assert set(Study.model_fields) <= set(found)
    assert {"workers.byzantine.count", "data.partition", "attack.from", "latency.crashes.worker"} <= set(found)
    assert len(found) == len(set(found))
    assert all(value and default for _, value, default, _ in rows)


def test_pages_hold_what_the_code_says():
    command = [sys.executable, str(DOCS / "hooks.py"), "--check"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_field_of_an_update_is_on_its_page(hooks):
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", hooks.attributes("byzax.simulator.diagnostics.Update"), re.MULTILINE)
    assert [name for name, _ in rows] == [*Update._fields]


def test_every_comment_of_a_page_begins_or_ends_a_part_of_it(hooks):
    for page in PAGES:
        text = page.read_text()
        assert text.count("<!--") == 2 * len(hooks.MARKED.findall(text)), name(page)


@pytest.mark.parametrize("page", PROSE, ids=name)
def test_links_between_files_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)\s]+)\)", page.read_text()):
        assert (page.parent / unquote(target.partition("#")[0])).exists(), f"{name(page)}: {target}"


def test_figures_are_small():
    for figure in (DOCS / "figures").iterdir():
        assert figure.stat().st_size < 150_000, figure.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_with_what_they_showed(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell["outputs"] for cell in cells)
    outputs = [each for cell in cells for each in cell["outputs"]]
    assert not [each for each in outputs if each["output_type"] == "error" or each.get("name") == "stderr"]
    assert [each for each in outputs if "image/png" in each.get("data", {})], "no figure is shown"


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("nbclient"), reason="nbclient is not there: make docs installs it")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    import nbclient
    import nbformat

    monkeypatch.setenv("BYZAX_PLUGINS", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    notebook = nbformat.read(path, 4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built strictly: a warning is an error."""
    if not find_spec("mkdocs"):
        pytest.skip("mkdocs is not there: make docs installs it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    # what comes from elsewhere would be asked for through this proxy, where nobody answers
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **offline}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_links_of_the_site_lead_somewhere(site):
    pages = {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}
    anchors = {path: set(re.findall(r'\sid="([^"]+)"', text)) for path, text in pages.items()}
    broken = []
    for path, text in pages.items():
        if path == "404.html":
            continue
        for link in map(html.unescape, re.findall(r'<(?:a|img|link|script)[^>]*?\s(?:href|src)="([^"]*)"', text)):
            target, _, anchor = link.partition("#")
            if re.match(r"\w+:|//", target):
                continue
            place = (Path(path).parent / unquote(target)) if target else Path(path)
            file = Path(os.path.normpath(site / place))
            found = file.relative_to(site).as_posix() if file.is_relative_to(site) else "outside"
            if not file.exists() or (anchor and found in anchors and unquote(anchor) not in anchors[found]):
                broken.append(f"{path}: {link}")
    assert not broken


@pytest.mark.slow
def test_the_site_is_read_offline(site):
    for path in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)[^>]*?\s(?:src|href)="(https?://[^"]*)"', path.read_text())
        assert not loaded, path


@pytest.mark.slow
def test_the_site_holds_every_part(site):
    text = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    # those of optimizers are made of optax's, and have a table
    for kind in set(KINDS) - {"optimizers"}:
        for part, function in listing.functions(kind)[0].items():
            # parts that only the tests have are no part of the site
            if "plugins" not in members.file_of(function):
                assert f'id="{function.__module__}.{part}"' in text, part
