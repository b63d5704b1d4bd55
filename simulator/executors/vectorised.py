"""The fastest executor on one machine: the updates between two evaluations are one compiled loop."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator import compilation
from simulator.core import Core, Evaluation, Server, Update
from simulator.executors.base import Checkpoint, batched, evaluation_steps, floats, prepare, stacked, stage
from simulator.scenario import Scenario, Vectorised
from simulator.world import SEED_AXES, World, stack, world

Array = jax.Array


class State(NamedTuple):
    """What changes during a run. `versions` `[r, d]`: the newest models, version v at place v mod r."""

    server: Server
    memory: Any
    adversary: Any
    versions: Array


class Events(NamedTuple):
    """A stretch of the timeline: `step` `[t]`; `workers`, `versions` and `jobs` `[t, k]`."""

    step: Array | np.ndarray
    workers: Array | np.ndarray
    versions: Array | np.ndarray
    jobs: Array | np.ndarray


@contextmanager
def session(executor: Vectorised) -> Iterator[Any]:
    """Nothing but compiled code lives across runs here. See `simulator.executors.session`."""
    yield run


def run(scenario: Scenario) -> Iterator[Checkpoint]:
    """The checkpoints of all repeats, which advance together. Raises RunError naming the stage."""
    begin = time.perf_counter()
    compilation.keep()
    timelines, cores = zip(*(prepare(scenario, seed) for seed in scenario.seeds), strict=True)
    core, ring = cores[0], 1 + max(int(timeline.ages.max()) for timeline in timelines)
    worlds = stack([world(scenario, seed) for seed in scenario.seeds])
    with stage("start"):
        state = _start(core, scenario.workers.total, ring)(worlds)
    updates = None

    for since, step in itertools.pairwise([0, *evaluation_steps(scenario)]):
        if step > since:
            events = Events(
                np.broadcast_to(np.arange(since, step), (len(timelines), step - since)),
                *(np.stack([getattr(t, name)[since:step] for t in timelines]) for name in Events._fields[1:]),
            )
            with stage("advance", step=step):
                state, updates = _advance(core, ring)(worlds, state, events)
        with stage("evaluate", step=step):
            evaluations = jax.device_get(_evaluate(core)(worlds, state.server.params))
        params, seen = np.asarray(state.server.params), jax.device_get(updates)
        for i, seed in enumerate(scenario.seeds):
            yield Checkpoint(
                seed=seed,
                step=step,
                time_s=float(timelines[i].time_s[step - 1]) if step else 0.0,
                wall_s=time.perf_counter() - begin,
                evaluation=floats(Evaluation(*(value[i] for value in evaluations))),
                updates=stacked([]) if seen is None else Update(*(series[i] for series in seen)),
                params=params[i],
            )


def _over_seeds(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(world, ...)` for all seeds in one compiled call; all its arguments are stacked by seed."""

    def one(common: World, own: tuple[Any, ...]) -> Any:
        fields = (mine if axis == 0 else shared for axis, mine, shared in zip(SEED_AXES, own[0], common, strict=True))
        return function(World(*fields), *own[1:])

    @jax.jit
    def all_seeds(worlds: World, *others: Any) -> Any:
        mine = World(*(value if axis == 0 else () for axis, value in zip(SEED_AXES, worlds, strict=True)))  # pyright: ignore[reportArgumentType]
        # On CPU a batch of seeds takes longer than one seed after the other (experiments/benchmarks/RESULTS.md).
        if jax.default_backend() == "cpu":
            return jax.lax.map(lambda own: one(worlds, own), (mine, *others))
        return jax.vmap(lambda *own: one(worlds, own))(mine, *others)

    return all_seeds


@lru_cache
def _start(core: Core, n: int, ring: int) -> Callable[[World], State]:
    def start(here: World) -> State:
        server = core.start(here)
        d = len(server.params)
        memory = jax.tree.map(lambda each: jnp.zeros((n, *each.shape), each.dtype), core.memory(d))
        return State(server, memory, core.adversary(d), jnp.tile(server.params, (ring, 1)))

    return _over_seeds(start)


@lru_cache
def _evaluate(core: Core) -> Callable[[World, Array], Evaluation]:
    return _over_seeds(core.evaluate)


@lru_cache
def _advance(core: Core, ring: int) -> Callable[[World, State, Events], tuple[State, Update]]:
    def update(here: World, state: State, now: Events) -> tuple[State, Update]:
        # with one version at a time all workers read the same parameters, which the compiler may use
        params = state.versions[0] if ring == 1 else state.versions[now.versions % ring]
        mine = jax.tree.map(lambda each: each[now.workers], state.memory)
        rows, mine = batched(core.work)(here, params, mine, now.workers, now.jobs)
        memory = jax.tree.map(lambda each, new: each.at[now.workers].set(new), state.memory, mine)
        adversary = state.adversary
        if core.forge is not None:
            server = state.server
            rows, adversary = core.forge(here, now.step, now.workers, rows, server.params, server.rule, adversary)
        server, seen = core.update(here, state.server, now.workers, rows)
        versions = state.versions.at[(now.step + 1) % ring].set(server.params)
        return State(server, memory, adversary, versions), seen

    def advance(here: World, state: State, events: Events) -> tuple[State, Update]:
        return jax.lax.scan(lambda carry, now: update(here, carry, now), state, events)

    return _over_seeds(advance)
