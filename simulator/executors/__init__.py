"""Executors: three ways to replay a timeline with the core; `session(executor)` gives what runs a scenario."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import numpy as np

from aggregators.base import LIMIT
from simulator import compilation
from simulator.executors.base import Checkpoint, RunError
from simulator.parts import Executor
from simulator.scenario import Scenario

__all__ = ["Checkpoint", "RunError", "session"]

Execute = Callable[[Scenario], Iterator[Checkpoint]]


@contextmanager
def session(executor: Executor, **where: Any) -> Iterator[Execute]:
    """What lives across the runs of a grid: inside `with session(executor) as execute:` each `execute(scenario)` yields
    the checkpoints of the scenario's repeats, at every evaluation and in order of steps within a repeat.

    `where`: for `ray`, `address` of a cluster to join in place of an embedded one.
    """
    module = importlib.import_module(f"simulator.executors.{executor.name}")
    with module.session(executor, **where) as execute:
        yield partial(_decided, execute)


def _decided(execute: Execute, scenario: Scenario) -> Iterator[Checkpoint]:
    """The checkpoints up to the one with an update in which the rule gave no answer. Raises RunError there."""
    compilation.make_room()
    with closing(execute(scenario)) as checkpoints:  # pyright: ignore[reportArgumentType]
        for checkpoint in checkpoints:
            if (places := np.flatnonzero(checkpoint.updates.undecided)).size:
                update = checkpoint.step - len(checkpoint.updates.undecided) + places[0] + 1
                raise RunError(
                    f"update {update} failed: {scenario.rule.name} is undecided, its search did not end within {LIMIT}"
                )
            yield checkpoint
