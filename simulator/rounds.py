"""Rounds of several kinds of node in virtual time: each node goes on once it has the first messages of others."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from byzax.simulator import interrupts
from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.durations import BLOCK, MessageBits, Way, build_draws, build_links
from byzax.simulator.timeline import Outcome, RoundTimes, Rows, Timeline


class RoundStep(NamedTuple):
    """A step that the nodes of a kind take in each round.

    Attributes:
        name: Its name.
        kind: The kind of its nodes.
        senders: For each node the nodes whose messages of this round it may read, rising; none for a step that reads
            none.
        reads: The step whose messages these are, an earlier one of the round; empty for none.
        quorum: The number of messages that a node waits for: it reads the first to arrive, and of several at the same
            second those of the nodes with the lowest numbers. None for all.
        works: Whether it is the job of a worker, and takes the time of one; other steps take none.
        every: Rounds from one in which messages of others are read to the next, the first of them after as many rounds;
            in all others a node reads its own alone.
        size: The size of a message that it reads, in models: 1 / m for one of m equal parts.
    """

    name: str
    kind: str
    senders: tuple[tuple[int, ...], ...]
    reads: str = ""
    quorum: int | None = None
    works: bool = False
    every: int = 1
    size: float = 1.0

    def quorum_of(self, node: int) -> int:
        """The number of messages that a node waits for."""
        return len(self.senders[node]) if self.quorum is None else self.quorum


class Rounds(NamedTuple):
    """The steps of a round, in their order. A round is an update of the run.

    Attributes:
        steps: The steps, of which one works.
        ends: The step with which a round ends.
        honest: The nodes that have to take that step: a round ends when all of them have that can. Where none can, the
            run ends.
    """

    steps: tuple[RoundStep, ...]
    ends: str
    honest: tuple[int, ...]

    def way(self, step: RoundStep) -> Way:
        """The direction of the messages that a step reads."""
        (worker,) = (each.kind for each in self.steps if each.works)
        (sender,) = (each.kind for each in self.steps if each.name == step.reads)
        if sender == step.kind:
            return "peer"
        return "up" if sender == worker else "down" if step.kind == worker else "peer"


# The spells in which a node is alive: the seconds at which each begins and ends.
Spells = list[tuple[float, float]]


def plan_rounds(rounds: Rounds, steps: int, source: LatencyPart, seed: int, bits: MessageBits) -> Timeline:
    """The timeline of a run in rounds.

    A node takes the steps of its kind one after the other, each once it is done with the one before and has its
    messages. Messages go over links with delays of their own: from workers to other nodes by `latency.up`, from these
    to workers by `latency.down`, and between nodes of one kind by `latency.peer`; its own message a node has at once. A
    node that gets too few messages, because they are lost or their senders are dead, does not take the step, and goes
    on with the next round for which it gets enough.

    Args:
        rounds: The steps of a round.
        steps: Number of rounds.
        source: The latency in a scenario.
        seed: Seed of the run.
        bits: Bits of messages.

    Returns:
        The timeline, whose `rounds` say what each node did when, and which messages it read.

    Raises:
        ScenarioError: As `build_draws`.
    """
    (job,) = (step for step in rounds.steps if step.works)
    n = len(job.senders)
    draws, spells = build_draws(source, n, seed, bits), _spells(source)
    links = {
        step.name: build_links(source, seed, getattr(bits, way) * step.size, way, step.senders)
        for step, way in ((step, rounds.way(step)) for step in rounds.steps if step.reads)
    }
    found = {step.name: _nothing(step, steps) for step in rounds.steps}
    # of jobs: when each was begun, and when its row arrived first anywhere
    begun_s, arrived_s = np.full((2, steps, n), np.inf)
    free = {step.kind: np.zeros(len(step.senders)) for step in rounds.steps}
    goes_on = {step.kind: np.ones(len(step.senders), bool) for step in rounds.steps}
    time_s, now, ended, stopped = np.zeros(steps), 0.0, steps, ""
    computing, delays = np.empty((0, n)), {}
    for t in range(steps):
        at = t % BLOCK
        if not at:
            interrupts.check()
            computing = np.stack([draw(t, BLOCK).compute for draw in draws], axis=1)
            delays = {name: draw(t, BLOCK) for name, draw in links.items()}
        for step in rounds.steps:
            mortal = spells if step.kind == job.kind else {}
            times = found[step.name]
            if step.reads:
                delay_s, lost = (each[at] for each in delays[step.name])
                there_s = np.where(lost, np.inf, _sent_s(step, found[step.reads].end_s[t]) + delay_s)
                begin_s, times.taken[t] = _first(step, t, there_s, free[step.kind], mortal)
                if step.reads == job.name:
                    for node, senders in enumerate(step.senders):
                        np.minimum.at(arrived_s[t], list(senders), there_s[node, : len(senders)])
            else:
                begin_s = np.where(goes_on[step.kind], free[step.kind], np.inf)
            end_s = begin_s
            if step.works:
                begun_s[t] = begin_s
                end_s = begin_s + computing[at]
                for node, alive in mortal.items():
                    if not any(begin <= begin_s[node] and end_s[node] <= end for begin, end in alive):
                        # with what it was at
                        begin_s[node] = end_s[node] = np.inf
            goes_on[step.kind] = np.isfinite(end_s)
            times.begin_s[t], times.end_s[t] = begin_s, end_s
            free[step.kind] = np.where(np.isfinite(end_s), end_s, free[step.kind])
        ends = found[rounds.ends].end_s[t, list(rounds.honest)]
        if not np.isfinite(ends).any():
            ended, stopped = t, _why(rounds, found, t)
            break
        time_s[t] = now = max(now, ends[np.isfinite(ends)].max())
    kept = tuple(times.until(ended) for times in found.values())
    return _timeline(rounds, job, kept, begun_s[:ended], arrived_s[:ended], time_s[:ended], stopped)


def _spells(source: LatencyPart) -> dict[int, Spells]:
    """The spells of life of the workers that die."""
    found: dict[int, Spells] = {}
    for crash in sorted(source.crashes, key=lambda crash: (crash.worker, crash.at)):
        mine = found.setdefault(crash.worker, [(0.0, np.inf)])
        mine[-1] = mine[-1][0], crash.at
        if crash.back is not None:
            mine.append((crash.back, np.inf))
    return found


def _nothing(step: RoundStep, steps: int) -> RoundTimes:
    nodes, most = len(step.senders), max(map(len, step.senders), default=0)
    begin_s, end_s = np.full((2, steps, nodes), np.inf)
    return RoundTimes(begin_s, end_s, np.zeros((steps, nodes, most), bool), step.name)


def _sent_s(step: RoundStep, end_s: np.ndarray) -> np.ndarray:
    """The second at which each message that a node may read was sent, `[nodes, k]`; infinite for none."""
    most = max(map(len, step.senders))
    places = np.array([[*senders, *[-1] * (most - len(senders))] for senders in step.senders])
    return np.where(places >= 0, end_s[places], np.inf)


def _first(
    step: RoundStep, t: int, there_s: np.ndarray, free_s: np.ndarray, mortal: Mapping[int, Spells]
) -> tuple[np.ndarray, np.ndarray]:
    """The second at which each node has its messages and is free, infinite for never, and which they are."""
    quorums = np.array([step.quorum_of(node) for node in range(len(step.senders))])
    if (t + 1) % step.every:
        own = [place for node, those in enumerate(step.senders) for place in [those.index(node)]]
        mine = np.arange(there_s.shape[1]) == np.array(own)[:, None]
        quorums, there_s = np.ones_like(quorums), np.where(mine, there_s, np.inf)
    order = np.argsort(there_s, axis=1, kind="stable")
    last_s = np.take_along_axis(there_s, order[np.arange(len(order)), quorums - 1][:, None], axis=1)[:, 0]
    taken = np.zeros(there_s.shape, bool)
    np.put_along_axis(taken, order, np.arange(there_s.shape[1]) < quorums[:, None], axis=1)
    taken &= np.isfinite(last_s)[:, None]
    begin_s = np.maximum(free_s, last_s)
    for node, alive in mortal.items():
        begin_s[node], taken[node] = np.inf, False
        for begin, end in alive:
            # messages that arrive at a dead node are lost, and those that it had die with it
            heard = [place for place in order[node] if begin <= there_s[node, place] < end][: quorums[node]]
            if len(heard) == quorums[node] and max(free_s[node], there_s[node, heard[-1]]) < end:
                begin_s[node] = max(free_s[node], there_s[node, heard[-1]])
                taken[node, heard] = True
                break
    return begin_s, taken


def _why(rounds: Rounds, found: Mapping[str, RoundTimes], t: int) -> str:
    """The reason why no honest node ends a round."""
    for step in rounds.steps:
        if step.reads and not np.isfinite(found[step.name].end_s[t]).any():
            sent = int(np.isfinite(found[step.reads].end_s[t]).sum())
            return (
                f"update {t + 1} never happens: a {step.kind} waits for {step.quorum_of(0)} messages of the step "
                f"{step.reads}, and {sent} are sent, of which some may be lost"
            )
    return f"update {t + 1} never happens: no honest node takes the step {rounds.ends}"


def _timeline(
    rounds: Rounds,
    job: RoundStep,
    times: tuple[RoundTimes, ...],
    begun_s: np.ndarray,
    arrived_s: np.ndarray,
    time_s: np.ndarray,
    stopped: str,
) -> Timeline:
    by_name = {each.step: each for each in times}
    count, n = begun_s.shape
    used = np.zeros((count, n), bool)
    for step in rounds.steps:
        if step.reads == job.name:
            for node, senders in enumerate(step.senders):
                used[:, list(senders)] |= by_name[step.name].taken[:, node, : len(senders)]
    started_s = np.where(np.isfinite(begun_s), begun_s, 0)
    handing = [step for step in rounds.steps if step.kind == job.kind and step.reads]
    if handing and count > 1:
        # the last of the messages from which it has its model
        reads, sent_s = by_name[handing[-1].name].taken, by_name[handing[-1].reads].end_s
        for node, senders in enumerate(handing[-1].senders):
            mine = np.where(reads[:-1, node, : len(senders)], sent_s[:-1, list(senders)], -np.inf).max(axis=1)
            started_s[1:, node] = np.where(np.isfinite(mine), mine, started_s[1:, node])
        started_s[0] = 0
    begun = np.isfinite(begun_s)
    numbers = np.cumsum(begun, axis=0) - 1
    update, worker = np.broadcast_to(np.arange(count)[:, None], begun.shape), np.broadcast_to(np.arange(n), begun.shape)

    def rows_of(which: np.ndarray) -> Rows:
        computed, there = by_name[job.name].end_s, arrived_s
        return Rows(
            *(each[which].astype(np.int32) for each in (worker, numbers, update, update)),
            *(np.where(np.isfinite(each), each, np.nan)[which] for each in (started_s, begun_s, computed, there)),
        )

    unused = rows_of(begun & ~used)
    end = time_s[-1] if count else 0.0
    late = np.where(unused.arrived_s > end, Outcome.UNFINISHED, Outcome.DROPPED)
    return Timeline(
        rows=rows_of(used),
        first=np.concatenate([[0], np.cumsum(used.sum(axis=1))]),
        seen=np.full(count, next(step.quorum_of(0) for step in rounds.steps if step.reads == job.name)),
        time_s=time_s,
        unused=unused,
        outcomes=np.where(np.isnan(unused.arrived_s), Outcome.LOST, late).astype(np.int8),
        stopped=stopped,
        rounds=times,
    )
