"""byzax from Python: `run`, `load`, `simulate` and what they give."""

import copy
import dataclasses
import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from matplotlib.figure import Figure

import byzax as package
from byzax import OptionError, Result, Run, RunError, ScenarioError, Study
from byzax.aggregators import Aggregator, Info, krum, median
from byzax.attacks import Attack
from byzax.experiments import running
from byzax.experiments.records import METRICS
from byzax.experiments.study import load as load_study
from byzax.members import load_file
from byzax.models import softmax
from byzax.simulator.diagnostics import Diagnostics
from byzax.simulator.partitions import iid
from tests.experiments.command import ROOT, byzax, write
from tests.nightly import by_night

OWN = str(ROOT / "tests" / "models" / "own.py")
Small = load_file(OWN).Small
STEPS = 3
PLAIN = {
    "steps": STEPS,
    "evaluate_every": 2,
    "workers": {"total": 5, "byzantine": 1},
    "data": {"name": "digits", "batch_size": 4},
    "model": "softmax",
    "rule": "median",
    "attack": "sign_flip",
    "executor": "loop",
}
MINE = """
from typing import Annotated

import jax.numpy as jnp
from byzax.aggregators import Aggregator, Info
from byzax.attacks import Attack
from byzax.members import load_file
from byzax.models import softmax
from byzax.simulator.partitions import iid
from pydantic import Field


def mine(n: int, f: int, *, scale: Annotated[float, Field(gt=0)] = 1.0):
    def apply(rows, state, context=None):
        return scale * jnp.sort(rows, axis=0)[n // 2], state, Info(jnp.full(n, 1 / n))

    return Aggregator(lambda d: (), apply)


def opposite(n: int, f: int):
    return Attack(forge=lambda key, view, state: (-view.rows, state))


def model(shape, classes):
    return softmax(shape, classes)


def shares():
    return iid()
"""


