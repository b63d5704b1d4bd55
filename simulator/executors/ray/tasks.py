"""Events as tasks of actors, which hand on references to messages."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray

from byzax.simulator.events import EventBlock, KeptRows
from byzax.simulator.executors.grouping import EventGroup
from byzax.simulator.executors.parcels import Parcel, unpack
from byzax.simulator.executors.ray.head import fetch
from byzax.simulator.executors.ray.hosts import Hosts


class Tasks:
    """The tasks of a run: an event is asked for as soon as the messages that it reads are promised."""

    def __init__(self, hosts: Hosts, live: dict[int, tuple[Any, int]]) -> None:
        """Takes the actors of a run.

        Args:
            hosts: The actors.
            live: The messages that later events read: references to what they are in, by their numbers, with the last
                event that reads each.
        """
        self.live = live
        self._hosts = hosts
        self._conclude = [handle.conclude.options(num_returns=2) for handle in hosts.handles]
        # what is to be waited for of each update that is not known to be made
        self._under_way: deque[Any] = deque()

    def hold(self, kept: KeptRows, rows: np.ndarray) -> None:
        """Takes rows of a snapshot.

        Args:
            kept: The rows.
            rows: `[k, d]`.
        """
        for number in np.unique(kept.source).tolist():
            mine = kept.source == number
            places = tuple((number, port) for port in kept.port[mine].tolist())
            self.live[number] = ray.put(Parcel(places, rows[mine])), int(kept.last[mine].max())

    def rows(self, kept: KeptRows) -> list[np.ndarray]:
        """These rows."""
        places = [*zip(kept.source.tolist(), kept.port.tolist(), strict=True)]
        references = dict.fromkeys(self.live[number][0] for number, _ in places)
        found = unpack(fetch(self._hosts.pool.head, [*references]))
        return [found[at] if at in found else found[at[0], -1][at[1]] for at in places]

    def submit(self, groups: Sequence[tuple[int, EventGroup]], block: EventBlock, recorded: bool) -> None:
        """Asks for the events of an update.

        Args:
            groups: The events, each group with its actor.
            block: The part of the table that they are from.
            recorded: Whether the update is recorded whole.
        """
        end = 0
        for i, (host, group) in enumerate(groups, 1):
            given = dict.fromkeys(self.live[number][0] for number in group.reads[0].ravel().tolist())
            if i < len(groups):
                sent = self._hosts.handles[host].carry_out.remote(group, recorded, *given)
            else:
                sent, done = self._conclude[host].remote(group, recorded, *given)
                self._under_way.append(done)
            numbers = group.numbers.tolist()
            for number, last, read in zip(numbers, block.last[group.numbers - block.begin], group.read, strict=True):
                if read is not None:
                    self.live[number] = sent, int(last)
            end = max(end, numbers[-1] + 1)
        self.live = {number: each for number, each in self.live.items() if each[1] >= end}

    def settle(self, most: int = 0) -> None:
        """Waits until no more updates than so many are under way."""
        while len(self._under_way) > most:
            # waiting takes a failure for an end: only to ask for the result shows it
            fetch(self._hosts.pool.head, self._under_way.popleft())

    def leave(self) -> list[Any]:
        """References that tell of the updates under way, which are not waited for here any more."""
        found = [*self._under_way]
        self._under_way.clear()
        return found
