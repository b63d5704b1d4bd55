"""GuanYu and ByzSGD: who hears whom, message by message, and the models of all servers. Plain Python and NumPy."""

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.reference.schedule import Row
from tests.reference.training import FORMULAS, Drawn, Memory, row_of

# the phases of a round, in order: a worker's job, a server's update on rows, its gathering of models, a worker's
WORK, UPDATE, GATHER, PULL = range(4)


def heard(
    n: int,
    servers: int,
    rows: int,
    models: int,
    every: int,
    steps: int,
    computing: Callable[[int, int], float],
    delay: Callable[[int, int, int, int], float],
    leaves: Callable[[tuple[str, int], tuple[str, int], float], float] = lambda sender, receiver, now: now,
    dead: Callable[[int, float], bool] = lambda server, now: False,
    dies: Sequence[tuple[float, int]] = (),
) -> dict[tuple[int, int, int], tuple[float, list[int]]]:
    """The second at which each node ends each phase, and whose messages it took.

    A node that would wait for ever, for no more messages come, goes on at once instead: all is carried out anew with
    that known, until nobody waits for ever.

    Args:
        n: Number of workers.
        servers: Number of servers.
        rows: Rows that a server waits for.
        models: Models that a node waits for.
        every: Servers exchange models in every so many rounds.
        steps: Number of rounds.
        computing: Seconds of a worker's job of a round.
        delay: Seconds of a message of a round, by phase that it is for, sender and receiver; infinite for a lost one.
        leaves: The second at which a message leaves, by its two nodes and the second of sending; infinite for never.
        dead: Whether a server is dead at a second.
        dies: The seconds at which servers die, and which.

    Returns:
        By phase, node and round.
    """
    hopeless: set[tuple[int, int, int]] = set()
    while True:
        done, waits = _heard(n, servers, rows, models, every, steps, computing, delay, leaves, dead, dies, hopeless)
        stuck = {(t, phase, node) for (_, node), (phase, t) in waits.items() if t < steps}
        if not stuck:
            return done
        t, phase, _ = min(stuck)
        hopeless |= {(phase, node, t) for at, of, node in stuck if (at, of) == (t, phase)}


def _heard(
    n: int,
    servers: int,
    rows: int,
    models: int,
    every: int,
    steps: int,
    computing: Callable[[int, int], float],
    delay: Callable[[int, int, int, int], float],
    leaves: Callable[[tuple[str, int], tuple[str, int], float], float],
    dead: Callable[[int, float], bool],
    dies: Sequence[tuple[float, int]],
    hopeless: set[tuple[int, int, int]],
) -> tuple[dict[tuple[int, int, int], tuple[float, list[int]]], dict[tuple[str, int], tuple[int, int]]]:
    """The result of `heard`, and the number of messages that each node waits for in the end."""
    queue: list[tuple[float, int, int, int, int]] = []
    inbox: dict[tuple[int, int, int], dict[int, float]] = {}
    done: dict[tuple[int, int, int], tuple[float, list[int]]] = {}
    # the phase and round that each node waits for
    busy: set[int] = set()
    waits = {("server", i): (UPDATE, 0) for i in range(servers)} | {("worker", j): (PULL, 0) for j in range(n)}

    def send(now: float, phase: int, t: int, sender: int, receivers: int) -> None:
        for receiver in range(receivers):
            own = phase == GATHER and sender == receiver
            if phase == GATHER and (t + 1) % every and not own:
                continue
            ends = (
                ("worker" if phase == UPDATE else "server", sender),
                ("worker" if phase == PULL else "server", receiver),
            )
            arrival = now if own else leaves(*ends, now) + delay(phase, t, sender, receiver)
            if arrival < float("inf"):
                heapq.heappush(queue, (arrival, t, phase, sender, receiver))

    def work(now: float, worker: int, t: int) -> None:
        if t < steps:
            busy.add(worker)
            heapq.heappush(queue, (now + computing(worker, t), t, WORK, worker, worker))

    def go_on(now: float, node: tuple[str, int]) -> None:
        while True:
            phase, t = waits[node]
            if (phase, node[1], t) in hopeless:
                # the step after it, in this round or the next
                waits[node] = {UPDATE: (GATHER, t), GATHER: (UPDATE, t + 1), PULL: (PULL, t + 1)}[phase]
                continue
            needed = rows if phase == UPDATE else 1 if phase == GATHER and (t + 1) % every else models
            there = inbox.get((phase, node[1], t), {})
            if t == steps or len(there) < needed or (phase == PULL and node[1] in busy):
                return
            first = sorted(there, key=lambda sender: (there[sender], sender))[:needed]
            done[phase, node[1], t] = now, sorted(first)
            if phase == UPDATE:
                waits[node] = GATHER, t
                send(now, GATHER, t, node[1], servers)
                return
            if phase == GATHER:
                waits[node] = UPDATE, t + 1
                send(now, PULL, t, node[1], n)
            else:
                waits[node] = PULL, t + 1
                work(now, node[1], t + 1)
                return

    for second, server in dies:
        heapq.heappush(queue, (second, -1, -1, server, server))
    for worker in range(n):
        work(0.0, worker, 0)
    # for those who wait for what never comes
    for server in range(servers):
        go_on(0.0, ("server", server))
    while queue:
        now, t, phase = queue[0][:3]
        touched = []
        if phase < 0:
            # with the messages that it had
            *_, server = heapq.heappop(queue)
            for at in [at for at in inbox if at[0] != PULL and at[1] == server]:
                del inbox[at]
            continue
        while queue and queue[0][:3] == (now, t, phase):
            *_, sender, receiver = heapq.heappop(queue)
            if phase == WORK:
                busy.discard(sender)
                send(now, UPDATE, t, sender, servers)
            elif phase == PULL or not dead(receiver, now):
                inbox.setdefault((phase, receiver, t), {})[sender] = now
            touched.append(("worker" if phase in (WORK, PULL) else "server", receiver))
        for node in sorted({*touched}):
            go_on(now, node)
    return done, waits


