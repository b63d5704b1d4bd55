"""What all executors share: what they are given and what they yield."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from simulator import timeline
from simulator.components import SCHEDULES
from simulator.core import Core, Evaluation, Update, build
from simulator.keys import Purpose, generator
from simulator.scenario import Scenario
from simulator.timeline import Timeline
from simulator.world import World


class Checkpoint(NamedTuple):
    """The run of one seed, after `step` updates.

    `time_s`: virtual seconds. `wall_s`: real seconds since the run began. `evaluation`: floats. `updates`: arrays, one
    entry for each update since the last checkpoint. `params` `[d]`: the model, NumPy.
    """

    seed: int
    step: int
    time_s: float
    wall_s: float
    evaluation: Evaluation
    updates: Update
    params: np.ndarray


class RunError(RuntimeError):
    """A run that could not go on; the message names the stage, and worker and job where there is one."""


@contextmanager
def stage(name: str, **place: int) -> Iterator[None]:
    """Errors from inside become a RunError that names this stage and place, such as worker and job."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        where = ", ".join(f"{key} {value}" for key, value in place.items())
        raise RunError(f"{name} failed ({where}): {type(error).__name__}: {error}") from error


def plan(scenario: Scenario, seed: int) -> Timeline:
    """The timeline of one repeat: it depends on the scenario and the seed alone."""
    n = scenario.workers.total
    schedule = SCHEDULES[scenario.schedule.name](**scenario.schedule.options())
    return timeline.check(schedule(n, scenario.steps, generator(seed, Purpose.SCHEDULE)), n)


def prepare(scenario: Scenario, seed: int) -> tuple[Timeline, Core]:
    """The timeline of one repeat and the core for updates of its size."""
    events = plan(scenario, seed)
    return events, build(scenario, events.workers.shape[1])


def evaluation_steps(scenario: Scenario) -> list[int]:
    """The steps after which a model is evaluated: 0, every `evaluate_every`, and the last."""
    return sorted({*range(0, scenario.steps, scenario.evaluate_every), scenario.steps})


def floats(evaluation: Evaluation) -> Evaluation:
    """The same evaluation as Python floats."""
    return Evaluation(*map(float, evaluation))


def stacked(updates: list[Update]) -> Update:
    """One array per diagnostic, `[len(updates)]`, NumPy."""
    return Update(*(np.array([float(getattr(each, name)) for each in updates]) for name in Update._fields))


@lru_cache
def batched(work: Callable[..., Any]) -> Callable[..., Any]:
    """`work` for m workers at once: memory, workers, jobs and rows have a leading axis `[m]`, params may have one."""

    @jax.jit
    def together(here: World, params: jax.Array, memory: Any, workers: jax.Array, jobs: jax.Array) -> Any:
        own = 0 if params.ndim == 2 else None

        def one(place: tuple[Any, ...]) -> Any:
            return work(here, params if own is None else place[3], *place[:3])

        places = (memory, workers, jobs) if own is None else (memory, workers, jobs, params)
        # Measured on CPU (experiments/benchmarks/RESULTS.md): a dense model gains by vmap, but the convolutions of many
        # kernels at once are grouped ones, which take twice the time of one after the other.
        if jax.default_backend() == "cpu" and "conv_general_dilated" in str(
            jax.make_jaxpr(one)(jax.tree.map(lambda each: each[0], places))
        ):
            return jax.lax.map(one, places)
        return jax.vmap(lambda *place: one(place))(*places)

    return together


def digest(checkpoints: list[Checkpoint]) -> str:
    """SHA-256 over everything a seed's checkpoints say that the clock on the wall does not decide."""
    sha = hashlib.sha256()
    for each in checkpoints:
        sha.update(np.array([each.seed, each.step, each.time_s, *each.evaluation]).tobytes())
        for series in each.updates:
            sha.update(np.asarray(series, np.float64).tobytes())
    sha.update(checkpoints[-1].params.tobytes())
    return sha.hexdigest()
