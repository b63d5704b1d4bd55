"""Exchanges of pairs of nodes in virtual time: a node that is done with its job draws a neighbour."""

import heapq
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from byzax.simulator import interrupts
from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.durations import BLOCK, MessageBits, build_draws, build_links, iterate_jobs
from byzax.simulator.keys import Purpose, generator
from byzax.simulator.outages import build_departures
from byzax.simulator.quorums import Spells, alive_s, dies_s, spells_of
from byzax.simulator.rounds import Rounds
from byzax.simulator.timeline import Outcome, RoundTimes, Rows, Timeline, timeline


class Attempt(NamedTuple):
    """A job of a node, and the exchange after it.

    Attributes:
        partner: The neighbour that it draws.
        begun_s: The second at which it begins the job.
        done_s: The second at which the job is done, and both send.
        lost: Whether one of the messages is lost.
        until_s: The second from which the links work, where an outage takes them.
    """

    partner: int
    begun_s: float
    done_s: float
    lost: bool
    until_s: float


class LostJob(NamedTuple):
    """A job whose row is lost.

    Attributes:
        node: The node that did it.
        job: Its number among those of the node.
        version: The version of the model that it was begun at.
        attempt: The job.
        over_s: The second at which it is over.
    """

    node: int
    job: int
    version: int
    attempt: Attempt
    over_s: float


def plan_pairs(rounds: Rounds, steps: int, source: LatencyPart, seed: int, bits: MessageBits) -> Timeline:
    """The timeline of a run whose updates are exchanges of two nodes each.

    A node does one job after the other. When it has done one it draws one of its neighbours, each with the same
    probability; both send what they have, and the exchange takes place when the slower of the two messages is there.
    The neighbour goes on with its job meanwhile; the node begins its next one then. Where one of the messages is lost,
    or one of the two is dead before it is there, the exchange does not take place, the job's row is lost, and the node
    does another one; a dead node once it is back, and one whose neighbours are all dead once one of them is.

    Args:
        rounds: Five steps: the job of a worker, the sending and the mixing of a peer, the taking of its model by the
            worker of the same number, and the showing of it. Whom a peer may hear stands in the third.
        steps: Number of exchanges.
        source: The latency in a scenario.
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
    draw_links, messages = build_links(source, seed, bits.peer, "peer", around), []
    others_of = [[other for other in those if other != node] for node, those in enumerate(around)]
    places = [{other: place for place, other in enumerate(those)} for those in around]
    most = max(map(len, around)) + 1
    times = {step.name: np.full((2, steps, n), np.inf) for step in rounds.steps}
    taken = np.zeros((steps, n, most), bool)
    workers, versions, numbers = np.zeros((3, steps, 1), np.int32)
    columns = {name: np.zeros((steps, 1)) for name in ("started_s", "received_s", "computed_s", "arrived_s")}
    version, count = np.zeros(n, int), np.zeros(n, int)
    spells = spells_of(source).get(job.kind, {})
    departures = cache(lambda one, other: build_departures(source.outages, [((job.kind, one), (job.kind, other))]))
    queue: list[tuple[float, int, Attempt]] = []
    lost: list[LostJob] = []

    def begin(node: int, now: float) -> None:
        now = _alive_from_s(spells, node, now)
        if not np.isfinite(now):
            return
        _, computing, _, _ = next(jobs[node])
        block, at = divmod(int(count[node]), BLOCK)
        while len(messages) <= block:
            messages.append(draw_links(len(messages) * BLOCK, BLOCK))
        others = others_of[node]
        partner, done_s = others[int(partners[node].integers(len(others)))], now + computing
        arrive_s, missing, until_s = done_s, False, done_s
        for to, by in ((node, partner), (partner, node)):
            (spans, gone), way = (each[at] for each in messages[block]), (to, places[to][by])
            leaves_s, cut = departures(by, to)(np.array([done_s])) if source.outages else ([done_s], [False])
            arrive_s = max(arrive_s, (done_s if cut[0] else float(leaves_s[0])) + float(spans[way]))
            missing, until_s = missing or bool(cut[0] or gone[way]), max(until_s, float(leaves_s[0]))
        heapq.heappush(queue, (arrive_s, node, Attempt(partner, now, done_s, missing, until_s)))

    for node in range(n):
        begin(node, 0.0)
    time_s, t, tries = np.zeros(steps), 0, 0
    while t < steps and queue:
        if not tries % BLOCK:
            interrupts.check()
        tries += 1
        now, node, made = heapq.heappop(queue)
        partner = made.partner
        mine_s, theirs_s = _dies_s(spells, node, made.begun_s), _dies_s(spells, partner, made.done_s)
        if made.lost or min(mine_s, theirs_s) <= now:
            over_s = min(mine_s, now)
            lost.append(LostJob(node, int(count[node]), int(version[node]), made, over_s))
            count[node] += 1
            # without time it would try for ever
            ready_s = made.until_s if over_s == made.begun_s else over_s
            begin(node, min(_alive_from_s(spells, each, ready_s) for each in others_of[node]))
            continue
        time_s[t], workers[t], versions[t], numbers[t] = now, node, version[node], count[node]
        for name, second in zip(columns, (made.begun_s, made.begun_s, made.done_s, now), strict=True):
            columns[name][t] = second
        times[job.name][:, t, node], times[taking.name][:, t, node] = made[1:3], now
        for one, other in ((node, partner), (partner, node)):
            for step in (sending, mixing, showing):
                times[step.name][:, t, one] = now
            taken[t, one, [places[one][one], places[one][other]]] = True
        taken[t, node, len(around[node])] = True
        version[node], count[node] = t + 1, count[node] + 1
        t += 1
        begin(node, now)
    stopped = "" if t == steps else (
        f"update {t + 1} never happens: no node is alive that has a neighbour alive: leave some of latency.crashes out"
    )  # fmt: skip
    found = timeline(
        workers[:t], versions[:t], numbers[:t], time_s[:t], np.full(t, 2),
        **{name: column[:t] for name, column in columns.items()},
    )  # fmt: skip
    nothing = np.zeros((t, n, 0), bool)
    reads = {mixing.name: taken[:t], taking.name: np.isfinite(times[taking.name][0, :t])[..., None]}
    return found._replace(
        unused=_lost_rows(lost),
        outcomes=np.full(len(lost), Outcome.LOST, np.int8),
        stopped=stopped,
        rounds=tuple(
            RoundTimes(begin_s[:t], end_s[:t], reads.get(name, nothing), name)
            for name, (begin_s, end_s) in times.items()
        ),
    )


def _alive_from_s(spells: Mapping[int, Spells], node: int, since_s: float) -> float:
    """The first second from one on at which a node is alive; infinite for never."""
    return float(alive_s(np.array([since_s]), {0: spells[node]} if node in spells else {})[0])


def _dies_s(spells: Mapping[int, Spells], node: int, at_s: float) -> float:
    """The second at which a node that is alive at one dies; before all others where it is not."""
    return dies_s(spells[node], at_s) if node in spells else np.inf


def _lost_rows(lost: Sequence[LostJob]) -> Rows:
    """The rows of jobs that are lost."""
    node, job, version = np.array([each[:3] for each in lost], np.int32).reshape(-1, 3).T
    seconds = [(each.attempt.begun_s, each.attempt.done_s, each.over_s) for each in lost]
    begun_s, done_s, over_s = np.array(seconds, float).reshape(-1, 3).T
    computed_s = np.where(done_s <= over_s, done_s, np.nan)
    return Rows(node, job, version, version, begun_s, begun_s, computed_s, over_s)