def mine(n: int, f: int, *, scale: float = 1.0) -> Aggregator:
    """The middle row of each coordinate: what median is of five rows."""

    def apply(rows, state, context=None):
        return scale * jnp.sort(rows, axis=0)[n // 2], state, Info(jnp.full(n, 1 / n))

    return Aggregator(lambda d: (), apply)


def opposite(n: int, f: int) -> Attack:
    """The effect of sign_flip."""
    return Attack(forge=lambda key, view, state: (-view.rows, state))


def run(scenario=None, **settings):
    """`byzax.run` of a small scenario, without a word."""
    return package.run(PLAIN if scenario is None else scenario, quiet=True, **settings)


def digests(result):
    """The runs of a result, bit for bit."""
    return [
        json.loads((result.folder / "runs" / name / "summary.json").read_text())["digest"] for name in result.params
    ]


def models(result):
    return np.stack([*result.params.values()])


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A study of two rules and two seeds, in a folder."""
    out = tmp_path_factory.mktemp("swept") / "out"
    return run(repeats=2, grid={"rule": ["median", "average"]}, out=out)


@pytest.fixture
def file(tmp_path):
    """A file with a rule, an attack, a model and a partition of one's own."""
    path = tmp_path / "own.py"
    path.write_text(MINE)
    return path


TYPED = """
import jax.numpy as jnp, byzax, signal, os
from byzax.aggregators.base import Info, stateless
# a shell ignores Ctrl-C for what it runs in the background
signal.signal(signal.SIGINT, signal.default_int_handler)
class Rule:
    def __call__(self, n, f): return stateless(n, lambda rows: (rows.mean(axis=0), Info()))
def mine(n, f): return stateless(n, lambda rows: (rows.mean(axis=0), Info()))
plain = dict(data="digits", model="softmax", attack="none", steps=1, quiet=True)
for rule in (mine, Rule()): assert byzax.run(rule=rule, **plain).runs["status"][0] == "complete"
def interrupts(n, f): os.kill(os.getpid(), signal.SIGINT)
try: byzax.run(rule=interrupts, **plain)
except KeyboardInterrupt: pass
else: raise AssertionError
byzax.validate(byzax.Run(data="digits", rule="median", attack="none"))
assert byzax.run(rule=mine, **plain).runs["status"][0] == "complete"
"""


@pytest.mark.slow
def test_functions_typed_at_a_prompt_run_and_an_interrupt_ends_one_run(tmp_path):
    subprocess.run([sys.executable, "-c", TYPED], check=True, cwd=tmp_path, env={**os.environ, "BYZAX_PLUGINS": ""})


def test_a_run_a_study_numpys_numbers_and_ranges_say_the_same():
    settings = {**PLAIN, "steps": np.int64(PLAIN["steps"])}
    one = Run(**{key: value for key, value in settings.items() if key in Run.model_fields})
    found = package.run(one, executor="loop", evaluate_every=PLAIN["evaluate_every"], quiet=True)
    assert digests(found) == digests(run())
    assert package.validate(one) is None
    seeds = Study(name="seeds", **{**PLAIN, "grid": {"seed": range(2), "rule": ("median", "average")}})
    assert seeds.grid == {"seed": (0, 1), "rule": ("median", "average")}
    for wrong in (5, [1]):
        with pytest.raises(ScenarioError, match="a file, a mapping, a Study or a Run is needed"):
            package.validate(wrong)


def test_the_numbers_are_those_of_the_command(swept, tmp_path):
    path = write(tmp_path, **{**PLAIN, "repeats": 2, "grid": {"rule": ["median", "average"]}})
    assert byzax("run", path, "--out", tmp_path / "out").exit_code == 0
    theirs = package.load(tmp_path / "out")
    assert digests(theirs) == digests(swept)
    walled = ["wall_s"]
    pd.testing.assert_frame_equal(theirs.metrics.drop(columns=walled), swept.metrics.drop(columns=walled))


def test_a_scenario_can_be_a_file_a_mapping_a_study_or_keywords(tmp_path):
    path, (expected,) = write(tmp_path, **PLAIN), digests(run())
    for scenario in (path, str(path), Study(**PLAIN), Study(**{**PLAIN, "rule": "average"}).replace(rule="median")):
        assert digests(run(scenario)) == [expected]
    assert digests(package.run(**PLAIN, quiet=True)) == [expected]
    # keywords stand over what is given, as with --set
    expected = digests(run({**PLAIN, "seed": 1, "data": {"name": "digits", "batch_size": 2}}))
    for scenario in (path, PLAIN, Study(**PLAIN)):
        changed = run(scenario, seed=1, **{"data.batch_size": 2})
        assert changed.runs["seed"].tolist() == [1]
        assert digests(changed) == expected


def test_metrics_have_a_row_for_each_run_and_evaluation(swept):
    metrics = swept.metrics
    assert [*metrics.columns] == ["run", "rule", "attack", "seed", *METRICS]
    assert metrics.groupby(["rule", "attack", "seed"])["step"].agg(list).tolist() == [[0, 2, 3]] * 4
    assert metrics["test_accuracy"].between(0, 1).all()
    assert metrics["step"].dtype.kind == "i"
    assert set(metrics["run"]) == set(swept.runs["run"]) == set(swept.params)
    assert swept.runs["status"].tolist() == ["complete"] * 4


def test_updates_have_a_row_for_each_run_and_update(swept):
    updates = swept.updates
    assert updates.groupby("run")["step"].agg(list).tolist() == [[1, 2, 3]] * 4
    assert {"rule", "attack", "seed", *Diagnostics._fields} <= set(updates)


def test_what_is_loaded_is_what_was_run(swept):
    loaded = package.load(swept.folder)
    for frame in ("runs", "metrics", "updates", "weights"):
        pd.testing.assert_frame_equal(getattr(loaded, frame), getattr(swept, frame))
    np.testing.assert_array_equal(models(loaded), models(swept))
    # as a text and one run's scenario again
    assert package.load(str(swept.folder)).runs.equals(swept.runs)
    name = swept.runs["run"].iloc[0]
    assert digests(run(swept.folder / "runs" / name / "scenario.yaml")) == digests(swept)[:1]


def test_a_summary_is_over_the_repeats(swept):
    summary = swept.summary()
    assert [*summary.columns] == [
        *("rule", "attack", "mean", "std", "min", "max", "interval_low", "interval_high", "runs", "of")
    ]
    assert summary["rule"].tolist() == ["median", "average"]
    last = swept.metrics[swept.metrics["step"] == STEPS]
    for row in summary.itertuples():
        values = last.loc[last["rule"] == row.rule, "test_accuracy"]
        assert (row.mean, row.std) == pytest.approx((values.mean(), values.std()))
        assert (row.min, row.max, row.runs, row.of) == (values.min(), values.max(), 2, 2)
    loss = swept.summary("test_loss")
    assert loss["mean"].tolist() != summary["mean"].tolist()
    with pytest.raises(ValueError, match=r"^measure must be one of .*test_accuracy.*, got 'accuracy'$"):
        swept.summary("accuracy")


def test_a_plot_says_which_columns_there_are(swept):
    for arguments, said in (
        ({"x": "steps"}, r"^x must be one of step, time_s, gradients, bits, wall_s, got 'steps'$"),
        ({"y": "accuracy"}, r"^y must be one of .*test_accuracy.*, got 'accuracy'$"),
        ({"hue": "rules"}, r"^hue must be one of .*rule, attack.*, got 'rules'$"),
        ({"col": "test_loss"}, r"^col must be one of .*rule, attack.*, got 'test_loss'$"),
    ):
        with pytest.raises(ValueError, match=said):
            swept.plot(**arguments)


@pytest.mark.parametrize(
    ("hue", "x"),
    [
        (hue, x) if hue == "rule" or x == "step" else by_night(hue, x)
        for hue in ("rule", "attack", "seed")
        for x in ("step", "time_s", "gradients", "wall_s")
    ],
)
def test_a_plot_says_what_its_lines_and_panels_are_and_counts_in_whole_numbers(swept, x, hue):
    for col in (None, "rule", "attack", "seed"):
        figure = swept.plot(x, hue=hue, col=col)
        assert isinstance(figure, Figure)
        (legend,) = figure.legends
        assert legend.get_title().get_text() == hue
        assert [text.get_text() for text in legend.get_texts()] == [str(each) for each in swept.runs[hue].unique()]
        shown = [axes for axes in figure.axes if axes.get_visible()]
        panels = [""] if col is None else [f"{col}: {each}" for each in swept.runs[col].unique()]
        assert [axes.get_title("left") for axes in shown] == panels
        ticks = np.concatenate([axes.get_xticks() for axes in shown])
        assert x not in ("step", "gradients") or (ticks == ticks.round()).all()


def test_a_result_says_what_it_is(swept):
    assert repr(swept) == f"<Result study: 4 complete, in {swept.folder}>"
    assert "<table" in swept._repr_html_()
    with pytest.raises(ValueError, match=r"^run: one of .*median_sign-flip_seed-0.* is needed, got None$"):
        swept.recorded()


def test_without_a_folder_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = run()
    assert result.folder.parent == tmp_path
    metrics, kept = result.metrics, result.save(tmp_path / "kept")
    assert package.load(kept).metrics.equals(metrics)
    with pytest.raises(ScenarioError, match="is used already"):
        result.save(kept)
    del result
    gc.collect()
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]
    assert len(metrics) == 3


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, dataclasses.replace, lambda r: pickle.loads(pickle.dumps(r))]
)
def test_a_copy_keeps_the_folder_and_the_last_one_removes_it(tmp_path, monkeypatch, copied):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first = run(record={"rows": 1, "weights": True})
    updates = first.updates
    second = copied(first)
    assert first == first
    assert first != second
    assert len({first, second}) == 2
    del first
    gc.collect()
    assert second.updates.equals(updates)
    assert (len(second.params), len(second.recorded())) == (1, STEPS)
    written = pickle.dumps(second)
    folder = second.folder
    del second
    gc.collect()
    assert [*tmp_path.iterdir()] == []
    # its tables are there, and whatever reads the folder says that it is gone
    late = pickle.loads(written)
    assert len(late.metrics) == 3
    for read in (
        lambda: late.params,
        lambda: late.updates,
        lambda: late.weights,
        late.recorded,
        lambda: late.save("x"),
    ):
        with pytest.raises(ScenarioError, match=rf"^{folder}: this folder of the results is gone"):
            read()


