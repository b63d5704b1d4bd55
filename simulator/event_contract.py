"""The contract of every table of events: they can happen, and attackers touch no honest message."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from byzax.simulator.events import Network, inbox_of


def check(network: Network, steps: int, is_byzantine: Callable[[int], np.ndarray], at_once: int = 256) -> None:
    """Checks that the events of a run can happen, and that attackers touch no honest message.

    Args:
        network: The network.
        steps: Number of updates.
        is_byzantine: Tells for an update which workers are Byzantine in it, `[n]`.
        at_once: Updates whose events are put into one table.

    Raises:
        ValueError: Names the first event that cannot happen, and what is wrong with it: it reads a message that was not
            sent, has not arrived or is forgotten already, one that counts as one of another sender, one of an earlier
            update that is neither the row of a job nor the last one of its node, a row of an earlier update that is not
            the last one of its sender, a row that was not computed, two messages of one sender, or a forged message of
            an honest worker; or its node had a later turn before, or was not free.
    """
    # of a message: its sender, by step or kind and number, the second of its arrival, its last reader
    live: dict[int, tuple[tuple[Any, int], float, int]]
    live = {number: (node, -np.inf, last) for number, (node, last) in network.table.kept(0).items()}
    turns, free_s = {}, {}
    unread = {number for number, step in enumerate(network.steps) if step.unread}
    # the senders of the messages in whose place a forging event sends others
    replaced: dict[int, list[tuple[Any, int]]] = {}
    # the last row of each sender, with the update that it arrived for: as it was sent, and as it was computed
    sent, computed = {}, {}
    for since in range(0, steps, at_once):
        table = network.table.events(since, min(since + at_once, steps))
        for update, (begins, ends) in enumerate(pairwise(table.bounds.tolist()), since):
            shown, begun = network.table.kept(update), table.begin + begins - 1
            for e in range(begins, ends):
                number, sender = table.begin + e, (int(table.step[e]), int(table.node[e]))
                step, turn = network.steps[sender[0]], int(table.turn[e])
                begin_s, end_s, arrive_s = (float(each[e]) for each in (table.begin_s, table.end_s, table.arrive_s))
                where = f"event {number}, {step.name} {turn} of {step.kind} {sender[1]}, in update {update}"
                if turn <= turns.get(sender, -1):
                    raise ValueError(f"{where}: follows turn {turns[sender]}")
                if not free_s.get((step.kind, sender[1]), -np.inf) <= begin_s <= end_s <= arrive_s:
                    raise ValueError(f"{where}: begins before its node is free, or ends before it begins")
                turns[sender], free_s[step.kind, sender[1]] = turn, end_s
                senders, fresh = [], []
                for at, (source, port) in enumerate(inbox_of(table, e), table.first[e]):
                    if source not in live:
                        raise ValueError(f"{where}: reads message {source}, which was not sent or is forgotten")
                    origin, arrived_s, last = live[source]
                    row, lag = (source, port), int(table.lag[at])
                    if source <= begun and table.job[at] < 0 and port < 0 and source not in shown:
                        raise ValueError(f"{where}: reads message {source}, which is not the last one of its node")
                    if arrived_s > begin_s or last < number:
                        raise ValueError(f"{where}: reads message {source} before it arrived or after its last reader")
                    if port < 0 and origin[0] in unread and not step.forges:
                        raise ValueError(f"{where}: reads message {source}, which only holds the place of a row")
                    if port >= 0:
                        forged = replaced.get(source, [])
                        if port >= len(forged):
                            raise ValueError(f"{where}: reads row {port} of message {source}, of {len(forged)} forged")
                        origin = forged[port]
                        kind = network.steps[origin[0]].kind
                        lies = (
                            is_byzantine(update - lag)[origin[1]]
                            if kind == "worker"
                            else (origin[1] in network.byzantine.get(kind, ()))
                        )
                        if not lies:
                            raise ValueError(f"{where}: gets a forged message of {kind} {origin[1]}, which is honest")
                    if origin[1] != table.sender[at]:
                        raise ValueError(
                            f"{where}: takes message {source} of {origin[1]} for one of {table.sender[at]}"
                        )
                    if lag == 0:
                        fresh.append(origin)
                        (computed if step.forges else sent)[origin] = row, update
                    elif lag > 0 or table.job[at] >= 0:
                        found, then = (sent if lag > 0 else computed).get(origin, (None, 0))
                        if not step.last_rows or found != row or (lag > 0 and then != update - lag):
                            raise ValueError(
                                f"{where}: reads message {source}, which is not the last row of its sender"
                            )
                    if lag >= 0:
                        senders.append(origin)
                if len({*senders}) < len(senders):
                    raise ValueError(f"{where}: reads two messages of one sender")
                if step.forges:
                    replaced[number] = fresh
                live[number] = sender, arrive_s, int(table.last[e])
            live = {each: about for each, about in live.items() if about[2] >= table.begin + ends}
            replaced = {each: about for each, about in replaced.items() if each in live}
