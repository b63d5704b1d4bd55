"""Executors: three ways to replay a timeline with the core; `session(executor)` gives what runs a task."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from byzax.simulator import compilation, threads
from byzax.simulator.config.executors import ExecutorField, devices_of
from byzax.simulator.config.study import Task
from byzax.simulator.executors.base import Checkpoint, RunError, SessionLost
from byzax.simulator.executors.driver import Saving, drive
from byzax.simulator.snapshots import Snapshot

__all__ = ["Checkpoint", "Execute", "RunError", "Saving", "SessionLost", "Snapshot", "session"]


class Execute(Protocol):
    """Carries out a task."""

    def __call__(
        self, task: Task, snapshots: Mapping[int, Snapshot] | None = None, saving: Saving | None = None
    ) -> Iterator[Checkpoint]:
        """The checkpoints of the task's repeats. See `byzax.simulator.executors.driver.drive`."""
        ...


@contextmanager
def session(
    executor: ExecutorField, notice: Callable[[str], None] = lambda text: None, **where: Any
) -> Iterator[Execute]:
    """The processes and compiled code that the tasks of a grid share.

    Inside `with session(executor) as execute:` each `execute(task)` yields the checkpoints of the task's repeats, at
    every evaluation and in order of steps within a repeat.

    Args:
        executor: The one of all tasks.
        notice: Told in one line what happens to a run that goes on, such as that workers were lost.
        where: For `ray`, `address` of a cluster to join in place of an embedded one.
    """
    threads.start(devices_of(executor))
    module = importlib.import_module(f"byzax.simulator.executors.{executor.name}")
    if executor.name == "ray":
        where["notice"] = notice
    with module.session(executor, **where) as repeats:

        def execute(
            task: Task, snapshots: Mapping[int, Snapshot] | None = None, saving: Saving | None = None
        ) -> Iterator[Checkpoint]:
            compilation.make_room()
            yield from drive(task, repeats(task), snapshots, saving, notice)

        yield execute
