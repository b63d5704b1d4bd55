"""A large study that is killed three times on the way, and one that is not: a program of the tests.

`python -m tests.experiments.three_kills FOLDER [SEEDS [JOBS]]` runs 40 combinations on digits, each with SEEDS seeds
(50: 2,000 runs), in JOBS processes (2), once without and once with three kills of the whole process group, when about a
quarter, a half and three quarters of the runs have ended. It prints how long both took, and ends with 1 where a file
that holds numbers differs.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from byzax.experiments.strict_yaml import dump
from tests.experiments.command import ROOT
from tests.experiments.cut import content

STUDY = {
    "name": "many-runs",
    "steps": 50,
    "evaluate_every": 25,
    "workers": {"total": 11, "byzantine": 2},
    "data": {"name": "digits", "batch_size": 16},
    "model": "softmax",
    "rule": "average",
    "attack": "none",
    "executor": "vectorised",
    "snapshots": {"every": 25},
    "grid": {
        "rule.name": ["average", "median", "trimmed_mean", "krum", "geometric_median"],
        "attack.name": ["none", "sign_flip", "little", "empire"],
        "optimizer.learning_rate": [0.05, 0.2],
    },
}


def start(scenario: Path, out: Path, jobs: int) -> subprocess.Popen[bytes]:
    """Begins the study in a process group of its own."""
    command = [sys.executable, "-m", "byzax", "run", str(scenario), "--quiet", "--jobs", str(jobs), "--out", str(out)]
    out.parent.mkdir(parents=True, exist_ok=True)
    log = (out.parent / "log").open("ab")
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def ended(out: Path) -> int:
    """The number of runs that have a final summary."""
    found = 0
    for path in out.glob("runs/[!.]*/summary.json"):
        try:
            found += json.loads(path.read_text())["status"] == "complete"
        except (OSError, ValueError):
            # it is being written
            continue
    return found


def killed_on_the_way(scenario: Path, out: Path, jobs: int, runs: int) -> list[int]:
    """Runs the study, killed three times; the number of runs that had ended at each kill."""
    at = []
    for part in (0.25, 0.5, 0.75):
        process = start(scenario, out, jobs)
        while process.poll() is None and ended(out) < part * runs:
            time.sleep(0.2)
        assert process.poll() is None, f"the study ended before the kill at {part:.0%}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        at.append(ended(out))
    assert start(scenario, out, jobs).wait() == 0, (out.parent / "log").read_text()
    return at


def main(folder: Path, seeds: int = 50, jobs: int = 2) -> int:
    """Runs both, prints what they took, and compares their files; the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    scenario = folder / "scenario.yaml"
    scenario.write_text(dump({**STUDY, "repeats": seeds}))
    runs = 40 * seeds
    begun = time.monotonic()
    whole, killed = folder / "whole" / "out", folder / "killed" / "out"
    assert start(scenario, whole, jobs).wait() == 0, (folder / "whole" / "log").read_text()
    whole_s = time.monotonic() - begun
    begun = time.monotonic()
    at = killed_on_the_way(scenario, killed, jobs, runs)
    killed_s = time.monotonic() - begun
    expected, got = content(whole), content(killed)
    differ = [name for name in sorted({**expected, **got}) if expected.get(name) != got.get(name)]
    print(
        f"{runs} runs in {jobs} processes: {whole_s:.0f} s; killed when {', '.join(map(str, at))} had ended, and gone "
        f"on with: {killed_s:.0f} s; {len(expected)} files compared, {len(differ)} differ{': ' if differ else ''}"
        f"{', '.join(differ[:5])}"
    )
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
