"""The contract of the times of rounds: what a node reads is a quorum, and was sent to it before."""

import numpy as np
from numpy.typing import ArrayLike

from byzax.simulator.rounds import Rounds, RoundStep, no_times
from byzax.simulator.timeline import RoundTimes, Timeline


def check(rounds: Rounds, timeline: Timeline, seed: int) -> Timeline:
    """Checks that the times of all nodes can be those of a run.

    Args:
        rounds: The steps of a round.
        timeline: The timeline, of a plan, a race or a file.
        seed: Seed of the run.

    Returns:
        The same timeline.

    Raises:
        ValueError: Names the first step, update and node that cannot be, and what is wrong.
    """
    names = [each.step for each in timeline.rounds]
    if names != [step.name for step in rounds.steps]:
        raise ValueError(f"timeline: has rounds of other steps: {', '.join(names) or 'none'}")
    times = {each.step: each for each in timeline.rounds}
    for step in rounds.steps:
        mine = times[step.name]
        if mine.taken.shape != no_times(step, timeline.steps).taken.shape:
            raise ValueError(f"timeline: {step.name} is of another number of nodes")
        happened = np.isfinite(mine.end_s)
        _refuse(step, happened & ~(mine.begin_s <= mine.end_s), "ends before it begins")
        if step.reads:
            _check_messages(step, mine, times[step.reads], seed)
    for kind in {step.kind for step in rounds.steps}:
        begin_s, end_s, names = [], [], []
        for step in rounds.steps:
            if step.kind == kind:
                begin_s.append(times[step.name].begin_s)
                end_s.append(times[step.name].end_s)
                names.append(step)
        begins, ends = (np.stack(each, axis=1).reshape(-1, each[0].shape[1]) for each in (begin_s, end_s))
        before = np.maximum.accumulate(np.where(np.isfinite(ends), ends, 0.0))
        early = np.isfinite(ends[1:]) & (begins[1:] < before[:-1])
        if early.any():
            place, node = np.argwhere(early)[0] + (1, 0)
            _refuse_one(names[place % len(names)], place // len(names), node, "begins before the step before it ends")
    ends = times[rounds.ends].end_s[:, list(rounds.honest)]
    none = ~np.isfinite(ends).any(axis=1)
    last_s = np.maximum.accumulate(np.where(np.isfinite(ends), ends, 0.0).max(axis=1, initial=0.0))
    if none.any() or (last_s != timeline.time_s).any():
        update = int(np.argmax(none | (last_s != timeline.time_s)))
        raise ValueError(f"timeline: update {update} does not end with the last honest node that takes {rounds.ends}")
    return timeline


def _check_messages(step: RoundStep, mine: RoundTimes, sent: RoundTimes, seed: int) -> None:
    """Checks the messages that a step reads."""
    steps, nodes, most = mine.taken.shape
    happened, gathers = np.isfinite(mine.end_s), (np.arange(1, steps + 1) % step.every == 0)[:, None]
    senders = np.array([[*those, *[-1] * (most - len(those))] for those in step.senders])
    quorums = np.array([step.quorums(seed, t) for t in range(steps)]).reshape(steps, nodes)
    sent_s = np.where(senders >= 0, sent.end_s[:, senders], np.inf)
    too_early = mine.taken & ~(sent_s <= mine.begin_s[:, :, None])
    _refuse(step, np.asarray(too_early.any(axis=2)), f"reads a message of {step.reads} that is not sent by then")
    if step.joined is not None:
        joined = np.array([step.joined(seed, t) for t in range(steps)]).reshape(mine.taken.shape)
        _refuse(
            step, np.asarray((mine.taken & ~joined).any(axis=2)), "reads the message of a node that it is not joined to"
        )
    count = mine.taken.sum(axis=2)
    _refuse(step, ~happened & (count > 0), "reads messages and never happens")
    fits = (count == np.where(gathers, quorums, 1)) | (step.alone & (count == 1))
    _refuse(step, happened & ~fits, "reads another number of messages than it waits for")
    if step.alone or step.every > 1:
        own = (mine.taken & (senders == np.arange(nodes)[:, None])).any(axis=2)
        _refuse(step, happened & ~own & (step.alone | ~gathers), "does not read its own message")


def _refuse(step: RoundStep, where: ArrayLike, what: str) -> None:
    if np.any(where):
        update, node = np.argwhere(where)[0]
        _refuse_one(step, update, node, what)


def _refuse_one(step: RoundStep, update: int, node: int, what: str) -> None:
    raise ValueError(f"timeline: update {update}, {step.name} of {step.kind} {node}: {what}")
