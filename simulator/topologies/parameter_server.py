"""One parameter server: workers compute rows from its model, attackers forge theirs, and it makes the next model."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from byzax.options import PartError, checked
from byzax.simulator.adversary import ByzantineRanks
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.run import Run
from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Diagnostics
from byzax.simulator.events import (
    EventResult,
    Network,
    NewStates,
    NodeEvent,
    NodeStep,
    OfEvents,
    Sending,
    States,
)
from byzax.simulator.jobs import build_unread_step, build_worker_step
from byzax.simulator.messages import stack_rows
from byzax.simulator.outages import check_servers
from byzax.simulator.parts import schedule
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.senders import Arrivals
from byzax.simulator.server import Server, public_state
from byzax.simulator.server_table import ADVERSARY, SERVER, FindWorkers, LastRows, table_of
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.world import World


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
    return Topology(build=_network, check=_check, one_server=True, wire=("up", "down"))


def _check(run: Run) -> None:
    """Raises PartError for what a run with one server cannot have."""
    if any(kind == "server" for kind, _ in (crash.node for crash in run.latency.crashes)):
        raise PartError(
            f"{run.topology.label}: its only server does not die: name workers in latency.crashes, or take a topology "
            "with several servers"
        )
    check_servers(run, 1)
    if run.clock == "wall" and run.latency.outages:
        raise PartError(
            f"{run.topology.label}: links fail in virtual time alone: take clock virtual, or leave latency.outages out"
        )


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
        senders, new, received, decision = found["update"]
        computed, of_forging = found.get("forge", (received, new))
        # what follows only fills the update up
        count = int((np.asarray(senders)[new] >= 0).sum())
        mine = np.asarray(new)[:count]
        workers, rows = np.asarray(senders)[mine], computed[np.asarray(of_forging)[:count]]
        if unread is not None:
            rows = np.where(unread(np.array([step]))[0][workers, None], np.float32(np.nan), rows)
        return {
            "workers": workers,
            "rows": rows,
            "byzantine": decision.byzantine[mine],
            "forged": received[mine],
            "aggregate": decision.aggregate,
            "params": states[SERVER].params,
        }

    def start(here: World) -> NewStates:
        server = core.start(here)
        d = len(server.params)
        begun = None if memory is None else memory.start(here, d)
        return {SERVER: server, ADVERSARY: core.init_adversary(d)} | {("worker", i): begun for i in range(n)}

    forged, unread = build_forged_workers(core, here), _build_unread_workers(run, core, here)
    sees = schedule(run).sees
    # an adversary to which rows come one at a time remembers the others
    knows = forged is not None and (sees == "table" or (sees == "rows" and timeline.seen[0] == 1))
    last_rows = LastRows(sees == "table", knows, knows and core.hides_rows)
    steps, show = _build_steps(core_of, core, sees, last_rows)
    return Network(
        steps=steps,
        nodes={"server": 1, "adversary": 1, "worker": n},
        table=table_of(timeline, forged, last_rows, unread),
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
    core_of: Callable[[int], Core], core: Core, sees: Literal["rows", "table", "buckets"], last_rows: LastRows
) -> tuple[tuple[NodeStep, ...], Callable[[Server], Server]]:
    """The steps, and the message of the server.

    Args:
        core_of: The functions of the run, for updates in which the rule sees so many rows.
        core: Those of the first update.
        sees: The rows that the rule gets. See `Schedule.sees`.
        last_rows: The events that read last rows.

    Returns:
        The steps of workers, of the adversary and of the server, and what the server shows of its state: the same for
        runs that differ in nothing but their seed.
    """

    def show(server: Server) -> Server:
        public = public_state(server)
        # workers need the model alone
        return public._replace(optimizer=None, rule=None) if core.forge is None else public

    def forge(here: World, event: NodeEvent, state: Any, messages: Sequence[Any]) -> EventResult:
        of_update = core_of(event.seen).forge
        assert of_update is not None
        count = (len(messages) - 1) // (2 if last_rows.computed else 1)
        parts, public = [messages[i : i + count] for i in range(0, len(messages) - 1, count)], messages[-1]
        arrived = Arrivals(event.senders[:count], event.versions[:count])
        if last_rows.forging:
            arrived = arrived._replace(lags=event.lags[:count], new=event.new)
        if alone and count < len(here.sizes):
            # with a place for every worker it is compiled once, however many are known
            arrived, parts = _at_their_places(arrived, parts, len(here.sizes), public.params.shape)
        rows, *computed = map(stack_rows, parts)
        sent, state = of_update(here, event.turn, arrived, rows, public, state, *computed)
        return EventResult(state, sent, arrays=(rows, arrived.new if last_rows.forging else event.new))

    def update(here: World, event: NodeEvent, server: Server, messages: Sequence[Any]) -> EventResult:
        received = stack_rows(messages)
        arrived = Arrivals(event.senders, event.versions, event.lags if last_rows.update else None)
        server, diagnostics, decision = core_of(event.seen).update(here, server, arrived, received)
        arrays = event.senders, event.new, received, decision
        return EventResult(server, show(server), (diagnostics, decision.weights), arrays)

    # the rule sees the new row, and an attack others too
    alone = last_rows.forging and not last_rows.update
    kept = "both" if last_rows.computed else "sent"
    steps = (
        build_unread_step(),
        build_worker_step(core.work, core.memory, core.batch, core.even),
        NodeStep(
            "forge", "adversary", forge, together="map", forges=True, pads=alone or sees == "buckets",
            last_rows=kept if last_rows.forging else None, sends=Sending("up") if core.forge else None,
        ),
        NodeStep(
            "update", "server", update, together="map", pads=sees == "buckets",
            last_rows="sent" if last_rows.update else None,
        ),
    )  # fmt: skip
    return steps, show


def _at_their_places(
    arrived: Arrivals, parts: Sequence[Sequence[Any]], n: int, shape: tuple[int]
) -> tuple[Arrivals, list[list[Any]]]:
    """Senders and rows of some workers, each at the place of its worker among n, and rows of zeros at the others."""
    workers = arrived.workers

    def spread(values: np.ndarray, other: int) -> np.ndarray:
        found = np.full(n, other, np.int32)
        found[workers] = values
        return found

    place = dict(zip(workers.tolist(), range(n), strict=False))
    nothing = np.zeros(shape, np.float32)
    filled = [[rows[place[i]] if i in place else nothing for i in range(n)] for rows in parts]
    others = spread(arrived.versions, 0), spread(arrived.lags, 0), workers[arrived.new]
    return Arrivals(spread(workers, -1), *others), filled


def _measure(seen: OfEvents, happened: Any = None) -> tuple[Diagnostics, Any]:
    return dict(seen)["update"]


def build_forged_workers(core: Core, here: World) -> FindWorkers | None:
    """Decides whose rows are forged: those of the workers that are Byzantine in an update.

    Args:
        core: The functions of the run.
        here: Arrays of the run.

    Returns:
        The function that finds them; None where no attack forges rows.
    """
    if core.forge is None:
        return None
    return _find_by_rank(core, here, lambda ranks: ranks >= 0)


def _build_unread_workers(run: Run, core: Core, here: World) -> FindWorkers | None:
    """Decides whose rows nobody reads as they computed them: those of workers whose attack reads none of its own.

    Args:
        run: The run.
        core: The functions of the run.
        here: Arrays of the run.

    Returns:
        The function that finds them; None where all rows are read, or what a job leaves behind at its worker.
    """
    is_unread = np.asarray(core.is_unread(jnp.arange(run.workers.byzantine.count)))
    drawn = not (np.asarray(here.byzantine_rank) >= 0).any()
    # later on a worker that is Byzantine now may be honest; and what the ends of a message keep depends on it
    if not is_unread.any() or not run.wire.is_plain or (drawn and core.memory is not None):
        return None
    return _find_by_rank(core, here, lambda ranks: (ranks >= 0) & is_unread[ranks])


def _find_by_rank(core: Core, here: World, holds: Callable[[np.ndarray], np.ndarray]) -> FindWorkers:
    """The workers of which something holds by their numbers among the Byzantine ones."""
    fixed = np.asarray(here.byzantine_rank)
    if (fixed >= 0).any():
        found = holds(fixed)
        return lambda updates: np.broadcast_to(found, (len(updates), len(found)))
    ranks = _build_ranks(core.byzantine_ranks)

    def drawn(updates: np.ndarray) -> np.ndarray:
        # few lengths are compiled
        padded = np.resize(updates, 1 << (len(updates) - 1).bit_length())
        return holds(np.asarray(ranks(here, padded))[: len(updates)])

    return drawn


@compiled_once
def _build_ranks(ranks: ByzantineRanks) -> Callable[[World, np.ndarray], jax.Array]:
    return jax.jit(lambda here, steps: jax.lax.map(lambda step: ranks(here, step), steps))
