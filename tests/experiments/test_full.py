"""A full disk, while running and while showing: one line, and what was done is kept."""

import csv
import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from byzax.experiments import outputs, plots, run_files
from tests.experiments.command import byzax, write

FULL = "No space left on device"


def full(path):
    return OSError(errno.ENOSPC, FULL, str(path))


def fill_up(monkeypatch, wanted):
    """From the first line on that is `wanted(path, lines)` nothing can be written: of that line half is."""
    filled = []

    class UntilFull:
        def __init__(self, file, **options):
            self.file, self.writer = file, csv.writer(file, **options)

        def writerows(self, lines):
            path, lines = Path(getattr(self.file, "name", "")), list(lines)
            if path.name and (filled or wanted(path, lines)):
                if not filled:
                    self.file.write("2,1.0,1")
                filled.append(path)
                raise full(path)
            self.writer.writerows(lines)

    def atomically(path, save):
        if filled:
            raise full(path)
        return written(path, save)

    written = run_files.atomically
    monkeypatch.setattr(run_files, "csv", SimpleNamespace(writer=UntilFull, reader=csv.reader))
    for module in (run_files, outputs):
        monkeypatch.setattr(module, "atomically", atomically)
    monkeypatch.setattr("byzax.experiments.writing.atomically", atomically)


@pytest.mark.parametrize("executor", ["loop", pytest.param("vectorised", marks=pytest.mark.slow)])
def test_a_disk_that_fills_up_in_a_run_is_one_line_and_what_was_done_is_kept(tmp_path, monkeypatch, executor):
    file, out = (
        write(tmp_path, repeats=2, executor=executor, grid={"rule.name": ["average", "median"]}),
        tmp_path / "out",
    )

    # the second evaluation of the third run
    def wanted(path, lines):
        return path.parent.name == "median_none_seed-0" and path.name == "metrics.csv" and lines[0][0] == 2

    fill_up(monkeypatch, wanted)
    done = byzax("run", file, "--out", out)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    lines = [line for line in done.stderr.splitlines() if FULL in line]
    metrics = out / "runs" / "median_none_seed-0" / "metrics.csv"
    assert lines == [
        f"{metrics}: cannot be written ({FULL}): what is done is kept",
        f"{out}: tables and plots cannot be written ({FULL}): byzax show makes them, from the files of the runs",
    ]
    assert "failed" not in done.stderr
    # the tables come all the same
    assert "0." in done.stdout.split("average")[1].splitlines()[0]
    assert "median_none_seed-0: unfinished after step 0" in done.stdout
    monkeypatch.undo()
    states = {path.parent.name: json.loads(path.read_text())["status"] for path in out.glob("runs/*/summary.json")}
    assert states.pop("median_none_seed-0") == "running"
    assert {states["average_none_seed-0"], states["average_none_seed-1"]} == {"complete"}
    again = byzax("show", out)
    assert again.exit_code == 0, again.output
    assert (out / "accuracy.png").stat().st_size > 1000


def test_a_disk_that_is_full_when_a_run_begins_is_one_line(tmp_path, monkeypatch):
    fill_up(monkeypatch, lambda path, lines: True)
    done = byzax("run", write(tmp_path), "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert next(line for line in done.stderr.splitlines() if FULL in line).endswith("what is done is kept")


def test_without_room_for_plots_the_tables_are_printed_and_no_half_of_a_file_is_left(tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(plots, "draw", lambda results, folder: [])
    assert byzax("run", write(tmp_path, steps=1), "--out", out).exit_code == 0
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    monkeypatch.setattr(outputs, "atomically", lambda path, save: (_ for _ in ()).throw(full(path)))
    done = byzax("show", out)
    assert done.exit_code == 1
    assert "final test accuracy" in done.stdout
    said = f"{out}: tables and plots cannot be written ({FULL}): byzax show makes them, from the files of the runs"
    assert done.stderr.splitlines() == [said]
    assert {path: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
