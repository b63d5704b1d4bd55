"""A race of several kinds of node on the clock: each goes on with the first messages that are really there."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.durations import MessageBits
from byzax.simulator.events import Node
from byzax.simulator.executors.racing import PATIENCE_S
from byzax.simulator.executors.round_crew import Place, RoundCrew
from byzax.simulator.executors.round_delays import build_delays
from byzax.simulator.executors.round_record import RaceRecord, Turn
from byzax.simulator.quorums import spells_of


def race_rounds(
    record: RaceRecord, source: LatencyPart, seed: int, bits: MessageBits, crew: RoundCrew
) -> Iterator[None]:
    """Carries out a race of nodes that go on by the messages that they got.

    A node begins a step once it is done with the one before and so many messages are there as it waits for; it reads
    the first of them. It leaves out a step for which it can get too few, because their senders left theirs out or died,
    or messages are lost; where it may go on alone, it reads its own message then. The seconds of `latency` pass for
    real: a message counts as there when its receiver has it, and not before they are over. What is lost, and who dies
    by `latency.crashes`, is as in virtual time.

    Args:
        record: A new record, for what happens.
        source: The latency in a scenario.
        seed: Seed of the run.
        bits: Bits of a message of each direction.
        crew: Those who do the work.

    Yields:
        After news.

    Raises:
        ScenarioError: As `build_draws`.
    """
    rounds, steps = record.rounds, record.steps
    described, delays = rounds.steps, build_delays(rounds, source, seed, bits)
    mixing = next((number for number, step in enumerate(described) if step.alone), None)
    numbers = {step.name: number for number, step in enumerate(described)}
    readers = {
        number: [r for r, step in enumerate(described) if step.reads == name] for name, number in numbers.items()
    }
    places = {
        (kind, i): Place((kind, i), tuple(r for r, step in enumerate(described) if step.kind == kind))
        for kind in dict.fromkeys(step.kind for step in described)
        for i in range(len(next(step for step in described if step.kind == kind).senders))
    }
    # the messages that are there and may be read, by the turns that may: their places, the first to arrive first; and
    # the places of those that never will be
    there: dict[Turn, list[int]] = {}
    missing: dict[Turn, set[int]] = {}
    # what is due: an end or an arrival that waits for its seconds, a death or a return
    timers: list[tuple[float, int, Callable[[float], None]]] = []
    counter = itertools.count()
    todo: deque[Node] = deque(places)
    begin_s, last_s = crew.clock(), 0.0

    def now() -> float:
        # strictly after whatever was before: events have an order
        nonlocal last_s
        last_s = max(crew.clock() - begin_s, float(np.nextafter(last_s, np.inf)))
        return last_s

    def later(due_s: float, happens: Callable[[float], None]) -> None:
        if due_s <= last_s:
            happens(now())
        else:
            heapq.heappush(timers, (due_s, next(counter), happens))

    def place_of(turn: Turn) -> Place:
        return places[described[turn.step].kind, turn.node]

    def is_ahead(place: Place, turn: Turn) -> bool:
        """Tells whether a node has not gone on from a turn."""
        return not place.gone and (place.round, place.steps[place.at]) <= (turn.round, turn.step)

    def may_read(turn: Turn) -> tuple[Collection[int], int]:
        """The places of the messages that a turn may read, and how many of them it waits for."""
        step = described[turn.step]
        if (turn.round + 1) % step.every:
            return [own_place(turn)], 1
        if step.joined is None:
            return range(len(step.senders[turn.node])), step.quorum_of(turn.node)
        joined = np.flatnonzero(step.joined(seed, turn.round)[turn.node]).tolist()
        return joined, min(step.quorum_of(turn.node), len(joined))

    def own_place(turn: Turn) -> int:
        return described[turn.step].senders[turn.node].index(turn.node)

    def may_come(turn: Turn, at: int) -> bool:
        """Tells whether a message may still arrive, or is there."""
        step = described[turn.step]
        sent = Turn(numbers[step.reads], turn.round, step.senders[turn.node][at])
        if at in missing.get(turn, ()):
            return False
        return record.is_done(sent) or is_ahead(place_of(sent), sent)

    def first_heard(turn: Turn) -> list[int] | None:
        """The places of the messages with which a turn begins; none where it waits, None where it never does."""
        allowed, quorum = may_read(turn)
        heard, alone = there.get(turn, []), described[turn.step].alone
        if alone:
            if not may_come(turn, own_place(turn)):
                return None
            # its own is always one of the first
            heard = sorted(heard, key=lambda at: at != own_place(turn))
        if len(heard) >= quorum:
            return heard[:quorum]
        if sum(may_come(turn, at) for at in allowed) >= quorum:
            return []
        return heard[:1] if alone else None

    def go_on(place: Place) -> None:
        """Begins the next turn of a node, or leaves it out, where that can be told."""
        if place.busy or place.gone or place.round == steps:
            return
        turn = place.turn
        if described[turn.step].reads:
            if (heard := first_heard(turn)) is None:
                pass_by(place)
            elif heard and place.alive:
                begin(place, turn, heard)
        elif mixing is None:
            # with the model that it took
            begin(place, turn, []) if place.goes_on else pass_by(place)
        elif place.alive:
            next_ = turn._replace(step=mixing)
            others = [at for at in may_read(next_)[0] if at != own_place(next_)]
            if place.away and not any(may_come(next_, at) for at in others):
                pass_by(place)
            else:
                begin(place, turn, [])

    def begin(place: Place, turn: Turn, heard: list[int]) -> None:
        place.busy = turn
        record.begin(turn, heard, now())
        crew.begin(turn, heard)

    def pass_by(place: Place) -> None:
        """A node leaves a turn out."""
        turn, place.goes_on = place.turn, False
        crew.pass_by(turn)
        move(place)
        for reader in readers[turn.step]:
            todo.extend(
                (described[reader].kind, i) for i, those in enumerate(described[reader].senders) if turn.node in those
            )

    def move(place: Place) -> None:
        turn = place.turn
        there.pop(turn, None)
        missing.pop(turn, None)
        if place.follow():
            crew.leave(place.node, turn.round)
        todo.append(place.node)

    def done(turn: Turn) -> None:
        place = place_of(turn)
        if place.busy != turn:
            return
        least_s = record.begun(turn)
        if described[turn.step].works:
            least_s += delays.computing(turn)

        def end(at_s: float) -> None:
            if place.busy != turn:
                return
            place.busy, place.goes_on = None, True
            place.away &= not described[turn.step].works
            record.end(turn, at_s)
            send(turn)
            move(place)

        later(least_s, end)

    def send(turn: Turn) -> None:
        receivers = [
            (Turn(reader, turn.round, i), those.index(turn.node))
            for reader in readers[turn.step]
            for i, those in enumerate(described[reader].senders)
            if turn.node in those
        ]
        coming = []
        for reader, at in receivers:
            if place_of(reader) is place_of(turn):
                arrive(turn, reader, at, last_s)
            elif at not in may_read(reader)[0] or place_of(reader).gone:
                continue
            elif np.isinf(delays.due_s(reader, at, record.ended_s(turn))):
                lose(reader, at)
            else:
                coming.append(reader)
        if not coming:
            record.vanish(turn)
        crew.send(turn, coming)

    def arrived(sent: Turn, readers: Sequence[Turn]) -> None:
        for reader in readers:
            at = described[reader.step].senders[reader.node].index(sent.node)

            def happens(at_s: float, reader: Turn = reader, at: int = at) -> None:
                arrive(sent, reader, at, at_s)

            later(delays.due_s(reader, at, record.ended_s(sent)), happens)

    def arrive(sent: Turn, reader: Turn, at: int, at_s: float) -> None:
        record.arrive(sent, reader, at_s)
        place = place_of(reader)
        if not is_ahead(place, reader):
            return
        if place.alive:
            there.setdefault(reader, []).append(at)
            todo.append(place.node)
        else:
            lose(reader, at)

    def lose(reader: Turn, at: int) -> None:
        if is_ahead(place_of(reader), reader):
            missing.setdefault(reader, set()).add(at)
            todo.append(place_of(reader).node)

    def die(node: Node, for_good: bool) -> None:
        """A node dies, with what it was at and the messages that it had."""
        place = places[node]
        if place.gone:
            return
        place.alive, place.goes_on, place.away, place.gone = False, False, True, for_good
        for turn in [turn for turn in there if place_of(turn) is place]:
            missing.setdefault(turn, set()).update(there.pop(turn))
        if (turn := place.busy) is not None:
            place.busy = None
            record.vanish(turn)
            crew.take_back(turn)
            if not for_good:
                pass_by(place)
        if for_good:
            crew.leave(node, steps - 1)
        todo.extend(places if for_good else [node])

    def come_back(node: Node) -> None:
        places[node].alive = True
        todo.append(node)

    def settle() -> bool:
        """Lets nodes go on as far as they can; tells whether the race is over."""
        while True:
            if record.close_rounds(lambda turn: is_ahead(place_of(turn), turn)):
                return True
            if not todo:
                return False
            go_on(places[todo.popleft()])

    for kind, mortal in spells_of(source).items():
        for number, spells in mortal.items():
            for (_, end_s), after in itertools.zip_longest(spells, spells[1:]):
                if np.isfinite(end_s):
                    later(end_s, lambda at_s, node=(kind, number), after=after: die(node, after is None))
                if after is not None:
                    later(after[0], lambda at_s, node=(kind, number): come_back(node))
    while not settle():
        yield
        due_s = timers[0][0] if timers else np.inf
        if due_s <= (present_s := now()):
            _, _, happens = heapq.heappop(timers)
            happens(present_s)
            continue
        for each in sorted(crew.news(min(PATIENCE_S, due_s - present_s)), key=lambda news: news.at_s):
            now()
            if each.event == "died":
                for node in each.nodes:
                    if not places[node].gone:
                        record.lose(node, places[node].turn)
                    die(node, True)
            elif each.turn is not None:
                done(each.turn) if each.event == "done" else arrived(each.turn, each.readers)
