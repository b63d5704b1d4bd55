"""Small scenarios, their runs, and how two runs are compared."""

import json
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import psutil

from byzax.simulator import executors
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Study
from byzax.simulator.executors.base import Checkpoint


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