@pytest.mark.slow
def test_another_process_does_not_remove_the_folder_of_a_result(tmp_path, monkeypatch):
    result = run()
    (tmp_path / "result").write_bytes(pickle.dumps(result))
    code = (
        "import pickle, sys; result = pickle.load(open(sys.argv[1], 'rb')); assert len(result.params) == 1; del result"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "result"], check=True)
    assert len(result.params) == 1
    folder = result.folder
    with monkeypatch.context() as patch:
        # as in a fork, which has the object too
        patch.setattr(os, "getpid", lambda: -1)
        del result
        gc.collect()
    assert len(package.load(folder).params) == 1
    shutil.rmtree(folder)


def test_a_folder_is_found_again_where_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(out="out")
    monkeypatch.chdir("/")
    assert len(result.params) == 1
    assert result.folder == tmp_path / "out"


@pytest.mark.parametrize("damage", [b"", b"PK", b"step,weight\n1,2,3\n", None])
@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("params.npz", lambda result: result.params),
        ("updates.csv", lambda result: result.updates),
        ("updates.csv", lambda result: result.recorded()),
        ("weights.csv", lambda result: result.weights),
        ("update-00000001.npz", lambda result: result.recorded()),
    ],
)
def test_a_damaged_file_is_named_when_it_is_read(tmp_path, kept, file, read, damage):
    shutil.copytree(kept.folder, tmp_path / "out")
    result = package.load(tmp_path / "out")
    (run_folder,) = (tmp_path / "out" / "runs").iterdir()
    read(result)
    if damage is None and file in ("params.npz", "updates.csv"):
        (run_folder / file).unlink()
    elif damage is None:
        # half of it: what a full disk leaves
        held = (run_folder / file).read_bytes()
        (run_folder / file).write_bytes(held[: len(held) // 2].rpartition(b",")[0] + b"\n")
    else:
        (run_folder / file).write_bytes(damage)
    with pytest.raises(ScenarioError) as caught:
        read(result)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{run_folder}: damaged: {file}")
    assert line.endswith("remove the folder of this run, or run it again")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A recorded run in a folder."""
    return run(record={"rows": 1, "weights": True}, out=tmp_path_factory.mktemp("kept") / "out")


def test_only_runs_that_were_completed_have_parameters_and_lines():
    with pytest.warns(UserWarning, match="1 of 2 runs failed"):
        result = run(grid={"rule": ["median", late_failure]}, evaluate_every=1)
    (failed,) = result.runs.loc[result.runs["status"] == "failed", "run"]
    assert (result.folder / "runs" / failed / "params.npz").exists()
    assert [*result.params] == result.runs.loc[result.runs["status"] == "complete", "run"].tolist()
    (legend,) = result.plot().legends
    assert [text.get_text() for text in legend.get_texts()] == ["median"]
    # what it did until then is among the updates
    assert result.updates.groupby("run")["step"].max().to_dict()[failed] < STEPS


def late_failure(n: int, f: int) -> Aggregator:
    """A rule that fails in its second update."""

    def apply(rows, state, context=None):
        jax.debug.callback(_second, state)
        return rows[0], state + 1, Info(jnp.full(n, 1 / n))

    return Aggregator(lambda d: jnp.zeros(()), apply)


def _second(count):
    if count >= 1:
        raise ValueError("enough")


PATHS = {
    "out": lambda value: run(out=value),
    "scenario": lambda value: package.run(value, quiet=True),
    "folder": lambda value: package.load(value),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_a_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (5, b"x", "", " ", "a\0b"):
        if (name, value) == ("scenario", 5):
            continue
        with pytest.raises(ScenarioError, match=rf"^{name}: "):
            PATHS[name](value)
    with pytest.raises(ScenarioError, match=r"^folder: the path of a file or folder is needed, got None$"):
        package.load(None)
    assert [*tmp_path.iterdir()] == []


def test_the_home_folder_is_found_wherever_a_path_comes_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.py").write_text(MINE)
    write(tmp_path, **{**PLAIN, "rule": "~/own.py:mine"}).rename(tmp_path / "scenario.yaml")
    result = run("~/scenario.yaml", out="~/out")
    assert result.folder == tmp_path / "out"
    assert digests(package.load("~/out")) == digests(result)
    result.save("~/saved")
    assert (tmp_path / "saved" / "summary.json").parent.is_dir()
    assert byzax("run", "~/scenario.yaml", "--out", "~/command").exit_code == 0
    assert digests(package.load(tmp_path / "command")) == digests(result)


def test_results_are_not_saved_into_themselves(swept, tmp_path):
    for place in (swept.folder, swept.folder / "inside", swept.folder / "runs" / ".." / "inside"):
        for overwrite in (False, True):
            with pytest.raises(ScenarioError, match=r"lies in the results themselves: choose another folder$"):
                swept.save(place, overwrite)
    assert not (swept.folder / "inside").exists()
    swept.save(tmp_path / "saved")
    with pytest.raises(ScenarioError, match=r"or overwrite it \(--overwrite, in Python overwrite=True\)$"):
        swept.save(tmp_path / "saved")
    assert digests(package.load(swept.save(tmp_path / "saved", overwrite=True))) == digests(swept)


def test_loading_another_folder_says_which_one_is_meant(swept):
    one = next((swept.folder / "runs").iterdir())
    with pytest.raises(ScenarioError, match=rf"the folder of one run: load that of its study, {swept.folder}$"):
        package.load(one)
    for nothing in (swept.folder / "nothing", swept.folder / "scenario.yaml", "x" * 5000):
        with pytest.raises(ScenarioError, match=r"no run here: there is no such folder$"):
            package.load(nothing)
    with pytest.raises(ScenarioError, match=rf"load one of the studies in it, such as {swept.folder} "):
        package.load(swept.folder.parent)


def test_a_keyword_ends_a_sweep_as_set_does(tmp_path):
    grid = {"rule.name": ["median", "average"], "steps": [1, 2]}
    study = Study(**{**PLAIN, "name": "small", "grid": grid})
    path = write(tmp_path, **{**PLAIN, "name": "small", "grid": grid})
    for keys in (
        {"steps": 2},
        {"rule": "krum"},
        {"rule.name": "krum", "steps": 2},
        {"grid.seed": [0, 1]},
        {"grid": {}},
    ):
        ways = [package.describe(scenario, **keys) for scenario in (study, study.given(), path)]
        sets = [f"{key}={json.dumps(value)}" for key, value in keys.items()]
        assert ways == [load_study(path, sets).study] * 3, keys
    assert package.describe(study, steps=2).grid == {"rule.name": ("median", "average")}
    # beside a grid of the same call a key is what it varies, in any order
    for settings in ({"rule": "krum", "grid": grid}, {"grid": grid, "rule": "krum"}):
        assert package.describe({**PLAIN, "grid": {"seed": [5]}}, **settings).grid == study.grid
    for settings in ({"rule": "multi_krum", "rule.m": 2}, {"rule.m": 2, "rule": "multi_krum"}):
        assert package.describe(PLAIN, **settings).rule.options()["m"] == 2
    with pytest.raises(ScenarioError, match=r"^rule.m: grid.rule chooses all of rule: set grid.rule or rule instead$"):
        run({**PLAIN, "grid": {"rule": ["median", "multi_krum"]}}, **{"rule.m": 2})


def test_simulate_says_what_it_takes():
    for given, said in (
        (Study(**PLAIN), r"^run: a Study is many runs: give its first one, study.run, or run all with byzax.run$"),
        (
            "scenario.yaml",
            r"^run: a Run or a mapping is needed, got 'scenario.yaml': byzax\.describe\(file\)\.run is .*$",
        ),
        (5, r"^run: a Run or a mapping is needed, got 5$"),
    ):
        with pytest.raises(ScenarioError, match=said):
            package.simulate(given)


@pytest.mark.parametrize("end", [KeyboardInterrupt, RunError, OSError])
def test_a_run_that_is_broken_off_leaves_nothing_behind(tmp_path, monkeypatch, end):
    def broken(*_, **__):
        raise end("why")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(running, "execute_groups", broken)
    with pytest.raises(end):
        run()
    gc.collect()
    assert [*tmp_path.iterdir()] == []


def test_a_folder_of_somebody_else_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ScenarioError, match="is used already"):
            run(out=tmp_path / "out", overwrite=overwrite)
    run(out=tmp_path / "own")
    assert len(run(out=tmp_path / "own", overwrite=True, seed=1).runs) == 1
    with pytest.raises(ScenarioError, match="no run here"):
        package.load(tmp_path / "out")
    with pytest.raises(ScenarioError, match="no run here"):
        package.load(tmp_path / "nothing")


def test_a_function_stands_wherever_a_name_can(file):
    plain = run()
    (expected,) = digests(plain)
    # byzax's own, those of this module, and those of a file
    for rule, attack in ((median, "sign_flip"), (mine, opposite), (f"{file}:mine", f"{file}:opposite")):
        np.testing.assert_array_equal(models(run(rule=rule, attack=attack)), models(plain), err_msg=f"{rule} {attack}")
    result = run(model=softmax, **{"data.partition": iid})
    assert digests(result) == [expected]
    own = run(rule=f"{file}:mine", model=f"{file}:model", **{"data.partition": f"{file}:shares"})
    np.testing.assert_array_equal(models(own), models(plain))
    assert own.runs["rule"].tolist() == ["mine"]
    assert not np.array_equal(models(run(rule={"name": mine, "scale": 0.5})), models(own))
    # what is written down of them can be run again
    again = run(own.folder / "scenario.yaml")
    assert digests(again) == digests(own)


@pytest.mark.slow
def test_a_function_with_options_stands_where_a_name_with_options_can(file):
    expected = models(run())
    for rule in (mine, f"{file}:mine"):
        np.testing.assert_array_equal(models(run(rule={"name": rule, "scale": 1.0})), expected)


def half() -> optax.GradientTransformation:
    """SGD with a rate of its own."""
    return optax.sgd(0.5)


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"optimizer": half}, {"optimizer": {"name": "sgd", "learning_rate": 0.5}}),
        by_night({"local": {"steps": 2, "optimizer": half}}, {"local": {"steps": 2, "learning_rate": 0.5}}),
    ],
    ids=["server", "worker"],
)
def test_an_optimizer_of_ones_own_needs_no_learning_rate(own, named):
    np.testing.assert_array_equal(models(run(**own)), models(run(**named)))


@pytest.mark.slow
def test_a_class_of_flax_stands_for_its_file_and_name(tmp_path):
    out = tmp_path / "out"
    result = run(model={"name": "module", "path": Small}, steps=1, out=out)
    assert result.runs["status"].tolist() == ["complete"]
    for scenario in (out / "scenario.yaml", *out.glob("runs/*/scenario.yaml")):
        assert f"path: {OWN}:Small" in scenario.read_text()
    (versions,) = out.glob("runs/*/versions.json")
    assert [(each["key"], each["file"]) for each in json.loads(versions.read_text())["own_files"]] == [("model", OWN)]


def test_functions_of_one_name_are_different_rules(tmp_path):
    def scaled(by):
        def scaled(n: int, f: int) -> Aggregator:
            return mine(n, f, scale=by)

        return scaled

    result = run(grid={"rule": [scaled(1.0), scaled(0.5)]}, out=tmp_path / "out")
    assert result.runs["rule"].nunique() == 2
    assert not np.array_equal(*result.params.values())
    assert len(result.summary()) == 2
    # neither can be found again
    with pytest.raises(ScenarioError, match=r"rule: <scaled> was a function of the program that ran it: put it into a"):
        run(tmp_path / "out" / "scenario.yaml")


def test_the_options_of_a_function_are_checked_as_those_of_byzax(file):
    for rule in (mine, f"{file}:mine"):
        with pytest.raises(ScenarioError, match=r"^rule.scale: must be a number, got 'much'$"):
            run(rule={"name": rule, "scale": "much"})
        with pytest.raises(ScenarioError, match=r"^rule.scal: unknown key; did you mean 'scale'\?"):
            run(rule={"name": rule, "scal": 1.0})
    with pytest.raises(ScenarioError, match=r"^rule.scale: must be greater than 0, got 0"):
        run(rule={"name": f"{file}:mine", "scale": 0.0})
    with pytest.raises(ScenarioError, match=rf"^rule: {file}: must hold a function other"):
        run(rule=f"{file}:other")
    with pytest.raises(ScenarioError, match=r"^rule: there is no file nowhere.py"):
        run(rule="nowhere.py:mine")
    with pytest.raises(OptionError, match=r"^krum: distance must be .*, got 'far'$"):
        krum(7, 1, distance="far")


@pytest.mark.slow
def test_a_rule_inside_of_another_can_be_a_function(file):
    seven = {"total": 7, "byzantine": 1}

    def bulyan(base):
        return models(run(workers=seven, rule={"name": "bulyan", "base": base}))

    expected = bulyan("krum")
    for base in (krum, {"name": "krum", "distance": "squared"}):
        np.testing.assert_array_equal(bulyan(base), expected)
    # mean of all rows in place of the selection: another rule
    assert not np.array_equal(bulyan("average"), expected)
    with pytest.raises(ScenarioError, match=r"^rule.base: unknown rule 'krumm'; did you mean 'krum'\?"):
        bulyan("krumm")


RECORD = {"rows": 2, "weights": True}


def rules_in(folder, rules, **settings):
    """Recorded runs with these rules, of this module, of a file in a folder, or of byzax."""
    (folder / "own.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        # where a relative path begins
        patch.chdir(folder)
        return run(grid={"rule": rules}, record=RECORD, **settings)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The same runs, recorded, by the name of the executor."""
    return {
        "loop": rules_in(tmp_path_factory.mktemp("recorded"), [mine, "krum"]),
        "vectorised": run(executor="vectorised", rule="krum", record=RECORD),
    }


@pytest.mark.slow
def test_functions_go_to_the_actors_of_ray_and_all_that_is_recorded_comes_back(ray_session, tmp_path):
    rules = [mine, "own.py:mine", "krum"]
    by_ray, by_loop = (rules_in(tmp_path, rules, executor=each) for each in ({"name": "ray", "actors": 1}, "loop"))
    assert digests(by_ray) == digests(by_loop)
    (one, other, krums) = by_ray.params.values()
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, krums)
    for name in by_ray.params:
        for mine_of, other_of in zip(by_loop.recorded(name), by_ray.recorded(name), strict=True):
            _same(mine_of, other_of, exact=True)
    pd.testing.assert_frame_equal(by_ray.weights, by_loop.weights)


def test_recorded_updates_are_those_of_simulate_in_every_executor(recorded):
    names = [*recorded["loop"].params]
    expected = {name: recorded["loop"].recorded(name) for name in names}
    by_hand = [*package.simulate({key: PLAIN[key] for key in PLAIN if key in Run.model_fields}, rule="krum")]
    for found, update in zip(expected[names[-1]], by_hand[::2], strict=True):
        _same(found, update, exact=True)
    for one, other in zip(expected[names[-1]], recorded["vectorised"].recorded(), strict=True):
        _same(one, other, exact=False)


def _same(one, other, exact):
    """Tells whether two recorded updates are the same, to the bit or to rounding."""
    assert one.step == other.step
    assert one.time_s == other.time_s
    for name, a, b in zip(one._fields, one, other, strict=True):
        if exact or name in ("step", "workers", "byzantine"):
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.nanmax(np.abs(a)), err_msg=name)


