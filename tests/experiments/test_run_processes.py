"""Runs side by side in several processes: the files of one process, whatever happens to one of them."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

import byzax as package
from byzax.experiments import locking, run_groups, run_processes
from byzax.experiments.study import load
from byzax.simulator.config.grid import expand
from byzax.simulator.executors import room
from byzax.simulator.mistakes import ScenarioError
from tests.experiments.command import byzax, command, write
from tests.experiments.cut import content

# a rule of the user's own that ends its process while it answers, in its first run
OWN = """
import os, signal, sys
import jax
import jax.numpy as jnp
from byzax.aggregators.base import Info, stateless

FLAG = {flag!r}
{top}

def answer(row):
    if not os.path.exists(FLAG):
        open(FLAG, "w").close()
        os.kill(os.getpid(), signal.{signal})
    return row

def own(n, f):
    def aggregate(rows):
        row = jax.pure_callback(answer, jax.ShapeDtypeStruct(rows[0].shape, rows.dtype), rows[0])
        return row, Info(jnp.full(n, jnp.nan, rows.dtype))

    return stateless(n, aggregate)
"""

# rules that end their process, or raise, in every run
ALWAYS = """
import os, signal
import jax
import jax.numpy as jnp
from byzax.aggregators.base import Info, stateless

def kill(row):
    os.kill(os.getpid(), signal.SIGKILL)

def refuse(row):
    raise ValueError("told so")

def made(answer, n):
    def aggregate(rows):
        row = jax.pure_callback(answer, jax.ShapeDtypeStruct(rows[0].shape, rows.dtype), rows[0])
        return row, Info(jnp.full(n, jnp.nan, rows.dtype))

    return stateless(n, aggregate)

def dies(n, f):
    return made(kill, n)

def raises(n, f):
    return made(refuse, n)
"""


def write_own(folder, flag, number="SIGKILL", top=""):
    (folder / "own.py").write_text(OWN.format(flag=str(flag), signal=number, top=top))
    return f"{folder / 'own.py'}:own"


def files_of_runs(out):
    """The files of the runs, without what depends on the clock."""
    return {name: each for name, each in content(out).items() if name.startswith("runs/")}


def summaries(out):
    """The summary of each run, by the name of its folder."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("runs/[!.]*/summary.json"))}


def test_several_processes_write_the_files_of_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flag = tmp_path / "flag"
    flag.touch()
    write_own(tmp_path, flag)
    # by a relative path, which is in the description of each run
    path = write(tmp_path, grid={"rule": ["average", "own.py:own"]}, repeats=3, record={"rows": 2, "weights": True})
    for jobs in (1, 2):
        done = byzax("run", path, "--out", f"with-{jobs}", "--jobs", jobs)
        assert done.exit_code == 0, done.output
        assert ("in 2 processes" in done.stderr) == (jobs == 2)
    assert files_of_runs(tmp_path / "with-2") == files_of_runs(tmp_path / "with-1")
    # all of it is there
    again = byzax("run", path, "--out", "with-2", "--jobs", 2)
    assert "6 there already" in again.stderr


def test_a_run_whose_process_is_killed_has_failed_and_the_others_go_on(tmp_path):
    flag = tmp_path / "flag"
    path = write(tmp_path, grid={"rule": [write_own(tmp_path, flag), "average"]}, repeats=2)
    done = byzax("run", path, "--out", tmp_path / "out", "--jobs", 2)
    assert done.exit_code == 1
    found = summaries(tmp_path / "out")
    failed = {name: each["reason"] for name, each in found.items() if each["status"] == "failed"}
    assert len(failed) == 1, found
    ((name, reason),) = failed.items()
    assert name.startswith("own_")
    assert reason.startswith("its process was killed by signal 9")
    assert reason in done.stderr
    assert [each["status"] for each in found.values()].count("complete") == 3
    again = byzax("run", path, "--out", tmp_path / "out", "--retry-failed")
    assert again.exit_code == 0
    assert byzax("run", path, "--out", tmp_path / "whole").exit_code == 0
    assert files_of_runs(tmp_path / "out") == files_of_runs(tmp_path / "whole")


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_whose_process_is_killed_is_retried_to_the_same_files(tmp_path, jobs):
    flag = tmp_path / "flag"
    path = write(tmp_path, grid={"rule": [write_own(tmp_path, flag), "average"]})
    done = byzax("run", path, "--out", tmp_path / "out", "--jobs", jobs, "--retries", 1)
    assert done.exit_code == 0, done.stderr
    assert "its process was killed by signal 9" in done.stderr
    assert "it is run again (1 of 1)" in done.stderr
    assert byzax("run", path, "--out", tmp_path / "whole", "--jobs", 1).exit_code == 0
    assert files_of_runs(tmp_path / "out") == files_of_runs(tmp_path / "whole")


