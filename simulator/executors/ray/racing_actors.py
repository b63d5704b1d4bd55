"""The actors of a race of several kinds of node: messages and turns under way, and what was seen of them."""

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import RayActorError

from byzax.simulator.events import Node
from byzax.simulator.executors.grouping import SingleEvent
from byzax.simulator.executors.node_host import SeenEvent
from byzax.simulator.executors.ray.head import check_head
from byzax.simulator.executors.ray.hosts import Hosts
from byzax.simulator.executors.ray.pool import cause
from byzax.simulator.executors.round_crew import News, RoundCrew
from byzax.simulator.executors.round_record import Turn
from byzax.simulator.executors.turn_events import TurnEvents
from byzax.simulator.rounds import Rounds


class BegunTurn(NamedTuple):
    """A turn that was begun, or left out and followed by other events.

    Attributes:
        turn: The turn.
        events: The events.
        message: A reference to the messages. See `RacingHost.act`.
        states: A reference to the states after it.
        before: One to the states before it; None for those before the first round.
        left_out: Whether the turn was left out.
    """

    turn: Turn
    events: list[SingleEvent]
    message: Any
    states: Any
    before: Any
    left_out: bool


class Receipt(NamedTuple):
    """A message on its way to an actor, and the turns there that may read it."""

    turn: Turn
    readers: tuple[Turn, ...]
    host: int


