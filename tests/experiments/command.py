"""The command line as the tests of this folder call it, and small scenarios in YAML."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from byzax.experiments.cli import app
from byzax.experiments.strict_yaml import dump

ROOT = Path(__file__).parents[2]
SMALL = {
    "name": "small",
    "steps": 4,
    "evaluate_every": 2,
    "workers": {"total": 7, "byzantine": 1},
    "data": {"name": "digits", "batch_size": 4},
    "model": "softmax",
    "rule": "average",
    "attack": "none",
    "executor": "loop",
}


def byzax(*arguments: Any) -> Result:
    """`byzax ARGUMENTS` in this process."""
    return CliRunner().invoke(app, [str(each) for each in arguments])


def command(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
    """`byzax ARGUMENTS` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "byzax", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | options.pop("env", {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def write(folder: Path, name: str = "small.yaml", **changes: Any) -> Path:
    """A file with a scenario that runs within a second; a change to None takes the key away."""
    path = folder / name
    path.write_text(dump({key: value for key, value in {**SMALL, **changes}.items() if value is not None}))
    return path
