"""Examples of README and documentation: what is written there runs.

Blocks of Python share the names of their page, and blocks with a title are written to a file of that name. Blocks of
YAML are keys of a scenario. In blocks of `console` lines after `$ ` are commands, and lines below one what it prints.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
from typing import Any

import matplotlib
import pytest
import typer

from byzax import members
from byzax.aggregators import Aggregator, Context, Info
from byzax.aggregators.filters import Filter, Sent
from byzax.aggregators.pre import Mixer
from byzax.attacks import Answer, Attack, Batch, View
from byzax.attacks.base import Goal
from byzax.experiments.certify.description import PARTS, load
from byzax.experiments.cli import app
from byzax.experiments.strict_yaml import dump, parse_text
from byzax.experiments.study import read_scenario
from byzax.models import Model
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.grid import expand
from byzax.simulator.config.study import Study
from byzax.simulator.data import Dataset
from byzax.simulator.partitions import Samples
from byzax.simulator.schedules import Board, Schedule, Situation
from byzax.simulator.transforms import Transform, WireKeys
from byzax.simulator.validation import validate
from tests.docs.pages import PAGES, ROOT, blocks, name

BASE = {"name": "page", "data": "digits", "model": "softmax", "rule": "average", "attack": "none"}
RUNS = [page for page in PAGES if blocks(page, "python")]
DESCRIPTIONS = [page for page in PAGES if blocks(page, "yaml")]
COMMANDS = [page for page in PAGES if blocks(page, "console")]
# the types that a function of the user's own gives or is given
DESCRIBED: dict[str, tuple[Any, ...]] = {
    "rule": (Aggregator, Info, Context),
    "pre": (Mixer,),
    "filter": (Filter, Sent),
    "attack": (Attack, View, Answer, Batch, Goal),
    "model": (Model,),
    "data": (Dataset,),
    "partition": (Samples,),
    "schedule": (Schedule, Board, Situation),
    "transform": (Transform, WireKeys),
}
# pages whose Python trains models
SLOW = {
    "README.md",
    "docs/python.md",
    "docs/start.md",
    "docs/own-parts.md",
    "docs/own-topology.md",
    "docs/topologies.md",
}
# minutes each, and tested where they are made
LONG = ("byzax bench", "byzax certify")
# scenarios that run as they are; of others the first combination runs for a few updates
SHORT = ("quickstart", "race")
FEW = "--set steps=4 --set evaluate_every=2 --set repeats=1"


def scenarios(page):
    """The mappings in the YAML of a page; of lines with one key again and again each is one of its own."""
    for block in blocks(page, "yaml"):
        lines = [line for line in block.text.splitlines() if line]
        repeated = len(lines) > 1 and len({line.split(":")[0] for line in lines}) == 1
        for text in lines if repeated else [block.text]:
            # the page puts its attack into a folder of plug-ins
            mapping = parse_text(text.replace("name: mirror", "name: 'attacks/mirror.py:mirror'"), name(page))
            yield mapping


def write_files(page, folder):
    """Writes the blocks of a page that have a title, and what they name."""
    for block in blocks(page, "python", "yaml"):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    (folder / "experiments").symlink_to(ROOT / "experiments")


@pytest.mark.parametrize("page", DESCRIPTIONS, ids=name)
def test_yaml_of_a_page_is_a_scenario_or_a_part_of_one(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    for mapping in scenarios(page):
        if "parts" in mapping:
            (tmp_path / "certificate.yaml").write_text(dump(mapping))
            asked = load(tmp_path / "certificate.yaml", {})
            assert [part.name for part in asked.subjects] == ["krum", "bulyan"]
            assert asked.gradients is not None
            assert asked.parts == PARTS
        else:
            expand(parse_as(Study, BASE | extended(mapping, tmp_path)))


def extended(mapping, folder):
    """A scenario with what it extends, a file of its page."""
    (folder / "extending.yaml").write_text(dump(mapping))
    return read_scenario(folder / "extending.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("page", DESCRIPTIONS, ids=name)
def test_yaml_of_a_page_can_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    for mapping in scenarios(page):
        data = mapping.get("data", "digits")
        # files of other data are not there
        if "parts" not in mapping and (data == "digits" or data["name"] == "digits"):
            validate(parse_as(Study, BASE | extended(mapping, tmp_path)))


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (name(page) in SLOW), id=name(page)) for page in RUNS]
)
def test_python_of_a_page_runs(page, tmp_path, monkeypatch):
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    script = tmp_path / "page.py"
    script.write_text("".join(block.text for block in blocks(page, "python")))
    runpy.run_path(str(script), run_name="__main__")


def commands(page):
    """Each command of a page, and the lines that it shall print."""
    for block in blocks(page, "console"):
        for each in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, *printed = each.splitlines()
            yield command, printed


@pytest.mark.parametrize("page", COMMANDS, ids=name)
def test_commands_of_a_page_have_known_options_and_files(page):
    for command, _ in commands(page):
        first, *words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
        assert first == "byzax", command
        found: Any = typer.main.get_command(app)
        context = None
        while hasattr(found, "commands"):
            context = found.context_class(found, info_name=first, parent=context)
            found = found.commands[words.pop(0)]
        # reads the options, and refuses those that it does not know
        found.make_context(command, [*words], parent=context)
        missing = [word for word in words if word.startswith("experiments/") and not (ROOT / word).is_file()]
        assert not missing, command


@pytest.mark.slow
@pytest.mark.parametrize("page", COMMANDS, ids=name)
def test_commands_of_a_page_print_what_it_says(page, tmp_path):
    write_files(page, tmp_path)
    for command, printed in commands(page):
        if command.startswith(LONG):
            continue
        shipped = re.search(r"experiments/scenarios/([\w-]+)\.yaml", command)
        if shipped and shipped[1] not in SHORT and re.match("byzax (run|tune)", command):
            command += f" {FEW}" + " --set grid={}" * ("grid=" not in command and "--each" not in command)
        text = re.sub(r"\bbyzax\b", f"{shlex.quote(sys.executable)} -m byzax", command, count=1)
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=tmp_path,
            env={**os.environ, "BYZAX_PLUGINS": "", "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == (2 if printed else 0), f"{command}: {done.stdout}{done.stderr}"
        for line in printed:
            assert line in done.stdout + done.stderr


@pytest.mark.parametrize("kind", members.KINDS)
def test_the_page_on_parts_has_the_contract_of_every_kind_in_full(kind):
    page, part = (ROOT / "docs" / "own-parts.md").read_text(), members.KINDS[kind]
    arguments = ", ".join([*part.arguments, "*, ..."])
    gives = f"`({', '.join(part.inner)})`" if part.inner else f"`{part.gives.split()[1]}`"
    rows = [line for line in page.splitlines() if f"`mine({arguments})`" in line and gives in line]
    titles = {re.search(r"\(#([\w-]+)\)", row)[1] for row in rows}  # pyright: ignore[reportOptionalSubscript]
    # a mixing gives what a rule gives
    (title,) = [each for each in titles if len(titles) == 1 or each.endswith(part.word)]
    (section,) = [text for text in page.split("\n## ") if text.split("\n")[0].lower().replace(" ", "-") == title]
    assert "```python" in section
    for described in DESCRIBED.get(kind, ()):
        for field in described._fields:
            assert re.search(rf"[`(, ]{field}[`(),]", section), (described.__name__, field)


def test_the_readme_can_be_read_in_five_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
