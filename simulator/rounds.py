"""Rounds of several kinds of node in virtual time: each node goes on once it has the first messages of others."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from byzax.simulator import interrupts
from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.durations import BLOCK, MessageBits, Way, build_draws, build_links
from byzax.simulator.outages import build_departures
from byzax.simulator.quorums import alive_s, dies_s, first_messages, spells_of, still_comes
from byzax.simulator.timeline import Outcome, RoundTimes, Rows, Timeline


class RoundStep(NamedTuple):
    """A step that the nodes of a kind take in each round.

    Attributes:
        name: Its name.
        kind: The kind of its nodes.
        senders: For each node the nodes whose messages of this round it may read, rising; none for a step that reads
            none.
        reads: The step whose messages these are, an earlier one of the round; empty for none.
        quorum: The number of messages that a node waits for, or all where it may read fewer: it reads the first to
            arrive, and of several at the same second those of the nodes with the lowest numbers. None for all.
        works: Whether it is the job of a worker, and takes the time of one; other steps take none.
        every: Rounds from one in which messages of others are read to the next, the first of them after as many rounds;
            in all others a node reads its own alone.
        size: The size of a message that it reads, in models: 1 / m for one of m equal parts; where they differ that of
            the messages of each sender, or to each receiver.
        sized_by: The end of a message that has these sizes.
        alone: Whether a node reads its own message in any case, as one of the quorum, and it alone where it gets too
            few others. Such a step follows the job, of the same kind of node.
        joined: Gives of the seed of a run and a round whose messages each node may read in it, `[nodes, k]`, its own
            among them, and waits for where they are fewer than the quorum. None where it is always all senders.
    """

    name: str
    kind: str
    senders: tuple[tuple[int, ...], ...]
    reads: str = ""
    quorum: int | None = None
    works: bool = False
    every: int = 1
    size: float | tuple[float, ...] = 1.0
    sized_by: Literal["sender", "receiver"] = "sender"
    alone: bool = False
    joined: Callable[[int, int], np.ndarray] | None = None

    def bits_of(self, sender: int, receiver: int, bits: float) -> float:
        """The bits of the message that a node reads of another one, where a model has so many."""
        node = sender if self.sized_by == "sender" else receiver
        return float(round(bits * (self.size[node] if isinstance(self.size, tuple) else self.size)))

    def largest_bits(self, bits: float) -> float:
        """The bits of the largest message that it reads, where a model has so many: the times of all links go by it."""
        return float(round(bits * (max(self.size) if isinstance(self.size, tuple) else self.size)))

    def quorum_of(self, node: int) -> int:
        """The number of messages that a node waits for."""
        most = len(self.senders[node])
        return most if self.quorum is None else min(self.quorum, most)

    def quorums(self, seed: int, t: int) -> np.ndarray:
        """The number of messages that each node waits for in a round of the run with a seed, `[nodes]`."""
        found = np.array([self.quorum_of(node) for node in range(len(self.senders))])
        return found if self.joined is None else np.minimum(found, self.joined(seed, t).sum(axis=1))


class Rounds(NamedTuple):
    """The steps of a round, in their order. A round is an update of the run.

    Attributes:
        steps: The steps, of which one works.
        ends: The step with which a round ends.
        honest: The nodes that have to take that step: a round ends when all of them have that can. Where none can, the
            run ends.
        pairs: Whether a round is one exchange of two nodes and no round of all. See `pairings.py`.
        exchanges: Whether steps that read are exchanges among workers, of which a node sends one message at a time and
            receives one at a time. See `plan_exchanges`.
    """

    steps: tuple[RoundStep, ...]
    ends: str
    honest: tuple[int, ...]
    pairs: bool = False
    exchanges: bool = False

    def way(self, step: RoundStep) -> Way:
        """The direction of the messages that a step reads."""
        (worker,) = (each.kind for each in self.steps if each.works)
        (sender,) = (each.kind for each in self.steps if each.name == step.reads)
        if sender == step.kind:
            return "peer"
        return "up" if sender == worker else "down" if step.kind == worker else "peer"


def plan_rounds(rounds: Rounds, steps: int, source: LatencyPart, seed: int, bits: MessageBits) -> Timeline:
    """The timeline of a run in rounds.

    A node takes the steps of its kind one after the other, each once it is done with the one before and has its
    messages. Messages go over links with delays of their own: from workers to other nodes by `latency.up`, from these
    to workers by `latency.down`, and between nodes of one kind by `latency.peer`; its own message a node has at once. A
    node that gets too few messages, because they are lost or their senders are dead, does not take the step, and goes
    on with the next round for which it gets enough. Where nodes go on alone, one that is back from the dead begins with
    the first round of which a message of another still comes.

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
    draws, spells = build_draws(source, n, seed, bits), spells_of(source)
    posts = {step.name: _build_post(rounds, step, source, seed, bits) for step in rounds.steps if step.reads}
    mixing = next((step for step in rounds.steps if step.alone), None)
    found = {step.name: no_times(step, steps) for step in rounds.steps}
    # of jobs: when each was begun, when its row arrived first anywhere, and when its worker died in the middle of it
    begun_s, arrived_s, died_s = np.full((3, steps, n), np.inf)
    free = {step.kind: np.zeros(len(step.senders)) for step in rounds.steps}
    goes_on = {step.kind: np.ones(len(step.senders), bool) for step in rounds.steps}
    # how many messages each node got, in this round and the one before
    got = {name: deque[np.ndarray](maxlen=2) for name in posts}
    # nodes that died, and have not begun a round since
    away = np.zeros(n, bool)
    time_s, now, ended, stopped = np.zeros(steps), 0.0, steps, ""
    computing = np.empty((0, n))
    for t in range(steps):
        at = t % BLOCK
        if not at:
            interrupts.check()
            computing = np.stack([draw(t, BLOCK).compute for draw in draws], axis=1)
        for step in rounds.steps:
            mortal = spells.get(step.kind, {})
            times = found[step.name]
            if step.reads:
                there_s = posts[step.name](t, found[step.reads].end_s[t])
                got[step.name].append(np.isfinite(there_s).sum(axis=1))
                begin_s, times.taken[t] = first_messages(
                    step, t, step.quorums(seed, t), there_s, free[step.kind], mortal
                )
                if step.reads == job.name:
                    for node, senders in enumerate(step.senders):
                        np.minimum.at(arrived_s[t], list(senders), there_s[node, : len(senders)])
            elif mixing is not None:
                begin_s = alive_s(free[step.kind], mortal)
            else:
                begin_s = np.where(goes_on[step.kind], free[step.kind], np.inf)
            end_s = begin_s
            if step.works:
                end_s = begin_s + computing[at]
                if mixing is not None and away.any():
                    there_s = posts[mixing.name](t, end_s)
                    begin_s = np.where(away & ~still_comes(mixing, there_s, begin_s), np.inf, begin_s)
                    end_s = begin_s + computing[at]
                begun_s[t] = begin_s
                for node, alive in mortal.items():
                    dies = dies_s(alive, begin_s[node])
                    if end_s[node] > dies or (mixing is not None and end_s[node] == dies):
                        # with what it was at
                        if mixing is not None and np.isfinite(dies):
                            free[step.kind][node] = dies
                        died_s[t, node] = dies
                        begin_s[node] = end_s[node] = np.inf
                away = ~np.isfinite(end_s)
            goes_on[step.kind] = np.isfinite(end_s)
            times.begin_s[t], times.end_s[t] = begin_s, end_s
            free[step.kind] = np.where(np.isfinite(end_s), end_s, free[step.kind])
        ends = found[rounds.ends].end_s[t, list(rounds.honest)]
        if not np.isfinite(ends).any():
            ended, stopped = t, why_none(rounds, found, got, t)
            break
        time_s[t] = now = max(now, ends[np.isfinite(ends)].max())
    kept = tuple(times.until(ended) for times in found.values())
    begun_s, arrived_s, died_s = (each[:ended] for each in (begun_s, arrived_s, died_s))
    return timeline_of(rounds, job, kept, begun_s, arrived_s, died_s, time_s[:ended], stopped)


