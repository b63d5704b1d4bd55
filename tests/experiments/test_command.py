"""The other commands, and the scenarios that are shipped."""

import inspect
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from byzax.experiments import listing, shares, strict_yaml, timelines
from byzax.experiments.api import validate as validate_study
from byzax.experiments.certify.description import load as certificate_of
from byzax.experiments.strict_yaml import read_mapping
from byzax.experiments.study import load
from byzax.members import available, find
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.validation import validate
from tests.experiments.command import ROOT, SMALL, byzax
from tests.nightly import by_day, by_night

SHIPPED = sorted((ROOT / "experiments" / "scenarios").glob("*.yaml"))


@pytest.fixture(scope="module")
def schema():
    """The validator by the schema of scenarios, which is checked here, once: that takes seconds."""
    result = byzax("schema")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["certify", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    code = f"""
import sys
from byzax.experiments.cli import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"jax", "ray", "pandas", "matplotlib", "numpy", "flax", "byzax.simulator.config.study"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "byzax" in done.stdout


def test_the_help_of_run_states_every_exit_code():
    said = " ".join(byzax("run", "--help").stdout.split())
    assert all(f"{code}, " in said for code in (0, 1, 2))
    assert "130 and 143, interrupted (Ctrl-C, SIGTERM)" in said


@pytest.mark.parametrize("path", by_day(SHIPPED[::5], SHIPPED), ids=lambda path: path.stem)
def test_shipped_scenarios_fit_the_schema(path, schema):
    schema.validate(read_mapping(path))
    study = load(path).study
    comment = "".join(itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines()))
    assert comment, "a comment says what the scenario shows"
    if study.executor.name == "ray":
        assert "Ray" in comment, "loop gives the same bits and starts nothing: a comment says why this is about Ray"


# one that the README begins with; those with every rule and every attack, as all of them, at night
@pytest.mark.parametrize("name", ["quickstart", by_night("demo"), by_night("every-attack"), by_night("every-rule")])
def test_scenarios_to_begin_with_can_run(name):
    validate(load(ROOT / "experiments" / "scenarios" / f"{name}.yaml"))


# real files are not there
@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in SHIPPED if "mnist" not in path.read_text()], ids=lambda p: p.stem)
def test_shipped_scenarios_can_run_from_any_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    validate(load(path))


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


VARIANTS = [
    {"rule": {"name": "krum", "distance": "fourth", "neighbours": "n-f", "unproven": True}},
    {"rule": {"name": "multi_krum", "m": 6, "neighbours": "n-f-1", "distance": "plain"}},
    {"rule": {"name": "median", "median": "lower"}},
    {"rule": {"name": "aksel", "median": "lower"}},
    {"rule": {"name": "bulyan", "base": {"name": "krum", "distance": "plain"}}},
    {"rule": {"name": "bulyan", "base": "median"}},
    {"rule": {"name": "geometric_median", "nu": 0.1, "iterations": 3, "start": "mean"}},
    {"rule": "medoid"},
    {"rule": {"name": "centered_clipping", "start": "median", "memory": False}},
    {"rule": {"name": "centered_clipping", "start": [0.5] * 650}},
    {"attack": {"name": "little", "z": 1.5, "ddof": 1}},
    {"optimizer": {"name": "yogi", "bias_correction": False, "first_moment": 0.0, "second_moment": 1e-6}},
    {"optimizer": {"name": "adam", "bias_correction": False}},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda changes: str(changes)[:60])
def test_variants_of_codes_in_circulation_are_in_schema_and_list_and_can_be_built(schema, changes):
    schema.validate({**SMALL, **changes})
    scenario = parse_as(Study, {**SMALL, **changes, "workers": {"total": 7, "byzantine": 1}})
    validate(scenario.task)
    (kind,) = changes
    chosen = getattr(scenario, kind)
    listed = listing.options(find(kind, chosen.name))
    assert {line.partition(":")[0] for line in listed} == set(chosen.options())


def test_the_options_of_a_base_are_checked_by_the_schema_and_by_the_scenario(schema):
    for base, line in {
        "bulyan": "rule.base: bulyan cannot be an option of itself: take another rule",
        "krun": "rule.base: unknown rule 'krun'; did you mean 'krum'?",
        (
            "krum",
            "distance",
            "cubed",
        ): "rule.base.distance: must be 'plain', 'squared' or 'fourth', got 'cubed'",
        ("krum", "distanc", "plain"): "rule.base.distanc: unknown key; did you mean 'distance'?",
    }.items():
        written = base if isinstance(base, str) else {"name": base[0], base[1]: base[2]}
        raw = {**SMALL, "rule": {"name": "bulyan", "base": written}}
        assert not schema.is_valid(raw)
        with pytest.raises(ScenarioError, match=re.escape(line)):
            parse_as(Study, raw)


def test_the_schema_refuses_an_unknown_key(schema):
    assert schema.is_valid(SMALL)
    for wrong in ({"stesp": 3}, {"rule": {"name": "krum", "m": 3}}, {"rule": "krun"}, {"steps": "many"}):
        assert not schema.is_valid({**SMALL, **wrong}), wrong


def test_the_demo_is_what_the_issue_asks_for():
    study = load(ROOT / "experiments" / "scenarios" / "demo.yaml")
    rules = {cell.study.rule.name for cell in study.cells}
    attacks = {cell.study.attack.name for cell in study.cells}
    assert {"average", "median", "krum", "multi_krum", "brute", "bulyan"} <= rules
    assert len(attacks - {"none"}) >= 4
    assert {cell.study.executor.name for cell in study.cells} == {"ray"}


@pytest.mark.parametrize("kind", listing.KINDS)
def test_list_names_everything_of_a_kind(kind):
    result = byzax("list", kind)
    assert result.exit_code == 0, result.output
    assert listing.names(kind)
    for name in listing.names(kind):
        assert f" {name} " in result.stdout


def test_every_rule_and_attack_states_its_fields():
    for kind in ("rules", "pre", "filters", "attacks", "rates"):
        member, columns = listing.KINDS[kind]
        for name in available(member):
            found = listing.fields(inspect.getdoc(find(member, name)) or "")
            assert set(columns) <= set(found), f"{kind}: {name} lacks a field in its docstring"


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


def test_the_scenarios_that_come_with_byzax_are_named_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("scenarios", "certificates"):
        for name, file in strict_yaml.shipped(folder).items():
            assert strict_yaml.read_mapping(Path(name), folder=folder) == strict_yaml.read_mapping(file)
    assert load(Path("demo")).study == load(strict_yaml.shipped()["demo"]).study
    [(certificate, file), *_] = strict_yaml.shipped("certificates").items()
    assert certificate_of(Path(certificate), {}) == certificate_of(file, {})
    assert len(timelines.read(Path("quickstart"), ["steps=2"]).timeline.sizes) == 2
    assert shares.read(Path("quickstart"), [], None)
    validate_study("quickstart", steps=2)
    # a file of the user's own comes first
    Path("quickstart").write_text("name: mine\ndata: digits\nrule: median\nattack: none\n")
    assert load(Path("quickstart")).study.name == "mine"


def test_a_file_that_is_not_there_is_told_with_the_way_to_those_that_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for wrong in ("quickstrat", "quickstart.yaml", "experiments/scenarios/quickstart.yaml"):
        with pytest.raises(ScenarioError) as caught:
            load(Path(wrong))
        assert str(caught.value).startswith(f"{wrong}: no such file")
        assert "did you mean quickstart" in str(caught.value)
        assert "byzax list scenarios" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_list_of_scenarios_has_each_with_what_it_shows():
    for folder in ("scenarios", "certificates"):
        listed = listing.files(folder)
        names, shown = ([*column.cells] for column in listed.columns)
        assert names == [*strict_yaml.shipped(folder)]
        assert all(len(str(each)) > 20 for each in shown)
