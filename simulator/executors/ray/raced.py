"""A race between actors: the driver keeps the book and hands on references."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import RayActorError

from simulator import arrivals, interrupts
from simulator.arrivals import Job
from simulator.executors.actors import New
from simulator.executors.base import Checkpoint, delivered, ended, evaluation_steps, per_job
from simulator.executors.racing import Crew, Done, race
from simulator.executors.ray.cast import ADVERSARY, SERVER, Cast, not_answering
from simulator.executors.ray.run import Run, checkpoint
from simulator.serving import Arrived
from simulator.timeline import Timeline


class Handle(NamedTuple):
    """A job of a race: the references of when it was done, and of its row; and its number."""

    done: Any
    row: Any
    job: int


def observed(cast: Cast, run: Run) -> Iterator[Checkpoint]:
    """A run on the clock: the driver keeps the book, actors hand on references."""
    scenario, server = run.scenario, run.server
    evaluated = set(evaluation_steps(scenario, scenario.steps))
    versions = {0: server.publish.remote(0)}
    updates: list[Any] = []
    checkpoints: deque[tuple[int, Any, Any, list[Any]]] = deque()

    def look(step: int) -> None:
        checkpoints.append((step, server.evaluate.remote(step), versions[step], [*updates]))
        updates.clear()

    def begin(job: Job) -> Handle:
        actor = run.workers[run.hosts[job.worker]]
        row, done = actor.race.options(num_returns=2).remote(job.worker, job.job, job.handed, versions[job.version])
        return Handle(done, row, job.job)

    def over(handles: Sequence[Handle], timeout_s: float) -> list[Done]:
        by_done = {handle.done: handle for handle in handles}
        ready, _ = ray.wait(list(by_done), num_returns=1, timeout=timeout_s)
        if ready:
            # who else is done by now: the clock of their machine says who was first
            ready, _ = ray.wait(list(by_done), num_returns=len(by_done), timeout=0)
        return [_over(cast, by_done[done]) for done in ready]

    def update(step: int, seen: int, new: Arrived, handles: list[Handle]) -> None:
        sent = [handle.row for handle in handles]
        places = tuple(np.array([i]) for i in range(len(sent)))
        if run.core.memory is not None:
            hosts, jobs = run.hosts[new.workers], np.array([handle.job for handle in handles])
            places = tuple(np.flatnonzero(hosts == host) for host in np.unique(hosts))
            sent = [
                run.workers[hosts[here[0]]].remember.remote(new.workers[here], jobs[here], *(sent[i] for i in here))
                for here in places
            ]
        told = New(new, seen, places)
        forged = run.adversary.forge_now.remote(step, told, versions[step], *sent) if run.core.forge else None
        updates.append(server.update_now.remote(step, told, forged, *sent))
        versions[step + 1] = server.publish.remote(step + 1)
        if step + 1 in evaluated:
            look(step + 1)

    def taken(timeline: Timeline) -> Checkpoint:
        at, *results, seen = checkpoints.popleft()
        evaluation, public, *seen = ray.get([*results, *seen])
        gradients = delivered(timeline, per_job(scenario, run.seed))
        return checkpoint(run._replace(timeline=timeline, gradients=gradients), at, evaluation, public, seen)

    look(0)
    events = race(scenario, run.seed, Crew(begin, over, update, lambda version: versions.pop(version, None)))
    while True:
        interrupts.check()
        try:
            book, now = next(events)
        except StopIteration as end:
            timeline = end.value
            break
        if checkpoints and ray.wait([checkpoints[0][1]], timeout=0)[0]:
            yield taken(arrivals.closed(book, "", now))
    if timeline.steps not in evaluated:
        look(timeline.steps)
    while checkpoints:
        yield taken(timeline)
    ended(timeline)


def _over(cast: Cast, handle: Handle) -> Done:
    try:
        return Done(handle, ray.get(handle.done))
    except RayActorError:
        if {SERVER, ADVERSARY} & not_answering(cast).keys():
            raise
        return Done(handle, None)
