"""Ways to split training samples over workers: `build(name, **options)` gives a `Partition`; one file for each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byzax.simulator import registry
from byzax.simulator.partitions.base import Partition, Samples

__all__ = ["ALIASES", "Partition", "Samples", "available", "build", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose partitions/ holds more files of this kind, found by name too
__path__.extend(
    str(Path(folder, "partitions")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder
)

# What flwr-datasets and byzfl call them: a scenario may say either, with our options.
ALIASES = {
    "pathological": "by_label",
    "shard": "shards",
    "natural_id": "by_writer",
    "grouped_natural_id": "by_writer",
    "continuous": "feature_skew",
    "gamma_similarity": "similarity",
    "gamma_similarity_niid": "similarity",
    "dirichlet_niid": "dirichlet",
    "extreme_niid": "extreme",
}


def available() -> tuple[str, ...]:
    """The names of all partitions."""
    return registry.available(__name__)


def factory(name: str) -> Callable[..., Partition]:
    """The function behind a partition's name: `factory("iid")()`. Raises ValueError for an unknown name."""
    return registry.factory(__name__, name)


def build(name: str, **options: Any) -> Partition:
    """The partition `name`: the way to have one from Python.

    Raises ValueError for an unknown name or an option out of range.

    >>> import numpy as np
    >>> samples = Samples(labels=np.array([0, 1] * 5), owners=None, x=lambda: np.zeros((10, 2), np.float32))
    >>> [len(positions) for positions in build("iid")(samples, 3, np.random.default_rng(0))]
    [4, 3, 3]
    """
    return factory(name)(**options)
