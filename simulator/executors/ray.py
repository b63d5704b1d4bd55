"""Ray actors: workers, adversary and parameter server. The only file that imports ray."""

import logging
import os
import time
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import ray
from ray.exceptions import RayActorError, RayTaskError

import aggregators
import attacks
import models
import simulator
from simulator import compilation
from simulator.core import Core, Evaluation, Update
from simulator.executors.base import Checkpoint, RunError, batched, evaluation_steps, floats, prepare, stacked, stage
from simulator.scenario import Ray, Scenario, parse
from simulator.timeline import Timeline
from simulator.world import World, world

# Updates submitted before the oldest of them is waited for: enough to keep every actor busy, and bounded.
AHEAD = 16
# Seconds in which the actors must have found a place on the cluster and started.
START_S = 120


class Setting(NamedTuple):
    """What every actor of a run knows; each process makes it for itself from the scenario and the seed.

    `hosts` `[n]`: the number of the worker actor that hosts each worker.
    """

    scenario: Scenario
    timeline: Timeline
    core: Core
    world: World
    hosts: np.ndarray


def setting(scenario: dict[str, Any], seed: int, hosts: np.ndarray) -> Setting:
    """The setting of one repeat."""
    compilation.keep()
    described = parse(scenario)
    return Setting(described, *prepare(described, seed), world(described, seed), hosts)


class Message(NamedTuple):
    """Rows that travel together: what actor `host` computes from `version` for the `places` `[m]` of one update."""

    host: int
    version: int
    places: np.ndarray


def messages(timeline: Timeline, hosts: np.ndarray, step: int) -> list[Message]:
    """How the rows of an update are asked for: one message for each host and version."""
    host, version = hosts[timeline.workers[step]], timeline.versions[step]
    pairs = np.unique(np.stack([host, version], axis=1), axis=0)
    return [Message(int(h), int(v), np.flatnonzero((host == h) & (version == v))) for h, v in pairs]


def by_place(run: Setting, step: int, parts: tuple[np.ndarray, ...]) -> np.ndarray:
    """The rows of an update `[k, d]`, stacked by their place and not by arrival."""
    rows = np.empty((run.timeline.workers.shape[1], parts[0].shape[1]), parts[0].dtype)
    for message, part in zip(messages(run.timeline, run.hosts, step), parts, strict=True):
        rows[message.places] = part
    return rows


class Workers:
    """Hosts one or more workers, honest and Byzantine alike."""

    def configure(self, scenario: dict[str, Any], seed: int, hosts: np.ndarray, d: int) -> None:
        self.run = setting(scenario, seed, hosts)
        self.memory: dict[int, Any] = {}
        self.d = d

    def work(self, step: int, places: np.ndarray, params: np.ndarray) -> np.ndarray:
        """The rows `[m, d]` of the workers at these places of the update, each computed from `params`."""
        core, timeline, here = self.run.core, self.run.timeline, self.run.world
        workers, jobs = timeline.workers[step][places], timeline.jobs[step][places]
        memory = [self.memory.get(int(worker), core.memory(self.d)) for worker in workers]
        executor = self.run.scenario.executor
        if isinstance(executor, Ray) and executor.batch:
            with stage("work", step=step):
                stacked_memory = jax.tree.map(lambda *each: jnp.stack(each), *memory)
                made, stacked_memory = batched(core.work)(here, params, stacked_memory, workers, jobs)
            rows = np.asarray(made)
            kept = [jax.tree.map(lambda each, i=i: each[i], stacked_memory) for i in range(len(workers))]
        else:
            made, kept = [], []
            model = jnp.asarray(params)
            for before, worker, job in zip(memory, workers, jobs, strict=True):
                with stage("work", worker=int(worker), job=int(job)):
                    row, after = core.work(here, model, before, worker, job)
                made.append(row)
                kept.append(after)
            rows = np.stack([np.asarray(row) for row in made])
        self.memory.update(zip(map(int, workers), kept, strict=True))
        return rows


