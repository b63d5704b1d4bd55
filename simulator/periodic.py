"""Networks whose updates are all made of the same events: one update is listed, and the table of a run made of it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.options import PartError
from byzax.simulator.byzantine_timing import timing
from byzax.simulator.config.run import Run
from byzax.simulator.diagnostics import Diagnostics, Evaluation
from byzax.simulator.events import (
    EventBlock,
    EventTable,
    KeptRows,
    MeasureUpdate,
    Network,
    NewStates,
    NodeStep,
    OfEvents,
    PutTogether,
    States,
)
from byzax.simulator.parts import schedule
from byzax.simulator.timeline import Timeline
from byzax.simulator.world import World

# The step whose events are the jobs of workers: a job takes the time that the timeline gives it, any other event none.
WORK = "work"


class Message(NamedTuple):
    """The message that an event sent.

    Attributes:
        step: The step of the event, by its name.
        node: Its node.
        port: The row of a message that holds several; -1 for the whole message.
        before: Whether the event is one of the update before.
    """

    step: str
    node: int
    port: int = -1
    before: bool = False


def before(step: str, node: int) -> Message:
    """The message that a node sent in the update before; in the first one `Network.show` of its first state.

    Args:
        step: The step by which it was sent, by its name.
        node: The node.

    Returns:
        The message.
    """
    return Message(step, node, before=True)


class RoundEvent(NamedTuple):
    """An event of every update.

    Attributes:
        step: Its step, by its name.
        node: Its node, among those of the step's kind.
        reads: The messages that it reads, those of the update before last.
    """

    step: str
    node: int
    reads: Sequence[Message] = ()


def check_in_step(run: Run) -> None:
    """Checks that every update of a run has one row of every worker, as a periodic table needs it.

    Args:
        run: The run.

    Raises:
        PartError: Says which key to change, and how.
    """
    refused = [
        (not schedule(run).together, "all nodes wait for all others: take schedule synchronous with quorum all"),
        (run.clock == "wall", "has virtual time alone: take clock virtual"),
        (bool(run.latency.loss or run.latency.crashes), "nothing is lost and no node dies: leave latency.loss and "
         "latency.crashes out"),
        (not timing(run).in_time, "Byzantine nodes send in time: take attack.timing honest"),
        (run.workers.byzantine.per_round != "fixed", "the Byzantine nodes stay the same: leave "
         "workers.byzantine.per_round out"),
        (run.filter is not None, "has no server that judges single rows: leave filter out"),
        (run.weights != "equal", "counts rows and no samples: leave weights out"),
        (run.local is not None and run.local.control_variates, "has no server for common control variates: leave "
         "local.control_variates out"),
    ]  # fmt: skip
    for wrong, words in refused:
        if wrong:
            raise PartError(f"{run.topology.label}: {words}")


def periodic_network(
    steps: Sequence[NodeStep],
    events: Sequence[RoundEvent],
    timeline: Timeline,
    *,
    start: Callable[[World], NewStates],
    show: Callable[[Any], Any],
    measure: MeasureUpdate,
    arrays: PutTogether,
    evaluate: Callable[[World, States], Evaluation],
    params: Callable[[States], jax.Array],
    judged: tuple[str, ...] = (),
) -> Network:
    """A network whose updates are all made of the same events.

    Args:
        steps: The steps.
        events: The events of one update, in an order in which they can be carried out.
        timeline: The timeline of the run.
        start: Makes the states before the first update.
        show: Makes the message that a node sent last out of its state.
        measure: Puts the measurements of an update together.
        arrays: Puts the arrays of an update together.
        evaluate: Evaluates the model, or the models.
        params: `[d]`, the model that a checkpoint keeps.
        judged: Kinds of the nodes whose states `evaluate`, `params` and `arrays` read; none for all kinds.

    Returns:
        The network, with the nodes that have events.

    Raises:
        ValueError: As `periodic_table`.
    """
    table = periodic_table(steps, events, timeline)
    kinds = {step.name: step.kind for step in steps}
    nodes: dict[str, int] = {}
    for event in events:
        nodes[kinds[event.step]] = max(nodes.get(kinds[event.step], 0), event.node + 1)
    return Network(tuple(steps), nodes, table, start, show, measure, arrays, evaluate, params, judged)


def periodic_table(steps: Sequence[NodeStep], events: Sequence[RoundEvent], timeline: Timeline) -> EventTable:
    """The table of a run whose updates are all made of the same events.

    Args:
        steps: The steps.
        events: The events of one update, in an order in which they can be carried out; one of the step `work` for each
            worker.
        timeline: The timeline of the run, with one row of every worker in each update.

    Returns:
        The table. Jobs take the times of the timeline; all other events happen at the second of their update.

    Raises:
        ValueError: Names the first event that cannot be, and what is wrong with it; or says which schedule to take.
    """
    count, numbers = len(events), {step.name: i for i, step in enumerate(steps)}
    kinds = {step.name: step.kind for step in steps}
    source, port = _read(numbers, kinds, events)
    step, node = np.array([numbers[event.step] for event in events]), np.array([event.node for event in events])
    works, n = np.array([event.step == WORK for event in events]), _workers(events, timeline)
    sizes = np.array([len(event.reads) for event in events])
    first, reader = np.concatenate([[0], np.cumsum(sizes)]), np.repeat(np.arange(count), sizes)
    # the last event that reads a message, counted from the update in which it is sent
    last = np.arange(count)
    np.maximum.at(last, source % count, np.where(source < 0, reader + count, reader))
    shown = np.unique(source[source < 0]) + count
    # a forged row counts as one of the worker in whose place it is sent
    of_row = np.clip(first[source] + np.maximum(port, 0), 0, max(len(source) - 1, 0))
    sender = node[np.where(port < 0, source, source[of_row])]
    of_job = works[source] & (port < 0) & (source >= 0)
    seen = np.bincount(reader[source >= 0], minlength=count)
    rows = timeline.rows
    times_s = [each.reshape(-1, n) for each in (rows.received_s, rows.computed_s, rows.arrived_s)]

    def table(since: int, until: int) -> EventBlock:
        updates = np.arange(since, until)
        begins, length = 1 + updates * count, len(updates)
        of_jobs = np.tile(works, length)
        begin_s, end_s, arrive_s = (np.repeat(timeline.time_s[since:until], count) for _ in range(3))
        for times, own in zip((begin_s, end_s, arrive_s), times_s, strict=True):
            times[of_jobs] = own[since:until, node[works]].ravel()
        row = np.full(len(of_jobs), -1)
        row[of_jobs] = (updates[:, None] * n + node[works]).ravel()
        return EventBlock(
            begin=int(begins[0]),
            step=np.tile(step, length),
            node=np.tile(node, length),
            turn=np.repeat(updates, count),
            row=row,
            seen=np.tile(seen, length),
            begin_s=begin_s,
            end_s=end_s,
            arrive_s=arrive_s,
            last=(begins[:, None] + last).ravel(),
            first=np.concatenate([[0], np.cumsum(np.tile(sizes, length))]),
            source=(begins[:, None] + source).ravel(),
            port=np.tile(port, length),
            sender=np.tile(sender, length),
            version=np.repeat(updates, len(source)),
            job=np.where(of_job, updates[:, None] * n + sender, -1).ravel(),
            lag=np.zeros(len(updates) * len(source), int),
            bounds=np.arange(length + 1) * count,
        )

    def kept(update: int) -> dict[int, tuple[tuple[str, int], int]]:
        begin = 1 + (update - 1) * count
        return {begin + e: ((kinds[events[e].step], events[e].node), int(begin + last[e])) for e in shown.tolist()}

    def kept_rows(update: int) -> KeptRows:
        nothing = np.empty(0, int)
        return KeptRows(nothing, nothing, nothing, nothing)

    return EventTable(table, kept, kept_rows)


def _read(
    numbers: dict[str, int], kinds: dict[str, str], events: Sequence[RoundEvent]
) -> tuple[np.ndarray, np.ndarray]:
    """The sources, counted from the first event of the update, and ports of all reads."""
    places: dict[tuple[str, int], int] = {}
    for place, event in enumerate(events):
        if event.step not in numbers:
            raise ValueError(f"{_name(events, place)}: is of none of the steps {', '.join(numbers)}")
        if event[:2] in places:
            raise ValueError(f"{_name(events, place)}: is event {places[event[:2]]} too: list it once")
        places[event[:2]] = place
    last = {(kinds[event.step], event.node): event for event in events}
    source, port = [], []
    for place, event in enumerate(events):
        for step, node, part, earlier in event.reads:
            sent = f"{_name(events, place)}: reads the message of {step} {node}, which"
            if (step, node) not in places:
                raise ValueError(f"{sent} is no event of an update")
            if not earlier and places[step, node] >= place:
                raise ValueError(f'{sent} comes later: list it before this one, or read before("{step}", {node})')
            later = last[kinds[step], node].step
            if earlier and later != step:
                raise ValueError(
                    f'{sent} is not the last one of its node in an update: read before("{later}", {node}), which is'
                )
            source.append(places[step, node] - len(events) * earlier)
            port.append(part)
        if any(read.before for read in event.reads[:-1]):
            raise ValueError(
                f"{_name(events, place)}: reads messages of the update before: list one of them at most, as the last"
            )
    return np.array(source, int), np.array(port, int)


def _name(events: Sequence[RoundEvent], place: int) -> str:
    return f"event {place} of an update, {events[place].step} {events[place].node}"


def _workers(events: Sequence[RoundEvent], timeline: Timeline) -> int:
    """The number of workers. Raises ValueError unless each has a row in every update, and one event of the step."""
    n, workers = int(timeline.sizes[0]), timeline.rows.workers
    if len(workers) != n * timeline.steps or (workers.reshape(-1, n) != np.arange(n)).any():
        raise ValueError("an update needs one row of every worker: take schedule synchronous with quorum all")
    listed = [event.node for event in events if event.step == WORK]
    if wrong := sorted({*listed} ^ {*range(n)}):
        raise ValueError(f"an update needs one event of the step {WORK} for each of {n} workers: look at {wrong[0]}")
    return n


def by_step(results: OfEvents) -> dict[str, list[Any]]:
    """The results of the events of an update by their steps.

    Args:
        results: As `Network.measure` and `Network.arrays` get them.

    Returns:
        For each step the results of its events, in their order.
    """
    found: dict[str, list[Any]] = {}
    for name, result in results:
        found.setdefault(name, []).append(result)
    return found


@jax.jit
def mean_measurements(seen: Sequence[tuple[Diagnostics, jax.Array]]) -> tuple[Diagnostics, jax.Array]:
    """The means of what several nodes measured in an update.

    Args:
        seen: The diagnostics of each, and the weights `[n]` that it gave to rows.

    Returns:
        The means of both.
    """
    return jax.tree.map(lambda *each: jnp.stack(each).mean(axis=0), *seen)
