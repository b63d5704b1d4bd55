"""The roles of a distributed run. Ray makes actors of these classes; nothing here needs Ray."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator import compilation
from byzax.simulator.config.executors import Ray
from byzax.simulator.config.study import Task
from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Diagnostics, Evaluation, Update
from byzax.simulator.engine import leaves_of, restored
from byzax.simulator.executors.base import batched, first_core, floats, in_numpy, prepare, stage
from byzax.simulator.executors.node_host import NodeHost
from byzax.simulator.senders import Arrivals
from byzax.simulator.server import Server, public_state
from byzax.simulator.timeline import UNPLANNED, Timeline
from byzax.simulator.topologies.parameter_server import ForgedWorkers, arrived, build_forged_workers
from byzax.simulator.world import World, world


class Post(NamedTuple):
    """The messages that carry rows: those that one actor computes from one version are one message.

    Message g holds the rows `order[begins[g]:begins[g + 1]]` of the timeline and comes from actor `hosts[g]`; version v
    has the messages `of_version[v]` to `of_version[v + 1]`. Row r is in message `message[r]`, at place `place[r]`.
    """

    order: np.ndarray
    begins: np.ndarray
    hosts: np.ndarray
    of_version: np.ndarray
    message: np.ndarray
    place: np.ndarray


def posted(timeline: Timeline, hosts: np.ndarray) -> Post:
    """The messages of a run whose workers are hosted by the actors `hosts` `[n]`."""
    rows = timeline.rows
    host = hosts[rows.workers]
    # a worker's jobs in order
    order = np.lexsort((rows.jobs, rows.workers, host, rows.versions))
    new = np.diff(rows.versions[order], prepend=-1) != 0
    new |= np.diff(host[order], prepend=-1) != 0
    begins = np.flatnonzero(new)
    message, place = np.empty_like(order), np.empty_like(order)
    message[order] = np.cumsum(new) - 1
    place[order] = np.arange(len(order)) - begins[message[order]]
    of_version = np.searchsorted(rows.versions[order][begins], np.arange(timeline.steps + 2))
    return Post(order, np.append(begins, len(order)), host[order][begins], of_version, message, place)


class Setting(NamedTuple):
    """The parts of a run that every actor needs; each process makes it for itself from the task."""

    task: Task
    timeline: Timeline
    core: Core
    core_of: Callable[[int], Core]
    world: World
    post: Post
    forged: ForgedWorkers | None


def setting(task: Task, hosts: np.ndarray) -> Setting:
    """The setting of a task of one seed; `hosts` `[n]`: the number of the worker actor that hosts each worker."""
    compilation.use_disk_cache()
    compilation.make_room()
    run = task.run
    ready = prepare(run, UNPLANNED if run.clock == "wall" else None)
    post = posted(ready.timeline, hosts)
    core, here = first_core(run), world(run)
    return Setting(task, ready.timeline, core, ready.core_of, here, post, build_forged_workers(core, here))


class Seen(NamedTuple):
    """The measurements of an update at the server: its diagnostics, each worker's weight `[n]`, and all its arrays.

    The last two are None where they are not recorded.
    """

    diagnostics: Diagnostics
    weights: np.ndarray | None = None
    whole: Update | None = None


class New(NamedTuple):
    """An update as it happens: whose rows are new, how many the rule sees, and where the rows of each part stand."""

    arrived: Arrivals
    seen: int
    places: tuple[np.ndarray, ...] = ()

    def placed(self, parts: tuple[np.ndarray, ...]) -> np.ndarray:
        """The rows `[r, d]` of the parts `[m, d]`, by their place."""
        rows = np.empty((len(self.arrived.workers), parts[0].shape[1]), parts[0].dtype)
        for here, part in zip(self.places, parts, strict=True):
            rows[here] = part
        return rows


def new_of(run: Setting, step: int) -> New:
    """An update of a planned run."""
    return New(arrived(run.timeline, step, run.task.run.workers.total), int(run.timeline.seen[step]))


def asked(timeline: Timeline, post: Post, step: int) -> np.ndarray:
    """The messages that hold the new rows of an update, ascending."""
    return np.unique(post.message[timeline.places_of(step)])


def by_place(run: Setting, step: int, parts: tuple[np.ndarray, ...]) -> np.ndarray:
    """The new rows of an update `[r, d]` out of the messages that hold them, by their place and not by arrival."""
    own = run.timeline.places_of(step)
    message, place = run.post.message[own], run.post.place[own]
    rows = np.empty((len(message), parts[0].shape[1]), parts[0].dtype)
    for number, part in zip(asked(run.timeline, run.post, step), parts, strict=True):
        here = message == number
        rows[here] = part[place[here]]
    return rows


def _forged_of(run: Setting, step: int, new: New) -> np.ndarray:
    """The rows of an update that are forged, truth values `[r]`."""
    assert run.forged is not None
    return run.forged(np.array([step]))[0][new.arrived.workers]


class NodeActor:
    """Hosts nodes of a network, where there is no server."""

    def host(self, *given: Any) -> None:
        """Takes nodes. See `NodeHost`."""
        self.nodes = NodeHost(*given)

    def ask(self, name: str, *given: Any) -> Any:
        """Calls a method of the nodes' host."""
        return getattr(self.nodes, name)(*given)


