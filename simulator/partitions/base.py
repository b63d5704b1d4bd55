"""What a partition is: the type shared by every file of this folder."""

from collections.abc import Callable

import numpy as np

# (labels [N], number of workers, rng) -> for each worker the positions of its samples: disjoint, none empty, ascending
Partition = Callable[[np.ndarray, int, np.random.Generator], list[np.ndarray]]


def check(labels: np.ndarray, workers: int, minimum: int = 1) -> None:
    """Raises ValueError unless there is a worker and `minimum` samples for each."""
    if workers < 1:
        raise ValueError(f"a partition needs workers >= 1, got {workers}")
    if len(labels) < workers * minimum:
        raise ValueError(
            f"{len(labels)} training samples are too few for {workers} workers with at least {minimum} each: "
            f"at most {len(labels) // minimum} workers, or more samples"
        )
