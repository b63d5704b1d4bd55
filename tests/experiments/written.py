"""Folders of results as byzax writes them, but for the training: what tables and plots are made of is chosen."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from byzax.experiments import run_files, study
from byzax.experiments.entries import Entry, entries_of
from byzax.experiments.study_files import save_study
from byzax.simulator.diagnostics import Diagnostics, Evaluation
from byzax.simulator.executors.base import Checkpoint, evaluation_steps, plan
from tests.experiments.command import write


def accuracy(run: Entry, step: int) -> float:
    """An accuracy that rises with the steps and depends on the run."""
    return 0.1 + 0.8 * (1 - np.exp(-step / 4)) * (0.5 + (zlib.crc32(run.slug.encode()) % 500) / 1000)


def study_of(
    folder: Path,
    score: Callable[[Entry, int], float] = accuracy,
    status: Callable[[Entry], str] = lambda run: "complete",
    **changes: Any,
) -> Path:
    """Writes the results of a small scenario with changes into a folder, and gives it.

    `score(run, step)`: the test accuracy, or the loss of a regression. `status(run)`: complete, degraded, failed,
    interrupted (both of which end half-way), running, or missing for no folder at all.
    """
    folder.mkdir(parents=True)
    file = write(folder.parent, f"{folder.name}.yaml", **changes)
    made = study.load(file)
    save_study(folder, made)
    for run in entries_of(made):
        if status(run) == "missing":
            continue
        run_files.begin(folder, run)
        scenario = run.scenario
        timeline = plan(scenario.run)
        seen: list[Checkpoint] = []
        every = evaluation_steps(scenario.evaluate_every, timeline.steps)
        whole = status(run) in ("complete", "degraded")
        for before, step in zip([0, *every], every if whole else every[: len(every) // 2 + 1], strict=False):
            value = score(run, step)
            evaluation = Evaluation(1.0, value, 2 - value, value, np.nan, 2 - value, value)
            if scenario.data.name == "diabetes":
                evaluation = Evaluation(value, np.nan, value, np.nan, np.nan, value, np.nan)
            updates = Diagnostics(*np.ones((len(Diagnostics._fields), step - before)))
            time_s = float(timeline.time_s[step - 1]) if step else 0.0
            seen.append(
                Checkpoint(
                    scenario.seed, step, time_s, 7 * step, 0.1 * step, evaluation, updates, np.zeros(3), timeline
                )
            )
            run_files.record(folder, run, seen[-1])
        if status(run) != "running":
            run_files.finish(folder, run, seen, status(run), "it broke" if status(run) == "failed" else None)
    return folder
