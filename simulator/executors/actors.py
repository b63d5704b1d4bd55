"""The roles of a distributed run. Ray makes actors of these classes; nothing here needs Ray."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator import compilation
from simulator.core import Core, Evaluation, Update
from simulator.executors.base import batched, floats, prepare, stage
from simulator.scenario import Ray, Scenario, parse
from simulator.timeline import Timeline
from simulator.world import World, world


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


class Public(NamedTuple):
    """What the server shows to everybody: the model `params` `[d]` and the rule's state, in NumPy."""

    params: np.ndarray
    rule: Any


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

    def work(self, step: int, places: np.ndarray, public: Public) -> np.ndarray:
        """The rows `[m, d]` of the workers at these places of the update, each computed from the public model."""
        core, timeline, here = self.run.core, self.run.timeline, self.run.world
        workers, jobs = timeline.workers[step][places], timeline.jobs[step][places]
        memory = [self.memory.get(int(worker), core.memory(self.d)) for worker in workers]
        executor = self.run.scenario.executor
        if isinstance(executor, Ray) and executor.batch:
            with stage("work", step=step):
                stacked_memory = jax.tree.map(lambda *each: jnp.stack(each), *memory)
                made, stacked_memory = batched(core.work)(here, public.params, stacked_memory, workers, jobs)
            rows = np.asarray(made)
            kept = [jax.tree.map(lambda each, i=i: each[i], stacked_memory) for i in range(len(workers))]
        else:
            made, kept = [], []
            model = jnp.asarray(public.params)
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

    def forge(self, step: int, public: Public, *parts: np.ndarray) -> np.ndarray:
        """The rows `[b, d]` that the b Byzantine workers of the update send."""
        workers = self.run.timeline.workers[step]
        rows = by_place(self.run, step, parts)
        with stage("forge", step=step):
            assert self.run.core.forge is not None
            rows, self.state = self.run.core.forge(
                self.run.world, step, workers, rows, public.params, public.rule, self.state
            )
        return np.asarray(rows)[np.asarray(self.run.world.byzantine)[workers]]


class ParameterServer:
    """Holds the model; applies the rule and the optimizer; evaluates."""

    def configure(self, scenario: dict[str, Any], seed: int, hosts: np.ndarray) -> int:
        """Gives d, the number of parameters."""
        self.run = setting(scenario, seed, hosts)
        with stage("start", seed=seed):
            self.server = self.run.core.start(self.run.world)
        return len(self.server.params)

    def publish(self, step: int) -> Public:
        """What everybody may see before update `step`."""
        return Public(np.asarray(self.server.params), jax.tree.map(np.asarray, self.server.rule))

    def update(self, step: int, forged: np.ndarray | None, *parts: np.ndarray) -> Update:
        """One update; gives what was seen of it."""
        workers = self.run.timeline.workers[step]
        rows = by_place(self.run, step, parts)
        if forged is not None:
            rows[np.asarray(self.run.world.byzantine)[workers]] = forged
        with stage("update", step=step):
            self.server, seen = self.run.core.update(self.run.world, self.server, workers, rows)
        # floats: arrays would be views of the message, which could not be reused while the driver keeps them
        return Update(*map(float, seen))

    def evaluate(self, step: int) -> Evaluation:
        """Looks at the model as it is after `step` updates."""
        with stage("evaluate", step=step):
            return floats(self.run.core.evaluate(self.run.world, self.server.params))