class WorkerActor(NodeActor):
    """Hosts one or more workers, honest and Byzantine alike."""

    def configure(self, task: Task, hosts: np.ndarray, d: int, mine: np.ndarray, leaves: list[np.ndarray]) -> None:
        """Takes the task of a run, the number of parameters, d, and the workers `[w]` that it hosts.

        Args:
            task: The task.
            hosts: `[n]`, the worker actor of each worker.
            d: Number of parameters.
            mine: `[w]`, the workers that this one hosts.
            leaves: Leaves of their memories in a snapshot, each `[w, ...]`; none at the beginning of a run.
        """
        self.run = setting(task, hosts)
        self.memories: dict[int, Any] = {}
        self.d, self.mine = d, mine
        if leaves:
            self.memories = {
                worker: restored(self._memory(worker), [leaf[i] for leaf in leaves])
                for i, worker in enumerate(mine.tolist())
            }

    def save(self) -> list[np.ndarray]:
        """The leaves of the memories of its workers, each `[w, ...]`."""
        if self.run.core.memory is None:
            return []
        memories = [leaves_of(self._memory(worker)) for worker in self.mine.tolist()]
        return [np.stack(leaves) for leaves in zip(*memories, strict=True)]

    def work(self, version: int, turn: int, public: Server) -> np.ndarray:
        """The rows `[m, d]` of the version's message of this turn, each computed from the public model."""
        post, rows = self.run.post, self.run.timeline.rows
        message = post.of_version[version] + turn
        which = post.order[post.begins[message] : post.begins[message + 1]]
        workers, jobs, handed = rows.workers[which], rows.jobs[which], rows.handed[which]
        executor = self.run.task.executor
        model = jnp.asarray(public.params)
        if isinstance(executor, Ray) and executor.batch:
            with stage("work", worker=int(workers[0]), job=int(jobs[0])):
                given = self._handed(workers.tolist(), model)
                together = jax.tree.map(lambda *each: jnp.stack(each), *given) if given else ()
                made = [
                    *batched(self.run.core.work, self.run.core.batch)(
                        self.run.world, model, workers, jobs, handed, *together
                    )
                ]
        else:
            each_job = zip(workers.tolist(), jobs.tolist(), handed.tolist(), strict=True)
            made = [self._row(*each, model) for each in each_job]
        return self.remember(workers, jobs, *(np.asarray(row)[None] for row in made))

    def race(self, worker: int, job: int, handed: int, public: Server) -> tuple[np.ndarray, tuple[float, float]]:
        """The row `[1, d]` of one job as it is computed, and when it was begun and done by this machine's clock."""
        begin = time.time()
        row = np.asarray(self._row(worker, job, handed, jnp.asarray(public.params)))
        return row[None], (begin, time.time())

    def _row(self, worker: int, job: int, handed: int, model: jax.Array) -> jax.Array:
        with stage("work", worker=worker, job=job):
            own = [each for given in self._handed([worker], model) for each in given]
            return self.run.core.work(self.run.world, model, *map(np.int32, (worker, job, handed)), *own)

    def _handed(self, workers: list[int], model: jax.Array) -> list[tuple[Any]]:
        """The memories of these workers when the model came, where their jobs need them; else nothing."""
        memory = self.run.core.memory
        if memory is None or memory.receive is None:
            return []
        for worker in workers:
            self.memories[worker] = memory.receive(self._memory(worker), model)
        return [(self.memories[worker],) for worker in workers]

    def _memory(self, worker: int) -> Any:
        memory = self.run.core.memory
        assert memory is not None
        return self.memories[worker] if worker in self.memories else memory.start(self.run.world, self.d)

    def remember(self, workers: np.ndarray, jobs: np.ndarray, *rows: np.ndarray) -> np.ndarray:
        """The rows `[m, d]` that workers send for the rows `[1, d]` of these jobs: with momentum their velocities."""
        memory, here = self.run.core.memory, self.run.world
        if memory is None:
            return np.concatenate(rows)
        sent = []
        for worker, job, row in zip(workers.tolist(), jobs.tolist(), rows, strict=True):
            given = self._memory(worker), jnp.asarray(row[0]), jnp.int32(worker), jnp.int32(job)
            self.memories[worker], made = memory.remember(here, *given)
            sent.append(np.asarray(made))
        return np.stack(sent)