# Gives of a round and the seconds at which messages of it are sent, by their senders, those at which they are there,
# `[nodes, k]`; infinite for those that never are.
Post = Callable[[int, np.ndarray], np.ndarray]


def _build_post(rounds: Rounds, step: RoundStep, source: LatencyPart, seed: int, bits: MessageBits) -> Post:
    """Builds the way of the messages that a step reads."""
    way = rounds.way(step)
    draw = build_links(source, seed, step.largest_bits(getattr(bits, way)), way, step.senders)
    (sender,) = (each.kind for each in rounds.steps if each.name == step.reads)
    pairs = [(node, place) for node, those in enumerate(step.senders) for place in range(len(those))]
    links = [((sender, step.senders[node][place]), (step.kind, node)) for node, place in pairs]
    places, departures = tuple(np.array(pairs).T), build_departures(source.outages, links)
    drawn: tuple[np.ndarray, np.ndarray] = np.empty(0), np.empty(0)
    first = -1

    def post(t: int, end_s: np.ndarray) -> np.ndarray:
        nonlocal drawn, first
        if t // BLOCK != first:
            first, drawn = t // BLOCK, draw(t, BLOCK)
        delay_s, lost = (each[t % BLOCK] for each in drawn)
        sent_s = _sent_s(step, end_s)
        if source.outages:
            leaves_s, missing = departures(sent_s[places])
            sent_s[places] = np.where(missing, np.inf, leaves_s)
        if step.joined is not None:
            lost = lost | ~step.joined(seed, t)
        return np.where(lost, np.inf, sent_s + delay_s)

    return post


