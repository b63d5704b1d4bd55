"""`byzax run` on a folder that exists goes on: real files, real kills, real locks."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from byzax.experiments import locking, resuming, run_files
from byzax.experiments.run_files import SNAPSHOT
from byzax.simulator.mistakes import ScenarioError
from tests.experiments.command import byzax, write
from tests.nightly import by_night

ROOT = Path(__file__).parents[2]
RULES = {"rule.name": ["average", "median"]}


def summaries(out):
    """The summary of each run, by the name of its folder."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("runs/*/summary.json"))}


def computed(monkeypatch):
    """The folders of the runs that are computed from now on."""
    begun = []
    begin = run_files.begin
    monkeypatch.setattr(run_files, "begin", lambda folder, run: begun.append(run.slug) or begin(folder, run))
    return begun


def test_runs_that_are_there_stay_and_new_ones_are_run(tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert byzax("run", write(tmp_path, grid=RULES), "--out", out).exit_code == 0
    before = summaries(out)
    begun = computed(monkeypatch)
    grid = {**RULES, "seed": [0, 3]}
    again = byzax("run", write(tmp_path, grid=grid), "--out", out)
    assert again.exit_code == 0, again.output
    assert f"{out}: of 4 runs 2 there already, 2 to be run" in again.stderr
    after = summaries(out)
    assert sorted(begun) == ["average_none_seed-3", "median_none_seed-3"]
    assert sorted(after) == sorted([*before, *begun])
    assert all(after[name]["digest"] == before[name]["digest"] for name in before)
    assert {each["runs"] for each in after.values()} == {4}
    assert [after[name]["position"] for name in ("average_none_seed-0", "average_none_seed-3")] == [0, 1]
    begun.clear()
    assert byzax("run", write(tmp_path, grid=grid), "--out", out).exit_code == 0
    assert begun == []
    # a run that the file does not have any more stays
    fewer = byzax("run", write(tmp_path, grid=RULES), "--out", out)
    assert fewer.exit_code == 0
    assert "2 of the runs there are not in" in fewer.stderr
    assert sorted(summaries(out)) == sorted(after)


def test_a_run_gets_the_name_and_the_label_that_it_has_among_new_ones(tmp_path, monkeypatch):
    out = tmp_path / "out"
    one = {"name": "multi_krum", "m": 2}
    assert byzax("run", write(tmp_path, grid={"rule": [one]}), "--out", out).exit_code == 0
    (name,) = summaries(out)
    digest = summaries(out)[name]["digest"]
    begun = computed(monkeypatch)
    grid = {"rule": [{"name": "multi_krum", "m": 3}, one]}
    assert byzax("run", write(tmp_path, grid=grid), "--out", out).exit_code == 0
    after = summaries(out)
    assert len(begun) == 1
    assert len(after) == 2
    (kept,) = [each for each in after.values() if each["digest"] == digest]
    assert kept["rule"] == "multi_krum m=2"
    assert kept["position"] == 1


def test_two_runs_may_swap_their_names(tmp_path, monkeypatch):
    out = tmp_path / "out"
    for name in ("a", "b"):
        (out / "runs" / name).mkdir(parents=True)
        (out / "runs" / name / "summary.json").write_text(name)
    (out / ".byzax").write_text("byzax study\nruns/a\nruns/b\n")
    resuming._rename(out, {"b": out / "runs" / "a", "a": out / "runs" / "b"})
    assert {path.name: (path / "summary.json").read_text() for path in (out / "runs").iterdir()} == {"a": "b", "b": "a"}
    assert "of 2 runs done" in byzax("status", out).stdout


def test_runs_of_a_version_without_a_key_stay(tmp_path):
    path, out = write(tmp_path), tmp_path / "out"
    assert byzax("run", path, "--out", out).exit_code == 0
    (described,) = (out / "runs").glob("*/scenario.yaml")
    kept = [line for line in described.read_text().splitlines() if not line.startswith(("measure:", "log:"))]
    described.write_text("\n".join(kept) + "\n")
    again = byzax("run", path, "--out", out)
    assert again.exit_code == 0, again.output
    assert "1 there already" in again.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {"name": "sgd", "learning_rate": 0.2}}, "optimizer.learning_rate 0.1, which is 0.2 in"),
        by_night({"evaluate_every": 1}, "evaluate_every"),
        by_night({"steps": 5}, "steps 4, which is 5 in"),
    ],
)
def test_a_run_that_was_changed_is_refused_and_nothing_is_touched(tmp_path, changes, words):
    out = tmp_path / "out"
    assert byzax("run", write(tmp_path), "--out", out).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and ".byzax-" not in path.name}
    refused = byzax("run", write(tmp_path, **changes), "--out", out)
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"{out}/runs/average_none_seed-0: was run with ")
    assert words in line
    assert "--overwrite" in line
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and ".byzax-" not in path.name}
    assert after == before
    assert byzax("run", write(tmp_path, **changes), "--out", out, "--overwrite").exit_code == 0