class AdversaryActor:
    """Forges the Byzantine rows from all it may see."""

    def configure(self, task: Task, hosts: np.ndarray, d: int, leaves: list[np.ndarray] | None) -> None:
        """Takes the task of a run, the number of parameters, d, and the leaves of its state in a snapshot."""
        self.run = setting(task, hosts)
        self.state = self.run.core.init_adversary(d)
        if leaves is not None:
            self.state = restored(self.state, leaves)

    def save(self) -> list[np.ndarray]:
        """The leaves of its state."""
        return leaves_of(self.state)

    def forge(self, step: int, public: Server, *parts: np.ndarray) -> np.ndarray:
        """The rows `[b, d]` that the b Byzantine workers of the update send."""
        return self._forged(step, new_of(self.run, step), by_place(self.run, step, parts), public)

    def forge_now(self, step: int, new: New, public: Server, *rows: np.ndarray) -> np.ndarray:
        """The same of an update that was not planned, of rows `[1, d]` each or several together."""
        return self._forged(step, new, new.placed(rows), public)

    def _forged(self, step: int, new: New, rows: np.ndarray, public: Server) -> np.ndarray:
        core = self.run.core_of(new.seen)
        with stage("forge", step=step):
            assert core.forge is not None
            here = self.run.world
            forged, self.state = core.forge(here, step, new.arrived, rows, public, self.state)
        return np.asarray(forged)[_forged_of(self.run, step, new)]


class ServerActor(NodeActor):
    """Holds the model; applies the rule and the optimizer; evaluates."""

    def configure(self, task: Task, hosts: np.ndarray, leaves: list[np.ndarray] | None) -> int:
        """Takes the task of a run, and the leaves of its state in a snapshot. Returns d, the number of parameters."""
        self.run = setting(task, hosts)
        self.recorded = task.record.steps(task.run.steps)
        with stage("start", seed=task.run.seed):
            self.server = self.run.core.start(self.run.world)
        if leaves is not None:
            self.server = restored(self.server, leaves)
        return len(self.server.params)

    def save(self) -> list[np.ndarray]:
        """The leaves of its state."""
        return leaves_of(self.server)

    def publish(self, step: int) -> Server:
        """The public state of the server before update `step`."""
        public = public_state(self.server)
        if self.run.core.forge is None:
            # workers need the model alone
            public = public._replace(rule=None, optimizer=None)
        return jax.tree.map(np.asarray, public)

    def update(self, step: int, forged: np.ndarray | None, *parts: np.ndarray) -> Seen:
        """One update; gives what was seen of it."""
        return self._updated(step, new_of(self.run, step), by_place(self.run, step, parts), forged)

    def update_now(self, step: int, new: New, forged: np.ndarray | None, *rows: np.ndarray) -> Seen:
        """The same of an update that was not planned, of rows `[1, d]` each or several together."""
        return self._updated(step, new, new.placed(rows), forged)

    def _updated(self, step: int, new: New, rows: np.ndarray, forged: np.ndarray | None) -> Seen:
        core, recorded = self.run.core_of(new.seen), step in self.recorded
        computed = rows.copy() if recorded else rows
        if forged is not None:
            rows[_forged_of(self.run, step, new)] = forged
        with stage("update", step=step):
            self.server, diagnostics, decision = core.update(self.run.world, self.server, new.arrived, rows)
        # floats: arrays would be views of the message, which could not be reused while the driver keeps them
        diagnostics = Diagnostics(*map(float, diagnostics))
        weights = np.asarray(decision.weights) if self.run.task.record.weights else None
        if not recorded:
            return Seen(diagnostics, weights)
        # in a race the time of an update is known to the driver alone
        planned = step < self.run.timeline.steps
        whole = Update(
            step=step,
            time_s=float(self.run.timeline.time_s[step]) if planned else np.nan,
            workers=new.arrived.workers,
            rows=computed,
            byzantine=decision.byzantine,
            forged=rows,
            aggregate=decision.aggregate,
            weights=decision.weights,
            params=self.server.params,
            diagnostics=diagnostics,
        )
        return Seen(diagnostics, weights, in_numpy(whole))

    def evaluate(self, step: int) -> Evaluation:
        """Looks at the model as it is after `step` updates."""
        with stage("evaluate", step=step):
            return floats(self.run.core.evaluate(self.run.world, self.server.params))
