"""Executors: three ways to replay a timeline with the core; `session(executor)` gives what runs a scenario."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from simulator.executors.base import Checkpoint, RunError
from simulator.scenario import Executor, Scenario

__all__ = ["Checkpoint", "RunError", "session"]

Execute = Callable[[Scenario], Iterator[Checkpoint]]


def session(executor: Executor, **where: Any) -> AbstractContextManager[Execute]:
    """What lives across the runs of a grid: inside `with session(executor) as execute:` each `execute(scenario)` yields
    the checkpoints of the scenario's repeats, at every evaluation and in order of steps within a repeat.

    `where`: for `ray`, `address` of a cluster to join in place of an embedded one.
    """
    return importlib.import_module(f"simulator.executors.{executor.name}").session(executor, **where)
