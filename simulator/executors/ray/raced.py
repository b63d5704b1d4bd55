"""A race between actors: the driver keeps the book and hands on references."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import RayActorError

from byzax.simulator import interrupts
from byzax.simulator.book import Book, Job, timeline_of
from byzax.simulator.engine import Engine, Look, Stretch, TakeLooks
from byzax.simulator.executors.actors import New
from byzax.simulator.executors.base import evaluation_steps
from byzax.simulator.executors.racing import Crew, Done, race
from byzax.simulator.executors.ray.pool import (
    ADVERSARY,
    SERVER,
    ActorPool,
    cause,
    check_head,
    fetch,
    not_answering,
    worker_name,
)
from byzax.simulator.executors.ray.repeat import Repeat, stretch
from byzax.simulator.senders import Arrivals
from byzax.simulator.stopping import lost_in_words
from byzax.simulator.timeline import UNPLANNED, Timeline


class Handle(NamedTuple):
    """A job of a race: the references of when it was done, and of its row; its worker's and its own number."""

    done: Any
    row: Any
    worker: int
    job: int


def engine(pool: ActorPool, repeat: Repeat, notice: Callable[[str], None]) -> Engine:
    """The engine of a run on the clock: the driver keeps the book, actors hand on references.

    Such a run cannot be left and gone on with: real time does not wait. `notice` is told of actors that died.
    """
    run, server = repeat.task.run, repeat.server
    evaluated = set(evaluation_steps(repeat.task.evaluate_every, run.steps))
    versions = {0: server.publish.remote(0)}
    updates: list[Any] = []
    # begun as soon as their models were made, for the race goes on; with the updates before each
    evaluations: dict[int, tuple[list[Any], list[Any]]] = {}
    # why each actor died that is dead, and those that were told
    died: dict[int, str] = {}
    told: set[int] = set()

    def look(step: int) -> None:
        evaluations[step] = [server.evaluate.remote(step), versions[step]], [*updates]
        updates.clear()

    def begin(job: Job) -> Handle:
        actor = repeat.workers[repeat.hosts[job.worker]]
        row, done = actor.race.options(num_returns=2).remote(job.worker, job.job, job.handed, versions[job.version])
        return Handle(done, row, job.worker, job.job)

    def over(handles: Sequence[Handle], timeout_s: float) -> list[Done]:
        by_done = {handle.done: handle for handle in handles}
        ready, _ = ray.wait(list(by_done), num_returns=1, timeout=timeout_s)
        if not ready:
            check_head(pool.head)
        if ready:
            # who else is done by now: the clock of their machine says who was first
            ready, _ = ray.wait(list(by_done), num_returns=len(by_done), timeout=0)
        return [result(by_done[done]) for done in ready]

    def result(handle: Handle) -> Done:
        try:
            return Done(handle, ray.get(handle.done))
        except RayActorError as error:
            if {SERVER, ADVERSARY} & not_answering(pool).keys():
                raise
            died.setdefault(int(repeat.hosts[handle.worker]), cause(error))
            pool.dead.append(cause(error))
            return Done(handle, None)

    def tell(book: Book) -> None:
        for worker, step in book.lost.items():
            if (host := int(repeat.hosts[worker])) not in told:
                told.add(host)
                workers = np.flatnonzero(repeat.hosts == host).tolist()
                lost = lost_in_words(dict.fromkeys(workers, step))
                notice(f"{worker_name(host)} died: {died[host]}; {lost}, and the race goes on without")

    def update(step: int, seen: int, new: Arrivals, handles: list[Handle]) -> None:
        sent = [handle.row for handle in handles]
        places = tuple(np.array([i]) for i in range(len(sent)))
        if repeat.core.memory is not None:
            hosts, jobs = repeat.hosts[new.workers], np.array([handle.job for handle in handles])
            places = tuple(np.flatnonzero(hosts == host) for host in np.unique(hosts))
            sent = [
                repeat.workers[hosts[here[0]]].remember.remote(new.workers[here], jobs[here], *(sent[i] for i in here))
                for here in places
            ]
        said = New(new, seen, places)
        forged = repeat.adversary.forge_now.remote(step, said, versions[step], *sent) if repeat.core.forge else None
        updates.append(server.update_now.remote(step, said, forged, *sent))
        versions[step + 1] = server.publish.remote(step + 1)
        if step + 1 in evaluated:
            look(step + 1)

    look(0)
    events = race(run, Crew(begin, over, update, lambda version: versions.pop(version, None)))
    book, now, step, closed = None, 0.0, 0, None

    def advance(stop: int) -> int:
        nonlocal book, now, step, closed
        while closed is None and (book is None or book.step < stop):
            interrupts.check()
            try:
                book, now = next(events)
            except StopIteration as end:
                closed = end.value
                break
            tell(book)
        step = stop if closed is None else min(stop, closed.steps)
        return step

    def timelines() -> list[Timeline]:
        return [UNPLANNED if book is None else timeline_of(book, "", now) if closed is None else closed]

    def evaluate() -> TakeLooks:
        if step not in evaluations:
            # the race ended before its last update
            look(step)
        results, seen = evaluations.pop(step)

        def take(wait: bool) -> list[Look] | None:
            if not wait and len(ray.wait(results, num_returns=2, timeout=0)[0]) < 2:
                return None
            evaluation, public, *after = fetch(pool.head, [*results, *seen])
            return [Look(evaluation, np.asarray(public.params), stretch(repeat, after))]

        return take

    def since() -> list[Stretch]:
        return [stretch(repeat, fetch(pool.head, updates))]

    return Engine(0, run.steps, run.steps, timelines, advance, evaluate, since, None)
