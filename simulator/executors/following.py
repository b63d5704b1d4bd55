"""A process that carries out its part of updates which are all made of the same events, and is only told how many."""

import contextlib
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from byzax.simulator.events import Node
from byzax.simulator.executors.base import RunError
from byzax.simulator.executors.grouping import EventGroup
from byzax.simulator.executors.lines import Frame, Letterbox, Line, LineLost, Outbox
from byzax.simulator.executors.parcels import Parcel


class Told(IntEnum):
    """The kinds of frames.

    To a process from its leader: `PEER`, a line to process `place`; `LEARN`, its tasks; `GO`, an update. Back: `DONE`,
    an update was made; `FAILED`, and why; `LOST`, another process is gone. Between two processes: `SENT`, the message
    of task `place`; `TAKEN`, it is not needed any more.
    """

    PEER = 0
    LEARN = 1
    GO = 2
    DONE = 3
    FAILED = 4
    LOST = 5
    SENT = 6
    TAKEN = 7


class StreamTask(NamedTuple):
    """A task of a process in every update, whose messages are told to others.

    Attributes:
        place: Its place among the tasks of all processes.
        events: The events of the first such update; None to show what nodes sent last.
        nodes: The nodes that are shown, by the numbers of their messages.
        feeds: The tasks whose messages it reads: the process and the place of each.
        readers: The other processes that read its messages.
    """

    place: int
    events: EventGroup | None
    nodes: Mapping[int, Node]
    feeds: tuple[tuple[int, int], ...]
    readers: tuple[int, ...]


class Trade(NamedTuple):
    """The work of a process in its tasks.

    Attributes:
        show: Gives the last messages of nodes.
        carry_out: Carries out events with the messages that they read.
        finish: Waits until all is computed.
    """

    show: Callable[[Mapping[int, Node]], Parcel]
    carry_out: Callable[..., Parcel]
    finish: Callable[[], None]


class Follower:
    """Carries out updates in a thread of its own, until its line to the leader ends."""

    def __init__(self, leader: Line, work: Trade) -> None:
        """Begins to wait for what the leader says.

        Args:
            leader: The line to it.
            work: The functions for its tasks.
        """
        self._leader, self._work = leader, work
        self._lines: dict[int, Line] = {}
        self._thread = threading.Thread(target=self._follow, name="byzax-updates", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Ends its lines, and waits for the event that is under way."""
        self._leader.close()
        for line in [*self._lines.values()]:
            line.close()
        self._thread.join()

    def _follow(self) -> None:
        try:
            while True:
                frame = self._leader.receive()
                if frame.kind == Told.PEER:
                    self._lines[frame.place] = Line.of_file(self._leader.take_file())
                elif frame.kind == Told.LEARN:
                    self._learn(*pickle.loads(frame.text))
                else:
                    self._update(frame.numbers[0])
                    self._leader.send(Frame(Told.DONE))
        except LineLost:
            self._say(Frame(Told.LOST))
        except Exception as error:
            why = str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
            self._say(Frame(Told.FAILED, text=why.encode()))
        finally:
            for line in [*self._lines.values(), self._leader]:
                line.close()

    def _say(self, frame: Frame) -> None:
        with contextlib.suppress(LineLost):
            self._leader.send(frame)

    def _learn(self, learned: int, tasks: Sequence[StreamTask]) -> None:
        self._learned, self._tasks = learned, tasks
        self._outboxes = {
            task.place: Outbox(Frame(Told.SENT, task.place), [self._lines[reader] for reader in task.readers])
            for task in tasks
            if task.readers
        }
        self._inboxes: dict[int, Letterbox] = {}
        # the messages that each reader has taken
        self._taken = {(task.place, reader): 0 for task in tasks for reader in task.readers}

    def _update(self, shift: int) -> None:
        made: dict[int, Parcel] = {}
        taken: list[tuple[int, int]] = []
        for task in self._tasks:
            for process, place in task.feeds:
                if place not in made:
                    made[place] = self._wait_for(process, place)
                    taken.append((process, place))
            if task.events is None:
                made[task.place] = self._work.show(task.nodes)
            else:
                parts = [made[place] for _, place in task.feeds]
                made[task.place] = self._work.carry_out(task.events.later(shift), *parts)
            if task.readers:
                outbox = self._outboxes[task.place]
                for reader in task.readers:
                    while self._taken[task.place, reader] < outbox.sent - 1:
                        self._hear(reader)
                outbox.put(made[task.place])
        self._work.finish()
        for process, place in taken:
            self._lines[process].send(Frame(Told.TAKEN, place, (self._learned, 0)))

    def _wait_for(self, process: int, place: int) -> Parcel:
        """The next message of a task of another process."""
        inbox = self._inboxes.setdefault(place, Letterbox())
        while not inbox:
            self._hear(process)
        return inbox.take()

    def _hear(self, process: int) -> None:
        line = self._lines[process]
        frame = line.receive()
        if frame.kind == Told.SENT:
            self._inboxes.setdefault(frame.place, Letterbox()).announce(line, frame)
        elif frame.numbers[0] == self._learned:
            # of tasks before these nothing is asked any more
            self._taken[frame.place, process] += 1
