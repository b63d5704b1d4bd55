"""Small scenarios and the one Ray of the session."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from simulator import executors
from simulator.executors.base import Checkpoint
from simulator.scenario import Ray, Scenario, parse


def small(**changes: Any) -> Scenario:
    """A scenario of a second or two: softmax regression on digits, 7 workers of which one lies."""
    return parse(
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
        }
    )


def run(scenario: Scenario) -> list[Checkpoint]:
    """All checkpoints of a scenario, in a session of its own."""
    with executors.session(scenario.executor) as execute:
        return list(execute(scenario))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Callable[[Scenario], Iterator[Checkpoint]]]:
    with executors.session(Ray()) as execute:
        yield execute