def no_times(step: RoundStep, steps: int) -> RoundTimes:
    """The times of a step that nobody has taken in so many rounds."""
    nodes, most = len(step.senders), max(map(len, step.senders), default=0)
    begin_s, end_s = np.full((2, steps, nodes), np.inf)
    return RoundTimes(begin_s, end_s, np.zeros((steps, nodes, most), bool), step.name)


def _sent_s(step: RoundStep, end_s: np.ndarray) -> np.ndarray:
    """The second at which each message that a node may read was sent, `[nodes, k]`; infinite for none."""
    most = max(map(len, step.senders))
    places = np.array([[*senders, *[-1] * (most - len(senders))] for senders in step.senders])
    return np.where(places >= 0, end_s[places], np.inf)


def why_none(rounds: Rounds, found: Mapping[str, RoundTimes], got: Mapping[str, Sequence[np.ndarray]], t: int) -> str:
    """The reason why no honest node ends a round: the first step that none takes, and what one of its nodes misses.

    Args:
        rounds: The steps of a round.
        found: The times of all steps, by their names.
        got: The number of messages that each node got for a step, `[nodes]`, in the round, and before that in the one
            before it.
        t: The round.

    Returns:
        The reason in words.
    """
    never = f"update {t + 1} never happens"
    names = [step.name for step in rounds.steps]
    for place, step in enumerate(rounds.steps):
        if np.isfinite(found[step.name].end_s[t]).any():
            continue
        back = 0
        if not step.reads:
            # who has no model from the round before does not begin
            handing = [each for each in rounds.steps if each.kind == step.kind and each.reads]
            if t == 0 or not handing or names.index(handing[-1].name) < place:
                return f"{never}: no {step.kind} is alive: leave some of latency.crashes out"
            step, back = handing[-1], 1
        node = rounds.honest[0] if step.kind == _kind(rounds, rounds.ends) else 0
        if got[step.name][-1 - back][node] >= step.quorum_of(node):
            return (
                f"{never}: no {step.kind} takes the step {step.name}{' of the update before' * back}: {step.kind} "
                f"{node} gets the messages that it waits for, and is dead by then: leave some of latency.crashes out"
            )
        sent = int(np.isfinite(found[step.reads].end_s[t - back][list(step.senders[node])]).sum())
        return (
            f"{never}: no {step.kind} takes the step {step.name}{' of the update before' * back}: {step.kind} {node} "
            f"waits for {step.quorum_of(node)} messages of the step {step.reads}, of which {sent} are sent to it and "
            f"{int(got[step.name][-1 - back][node])} get there: choose smaller quorums in the topology, or fewer lost "
            "messages, crashes and outages in latency"
        )
    return f"{never}: no honest node takes the step {rounds.ends}"


def _kind(rounds: Rounds, name: str) -> str:
    return next(step.kind for step in rounds.steps if step.name == name)


def timeline_of(
    rounds: Rounds,
    job: RoundStep,
    times: tuple[RoundTimes, ...],
    begun_s: np.ndarray,
    arrived_s: np.ndarray,
    died_s: np.ndarray,
    time_s: np.ndarray,
    stopped: str,
) -> Timeline:
    """The timeline of a run in T rounds with n workers.

    Args:
        rounds: The steps of a round.
        job: The one that works.
        times: The times of all steps.
        begun_s: `[T, n]`, the second at which each job was begun; infinite for none.
        arrived_s: `[T, n]`, the second at which its row was there at the first node; infinite for none.
        died_s: `[T, n]`, the second at which the worker died in the middle of each; infinite where it did not.
        time_s: `[T]`, the second of each update.
        stopped: The reason why the run ends early; empty where it does not.

    Returns:
        The timeline.
    """
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
        # a job is over when its worker dies
        computed, there = (np.minimum(each, died_s) for each in (by_name[job.name].end_s, arrived_s))
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
        outcomes=np.where(np.isnan(unused.arrived_s) | np.isfinite(died_s[begun & ~used]), Outcome.LOST, late).astype(
            np.int8
        ),
        stopped=stopped,
        rounds=times,
    )
