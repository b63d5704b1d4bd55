"""Small scenarios, their runs, and how two runs are compared."""

import json
from contextlib import suppress
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import psutil

from byzax.simulator import executors
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Study
from byzax.simulator.core import Core
from byzax.simulator.executors.base import Checkpoint
from byzax.simulator.senders import Arrivals
from byzax.simulator.server import Server
from byzax.simulator.world import World


def small(**changes: Any) -> Study:
    """A scenario of a second or two: softmax regression on digits, 7 workers of which one is Byzantine."""
    return parse_as(
        Study,
        {
            "name": "small",
            "steps": 6,
            "evaluate_every": 4,
            "workers": {"total": 7, "byzantine": 1},
            "data": {"name": "digits", "batch_size": 8},
            "model": "softmax",
            "rule": "average",
            "attack": "empire",
            "executor": "loop",
            **changes,
        },
    )


def run(scenario: Study) -> list[Checkpoint]:
    """All checkpoints of a scenario, in a session of its own."""
    with executors.session(scenario.executor) as execute:
        return list(execute(scenario.task))


def at(scenario: Study, seed: int) -> Run:
    """The run of a scenario with another seed."""
    return scenario.run.replace(seed=seed)


@cache
def _loop(changes: str) -> list[Checkpoint]:
    return run(small(**json.loads(changes)))


def loop(**changes: Any) -> list[Checkpoint]:
    """The result of the reference, computed once however many tests compare with it."""
    return _loop(json.dumps(changes))


class Remembered:
    """The last rows of all workers, as the events of a run hand them to the core."""

    def __init__(self, n: int, d: int = 650) -> None:
        """No rows of `n` workers yet."""
        self.sent, self.computed = np.zeros((n, d), np.float32), np.zeros((n, d), np.float32)
        self.versions, self.since = np.zeros(n, int), np.full(n, -1)

    def arrived(self, step: int) -> Arrivals:
        """The senders of the last rows, -1 for a worker without one."""
        there = self.since >= 0
        return Arrivals(
            np.where(there, np.arange(len(there)), -1), self.versions, np.where(there, step - self.since, 0)
        )

    def forged(self, core: Core, here: World, step: int, workers: Any, rows: Any, server: Server, state: Any) -> Any:
        """The new rows of an update as they are sent, and the state of the adversary."""
        self.sent[workers], self.computed[workers] = rows, rows
        self.since[workers], self.versions[workers] = step, step
        assert core.forge is not None
        arrived = self.arrived(step)._replace(new=np.array(workers))
        given = arrived, jnp.asarray(self.sent), server, state, jnp.asarray(self.computed)
        sent, state = core.forge(here, jnp.asarray(step), *given)
        self.sent[workers] = sent
        return np.asarray(sent), state


def processes(part: str) -> list[psutil.Process]:
    """Those of this session whose command line holds this."""
    found = []
    for process in psutil.Process().children(recursive=True):
        # one that just ended has no command line
        with suppress(psutil.Error):
            if any(part in argument for argument in process.cmdline()):
                found.append(process)
    return found


def same(one: list[Checkpoint], other: list[Checkpoint]) -> bool:
    """Tells whether two runs agree in every bit but for the time they took."""
    return len(one) == len(other) and all(
        (a.seed, a.step, a.time_s) == (b.seed, b.step, b.time_s)
        and np.array_equal(a.evaluation, b.evaluation, equal_nan=True)
        and all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a.updates, b.updates, strict=True))
        and np.array_equal(a.params, b.params)
        for a, b in zip(one, other, strict=True)
    )
