"""Kills `byzax run` at random moments and lets it go on: a program of the tests.

`python -m tests.experiments.cut FOLDER KILLS AGAIN SEED SCENARIO ...` prints a line for each kill after which the run,
which then goes on, does not end with the files of a run that was never cut. The process group is killed: half of the
times before one of its operations on files, half after some time, and so is the run that goes on, up to AGAIN kills in
all. All processes are forks of this one, for imports take the time.
"""

import json
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from byzax.experiments import command_steps
from tests.experiments.killed import forked, import_ahead

# Files that say when, and not what.
UNEQUAL = {".byzax-holder.json", "versions.json"}


def content(folder: Path) -> dict[str, object]:
    """The content of all files of a study that does not depend on the time that a run took."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.name in UNEQUAL or path.suffix in (".png", ".svg"):
            continue
        if path.name in ("summary.json", "metrics.csv", "summary.csv", "tables.csv"):
            found[name] = without_wall(path)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: arrays[key].tobytes() for key in arrays.files}
        else:
            found[name] = path.read_bytes()
    return found


def without_wall(path: Path) -> object:
    """A table or summary without the seconds of the clock."""
    if path.suffix == ".json":
        return {key: value for key, value in json.loads(path.read_text()).items() if key != "wall_s"}
    rows = [line.split(",") for line in path.read_text().splitlines()]
    return [[value for key, value in zip(rows[0], row, strict=False) if "wall_s" not in key] for row in rows]


def write_nothing(self: Figure, fname: Any, **options: Any) -> None:
    """In place of `Figure.savefig`: a file without a picture."""
    fname.write(b"a figure")


def tried(place: Path, scenario: Path, kills: int, again: int, draw: random.Random) -> None:
    """Kills a scenario's run `kills` times, each time anew, and compares what it has in the end with the whole one."""
    whole, folder = place / "whole" / "out", place / "out"
    arguments = ["run", str(scenario), "--quiet", "--out"]
    for each in (whole, folder):
        each.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(each, ignore_errors=True)
    # the first one compiles
    import_ahead(whole, [*arguments, str(whole)])
    shutil.rmtree(whole)
    begin = time.monotonic()
    code, operations = forked(whole, [*arguments, str(whole)])
    took_s = time.monotonic() - begin
    assert code == 0, (whole.parent / "log").read_text()
    expected = content(whole)
    for number in range(kills):
        shutil.rmtree(folder, ignore_errors=True)
        moments = []
        for _ in range(draw.randint(1, again)):
            operation, after_s = 0, None
            if draw.random() < 0.5:
                operation = draw.randint(1, operations)
            else:
                after_s = draw.uniform(0, took_s)
            moments.append(f"operation {operation}" if operation else f"{after_s:.2f} s")
            forked(folder, [*arguments, str(folder)], operation, after_s)
        code, _ = forked(folder, [*arguments, str(folder)])
        got = content(folder)
        if code or got != expected:
            differ = [name for name in {**expected, **got} if expected.get(name) != got.get(name)]
            log = " ".join((folder.parent / "log").read_text().split())[-300:]
            print(f"{scenario.name}, kill {number} at {', '.join(moments)}: {code}, {log}; other files: {differ}")


if __name__ == "__main__":
    place, kills, again, seed = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    # what is traced before a start is the same every time
    command_steps.check_studies = lambda studies, *others: studies
    # a figure is a file as others are, and drawing it takes the time of the run
    Figure.savefig = write_nothing
    for scenario in sys.argv[5:]:
        tried(place, Path(scenario), kills, again, random.Random(f"{seed} {scenario}"))