@pytest.mark.slow
def test_a_retried_run_goes_on_from_its_snapshot(tmp_path):
    changes = {"steps": 3000, "evaluate_every": 500, "snapshots": {"every": 100, "every_s": None}}
    path = write(tmp_path, grid={"rule": ["average", "median"]}, **changes)
    begun = command("run", path, "--out", tmp_path / "out", "--jobs", 2, "--retries", 1)
    while not (held := [*tmp_path.glob("out/runs/[!.]*/snapshot.npz")]):
        assert begun.poll() is None, begun.communicate()
        time.sleep(0.02)
    others = [each for each in psutil.Process(begun.pid).children() if "run_process" in " ".join(each.cmdline())]
    evaluations = {each.parent.name: (each.parent / "metrics.csv").read_text() for each in held}
    for each in others:
        each.kill()
    _, said = begun.communicate(timeout=200)
    assert begun.returncode == 0, said
    assert said.count("it is run again (1 of 1)") == len(others) == 2
    # the wall clock of an evaluation before the cut is still in the file: it was not made again
    for name, before in evaluations.items():
        assert (tmp_path / "out" / "runs" / name / "metrics.csv").read_text().startswith(before)
    assert byzax("run", path, "--out", tmp_path / "whole", "--jobs", 1).exit_code == 0
    assert files_of_runs(tmp_path / "out") == files_of_runs(tmp_path / "whole")


def test_a_run_that_kills_its_process_again_and_again_fails_and_errors_are_not_retried(tmp_path):
    (tmp_path / "always.py").write_text(ALWAYS)
    path = write(tmp_path, grid={"rule": [f"{tmp_path}/always.py:dies", f"{tmp_path}/always.py:raises"]})
    done = byzax("run", path, "--out", tmp_path / "out", "--retries", 2)
    assert done.exit_code == 1
    reasons = {name[:4]: each["reason"] for name, each in summaries(tmp_path / "out").items()}
    assert reasons["dies"].startswith("its process was killed by signal 9")
    assert "told so" in reasons["rais"]
    assert [done.stderr.count(f"run again ({time} of 2)") for time in (1, 2, 3)] == [1, 1, 0]
    # at the end, below the tables, stand the reasons
    assert "its process was killed by signal 9" in done.stdout


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_all_processes_and_the_same_command_goes_on(tmp_path, number):
    path = write(tmp_path, grid={"rule": ["average", "median"]}, repeats=2, steps=2000, evaluate_every=500)
    arguments = ["run", path, "--out", tmp_path / "out", "--executor", "vectorised"]
    begun = command(*arguments, "--jobs", 2, start_new_session=True)
    runs = []
    while len(runs) < 2:
        assert begun.poll() is None, begun.communicate()
        time.sleep(0.02)
        runs = [*tmp_path.glob("out/runs/[!.]*")]
    others = psutil.Process(begun.pid).children(recursive=True)
    assert len(others) >= 2
    holder = locking.holder(tmp_path / "out")
    assert (holder.process, holder.jobs) == (begun.pid, 2)
    if number == signal.SIGINT:
        # as a terminal does
        os.killpg(begun.pid, number)
    else:
        begun.send_signal(number)
    _, said = begun.communicate(timeout=100)
    assert begun.returncode == (-number if number == signal.SIGKILL else 128 + number), said
    assert "Traceback" not in said
    psutil.wait_procs(others, timeout=10)
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in others)
    if number != signal.SIGKILL:
        assert {each["status"] for each in summaries(tmp_path / "out").values()} <= {"interrupted", "complete"}
    assert byzax(*arguments).exit_code == 0
    assert byzax(*arguments[:3], tmp_path / "whole", *arguments[4:]).exit_code == 0
    assert files_of_runs(tmp_path / "out") == files_of_runs(tmp_path / "whole")


@pytest.mark.slow
def test_a_full_disk_in_one_process_ends_all_with_one_line(tmp_path):
    top = """
if sys.argv[0].endswith("run_process.py"):
    from byzax.experiments import run_files
    def full(*given):
        raise OSError(28, "No space left on device", "metrics.csv")
    run_files.atomically = full
"""
    flag = tmp_path / "flag"
    flag.touch()
    path = write(tmp_path, grid={"rule": [write_own(tmp_path, flag, top=top), "average"]}, repeats=3)
    done = byzax("run", path, "--out", tmp_path / "out", "--jobs", 2)
    assert done.exit_code == 1
    assert "metrics.csv: cannot be written (No space left on device): what is done is kept" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_process_that_ends_by_itself_is_a_failed_run(tmp_path):
    flag = tmp_path / "flag"
    path = write(tmp_path, grid={"rule": [write_own(tmp_path, flag, "SIGABRT"), "average"]})
    assert byzax("run", path, "--out", tmp_path / "out", "--jobs", 2).exit_code == 1
    assert [each.get("reason") for each in summaries(tmp_path / "out").values()] == [
        None,
        "its process was killed by signal 6",
    ]


