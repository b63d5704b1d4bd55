"""Exchanges of pairs of nodes in virtual time: a node that is done with its job draws a neighbour."""

import heapq

import numpy as np

from byzax.simulator import interrupts
from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.durations import BLOCK, MessageBits, build_draws, build_links, iterate_jobs
from byzax.simulator.keys import Purpose, generator
from byzax.simulator.rounds import Rounds
from byzax.simulator.timeline import NO_ROWS, RoundTimes, Timeline, timeline


def plan_pairs(rounds: Rounds, steps: int, source: LatencyPart, seed: int, bits: MessageBits) -> Timeline:
    """The timeline of a run whose updates are exchanges of two nodes each.

    A node does one job after the other. When it has done one it draws one of its neighbours, each with the same
    probability; both send what they have, and the exchange takes place when the slower of the two messages is there.
    The neighbour goes on with its job meanwhile; the node begins its next one then.

    Args:
        rounds: Five steps: the job of a worker, the sending and the mixing of a peer, the taking of its model by the
            worker of the same number, and the showing of it. Whom a peer may hear stands in the third.
        steps: Number of exchanges.
        source: The latency in a scenario, of which nothing is lost and nobody dies.
        seed: Seed of the run.
        bits: Bits of messages.

    Returns:
        The timeline. Of the messages that a peer may read in mixing the last one is the row of its own worker.

    Raises:
        ScenarioError: As `build_draws`.
    """
    job, sending, mixing, taking, showing = rounds.steps
    around, n = mixing.senders, len(mixing.senders)
    jobs = [iterate_jobs(draw) for draw in build_draws(source, n, seed, bits)]
    partners = [generator(seed, Purpose.PARTNER, node) for node in range(n)]
    draw_links, delays = build_links(source, seed, bits.peer, "peer", around), []
    places = [{other: place for place, other in enumerate(those)} for those in around]
    most = max(map(len, around)) + 1
    times = {step.name: np.full((2, steps, n), np.inf) for step in rounds.steps}
    taken = np.zeros((steps, n, most), bool)
    workers, versions, numbers = np.zeros((3, steps, 1), np.int32)
    columns = {name: np.zeros((steps, 1)) for name in ("started_s", "received_s", "computed_s", "arrived_s")}
    version, count = np.zeros(n, int), np.zeros(n, int)
    queue: list[tuple[float, int, int, float, float]] = []

    def begin(node: int, now: float) -> None:
        _, computing, _, _ = next(jobs[node])
        block, at = divmod(int(count[node]), BLOCK)
        while len(delays) <= block:
            delays.append(draw_links(len(delays) * BLOCK, BLOCK)[0])
        others = [other for other in around[node] if other != node]
        partner = others[int(partners[node].integers(len(others)))]
        ways = (node, places[node][partner]), (partner, places[partner][node])
        heapq.heappush(
            queue, (now + computing + max(delays[block][at][way] for way in ways), node, partner, now, now + computing)
        )

    for node in range(n):
        begin(node, 0.0)
    time_s = np.zeros(steps)
    for t in range(steps):
        if not t % BLOCK:
            interrupts.check()
        now, node, partner, begun_s, done_s = heapq.heappop(queue)
        time_s[t], workers[t], versions[t], numbers[t] = now, node, version[node], count[node]
        for name, second in zip(columns, (begun_s, begun_s, done_s, now), strict=True):
            columns[name][t] = second
        times[job.name][:, t, node], times[taking.name][:, t, node] = (begun_s, done_s), now
        for one, other in ((node, partner), (partner, node)):
            for step in (sending, mixing, showing):
                times[step.name][:, t, one] = now
            taken[t, one, [places[one][one], places[one][other]]] = True
        taken[t, node, len(around[node])] = True
        version[node], count[node] = t + 1, count[node] + 1
        begin(node, now)
    made = timeline(workers, versions, numbers, time_s, np.full(steps, 2), **columns)
    nothing = np.zeros((steps, n, 0), bool)
    reads = {mixing.name: taken, taking.name: np.isfinite(times[taking.name][0])[..., None]}
    return made._replace(
        unused=NO_ROWS,
        rounds=tuple(
            RoundTimes(begin_s, end_s, reads.get(name, nothing), name) for name, (begin_s, end_s) in times.items()
        ),
    )
