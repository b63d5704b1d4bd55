"""A race between actors: the driver keeps the book and hands on references."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import RayActorError

from byzax.simulator import interrupts
from byzax.simulator.book import Book, Job, timeline_of
from byzax.simulator.config.study import Task
from byzax.simulator.engine import Engine, Stretch, TakeLooks
from byzax.simulator.executors.base import evaluation_steps, network_of, plan, prepare
from byzax.simulator.executors.grouping import SingleEvent
from byzax.simulator.executors.racing import Crew, Done, race
from byzax.simulator.executors.ray.hosts import Measured, look_at, take_in
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
from byzax.simulator.senders import Arrivals
from byzax.simulator.stopping import lost_in_words
from byzax.simulator.timeline import UNPLANNED, Timeline
from byzax.simulator.topologies.parameter_server import FORGE, UPDATE, WORK, build_forged_workers


@dataclass(frozen=True, eq=False, slots=True)
class Handle:
    """A job of a race: its event, and the references of its row and of when it was done."""

    event: SingleEvent
    row: Any
    done: Any


class SentModel(NamedTuple):
    """A model that was sent: the number of the message, and a reference to it."""

    number: int
    message: Any


def engine(pool: ActorPool, count: int, task: Task, notice: Callable[[str], None]) -> Engine:
    """The engine of a run on the clock: the driver keeps the book, actors hand on references.

    Such a run cannot be left and gone on with: real time does not wait.

    Args:
        pool: The actors.
        count: Number of those of workers.
        task: The task, of one seed.
        notice: Is told of actors that died.

    Returns:
        The engine.
    """
    run = task.run
    # what the first update is without mishaps: the functions are built for it
    prepared = prepare(run, plan(run, 1, smooth=True))
    network, here = network_of(run, prepared)
    hosts = take_in(pool, count, task, network, prepared.timeline, None)
    forged_workers = build_forged_workers(prepared.first, here)
    forge, make_update = (handle.carry_out.options(num_returns=2) for handle in hosts.handles[-2:])
    computes = [handle.compute.options(num_returns=2) for handle in hosts.handles]
    ((first, (model, _)),) = hosts.shown(0).items()
    versions = {0: SentModel(first, model)}
    numbers = itertools.count(first + 1)
    recorded = task.record.steps(run.steps)
    evaluated = set(evaluation_steps(task.evaluate_every, run.steps))
    measured = Measured(hosts, lambda update: float(timelines()[0].time_s[update]))
    # what will be seen of the updates since the last evaluation
    seen_later: list[Any] = []
    # begun as soon as their models were made, for the race goes on; with the updates before each
    evaluations: dict[int, TakeLooks] = {}
    # why each actor died that is dead, and those that were told
    died: dict[int, str] = {}
    told: set[int] = set()

    def host_of(worker: int) -> int:
        return int(hosts.hosted["worker"][worker])

    def look(step: int) -> None:
        nonlocal measured
        evaluations[step] = look_at(hosts, hosts.evaluation(step), measured, [*seen_later])
        measured = Measured(hosts, lambda update: float(timelines()[0].time_s[update]))
        seen_later.clear()

    def begin(job: Job) -> Handle:
        number, message = versions[job.version]
        event = SingleEvent(0, WORK, 0, next(numbers), job.worker, job.job, 0, [(number, -1, 0, job.handed)])
        return Handle(event, *computes[host_of(job.worker)].remote(event, message))

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
            died.setdefault(host_of(handle.event.node), cause(error))
            pool.dead.append(cause(error))
            return Done(handle, None)

    def tell(book: Book) -> None:
        for worker, step in book.lost.items():
            if (host := host_of(worker)) not in told:
                told.add(host)
                workers = np.flatnonzero(hosts.hosted["worker"] == host).tolist()
                lost = lost_in_words(dict.fromkeys(workers, step))
                notice(f"{worker_name(host)} died: {died[host]}; {lost}, and the race goes on without")

    def rows_of(handles: list[Handle]) -> list[Any]:
        """References to the rows as their workers send them."""
        if network.steps[WORK].transform is None:
            return [handle.row for handle in handles]
        by_host: dict[int, list[Handle]] = {}
        for handle in handles:
            by_host.setdefault(host_of(handle.event.node), []).append(handle)
        return [
            hosts.handles[host].send.remote([each.event for each in mine], *(each.row for each in mine))
            for host, mine in by_host.items()
        ]

    def update(step: int, seen: int, new: Arrivals, handles: list[Handle]) -> None:
        rows, whole, model = rows_of(handles), step in recorded, versions[step]
        gone = () if new.gone is None else np.flatnonzero(new.gone).tolist()
        reads = [
            (handle.event.number, -1, worker, handed)
            for handle, worker, handed in zip(handles, new.workers.tolist(), new.versions.tolist(), strict=True)
        ]
        names = [network.steps[FORGE].name] if forged_workers else []
        if forged_workers:
            ports = tuple(np.flatnonzero(forged_workers(np.array([step]))[0, new.workers]).tolist())
            number, public = next(numbers), (model.number, -1, 0, step)
            event = SingleEvent(step, FORGE, 0, number, 0, step, seen, [*reads, public], gone, ports or None)
            for port in ports:
                reads[port] = number, port, *reads[port][2:]
            forged, looked = forge.remote(event, whole, *rows, model.message)
            rows.append(forged)
            seen_later.append(looked)
        event = SingleEvent(step, UPDATE, len(names), next(numbers), 0, step, seen, reads, gone)
        message, looked = make_update.remote(event, whole, *rows)
        seen_later.append(looked)
        versions[step + 1] = SentModel(event.number, message)
        measured.add(step, [*names, network.steps[UPDATE].name], hosts.states() if whole else ())
        if step + 1 in evaluated:
            look(step + 1)

    def forget(version: int) -> None:
        versions.pop(version, None)

    look(0)
    events = race(run, Crew(begin, over, update, forget))
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
        return evaluations.pop(step)

    def since() -> list[Stretch]:
        for seen in fetch(pool.head, seen_later):
            measured.see(seen)
        seen_later.clear()
        return [measured.stretch()]

    return Engine(0, run.steps, run.steps, timelines, advance, evaluate, since, None)
