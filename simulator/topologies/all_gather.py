"""All-gather: every process gets the rows of all others, and takes the rule over them: the robust all-reduce."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from byzax.options import checked
from byzax.simulator.compilation import compiled_once
from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Diagnostics, build_evaluate_models
from byzax.simulator.events import (
    EventResult,
    MeasureUpdate,
    Network,
    NewStates,
    NodeEvent,
    NodeStep,
    OfEvents,
    Sending,
    States,
)
from byzax.simulator.exchanges import all_to_all
from byzax.simulator.jobs import build_worker_step
from byzax.simulator.messages import stack_rows
from byzax.simulator.periodic import by_step, mean_measurements, periodic_network
from byzax.simulator.processes import UPDATE, check_processes, models_of, public_of, rounds_of
from byzax.simulator.receivers import UpdateReceiver, build_receivers
from byzax.simulator.round_table import WORK, RoundEvent, before
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.server import Server
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.world import World

# What is one row for all receivers stays one where it is compressed, so that models stay equal.
ROWS = Sending("peer", alike=True)


@checked
def all_gather(n: int, f: int) -> Topology:
    """Processes that send their rows to all others, each with the model, the optimizer and the rule.

    Sends: every process its row to all others
    Rule: over all n rows at each process

    In each round a process computes a row at its model; once all have, each sends its row to all others, one after the
    other, as in `all_reduce` with `algorithm: all_to_all`; then every process takes the rule over all n rows, of which
    one is its own, and makes the step of its optimizer. What processes receive of Byzantine ones is forged for each of
    them apart. Where all are sent the same rows, all models are equal, and those of one server; where they are not
    (`equivocate`, attacks that draw), nothing brings the models together again. On a wire a row is encoded once, and a
    process takes its own as the others decode it.

    Evaluations are means over the honest processes, with the accuracy of the worst of them and their consensus
    distance.

    Args:
        n: Number of processes.
        f: Number of Byzantine processes among them.

    Returns:
        The topology.

    Raises:
        PartError: For an impossible n and f.

    References:
        El Mhamdi et al., NeurIPS 2021, "Collaborative Learning in the Jungle"
    """
    check_workers("all_gather", n, f)
    made = all_to_all(n)
    return Topology(
        build=_network,
        check=check_processes,
        inboxes=(n,),
        declared=lambda rows: f,
        rounds=lambda run: rounds_of(run, made),
        wire=("peer",),
    )


class Gatherer(NamedTuple):
    """The state of a process.

    Attributes:
        server: Its model, and the states of its optimizer and rule.
        memory: Its memory across jobs; None for none.
    """

    server: Server
    memory: Any


def _network(parts: NetworkParts) -> Network:
    n, byzantine = len(parts.world.sizes), np.asarray(parts.world.byzantine_rank) >= 0
    core, honest = parts.core_of(n), np.flatnonzero(~byzantine).tolist()
    # Byzantine processes too take what is forged: they compute their rows from the models of the honest ones
    receivers = build_receivers(parts, [np.arange(n)] * n, peers=True, sends=ROWS)

    def start(here: World) -> NewStates:
        server = core.start(here)
        states = receivers.start(here, len(server.params))
        return states | {("worker", p): Gatherer(server, states["worker", p]) for p in range(n)}

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        found = by_step(arrays)
        aggregates, received = zip(*found[UPDATE], strict=True)
        return {
            "workers": np.arange(n),
            "rows": jnp.stack(found[WORK]),
            "byzantine": byzantine,
            "forged": jnp.stack(received),
            "aggregate": jnp.stack(aggregates),
            "params": models_of(states, range(n)),
        }

    work, update = _build_steps(core, receivers.update)
    return periodic_network(
        (work, receivers.forge, update),
        [
            *(RoundEvent(WORK, p) for p in range(n)),
            *receivers.forgeries(lambda receiver: before(UPDATE, receiver)),
            *(RoundEvent(UPDATE, p, receivers.rows(p)) for p in range(n)),
        ],
        parts.timeline,
        start=start,
        show=public_of,
        measure=_build_measure(tuple(honest)),
        arrays=put_together,
        evaluate=lambda here, states: build_evaluate_models(core.evaluate)(here, models_of(states, honest)),
        params=lambda states: models_of(states, honest).mean(axis=0),
        judged=("worker",),
    )


@compiled_once
def _build_steps(core: Core, update_receiver: UpdateReceiver) -> tuple[NodeStep, NodeStep]:
    worker = build_worker_step(core.work, core.memory, core.batch, core.even)

    def work(here: World, event: NodeEvent, process: Gatherer, messages: Sequence[Any]) -> EventResult:
        memory, row, *_ = worker.run(here, event._replace(versions=(event.turn,)), process.memory, (process.server,))
        return EventResult(process._replace(memory=memory), row, arrays=row)

    def update(here: World, event: NodeEvent, process: Gatherer, messages: Sequence[Any]) -> EventResult:
        server, diagnostics, decision = update_receiver(here, event, process.server, messages)
        process = process._replace(server=server)
        arrays = decision.aggregate, stack_rows(messages)
        return EventResult(process, public_of(process), (diagnostics, decision.weights), arrays)

    return (
        worker._replace(carry_out=work, node_word="process", transform=None, sends=ROWS, receives=None),
        NodeStep(UPDATE, "worker", update, "process", together="map"),
    )


@compiled_once
def _build_measure(honest: tuple[int, ...]) -> MeasureUpdate:
    """The means over the honest processes."""

    def measure(seen: OfEvents, happened: Any = None) -> tuple[Diagnostics, Any]:
        found = by_step(seen)[UPDATE]
        return mean_measurements([found[p] for p in honest])

    return measure