def test_recorded_weights_are_those_of_every_update_and_worker(recorded):
    weights = recorded["loop"].weights
    assert [*weights.columns[-3:]] == ["step", "worker", "weight"]
    assert len(weights) == 2 * STEPS * 5
    for _, of_run in weights.groupby("run"):
        assert of_run[["step", "worker"]].to_numpy().tolist() == [[s + 1, w] for s in range(STEPS) for w in range(5)]
        np.testing.assert_allclose(of_run.groupby("step")["weight"].sum(), 1.0, rtol=1e-6)
    # krum gives all weight to one row
    assert sorted(weights[weights["rule"] == "krum"].groupby("step")["weight"].max()) == [1.0] * STEPS
    own = weights.loc[weights["rule"] == "krum", "weight"]
    np.testing.assert_allclose(recorded["vectorised"].weights["weight"], own, atol=1e-5)
    # median gives none, and nobody asked here
    asked = run(record={"weights": True}).weights
    assert (len(asked), asked["weight"].isna().all()) == (STEPS * 5, True)
    fewer = run(record={"weights": True}, rule="krum", grid={"workers.total": [5, 6]}).weights
    assert fewer.groupby("workers.total")["worker"].max().tolist() == [4, 5]
    assert fewer["weight"].notna().all()
    empty = run().weights
    assert (len(empty), [*empty.columns[-3:]]) == (0, ["step", "worker", "weight"])


