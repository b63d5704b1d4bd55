"""`byzax reproduce`: statements against bounds, targets, one of them run on digits, the document."""

import json
import math

import pytest
import yaml
from typer.testing import CliRunner

from byzax.experiments import api
from byzax.experiments.cli import app
from byzax.experiments.reproduction import document, reproducing
from byzax.experiments.reproduction.cells import Cells
from byzax.experiments.reproduction.target import Finding, Reproduction, largest, minus, smallest
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.validation import validate_quickly

TARGETS = reproducing.names()


def finding(values, low=None, high=None):
    return Finding("a number", tuple(values), low, high)


def outcome(*findings):
    return Reproduction("krum-1", "full", "2026-01-01", "byzax reproduce krum-1", None, 3, 60.0, {}, findings)


@pytest.mark.parametrize(
    ("values", "low", "high", "holds"),
    [
        ([0.5, 0.7], 0.6, None, True),
        ([0.5, 0.6], 0.6, None, False),
        ([0.5, 0.7], None, 0.6, True),
        ([0.6, 0.7], None, 0.6, False),
        ([0.5], 0.4, 0.6, True),
        ([0.7], 0.4, 0.6, False),
        ([math.nan], 0.0, None, False),
        ([math.nan], None, 1.0, False),
        ([math.inf], 0.0, 1.0, False),
        ([], None, 1.0, False),
        ([0.5], None, None, None),
    ],
)
def test_a_statement_holds_within_its_bounds(values, low, high, holds):
    assert finding(values, low, high).holds is holds


def test_a_verdict_counts_statements_with_bounds():
    yes, no, free = finding([1], low=0), finding([1], high=0), finding([1])
    assert outcome(yes, free).verdict == "reproduced"
    assert outcome(yes, no, free).verdict == "partly reproduced"
    assert outcome(no).verdict == "not reproduced"
    assert outcome(free).verdict == "measured"


def test_differences_are_of_common_seeds():
    assert minus({0: 1.0, 1: 3.0}, {1: 1.0, 2: 5.0}) == {1: 2.0}
    assert largest([{0: 1.0, 1: 2.0}, {0: 0.0, 1: 4.0}]) == {0: 0.0, 1: 4.0}
    assert smallest([{0: 1.0, 1: 2.0}, {0: 0.0, 1: 4.0}]) == {0: 1.0, 1: 2.0}


def test_there_are_targets_enough():
    assert len(TARGETS) >= 22


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_names_scenarios_that_are_there(name):
    target = reproducing.read_target(name)
    assert all((target.statements, target.title, target.paper, target.claim, target.setting))
    quick = target.quick or {}
    assert set(quick) <= set(target.scenarios)
    assert (target.quick is not None) == any(each.quick for each in target.statements)
    for scenario in target.scenarios:
        path = reproducing.SCENARIOS / f"{scenario}.yaml"
        assert yaml.safe_load(path.read_text())["name"] == scenario
        assert api.describe(path).repeats >= 3
        for settings in ({}, quick.get(scenario, {})):
            # digits, which are always there, have the same labels
            validate_quickly(api.described(path, {**settings, "data.name": "digits"}))


def test_every_scenario_belongs_to_a_target():
    used = {scenario for name in TARGETS for scenario in reproducing.read_target(name).scenarios}
    assert used == {path.stem for path in reproducing.SCENARIOS.glob("*.yaml")}


def test_a_name_that_no_target_has_is_refused_with_those_that_are():
    with pytest.raises(ScenarioError, match="krum-1"):
        reproducing.read_target("krum-99")
    result = CliRunner().invoke(app, ["reproduce", "krum-99"])
    assert result.exit_code == 2
    assert "krum-99" in result.output


def test_quick_and_full_are_not_both_taken():
    assert CliRunner().invoke(app, ["reproduce", "--quick", "--full"]).exit_code == 2