def groups_of(tmp_path, **changes):
    return run_groups.group_runs(load(write(tmp_path, **changes)), tmp_path)


def test_a_process_stays_with_its_cell_and_then_helps_with_the_longest(tmp_path):
    groups = groups_of(tmp_path, grid={"rule": ["average", "median", "krum"]}, repeats=3)
    next_group = run_processes._build_next(groups)

    def names(group):
        return (group.cell, next(iter(group.runs)))

    one, other = next_group(None), next_group(None)
    assert [names(one), names(other)] == [(0, 0), (1, 0)]
    one = next_group(one)
    assert names(one) == (0, 1)
    assert names(next_group(one)) == (0, 2)
    # its cell is done: one that nobody has begun
    third = next_group(one)
    assert names(third) == (2, 0)
    assert [names(next_group(third)) for _ in range(2)] == [(2, 1), (2, 2)]
    # nothing is fresh: the last run of the cell that another one is at
    assert names(next_group(third)) == (1, 2)
    assert names(next_group(other)) == (1, 1)
    assert next_group(other) is None
    assert next_group(None) is None


def test_as_many_processes_as_cores_where_it_is_worth_it(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "cores", lambda: 4)
    short, long = groups_of(tmp_path, repeats=3), groups_of(tmp_path, repeats=3, steps=10_000_000)
    assert run_processes.count(short, None) == 1
    assert run_processes.count(long, None) == 3
    assert run_processes.count(long[:1], None) == 1
    assert run_processes.count(short, 2) == 2
    assert run_processes.count(short, 8) == 3
    monkeypatch.setenv("BYZAX_THREADS", "2")
    monkeypatch.delenv("NPROC", raising=False)
    assert run_processes.count(long, None) == 2
    monkeypatch.setattr(room, "free_bytes", lambda: int(1.5 * room.bytes_alone(long[0].scenario.task)))
    assert run_processes.count(long, None) == 1
    assert run_processes.count(groups_of(tmp_path, executor="ray", repeats=300, steps=10_000_000), 2) == 1


def test_what_other_processes_cannot_do_is_refused_or_left_to_one(tmp_path):
    def own(n, f):
        return package.aggregators.average(n, f)

    with pytest.raises(ScenarioError, match=r"^retries: a whole number from 0 on is needed, got -1"):
        package.run(data="digits", rule="median", attack="none", retries=-1, quiet=True)
    with pytest.raises(ScenarioError, match=r"^jobs: rule is a function of the running program.*FILE:NAME"):
        package.run(data="digits", rule=own, attack="none", steps=1, jobs=2, quiet=True)
    with pytest.raises(ScenarioError, match=r"^jobs: executor ray has processes of its own"):
        package.run(data="digits", rule="krum", attack="none", steps=1, executor="ray", jobs=2, quiet=True)
    for wrong in (0, 1.5, True, "2"):
        with pytest.raises(ScenarioError, match=r"^jobs: a number of processes from 1 on is needed"):
            package.run(data="digits", rule="krum", attack="none", steps=1, jobs=wrong, quiet=True)
    refused = byzax("run", write(tmp_path), "--executor", "ray", "--jobs", 2, "--out", tmp_path / "out")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "jobs: executor ray has processes of its own (executor.actors): leave it out, or take 1\n",
    )
    assert not (tmp_path / "out").exists()
    assert byzax("run", write(tmp_path), "--jobs", 0).exit_code == 2
    far = package.describe(data="digits", rule=own, attack="none", steps=10**6, repeats=99)
    found = run_groups.group_runs(expand(far), tmp_path)
    assert run_processes.count(found, None) == 1


@pytest.mark.slow
def test_processes_of_a_mesh_have_its_devices(tmp_path):
    mesh = {"executor": {"name": "vectorised", "mesh": {"workers": 2}}, "repeats": 2, "steps": 4}
    path, whole = write(tmp_path, "mesh.yaml", **mesh), {}
    for jobs in (1, 2):
        code = f"import byzax; byzax.run({str(path)!r}, out={str(tmp_path / str(jobs))!r}, jobs={jobs})"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
        whole[jobs] = {name: each["digest"] for name, each in summaries(tmp_path / str(jobs)).items()}
    assert whole[1] == whole[2]
    assert len(whole[1]) == 2
