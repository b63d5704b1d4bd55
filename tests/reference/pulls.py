"""ByzSGD's synchronous variant: the models that workers pull and keep, and those of all servers. Python and NumPy."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tests.reference.schedule import Row
from tests.reference.training import FORMULAS, Drawn, Memory, Vector, row_of


class Reading(NamedTuple):
    """The models of servers and workers `[T + 1, ...]`, and how many a worker pulled from a server in a round, `[T,
    servers, n]`; beside them the rounds in which no server's model passed, as worker and round."""

    servers: np.ndarray
    workers: np.ndarray
    pulled: np.ndarray
    alone: set[tuple[int, int]]


class Choices(Protocol):
    """The places in which codes could differ; a mutant has another one of them."""

    def server(self, first: int, t: int, tries: int, servers: int) -> int:
        """The server that is asked."""
        return (first + t + tries) % servers

    def share(self, servers: int, liars: int) -> float:
        """The share of Lipschitz coefficients up to which one passes."""
        return (servers - liars) / servers

    def is_smooth(self, coefficient: float, known: Sequence[float], share: float) -> bool:
        """The Lipschitz filter."""
        if not known:
            return True
        at_most = [value for value in sorted(known) if sum(v <= value for v in known) >= share * len(known) - 1e-9]
        return coefficient <= at_most[0]

    def is_near(self, distance: float, first_step: float, t: int, every: int, n: int, f: int) -> bool:
        """The models filter."""
        return distance < first_step * ((3 * every + 2) * (n - f) / (4 * f) + 2 * ((t - 1) % every))


class Paper(Choices):
    """The choices of the definition."""


def train(given: dict[str, Any], drawn: Drawn, first: Sequence[int], choices: Choices) -> Reading:
    """The run of a scenario in float64.

    Byzantine workers send servers of even number the honest mean less 1.5 deviations, and those of odd number the mean
    and 1.5 deviations; Byzantine servers send models the other way, seen from the receiver's, so many times as far. The
    rule is the trimmed mean of f rows on each side.

    Args:
        given: The scenario.
        drawn: The draws of byzax.
        first: The server that each worker begins with, `[n]`.
        choices: The choices.
    """
    topology, n, f = given["topology"], given["workers"]["total"], given["workers"]["byzantine"]
    servers, liars, every = topology["servers"], topology["byzantine_servers"], topology["gather_every"]
    scale, window, rate = topology["server_attack"]["scale"], topology["window"], given["optimizer"]["learning_rate"]
    beta, memory = given.get("worker_momentum", {}).get("beta", 0.0), Memory(drawn)
    plain = {key: value for key, value in given.items() if key != "worker_momentum"}

    def gradient(worker: int, job: int, at: Vector) -> Vector:
        return row_of(plain, drawn, FORMULAS, memory, Row(worker=worker, job=job, version=0), [at])

    def received(seen_from: Vector, sent: Sequence[Vector], honest: bool) -> list[Vector]:
        return [seen_from + scale * (seen_from - each) if honest and i < liars else each for i, each in enumerate(sent)]

    w, at = [drawn.first] * servers, [drawn.first] * n
    g = [gradient(j, 0, at[j]) for j in range(n)]
    reach = [rate * np.linalg.norm(each) for each in g]
    velocity = np.zeros((n, len(drawn.first)))
    known: list[list[float]] = [[] for _ in range(n)]
    models, theirs, pulled, alone = [w], [at], [], set()
    for t in range(given["steps"]):
        if t % every == 0:
            g = [gradient(j, t, at[j]) for j in range(n)]
            reach = [rate * np.linalg.norm(each) for each in g]
        velocity = beta * velocity + (1 - beta) * np.array(g) if beta else np.array(g)
        honest, half = velocity[f:], []
        for i in range(servers):
            lie = honest.mean(axis=0) + (-1.5 if i % 2 == 0 else 1.5) * honest.std(axis=0)
            rows = np.array([*(velocity[:f] if i < liars else [lie] * f), *honest])
            half.append(w[i] - rate * np.sort(rows, axis=0)[f : n - f].mean(axis=0))
        gathers, asked = (t + 1) % every == 0, np.zeros((servers, n), int)
        w = [np.median(received(w[i], half, i >= liars), axis=0) if gathers else half[i] for i in range(servers)]
        after = []
        for j in range(n):
            offered = received(at[j], w, j >= f)
            if gathers:
                after.append(np.median(offered, axis=0))
                continue
            guess, tries, last = at[j] - rate * g[j], 0, g[j]
            while True:
                if tries == servers:
                    alone.add((j, t))
                    after.append(guess)
                    g[j] = gradient(j, t + 1, guess)
                    break
                i = choices.server(first[j], t, tries, servers)
                asked[i, j] += 1
                tries += 1
                g[j] = gradient(j, t + 1, offered[i])
                coefficient = float(np.linalg.norm(g[j] - last) / (rate * np.linalg.norm(last)))
                smooth = choices.is_smooth(coefficient, known[j], choices.share(servers, liars))
                known[j] = [*known[j], coefficient][-window:]
                distance = float(np.linalg.norm(offered[i] - guess))
                if smooth and choices.is_near(distance, float(reach[j]), t, every, n, f):
                    after.append(offered[i])
                    break
        at = after
        models.append(w)
        theirs.append(at)
        pulled.append(asked)
    return Reading(np.array(models), np.array(theirs), np.array(pulled), alone)
