"""The synchronous schedule."""

import numpy as np

from simulator.schedules.base import Schedule
from simulator.timeline import Timeline


def synchronous() -> Schedule:
    """Every update waits for one row of every worker, all computed from the newest model.

    Waits: for all workers; one update per virtual second.
    Source: Valiant, CACM 1990 (bulk-synchronous); Blanchard et al., NeurIPS 2017, section 2
    """

    def plan(n: int, steps: int, rng: np.random.Generator) -> Timeline:
        step = np.arange(steps)
        rows = np.broadcast_to(step[:, None], (steps, n))
        return Timeline(
            workers=np.broadcast_to(np.arange(n), (steps, n)), versions=rows, jobs=rows, time_s=step.astype(float) + 1.0
        )

    return plan