def train(given: dict[str, Any], drawn: Drawn, taken: Callable[[int, int, int], list[int]]) -> np.ndarray:
    """The models of all servers at the start and after each round, `[T + 1, servers, d]`, in float64.

    Byzantine workers send rows with the other sign; Byzantine servers send, seen from the receiver's model, models the
    other way. The rule is the median, or the trimmed mean of f rows on each side.

    Args:
        given: The scenario.
        drawn: The draws of byzax.
        taken: The senders of the messages that a node took, by phase, node and round.
    """
    topology, (n, f) = given["topology"], (given["workers"]["total"], given["workers"]["byzantine"])
    servers, liars, memory = topology["servers"], topology["byzantine_servers"], Memory(drawn)
    rate, beta = given["optimizer"]["learning_rate"], given["optimizer"].get("momentum", 0.0)
    models, velocity = [np.array([drawn.first] * servers)], np.zeros((servers, len(drawn.first)))
    at = [drawn.first] * n

    def agreed(seen_from: np.ndarray, sent: np.ndarray, senders: list[int], honest: bool) -> np.ndarray:
        lies = [honest and sender < liars for sender in senders]
        received = [2 * seen_from - sent[k] if lie else sent[k] for k, lie in zip(senders, lies, strict=True)]
        return np.median(received, axis=0)

    for t in range(given["steps"]):
        rows = [row_of(given, drawn, FORMULAS, memory, Row(worker=j, job=t, version=0), [at[j]]) for j in range(n)]
        half = []
        for i, w in enumerate(models[-1]):
            senders = taken(UPDATE, i, t)
            lies = [i >= liars and j < f for j in senders]
            received = np.array([-rows[j] if lie else rows[j] for j, lie in zip(senders, lies, strict=True)])
            if given["rule"] == "median":
                aggregate = np.median(received, axis=0)
            else:
                aggregate = np.sort(received, axis=0)[f : len(received) - f].mean(axis=0)
            velocity[i] = beta * velocity[i] + aggregate
            half.append(w - rate * velocity[i])
        after = [agreed(models[-1][i], np.array(half), taken(GATHER, i, t), honest=i >= liars) for i in range(servers)]
        models.append(np.array(after))
        at = [agreed(at[j], models[-1], taken(PULL, j, t), honest=j >= f) for j in range(n)]
    return np.array(models)
