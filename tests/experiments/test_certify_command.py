"""`byzax certify` as a person calls it."""

import csv
import json
import os
import signal
import time

import pytest

from byzax.experiments.certify import measuring, plot
from byzax.experiments.certify.description import PARTS, load
from byzax.experiments.strict_yaml import dump
from tests.experiments.command import ROOT, byzax, command
from tests.nightly import by_night

SHIPPED = sorted((ROOT / "experiments" / "certificates").glob("*.yaml"))
# a second each: few draws, short searches
SMALL = {"n": 7, "f": 1, "d": 6, "samples": 12, "budget": 100, "dimensions": [10, 40], "attacks": ["empire", "none"]}
FILES = [".byzax", "certificate.csv", "certificate.json", "certificate.png", "certificate.svg"]


def write(folder, **changes):
    path = folder / "asked.yaml"
    path.write_text(dump({key: value for key, value in {**SMALL, **changes}.items() if value is not None}))
    return path


def rows(folder):
    return list(csv.DictReader((folder / "certificate.csv").read_text().splitlines()))


@pytest.mark.parametrize(
    ("second", "third", "label"),
    [
        by_night("trimmed_mean", {"name": "median", "median": "lower"}, "median median=lower"),
        by_night("krum", {"name": "bulyan", "base": "median"}, "bulyan base=median"),
    ],
)
def test_one_table_compares_several_rules_and_all_numbers_are_written(tmp_path, second, third, label):
    path = write(tmp_path, rules=["average", second, third], name="three")
    result = byzax("certify", path, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == FILES
    for word in ("average", second, label, "no limit", "broken by", "searched angle", "E|F|²/E|G|²"):
        assert word in result.stdout
    found = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert [each["rule"] for each in found["rules"]] == ["average", second, label]
    assert all(set(PARTS) <= set(each) for each in found["rules"])
    assert found["settings"]["n"] == 7
    assert "jax" in found["versions"]
    table = rows(tmp_path / "out")
    assert {row["part"] for row in table} == set(PARTS)
    num_byzantine = {row["rule"]: row["value"] for row in table if row["quantity"] == "num_byzantine"}
    assert num_byzantine["average"] == "1"
    kappas = {row["rule"]: (row["value"], row["bound"]) for row in table if row["quantity"] == "kappa"}
    assert kappas["average"] == ("inf", "")
    assert float(kappas[second][0]) <= float(kappas[second][1])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_one_others(tmp_path):
    # bucketing draws its buckets
    path = write(tmp_path, rule="median", n=9, pre=["bucketing"], parts=["resilience", "robustness", "breakdown"])
    for folder, seed in (("one", 3), ("two", 3), ("three", 4)):
        assert byzax("certify", path, "--out", tmp_path / folder, "--seed", seed).exit_code == 0
    one, two, three = ((tmp_path / each / "certificate.csv").read_bytes() for each in ("one", "two", "three"))
    assert one == two
    assert one != three


def test_a_folder_that_is_used_is_kept_unless_it_may_be_overwritten(tmp_path):
    path, out = write(tmp_path, rule="average", parts=["resilience"]), tmp_path / "out"
    assert byzax("certify", path, "--out", out).exit_code == 0
    refused = byzax("certify", path, "--out", out)
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1].startswith(f"{out}: this output folder is used already")
    assert byzax("certify", path, "--out", out, "--overwrite").exit_code == 0
    (out / "mine.txt").touch()
    foreign = byzax("certify", path, "--out", out, "--overwrite")
    assert foreign.exit_code == 2
    assert "mine.txt, which byzax did not write" in foreign.stderr
    assert sorted(each.name for each in out.iterdir()) == [*FILES, "mine.txt"]


def test_flags_come_before_the_file_and_settings_before_flags(tmp_path):
    path = write(tmp_path, rules=["average", "median"])
    asked = load(path, {"rules": ["krum"], "n": 9}, ["rule.distance=plain", "d=3"])
    assert (asked.subjects[0].name, asked.n, asked.f, asked.d) == ("krum", 9, 1, 3)
    assert asked.subjects[0].options()["distance"] == "plain"


@pytest.mark.parametrize("attacks", [["overreaching", "empire"], by_night(None)], ids=["some attacks", "all attacks"])
def test_a_rule_and_an_attack_of_the_users_own_are_certified(tmp_path, attacks):
    # tests/plugins, by $BYZAX_PLUGINS; the attack also tries to rewrite honest rows
    path = write(tmp_path, rule="remembering", attacks=attacks)
    result = byzax("certify", path, "--out", tmp_path / "out", "--set", "parts=[resilience, breakdown]")
    assert result.exit_code == 0, result.output
    table = rows(tmp_path / "out")
    assert {"overreaching", "empire", "searched inner"} <= {row["case"] for row in table}
    assert ("label_flip: changes data and makes no rows: left out" in result.stdout) == (attacks is None)
    # half the mean of the rows: one Byzantine row at seven sends it to 1/2 of 6/7 of g and half of 7
    assert [row["value"] for row in table if row["quantity"] == "num_byzantine"] == ["1"]