@pytest.mark.parametrize("topology", ["gossip", {"name": "guanyu", "servers": 4, "byzantine_servers": 0}])
def test_recorded_updates_of_several_receivers_are_read_again(topology):
    changes = {"topology": topology, "workers.total": 7, "workers.byzantine": 1, "rule": "median", "steps": 3}
    (first, *_) = run(record={"rows": 1}, **changes).recorded()
    receivers = 7 if topology == "gossip" else 4
    assert first.forged.shape == (receivers, *first.rows.shape)


def test_the_chosen_updates_are_recorded_and_no_others():
    for rows, steps in ((1, [0, 1, 2]), (2, [0, 2]), ([1], [1]), ([2, 0], [0, 2])):
        assert [each.step for each in run(record={"rows": rows}).recorded()] == steps, rows
    assert run().recorded() == []
    with pytest.raises(ScenarioError, match=r"^record.rows: update 3 is beyond the last one, 2 \(steps is 3\)"):
        run(record={"rows": [3]})
    with pytest.raises(ScenarioError, match=r"^record.rows: must be at least 1"):
        run(record={"rows": 0})


SIMULATED = {key: PLAIN[key] for key in PLAIN if key in Run.model_fields}


def test_updates_by_hand_are_what_they_say():
    updates = [*package.simulate(SIMULATED)]
    assert [each.step for each in updates] == [0, 1, 2]
    (last,) = run().params.values()
    np.testing.assert_array_equal(updates[-1].params, last)
    for update in updates:
        assert update.rows.shape == update.forged.shape == (5, 650)
        assert update.byzantine.tolist() == [True, False, False, False, False]
        np.testing.assert_array_equal(update.forged[0], -update.rows[0])
        np.testing.assert_array_equal(update.forged[1:], update.rows[1:])
        np.testing.assert_allclose(update.aggregate, np.median(update.forged, axis=0), rtol=1e-5, atol=1e-7)
        assert update.diagnostics.aggregate_norm == pytest.approx(np.linalg.norm(update.aggregate), rel=1e-5)
    np.testing.assert_allclose(updates[0].params - updates[1].params, 0.1 * updates[1].aggregate, atol=1e-7)


