"""Plug-ins that cannot be used are named in one line: folder, file, what is wrong."""

import doctest
import importlib
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from byzax import aggregators, attacks, models
from byzax.simulator import augmentations, data, latency, partitions, rates, registry, schedules
from DROPPED import one_of
from byzax.members import FOLDERS, PluginError, members

PACKAGES = {
    "aggregators": aggregators,
    "pre": aggregators.pre,
    "filters": aggregators.filters,
    "attacks": attacks,
    "models": models,
    "data": data,
    "partitions": partitions,
    "augmentations": augmentations,
    "schedules": schedules,
    "latency": latency,
    "rates": rates,
}


@pytest.fixture
def plug(tmp_path, monkeypatch):
    """Puts a file into a plug-in folder of the package; what was loaded from there is forgotten at the end."""

    def put(package, name, content, folder="mine"):
        here = tmp_path / folder / package
        here.mkdir(parents=True, exist_ok=True)
        (here / f"{name}.py").write_text(content)
        path = [*PACKAGES[package].__path__]
        monkeypatch.setattr(PACKAGES[package], "__path__", path if str(here) in path else [*path, str(here)])
        importlib.invalidate_caches()
        return here / f"{name}.py"

    before, unusable = set(sys.modules), dict(registry.unusable)
    yield put
    registry.unusable.clear()
    registry.unusable.update(unusable)
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(package, name="mine"):
    """What is said of a plug-in that is left out, or of a folder that is refused."""
    try:
        assert name not in members(PACKAGES[package])
        error = registry.unusable[package, name]
    except PluginError as refused:
        error = refused
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize("package", [*FOLDERS, "study", "names", "mistakes"])
def test_the_examples_in_the_docstrings_are_true(package):
    home = "simulator" if package == "mistakes" else "experiments"
    tried = doctest.testmod(PACKAGES.get(package) or importlib.import_module(f"byzax.{home}.{package}"))
    assert tried.failed == 0
    assert tried.attempted > 0 or package == "aggregators", "the README has its example"


BROKEN = {
    "syntax": ("def mine(:\n", "SyntaxError: invalid syntax"),
    "import": ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found' ({}:1)"),
    "error": ("x = 1\ny = x / 0\n", "ZeroDivisionError: division by zero ({}:2)"),
    "exit": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "function of another name": ("def other():\n    pass\n", "must hold a function of its own name, mine"),
    "no function": ("mine = 3\n", "TypeError: mine must be a function, and is int"),
}


@pytest.mark.parametrize("package", FOLDERS)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_with_the_error(plug, package, kind):
    content, expected = BROKEN[kind]
    file = plug(package, "mine", content)
    said = refusal(package)
    assert said.startswith(str(file))
    assert expected.format(file) in said


OPTIONS = {
    "no type": ("def mine(*, a=1):\n    pass\n", "the option a of mine needs a type"),
    "a type that does not exist": (
        "def mine(*, a: 'Flaot' = 1):\n    pass\n",
        "NameError: name 'Flaot' is not defined",
    ),
    "a type that YAML has not": ("def mine(*, a: object() = 1):\n    pass\n", "PydanticSchemaGenerationError"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_that_a_scenario_cannot_hold_are_refused_with_the_file(plug, kind):
    content, expected = OPTIONS[kind]
    file = plug("partitions", "mine", content)
    found = members(partitions)
    kind = TypeAdapter(one_of("partition", found))
    assert "mine" not in found
    assert kind.validate_python("iid").name == "iid"
    for asked in ("mine", {"name": "mine"}):
        with pytest.raises(PluginError) as caught:
            kind.validate_python(asked)
        assert str(caught.value).startswith(f"{file}: ")
        assert expected in str(caught.value)


@pytest.mark.parametrize(("package", "name"), [("aggregators", "krum"), ("data", "base"), ("data", "_idx")])
def test_two_files_of_one_name_are_refused(plug, package, name):
    file = plug(package, name, "")
    builtin = Path(PACKAGES[package].__path__[0], f"{name}.py")
    assert refusal(package, name) == f"{file}: there is {builtin} too: rename one of the two"


def test_two_plug_ins_of_one_name_are_refused(plug):
    first = plug("schedules", "mine", "def mine(): pass\n")
    second = plug("schedules", "mine", "def mine(): pass\n", folder="other")
    assert refusal("schedules") == f"{second}: there is {first} too: rename one of the two"


def test_a_plug_in_that_works_is_found(plug):
    plug("schedules", "mine", "def mine():\n    return 3\n")
    assert members(schedules)["mine"]() == 3


def test_a_folder_that_is_not_there_or_holds_no_plug_ins_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("BYZAX_PLUGINS", str(tmp_path / "nowhere"))
    assert refusal("models") == f"$BYZAX_PLUGINS: {tmp_path / 'nowhere'} is no folder"
    monkeypatch.setenv("BYZAX_PLUGINS", str(tmp_path))
    assert refusal("models").startswith(f"$BYZAX_PLUGINS: {tmp_path} holds none of the folders aggregators, attacks")
