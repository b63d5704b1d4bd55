"""Nodes in one process of several that race: what an event will be used for is not known when it is carried out."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.events import Node
from byzax.simulator.executors.base import stage
from byzax.simulator.executors.grouping import SingleEvent
from byzax.simulator.executors.node_host import NodeHost, SeenEvent, in_numpy, owned, plain
from byzax.simulator.executors.parcels import Packing, Parcel, unpack


class Acted(NamedTuple):
    """The times of events that were carried out, and what was seen of them.

    Attributes:
        times_s: The seconds of this machine's clock when they were begun and done.
        seen: The results of each that its update is told by.
    """

    times_s: tuple[float, float]
    seen: list[SeenEvent]


class RacingHost(NodeHost):
    """Hosts nodes of a network, also in a race."""

    def act(
        self, turn: Node, events: Sequence[SingleEvent], recorded: bool, *parts: Parcel
    ) -> tuple[Parcel, dict[Node, Any], Acted]:
        """Carries out a turn of a node of several that race.

        Args:
            turn: The node whose turn it is.
            events: Its events, in their order, of which some may be of attackers that forge for it.
            recorded: Whether their update is recorded whole.
            *parts: The messages that they read; those of one another need not be among them.

        Returns:
            The messages that are read elsewhere; the states after it of nodes that evaluations read; and what was seen.
            So nothing is lost with this process but what it has not done.
        """
        begin, live, sent = time.time(), unpack(parts), Packing()
        before: dict[Node, Any] = {}
        seen: list[SeenEvent] = []
        for single in events:
            step, group = self.network.steps[single.step], single.alone()
            ((event, inbox),) = self._inboxes(group, live)
            me = step.kind, event.node
            before.setdefault(me, self.states[me])
            made = self._carry_out_one(step, event, inbox)
            with stage(step.name, **step.place(event)):
                message = live[single.number, -1] = in_numpy(made.message)
                found, arrays = jax.tree.map(plain, made.seen), in_numpy(made.arrays if recorded else None)
            if single.read is not None:
                sent.add(single.number, single.read, message)
            if found is not None or arrays is not None:
                seen.append(SeenEvent(single.update, single.place, step.name, found, arrays))
        self.before[turn] = before
        kinds = self.network.judged
        judged = {node: in_numpy(self.states[node]) for node in before if not kinds or node[0] in kinds}
        return sent.parcel(), judged, Acted((begin, time.time()), seen)

    def receive(self, message: Parcel) -> float:
        """Takes a message note of that this process has now.

        Args:
            message: The message.

        Returns:
            The second of this machine's clock.
        """
        return time.time()

    def take_back(self, node: Node) -> None:
        """Sets back what the last turn of a node did to states."""
        self.states |= self.before.pop(node)

    def compute(self, job: SingleEvent, model: Parcel) -> tuple[Parcel, tuple[float, float]]:
        """Carries out a job whose row may not be used.

        Args:
            job: Its event.
            model: The message that it reads.

        Returns:
            The message of the event before the transform of its step; and the times of this machine's clock when it
            was begun and done, in seconds.
        """
        begin, step = time.time(), self.network.steps[job.step]
        ((event, inbox),) = self._inboxes(job.alone(), unpack([model]))
        with stage(step.name, **step.place(event)):
            made = step.carry_out(self.here, event, self.states[step.kind, event.node], inbox)
            row = np.asarray(made.message)
        self.states[step.kind, event.node] = jax.tree.map(owned, made.state)
        return Parcel(((job.number, -1),), row[None]), (begin, time.time())

    def send(self, jobs: Sequence[SingleEvent], *parts: Parcel) -> Parcel:
        """Transforms the messages of jobs that `compute` carried out.

        Args:
            jobs: The events of the jobs.
            *parts: Their messages.

        Returns:
            What their nodes send.
        """
        computed, sent = unpack(parts), []
        for job in jobs:
            step, (event,) = self.network.steps[job.step], job.alone().as_seen()
            me = step.kind, event.node
            assert step.transform is not None
            with stage(step.name, **step.place(event)):
                given = self.here, event, self.states[me], jnp.asarray(computed[job.number, -1])
                self.states[me], message = step.transform(*given)
            sent.append(np.asarray(message))
        return Parcel(tuple((job.number, -1) for job in jobs), np.stack(sent))