class RacingActors:
    """The actors of a race, with the messages that are under way between them and what was seen of events."""

    def __init__(
        self, hosts: Hosts, rounds: Rounds, events: TurnEvents, wanted: Iterable[int], recorded: Collection[int]
    ) -> None:
        """Takes the actors.

        Args:
            hosts: The actors.
            rounds: The steps of a round.
            events: The events of a round.
            wanted: The numbers of rounds after which states are asked for.
            recorded: The updates that are recorded whole.
        """
        self._hosts, self._rounds, self._events, self._recorded = hosts, rounds, events, recorded
        self.wanted = {*wanted}
        # messages by their numbers, and the number of the last one of each event
        shown = hosts.shown(0)
        self._sent = {number: message for number, (message, _) in shown.items()}
        self._last = {number - 1 + events.size: number for number in shown}
        # the states of nodes before the first round, now, and at the end of rounds
        self._first = hosts.states()
        self._states: dict[Node, Any] = {}
        self._at_end: dict[int, dict[Node, Any]] = {}
        self._seen: dict[int, dict[int, SeenEvent | None]] = {}
        self._acts: dict[Any, BegunTurn] = {}
        self._done: dict[Turn, tuple[BegunTurn, list[SeenEvent]]] = {}
        self._receipts: dict[Any, Receipt] = {}
        self._news: list[News] = []
        self._rounds_of = {(kind, i): 0 for kind in self._kinds() for i in range(len(hosts.hosted[kind]))}
        # why each actor died that is dead
        self.died: dict[int, str] = {}

    def crew(self) -> RoundCrew:
        """The actors, as a race needs them."""
        return RoundCrew(self._begin, self._send, self._pass_by, self._take_back, self._leave, self._wait)

    def states(self, step: int) -> list[Any]:
        """References to the states of nodes after so many rounds, of the same node the last one."""
        found = self._states | self._at_end.get(step, {}) if step else {}
        return [*self._first, *(states for states in found.values() if states is not None)]

    def forget(self, ended: int) -> None:
        """Forgets the states after fewer rounds than have ended, unless they are wanted."""
        self._at_end = {step: each for step, each in self._at_end.items() if step >= ended or step in self.wanted}

    def forget_seen(self, round_: int) -> None:
        """Forgets what was seen of a round."""
        self._seen.pop(round_, None)

    def left(self, round_: int) -> bool:
        """Tells whether all nodes are done with a round, or dead."""
        return min(self._rounds_of.values()) > round_

    def seen(self, round_: int) -> list[tuple[str, SeenEvent | None]]:
        """The results of the events of a round by which its update is measured, with the names of their steps."""
        found = dict.fromkeys(self._events.beside()) | self._seen.get(round_, {})
        return [(self._events.name(place), found[place]) for place in sorted(found)]

    def nodes_at(self, host: int) -> list[Node]:
        """The nodes of an actor."""
        return [(kind, int(i)) for kind in self._kinds() for i in np.flatnonzero(self._hosts.hosted[kind] == host)]

    def _kinds(self) -> list[str]:
        return [*dict.fromkeys(step.kind for step in self._rounds.steps)]

    def _node(self, turn: Turn) -> Node:
        return self._rounds.steps[turn.step].kind, turn.node

    def _host(self, turn: Turn) -> int:
        kind, node = self._node(turn)
        return int(self._hosts.hosted[kind][node])

    def _act(self, turn: Turn, events: list[SingleEvent], left_out: bool = False) -> BegunTurn:
        """Has events carried out at the actor of a turn."""
        host, mine = self._hosts.handles[self._host(turn)], {event.number for event in events}
        numbers = dict.fromkeys(source for event in events for source, *_ in event.reads if source not in mine)
        messages = dict.fromkeys(self._sent[number] for number in numbers)
        given = self._node(turn), events, turn.round in self._recorded, *messages
        message, states, about = host.act.options(num_returns=3).remote(*given)
        before = self._states.get(self._node(turn))
        self._acts[about] = begun = BegunTurn(turn, events, message, states, before, left_out)
        return begun

    def _begin(self, turn: Turn, heard: Sequence[int]) -> None:
        events = self._events.of(turn, heard, self._last)
        after = self._events.following(turn, self._last | {event.place: event.number for event in events})
        self._act(turn, [*events, *after])

    def _pass_by(self, turn: Turn) -> None:
        if (after := self._events.following(turn, self._last)) and self._host(turn) not in self.died:
            self._take(self._act(turn, after, left_out=True), [])

    def _send(self, turn: Turn, readers: Sequence[Turn]) -> None:
        begun, seen = self._done.pop(turn)
        self._take(begun, seen)
        by_host: dict[int, list[Turn]] = {}
        for reader in readers:
            by_host.setdefault(self._host(reader), []).append(reader)
        for host, those in by_host.items():
            if host == self._host(turn):
                # this process has it
                self._news.append(News(time.time(), "there", turn, tuple(those)))
            elif host not in self.died:
                receipt = self._hosts.handles[host].receive.remote(begun.message)
                self._receipts[receipt] = Receipt(turn, tuple(those), host)

    def _take(self, begun: BegunTurn, seen: Sequence[SeenEvent]) -> None:
        """Takes what became of events that count."""
        found = {each.place: each for each in seen}
        for event in begun.events:
            self._seen.setdefault(event.update, {})[event.place] = found.get(event.place)
            if event.read is not None:
                self._sent[event.number], self._last[event.place] = begun.message, event.number
        self._states[self._node(begun.turn)] = begun.states

    def _take_back(self, turn: Turn) -> None:
        self._done.pop(turn, None)
        self._acts = {about: begun for about, begun in self._acts.items() if begun.turn != turn}
        if (host := self._host(turn)) not in self.died:
            self._hosts.handles[host].take_back.remote(self._node(turn))

    def _leave(self, node: Node, round_: int) -> None:
        self._at_end.setdefault(round_ + 1, {})[node] = self._states.get(node)
        before = min(self._rounds_of.values())
        self._rounds_of[node] = round_ + 1
        self._forget_messages(before)

    def _forget_messages(self, before: int) -> None:
        """Forgets the messages of rounds with which all nodes are done, but for the last one of each event."""
        if (oldest := min(self._rounds_of.values())) > before:
            kept = {*self._last.values()}
            first = 1 + oldest * self._events.size
            self._sent = {number: each for number, each in self._sent.items() if number >= first or number in kept}

    def _wait(self, timeout_s: float) -> list[News]:
        if self._news:
            timeout_s = 0.0
        pending = [*self._acts, *self._receipts]
        if not pending:
            time.sleep(timeout_s)
        else:
            ready, _ = ray.wait(pending, num_returns=1, timeout=timeout_s)
            if not ready and timeout_s:
                check_head(self._hosts.pool.head)
            if ready:
                # what else is there by now: the clocks of the machines say what was first
                ready, _ = ray.wait(pending, num_returns=len(pending), timeout=0)
            for each in ready:
                self._tell(each)
        news, self._news = self._news, []
        return news

    def _tell(self, reference: Any) -> None:
        begun, receipt = self._acts.pop(reference, None), self._receipts.pop(reference, None)
        if begun is None and receipt is None:
            # of an actor that was found dead
            return
        host = receipt.host if receipt is not None else self._host(begun.turn) if begun is not None else -1
        try:
            told: Any = ray.get(reference)
        except RayActorError as error:
            self._bury(host, cause(error))
            return
        if receipt is not None:
            self._news.append(News(told, "there", receipt.turn, receipt.readers))
        elif begun is not None and not begun.left_out:
            self._done[begun.turn] = begun, told.seen
            self._news.append(News(told.times_s[1], "done", begun.turn))

    def _bury(self, host: int, why: str) -> None:
        """An actor died, and with it its nodes."""
        if host in self.died:
            return
        self.died[host] = why
        self._hosts.pool.dead.append(why)
        unmade = {begun.states: begun.before for begun in self._acts.values() if self._host(begun.turn) == host}
        for found in (self._states, *self._at_end.values()):
            found |= {node: unmade[states] for node, states in found.items() if states in unmade}
        self._acts = {about: begun for about, begun in self._acts.items() if self._host(begun.turn) != host}
        self._receipts = {about: each for about, each in self._receipts.items() if each.host != host}
        self._news.append(News(time.time(), "died", nodes=tuple(self.nodes_at(host))))
