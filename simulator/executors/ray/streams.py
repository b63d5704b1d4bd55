"""Updates that are all made of the same events, on one machine: actors hand messages on themselves, told only to go."""

import contextlib
import pickle
import select
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from byzax.simulator import interrupts
from byzax.simulator.executors.base import RunError
from byzax.simulator.executors.following import StreamTask, Told
from byzax.simulator.executors.grouping import EventGroup
from byzax.simulator.executors.lines import Frame, Line, LineLost
from byzax.simulator.executors.ray.head import LOOK_S, Head, check_head, fetch
from byzax.simulator.executors.ray.hosts import Hosts
from byzax.simulator.executors.ray.pool import START_S, forget_lines

# Updates that are under way at most, before the oldest of them is waited for.
IN_FLIGHT = 4
# The messages of one task of an actor, in bytes: two of each are in memory. Larger ones go through the object store.
LARGEST_MESSAGE = 64 * 2**20

# The events of an update, each group with the place of its actor among `Hosts.handles`.
Groups = list[tuple[int, EventGroup]]


def can_stream(groups: Groups, row: int) -> bool:
    """Tells whether actors can hand on the messages of an update themselves.

    Args:
        groups: The events of the update.
        row: Bytes of a row.
    """
    if not hasattr(socket, "AF_UNIX") or len([node for node in ray.nodes() if node["Alive"]]) != 1:
        return False
    # a row of each event of a level, or the state of a server
    return row * (8 + max(len(group.numbers) for _, group in groups)) <= LARGEST_MESSAGE


class Stream:
    """Updates that are all made of the same events: each actor knows its own, and is told to carry out the next."""

    def __init__(self, hosts: Hosts, groups: Groups) -> None:
        """Tells the actors what they do in an update.

        Args:
            hosts: The actors.
            groups: The events of an update.
        """
        self._hosts, self._update, self._form = hosts, groups[0][1].update, _form(groups)
        pool = hosts.pool
        actors = tuple(hosts.handles)
        if actors not in pool.lines:
            # an actor follows one leader at a time
            forget_lines(pool)
            pool.lines[actors] = _connected(pool.head, actors)
        self._lines = pool.lines[actors]
        number = next(pool.numbers)
        for line, tasks in zip(self._lines, _tasks(hosts, groups), strict=True):
            self._send(line, Frame(Told.LEARN, text=pickle.dumps((number, tasks))))
        self._asked, self._done = 0, [0] * len(self._lines)

    def carries(self, groups: Groups) -> bool:
        """Tells whether the events of an update are those of the stream."""
        return _form(groups) == self._form

    def execute(self, update: int) -> None:
        """Begins an update, and waits until few are under way."""
        for line in self._lines:
            self._send(line, Frame(Told.GO, numbers=(update - self._update, 0)))
        self._asked += 1
        self.settle(IN_FLIGHT - 1)

    def settle(self, most: int = 0) -> None:
        """Waits until no more updates than so many are under way.

        Raises:
            RunError: An event failed.
            RayError: An actor died.
        """
        while waited := [i for i, done in enumerate(self._done) if done < self._asked - most]:
            interrupts.check()
            ready, _, _ = select.select([self._lines[i] for i in waited], [], [], LOOK_S)
            if not ready:
                check_head(self._hosts.pool.head)
            for line in ready:
                self._hear(self._lines.index(line))

    def _hear(self, place: int) -> None:
        try:
            frame = self._lines[place].receive()
        except LineLost:
            frame = Frame(Told.LOST)
        if frame.kind != Told.DONE:
            self._fail(frame)
        self._done[place] += 1

    def _send(self, line: Line, frame: Frame) -> None:
        try:
            line.send(frame)
        except LineLost:
            self._fail(Frame(Told.LOST))

    def _fail(self, frame: Frame) -> None:
        """Says what an actor could not go on for, or which of them died, which others notice first."""
        if frame.kind == Told.FAILED:
            raise RunError(frame.text.decode())
        end = time.monotonic() + LOOK_S
        while time.monotonic() < end:
            ready, _, _ = select.select(self._lines, [], [], 0)
            for line in ready:
                with contextlib.suppress(LineLost):
                    if (other := line.receive()).kind == Told.FAILED:
                        raise RunError(other.text.decode())
            fetch(self._hosts.pool.head, [handle.__ray_ready__.remote() for handle in self._hosts.handles])
            time.sleep(0.05)
        raise RunError("the lines between actors were lost, and all actors answer")


def _connected(head: Head, actors: Sequence[Any]) -> tuple[Line, ...]:
    """Lines to actors, which get one to each other too."""
    lines: dict[int, Line] = {}
    with tempfile.TemporaryDirectory(prefix="byzax-") as folder, socket.socket(socket.AF_UNIX) as waiting:
        path = str(Path(folder, "driver"))
        waiting.bind(path)
        waiting.listen(len(actors))
        waiting.settimeout(LOOK_S)
        following = [actor.follow.remote(path, place) for place, actor in enumerate(actors)]
        end = time.monotonic() + START_S
        while len(lines) < len(actors):
            interrupts.check()
            try:
                line = Line(waiting.accept()[0])
                lines[line.receive().place] = line
            except (TimeoutError, LineLost):
                check_head(head)
                done, _ = ray.wait(following, num_returns=len(following), timeout=0)
                # of actors that died
                ray.get(done)
                if time.monotonic() > end:
                    raise RunError(f"actors did not reach {path} within {START_S} s") from None
    for one in range(len(actors)):
        for other in range(one):
            ends = socket.socketpair()
            for place, peer, end_of in ((one, other, ends[0]), (other, one, ends[1])):
                with contextlib.suppress(LineLost):
                    lines[place].send(Frame(Told.PEER, peer), end_of.fileno())
                end_of.close()
    return tuple(lines[place] for place in range(len(actors)))


def _form(groups: Groups) -> Any:
    """The events of an update but for the numbers in them that count updates."""
    _, first = groups[0]
    begin = first.events[1, 0] - first.events[0, 0]
    found = []
    for host, group in groups:
        events, reads = group.events.copy(), group.reads.copy()
        events[1] -= begin
        reads[0] -= begin
        moved = group._replace(events=events, reads=reads).later(-first.update)
        found.append((host, group.step, group.read, moved.events.tobytes(), moved.reads.tobytes()))
    return found


def _tasks(hosts: Hosts, groups: Groups) -> list[list[StreamTask]]:
    """The tasks of each actor in an update: it shows the last messages of its nodes, and carries out its groups."""
    kept = hosts.network.table.kept(groups[0][1].update)
    shown = hosts.by_actor({number: node for number, (node, _) in kept.items()})
    made = [StreamTask(place, None, nodes, (), ()) for place, nodes in enumerate(shown.values())]
    at = [*shown]
    origins = {number: place for place, nodes in enumerate(shown.values()) for number in nodes}
    for place, (host, group) in enumerate(groups, len(made)):
        feeds = dict.fromkeys(origins[number] for number in group.reads[0].ravel().tolist())
        made.append(StreamTask(place, group, {}, tuple((at[feed], feed) for feed in feeds), ()))
        at.append(host)
        origins |= dict.fromkeys(group.numbers.tolist(), place)
    readers: dict[int, dict[int, None]] = {}
    for task in made:
        for host, feed in task.feeds:
            if host != at[task.place]:
                readers.setdefault(feed, {})[at[task.place]] = None
    made = [task._replace(readers=tuple(readers.get(task.place, ()))) for task in made]
    return [[task for task in made if at[task.place] == host] for host in range(len(hosts.handles))]