@pytest.mark.slow
def test_noise_can_be_that_of_a_model(tmp_path):
    path = write(tmp_path, rule="median", d=None, gradients={"model": "softmax", "batches": 20}, parts=["resilience"])
    assert byzax("certify", path, "--out", tmp_path / "out").exit_code == 0
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["scene"]["d"] == 650


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rule": "krum", "n": 8, "f": 3}, "rule: krum needs n >= 2f + 3: with n=8 rows f is at most 2, got f=3"),
        (
            {"rules": ["krum", "bulyan"], "f": 2},
            "rule: bulyan needs n >= 4f + 3: with n=7 rows f is at most 1, got f=2",
        ),
        ({"rule": {"name": "krum", "distanse": "plain"}}, "rule.distanse: unknown key; did you mean 'distance'?"),
        ({"rules": ["median", {"name": "bulyan", "bas": "krum"}]}, "rules[1].bas: unknown key; did you mean 'base'?"),
        ({"rules": ["median", "krun"]}, "rules[1]: unknown rule 'krun'; did you mean 'krum'?"),
        ({"rules": ["median", "median"]}, "rules: the same rule twice: remove one"),
        ({"rule": "median", "rules": ["krum"]}, "rule: one rule is needed, or rules, a list of them"),
        ({"rule": "median", "sampels": 3}, "sampels: unknown key; did you mean 'samples'?"),
        ({"rule": "median", "attacks": ["emprie"]}, "attacks[0]: unknown attack 'emprie'; did you mean 'empire'?"),
        ({"rule": "median", "attacks": ["label_flip"]}, "attacks: label_flip: changes data and makes no rows"),
        ({"rule": "median", "pre": [{"name": "nnm", "s": 2}]}, "pre[0].s: unknown key; known: name"),
        ({"rule": "median", "sigma": 0}, "sigma: must be greater than 0, got 0"),
        ({"rule": "median", "f": 7}, "f: of n=7 rows at least one must be honest: f is at most 6"),
        ({"rule": "median", "parts": ["leek"]}, "parts[0]: must be 'resilience'"),
        (
            {"rule": "median", "gradients": {"model": "cnnn"}},
            "gradients.model: unknown model 'cnnn'; did you mean 'cnn'?",
        ),
        ({"rule": "median", "gradients": {}}, "gradients: d would be measured: leave one of the two out"),
        ({"rule": "median", "dimensions": [10, 10]}, "dimensions: two different ones are needed"),
        ({"rule": "median", "dimensions": 10}, "dimensions: two different ones are needed"),
        ({"rule": "median", "norm": 1e-300}, "norm: must be at least 1e-09, got 1e-300"),
        ({"rule": "median", "sigma": 1e-8}, "sigma: beside a gradient of length 1 in d=6 parameters float32 keeps no"),
        (
            {"rule": "median", "n": 10_000, "d": 10_000_000},
            "d: measuring takes 20,000 GB with d=10000000, n=10000, this",
        ),
        (
            {"rule": "median", "n": 10_000, "budget": 10_000_000},
            "budget: measuring takes 6,000,000 GB with budget=10000000, n=10000, this",
        ),
        ({"rule": "failing"}, "rule: failing fails: ArithmeticError: this rule always fails"),
        ({}, "rule: is missing: --rule NAME, or a file with rule or rules"),
        (
            {"data": "digits", "rule": "krum", "attack": "none"},
            "this is a scenario, of byzax run: a certificate has rule",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out(tmp_path, changes, expected):
    path = write(tmp_path, **changes)
    result = byzax("certify", path, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(f"{path}: {expected}")
    assert not (tmp_path / "out").exists()


def test_a_rule_in_the_place_of_a_file_is_an_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = byzax("certify", "krum")
    assert (result.exit_code, result.stderr) == (2, "krum: no such file: the rule of this name is --rule krum\n")


def test_without_a_file_a_mistake_has_no_file_before_it():
    result = byzax("certify", "--rule", "krum", "-n", 8, "-f", 3)
    said = "rule: krum needs n >= 2f + 3: with n=8 rows f is at most 2, got f=3"
    way_out = "(or unproven: true, which takes n >= 2f + 1)"
    assert (result.exit_code, result.stderr) == (2, f"{said} {way_out}\n")


@pytest.mark.parametrize(("n", "f", "d"), [(1, 0, 1), by_night(2, 1, 2), by_night(3, 0, 3)])
def test_the_smallest_numbers_of_rows_can_be_measured(tmp_path, n, f, d):
    path = write(tmp_path, rule="average", n=n, f=f, d=d)
    result = byzax("certify", path, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_certificates_can_be_measured(path):
    asked = load(path, {})
    assert path.read_text().startswith("#"), "a comment says what the certificate shows"
    assert len(measuring.plan_measurements(asked).subjects) == len(asked.subjects)


@pytest.mark.parametrize("attack", ["all", "empire"])
def test_one_item_may_stand_for_a_list_of_one(tmp_path, attack):
    path = write(tmp_path, rules="krum", pre="nnm", parts="leak", attacks=attack)
    asked = load(path, {})
    assert [[each.name for each in some] for some in (asked.subjects, asked.pre)] == [["krum"], ["nnm"]]
    assert asked.parts == ("leak",)
    assert "empire" in [each.name for each in asked.attackers]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupt_keeps_the_rules_that_are_measured(tmp_path, sent, code, word):
    # so many draws that after the first rule there is time for a signal
    path, out = write(tmp_path, rules=["average", "median"], parts="resilience", samples=2_000), tmp_path / "out"
    process = command("certify", path, "--out", out)
    limit = time.monotonic() + 200
    while time.monotonic() < limit and not (out / "certificate.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.kill(process.pid, sent)
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == code, stderr
    assert stderr.splitlines()[-1] == f"{word}: 1 of 2 rules are measured, and kept"
    assert "Traceback" not in stderr
    assert "average: (alpha, f)-resilience" in stdout
    assert sorted(each.name for each in out.iterdir()) == FILES
    found = json.loads((out / "certificate.json").read_text())
    assert ([each["rule"] for each in found["rules"]], found["not_measured"]) == (["average"], ["median"])
    assert {row["rule"] for row in rows(out)} == {"average"}


def test_an_interrupt_before_the_first_rule_is_measured_leaves_an_empty_folder(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "_measure_rule", interrupted)
    result = byzax("certify", write(tmp_path, rule="median"), "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (130, "interrupted: no rule was measured to its end\n")
    assert not list((tmp_path / "out").iterdir())


def test_a_certificate_that_is_there_stays_until_another_one_takes_its_place(tmp_path, monkeypatch):
    path, out = write(tmp_path, rule="median", parts="leak"), tmp_path / "out"
    assert byzax("certify", path, "--out", out).exit_code == 0
    before = {each.name: each.read_bytes() for each in out.iterdir()}
    one = measuring._measure_rule

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "_measure_rule", interrupted)
    assert byzax("certify", path, "--out", out, "--overwrite").exit_code == 130
    assert {each.name: each.read_bytes() for each in out.iterdir()} == before
    # with the first rule measured the old one goes, plots and all
    monkeypatch.setattr(measuring, "_measure_rule", one)

    monkeypatch.setattr(plot, "draw", interrupted)
    changed = write(tmp_path, rule="average", parts="leak")
    result = byzax("certify", changed, "--out", out, "--overwrite")
    assert result.exit_code == 130
    assert sorted(each.name for each in out.iterdir()) == [".byzax", "certificate.csv", "certificate.json"]
    assert {row["rule"] for row in rows(out)} == {"average"}


@pytest.mark.slow
def test_the_tables_say_how_sure_moments_are_and_nothing_of_strengths_without_byzantine_rows(tmp_path):
    with_byzantine = byzax("certify", write(tmp_path, rule="median"), "--out", tmp_path / "one").stdout
    moment = next(row for row in rows(tmp_path / "one") if (row["case"], row["quantity"]) == ("none", "moment_2"))
    value, low, high = (float(moment[key]) for key in ("value", "low", "high"))
    assert f"{value:.3f} \N{PLUS-MINUS SIGN} {max(high - value, value - low):.3f}" in with_byzantine
    assert "none up to 1e6" in with_byzantine
    without = byzax("certify", write(tmp_path, rule="median", f=0, parts="breakdown"), "--out", tmp_path / "two")
    assert without.exit_code == 0, without.output
    assert "up to 1e6" not in without.stdout


@pytest.mark.slow
def test_the_table_of_many_rules_has_one_line_for_each(tmp_path):
    long = ["centered_clipping", "median"]
    result = byzax("certify", write(tmp_path, rules=long, parts=["resilience", "breakdown"]), "--out", tmp_path / "out")
    table = result.stdout[: result.stdout.index("label_flip") if "label_flip" in result.stdout else None]
    lines = [line for line in table.splitlines() if line.strip().startswith(tuple(long))][: len(long)]
    assert all("sin" not in line and "[" in line and "up to" in line for line in lines), lines
