"""Parts by reference: names, files, functions and installed packages; what cannot be used is named in one line."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from byzax import members
from byzax.members import KINDS, PluginError, available, find
from byzax.options import PartError
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import ScenarioError

EXAMPLE = Path(__file__).parent / "example_package"
SCENARIO = {"name": "t", "data": "digits", "rule": "median", "attack": "none"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].package != f"byzax.{KINDS[kind].folder}"])
def test_a_folder_of_plug_ins_by_the_name_of_byzax_own_is_told_the_right_one(kind, tmp_path, monkeypatch):
    inside = KINDS[kind].package.removeprefix("byzax.").replace(".", "/")
    (tmp_path / inside).mkdir(parents=True)
    (tmp_path / "attacks").mkdir()
    monkeypatch.setenv("BYZAX_PLUGINS", str(tmp_path))
    with pytest.raises(PluginError, match=f"{inside} is not read: name it .*/{KINDS[kind].folder}$"):
        find("attack", "little")


def package_of(kind):
    return importlib.import_module(KINDS[kind].package)


@pytest.fixture
def plug(tmp_path, monkeypatch):
    """Puts a file into a plug-in folder of a kind; what was loaded from there is forgotten at the end."""

    def put(kind, name, content, folder="mine"):
        here = tmp_path / folder / KINDS[kind].folder
        here.mkdir(parents=True, exist_ok=True)
        (here / f"{name}.py").write_text(content)
        package = package_of(kind)
        path = [*package.__path__]
        monkeypatch.setattr(package, "__path__", path if str(here) in path else [*path, str(here)])
        importlib.invalidate_caches()
        return here / f"{name}.py"

    before = set(sys.modules)
    yield put
    for name in set(sys.modules) - before:
        del sys.modules[name]
        parent, _, child = name.rpartition(".")
        vars(sys.modules.get(parent, SimpleNamespace())).pop(child, None)


def refusal(kind, name="mine"):
    with pytest.raises(PluginError) as caught:
        find(kind, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


BROKEN = {
    "syntax": ("def mine(:\n", "SyntaxError: invalid syntax"),
    "import": ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found' ({}:1)"),
    "error": ("x = 1\ny = x / 0\n", "ZeroDivisionError: division by zero ({}:2)"),
    "exit": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "function of another name": ("def other():\n    pass\n", "must hold a function mine"),
    "no function": ("mine = 3\n", "mine must be a function, and is int"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_file_breaks_only_what_names_it(plug, kind, broken):
    content, expected = BROKEN[broken]
    file = plug(kind, "mine", content)
    said = refusal(kind)
    assert said.startswith(str(file))
    assert expected.format(file) in said
    other = next(name for name in available(kind) if name != "mine")
    assert callable(find(kind, other))


OPTIONS = {
    "no type": ("def mine(n, f, *, a=1):\n    pass\n", "the option a needs a type"),
    "a type that does not exist": (
        "def mine(n, f, *, a: 'Flaot' = 1):\n    pass\n",
        "NameError: name 'Flaot' is not defined",
    ),
    "a type that YAML has not": ("def mine(n, f, *, a: object() = 1):\n    pass\n", "PydanticSchemaGenerationError"),
}


@pytest.mark.parametrize("wrong", OPTIONS)
def test_options_that_a_scenario_cannot_hold_are_refused_with_the_file(plug, wrong):
    content, expected = OPTIONS[wrong]
    file = plug("rule", "mine", content)
    assert parse_as(Study, SCENARIO).rule.name == "median"
    for asked in ("mine", {"name": "mine"}):
        with pytest.raises(ScenarioError) as caught:
            parse_as(Study, {**SCENARIO, "rule": asked})
        assert str(caught.value).startswith(f"rule: {file}:1: ")
        assert expected in str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [("rule", "krum"), ("data", "base"), ("data", "_idx")])
def test_two_files_of_one_name_are_refused(plug, kind, name):
    file = plug(kind, name, "")
    plug(kind, "mine", "def mine():\n    return 3\n")
    builtin = Path(package_of(kind).__path__[0], f"{name}.py")
    # a helper stands in the way of the parts beside it, and of no other
    asked = name if name == "krum" else "mine"
    assert refusal(kind, asked) == f"{file}: there is {builtin} too: rename one of the two"
    assert callable(find(kind, "median" if kind == "rule" else "digits"))


def test_two_plug_ins_of_one_name_are_refused(plug):
    first = plug("schedule", "mine", "def mine(): pass\n")
    second = plug("schedule", "mine", "def mine(): pass\n", folder="other")
    assert refusal("schedule") == f"{second}: there is {first} too: rename one of the two"


def test_a_plug_in_that_works_is_found_and_listed(plug):
    plug("schedule", "mine", "def mine():\n    return 3\n")
    assert find("schedule", "mine")() == 3
    assert "mine" in available("schedule")


def test_a_folder_that_is_not_there_or_holds_no_plug_ins_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("BYZAX_PLUGINS", str(tmp_path / "nowhere"))
    assert refusal("model", "mlp") == f"$BYZAX_PLUGINS: {tmp_path / 'nowhere'} is no folder"
    monkeypatch.setenv("BYZAX_PLUGINS", str(tmp_path))
    assert refusal("model", "mlp").startswith(f"$BYZAX_PLUGINS: {tmp_path} holds none of the folders aggregators, pre")


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_is_told_with_what_is_near(kind):
    name = available(kind)[0]
    with pytest.raises(PartError, match=f"unknown {KINDS[kind].word} '{name}x'; did you mean '{name}'"):
        find(kind, f"{name}x")
    for odd in ("base", "_x", "../x", "a b", "", "__init__"):
        with pytest.raises(PartError, match="unknown"):
            find(kind, odd)


def test_loading_is_lazy_and_only_what_is_named_is_loaded():
    code = (
        "import sys, byzax; assert 'jax' not in sys.modules; assert 'pydantic' not in sys.modules\n"
        "import byzax.aggregators; byzax.aggregators.krum\n"
        "loaded = [m for m in sys.modules if m.startswith('byzax.aggregators.') and m.count('.') == 2]\n"
        "assert 'byzax.aggregators.krum' in loaded and 'byzax.aggregators.median' not in loaded, loaded\n"
    )
    environment = {**os.environ, "BYZAX_PLUGINS": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_package_gives_the_function_of_a_name_before_and_after_its_file_is_imported():
    code = (
        "import byzax\n"
        "rule = byzax.aggregators.krum\n"
        "import byzax.aggregators.krum, byzax.aggregators.median, importlib\n"
        "assert byzax.aggregators.krum is rule and callable(byzax.aggregators.median)\n"
        "assert importlib.import_module('byzax.aggregators.krum').krum is rule\n"
        "assert byzax.aggregators.krum(n=5, f=1).init(3) == ()\n"
        "assert 'krum' in dir(byzax.aggregators) and 'run' in dir(byzax)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "BYZAX_PLUGINS": ""})


def test_a_function_of_a_file_is_found_again_when_the_file_changes(tmp_path):
    file = tmp_path / "rules.py"
    file.write_text("def mine(n, f):\n    return 1\n")
    assert find("rule", f"{file}:mine")(1, 0) == 1
    assert find("rule", f"{file}:mine") is find("rule", f"{file}:mine")
    file.write_text("def mine(n, f):\n    return 22\n")
    assert find("rule", f"{file}:mine")(1, 0) == 22


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no file {}: a relative path begins at the working directory"),
        ("def other(n, f): pass\n", "{}: must hold a function mine"),
        ("x = 1 / 0\n", "{}: ZeroDivisionError: division by zero ({}:1)"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_key(tmp_path, content, said):
    file = tmp_path / "rules.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ScenarioError) as caught:
        parse_as(Study, {**SCENARIO, "rule": f"{file}:mine"})
    assert str(caught.value).startswith("rule: " + said.format(file, file))


@pytest.mark.parametrize("written", ["rules.py", "rules:mine", "rules.mine", "rules.py:", "rules.py:mine()"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_looks_like_a_file_is_told_how_one_is_written(kind, written):
    with pytest.raises(PartError, match=r"is written file\.py:function, such as rules\.py:mine$"):
        find(kind, written)


def test_the_home_folder_can_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "aggregators").mkdir()
    for file in (tmp_path / "rules.py", tmp_path / "aggregators" / "mine.py"):
        file.write_text("def mine(n, f):\n    return 1\n")
    assert find("rule", "~/rules.py:mine")(1, 0) == 1
    assert members.file_of(find("rule", "~/rules.py:mine")) == str(tmp_path / "rules.py")
    monkeypatch.setenv("BYZAX_PLUGINS", "~")
    assert members.plugin_folders() == [str(tmp_path)]
    (tmp_path / "broken.py").write_text("x = 1 / 0\n")
    with pytest.raises(PluginError, match=r"broken\.py: ZeroDivisionError: division by zero \(.*broken\.py:1\)"):
        find("rule", "~/broken.py:mine")


def test_a_folder_of_plug_ins_that_is_not_there_is_no_mistake_of_a_key(tmp_path, monkeypatch):
    monkeypatch.setenv("BYZAX_PLUGINS", str(tmp_path / "nowhere"))
    for make in (
        lambda: Study(**SCENARIO),  # pyright: ignore[reportArgumentType]
        lambda: parse_as(Study, SCENARIO),
    ):
        with pytest.raises(PluginError) as caught:
            make()
        assert str(caught.value) == f"$BYZAX_PLUGINS: {tmp_path / 'nowhere'} is no folder"


@pytest.mark.parametrize("kind", ["rule", "attack", "data"])
def test_a_broken_plug_in_is_told_with_the_variable(plug, kind):
    file = plug(kind, "mine", "x = 1 / 0\n")
    assert refusal(kind) == f"{file} (of $BYZAX_PLUGINS): ZeroDivisionError: division by zero ({file}:1)"


def test_an_argument_by_place_is_told_to_be_no_option():
    def mine(n: int, f: int, k: int = 3):
        """A rule."""

    with pytest.raises(ScenarioError, match=r"^rule\.k: is no option: the function takes k by place"):
        parse_as(Study, {**SCENARIO, "rule": {"name": mine, "k": 5}})
    with pytest.raises(ScenarioError, match=r"^rule\.j: unknown key"):
        parse_as(Study, {**SCENARIO, "rule": {"name": mine, "j": 5}})


def test_a_part_is_told_by_its_source_and_labelled_by_its_name(tmp_path):
    def mine(n: int, f: int, *, k: int = 3):
        """A rule."""

    file = tmp_path / "rules.py"
    file.write_text("def other(n, f, *, k: int = 3):\n    return None\n")
    by_function, by_file = (parse_as(Study, {**SCENARIO, "rule": rule}).rule for rule in (mine, f"{file}:other"))
    assert (by_function.name, by_function.label, by_function.options()) == ("<mine>", "mine", {"k": 3})
    assert (by_file.name, by_file.label, by_file.given()) == (f"{file}:other", "other", f"{file}:other")
    builtin = parse_as(Study, {**SCENARIO, "rule": find("rule", "krum")})
    assert builtin.rule.name == "krum"
    assert builtin == parse_as(Study, {**SCENARIO, "rule": "krum"})
    by_lambda = parse_as(Study, {**SCENARIO, "rule": lambda n, f: None}).rule
    assert (by_lambda.name, by_lambda.label) == ("<lambda>", "lambda")
    with pytest.raises(ScenarioError, match="<mine> was a function of the program that ran it"):
        parse_as(Study, {**SCENARIO, "rule": "<mine>"})


def test_entry_points_are_found_and_a_broken_one_is_named(monkeypatch):
    def broken():
        raise ImportError("not there")

    points = {
        "aggregators": (
            SimpleNamespace(name="entered", value="elsewhere:entered", load=lambda: lambda n, f: 7),
            SimpleNamespace(name="broken", value="elsewhere:broken", load=broken),
            SimpleNamespace(name="krum", value="elsewhere:krum", load=lambda: None),
        )
    }
    monkeypatch.setattr(members, "_entry_points", lambda folder: points.get(folder, ()))
    assert find("rule", "entered")(3, 0) == 7
    assert "entered" in available("rule")
    assert refusal("rule", "broken") == "entry point broken = elsewhere:broken: ImportError: not there"
    assert refusal("rule", "krum").startswith("entry point krum = elsewhere:krum: there is ")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example package, installed into a folder of its own."""
    place = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    source = tmp_path_factory.mktemp("source") / "example"
    # building writes beside the sources
    import shutil

    shutil.copytree(EXAMPLE, source)
    subprocess.run([*command, "--target", str(place), str(source)], check=True)
    return place


# by day entry points are tested without pip, above
@pytest.mark.slow
def test_an_installed_package_adds_a_rule_an_attack_and_a_model(installed, tmp_path):
    code = (
        "import byzax, json\n"
        "result = byzax.run(data='digits', rule={'name': 'midrange', 'trim': 1}, attack='mirrored', model='affine',\n"
        "                   workers={'total': 5, 'byzantine': 1}, steps=2, executor='loop', quiet=True)\n"
        "print(json.dumps([result.runs['rule'][0], result.runs['attack'][0], result.runs['status'][0]]))\n"
        "try: byzax.Study(name='t', data='digits', attack='none', rule={'name': 'midrange', 'trim': -1})\n"
        "except byzax.ScenarioError as error: print(json.dumps(str(error)))\n"
    )
    path = os.pathsep.join([str(installed), *map(str, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "BYZAX_PLUGINS": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == ["midrange trim=1", "mirrored", "complete"]
    assert second == "rule.trim: must be at least 0, got -1"
