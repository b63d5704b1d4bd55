"""The confusion matrix of a run's model, from which its further measures are taken, on the host."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from byzax.simulator.config.run import Run
from byzax.simulator.core import model_of
from byzax.simulator.diagnostics import build_confusion
from byzax.simulator.file_cache import file_cache
from byzax.simulator.world import byzantine_ranks, load, share_out, world


class Judged(NamedTuple):
    """The arrays and functions that the measures of a run are taken of.

    Attributes:
        confusion: A function of the parameters `[d]`, NumPy, that gives the number of test samples of each label (rows)
            with each prediction, `[classes, classes + 1]`; in the last column are those with none.
        shares: `[h, classes]`, the share of each label among the samples of each honest worker; of every worker where
            the Byzantine ones are drawn for each update.
    """

    confusion: Callable[[np.ndarray], np.ndarray]
    shares: np.ndarray


# the runs of one task may be evaluated in turn
@file_cache(maxsize=16)
def judged(run: Run) -> Judged:
    """Prepares the measures of a run.

    Args:
        run: The run, whose data has labels.

    Returns:
        The function and the shares; the same for the same run.
    """
    data = load(run.data)
    classes = data.classes
    assert classes is not None
    model = model_of(run.model.replace(seed=None), run.data.replace(seed=None))
    count, here = build_confusion(model, classes), world(run)
    _, held = share_out(run.data, run.workers.total, run.seed)
    honest = [positions for positions, rank in zip(held, byzantine_ranks(run), strict=True) if rank < 0]
    shares = [np.bincount(data.y[positions], minlength=classes) / len(positions) for positions in honest]
    return Judged(lambda params: np.asarray(count(here, params)), np.stack(shares))
