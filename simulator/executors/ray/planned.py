"""Any table of events carried out by actors: as tasks that hand on references to messages, or as a stream."""

from typing import NamedTuple

import numpy as np

from byzax.simulator import interrupts
from byzax.simulator.config.study import Task
from byzax.simulator.engine import Engine, State, Stretch, TakeLooks, no_rows
from byzax.simulator.events import EventBlock
from byzax.simulator.executors.base import network_of, prepare
from byzax.simulator.executors.grouping import EventGroup, groups_of, is_regular
from byzax.simulator.executors.ray.head import fetch
from byzax.simulator.executors.ray.hosts import Measured, look_at, take_in
from byzax.simulator.executors.ray.pool import ActorPool
from byzax.simulator.executors.ray.streams import Stream, can_stream
from byzax.simulator.executors.ray.tasks import Tasks
from byzax.simulator.parts import message_bits

# Updates whose events are put into one part of the table.
AT_ONCE = 256
# Updates submitted before the oldest of them is waited for: enough to keep every actor busy, and bounded.
AHEAD = 16


class TablePart(NamedTuple):
    """A part of the table.

    Attributes:
        since: The first update.
        block: The events.
        regular: Whether the stream carries them out.
    """

    since: int
    block: EventBlock
    regular: bool


def engine(pool: ActorPool, count: int, task: Task, state: State | None) -> Engine:
    """The engine of a planned run of any network. What Ray raises passes through.

    Args:
        pool: The actors.
        count: Number of those of workers.
        task: The task, of one seed.
        state: The state to begin with; None for the beginning of the run.

    Returns:
        The engine.
    """
    prepared = prepare(task.run)
    network, _ = network_of(task.run, prepared)
    timeline, table = prepared.timeline, network.table
    hosts = take_in(pool, count, task, network, timeline, state)
    step = begin = state.step if state else 0
    recorded = task.record.steps(timeline.steps)

    def time_of(update: int) -> float:
        return float(timeline.time_s[update])

    measured = Measured(hosts, time_of)
    tasks = Tasks(hosts, hosts.shown(step))
    if state:
        tasks.hold(table.rows(step), state.rows)
    stream: Stream | None = None
    part: TablePart | None = None
    # whether the actors have the last messages of all nodes
    streaming = False

    def groups(block: EventBlock, since: int, update: int) -> list[tuple[int, EventGroup]]:
        return [*groups_of(block, since, update, network.steps, hosts.at)]

    def part_of(update: int) -> TablePart:
        nonlocal part, stream
        since = update - update % AT_ONCE
        if part is None or part.since != since:
            block = table.events(since, min(since + AT_ONCE, timeline.steps))
            regular = is_regular(block)
            if regular:
                first = groups(block, since, since)
                if stream is None and can_stream(first, message_bits(task.run) // 8):
                    stream = Stream(hosts, first)
                regular = stream is not None and stream.carries(first)
            part = TablePart(since, block, regular)
        return part

    def settle() -> None:
        tasks.settle()
        if stream is not None:
            stream.settle()
        # actors answer once all that they were asked before is done
        for seen in fetch(pool.head, hosts.seen()):
            measured.see(seen)

    def advance(stop: int) -> int:
        nonlocal step, streaming
        while step < stop:
            interrupts.check()
            since, block, regular = part_of(step)
            streams = regular and step not in recorded
            if streams != streaming:
                settle()
                kept = table.kept(step)
                tasks.live = {number: each for number, each in tasks.live.items() if number not in kept}
                if not streams:
                    tasks.live |= hosts.shown(step)
                streaming = streams
            begin, end = block.bounds[step - since : step - since + 2].tolist()
            names = [network.steps[each].name for each in block.step[begin:end].tolist()]
            if streams:
                assert stream is not None
                measured.add(step, names)
                stream.execute(step)
            else:
                tasks.submit(groups(block, since, step), block, step in recorded)
                measured.add(step, names, hosts.states() if step in recorded else ())
                tasks.settle(AHEAD)
            step += 1
        return step

    def evaluate() -> TakeLooks:
        nonlocal measured
        if streaming:
            # an actor that evaluates must not carry out updates beside it
            assert stream is not None
            stream.settle()
            looks = look_at(hosts, step, measured, hosts.seen())(True)
            measured = Measured(hosts, time_of)
            return lambda wait: looks
        take = look_at(hosts, step, measured, hosts.seen(), tasks.leave())
        measured = Measured(hosts, time_of)
        return take

    def since() -> list[Stretch]:
        settle()
        return [measured.stretch()]

    def states() -> list[State]:
        settle()
        kept = table.rows(step)
        rows = tasks.rows(kept)
        return [
            State(step, hosts.saved(), kept.places, np.stack(rows) if rows else no_rows(message_bits(task.run) // 32))
        ]

    return Engine(begin, timeline.steps, 1, lambda: [timeline], advance, evaluate, since, states)
