"""Loggers: `log` of a scenario."""

import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

import byzax as library
from byzax.experiments import run_files
from byzax.experiments.records import METRICS
from byzax.simulator.loggers import Logger
from byzax.simulator.mistakes import ScenarioError
from tests.experiments.command import SMALL, byzax, write

OWN = '''
import json
from byzax.simulator.loggers import Logger


def lines(*, file: str, broken: str = "") -> Logger:
    """A line of JSON for each call."""

    def say(**values):
        with open(file, "a") as log:
            print(json.dumps(values), file=log)
        if broken and broken in values:
            raise OSError("no room left")

    def start(run):
        say(start=run.name, study=run.study, resumed=run.resumed, rule=run.settings["rule"], folder=str(run.folder))
        return run.name

    return Logger(start, lambda log, step, values: say(values=log, step=step, **values),
                  lambda log, status: say(end=log, status=status))
'''


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own_log.py").write_text(OWN)
    return {"name": f"{tmp_path / 'own_log.py'}:lines", "file": str(tmp_path / "log.jsonl")}


def said(own):
    with open(own["file"]) as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_logger_is_told_what_metrics_have(own, tmp_path, jobs):
    grid = {"rule.name": ["average", "median"]}
    path = write(tmp_path, log=own, grid=grid, executor="vectorised", measure="balanced_accuracy")
    done = byzax("run", path, "--out", tmp_path / "out", "--jobs", jobs)
    assert done.exit_code == 0, done.output
    result = library.load(tmp_path / "out")
    for run in result.runs["run"]:
        (begun,) = [each for each in said(own) if each.get("start") == run]
        assert (begun["study"], begun["resumed"], begun["rule"] in run) == ("small", False, True)
        assert begun["folder"] == str(tmp_path / "out" / "runs" / run)
        told = [each for each in said(own) if each.get("values") == run]
        metrics = result.metrics.loc[result.metrics["run"] == run]
        assert [each["step"] for each in told] == metrics["step"].tolist()
        for each, (_, row) in zip(told, metrics.iterrows(), strict=True):
            expected = {name: row[name] for name in [*METRICS, "balanced_accuracy"] if row[name] == row[name]}
            assert {name: value for name, value in each.items() if name != "values"} == expected
        assert [each["status"] for each in said(own) if each.get("end") == run] == ["complete"]


def test_a_run_with_a_logger_is_the_same_run(own, tmp_path):
    path, out = write(tmp_path), tmp_path / "out"
    assert byzax("run", path, "--out", out).exit_code == 0
    assert byzax("run", write(tmp_path, log=own, repeats=2), "--out", out).exit_code == 0
    assert [each["start"] for each in said(own) if "start" in each] == ["average_none_seed-1"]


@pytest.mark.parametrize(("broken", "lines"), [("start", 1), ("values", 2), ("end", 5)])
def test_a_logger_that_fails_is_named_once_and_the_run_goes_on(own, tmp_path, broken, lines):
    path = write(tmp_path, log=[{**own, "broken": broken}])
    done = byzax("run", path, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("lines failed (no room left): the run goes on without it") == 1
    assert len(said(own)) == lines
    assert library.load(tmp_path / "out").runs["status"].tolist() == ["complete"]


def test_a_run_that_goes_on_says_so_and_an_interrupted_one_is_closed(own, tmp_path, monkeypatch):
    path = write(tmp_path, steps=8, evaluate_every=2, snapshots={"every": 1}, log=own)
    save = run_files.save_snapshot

    def interrupted(folder, run, snapshot):
        save(folder, run, snapshot)
        if snapshot.state.step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_files, "save_snapshot", interrupted)
    assert byzax("run", path, "--out", tmp_path / "out").exit_code == 130
    monkeypatch.setattr(run_files, "save_snapshot", save)
    assert byzax("run", path, "--out", tmp_path / "out").exit_code == 0
    assert [each["resumed"] for each in said(own) if "start" in each] == [False, True]
    assert [each["status"] for each in said(own) if "end" in each] == ["interrupted", "complete"]
    assert [each["step"] for each in said(own) if "step" in each] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("tensorbord", "log[0]: unknown logger 'tensorbord'; did you mean 'tensorboard'?"),
        ({"name": "wandb", "projekt": "x"}, "log[0].projekt: unknown key; did you mean 'project'?"),
        (3, "log[0]"),
        (lambda: 3, "must give a Logger"),
    ],
)
def test_mistakes_are_refused_before_anything_starts(log, words):
    with pytest.raises(ScenarioError) as error:
        library.run(SMALL, log=log)
    assert words in str(error.value)


PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_is_not_there_is_named_with_the_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    with pytest.raises(ScenarioError, match=rf"log: {name} needs the package {PACKAGES[name]}: pip install 'byzax\["):
        library.run(SMALL, log=name)


class Recorder:
    """In place of an object of a package: keeps the calls of its methods, which give it again."""

    def __init__(self, calls):
        self._calls, self.summary = calls, {}
        self.info = SimpleNamespace(run_id="1")
        self.experiment_id = "2"

    def __getattr__(self, name):
        def call(*given, **named):
            self._calls.append((name, given, named))
            return self

        return call


@pytest.mark.parametrize("name", PACKAGES)
def test_each_logger_hands_on_the_numbers_of_all_evaluations(name, monkeypatch, tmp_path):
    """By a stand-in for its package, which the tests do not install."""
    calls = []
    package: ModuleType = ModuleType(PACKAGES[name])
    made = Recorder(calls)
    for function in ("SummaryWriter", "init", "MlflowClient", "Settings"):
        setattr(package, function, getattr(made, function))
    monkeypatch.setitem(sys.modules, PACKAGES[name], package)
    monkeypatch.chdir(tmp_path)
    result = library.run(SMALL, log=name, quiet=True)
    numbers = []
    for function, given, named in calls:
        if function == "log":
            numbers.append(given[0]["test_accuracy"])
            assert "step" in named
        elif function in ("add_scalar", "log_metric") and "test_accuracy" in given:
            numbers.append(given[given.index("test_accuracy") + 1])
    assert numbers == result.metrics["test_accuracy"].tolist()
    if name == "wandb":
        assert next(named for function, _, named in calls if function == "init")["mode"] == "offline"


@pytest.mark.skipif(importlib.util.find_spec("tensorboardX") is None, reason="tensorboardX is an extra")
def test_tensorboard_writes_event_files(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    library.run(SMALL, log="tensorboard", quiet=True)
    assert [*tmp_path.glob("logs/tensorboard/small/*/events.out.tfevents.*")]


def test_a_logger_of_the_running_program_is_told_too():
    told = []

    def mine() -> Logger:
        return Logger(lambda run: told, lambda log, step, _: log.append(step), lambda log, status: log.append(status))

    library.run(SMALL, log=mine, quiet=True)
    assert told == [0, 2, 4, "complete"]
