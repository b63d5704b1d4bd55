"""The value that tables give of each run: its last one, its best one, or a mean over its evaluations."""

import math
from typing import Any

import numpy as np
import pandas as pd

from byzax.experiments.scores import Score
from byzax.simulator.config.executors import LastEvaluations, ReportField

# The ways to give a run by one word.
WORDS = ("last", "best", "area")


def report_of(text: str) -> ReportField:
    """Reads what tables should give of a run.

    Args:
        text: One of `WORDS`, or a number of evaluations.

    Returns:
        The same as `report` of a study.

    Raises:
        ValueError: For any other text.
    """
    if text in WORDS:
        return text  # pyright: ignore[reportReturnType]
    if text.isdecimal() and int(text) > 0:
        return LastEvaluations(last=int(text))
    raise ValueError(f"{text!r}: give {', '.join(WORDS)}, or a number of evaluations whose mean counts")


def report_words(score: Score, how: ReportField) -> str:
    """The words for the value of a run.

    Args:
        score: The score.
        how: `report` of the study.

    Returns:
        Such as `final test accuracy`.
    """
    if isinstance(how, LastEvaluations):
        return f"mean of the last {how.last} evaluations of the {score.words}"
    return {"last": "final ", "best": "best ", "area": "mean over all updates of the "}[how] + score.words


def report_values(frame: pd.DataFrame, curves: pd.DataFrame, score: Score, how: ReportField) -> pd.Series:
    """The value of each run.

    Args:
        frame: One row per run.
        curves: One row per run and evaluation, in order.
        score: The score; a test loss that is NaN counts as infinite.
        how: `report` of the study.

    Returns:
        The values, with the index of `frame`; NaN for runs without an evaluation.
    """
    if how == "last":
        return pd.Series(frame[score.column].fillna(np.inf), frame.index)
    values = curves.assign(value=curves[score.column].fillna(np.inf))
    by_run: Any = values.groupby("run", sort=False)
    if how == "best":
        found = by_run["value"].max() if score.higher_is_better else by_run["value"].min()
    elif how == "area":
        found = by_run[["step", "value"]].apply(_mean_over_steps)
    else:
        found = by_run["value"].apply(lambda each: each.tail(how.last).mean())
    return pd.Series([float(found.get(run, math.nan)) for run in frame["run"]], frame.index)


def _mean_over_steps(run: pd.DataFrame) -> float:
    """The area under a run's curve, divided by its length; of one evaluation its value."""
    steps, values = run["step"].to_numpy(float), run["value"].to_numpy(float)
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0])) if len(steps) > 1 else float(values[-1])