@pytest.mark.parametrize(
    "schedule",
    [
        by_night({"name": "asynchronous", "rows": 3, "apply": "buffer", "staleness": "polynomial"}),
        {"name": "asynchronous", "rows": 2, "apply": "table", "staleness": "polynomial"},
        by_night({"name": "sampled", "participants": 3}),
    ],
)
def test_rows_of_an_update_are_in_the_order_of_the_workers(schedule):
    latency = {"name": "exponential", "mean": 1.0}
    settings = {**SIMULATED, "rule": "average", "steps": 12, "schedule": schedule, "latency": latency}
    seen = set()
    for t, update in enumerate(package.simulate(settings)):
        assert update.step == t
        workers = update.workers.tolist()
        assert workers == sorted(set(workers))
        assert {len(each) for each in (update.rows, update.byzantine, update.forged)} == {len(workers)}
        np.testing.assert_array_equal(update.byzantine, update.workers == 0)
        np.testing.assert_array_equal(update.forged[update.workers != 0], update.rows[update.workers != 0])
        # a mean: the same for each row that the rule sees, however old it is
        seen = {*seen, *workers} if schedule.get("apply") == "table" else {*workers}
        expected = [1 / len(seen) if worker in seen else 0 for worker in range(5)]
        np.testing.assert_allclose(update.weights, expected, rtol=1e-6)
        if schedule.get("apply") != "table" and update.diagnostics.age == 0:
            np.testing.assert_allclose(update.weights[workers] @ update.forged, update.aggregate, rtol=1e-4, atol=1e-6)


