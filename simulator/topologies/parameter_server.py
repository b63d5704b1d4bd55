"""One parameter server: workers compute rows from its model, attackers forge theirs, and it makes the next model."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from byzax.options import checked
from byzax.simulator.adversary import ByzantineRanks
from byzax.simulator.compilation import compiled_once
from byzax.simulator.core import Core
from byzax.simulator.events import (
    EventBlock,
    EventResult,
    EventTable,
    Network,
    NodeEvent,
    NodeStep,
    OfEvents,
    States,
    stack_rows,
)
from byzax.simulator.receivers import row_of_job
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.serving import Arrivals, Server, public_state
from byzax.simulator.timeline import Timeline
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.world import World

WORK, FORGE, UPDATE = range(3)
SERVER, ADVERSARY = ("server", 0), ("adversary", 0)


@checked
def parameter_server(n: int, f: int) -> Topology:
    """One server: workers send rows, computed from its model, and it makes the next model of the rule's aggregate.

    Sends: the server its model, every worker a gradient, change or model
    Rule: over the rows that the schedule chooses

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.

    Returns:
        The topology.

    Raises:
        PartError: For an impossible n and f.

    References:
        Li et al., OSDI 2014, "Scaling Distributed Machine Learning with the Parameter Server"
    """
    check_workers("parameter_server", n, f)
    return Topology(build=_network, one_server=True)


def _network(parts: NetworkParts) -> Network:
    """The network of a run with one server.

    Version v of the model is followed by the jobs that read it, then by the forging of update v where an attack forges
    rows, then by update v. The rows of Byzantine workers in an update are those that were forged.
    """
    _, core_of, timeline, here = parts
    rows = timeline.rows
    core, n = core_of(int(timeline.seen[0])), len(here.sizes)

    @lru_cache(maxsize=1)
    def arrived_in(update: int) -> Arrivals:
        return arrived(timeline, update, n)

    def work(here: World, event: NodeEvent, memory: Any, messages: list[Any]) -> EventResult:
        (public,) = messages
        worker, job, handed = (each[event.row] for each in (rows.workers, rows.jobs, rows.handed))
        return EventResult(*row_of_job(core, here, public.params, memory, worker, job, handed))

    def forge(here: World, event: NodeEvent, state: Any, messages: list[Any]) -> EventResult:
        *computed, public = messages
        of_update = core_of(int(timeline.seen[event.turn])).forge
        assert of_update is not None
        computed = stack_rows(computed)
        forged, state = of_update(here, event.turn, arrived_in(event.turn), computed, public, state)
        return EventResult(state, forged, arrays=computed)

    def update(here: World, event: NodeEvent, server: Server, messages: list[Any]) -> EventResult:
        received, of_update = stack_rows(messages), core_of(int(timeline.seen[event.turn])).update
        server, diagnostics, decision = of_update(here, server, arrived_in(event.turn), received)
        return EventResult(server, public_state(server), (diagnostics, decision.weights), (decision, received))

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        found = dict(arrays)
        decision, received = found["update"]
        return {
            "workers": rows.workers[timeline.places_of(step)],
            "rows": found.get("forge", received),
            "byzantine": decision.byzantine,
            "forged": received,
            "aggregate": decision.aggregate,
            "params": states[SERVER].params,
        }

    def start(here: World) -> States:
        server = core.start(here)
        d = len(server.params)
        memory = None if core.memory is None else core.memory.start(here, d)
        return {SERVER: server, ADVERSARY: core.init_adversary(d)} | {("worker", i): memory for i in range(n)}

    return Network(
        steps=(
            NodeStep("work", "worker", work, node_word="worker", turn_word="job"),
            NodeStep("forge", "adversary", forge, forges=True),
            NodeStep("update", "server", update),
        ),
        nodes={"server": 1, "adversary": 1, "worker": n},
        table=table_of(timeline, None if core.forge is None else _forged(core, here)),
        start=start,
        show=public_state,
        measure=lambda seen: dict(seen)["update"],
        arrays=put_together,
        evaluate=lambda here, states: core.evaluate(here, states[SERVER].params),
        params=lambda states: states[SERVER].params,
    )


def table_of(timeline: Timeline, forged: Callable[[np.ndarray], np.ndarray] | None) -> EventTable:
    """The table of a run with one server.

    Args:
        timeline: The timeline of the run.
        forged: Tells, for updates `[U]`, whose rows are forged in each, `[U, n]`; None where no row ever is.

    Returns:
        The table.
    """
    rows, updates = timeline.rows, timeline.updates
    readers, of_version = timeline.readers()
    position = np.empty(len(readers), int)
    position[readers] = np.arange(len(readers))
    # events of an update beside its jobs
    others = 1 if forged is None else 2

    def public_of(version: Any) -> Any:
        """The number of the event that sends a version; that of the first one is sent before all events."""
        return of_version[version] + others * version

    def jobs_of(places: Any) -> Any:
        """The numbers of the events that carry out jobs."""
        return 1 + position[places] + others * rows.versions[places]

    def events(since: int, until: int) -> EventBlock:
        own = readers[of_version[since] : of_version[until]]
        made = np.arange(since, until)
        begin, update = int(public_of(since)) + 1, public_of(made + 1)
        of_jobs, of_updates = jobs_of(own) - begin, update - begin
        count = int(public_of(until)) + 1 - begin
        step, node, turn = np.full(count, UPDATE), np.zeros(count, int), np.empty(count, int)
        row, last = np.full(count, -1), np.arange(begin, begin + count)
        begin_s, end_s, arrive_s = np.empty((3, count))
        sizes = np.ones(count, int)
        step[of_jobs], node[of_jobs], turn[of_jobs], row[of_jobs] = WORK, rows.workers[own], rows.jobs[own], own
        begin_s[of_jobs], end_s[of_jobs], arrive_s[of_jobs] = (
            each[own] for each in (rows.received_s, rows.computed_s, rows.arrived_s)
        )
        last[of_jobs] = public_of(updates[own] + 1)
        turn[of_updates] = made
        for each in (begin_s, end_s, arrive_s):
            each[of_updates] = timeline.time_s[since:until]
        # the model of an update is read by the jobs of its version, and by the forging of the next update
        last[of_updates] = public_of(made + 2) - 1
        sizes[of_updates] = timeline.sizes[since:until]
        if forged is not None:
            of_forging = of_updates - 1
            step[of_forging], turn[of_forging], last[of_forging] = FORGE, made, update
            sizes[of_forging] = timeline.sizes[since:until] + 1
            for each in (begin_s, end_s, arrive_s):
                each[of_forging] = timeline.time_s[since:until]
        first = np.concatenate([[0], np.cumsum(sizes)])
        source, port = np.empty(first[-1], int), np.full(first[-1], -1)
        source[first[of_jobs]] = public_of(rows.versions[own])
        places = np.arange(timeline.first[since], timeline.first[until])
        senders, inside = jobs_of(places), places - np.repeat(timeline.first[since:until], timeline.sizes[since:until])
        here_at = np.repeat(first[of_updates], timeline.sizes[since:until]) + inside
        source[here_at] = senders
        if forged is not None:
            before = np.repeat(first[of_updates - 1], timeline.sizes[since:until]) + inside
            source[before] = senders
            source[first[of_updates] - 1] = public_of(made)
            ours = forged(made)[updates[places] - since, rows.workers[places]]
            source[here_at[ours]] = (update - 1)[updates[places] - since][ours]
            port[here_at[ours]] = inside[ours]
        bounds = np.concatenate([[0], of_updates + 1])
        return EventBlock(begin, step, node, turn, row, begin_s, end_s, arrive_s, last, first, source, port, bounds)

    return EventTable(
        events=events,
        kept=lambda step: {int(public_of(step)): (SERVER, int(public_of(step + 1)) - 1)},
        number_of=lambda place: (int(jobs_of(place)), int(public_of(updates[place] + 1))),
    )


def _forged(core: Core, here: World) -> Callable[[np.ndarray], np.ndarray]:
    """Tells, for updates `[U]`, whose rows are forged in each, `[U, n]`."""
    fixed = np.asarray(here.byzantine_rank) >= 0
    if fixed.any():
        return lambda steps: np.broadcast_to(fixed, (len(steps), len(fixed)))
    ranks = _build_ranks(core.byzantine_ranks)

    def drawn(steps: np.ndarray) -> np.ndarray:
        # few lengths are compiled
        padded = np.resize(steps, 1 << (len(steps) - 1).bit_length())
        return np.asarray(ranks(here, padded))[: len(steps)] >= 0

    return drawn


@compiled_once
def _build_ranks(ranks: ByzantineRanks) -> Callable[[World, np.ndarray], jax.Array]:
    return jax.jit(lambda here, steps: jax.lax.map(lambda step: ranks(here, step), steps))


def arrived(timeline: Timeline, step: int, n: int) -> Arrivals:
    """The workers whose rows are new in an update of `n` workers, and those whose rows have left the table."""
    own = timeline.places_of(step)
    return Arrivals(timeline.rows.workers[own], timeline.rows.handed[own], gone_of(timeline.gone, step, n))


def gone_of(pairs: ArrayLike, step: int, n: int) -> np.ndarray | None:
    """Mask of the workers whose row leaves the table, `[n]`; None where nobody's does, as in nearly every update."""
    pairs = np.asarray(pairs, int).reshape(-1, 2)
    mine = pairs[pairs[:, 0] == step, 1]
    return np.isin(np.arange(n), mine) if len(mine) else None
