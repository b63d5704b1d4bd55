"""One parameter server: workers compute rows from its model, attackers forge theirs, and it makes the next model."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from numpy.typing import ArrayLike

from byzax.options import checked
from byzax.simulator.adversary import ByzantineRanks
from byzax.simulator.compilation import compiled_once
from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Diagnostics
from byzax.simulator.events import (
    EventBlock,
    EventResult,
    EventTable,
    Network,
    NewStates,
    NodeEvent,
    NodeStep,
    OfEvents,
    States,
)
from byzax.simulator.messages import stack_rows
from byzax.simulator.parts import schedule
from byzax.simulator.receivers import computed_row, together_of
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.senders import Arrivals
from byzax.simulator.server import Server, public_state
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
    run, core_of, timeline, here = parts
    core = core_of(int(timeline.seen[0]))
    memory, n = core.memory, len(here.sizes)

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        found = dict(arrays)
        decision, received, workers = found["update"]
        # what follows only fills the update up
        count = int((np.asarray(workers) >= 0).sum())
        return {
            "workers": workers[:count],
            "rows": found.get("forge", received)[:count],
            "byzantine": decision.byzantine[:count],
            "forged": received[:count],
            "aggregate": decision.aggregate,
            "params": states[SERVER].params,
        }

    def start(here: World) -> NewStates:
        server = core.start(here)
        d = len(server.params)
        begun = None if memory is None else memory.start(here, d)
        return {SERVER: server, ADVERSARY: core.init_adversary(d)} | {("worker", i): begun for i in range(n)}

    steps, show = _build_steps(core_of, core, schedule(run).sees == "buckets")
    return Network(
        steps=steps,
        nodes={"server": 1, "adversary": 1, "worker": n},
        table=table_of(timeline, build_forged_workers(core, here)),
        start=start,
        show=show,
        measure=_measure,
        arrays=put_together,
        evaluate=lambda here, states: core.evaluate(here, states[SERVER].params),
        params=lambda states: states[SERVER].params,
        judged=("server",),
    )


@compiled_once
def _build_steps(
    core_of: Callable[[int], Core], core: Core, pads: bool
) -> tuple[tuple[NodeStep, ...], Callable[[Server], Server]]:
    """The steps, and the message of the server.

    Args:
        core_of: The functions of the run, for updates in which the rule sees so many rows.
        core: Those of the first update.
        pads: Whether an update may be filled up with rows of nobody.

    Returns:
        The steps of workers, of the adversary and of the server, and what the server shows of its state: the same for
        runs that differ in nothing but their seed.
    """

    def show(server: Server) -> Server:
        public = public_state(server)
        # workers need the model alone
        return public._replace(optimizer=None, rule=None) if core.forge is None else public

    def work(here: World, event: NodeEvent, memory: Any, messages: Sequence[Any]) -> EventResult:
        (public,) = messages
        return EventResult(*computed_row(core, here, public.params, memory, event.node, event.turn, event.versions[0]))

    def remember(here: World, event: NodeEvent, memory: Any, row: Any) -> tuple[Any, Any]:
        assert core.memory is not None
        return core.memory.remember(here, memory, row, event.node, event.turn)

    def forge(here: World, event: NodeEvent, state: Any, messages: Sequence[Any]) -> EventResult:
        computed, public = stack_rows(messages[:-1]), messages[-1]
        arrived = Arrivals(event.senders[:-1], event.versions[:-1], event.gone)
        of_update = core_of(event.seen).forge
        assert of_update is not None
        forged, state = of_update(here, event.turn, arrived, computed, public, state)
        return EventResult(state, forged, arrays=computed)

    def update(here: World, event: NodeEvent, server: Server, messages: Sequence[Any]) -> EventResult:
        received, arrived = stack_rows(messages), Arrivals(event.senders, event.versions, event.gone)
        server, diagnostics, decision = core_of(event.seen).update(here, server, arrived, received)
        return EventResult(server, show(server), (diagnostics, decision.weights), (decision, received, event.senders))

    steps = (
        NodeStep(
            "work",
            "worker",
            work,
            "worker",
            "job",
            together=together_of(core),
            transform=None if core.memory is None else remember,
        ),
        NodeStep("forge", "adversary", forge, together="map", forges=True, pads=pads),
        NodeStep("update", "server", update, together="map", pads=pads),
    )
    return steps, show


def _measure(seen: OfEvents) -> tuple[Diagnostics, Any]:
    return dict(seen)["update"]


class ForgedWorkers(Protocol):
    """Tells whose rows are forged."""

    def __call__(self, updates: np.ndarray, /) -> np.ndarray:
        """The workers whose rows are forged in updates `[U]`: truth values `[U, n]`."""
        ...


def table_of(timeline: Timeline, forged: ForgedWorkers | None) -> EventTable:
    """The table of a run with one server.

    Args:
        timeline: The timeline of the run.
        forged: Tells whose rows are forged; None where no row ever is.

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
        row, seen, last = np.full(count, -1), np.zeros(count, int), np.arange(begin, begin + count)
        begin_s, end_s, arrive_s = np.empty((3, count))
        sizes = np.ones(count, int)
        step[of_jobs], node[of_jobs], turn[of_jobs], row[of_jobs] = WORK, rows.workers[own], rows.jobs[own], own
        begin_s[of_jobs], end_s[of_jobs], arrive_s[of_jobs] = (
            each[own] for each in (rows.received_s, rows.computed_s, rows.arrived_s)
        )
        last[of_jobs] = public_of(updates[own] + 1)
        turn[of_updates], seen[of_updates] = made, timeline.seen[since:until]
        for each in (begin_s, end_s, arrive_s):
            each[of_updates] = timeline.time_s[since:until]
        # the model of an update is read by the jobs of its version, and by the forging of the next update
        last[of_updates] = public_of(made + 2) - 1
        sizes[of_updates] = timeline.sizes[since:until]
        if forged is not None:
            of_forging = of_updates - 1
            step[of_forging], turn[of_forging], last[of_forging] = FORGE, made, update
            seen[of_forging] = timeline.seen[since:until]
            sizes[of_forging] = timeline.sizes[since:until] + 1
            for each in (begin_s, end_s, arrive_s):
                each[of_forging] = timeline.time_s[since:until]
        first = np.concatenate([[0], np.cumsum(sizes)])
        source, port, job = np.empty(first[-1], int), np.full(first[-1], -1), np.full(first[-1], -1)
        sender, version = np.zeros((2, first[-1]), np.int32)
        model = first[of_jobs]
        source[model], version[model] = public_of(rows.versions[own]), rows.handed[own]
        places = np.arange(timeline.first[since], timeline.first[until])
        inside = places - np.repeat(timeline.first[since:until], timeline.sizes[since:until])

        def read_rows(of_events: np.ndarray) -> np.ndarray:
            at = np.repeat(first[of_events], timeline.sizes[since:until]) + inside
            source[at], job[at] = jobs_of(places), places
            sender[at], version[at] = rows.workers[places], rows.handed[places]
            return at

        at = read_rows(of_updates)
        left = timeline.gone[(since <= timeline.gone[:, 0]) & (timeline.gone[:, 0] < until)]
        gone = np.stack([of_updates[left[:, 0] - since], left[:, 1]], axis=1)
        if forged is not None:
            read_rows(of_updates - 1)
            model = first[of_updates] - 1
            source[model], version[model] = public_of(made), made
            ours = forged(made)[updates[places] - since, rows.workers[places]]
            source[at[ours]], job[at[ours]] = (update - 1)[updates[places] - since][ours], -1
            port[at[ours]] = inside[ours]
            gone = np.concatenate([gone, gone - [1, 0]])
        bounds = np.concatenate([[0], of_updates + 1])
        return EventBlock(
            begin, step, node, turn, row, seen, begin_s, end_s, arrive_s, last, first, source, port, sender, version,
            job, gone, bounds,
        )  # fmt: skip

    return EventTable(
        events=events,
        kept=lambda step: {int(public_of(step)): (SERVER, int(public_of(step + 1)) - 1)},
        number_of=lambda place: (int(jobs_of(place)), int(public_of(updates[place] + 1))),
    )


def build_forged_workers(core: Core, here: World) -> ForgedWorkers | None:
    """Decides whose rows are forged: those of the workers that are Byzantine in an update.

    Args:
        core: The functions of the run.
        here: Arrays of the run.

    Returns:
        The function that tells it; None where no attack forges rows.
    """
    if core.forge is None:
        return None
    fixed = np.asarray(here.byzantine_rank) >= 0
    if fixed.any():
        return lambda updates: np.broadcast_to(fixed, (len(updates), len(fixed)))
    ranks = _build_ranks(core.byzantine_ranks)

    def drawn(updates: np.ndarray) -> np.ndarray:
        # few lengths are compiled
        padded = np.resize(updates, 1 << (len(updates) - 1).bit_length())
        return np.asarray(ranks(here, padded))[: len(updates)] >= 0

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
