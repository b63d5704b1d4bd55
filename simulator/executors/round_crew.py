"""Those who do the work of a race of rounds, what they tell, and where each node is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from byzax.simulator.events import Node
from byzax.simulator.executors.round_record import Turn


class News(NamedTuple):
    """Something that happened in a race.

    Attributes:
        at_s: The second by the clock of its machine, by which news that come together are put in order.
        event: A turn is done, its message is there at some nodes, or nodes died for good.
        turn: The turn; of nodes that died none.
        readers: The turns that may read the message that is there.
        nodes: The nodes that died.
    """

    at_s: float
    event: Literal["done", "there", "died"]
    turn: Turn | None = None
    readers: tuple[Turn, ...] = ()
    nodes: tuple[Node, ...] = ()


class RoundCrew(NamedTuple):
    """Those who do the work of a race.

    Attributes:
        begin: Begins a turn, which reads the messages at these places among those that it may read.
        send: A turn is done and counts: its message goes to the nodes of these turns, which may read it.
        pass_by: A node leaves a turn out.
        take_back: Takes a turn back that was begun: what becomes of it does not count.
        leave: A node is done with a round, and those before it, whether or not it took its steps.
        news: Waits for news, so many seconds at most.
        clock: Gives the second of the clock.
    """

    begin: Callable[[Turn, Sequence[int]], None]
    send: Callable[[Turn, Sequence[Turn]], None]
    pass_by: Callable[[Turn], None]
    take_back: Callable[[Turn], None]
    leave: Callable[[Node, int], None]
    news: Callable[[float], list[News]]
    clock: Callable[[], float] = time.time


@dataclass(slots=True)
class Place:
    """The place of a node in its steps.

    Attributes:
        node: The node.
        steps: The steps of its kind, in their order.
        round: The round of the next one.
        at: The place of that step in `steps`.
        goes_on: Whether it took the step before.
        away: Whether it died and has done no job since.
        busy: The turn that it has begun and not ended.
        alive: Whether it takes steps.
        gone: Whether it never will again.
    """

    node: Node
    steps: tuple[int, ...]
    round: int = 0
    at: int = 0
    goes_on: bool = True
    away: bool = False
    busy: Turn | None = None
    alive: bool = True
    gone: bool = False

    @property
    def turn(self) -> Turn:
        """The next turn."""
        return Turn(self.steps[self.at], self.round, self.node[1])

    def follow(self) -> bool:
        """Goes on to the next turn; tells whether it is one of the next round."""
        self.at = (self.at + 1) % len(self.steps)
        self.round += not self.at
        return not self.at
