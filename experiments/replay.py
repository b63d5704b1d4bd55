"""Replay of a recorded run, one worker after the other, compared with the recorded numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from byzax.experiments import study
from byzax.experiments.records import Damaged, read_params, read_summary
from byzax.experiments.versions import recorded_files, user_files
from byzax.simulator import round_contract
from byzax.simulator.config.study import Study
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import Checkpoint, RunError, digest, plan
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.parts import topology
from byzax.simulator.timeline import Timeline, check
from byzax.simulator.timeline_files import load


class Replayed(NamedTuple):
    """The result of a replay.

    Attributes:
        run: Folder of the run.
        updates: Number of updates compared.
        problem: The difference in words; empty where all numbers are the same to the bit.
    """

    run: Path
    updates: int
    problem: str


def run_folders(folder: Path) -> list[Path]:
    """The folders of the runs in a folder.

    Args:
        folder: The folder of a run or of a study.

    Returns:
        The folder itself, or those of the runs of the study.

    Raises:
        ScenarioError: Where there is no run.
    """
    # a folder with some files of a run counts as a run, so that the error names the missing one
    if (folder / "runs").is_dir():
        if folders := sorted(path for path in folder.glob("runs/[!.]*") if path.is_dir()):
            return folders
    elif any((folder / name).exists() for name in ("summary.json", "params.npz", "metrics.csv")):
        return [folder]
    raise ScenarioError(f"{folder}: no run here: a folder that byzax run wrote is needed, of a run or of a study")


def _same_code(run: Path, scenario: Study) -> None:
    """Checks that the user's own files are those that the run used, without running them. Raises ScenarioError."""
    try:
        recorded = recorded_files(run)
    except ValueError as error:
        raise ScenarioError(
            f"{run / 'versions.json'}: does not say which files of your own the run used ({error}): it cannot be "
            "compared"
        ) from None
    for key, (file, digest_now) in user_files(scenario).items():
        before, digest_then = recorded.get(key, (file, "no file of your own"))
        if digest_now != digest_then:
            raise ScenarioError(
                f"{run}: {key}: {file} is not what it was in this run (sha256 {digest_now[:12]}..., recorded "
                f"{digest_then[:12]}... of {before}): put that file back"
            )


def timeline_of(run: Path) -> Timeline:
    """The order of events of a run.

    Args:
        run: Folder of the run.

    Returns:
        The recorded timeline, or the one that its scenario plans.

    Raises:
        ScenarioError: Where the timeline is missing, damaged, or does not fit the scenario.
    """
    scenario = study.load(run / "scenario.yaml").cells[0].study
    recorded = run / "timeline.npz"
    try:
        if recorded.exists():
            recorded_timeline = load(recorded)
            try:
                described = topology(scenario.run).rounds
                if described is not None:
                    round_contract.check(described(scenario.run), recorded_timeline, scenario.seed)
                return check(recorded_timeline, scenario.workers.total)
            except ValueError as error:
                raise ValueError(f"{recorded}: does not fit {run / 'scenario.yaml'}: {error}") from None
        if scenario.clock == "wall":
            raise ValueError(f"{run}: raced on the clock, and its timeline.npz is not there: it cannot be replayed")
        return plan(scenario.run)
    except ValueError as error:
        raise ScenarioError(str(error)) from error


def replay(run: Path) -> Iterator[Checkpoint | Replayed]:
    """Replays a run.

    Args:
        run: Folder of the run.

    Returns:
        The checkpoints of the replay, then its result.

    Raises:
        ScenarioError: For a run that is damaged or has no evaluation, or whose replay fails.
    """
    try:
        before = read_summary(run)
    except Damaged as error:
        raise ScenarioError(f"{run}: damaged: {error}") from None
    scenario = study.load(run / "scenario.yaml").cells[0].study
    _same_code(run, scenario)
    timeline = timeline_of(run)
    if not (run / "params.npz").exists():
        raise ScenarioError(f"{run}: it ended before its first evaluation: there is nothing to compare")
    try:
        params, step = read_params(run)
    except Damaged as error:
        raise ScenarioError(f"{run}: damaged: {error}") from None
    checkpoints: list[Checkpoint] = []
    try:
        for checkpoint in loop.replay(scenario.task, timeline):
            checkpoints.append(checkpoint)
            yield checkpoint
            if checkpoint.step >= step:
                # a run that was cut short has no later numbers to compare with
                break
    except RunError as error:
        raise ScenarioError(f"{run}: the replay failed: {error}") from error
    again = next((each.params for each in checkpoints if each.step == step), None)
    problem = ""
    if again is None:
        problem = f"the replay has no evaluation after {step} updates, the run has"
    elif params.shape != again.shape:
        problem = f"parameters are those of another model: {len(params)} numbers, the replay has {len(again)}"
    elif not np.array_equal(params, again, equal_nan=True):
        with np.errstate(invalid="ignore", over="ignore"):
            far = float(np.max(np.abs(params - again)))
        rounded = scenario.executor.name == "vectorised" or getattr(scenario.executor, "batch", False)
        cause = (
            "vectorised and batch: true promise no more than 1e-5 an update"
            if rounded
            else "other packages or machine?"
        )
        problem = f"parameters differ, by {far:.3g} at most: {cause}"
    elif before.digest is not None and before.digest != digest(checkpoints):
        problem = "final parameters are the same, but what was measured on the way differs"
    yield Replayed(run, step, problem)
