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
from byzax.simulator.executors.ray.head import check_head, fetch
from byzax.simulator.executors.ray.hosts import Measured, look_at, take_in
from byzax.simulator.executors.ray.pool import ADVERSARY, SERVER, ActorPool, cause, not_answering, worker_name
from byzax.simulator.server_table import FORGE, UPDATE, WORK
from byzax.simulator.stopping import lost_in_words
from byzax.simulator.timeline import UNPLANNED, Rows, Timeline
from byzax.simulator.topologies.parameter_server import build_forged_workers


@dataclass(frozen=True, eq=False, slots=True)
class Handle:
    """A job of a race: its event, and the references of its row and of when it was done."""

    event: SingleEvent
    row: Any
    done: Any


class SentMessage(NamedTuple):
    """A message that was sent, as events read it (see `EventBlock`), and a reference to what it is in."""

    number: int
    port: int
    sender: int
    version: int
    lag: int
    message: Any


class LastRow(NamedTuple):
    """The last row of a worker: the update that it arrived for, the row as it was computed, and as it was sent."""

    update: int
    computed: SentMessage
    sent: SentMessage


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
    hosts = take_in(pool, count, task, network, prepared.timeline, None, at_server=["worker"])
    forged_workers = build_forged_workers(prepared.first, here)
    # the others may die, and measure nothing
    server, adversary = hosts.handles[-1], hosts.handles[int(hosts.hosted["adversary"][0])]
    conclude = server.conclude.options(num_returns=2)
    computes = [handle.compute.options(num_returns=2) for handle in hosts.handles]
    ((first, (model, _)),) = hosts.shown(0).items()
    versions = {0: SentMessage(first, -1, 0, 0, -1, model)}
    keeps = any(step.last_rows for step in network.steps)
    latest: dict[int, LastRow] = {}
    read_before: dict[int, dict[Any, None]] = {}
    numbers = itertools.count(first + 1)
    recorded = task.record.steps(run.steps)
    evaluated = set(evaluation_steps(task.evaluate_every, run.steps))
    measured = Measured(hosts, lambda update: float(timelines()[0].time_s[update]))
    # what tells of the updates since the last evaluation
    under_way: list[Any] = []
    # begun as soon as their models were made, for the race goes on; with the updates before each
    evaluations: dict[int, TakeLooks] = {}
    # why each actor died that is dead, and those that were told
    died: dict[int, str] = {}
    told: set[int] = set()

    def host_of(worker: int) -> int:
        return int(hosts.hosted["worker"][worker])

    def look(step: int) -> None:
        nonlocal measured
        evaluations[step] = look_at(hosts, step, measured, hosts.seen(count), [*under_way])
        measured = Measured(hosts, lambda update: float(timelines()[0].time_s[update]))
        under_way.clear()

    def begin(job: Job) -> Handle:
        model = versions[job.version]
        event = SingleEvent(0, WORK, 0, next(numbers), job.worker, job.job, 0, [(model.number, -1, 0, job.handed, -1)])
        return Handle(event, *computes[host_of(job.worker)].remote(event, model.message))

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
        """References to the messages with the rows as their workers send them, one for each job."""
        rows = [handle.row for handle in handles]
        if network.steps[WORK].transform is None:
            return rows
        # not by the actors of the workers, which may die after the book has counted on their rows
        return [server.send.remote([handle.event for handle in handles], *rows)] * len(rows)

    def ask(
        step: int, kind: int, place: int, inbox: list[SentMessage], seen: int, read: tuple[int, ...] | None
    ) -> SentMessage:
        """Asks for an event of an update that reads these messages."""
        reads = [(each.number, each.port, each.sender, each.version, each.lag) for each in inbox]
        event = SingleEvent(step, kind, place, next(numbers), 0, step, seen, reads, read)
        messages = dict.fromkeys(each.message for each in inbox)
        given = event, step in recorded, *(each for each in messages if each not in read_before.get(kind, ()))
        if network.steps[kind].last_rows:
            # where it is carried out they are kept until the next one
            read_before[kind] = messages
        if kind == FORGE:
            message = adversary.carry_out.remote(*given)
        else:
            message, done = conclude.remote(*given)
            under_way.append(done)
        return SentMessage(event.number, -1, 0, step + 1, -1, message)

    def update(step: int, seen: int, new: Rows, handles: list[Handle], gone: list[int]) -> None:
        for worker in gone:
            latest.pop(worker, None)
        fresh = {
            worker: SentMessage(handle.event.number, -1, worker, handed, 0, row)
            for handle, row, worker, handed in zip(
                handles, rows_of(handles), new.workers.tolist(), new.handed.tolist(), strict=True
            )
        }
        if keeps:
            fresh = dict(sorted(fresh.items()))
        names, sent = [network.steps[FORGE].name] if forged_workers else [], dict(fresh)
        if forged_workers:
            which = network.steps[FORGE].last_rows
            inbox, known = fresh, {worker: row.computed for worker, row in latest.items()}
            if which:
                inbox = dict(sorted((_older(latest, step) | fresh).items()))
            again = [(known | fresh)[worker]._replace(lag=-1) for worker in inbox] if which == "both" else []
            ours = forged_workers(np.array([step]))[0]
            ports = {worker: port for port, worker in enumerate(fresh) if ours[worker]}
            model = versions[step]
            forged = ask(step, FORGE, 0, [*inbox.values(), *again, model], seen, tuple(ports.values()) or None)
            for worker, port in ports.items():
                sent[worker] = fresh[worker]._replace(number=forged.number, port=port, message=forged.message)
        received = sent
        if network.steps[UPDATE].last_rows:
            received = dict(sorted((_older(latest, step) | sent).items()))
        versions[step + 1] = ask(step, UPDATE, len(names), [*received.values()], seen, ())
        if keeps:
            latest.update({worker: LastRow(step, fresh[worker], row) for worker, row in sent.items()})
        measured.add(step, [*names, network.steps[UPDATE].name], hosts.states() if step in recorded else ())
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
        fetch(pool.head, under_way)
        under_way.clear()
        for seen in fetch(pool.head, hosts.seen(count)):
            measured.see(seen)
        return [measured.stretch()]

    return Engine(0, run.steps, run.steps, timelines, advance, evaluate, since, None)


def _older(latest: dict[int, LastRow], step: int) -> dict[int, SentMessage]:
    """The last rows of earlier updates, as an event of an update reads them."""
    return {worker: row.sent._replace(lag=step - row.update) for worker, row in latest.items()}
