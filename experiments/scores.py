"""By what runs are measured: the test accuracy, or the test loss where the data has values in place of classes.

And how far a backdoor succeeded, where there is one.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

from byzax.simulator.diagnostics import Evaluation

if TYPE_CHECKING:
    import pandas as pd


class Score(NamedTuple):
    """`column`: of metrics and summaries. `file`: how plots are called. `digits`: the format of a number."""

    column: str
    words: str
    file: str
    digits: str
    higher_is_better: bool


ACCURACY = Score("test_accuracy", "test accuracy", "accuracy", ".3f", True)
SUCCESS = Score("attack_success", "attack success rate", "success", ".3f", False)
LOSS = Score("test_loss", "test loss", "loss", ".4g", False)


def score_of(runs: "pd.DataFrame") -> Score:
    """What runs, or their curves, are measured by: the loss where none of their data sets has classes."""
    return LOSS if bool(runs["classes"].isna().all()) else ACCURACY


def score_text(evaluation: Evaluation, measure: str | None = None) -> str:
    """`test accuracy 0.912`, or `test loss 0.034` of a regression, which has no accuracy; or the measure asked for."""
    if measure is not None:
        return f"{measure.replace('_', ' ')} {getattr(evaluation, measure):.3f}"
    score = LOSS if math.isnan(evaluation.test_accuracy) else ACCURACY
    return f"{score.words} {getattr(evaluation, score.column):{score.digits}}"