def test_a_target_without_quick_form_says_so(tmp_path):
    result = CliRunner().invoke(app, ["reproduce", "momentum", "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "leave --quick out" in result.output


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Cells(
        api.run(
            out=tmp_path_factory.mktemp("cells") / "study",
            quiet=True,
            data="digits",
            model="softmax",
            workers={"total": 7, "byzantine": 1},
            rule="median",
            attack="none",
            steps=4,
            evaluate_every=2,
            repeats=2,
            grid={"rule.name": ["average", "median"], "data.batch_size": [4, 8]},
        )
    )


def test_cells_are_the_numbers_of_the_files(study):
    frame = study.result.metrics
    for rule in ("average", "median"):
        for batch in (4, 8):
            chosen = frame.loc[(frame["rule"] == rule) & (frame["data.batch_size"].astype(str) == str(batch))]
            for step in (2, 4):
                wanted = chosen.loc[chosen["step"] == step].set_index("seed")["test_accuracy"].to_dict()
                assert study(rule, "none", data__batch_size=batch, step=step) == wanted
            assert study(rule, data__batch_size=batch) == wanted
            best = chosen.groupby("seed")["test_accuracy"].max().to_dict()
            assert study(rule, data__batch_size=batch, report="best") == best


@pytest.mark.parametrize(
    ("where", "word"),
    [({"data__batch_size": 5}, "no run"), ({}, "several"), ({"data__alpha": 1}, "data.alpha")],
)
def test_cells_that_are_not_one_combination_are_refused(study, where, word):
    with pytest.raises(ValueError, match=word):
        study("median", **where)


def test_a_target_is_run_checked_and_gone_on_with(tmp_path, monkeypatch):
    target = reproducing.read_target("majority")
    short = {"majority": {**target.quick["majority"], "steps": 6, "evaluate_every": 3}}
    monkeypatch.setattr(reproducing, "read_target", lambda name: target._replace(quick=short))
    found = reproducing.reproduce("majority", tmp_path / "majority", quick=True, data="digits", quiet=True)
    assert [each.text for each in found.measured] == [each.text for each in target.statements if each.quick]
    assert found.runs == 3
    assert (tmp_path / "majority" / "majority.png").stat().st_size
    assert reproducing.read_outcome(tmp_path / "majority" / "outcome.json") == found

    def fail(*_, **__):
        raise AssertionError("what is there is run again")

    monkeypatch.setattr("byzax.experiments.running.execute_groups", fail)
    again = reproducing.reproduce("majority", tmp_path / "majority", quick=True, data="digits", quiet=True)
    assert again.measured == found.measured

    monkeypatch.undo()
    page = document.document(tmp_path, ".")
    assert "| [`majority`](#majority)" in page
    assert "](./majority/majority.png)" in page
    assert page.count("| not run |") == len(TARGETS) - 1


def test_a_damaged_outcome_is_named(tmp_path):
    path = tmp_path / "outcome.json"
    for text in ("", "{}", '{"measured": 3}'):
        path.write_text(text)
        with pytest.raises(ScenarioError, match=r"outcome\.json"):
            reproducing.read_outcome(path)


def test_numbers_that_are_not_finite_survive_a_file(tmp_path):
    given = outcome(finding([math.nan, math.inf], low=0))
    reproducing.write_outcome(given, tmp_path / "outcome.json")
    json.loads((tmp_path / "outcome.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    (read,) = reproducing.read_outcome(tmp_path / "outcome.json").measured
    assert read.holds is False


def test_the_repository_s_document_is_that_of_its_outcomes():
    for name, found in document.read_outcomes(document.MEASURED).items():
        target = reproducing.read_target(name)
        assert found.form == "full"
        # numbers are of the statements as they stand
        assert [(each.text, each.low, each.high) for each in found.measured] == [
            (each.text, each.low, each.high) for each in target.statements
        ]


@pytest.mark.slow
def test_the_quick_form_holds_on_mnist(tmp_path):
    import os

    if not os.environ.get("BYZAX_DATA"):
        pytest.skip("MNIST is not here: set $BYZAX_DATA to the folder that holds it")
    result = CliRunner().invoke(app, ["reproduce", "--quick", "--quiet", "--out", str(tmp_path)])
    assert result.exit_code in (0, 1), result.output
    outcomes = document.read_outcomes(tmp_path / "quick")
    assert {name for name in TARGETS if reproducing.read_target(name).quick is not None} == set(outcomes)
    assert outcomes["krum-1"].verdict == outcomes["hidden-4"].verdict == "reproduced"
