"""The driver of runs: it advances engines from stop to stop, evaluates, ends runs early, and takes snapshots."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from byzax.aggregators.base import LIMIT
from byzax.simulator import interrupts
from byzax.simulator.accounting import build_epsilon
from byzax.simulator.config.executors import EarlyStopping
from byzax.simulator.config.study import Task
from byzax.simulator.diagnostics import Traffic
from byzax.simulator.durations import WAYS, Way
from byzax.simulator.engine import Engine, EngineLost, Look, Repeats, Stretch, TakeLooks, joined
from byzax.simulator.executors.base import Checkpoint, RunError, delivered, ended, per_job
from byzax.simulator.executors.ledger import receivers, traffic, with_measured, with_pulls
from byzax.simulator.snapshots import Evaluated, Snapshot
from byzax.simulator.timeline import Timeline, truncate
from byzax.simulator.wire import wire_bits

# Updates after an evaluation by which its results are waited for: meanwhile an engine may go on.
AHEAD = 16
# Share of the time that snapshots may take.
SHARE = 0.02
# Engines lost after the same snapshot that end a run.
MOST_LOST = 3


class Saving(NamedTuple):
    """The taking of snapshots.

    Attributes:
        save: Called with a seed and its snapshot, after the checkpoints before it were processed; None for nothing.
        every_s: Seconds between two snapshots, or more where they would take more than 2 % of the time; None: never.
        every: Updates between two snapshots; None for never.
    """

    save: Callable[[int, Snapshot], None] | None = None
    every_s: float | None = 25.0
    every: int | None = None


@dataclass(slots=True)
class Course:
    """One seed of a task while it is carried out.

    Attributes:
        seed: The seed.
        kept: The last snapshot; None before the first.
        evaluations: All evaluations so far.
        before: The updates since the last of them that were made by an earlier engine.
        given: Updates at the last checkpoint that was given; -1 before the first.
        best: The best value so far of the measure of early stopping, and the number of evaluations since.
        over: Whether it was stopped early.
        timeline: Its timeline at the last checkpoint.
        gradients: `[T + 1]`, gradients delivered by each version of `timeline`.
        traffic: The messages sent by each version of it.
        epsilon: The privacy spent by each version of it.
        receivers: The number of nodes that get a message of each node, in the directions in which these vary in size.
    """

    seed: int
    kept: Snapshot | None
    evaluations: list[Evaluated] = field(default_factory=list)
    before: Stretch | None = None
    given: int = -1
    best: tuple[float, int] | None = None
    over: bool = False
    timeline: Timeline | None = None
    gradients: np.ndarray = field(default_factory=lambda: np.zeros(1, int))
    traffic: Traffic | None = None
    epsilon: Callable[[int], float] = field(default=lambda step: math.nan)
    receivers: dict[Way, np.ndarray] = field(default_factory=dict)

    @property
    def evaluated(self) -> int:
        """Updates at the last evaluation; -1 before the first."""
        return self.evaluations[-1].step if self.evaluations else -1


def drive(
    task: Task,
    repeats: Iterable[Repeats],
    snapshots: Mapping[int, Snapshot] | None = None,
    saving: Saving | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> Iterator[Checkpoint]:
    """Carries out a task.

    Args:
        task: The task.
        repeats: The seeds of the task with their engines, from an executor.
        snapshots: Snapshots to go on from, by seed. The checkpoints of evaluations in them are not given again.
        saving: When snapshots are taken, and what is done with them; None: only what is needed to replace engines.
        notice: Told, in one line, when an engine was lost and the run goes on.

    Yields:
        The checkpoints, at every evaluation and in order of steps within a repeat. With early stopping a repeat ends
        with the checkpoint that says so.

    Raises:
        RunError: Where a stage fails, naming worker and job, or the rule gives no answer.
    """
    for each in repeats:
        past = [(snapshots or {}).get(seed) for seed in each.seeds]
        # seeds that advance together begin together
        together = len({None if snapshot is None else snapshot.state.step for snapshot in past}) == 1
        courses = [Course(seed, kept if together else None) for seed, kept in zip(each.seeds, past, strict=True)]
        for course in courses:
            _go_back(task, course)
            course.given = course.evaluated
        yield from _drive(task, each, courses, saving or Saving(), notice)


def _go_back(task: Task, course: Course) -> None:
    """Sets a course to its last snapshot."""
    kept = course.kept
    course.evaluations = list(kept.evaluations) if kept else []
    course.before = kept.since if kept else None
    course.best = None
    for each in course.evaluations:
        _judge(task.early_stopping, course, each)


def _drive(
    task: Task, repeats: Repeats, courses: list[Course], saving: Saving, notice: Callable[[str], None]
) -> Iterator[Checkpoint]:
    begin, past_s = time.perf_counter(), sum(course.kept.wall_s if course.kept else 0.0 for course in courses)

    def wall_s() -> float:
        # seeds that advance together share the time
        return (past_s + time.perf_counter() - begin) / len(courses)

    losses: Counter[int] = Counter()
    while True:
        finished = False
        try:
            states = [course.kept.state for course in courses if course.kept]
            engine = repeats.open(states or None)
            try:
                yield from _carry_out(task, engine, courses, saving, repeats.mortal, wall_s)
                finished = True
                return
            finally:
                engine.close(finished)
        except EngineLost as error:
            at = courses[0].kept.state.step if courses[0].kept else 0
            losses[at] += 1
            if losses[at] >= MOST_LOST:
                raise RunError(f"{error}; this is the third time after update {at}") from None
            for course in courses:
                _go_back(task, course)
            notice(f"{error}; the run goes on after update {at}")


def _carry_out(
    task: Task, engine: Engine, courses: list[Course], saving: Saving, mortal: bool, wall_s: Callable[[], float]
) -> Iterator[Checkpoint]:
    step, last, every = engine.step, engine.steps, task.evaluate_every
    looked = courses[0].evaluated
    waiting: deque[tuple[int, TakeLooks]] = deque()
    kept_at, kept_step, cost_s = time.perf_counter(), step, 0.0

    def results(wait: bool) -> Iterator[Checkpoint]:
        while waiting and (looks := waiting[0][1](wait or step - waiting[0][0] >= AHEAD)) is not None:
            at, _ = waiting.popleft()
            for course, look, timeline in zip(courses, looks, engine.timelines(), strict=True):
                if not course.over:
                    checkpoint = _checkpoint(task, course, at, look, timeline, wall_s)
                    if at > course.given:
                        course.given = at
                        yield checkpoint

    def is_due(now: float) -> bool:
        by_time = saving.every_s is not None and now - kept_at >= max(saving.every_s, cost_s / SHARE)
        return by_time or (saving.every is not None and step - kept_step >= saving.every)

    while True:
        interrupts.check()
        if step > looked and (step % every == 0 or step == last):
            waiting.append((step, engine.evaluate()))
            looked = step
        yield from results(wait=step == last)
        if step == last or all(course.over for course in courses):
            break
        now = time.perf_counter()
        if (saving.save or mortal) and engine.states is not None and is_due(now):
            yield from results(wait=True)
            _keep(engine, courses, saving, wall_s())
            kept_at, kept_step = time.perf_counter(), step
            cost_s = kept_at - now
        stop = min(last, (step // every + 1) * every, (step // engine.stretch + 1) * engine.stretch)
        step = engine.advance(stop)
        if step < stop:
            last = step
    if not all(course.over for course in courses):
        ended(engine.timelines()[0])


def _keep(engine: Engine, courses: Sequence[Course], saving: Saving, wall_s: float) -> None:
    """Takes a snapshot of each course, and saves those of the courses that go on."""
    assert engine.states is not None
    for course, state, since in zip(courses, engine.states(), engine.since(), strict=True):
        whole = joined(course.before, since) if course.before else since
        course.kept = Snapshot(state, wall_s, tuple(course.evaluations), whole)
        if saving.save is not None and not course.over:
            saving.save(course.seed, course.kept)


def _checkpoint(
    task: Task, course: Course, step: int, look: Look, timeline: Timeline, wall_s: Callable[[], float]
) -> Checkpoint:
    """The checkpoint of a course after `step` updates, which it adds to its evaluations.

    Raises:
        RunError: Where the rule gave no answer in an update since the last one.
    """
    since = joined(course.before, look.since) if course.before else look.since
    course.before = None
    if (places := np.flatnonzero(since.diagnostics.undecided)).size:
        update = step - len(since.diagnostics.undecided) + places[0] + 1
        raise RunError(
            f"update {update} failed: {task.run.rule.label} is undecided, its search did not end within {LIMIT}"
        )
    if course.timeline is not timeline:
        run = task.run if task.run.seed == course.seed else task.run.replace(seed=course.seed)
        course.timeline, course.gradients = timeline, delivered(timeline, per_job(run))
        course.traffic, course.epsilon = traffic(run, timeline), build_epsilon(run, timeline)
        course.receivers = {way: receivers(run, timeline, way, len(look.bits[way])) for way in WAYS if way in look.bits}
    sent = course.traffic and Traffic(*(float(each[step]) for each in course.traffic))
    for way, gets in course.receivers.items():
        assert sent is not None
        sent = with_measured(sent, way, getattr(wire_bits(task.run), way), look.bits[way], gets)
    if "pulls" in look.bits:
        assert sent is not None
        sent = with_pulls(sent, wire_bits(task.run).down, look.bits["pulls"])
    checkpoint = Checkpoint(
        seed=course.seed,
        step=step,
        time_s=float(timeline.time_s[step - 1]) if step else 0.0,
        gradients=int(course.gradients[step]),
        wall_s=wall_s(),
        evaluation=look.evaluation,
        updates=since.diagnostics,
        params=look.params,
        timeline=timeline,
        weights=since.weights if task.record.weights else None,
        recorded=since.recorded,
        traffic=sent,
        epsilon=course.epsilon(step),
    )
    made = Evaluated(step, checkpoint.time_s, checkpoint.gradients, checkpoint.wall_s, look.evaluation)
    course.evaluations.append(made)
    _judge(task.early_stopping, course, made)
    how = task.early_stopping
    if how is None or course.best is None or course.best[1] < how.patience or step >= task.run.steps:
        return checkpoint
    course.over = True
    words = how.measure.replace("_", " ")
    reason = f"stopped early after step {step}: no better {words} in {how.patience} evaluations"
    return checkpoint._replace(stopped=reason, timeline=truncate(timeline, step))


def _judge(how: EarlyStopping | None, course: Course, evaluated: Evaluated) -> None:
    """Compares an evaluation with the best one so far."""
    if how is None:
        return
    value = getattr(evaluated.evaluation, how.measure)
    gain = value if how.measure == "validation_accuracy" else -value
    best = course.best
    # NaN is never better
    if best is None or gain > best[0] or (np.isnan(best[0]) and not np.isnan(gain)):
        course.best = gain, 0
    else:
        course.best = best[0], best[1] + 1
