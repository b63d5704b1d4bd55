"""The package that is installed: one name, byzax, beside whatever a user's folder holds."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUBPACKAGES = ("aggregators", "attacks", "models", "simulator", "experiments")
SCENARIO = """
name: small
steps: 4
evaluate_every: 2
workers: {total: 5, byzantine: 1}
data: {name: digits, batch_size: 8}
model: softmax
rule: mine
attack: empire
"""
RULE = '''
"""The first row."""

from byzax.aggregators import Aggregator, Info
from byzax.aggregators.base import stateless


def mine(n: int, f: int) -> Aggregator:
    """The first row."""
    return stateless(n, lambda rows: (rows[0], Info()))
'''
TEST = """
import numpy as np
from byzax import aggregators


def test_mine():
    rule = aggregators.build("mine", 3, 1)
    assert rule.apply(np.eye(3), rule.init(3))[0].tolist() == [1, 0, 0]
"""


@pytest.fixture
def folder(tmp_path):
    """A user's folder whose own files have the names of ours, and end a process that imports them."""
    for name in (*SUBPACKAGES, "tests"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the user was imported')\n")
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('{name}/ of the user was imported')\n")
    (tmp_path / "small.yaml").write_text(SCENARIO)
    (tmp_path / "plugins" / "aggregators").mkdir(parents=True)
    (tmp_path / "plugins" / "aggregators" / "mine.py").write_text(RULE)
    (tmp_path / "test_mine.py").write_text(TEST)
    (tmp_path / "script.py").write_text("from byzax.experiments.cli import main\n\nmain()\n")
    return tmp_path


def python(folder, *arguments, **variables):
    environment = {**os.environ, "BYZAX_PLUGINS": str(folder / "plugins"), **variables}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_byzax_is_imported_beside_files_of_the_same_names_and_loads_nothing_at_first(folder):
    code = "import sys, byzax; before = set(sys.modules); byzax.aggregators.build('krum', 7, 2); "
    code += "print(*(name for name in before if name.startswith('byzax')), 'jax' in before)"
    assert python(folder, "-c", code).split() == ["byzax", "False"]


COMMANDS = [("-m", "byzax"), ("script.py",), (Path(sys.executable).with_name("byzax"),)]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_starts_beside_files_of_the_same_names(folder, command):
    python(folder, *command, "run", "small.yaml", "--out", "out", "--set", "executor=loop")
    assert (folder / "out" / "summary.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS[:2])
def test_actors_start_beside_files_of_the_same_names(folder, command):
    python(folder, *command, "run", "small.yaml", "--out", "out", "--set", "executor=ray")
    assert (folder / "out" / "summary.md").exists()


@pytest.mark.slow
def test_a_users_own_tests_find_a_plug_in(folder):
    assert "1 passed" in python(folder, "-m", "pytest", "-p", "no:cacheprovider", "test_mine.py")


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_a_new_file_is_part_of_the_package_at_once(name):
    assert (ROOT / "src" / "byzax" / name).resolve() == ROOT / name


FRESH = """
import byzax
from byzax.members import KINDS
for kind, each in KINDS.items():
    package = eval(each.package)
    outer = eval(each.package.rpartition(".")[0])
    assert each.folder in dir(outer), (each.folder, dir(outer))
    assert package.available() and {*package.available(), "build", "factory", "available"} <= {*dir(package)}, kind
    name = package.available()[0]
    assert getattr(package, name) is package.factory(name)
    arguments = [*getattr(package.build, "__code__").co_varnames[:len(each.arguments) + 1]]
    assert len(arguments) == 1 + len(each.arguments), arguments
for module in (byzax, byzax.simulator, *(eval(each.package) for each in KINDS.values())):
    names = dir(module)
    assert len(names) == len({*names}) and all(hasattr(module, name) for name in names), module
assert not [name for name in dir(byzax) if name.startswith("_")]
"""


@pytest.mark.slow
def test_all_folders_of_parts_are_attributes_of_a_fresh_process_and_have_the_same_functions():
    python(ROOT, "-c", FRESH, BYZAX_PLUGINS="")


def imported(tree):
    """The packages that a module imports wherever it is loaded; what single functions import is asked for there."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
        elif not isinstance(node, ast.FunctionDef):
            yield from imported(node)


def test_what_the_package_imports_are_its_dependencies():
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[^\w-]", each)[0] for each in said}
    homes = packages_distributions()
    files = [
        *(ROOT / "src" / "byzax").glob("*.py"),
        *(file for each in SUBPACKAGES for file in (ROOT / each).rglob("*.py")),
    ]
    found = {name: file for file in files for name in imported(ast.parse(file.read_text()))}
    for name in found.keys() - sys.stdlib_module_names - {"byzax"}:
        assert {home.lower().replace("_", "-") for home in homes[name]} & names, f"{name} ({found[name]})"
    locked = (ROOT / "requirements.lock").read_text()
    for name in names:
        # one for each version of Python where these differ
        entries = re.findall(rf"^{name}==.*\n(?:    .*\n)*", locked, re.MULTILINE)
        assert entries, name
        assert all("byzax (pyproject.toml)" in entry for entry in entries), name


def built(code, source, into):
    """The archive that setuptools makes of a tree."""
    code = f"import setuptools.build_meta as backend; print(backend.{code}({str(into)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True)
    return into / done.stdout.split()[-1]


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_one_package_and_a_wheel_runs(tmp_path, folder):
    tree = tmp_path / "tree"
    subprocess.run(["git", "clone", "--quiet", ROOT, tree], check=True)
    wheel = built("build_wheel", tree, tmp_path)
    with tarfile.open(built("build_sdist", tree, tmp_path)) as sdist:
        sdist.extractall(tmp_path / "sdist", filter="data")
    (unpacked,) = (tmp_path / "sdist").iterdir()
    # no test lies there without the files that it needs
    assert not [path for path in unpacked.rglob("*") if "test" in path.name]
    again = tmp_path / "again"
    again.mkdir()
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(built("build_wheel", unpacked, again)) as other:
        names = one.namelist()
        assert sorted(names) == sorted(other.namelist())
    modules = {str(path.relative_to(ROOT)) for each in SUBPACKAGES for path in (ROOT / each).rglob("*.py")}
    assert modules <= {name.removeprefix("byzax/") for name in names}
    assert {"byzax/py.typed", "byzax/experiments/scenarios/demo.yaml"} <= {*names}
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"byzax"}
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as one:
        one.extractall(site)
    assert str(site) in python(folder, "-c", "import byzax; print(byzax.__file__)", PYTHONPATH=str(site))
    python(folder, "-m", "byzax", "run", "small.yaml", "--out", "out", "--set", "executor=loop", PYTHONPATH=str(site))