def test_a_run_is_another_one_when_a_file_of_the_users_own_changed(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("from byzax.aggregators import average\n\ndef mine(n, f):\n    return average(n, f)\n")
    path, out = write(tmp_path, rule=f"{own}:mine"), tmp_path / "out"
    assert byzax("run", path, "--out", out).exit_code == 0
    assert byzax("run", path, "--out", out).exit_code == 0
    own.write_text(own.read_text() + "\n# changed\n")
    refused = byzax("run", path, "--out", out)
    assert refused.exit_code == 2
    assert "the file of rule" in refused.stderr


def test_other_executors_with_the_same_bits_and_other_names_go_on_and_batches_do_not(tmp_path):
    out = tmp_path / "out"
    assert byzax("run", write(tmp_path, executor="loop"), "--out", out).exit_code == 0
    again = byzax("run", write(tmp_path, executor="ray", name="other"), "--out", out)
    assert again.exit_code == 0, again.output
    assert "of 1 run 1 there already" in again.stderr
    assert byzax("run", write(tmp_path, executor="vectorised"), "--out", out).exit_code == 2


def test_failed_runs_stay_until_they_are_asked_for_again(tmp_path, monkeypatch):
    out = tmp_path / "out"
    path = write(tmp_path, grid={"attack": ["none", "crashing"]})
    assert byzax("run", path, "--out", out).exit_code == 1
    begun = computed(monkeypatch)
    again = byzax("run", path, "--out", out)
    assert again.exit_code == 1
    assert "--retry-failed" in again.stderr
    assert begun == []
    assert byzax("run", path, "--out", out, "--retry-failed").exit_code == 1
    assert len(begun) == 1
    assert begun[0].startswith("average_crashing")


def test_an_interrupted_run_goes_on_from_its_snapshot(tmp_path, monkeypatch):
    out, whole = tmp_path / "out", tmp_path / "whole"
    path = write(tmp_path, steps=12, evaluate_every=2, worker_momentum=0.9, snapshots={"every": 1})
    assert byzax("run", path, "--out", whole).exit_code == 0
    saved = []

    def interrupted(folder, run, snapshot):
        save(folder, run, snapshot)
        saved.append(snapshot.state.step)
        if snapshot.state.step == 7:
            raise KeyboardInterrupt

    save = run_files.save_snapshot
    monkeypatch.setattr(run_files, "save_snapshot", interrupted)
    assert byzax("run", path, "--out", out).exit_code == 130
    (name,) = summaries(out)
    assert summaries(out)[name]["status"] == "interrupted"
    assert (out / "runs" / name / SNAPSHOT).exists()
    said = byzax("status", out).stdout
    assert f"{out}: 0 of 1 run done" in said
    assert f"cut: {name}, step 6 of 12 at the last evaluation" in said
    saved.clear()
    again = byzax("run", path, "--out", out)
    assert again.exit_code == 0, again.output
    assert saved == [8, 9, 10, 11]
    assert summaries(out)[name]["digest"] == summaries(whole)[name]["digest"]


@pytest.mark.parametrize("change", ["versions", "snapshot"])
def test_a_run_whose_snapshot_does_not_serve_begins_again_and_says_so(tmp_path, monkeypatch, change):
    out = tmp_path / "out"
    path = write(tmp_path, steps=8, evaluate_every=2, snapshots={"every": 1})

    def interrupted(folder, run, snapshot):
        save(folder, run, snapshot)
        raise KeyboardInterrupt

    save = run_files.save_snapshot
    monkeypatch.setattr(run_files, "save_snapshot", interrupted)
    assert byzax("run", path, "--out", out).exit_code == 130
    monkeypatch.setattr(run_files, "save_snapshot", save)
    (name,) = summaries(out)
    here = out / "runs" / name
    if change == "versions":
        versions = json.loads((here / "versions.json").read_text())
        (here / "versions.json").write_text(json.dumps({**versions, "jax": "0.1"}))
    else:
        (here / SNAPSHOT).write_bytes(b"half of one")
    again = byzax("run", path, "--out", out)
    assert again.exit_code == 0, again.output
    assert f"{here}: begins again: " in again.stderr
    assert ("jax 0.1" if change == "versions" else "damaged") in again.stderr
    assert summaries(out)[name]["status"] == "complete"
    assert not (here / SNAPSHOT).exists()


HOLDING = """
import sys, time
from pathlib import Path
from byzax.experiments.locking import locked
with locked([Path(sys.argv[1])]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path):
    out = tmp_path / "out"
    path = write(tmp_path)
    assert byzax("run", path, "--out", out).exit_code == 0
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(out)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            for options in ((), ("--overwrite",)):
                refused = byzax("run", path, "--out", out, *options)
                assert refused.exit_code == 2
                assert f"{out}: byzax runs there already (process {other.pid} on " in refused.stderr
            assert f"running: process {other.pid} on " in byzax("status", out).stdout
        finally:
            other.kill()
    # the lock went with the process
    deadline = time.monotonic() + 10
    while locking.holder(out) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert byzax("run", path, "--out", out).exit_code == 0
    assert "running" not in byzax("status", out).stdout


def test_status_needs_a_folder_of_byzax(tmp_path):
    refused = byzax("status", tmp_path)
    assert refused.exit_code == 2
    assert f"{tmp_path}: no study here" in refused.stderr


def test_a_broken_description_is_in_the_way_of_nothing(tmp_path):
    out = tmp_path / "out"
    path = write(tmp_path)
    assert byzax("run", path, "--out", out).exit_code == 0
    (name,) = summaries(out)
    (out / "runs" / name / "scenario.yaml").write_text("[")
    assert byzax("run", path, "--out", out).exit_code == 0
    assert summaries(out)[name]["status"] == "complete"


def test_a_run_that_was_killed_before_the_folder_had_its_mark_begins(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in (".byzax-lock", ".byzax-holder.json", ".byzax-0123abcd.tmp"):
        (out / name).touch()
    assert byzax("run", write(tmp_path), "--out", out).exit_code == 0
    assert not (out / ".byzax-0123abcd.tmp").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").touch()
    assert byzax("run", write(tmp_path), "--out", other).exit_code == 2


def test_a_foreign_file_in_the_folder_of_a_run_is_kept(tmp_path):
    out = tmp_path / "out"
    path = write(tmp_path)
    assert byzax("run", path, "--out", out).exit_code == 0
    (name,) = summaries(out)
    (out / "runs" / name / "mine.txt").write_text("mine")
    (out / "notes.txt").write_text("mine")
    assert byzax("run", path, "--out", out).exit_code == 0
    (out / "runs" / name / "summary.json").unlink()
    again = byzax("run", path, "--out", out)
    assert (out / "runs" / name / "mine.txt").read_text() == (out / "notes.txt").read_text() == "mine"
    assert again.exit_code == 1
    assert "Directory not empty" in again.stderr


# Between them: synchronous and asynchronous, momentum, SAGA, a rule with a state, an adaptive attack, a filter, several
# servers of which one remembers what it lies.
BY_NIGHT = {
    "asynchronous": {
        "schedule": "asynchronous",
        "latency": "exponential",
        "worker_momentum": 0.9,
        "attack": "mimic",
        "rule": "centered_clipping",
        "record": {"rows": 7, "weights": True},
    },
    "saga": {
        "variance_reduction": "saga",
        "attack": "min_max",
        "rule": "krum",
        "repeats": 2,
        "measure": ["balanced_accuracy", "class_accuracy", "confusion"],
    },
    "filtered": {
        "schedule": {"name": "asynchronous", "apply": "each"},
        "latency": "exponential",
        "filter": "kardam",
        "workers": {"total": 7, "byzantine": 2},
        "attack": {"name": "sign_flip", "scale": 10.0},
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    },
    "stopping": {
        "data": {"name": "digits", "batch_size": 4, "validation": 0.1},
        "early_stopping": {"patience": 3},
        "optimizer": {"name": "sgd", "learning_rate": 0.0001},
        "attack": "optimised",
        "rule": "median",
        "workers": {"total": 7, "byzantine": 2},
    },
    "servers": {
        "topology": {"name": "guanyu", "servers": 6, "byzantine_servers": 1, "server_attack": "stale"},
        "latency": {
            "name": "exponential",
            "up": {"delay": {"name": "exponential", "mean": 0.5}},
            "peer": {"delay": {"name": "exponential", "mean": 0.5}},
        },
        "worker_momentum": 0.9,
        "attack": "little",
        "rule": "median",
    },
}
# Rule, attack and workers have a state here too, and it is traced fast: each process traces it anew.
BY_DAY = {
    "remembering": {
        **BY_NIGHT["asynchronous"],
        "attack": "counting",
        "rule": "remembering",
        "measure": BY_NIGHT["saga"]["measure"],
    }
}


@pytest.mark.parametrize(
    ("name", "executor", "kills", "again"),
    [
        # a dozen kills or so: up to eleven of one run
        ("remembering", "loop", 2, 11),
        *(by_night(name, executor, 11, 3) for name in BY_NIGHT for executor in ("loop", "vectorised")),
        *(by_night(name, "ray", 4, 3) for name in BY_NIGHT),
    ],
)
def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_files(tmp_path, name, executor, kills, again):
    path = write(
        tmp_path, steps=24, evaluate_every=5, executor=executor, snapshots={"every": 1}, **(BY_DAY | BY_NIGHT)[name]
    )
    program = [sys.executable, "-m", "tests.experiments.cut"]
    command = [*program, tmp_path / "work", kills, again, random.randrange(10**6), path]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.slow
def test_a_study_that_is_killed_three_times_has_the_files_of_one_that_is_not(tmp_path):
    # 2,000 runs: python -m tests.experiments.three_kills FOLDER
    command = [sys.executable, "-m", "tests.experiments.three_kills", tmp_path, "3", "2"]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_study_is_refused_for_several_changed_runs_in_lines_of_their_own(tmp_path):
    out = tmp_path / "out"
    assert byzax("run", write(tmp_path, grid=RULES), "--out", out).exit_code == 0
    refused = byzax("run", write(tmp_path, grid=RULES, steps=5), "--out", out)
    assert len(refused.stderr.splitlines()) == 2


def test_python_goes_on_too(tmp_path, monkeypatch):
    from byzax.experiments.api import run

    small = {"data": {"name": "digits", "batch_size": 4}, "model": "softmax", "attack": "none", "steps": 4}
    run(rule="average", **small, out=tmp_path / "out", quiet=True)
    begun = computed(monkeypatch)
    result = run(rule="average", repeats=2, **small, out=tmp_path / "out", quiet=True)
    assert begun == ["average_none_seed-1"]
    assert len(result.runs) == 2
    with pytest.raises(ScenarioError, match="was run with steps 4, which is 5 in the study"):
        run(rule="average", repeats=2, **{**small, "steps": 5}, out=tmp_path / "out", quiet=True)
