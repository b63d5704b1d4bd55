"""Result files changed at random: no traceback of `show`, `replay` and `timeline`, and nothing else is touched."""

import json
import random
import shutil
import warnings

import numpy as np
import pytest

from byzax.experiments import plots, study
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import Checkpoint, plan
from byzax.simulator.timeline_files import save
from tests.experiments.command import byzax
from tests.experiments.written import study_of

# What a field of a JSON file, or a value in it, is replaced by.
VALUES = [None, [], {}, True, -1, 10**30, 1e300, float("nan"), float("inf"), "text", "nan", "", "\ud800",
          "a\nb\x1b[31m", r"$\frac{$", "[/red]", "x" * 5000, {"3": 1}, [[]]]  # fmt: skip
WHOLE = [b"", b"[]", b"null", b"3", b'"text"', b"{", b"[" * 100_000, b"\xff\xfe\x00", b"{}", b"name: x\n"]
NUMBERS = ["", "nan", "-1", "inf", "1e400", "text", "1,5", '"', "\x00", "9" * 400]
# What byzax show writes; everything else stays as it is.
SHOWN = (".byzax", "summary.csv", "tables.csv", "tables.tex", "summary.md", "*.png", "*.svg")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a study of four runs in time, a recorded timeline among them, and files of somebody else."""
    folder = tmp_path_factory.mktemp("damaged") / "study"
    study_of(folder, repeats=2, grid={"rule.name": ["average", "median"]}, schedule="asynchronous",
             latency={"name": "lognormal", "sigma": 0.5})  # fmt: skip
    for run in folder.glob("runs/*"):
        scenario = study.load(run / "scenario.yaml").cells[0].study
        save(plan(scenario.run), run / "timeline.npz")
    (folder / "thesis.txt").write_text("mine")
    (folder / "runs" / "notes.txt").write_text("mine")
    return folder


def changed_json(path, rng):
    told = json.loads(path.read_text())
    for _ in range(rng.randint(1, 2)):
        key = rng.choice(sorted(told))
        if rng.random() < 0.3:
            told.pop(key, None)
        elif isinstance(told.get(key), dict) and told[key] and rng.random() < 0.5:
            told[key] = told[key] | {rng.choice(sorted(told[key])): rng.choice(VALUES)}
        else:
            told[key] = rng.choice(VALUES)
    path.write_bytes(json.dumps(told).encode("utf-8", "surrogatepass"))


def changed_table(path, rng):
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    fields = lines[place].split(",")
    match rng.randrange(6):
        case 0:
            fields.append("1")
        case 1:
            fields.pop()
        case 2:
            fields[rng.randrange(len(fields))] = rng.choice(NUMBERS)
        case 3:
            lines.insert(place, lines[place])
        case 4:
            lines[0] = ",".join(["step"] * len(fields))
        case _:
            rng.shuffle(lines)
    lines[place] = ",".join(fields)
    path.write_text("\n".join(lines) + "\n")


def changed_arrays(path, rng):
    with np.load(path) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    old = arrays[name]
    new = [np.zeros((2, 2)), np.array("text"), np.zeros(0), np.full(old.shape, np.nan), np.full(old.shape, 10**12),
           np.ones(old.shape), -np.ones(old.shape, int), np.concatenate([old.ravel(), old.ravel()]),
           np.array(["a"] * 3), np.array(None), old[..., None], None]  # fmt: skip
    chosen = rng.choice(new)
    arrays.pop(name)
    if chosen is not None:
        arrays[name] = chosen
    np.savez(path, **arrays)


def cut_off(path, rng):
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def changed_bytes(path, rng):
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data)


def replaced(path, rng):
    path.write_bytes(rng.choice(WHOLE))


def removed(path, rng):
    path.unlink()


def made_a_folder(path, rng):
    path.unlink()
    path.mkdir()


def made_a_link(path, rng):
    path.unlink()
    path.symlink_to(rng.choice([path.name, "nowhere", "..", "../../thesis.txt"]))


ANY = (cut_off, changed_bytes, replaced, removed, made_a_folder, made_a_link)
FITTING = {".json": changed_json, ".csv": changed_table, ".npz": changed_arrays}


def damaged(folder, rng):
    """Changes one or two files of a study, or its folders, and says how."""
    said = []
    for _ in range(rng.randint(1, 2)):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[-4:] != ".txt")
        path = rng.choice(files)
        fitting = FITTING.get(path.suffix)
        change = fitting if fitting and rng.random() < 0.6 else rng.choice(ANY)
        change(path, rng)
        said.append(f"{change.__name__} {path.relative_to(folder)}")
    if rng.random() < 0.1:
        shutil.rmtree(rng.choice(sorted(path for path in folder.glob("runs/*") if path.is_dir())))
        said.append("a run removed")
    return ", ".join(said)


def contents(folder):
    """The content of a folder, without the files of byzax show."""
    shown = {path for pattern in SHOWN for path in folder.glob(pattern)}
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path not in shown}


def fake_replay(task, timeline):
    """Checkpoints as a replay gives them, but for the training."""
    for step in (0, 2, 4):
        yield Checkpoint(task.run.seed, step, 0.0, 0, 0.0, None, None, np.zeros(3), timeline)


def holds(folder, chart):
    """Runs the three commands on a folder; fails where one does not end as a command should."""
    before = contents(folder)
    for arguments in (["show", folder], ["replay", folder], ["timeline", folder, "--out", chart]):
        with warnings.catch_warnings():
            # a sign that no font has is drawn as a box
            warnings.filterwarnings("ignore", "Glyph")
            done = byzax(*arguments)
        assert isinstance(done.exception, SystemExit | None), (arguments[0], done.exception)
        assert done.exit_code in (0, 1, 2), (arguments[0], done.output)
        assert "Traceback" not in done.output
        assert all(len(line) < 1000 for line in done.output.splitlines())
    assert contents(folder) == before


def run_seeds(seeds, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "replay", fake_replay)
    monkeypatch.setattr("byzax.experiments.replay.digest", lambda seen: "0" * 64)
    for seed in seeds:
        folder = tmp_path / f"{seed}" / "study"
        shutil.copytree(whole, folder)
        how = damaged(folder, random.Random(seed))
        try:
            holds(folder, tmp_path / "chart.svg")
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {how}") from error


def test_damaged_results_are_named_in_lines_and_nothing_else_is_touched(whole, tmp_path, monkeypatch):
    # drawn at night
    monkeypatch.setattr(plots, "draw", lambda results, folder: [])
    monkeypatch.setattr("byzax.experiments.timelines.draw", lambda found, since, until, path: path)
    run_seeds(range(4), whole, tmp_path, monkeypatch)


@pytest.mark.slow
def test_hundreds_of_damaged_results(whole, tmp_path, monkeypatch):
    run_seeds([*range(4, 8), *range(1000, 1400)], whole, tmp_path, monkeypatch)
