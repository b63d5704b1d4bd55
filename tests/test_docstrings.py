"""Names of byzax: one class for each, and docstrings, with arguments and results on what users import."""

import ast
import doctest
import importlib
import inspect
import re
import typing
from pathlib import Path

import pytest

import byzax
from tests.nightly import by_night

ROOT = Path(__file__).parents[1]
FOLDERS = ("src/byzax", "aggregators", "attacks", "models", "simulator", "experiments")
FILES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    # the folders are reached once
    if folder != "src/byzax" or path.parent == ROOT / "src/byzax"
)


def public(body, inside=""):
    """The public definitions of a module or class, with their names."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield f"{inside}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_public_name_has_a_docstring(folder):
    missing = []
    for path in FILES:
        if not path.is_relative_to(ROOT / folder):
            continue
        tree = ast.parse(path.read_text())
        if not ast.get_docstring(tree):
            missing.append(f"{path.relative_to(ROOT)}")
        missing += [
            f"{path.relative_to(ROOT)}: {name}" for name, node in public(tree.body) if not ast.get_docstring(node)
        ]
    assert not missing, "\n".join(missing)


QUESTION = re.compile(r"(What|Who|Whose|Whether|How|Where|When|Which|Why)\b")
# whether a flag is set, and where an error is raised, are ways of saying; the rest of an entry is a noun
ENTRY_QUESTION = re.compile(r"^ +\w+: (?:What|Who|Whose|How|Which|Why)\b.*", re.MULTILINE)


def test_docstrings_say_what_things_are_and_ask_no_questions():
    questions = []
    tests = [path for folder in ("tests", "docs") for path in (ROOT / folder).rglob("*.py")]
    for path in [*FILES, *tests]:
        place = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and (text := ast.get_docstring(node)):
                said = QUESTION.match(text) or ENTRY_QUESTION.search(text)
                questions += [f"{place}:{getattr(node, 'lineno', 1)}: {said[0].strip()}"] if said else []
    assert not questions, "\n".join(questions)


def test_a_class_name_stands_for_one_thing():
    places = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not {name: found for name, found in places.items() if len(found) > 1}


@pytest.mark.parametrize("name", [name for name in byzax.__all__ if callable(getattr(byzax, name))])
def test_what_users_import_says_arguments_results_and_errors(name):
    value = getattr(byzax, name)
    text = inspect.getdoc(value) or ""
    if inspect.isfunction(value):
        given = list(inspect.signature(value).parameters)
        assert "Args:" in text
        assert not [each for each in given if f"{each}:" not in text]
        assert "Raises:" in text
        assert "Returns:" in text or typing.get_type_hints(value).get("return") is type(None)
    members = vars(value) if inspect.isclass(value) else {}
    for member, defined in members.items():
        if not member.startswith("_") and (inspect.isfunction(defined) or isinstance(defined, property)):
            assert inspect.getdoc(defined), f"{name}.{member}"


def module_of(path):
    inside = path.relative_to(ROOT).with_suffix("").parts
    inside = inside[2:] if inside[0] == "src" else inside
    return ".".join(["byzax", *inside]).removesuffix(".__init__")


# the example of byzax.run trains: at night
@pytest.mark.parametrize(
    "module",
    [
        by_night(module_of(path)) if path.stem == "api" else module_of(path)
        for path in FILES
        # rules have a test in tests/aggregators, most of them at night: each compiles one
        if ">>>" in path.read_text() and (path.stem == "__init__" or not path.is_relative_to(ROOT / "aggregators"))
    ],
)
def test_the_examples_in_docstrings_are_true(module):
    tried = doctest.testmod(importlib.import_module(module))
    assert tried.failed == 0
    assert tried.attempted > 0