class Adversary:
    """Forges the Byzantine rows from all it may see."""

    def configure(self, scenario: dict[str, Any], seed: int, hosts: np.ndarray, d: int) -> None:
        self.run = setting(scenario, seed, hosts)
        self.state = self.run.core.adversary(d)

    def forge(self, step: int, params: np.ndarray, rule_state: Any, *parts: np.ndarray) -> np.ndarray:
        """The rows `[b, d]` that the b Byzantine workers of the update send."""
        workers = self.run.timeline.workers[step]
        rows = by_place(self.run, step, parts)
        with stage("forge", step=step):
            assert self.run.core.forge is not None
            rows, self.state = self.run.core.forge(self.run.world, step, workers, rows, params, rule_state, self.state)
        return np.asarray(rows)[np.asarray(self.run.world.byzantine)[workers]]


class ParameterServer:
    """Holds the model; applies the rule and the optimizer; evaluates."""

    def configure(self, scenario: dict[str, Any], seed: int, hosts: np.ndarray) -> int:
        """Gives d, the number of parameters."""
        self.run = setting(scenario, seed, hosts)
        with stage("start", seed=seed):
            self.server = self.run.core.start(self.run.world)
        return len(self.server.params)

    def public(self) -> tuple[np.ndarray, Any]:
        """What everybody may see: the model, and the rule's state."""
        return np.asarray(self.server.params), jax.tree.map(np.asarray, self.server.rule)

    def update(self, step: int, forged: np.ndarray | None, *parts: np.ndarray) -> tuple[np.ndarray, Any, Update]:
        """One update; gives the new model, the rule's state and the diagnostics."""
        workers = self.run.timeline.workers[step]
        rows = by_place(self.run, step, parts)
        if forged is not None:
            rows[np.asarray(self.run.world.byzantine)[workers]] = forged
        with stage("update", step=step):
            self.server, seen = self.run.core.update(self.run.world, self.server, workers, rows)
        return *self.public(), jax.tree.map(np.asarray, seen)

    def evaluate(self, step: int) -> Evaluation:
        """Looks at the model as it is after `step` updates."""
        with stage("evaluate", step=step):
            return floats(self.run.core.evaluate(self.run.world, self.server.params))


@contextmanager
def session(executor: Ray, address: str | None = None) -> Iterator[Any]:
    """Starts Ray (or joins the cluster at `address`, if given) and ends at the close what was started here.

    The actors live across the runs of a grid; one that died is replaced before the next run.
    """
    started = not ray.is_initialized()
    if started:
        _connect(address)
    cast: dict[str, Any] = {}
    try:
        yield lambda scenario: _run(cast, scenario)
    finally:
        for handle in cast.values():
            ray.kill(handle)
        if started:
            ray.shutdown()


def _connect(address: str | None) -> None:
    # a node of a cluster may have other code than this one: it gets these packages
    packages = [aggregators, attacks, models, simulator]
    # what failed is said once, by the run that needed it, and not again for each update that depends on it
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    environment = {"env_vars": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}}
    with warnings.catch_warnings():
        # Ray forks and at once replaces the new process: none of JAX's threads is missed in between
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        ray.init(
            # without an address Ray would join whatever cluster the environment names
            address=address or "local",
            include_dashboard=False if address is None else None,
            runtime_env={**environment, "py_modules": packages} if address else environment,
            # Ray's default of 15 starves the actors of an embedded Ray beside any other process
            _system_config=None if address else {"worker_niceness": 0},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )


def _count(scenario: Scenario) -> int:
    """How many worker actors host the workers of a scenario."""
    executor, n = scenario.executor, scenario.workers.total
    assert isinstance(executor, Ray)
    if executor.workers_per_actor is not None:
        return -(-n // executor.workers_per_actor)
    if executor.actors != "auto":
        return min(executor.actors, n)
    resources = ray.cluster_resources()
    return min(n, max(1, int(resources.get("GPU", 0) or resources.get("CPU", 1))))


def _hire(cast: dict[str, Any], count: int) -> None:
    """Fills the cast: the actors of `count` worker groups, adversary and server, those that are not there or died."""
    roles = {"the parameter-server actor": ParameterServer, "the adversary actor": Adversary}
    roles |= {f"worker actor {i}": Workers for i in range(count)}
    gpus = int(ray.cluster_resources().get("GPU", 0))
    # the workers of a GPU share nine tenths of it; server and adversary fit into what is left
    share = 0.9 / -(-count // gpus) if gpus else 0.0
    pings = {name: handle.__ray_ready__.remote() for name, handle in cast.items() if name in roles}
    for name, ping in pings.items():
        try:
            ray.get(ping)
        except RayActorError:
            del cast[name]
    for name, role in roles.items():
        if name not in cast:
            cast[name] = (
                ray.remote(role)
                .options(
                    num_cpus=0, num_gpus=share if role is Workers else min(gpus, 0.05), scheduling_strategy="SPREAD"
                )
                .remote()
            )
    waiting = [cast[name].__ray_ready__.remote() for name in roles]
    if ray.wait(waiting, num_returns=len(waiting), timeout=START_S)[1]:
        raise RunError(f"actors did not start within {START_S} s; the cluster offers {ray.cluster_resources()}")


def _run(cast: dict[str, Any], scenario: Scenario) -> Iterator[Checkpoint]:
    count = _count(scenario)
    _hire(cast, count)
    names = {handle._actor_id.hex(): name for name, handle in cast.items()}
    for seed in scenario.seeds:
        try:
            yield from _repeat(cast, count, scenario, seed)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, RayActorError):
                raise RunError(f"{names.get(cause.actor_id, 'an actor')} died: {_reason(cause)}") from None
            raise (cause if isinstance(cause, RunError) else RunError(str(cause))) from None
        except RayActorError as error:
            raise RunError(f"{names.get(error.actor_id, 'an actor')} died: {_reason(error)}") from None


def _reason(error: RayActorError) -> str:
    return str(error).strip().splitlines()[-1].strip()


def _repeat(cast: dict[str, Any], count: int, scenario: Scenario, seed: int) -> Iterator[Checkpoint]:
    begin = time.perf_counter()
    n = scenario.workers.total
    hosts = np.arange(n) * count // n
    described = scenario.model_dump(mode="json")
    workers = [cast[f"worker actor {i}"] for i in range(count)]
    adversary, server = cast["the adversary actor"], cast["the parameter-server actor"]
    d = server.configure.remote(described, seed, hosts)
    ready = [handle.configure.remote(described, seed, hosts, d) for handle in (*workers, adversary)]
    timeline, core = prepare(scenario, seed)
    last_use, evaluated = timeline.last_use(), set(evaluation_steps(scenario))
    versions, rule_state = {}, None
    versions[0], rule_state = server.public.options(num_returns=2).remote()
    ray.get(ready)

    updates: list[Any] = []
    checkpoints: deque[tuple[int, Any, Any, list[Any]]] = deque()
    for step in range(scenario.steps + 1):
        if step in evaluated:
            checkpoints.append((step, server.evaluate.remote(step), versions[step], updates))
            updates = []
        while checkpoints and (step - checkpoints[0][0] >= AHEAD or step == scenario.steps):
            at, evaluation, params, seen = checkpoints.popleft()
            evaluation, params, *seen = ray.get([evaluation, params, *seen])
            time_s = float(timeline.time_s[at - 1]) if at else 0.0
            yield Checkpoint(seed, at, time_s, time.perf_counter() - begin, evaluation, stacked(seen), params)
        if step == scenario.steps:
            return

        if len(updates) >= AHEAD:
            ray.wait([updates[-AHEAD]], fetch_local=False)
        parts = [
            workers[message.host].work.remote(step, message.places, versions[message.version])
            for message in messages(timeline, hosts, step)
        ]
        forged = adversary.forge.remote(step, versions[step], rule_state, *parts) if core.forge else None
        versions[step + 1], rule_state, seen = server.update.options(num_returns=3).remote(step, forged, *parts)
        updates.append(seen)
        for version in [v for v in versions if v != step + 1 and last_use[v] <= step]:
            del versions[version]
