"""The state of a study, read from its folder while another process runs it or after it ended."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from byzax.experiments import marks
from byzax.experiments.locking import Holder, holder
from byzax.experiments.names import counted, duration
from byzax.experiments.records import COUNTED, Damaged, read_metrics, read_summary
from byzax.experiments.strict_yaml import read_mapping
from byzax.simulator.mistakes import ScenarioError


class Begun(NamedTuple):
    """A run that is neither complete nor failed.

    Attributes:
        name: The name of its folder.
        step: Updates at its last evaluation.
        steps: Updates in all.
        wall_s: Seconds until then.
    """

    name: str
    step: int
    steps: int
    wall_s: float


class Status(NamedTuple):
    """The state of a study.

    Attributes:
        holder: The process that runs it; None where none does.
        runs: Number of its runs.
        done: Names of the runs with a result.
        failed: The reason of each failed run, by its name.
        damaged: Names of runs whose files cannot be read.
        begun: The runs that were begun, or cut.
        left_s: Seconds left, at the pace of the runs so far; None where there is nothing to tell it from.
    """

    holder: Holder | None
    runs: int
    done: Sequence[str]
    failed: dict[str, str]
    damaged: Sequence[str]
    begun: Sequence[Begun]
    left_s: float | None


def status(folder: Path) -> Status:
    """Reads the state of a study.

    Args:
        folder: The folder of the study.

    Returns:
        The state.

    Raises:
        ScenarioError: Where the folder is none of byzax.
    """
    kind, listed = marks.read_mark(folder)
    if kind not in ("study", "tuning"):
        raise ScenarioError(f"{folder}: no study here: a folder that byzax run or byzax tune writes is needed")
    names = sorted(
        name.removeprefix("runs/") for name in listed if name.startswith("runs/") and not name.endswith(marks.ASIDE)
    )
    done, failed, damaged, begun, times = [], {}, [], [], []
    for name in names:
        path = folder / "runs" / name
        if not path.is_dir():
            continue
        try:
            summary, metrics = read_summary(path), read_metrics(path)
            steps = int(read_mapping(path / "scenario.yaml")["steps"])
        except (Damaged, ScenarioError, KeyError, TypeError, ValueError):
            damaged.append(name)
            continue
        if summary.status in COUNTED:
            done.append(name)
            times.append(summary.wall_s)
        elif summary.status == "failed":
            failed[name] = summary.reason or ""
        else:
            step, wall_s = metrics[["step", "wall_s"]].iloc[-1] if len(metrics) else (0, 0.0)
            begun.append(Begun(name, int(step), steps, float(wall_s)))
    runs = len(names)
    left = runs - len(done) - len(failed) - len(damaged) - len(begun)
    each_s = sum(times) / len(times) if times else None
    rest = []
    for run in begun:
        pace = run.wall_s / run.step * (run.steps - run.step) if run.step else each_s
        rest.append(pace)
    rest += [each_s] * left
    left_s = None if any(value is None for value in rest) else sum(value for value in rest if value is not None)
    running = holder(folder)
    if left_s is not None and running is not None:
        left_s /= running.jobs
    return Status(running, runs, done, failed, damaged, begun, left_s)


def lines(folder: Path, state: Status) -> list[str]:
    """The state of a study in words.

    Args:
        folder: The folder of the study.
        state: The state.

    Returns:
        The lines.
    """
    left = state.runs - len(state.done) - len(state.failed) - len(state.damaged)
    said = [f"{folder}: {len(state.done)} of {counted(state.runs, 'run')} done"]
    for words, names in (("failed", state.failed), ("damaged", state.damaged)):
        said[0] += f", {len(names)} {words}" if names else ""
    if state.holder is not None:
        said.append(f"running: {state.holder}")
    elif left:
        said.append("not running: byzax run with the same scenario and folder goes on")
    for run in state.begun:
        word = "running" if state.holder is not None else "cut"
        said.append(f"{word}: {run.name}, step {run.step} of {run.steps} at the last evaluation")
    for reason, count in Counter(state.failed.values()).items():
        name = next(name for name, value in state.failed.items() if value == reason)
        said.append(f"failed: {name}{f' and {count - 1} more' if count > 1 else ''}: {reason}")
    said += [f"damaged: {name}" for name in state.damaged]
    if left and state.left_s is not None:
        said.append(f"about {duration(state.left_s)} left, at the pace so far")
    return said
