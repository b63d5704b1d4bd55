"""A race between actors of several kinds of node: the driver decides whose turn it is, actors hand on messages."""

from collections.abc import Callable
from typing import Any

import numpy as np
import ray

from byzax.simulator import interrupts
from byzax.simulator.config.study import Task
from byzax.simulator.diagnostics import Diagnostics, Update
from byzax.simulator.engine import Engine, Look, Stretch, TakeLooks, stretch_of
from byzax.simulator.executors.base import evaluation_steps, in_numpy, network_of, prepare
from byzax.simulator.executors.node_host import joined
from byzax.simulator.executors.ray.head import fetch
from byzax.simulator.executors.ray.hosts import take_in
from byzax.simulator.executors.ray.pool import ActorPool, worker_name
from byzax.simulator.executors.ray.racing_actors import RacingActors
from byzax.simulator.executors.round_racing import race_rounds
from byzax.simulator.executors.round_record import RaceRecord
from byzax.simulator.executors.turn_events import turn_events, whole_round
from byzax.simulator.parts import topology
from byzax.simulator.stopping import lost_in_words
from byzax.simulator.timeline import Timeline
from byzax.simulator.wire import wire_bits


def engine(pool: ActorPool, count: int, task: Task, notice: Callable[[str], None]) -> Engine:
    """The engine of a race of several kinds of node. It cannot be left and gone on with: real time does not wait.

    Args:
        pool: The actors.
        count: Number of those of workers.
        task: The task, of one seed.
        notice: Is told of actors that died.

    Returns:
        The engine.
    """
    run, described = task.run, topology(task.run).rounds
    assert described is not None
    rounds = described(run)
    prepared = prepare(run, whole_round(rounds))
    network, _ = network_of(run, prepared)
    events = turn_events(network, rounds)
    placed = {
        kind: np.arange(nodes) * count // nodes
        for kind, nodes in network.nodes.items()
        if kind in {step.kind for step in rounds.steps}
    }
    for (kind, node), (of_kind, receiver) in events.attackers().items():
        # whoever forges for a receiver is where it is
        placed.setdefault(kind, np.zeros(network.nodes[kind], int))[node] = placed[of_kind][receiver]
    hosts = take_in(pool, count, task, network, prepared.timeline, None, placed=placed)
    recorded = task.record.steps(run.steps)
    wanted = {*evaluation_steps(task.evaluate_every, run.steps), *(update + 1 for update in recorded)}
    actors = RacingActors(hosts, rounds, events, wanted, recorded)
    record = RaceRecord(rounds, run.steps)
    race = race_rounds(record, run.latency, run.seed, wire_bits(run), actors.crew())
    closed: Timeline | None = None
    step, looked = 0, 0
    told: set[int] = set()
    over = object()
    # updates that are recorded whole once all nodes are done with them
    coming: list[int] = []

    def timelines() -> list[Timeline]:
        return [record.timeline() if closed is None else closed]

    def tell() -> None:
        for host, why in actors.died.items():
            if host in told:
                continue
            told.add(host)
            lost = {node: record.lost[node] for node in actors.nodes_at(host) if node in record.lost}
            by_kind = {kind: {i: r for (of, i), r in lost.items() if of == kind} for kind, _ in lost}
            words = [lost_in_words(nodes, kind) for kind, nodes in by_kind.items()]
            notice(f"{worker_name(host)} died: {why}; {', '.join(words)}, and the race goes on without")

    def advance(stop: int) -> int:
        nonlocal closed, step
        while closed is None and record.ended < stop:
            interrupts.check()
            if next(race, over) is over:
                closed = record.timeline()
            actors.forget(record.ended)
            if len(told) < len(actors.died):
                tell()
        step = stop if closed is None else min(stop, closed.steps)
        return step

    def measured(update: int) -> tuple[Diagnostics, Any]:
        seen = actors.seen(update)
        diagnostics, weights = network.measure([(name, each and each.found) for name, each in seen])
        return Diagnostics(*map(float, diagnostics)), np.asarray(weights)

    def whole(update: int) -> Update:
        diagnostics, weights = measured(update)
        states = joined(fetch(pool.head, actors.states(update + 1)))
        arrays = network.arrays(update, [(name, each and each.arrays) for name, each in actors.seen(update)], states)
        about = {"time_s": float(timelines()[0].time_s[update]), "weights": weights, "diagnostics": diagnostics}
        return in_numpy(Update(step=update, **about, **arrays))

    def stretch() -> Stretch:
        nonlocal looked, coming
        updates = range(looked, step)
        found = [measured(update) for update in updates]
        coming += [update for update in updates if update in recorded]
        ready = [update for update in coming if closed is not None or actors.left(update)]
        made = [whole(update) for update in ready]
        coming = [update for update in coming if update not in ready]
        for update in {*updates, *ready} - {*coming}:
            actors.forget_seen(update)
        actors.wanted -= {*range(step + 1)} - {step, *(update + 1 for update in coming)}
        looked = step
        return stretch_of(found, run.workers.total if task.record.weights else None, made)

    def evaluate() -> TakeLooks:
        since = stretch()
        evaluation = hosts.handles[-1].evaluate.remote(step, *actors.states(step))

        def take(wait: bool) -> list[Look] | None:
            if not wait and not ray.wait([evaluation], timeout=0)[0]:
                return None
            found, params, bits = fetch(pool.head, evaluation)
            return [Look(found, np.asarray(params), since, bits)]

        return take

    return Engine(0, run.steps, run.steps, timelines, advance, evaluate, lambda: [stretch()], None)
