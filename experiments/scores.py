"""Scores of runs: the test accuracy, or the test loss of a regression.

And the success of a backdoor, where there is one.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

from byzax.simulator.config.measures import MEASURE_COLUMNS
from byzax.simulator.diagnostics import Evaluation

if TYPE_CHECKING:
    import pandas as pd


class Score(NamedTuple):
    """A measurement that tables and plots show.

    Attributes:
        column: Its column in metrics and summaries.
        words: Its name.
        file: Beginning of the file names of its plots.
        digits: Format of a number.
        higher_is_better: Whether more is better.
    """

    column: str
    words: str
    file: str
    digits: str
    higher_is_better: bool


ACCURACY = Score("test_accuracy", "test accuracy", "accuracy", ".3f", True)
SUCCESS = Score("attack_success", "attack success rate", "success", ".3f", False)
LOSS = Score("test_loss", "test loss", "loss", ".4g", False)


def score_of(runs: "pd.DataFrame") -> Score:
    """The score of runs.

    Args:
        runs: One row per run or evaluation.

    Returns:
        The loss where no data set has classes, else the accuracy.
    """
    return LOSS if bool(runs["classes"].isna().all()) else ACCURACY


def score_named(column: str) -> Score:
    """A measurement as a score.

    Args:
        column: A column of metrics.

    Returns:
        The score; more is better of accuracies, and less of all others.
    """
    known = {score.column: score for score in (ACCURACY, SUCCESS, LOSS)}
    words, digits = column.replace("_", " "), ".3f" if column in MEASURE_COLUMNS else ".4g"
    return known.get(column, Score(column, words, column, digits, higher_is_better=column.endswith("accuracy")))


def score_text(evaluation: Evaluation, measure: str | None = None) -> str:
    """The score of an evaluation in words.

    Args:
        evaluation: The evaluation.
        measure: A field of it; None for the test accuracy, or the test loss of a regression.

    Returns:
        Such as `test accuracy 0.912` or `test loss 0.034`.
    """
    if measure is not None:
        return f"{measure.replace('_', ' ')} {getattr(evaluation, measure):.3f}"
    score = LOSS if math.isnan(evaluation.test_accuracy) else ACCURACY
    return f"{score.words} {getattr(evaluation, score.column):{score.digits}}"
