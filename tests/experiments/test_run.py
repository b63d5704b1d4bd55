"""`byzax run` and `byzax show`: what they write, and what is left when something goes wrong."""

import csv
import io
import itertools
import json
import os
import re
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from matplotlib import image
from rich.console import Console

from byzax.experiments import running
from byzax.experiments.entries import Entry
from byzax.experiments.progress import report
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.executors import Loop
from byzax.simulator.config.study import Study
from byzax.simulator.executors import session
from byzax.simulator.executors.base import digest
from byzax.simulator.timeline_files import load
from tests.experiments.command import ROOT, SMALL, byzax, command, write
from tests.nightly import by_day

FILES = {
    "workers.csv",
    "ages.csv",
    "scenario.yaml",
    "metrics.csv",
    "updates.csv",
    "params.npz",
    "versions.json",
    "summary.json",
}
GRID = {"rule.name": ["average", "median"], "attack": ["none", {"name": "sign_flip", "scale": 10}]}


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def summaries(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("runs/*/summary.json")}


def left_by(number, servers):
    """Files of the Ray that the process of this number started, which these processes manage."""
    folder = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()), "ray")
    semaphores = (Path("/dev/shm").glob(f"sem.*{each.pid}-*") for each in servers)
    return [*folder.glob(f"session_*_{number}"), *itertools.chain(*semaphores)]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a study with two rules, two attacks and two seeds, and what was printed."""
    folder = tmp_path_factory.mktemp("study")
    result = byzax("run", write(folder, repeats=2, grid=GRID), "--out", folder / "out")
    assert result.exit_code == 0, result.output
    return folder / "out", result


def test_one_run_is_no_runs(tmp_path):
    result = byzax("run", write(tmp_path, steps=1), "--out", tmp_path / "out")
    lines = result.stderr.splitlines()
    assert lines[0] == "1 run, 1 update; starting loop"
    assert re.fullmatch(r"1 of 1 run, in \d+ s", lines[-1])


def test_every_run_leaves_all_its_files(study):
    folder, _ = study
    names = [
        f"{rule}_{attack}_seed-{seed}"
        for rule in ("average", "median")
        for attack in ("none", "sign-flip-scale-10")
        for seed in (0, 1)
    ]
    assert sorted(path.name for path in (folder / "runs").iterdir()) == sorted(names)
    for name in names:
        assert {path.name for path in (folder / "runs" / name).iterdir()} == FILES


def test_the_files_hold_what_the_executor_yields(study):
    folder, _ = study
    here = folder / "runs" / "average_sign-flip-scale-10_seed-1"
    scenario = parse_as(Study, {**SMALL, "seed": 1, "attack": {"name": "sign_flip", "scale": 10}})
    with session(scenario.executor) as execute:
        seen = list(execute(scenario.task))
    metrics = rows(here / "metrics.csv")
    assert [int(row["step"]) for row in metrics] == [each.step for each in seen] == [0, 2, 4]
    for row, each in zip(metrics, seen, strict=True):
        for name, value in each.evaluation._asdict().items():
            assert float(row[name]) == value or np.isnan([float(row[name]), value]).all()
    assert 0 <= float(metrics[-1]["test_accuracy"]) <= 1
    updates = rows(here / "updates.csv")
    assert [int(row["step"]) for row in updates] == [1, 2, 3, 4]
    norms = np.concatenate([each.updates.aggregate_norm for each in seen])
    assert [float(row["aggregate_norm"]) for row in updates] == norms.tolist()
    with np.load(here / "params.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["params"], seen[-1].params)
    summary = json.loads((here / "summary.json").read_text())
    assert summary["digest"] == digest(seen)
    assert summary["status"] == "complete"
    assert summary["test_accuracy"] == seen[-1].evaluation.test_accuracy
    versions = json.loads((here / "versions.json").read_text())
    # where the tests lie, there need not be a repository
    assert bool(versions["commit"]) == (ROOT / ".git").exists()
    assert {"byzax", "python", "jax", "jaxlib", "flax", "optax", "ray", "numpy", "platform", "processors"} <= set(
        versions
    )


def test_a_run_is_repeated_from_its_own_file_to_the_same_digest(study, tmp_path):
    folder, _ = study
    name = "median_sign-flip-scale-10_seed-1"
    result = byzax("run", folder / "runs" / name / "scenario.yaml", "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    assert summaries(tmp_path / "again")[name]["digest"] == summaries(folder)[name]["digest"]


def test_the_tables_hold_mean_and_deviation_of_the_runs(study):
    folder, result = study
    table = rows(folder / "summary.csv")
    assert len(table) == 8
    assert {"run", "rule", "attack", "seed", "status", "test_accuracy", "digest"} <= set(table[0])
    final = [float(r["test_accuracy"]) for r in table if (r["rule"], r["attack"]) == ("average", "none")]
    cell = f"{min(final):.3f} to {max(final):.3f}"
    page = (folder / "summary.md").read_text()
    assert "| rule | none | sign_flip scale=10 |" in page
    assert f"| average | {cell} |" in page.replace("**", "")
    assert cell in result.stdout
    for path in ("summary.csv", "tables.csv", "tables.tex", "summary.md", "accuracy.png", "accuracy.svg"):
        assert str(folder / path) in result.stdout


def test_the_plot_is_an_image_of_sane_size_that_shows_something(study):
    folder, _ = study
    picture = image.imread(folder / "accuracy.png")
    height, width, _ = picture.shape
    assert 400 < height < 4000
    assert 600 < width < 4000
    # both colours of the two rules are there
    for colour in ("#555555", "#E69F00"):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        assert (np.abs(picture[..., :3] - wanted).max(-1) < 0.02).sum() > 500
    assert "sign_flip scale=10" in (folder / "accuracy.svg").read_text()


def test_without_a_terminal_there_is_one_line_for_each_run(study):
    _, result = study
    lines = [line for line in result.stderr.splitlines() if "test accuracy" in line and line.startswith("[")]
    assert len(lines) == 8
    assert lines[-1].startswith("[8/8] median, sign_flip scale=10, seed 1: test accuracy 0.")


def test_show_makes_summary_and_plots_again(study):
    folder, result = study
    written = ["summary.csv", "tables.csv", "tables.tex", "summary.md", "accuracy.png", "accuracy.svg"]
    before = {name: (folder / name).read_bytes() for name in written}
    for name in written:
        (folder / name).unlink()
    shown = byzax("show", folder)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout == result.stdout
    assert {name: (folder / name).read_bytes() for name in written} == before


@pytest.mark.slow
def test_seeds_that_are_computed_together_share_the_wall_time():
    # the compiled run of the test that chooses this executor
    scenario = parse_as(Study, {**SMALL, "executor": "vectorised", "repeats": 2})
    begin = time.perf_counter()
    with session(scenario.executor) as execute:
        last = {each.seed: each.wall_s for each in execute(scenario.task)}
    # each with the whole time of the batch they would come to twice as much
    assert 0 < sum(last.values()) <= time.perf_counter() - begin


@pytest.mark.parametrize("executor", by_day(["vectorised"], ["loop", "vectorised"]))
def test_a_repeat_that_cannot_go_on_does_not_end_the_others(tmp_path, executor):
    # with seed 10 the Byzantine worker, which never answers, and the one that dies are two of five
    changes = {
        "seed": 10,
        "repeats": 2,
        "workers": {"total": 5, "byzantine": {"count": 1, "which": "random"}},
        "attack": {"name": "sign_flip", "timing": "silent"},
        "latency": {"name": "constant", "crashes": [{"worker": 0, "at": 1.5}]},
        "schedule": {"name": "synchronous", "quorum": 4},
        "grid": {},
        "rule": "median",
        "steps": 4,
        "executor": executor,
    }
    assert byzax("run", write(tmp_path, **changes), "--out", tmp_path / "out").exit_code == 1
    assert sorted(each["status"] for each in summaries(tmp_path / "out").values()) == ["complete", "failed"]


def test_overwrite_removes_results_and_nothing_else(study, tmp_path):
    path, out = write(tmp_path), tmp_path / "out"
    assert byzax("run", path, "--out", out).exit_code == 0
    assert byzax("run", path, "--out", out, "--overwrite", "--set", "seed=5").exit_code == 0
    assert list(summaries(out)) == ["average_none_seed-5"]
    (out / "runs" / "average_none_seed-5" / "mine.txt").touch()
    assert byzax("run", path, "--out", out, "--overwrite").exit_code == 2
    assert (out / "runs" / "average_none_seed-5" / "mine.txt").exists()


@pytest.mark.slow
def test_other_swept_keys_become_rows_and_figures_of_their_own(tmp_path):
    grid = {"workers.byzantine": [0, 2], "rule.name": ["average", "median"], "seed": [0, 7]}
    result = byzax("run", write(tmp_path, grid=grid, evaluate_every=4), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "summary.md").read_text()
    assert "| workers.byzantine | rule | none |" in page
    assert page.index("| 0 | average |") < page.index("| 0 | median |") < page.index("| 2 | average |")
    assert "over 2 seeds" in page
    names = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert names == {"accuracy_byzantine-0.png", "accuracy_byzantine-2.png"}


def test_several_files_get_a_folder_each(tmp_path):
    one, other = write(tmp_path, "one.yaml"), write(tmp_path, "other.yaml", rule="median")
    result = byzax("run", one, other, "--out", tmp_path / "out", "--set", "steps=1")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one", "other"}
    assert byzax("show", tmp_path / "out").stdout == result.stdout


@pytest.mark.slow
def test_the_executor_can_be_chosen_on_the_command_line(tmp_path):
    path = write(tmp_path, executor={"name": "ray", "actors": 2}, repeats=2)
    result = byzax("run", path, "--out", tmp_path / "out", "--executor", "vectorised")
    assert result.exit_code == 0, result.output
    assert "starting vectorised" in result.stderr
    assert len(summaries(tmp_path / "out")) == 2


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path):
    grid = {"attack.name": ["none", "crashing", "empire"]}
    result = byzax("run", write(tmp_path, grid=grid, repeats=2), "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    *_, first, second, last = [line for line in result.stderr.splitlines() if "failed" in line]
    # JAX hands on the whole traceback of the callback
    assert re.search(r"average, crashing, seed 0: failed: .*ArithmeticError: this batch cannot be corrupted$", first)
    assert len(first) < 300
    assert "seed 1: failed" in second
    assert re.fullmatch(r"4 of 6 runs, 2 failed, in \d+ s", last)
    statuses = {name: each["status"] for name, each in summaries(tmp_path / "out").items()}
    assert sorted(statuses.values()) == ["complete"] * 4 + ["failed"] * 2
    error = (tmp_path / "out/runs/average_crashing_seed-1/error.txt").read_text()
    assert "this batch cannot be corrupted" in error
    assert len(error.splitlines()) > 5
    page = (tmp_path / "out" / "summary.md").read_text()
    (said,) = [
        line for line in page.splitlines() if line.startswith("- average_crashing_seed-1: failed after step 0 (")
    ]
    assert said.endswith("ArithmeticError: this batch cannot be corrupted)")
    assert len(said) < 300


def test_bars_count_what_is_complete_and_show_a_reason_as_it_is():
    scenario = parse_as(Study, {**SMALL})
    runs = [Entry(f"run-{i}", scenario, "average", "none", {}, i) for i in range(3)]
    with session(scenario.executor) as execute:
        *_, last = execute(scenario.task)
    screen = io.StringIO()
    with report(Console(file=screen, force_terminal=True, width=150), 3, 12) as told:
        told.begin(runs, 4)
        for run in runs[:2]:
            told.done(run, last)
        told.failed(runs[2], "not a tag: [/7, 650]")
    assert "2 of 3 runs, 1 failed" in screen.getvalue()
    assert "not a tag: [/7, 650]" in screen.getvalue()


# by day signals come within the process of the tests: test_interrupts.py
@pytest.mark.slow
@pytest.mark.parametrize(
    ("executor", "sent", "code", "word"),
    [
        ("loop", signal.SIGINT, 130, "interrupted"),
        ("loop", signal.SIGTERM, 143, "terminated"),
        # a Ray of its own
        ("ray", signal.SIGTERM, 143, "terminated"),
    ],
)
def test_an_interrupt_keeps_what_is_done(tmp_path, executor, sent, code, word):
    path, out = write(tmp_path, grid={"steps": [2, 30000]}, evaluate_every=1), tmp_path / "out"
    # an embedded Ray asks for its token whatever this says
    process = command("run", path, "--out", out, "--executor", executor, env={"RAY_AUTH_MODE": "disabled"})
    metrics = out / "runs" / "average_none_steps-30000_seed-0" / "metrics.csv"
    limit = time.monotonic() + 400
    while time.monotonic() < limit and not (metrics.exists() and len(metrics.read_text().splitlines()) > 4):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    helpers = psutil.Process(process.pid).children(recursive=True)
    servers = [each for each in helpers if each.name() in ("raylet", "gcs_server")]
    assert [each.environ().get("RAY_AUTH_MODE") for each in servers] == ["token"] * (2 if executor == "ray" else 0)
    assert bool(left_by(process.pid, servers)) == (executor == "ray")
    os.kill(process.pid, sent)
    shown, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert f"{word}: what is done is kept" in said
    assert "Traceback" not in said
    found = summaries(out)
    assert found["average_none_steps-2_seed-0"]["status"] == "complete"
    assert found["average_none_steps-30000_seed-0"]["status"] == "interrupted"
    assert found["average_none_steps-30000_seed-0"]["step"] >= 3
    assert "average_none_steps-30000_seed-0: interrupted" in shown
    assert len(rows(out / "summary.csv")) == 2
    assert bool(helpers) == (executor == "ray")
    assert not psutil.wait_procs(helpers, timeout=20)[1]
    assert not left_by(process.pid, servers)


def test_a_run_that_lost_workers_is_degraded_and_says_which_and_when(tmp_path, monkeypatch):
    @contextmanager
    def losing(executor, notice, address):
        # what a race yields whose process with workers 5 and 6 died
        def execute(task, snapshots, saving):
            with session(Loop()) as run:
                for place, checkpoint in enumerate(run(task)):
                    if place == 1:
                        notice("worker actor 1 died: why; workers 5, 6 lost from update 2 on")
                    lost = np.array([[1, 5], [1, 6]][: 2 * place]).reshape(-1, 2)
                    yield checkpoint._replace(timeline=checkpoint.timeline._replace(lost=lost))

        yield execute

    monkeypatch.setattr(running, "session", losing)
    result = byzax("run", write(tmp_path, executor="ray"), "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "average, none, seed 0: worker actor 1 died: why; workers 5, 6 lost from update 2 on" in result.stderr
    found = summaries(tmp_path / "out")["average_none_seed-0"]
    assert (found["status"], found["lost"], found["step"]) == ("degraded", {"5": 2, "6": 2}, 4)
    assert found["reason"] == "workers 5, 6 lost from update 2 on"
    assert len(found["digest"]) == 64
    assert "average_none_seed-0: degraded" in result.stdout
    assert "workers 5, 6 lost from update 2 on" in result.stdout


@pytest.mark.slow
def test_a_race_that_loses_an_actor_goes_on_without_its_rows_says_so_and_replays(tmp_path):
    executor, pace = {"name": "ray", "actors": 2}, {"name": "exponential", "mean": 0.02}
    path = write(tmp_path, clock="wall", steps=3000, latency=pace, schedule="asynchronous", executor=executor)
    out = tmp_path / "out"
    process = command("run", path, "--out", out)
    metrics = out / "runs" / "average_none_seed-0" / "metrics.csv"
    limit = time.monotonic() + 300
    while time.monotonic() < limit and not (metrics.exists() and len(metrics.read_text().splitlines()) > 4):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    actors = [
        each
        for each in psutil.Process(process.pid).children(recursive=True)
        if "ray::WorkerActor" in " ".join(each.cmdline())
    ]
    actors[0].kill()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1, said
    (line,) = [line for line in said.splitlines() if "died" in line]
    assert re.search(
        r"average, none, seed 0: worker actor \d died: its process was killed .* lost from update \d+ on", line
    )
    told = summaries(out)["average_none_seed-0"]
    assert told["status"] == "degraded"
    assert told["step"] == 3000
    assert len(told["lost"]) in (3, 4)
    kept = load(out / "runs" / "average_none_seed-0" / "timeline.npz")
    assert kept.seen[0] == 7
    assert kept.seen[-1] == 7 - len(told["lost"])
    done = byzax("replay", out)
    assert (done.exit_code, "the same, bit for bit" in done.output) == (0, True), done.output


@pytest.mark.slow
def test_an_interrupted_race_is_recorded_up_to_its_last_evaluation_and_replays(tmp_path):
    pace = {"name": "exponential", "mean": 0.02}
    executor, schedule = {"name": "ray", "actors": 1}, {"name": "stale_synchronous", "apply": "each"}
    path = write(tmp_path, clock="wall", steps=30000, latency=pace, schedule=schedule, executor=executor)
    out = tmp_path / "out"
    process = command("run", path, "--out", out)
    metrics = out / "runs" / "average_none_seed-0" / "metrics.csv"
    limit = time.monotonic() + 400
    while time.monotonic() < limit and not (metrics.exists() and len(metrics.read_text().splitlines()) > 4):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    told = summaries(out)["average_none_seed-0"]
    assert told["status"] == "interrupted"
    recorded = load(out / "runs" / "average_none_seed-0" / "timeline.npz")
    assert 30000 > recorded.steps >= told["step"] >= 4
    done = byzax("replay", out)
    assert done.exit_code == 0, done.output


def test_what_a_killed_process_wrote_can_be_shown(study, tmp_path):
    folder, _ = study
    out = tmp_path / "out" / "runs" / "killed"
    out.mkdir(parents=True)
    for path in (folder / "runs" / "average_none_seed-0").iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    summary = json.loads((out / "summary.json").read_text())
    started = {key: summary[key] for key in ("position", "rule", "attack", "others", "seed", "classes")}
    (out / "summary.json").write_text(json.dumps({**started, "status": "running"}))
    (out / "params.npz").unlink()
    written = (out / "metrics.csv").read_text().splitlines(keepends=True)
    # killed while it wrote the line of step 4
    (out / "metrics.csv").write_text("".join([*written[:3], written[3][:-6]]))
    result = byzax("show", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "killed: unfinished after step 2" in result.stdout
    (shown,), last = rows(tmp_path / "out" / "summary.csv"), rows(out / "metrics.csv")[1]
    for name in ("step", "time_s", "train_loss", "test_loss", "test_accuracy"):
        assert float(shown[name]) == float(last[name])
    (out / "metrics.csv").write_text(written[0])
    assert "killed: unfinished\n" in byzax("show", tmp_path / "out").stdout
    (out / "summary.json").write_text("{")
    result = byzax("show", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "killed: damaged: summary.json is no JSON" in " ".join(result.stdout.split())


@pytest.mark.slow
def test_ray_gives_the_digest_of_the_loop_and_one_line_for_a_failed_worker(tmp_path):
    path = write(tmp_path, rule="krum", grid={"attack": ["crashing", {"name": "empire", "epsilon": 10}]})
    assert byzax("run", path, "--out", tmp_path / "loop").exit_code == 1
    process = command("run", path, "--out", tmp_path / "ray", "--set", "executor={name: ray, actors: 2}")
    servers: list[psutil.Process] = []
    while not servers and process.poll() is None:
        time.sleep(0.1)
        servers = [each for each in psutil.Process(process.pid).children() if each.name() == "raylet"]
    _, said = process.communicate(timeout=300)
    assert servers
    assert not left_by(process.pid, servers)
    assert process.returncode == 1, said
    (line,) = [line for line in said.splitlines() if "krum, crashing, seed 0: failed: " in line]
    assert len(line) < 300
    assert "Traceback" not in said
    assert said.count("cannot be corrupted") == 1, said
    name = "krum_empire-epsilon-10_seed-0"
    loop, ray = (summaries(tmp_path / each)[name] for each in ("loop", "ray"))
    assert ray["digest"] == loop["digest"]


@pytest.mark.parametrize("stopped_at", ["mkdir", "rename"])
def test_a_stop_while_a_run_begins_leaves_nothing_that_stands_in_the_way(tmp_path, monkeypatch, stopped_at):
    path, out = write(tmp_path), tmp_path / "out"

    def stop(self, *_, **__):
        raise KeyboardInterrupt

    original = getattr(Path, stopped_at)
    within = lambda self, *given, **named: (stop if "runs/." in str(self) else original)(self, *given, **named)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(Path, stopped_at, within)
        assert byzax("run", path, "--out", out).exit_code == 130
    assert byzax("run", path, "--out", out).exit_code == 0


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_after_a_kill_at_the_start_the_run_begins(tmp_path, options):
    path, out = write(tmp_path), tmp_path / "out"
    (out / "runs" / ".average_none_seed-0").mkdir(parents=True)
    for name in ("scenario.yaml", "runs/.average_none_seed-0/scenario.yaml"):
        (out / name).write_text("name: small")
    (out / ".byzax").write_text("byzax study\nscenario.yaml\nruns/average_none_seed-0\n")
    assert byzax("run", path, "--out", out, *options).exit_code == 0
    assert [each.name for each in (out / "runs").iterdir()] == ["average_none_seed-0"]


def test_overwrite_removes_nothing_unless_everything_can_go_on(tmp_path):
    path = write(tmp_path)
    out = tmp_path / "kept"
    assert byzax("run", path, "--out", out).exit_code == 0
    (out / "thesis.txt").write_text("mine")
    before = sorted(each for each in out.rglob("*"))
    assert byzax("run", path, "--out", out, "--overwrite").exit_code == 2
    assert sorted(each for each in out.rglob("*")) == before
    mine = tmp_path / "mine"
    mine.mkdir()
    scenario = mine / "scenario.yaml"
    scenario.write_text(path.read_text())
    assert byzax("run", scenario, "--out", mine, "--overwrite").exit_code == 2
    assert scenario.exists()


def test_all_workers_may_be_byzantine_and_nothing_is_measured_against_honest_rows_that_are_not_there(tmp_path):
    file = write(tmp_path, workers={"total": 7, "byzantine": 7}, attack={"name": "sign_flip", "workers": 7})
    result = byzax("run", file, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (updates,) = (pd.read_csv(path) for path in tmp_path.glob("out/runs/*/updates.csv"))
    assert updates[["honest_cosine", "honest_distance"]].isna().all(axis=None)
    assert updates["byzantine_weight"].tolist() == pytest.approx([1] * 4)
    assert (updates["aggregate_norm"] > 0).all()