def test_a_run_by_hand_can_be_described_in_several_ways():
    first = next(package.simulate(SIMULATED)).params
    for one in (package.simulate(Run(**SIMULATED)), package.simulate(**SIMULATED)):
        np.testing.assert_array_equal(next(one).params, first)
    other = next(package.simulate(Run(**SIMULATED), seed=1)).params
    assert not np.array_equal(other, first)
    np.testing.assert_array_equal(next(package.simulate(Run(**SIMULATED).replace(seed=1))).params, other)


def test_a_mistake_in_a_run_by_hand_is_said_before_its_first_update():
    for settings, said in (
        ({"stesp": 3}, r"^stesp: unknown key; did you mean 'steps'\?"),
        ({"executor": "loop"}, r"^executor: a key of a Study and not of a Run: for byzax.run and byzax.Study, leave"),
        ({"repeats": 2, "grid": {"seed": [1]}}, r"^repeats, grid: keys of a Study and not of a Run"),
        ({"grid.seed": [1]}, r"^grid: a key of a Study and not of a Run"),
        ({"rule": "krum", "workers": {"total": 4, "byzantine": 1}}, r"^rule: krum needs n >= 2f \+ 3"),
    ):
        with pytest.raises(ScenarioError, match=said):
            package.simulate(SIMULATED, **settings)
    updates = package.simulate(SIMULATED, attack="crashing")
    with pytest.raises(RunError, match=r"^work failed \(worker 0, job 0\): "):
        next(updates)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stesp": 3}, "stesp: unknown key; did you mean 'steps'?"),
        ({"steps": "many"}, "steps: must be a whole number, got 'many'"),
        ({"rule": "mediam"}, "rule: unknown rule 'mediam'; did you mean 'median'?"),
        ({"rule": 3}, "rule: a name, a function, or a mapping with name and options, is needed, got 3"),
        ({"rule": {"name": "krum", "distance": "far"}}, "rule.distance: must be"),
        ({"rule.m": 2}, "rule.m: unknown key"),
        ({"rule": "krum", "workers": {"total": 4, "byzantine": 1}}, "rule: krum needs n >= 2f + 3"),
        ({"grid": {"rule": ["median", lambda n, f: 3]}}, "rule: lambda must give an Aggregator, got int"),
        ({"grid": {"ruel": ["median"]}}, "grid.ruel: unknown key; did you mean 'rule'?"),
        ({"data": None}, "data: a name, a function, or a mapping with name and options, is needed, got None"),
        ({"executor": "lop"}, "executor: unknown executor 'lop'; did you mean 'loop'?"),
    ],
)
def test_a_mistake_is_one_line_that_begins_with_its_key(tmp_path, monkeypatch, settings, said):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ScenarioError) as caught:
        run(**settings)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(said)
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(ScenarioError) as caught:
        package.validate(Study(**{**PLAIN, "name": "x", **settings})) if "rule.m" not in settings else run(**settings)
    assert str(caught.value).startswith(said)


