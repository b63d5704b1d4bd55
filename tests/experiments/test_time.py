"""Views of time: columns, tables, plots, the chart of a timeline, replays."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from byzax.experiments import gathering, report, tables
from byzax.experiments.timelines import read
from tests.experiments.command import byzax, write
from tests.experiments.test_run import rows

RANDOM = {"latency": {"name": "lognormal", "sigma": 0.5}, "workers": {"total": 7, "byzantine": 0}, "steps": 12}
SWEPT = {"schedule": ["synchronous", "asynchronous", {"name": "asynchronous", "apply": "buffer", "rows": 3}]}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("time")
    file = write(folder, grid=SWEPT, repeats=2, **RANDOM)
    done = byzax("run", file, "--out", folder / "out")
    assert done.exit_code == 0, done.output
    return folder / "out", done.stdout


def test_metrics_count_seconds_and_gradients_and_runs_say_what_became_of_both(study):
    folder, _ = study
    for run in folder.glob("runs/*"):
        metrics = pd.read_csv(run / "metrics.csv")
        assert metrics["time_s"].is_monotonic_increasing
        assert metrics["gradients"].iloc[0] == 0
        updates = pd.read_csv(run / "updates.csv")
        workers, ages = pd.read_csv(run / "workers.csv"), pd.read_csv(run / "ages.csv")
        told = json.loads((run / "summary.json").read_text())
        end = metrics["time_s"].iloc[-1]
        spent = workers[["computing_s", "messages_s", "waiting_s"]].sum(axis=1)
        np.testing.assert_allclose(spent, end, rtol=1e-6)
        assert workers["used"].sum() == ages["rows"].sum()
        assert told["updates_per_s"] == pytest.approx(12 / end)
        assert told["mean_age"] == pytest.approx((ages["age"] * ages["rows"]).sum() / ages["rows"].sum())
        if told["others"]["schedule"] == "synchronous":
            assert metrics["gradients"].tolist() == (7 * metrics["step"]).tolist()
            assert (updates["age"] == 0).all()
            assert workers["waiting_s"].min() > 0
        else:
            assert updates["age"].max() > 0
            assert workers["waiting_s"].max() < 1e-9


def test_tables_compare_at_the_end_at_equal_time_and_at_equal_work(study):
    folder, printed = study
    found = report.read([folder])
    frame, curves = found.frame, found.curves
    captions = [made.caption for made in tables.tables(found)]
    assert len(captions) == 3
    assert "seconds, where the shortest run ends" in captions[1]
    assert "gradients delivered, where the shortest run ends" in captions[2]
    then, end = gathering.scores_at_equal(frame, curves, "time_s")
    assert end == curves.groupby("run")["time_s"].max().min()
    for run, value in zip(then["run"], then["test_accuracy"], strict=True):
        mine = curves.loc[(curves["run"] == run) & (curves["time_s"] <= end)]
        assert value == mine["test_accuracy"].iloc[-1]
    assert "how the time was used, means over the runs" in " ".join(printed.split())
    written = (folder / "summary.md").read_text()
    for heading in ("updates per second", "mean age of a row", "jobs unused"):
        assert heading in written
        # on a terminal a heading breaks between words
        assert all(word in printed for word in heading.split())


def test_schedules_share_a_figure_and_each_measure_has_its_own(study):
    folder, _ = study
    assert sorted(path.name for path in folder.glob("*.png")) == [
        "accuracy-by-gradients.png", "accuracy-by-time.png", "accuracy.png", "time.png",
    ]  # fmt: skip
    drawn = (folder / "accuracy-by-time.svg").read_text()
    for line in ("synchronous", "asynchronous", "asynchronous apply=buffer rows=3"):
        assert f">{line}<" in drawn
    assert "seconds" in drawn


def test_a_study_in_which_time_says_nothing_has_no_tables_and_plots_of_it(tmp_path):
    done = byzax("run", write(tmp_path), "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert "updates per second" not in done.stdout
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["accuracy.png"]


def test_one_kind_of_schedule_and_several_rules_are_lines_by_rule_and_both_are_both():
    frame = pd.DataFrame({"attack": "none", "schedule": ["a", "b"], "seed": 0, "rule": "krum"})
    assert gathering.line_labels(frame) == ["a", "b"]
    assert gathering.line_labels(frame.assign(rule=["krum", "median"])) == ["krum, a", "median, b"]
    assert gathering.line_labels(frame[["attack", "seed", "rule"]]) == ["krum", "krum"]


def test_a_replay_gives_the_same_bits_or_says_what_differs(study, tmp_path):
    folder, _ = study
    done = byzax("replay", folder)
    assert done.exit_code == 0
    assert done.stdout.count("12 updates: the same, bit for bit") == 6
    file = write(tmp_path, **RANDOM)
    assert byzax("run", file, "--out", tmp_path / "out").exit_code == 0
    run = next((tmp_path / "out" / "runs").iterdir())
    with np.load(run / "params.npz") as arrays:
        params = arrays["params"].copy()
    params[3] = np.nextafter(params[3], np.inf)
    np.savez(run / "params.npz", params=params, step=12)
    done = byzax("replay", run)
    assert done.exit_code == 1
    assert "parameters differ" in done.stdout
    params[3] = np.nextafter(params[3], -np.inf)
    np.savez(run / "params.npz", params=params, step=12)
    told = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(told | {"digest": "0" * 64}))
    done = byzax("replay", run)
    assert done.exit_code == 1
    assert "what was measured on the way differs" in done.stdout


def test_what_cannot_be_replayed_is_one_line(tmp_path):
    done = byzax("replay", tmp_path)
    assert done.exit_code == 2
    assert "no run here" in done.output
    assert "Traceback" not in done.output


@pytest.mark.slow
def test_a_race_is_recorded_and_replayed_by_the_command(tmp_path):
    file = write(
        tmp_path, clock="wall", schedule="asynchronous", executor={"name": "ray", "actors": 2}, steps=30,
        latency={"name": "exponential", "mean": 0.005},
    )  # fmt: skip
    done = byzax("run", file, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    run = next((tmp_path / "out" / "runs").iterdir())
    done = byzax("replay", tmp_path / "out")
    assert done.exit_code == 0
    assert "30 updates: the same, bit for bit" in done.stdout
    assert read(run, []).timeline.steps == 30
    (run / "timeline.npz").unlink()
    done = byzax("replay", run)
    assert done.exit_code == 2
    assert "its timeline.npz is not there" in done.output


def test_of_a_run_that_was_cut_short_the_replay_compares_what_there_is(tmp_path):
    assert byzax("run", write(tmp_path, steps=6, evaluate_every=3), "--out", tmp_path / "out").exit_code == 0
    (run,) = (tmp_path / "out" / "runs").iterdir()
    # as if it had been cut short: its scenario asks for more than its parameters and summary hold
    scenario = (run / "scenario.yaml").read_text()
    (run / "scenario.yaml").write_text(scenario.replace("steps: 6", "steps: 30"))
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({k: v for k, v in summary.items() if k != "digest"}))
    (run / "timeline.npz").unlink(missing_ok=True)
    done = byzax("replay", run)
    assert done.exit_code == 0, done.output
    assert "6 updates: the same, bit for bit" in done.stdout
    assert "30 updates" not in done.stdout


def test_of_a_run_that_was_cut_short_no_more_is_drawn_and_told_than_was_carried_out(tmp_path, monkeypatch):
    from byzax.simulator import executors

    def interrupted(*given):
        for checkpoint in drive(*given):
            if checkpoint.step > 4:
                raise KeyboardInterrupt
            yield checkpoint

    drive = executors.drive
    monkeypatch.setattr(executors, "drive", interrupted)
    assert byzax("run", write(tmp_path, steps=30), "--out", tmp_path / "out").exit_code == 130
    (run,) = (tmp_path / "out" / "runs").iterdir()
    assert [int(row["used"]) for row in rows(run / "workers.csv")] == [4] * 7
    assert rows(run / "ages.csv") == [{"age": "0", "rows": "28"}]
    done = byzax("timeline", run, "--out", tmp_path / "chart.svg")
    assert "4 of 30 updates were carried out" in " ".join(done.stdout.split())
    assert "4 updates in 4 s" in done.stdout
    metrics = (run / "metrics.csv").read_text().splitlines()
    (run / "metrics.csv").write_text("\n".join(metrics[:2]) + "\n")
    done = byzax("timeline", run, "--out", tmp_path / "chart.svg")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "it ended before its first update was measured: there is nothing to draw" in done.stderr


@pytest.mark.slow
def test_workers_csv_says_in_how_many_updates_each_worker_was_byzantine(tmp_path):
    workers = {"total": 7, "byzantine": {"count": 2, "per_round": "sampled"}}
    for name, changes in {"same": {}, "changing": {"workers": workers}}.items():
        file = write(tmp_path, steps=9, attack="zero", **{"workers": {"total": 7, "byzantine": 2}, **changes})
        assert byzax("run", file, "--out", tmp_path / name).exit_code == 0
    same, changing = (rows(next(tmp_path.glob(f"{name}/runs/*/workers.csv"))) for name in ("same", "changing"))
    assert [row["byzantine"] for row in same] == ["True"] * 2 + ["False"] * 5
    assert [int(row["byzantine_updates"]) for row in same] == [9] * 2 + [0] * 5
    often = [int(row["byzantine_updates"]) for row in changing]
    assert sum(often) == 2 * 9
    assert max(often) < 9
    assert [row["byzantine"] for row in changing] == [str(count > 0) for count in often]


def stopped_early(folder, **changes):
    """The results of runs that get no better, and their folder."""
    changes = {
        "steps": 400, "evaluate_every": 5, "optimizer": {"name": "sgd", "learning_rate": 50.0},
        "early_stopping": {"patience": 2, "measure": "validation_accuracy"}, **changes,
    }  # fmt: skip
    done = byzax("run", write(folder, **changes), "--out", folder / "out")
    assert done.exit_code == 0, done.output
    return done, folder / "out"


def test_a_run_that_was_stopped_early_is_complete_says_so_and_is_replayed(tmp_path):
    done, out = stopped_early(tmp_path, repeats=2)
    ends = []
    for run in sorted(out.glob("runs/*")):
        summary = json.loads((run / "summary.json").read_text())
        ends.append(summary["step"])
        assert summary["status"] == "complete"
        reason = f"stopped early after step {ends[-1]}: no better validation accuracy in 2 evaluations"
        assert summary["reason"] == reason
        assert int(rows(run / "metrics.csv")[-1]["step"]) == ends[-1] == len(rows(run / "updates.csv"))
        # what did not happen is not told
        assert {int(row["used"]) for row in rows(run / "workers.csv")} == {ends[-1]}
        assert summary["updates_per_s"] == 1
        assert f"{run.name}: {reason}" in " ".join(done.stdout.split())
        assert reason in (out / "summary.md").read_text()
    assert all(end < 400 for end in ends)
    again = byzax("replay", out)
    assert again.exit_code == 0, again.output
    assert all(f"{end} updates: the same, bit for bit" in again.stdout for end in ends)


@pytest.mark.slow
def test_a_race_that_was_stopped_early_is_recorded_to_its_end_and_replayed(tmp_path):
    _, out = stopped_early(
        tmp_path, clock="wall", schedule="asynchronous", executor={"name": "ray", "actors": 2},
        latency={"name": "exponential", "mean": 0.005},
    )  # fmt: skip
    (run,) = (out / "runs").iterdir()
    end = json.loads((run / "summary.json").read_text())["step"]
    assert end < 400
    assert read(run, []).timeline.steps == end
    assert f"{end} updates: the same, bit for bit" in byzax("replay", out).stdout


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("params.npz", "x", "damaged: params.npz does not hold params, step"),
        ("timeline.npz", "x", "timeline.npz: is no timeline, or damaged"),
        ("summary.json", "{", "damaged: summary.json is no JSON"),
        ("scenario.yaml", None, "timeline.npz: does not fit"),
    ],
)
def test_a_damaged_run_is_not_replayed_and_one_line_says_what_is_wrong(study, tmp_path, file, text, said):
    from byzax.simulator.timeline_files import save

    folder, _ = study
    run = tmp_path / "run"
    shutil.copytree(next(folder.glob("runs/*")), run)
    save(read(run, []).timeline, run / "timeline.npz")
    kept = (run / file).read_bytes().decode(errors="ignore")
    (run / file).write_text(kept.replace("total: 7", "total: 6") if text is None else text)
    done = byzax("replay", run)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_replay_of_a_run_that_was_batched_says_that_it_need_not_be_the_same(tmp_path):
    out = tmp_path / "out"
    assert byzax("run", write(tmp_path, executor="vectorised", steps=30), "--out", out).exit_code == 0
    run = next((out / "runs").iterdir())
    with np.load(run / "params.npz") as arrays:
        np.savez(run / "params.npz", params=arrays["params"] * 1.001, step=30)
    done = byzax("replay", run)
    assert done.exit_code == 1
    assert "vectorised and batch: true promise no more than 1e-5" in done.stdout


def test_the_folder_of_a_study_is_its_first_run_and_takes_no_overrides(study, tmp_path):
    folder, _ = study
    done = byzax("timeline", folder, "--out", tmp_path / "chart.svg")
    assert done.exit_code == 0
    assert "synchronous, lognormal latency" in done.stdout
    done = byzax("timeline", folder, "--set", "steps=3")
    assert done.exit_code == 2
    assert "--set: changes a scenario" in done.stderr


@pytest.mark.parametrize("kind", ["scenario", "run", "file"])
def test_a_timeline_is_drawn_from_a_scenario_a_run_and_a_file(study, tmp_path, kind):
    from byzax.simulator.timeline_files import save

    folder, _ = study
    run = next(path for path in folder.glob("runs/*") if "apply-buffer" in path.name)
    source = run / "scenario.yaml" if kind == "scenario" else run
    if kind == "file":
        source = tmp_path / "timeline.npz"
        save(read(run, []).timeline, source)
    picture = tmp_path / f"{kind}.svg"
    done = byzax("timeline", source, "--out", picture)
    assert done.exit_code == 0, done.output
    assert "12 updates in" in done.stdout
    drawn = picture.read_text()
    for word in ("computing", "update", "worker"):
        assert f">{word}" in drawn
    # the number of an update at each of its rows
    assert drawn.count(">5<") >= 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.yaml"], "nothing.yaml"),
        (["nothing.npz"], "cannot be read"),
        (["SCENARIO", "--from", "1e9"], "nothing happens from"),
        (["SCENARIO", "--from", "5", "--to", "2"], "nothing happens from 5 to 2 seconds"),
        (["SCENARIO", "--to", "inf"], "seconds are needed, got 0 and inf"),
        (["SCENARIO", "--set", "clock=wall", "--set", "executor.name=ray"], "no timeline before the race"),
        (
            ["SCENARIO", "--set", "latency={name: constant, seconds: 0}", "--set", "schedule=synchronous"],
            "all 12 updates happen at 0 s, for nobody takes any time: there is nothing to draw (latency",
        ),
        (["SCENARIO", "--out", "chart.txt"], ".png or .svg is needed"),
        (["SCENARIO", "--out", "/nowhere/chart.png"], "cannot be written"),
        (["SCENARIO", "--set", "schedule.name=later"], "unknown schedule 'later'"),
        (
            ["SCENARIO", "--set", "attack.timing=silent", "--set", "workers.byzantine=1"],
            "stopped after 0 of 12 updates",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_line(tmp_path, arguments, said):
    file = write(tmp_path, **RANDOM)
    done = byzax("timeline", *[str(file) if each == "SCENARIO" else each for each in arguments])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_a_run_whose_timeline_stops_fails_with_the_reason_and_keeps_what_it_reached(tmp_path):
    crash = {"name": "constant", "crashes": [{"worker": 2, "at": 3.5}]}
    for executor in ("loop", "vectorised"):
        out = tmp_path / executor
        done = byzax("run", write(tmp_path, steps=50, latency=crash, executor=executor), "--out", out)
        assert done.exit_code == 1
        run = next((out / "runs").iterdir())
        told = json.loads((run / "summary.json").read_text())
        assert told["status"] == "failed"
        assert "stopped after 3 of 50 updates" in told["reason"]
        assert "worker 2 died" in told["reason"]
        assert told["step"] == 3
        assert pd.read_csv(run / "metrics.csv")["step"].tolist() == [0, 2, 3]
        assert byzax("replay", run).exit_code == 0


def test_a_run_that_fails_at_its_first_update_keeps_its_start_and_ends_without_a_traceback(tmp_path):
    done = byzax("run", write(tmp_path, attack="crashing"), "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "failed: " in done.stderr
    assert (tmp_path / "out" / "accuracy.png").exists()
