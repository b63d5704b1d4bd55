"""The other commands, and the scenarios that are shipped."""

import inspect
import json
import os
import subprocess
import sys

import jsonschema
import pytest

from experiments import listing
from experiments.strict_yaml import read_mapping
from experiments.study import check, load
from simulator.components import ATTACKS, FILTERS, PRE, RATES, RULES
from simulator.scenario import ScenarioError
from tests.experiments.command import ROOT, SMALL, byzax

SHIPPED = sorted((ROOT / "experiments" / "scenarios").glob("*.yaml"))


@pytest.fixture(scope="module")
def schema():
    result = byzax("schema")
    assert result.exit_code == 0
    return json.loads(result.stdout)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["certify", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    code = f"""
import sys
from experiments.cli import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"jax", "ray", "pandas", "matplotlib", "numpy", "flax", "simulator.scenario"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "byzax" in done.stdout


def test_the_help_of_run_states_every_exit_code():
    said = " ".join(byzax("run", "--help").stdout.split())
    assert all(f"{code}, " in said for code in (0, 1, 2))
    assert "130 and 143, interrupted (Ctrl-C, SIGTERM)" in said


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_fit_the_schema(path, schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(read_mapping(path), schema, jsonschema.Draft202012Validator)
    load(path)
    assert path.read_text().startswith("#"), "a comment says what the scenario shows"


# those that the README begins with, and those with every rule and every attack; at night all of them
@pytest.mark.parametrize("name", ["quickstart", "demo", "every-attack", "every-rule"])
def test_scenarios_to_begin_with_can_run(name):
    check(load(ROOT / "experiments" / "scenarios" / f"{name}.yaml"))


# real files are not there
@pytest.mark.parametrize("path", [path for path in SHIPPED if "mnist" not in path.read_text()], ids=lambda p: p.stem)
def test_shipped_scenarios_can_run(path, monkeypatch):
    # where files that they name begin
    monkeypatch.chdir(ROOT)
    check(load(path))


@pytest.mark.slow
def test_the_attack_of_ones_own_in_the_readme_runs(tmp_path):
    code = (ROOT / "README.md").read_text().split("`attacks/mirror.py`")[1].split("```python\n")[1].split("```")[0]
    (tmp_path / "attacks").mkdir()
    (tmp_path / "attacks" / "mirror.py").write_text(code)
    lie = {"name": "mirror", "strength": 2, "knowledge": "colluding", "from": 1}
    (tmp_path / "own.yaml").write_text(json.dumps(SMALL | {"attack": lie, "rule": "median"}))
    command = [sys.executable, "-m", "experiments", "run", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "out")]
    plugins = {**os.environ, "BYZAX_PLUGINS": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=plugins, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mirror" in done.stdout


def test_the_readme_holds_the_model_of_ones_own_that_is_shipped():
    code = (ROOT / "experiments" / "scenarios" / "own_model.py").read_text().split("\n", 2)[2].strip()
    assert f"```python\n{code}\n```" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "experiments" / "certificates").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_certificates_fit_the_schema_of_certificates(path):
    found = json.loads(byzax("schema", "certificate").stdout)
    jsonschema.Draft202012Validator.check_schema(found)
    validator = jsonschema.Draft202012Validator(found)
    asked = read_mapping(path)
    validator.validate(asked)
    assert not validator.is_valid(asked | {"sampels": 3})
    assert not validator.is_valid(asked | {"rules": [{"name": "krum", "distance": "cubed"}]})
    assert not validator.is_valid(asked | {"rule": "krum"}), "rule and rules"
    assert not validator.is_valid({"n": 5, "f": 1}), "neither rule nor rules"


def test_the_schema_refuses_an_unknown_key(schema):
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(SMALL)
    for wrong in ({"stesp": 3}, {"rule": {"name": "krum", "m": 3}}, {"rule": "krun"}, {"steps": "many"}):
        assert not validator.is_valid({**SMALL, **wrong}), wrong


def test_the_demo_is_what_the_issue_asks_for():
    study = load(ROOT / "experiments" / "scenarios" / "demo.yaml")
    rules = {cell.scenario.rule.name for cell in study.cells}
    attacks = {cell.scenario.attack.name for cell in study.cells}
    assert {"average", "median", "krum", "multi_krum", "brute", "bulyan"} <= rules
    assert len(attacks - {"none"}) >= 4
    assert {cell.scenario.executor.name for cell in study.cells} == {"ray"}


@pytest.mark.parametrize("kind", listing.KINDS)
def test_list_names_everything_of_a_kind(kind):
    result = byzax("list", kind)
    assert result.exit_code == 0, result.output
    for name in listing.KINDS[kind][0]:
        assert f" {name} " in result.stdout


@pytest.mark.parametrize(
    "kind",
    [
        "rules",
        "pre",
        "filters",
        "attacks",
        "models",
        "data",
        "partitions",
        "augmentations",
        "schedules",
        "latency",
        "rates",
    ],
)
def test_the_readme_holds_the_table_that_the_files_give(kind):
    result = byzax("list", kind, "--markdown")
    assert result.exit_code == 0
    ours = [line for line in result.stdout.splitlines() if "made for the tests" not in line]
    assert "\n".join(ours) in (ROOT / "README.md").read_text(), f"byzax list {kind} --markdown gives another table"


def test_every_rule_and_attack_states_its_fields():
    for kind, factories in (
        ("rules", RULES),
        ("pre", PRE),
        ("filters", FILTERS),
        ("attacks", ATTACKS),
        ("rates", RATES),
    ):
        for name, function in factories.items():
            found = listing.fields(inspect.getdoc(function) or "")
            assert set(listing.KINDS[kind][1]) <= set(found), f"{kind}: {name} lacks a field in its docstring"


def test_an_unknown_kind_is_refused():
    result = byzax("list", "rulez")
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_errors_of_two_keys_are_two_lines(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text("name: two\ndata: digits\nrule: krun\nattack: nonw\n")
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["rule", "attack"]