def test_without_settings_each_missing_key_is_named():
    with pytest.raises(ScenarioError) as caught:
        package.run()
    assert str(caught.value).splitlines() == ["data: is missing", "rule: is missing", "attack: is missing"]


def test_a_mistake_in_a_file_names_the_file(tmp_path):
    path = write(tmp_path, **{**PLAIN, "steps": 0})
    with pytest.raises(ScenarioError, match=rf"^{path}: steps: must be at least 1, got 0$"):
        run(path)
    with pytest.raises(ScenarioError, match=r"nothing.yaml: no such file"):
        run(tmp_path / "nothing.yaml")


def test_runs_that_fail_are_a_warning_and_an_error_where_all_do():
    with pytest.warns(
        UserWarning, match=r"^1 of 2 runs failed, such as median_crashing_seed-0: work failed \("
    ) as all_:
        result = run(grid={"attack": ["none", "crashing"]})
    assert all_[0].filename == __file__
    assert result.runs["status"].tolist() == ["complete", "failed"]
    assert "this batch cannot be corrupted" in result.runs["reason"].iloc[1]
    assert result.summary()["runs"].tolist() == [1, 0]
    with pytest.raises(RunError, match=r"^1 of 1 runs? failed, .*this batch cannot be corrupted"):
        run(attack="crashing")


def test_nothing_is_said_where_that_is_asked_for(capsys):
    run()
    assert capsys.readouterr() == ("", "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(package.run(PLAIN), Result)
    assert "1 of 1 run" in capsys.readouterr().err
