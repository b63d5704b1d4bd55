"""The events of a turn in a race of several kinds of node: those of a round, and the messages that were heard."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from byzax.simulator.events import EventBlock, Network, Node, inbox_of
from byzax.simulator.executors.grouping import SingleEvent
from byzax.simulator.executors.round_record import Turn
from byzax.simulator.rounds import Rounds, no_times, timeline_of
from byzax.simulator.timeline import Timeline


class Read(NamedTuple):
    """A message that an event may read.

    Attributes:
        place: The place, among the events of a round, of the one that sent it.
        port: The row of a message that holds several; -1 for the whole message.
        sender: The node that it counts as one of.
        old: Whether it is of a round before.
    """

    place: int
    port: int
    sender: int
    old: bool


class TurnEvents(NamedTuple):
    """The events of a round.

    Attributes:
        network: The network.
        block: The first update, in which all nodes take all steps and read all messages.
        reads: The messages that each event may read.
        own: The event of each step and node.
        forging: The events that forge what an event reads.
        after: The events that follow on one at its node and are no step of the rounds.
    """

    network: Network
    block: EventBlock
    reads: list[list[Read]]
    own: dict[tuple[int, int], int]
    forging: dict[int, list[int]]
    after: dict[int, list[int]]

    @property
    def size(self) -> int:
        """The number of events of a round."""
        return len(self.block.step)

    def name(self, place: int) -> str:
        """The name of the step of an event."""
        return self.network.steps[self.block.step[place]].name

    def beside(self) -> list[int]:
        """The events that are no step of the rounds, and happen in each of them."""
        return sorted(place for those in self.after.values() for place in those)

    def attackers(self) -> dict[Node, Node]:
        """The nodes that forge, with the node that each forges for."""
        return {self._node(place): self._node(reader) for reader, places in self.forging.items() for place in places}

    def of(self, turn: Turn, heard: Sequence[int], last: Mapping[int, int]) -> list[SingleEvent]:
        """The events of a turn that is taken, without those after it.

        Args:
            turn: The turn.
            heard: The places of the messages that it reads, among those that it may read.
            last: The number of the message that each event sent last, by its place.

        Returns:
            The events, in their order. That of event p of round t has the number 1 + t * `size` + p.
        """
        place = self.own[turn.step, turn.node]
        new = [i for i, read in enumerate(self.reads[place]) if not read.old]
        taken = {*(new[at] for at in heard)} | {i for i, read in enumerate(self.reads[place]) if read.old}
        origins = {self._origin(self.reads[place][i]) for i in taken}
        chosen = {place: sorted(taken)}
        for forger in self.forging.get(place, []):
            reads = enumerate(self.reads[forger])
            chosen[forger] = [i for i, read in reads if read.old or self._origin(read) in origins]
        return [self._event(each, turn.round, chosen, last) for each in sorted(chosen)]

    def following(self, turn: Turn, last: Mapping[int, int]) -> list[SingleEvent]:
        """The events after a turn, whether or not it is taken. See `of`."""
        places = self.after.get(self.own[turn.step, turn.node], [])
        return [self._event(place, turn.round, {place: range(len(self.reads[place]))}, last) for place in places]

    def _event(
        self, place: int, round_: int, chosen: Mapping[int, Sequence[int]], last: Mapping[int, int]
    ) -> SingleEvent:
        block, begin = self.block, 1 + round_ * self.size
        reads, seen = [], 0
        for i in chosen[place]:
            source, port, sender, old = self.reads[place][i]
            if port >= 0:
                # among the rows that the forging event reads
                port = chosen[source].index(port)
            reads.append((last[source] if old else begin + source, port, sender, round_, 0))
            seen += not old
        step = int(block.step[place])
        forges = self.network.steps[step].forges
        read = block.last[place] > block.begin + place and not forges
        node = int(block.node[place])
        return SingleEvent(round_, step, place, begin + place, node, round_, seen, reads, () if read else None)

    def _origin(self, read: Read) -> int:
        """The event whose message a row is, or was made of."""
        return read.place if read.port < 0 else self.reads[read.place][read.port].place

    def _node(self, place: int) -> Node:
        return self.network.steps[self.block.step[place]].kind, int(self.block.node[place])


def whole_round(rounds: Rounds) -> Timeline:
    """The timeline of one round in which all nodes take all steps, and read all messages.

    Args:
        rounds: The steps of a round.

    Returns:
        The timeline, all of it in second 0.
    """
    (job,) = (step for step in rounds.steps if step.works)
    times = [no_times(step, 1) for step in rounds.steps]
    all_of_them = tuple(
        each._replace(begin_s=np.zeros_like(each.begin_s), end_s=np.zeros_like(each.end_s), taken=~each.taken)
        for each in times
    )
    nothing = np.zeros((1, len(job.senders)))
    return timeline_of(rounds, job, all_of_them, nothing, nothing, nothing + np.inf, np.zeros(1), "")


def turn_events(network: Network, rounds: Rounds) -> TurnEvents:
    """The events of a round of a network that was built for `whole_round`.

    Args:
        network: The network.
        rounds: The steps of a round.

    Returns:
        The events.

    Raises:
        ValueError: For an event that no turn comes before.
    """
    block = network.table.events(0, 1)
    count, numbers = len(block.step), {step.name: number for number, step in enumerate(rounds.steps)}
    reads, own, forging, after = [], {}, {}, {}
    last: dict[Node, int] = {}
    for place in range(count):
        step, node = network.steps[block.step[place]], int(block.node[place])
        senders = block.sender[block.first[place] : block.first[place + 1]].tolist()
        mine = []
        for (source, port), sender in zip(inbox_of(block, place), senders, strict=True):
            old = source < block.begin
            mine.append(Read(source - block.begin + count * old, port, sender, old))
        reads.append(mine)
        if step.name in numbers:
            own[numbers[step.name], node] = last[step.kind, node] = place
            if forgers := sorted({read.place for read in mine if read.port >= 0}):
                forging[place] = forgers
        elif not step.forges:
            if (step.kind, node) not in last:
                raise ValueError(f"{step.name} {node}: comes before all steps of the rounds, which a race cannot have")
            after.setdefault(last[step.kind, node], []).append(place)
    return TurnEvents(network, block, reads, own, forging, after)
