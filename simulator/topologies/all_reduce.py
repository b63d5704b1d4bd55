"""All-reduce: processes without a server sum their rows by messages among themselves, and all take the same step."""

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.aggregators.kernels.means import mean_of
from byzax.options import PartError, checked
from byzax.simulator.chunk_wire import build_pass_chunk
from byzax.simulator.chunks import ChunkPlace, ChunkSending, begin, build_tables, cut, mean_of_chunks, pass_on
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.run import Run
from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Diagnostics, build_evaluate_models, compare_with_honest
from byzax.simulator.events import EventResult, Network, NewStates, NodeEvent, NodeStep, OfEvents, States
from byzax.simulator.exchanges import ALGORITHMS, AllReduce, chunk_sizes
from byzax.simulator.jobs import build_worker_step
from byzax.simulator.messages import stack_rows
from byzax.simulator.periodic import by_step, periodic_network
from byzax.simulator.processes import (
    CONTRIBUTE,
    UPDATE,
    check_one_row,
    check_processes,
    exchange_name,
    models_of,
    public_of,
    rounds_of,
)
from byzax.simulator.receivers import build_receivers
from byzax.simulator.round_table import WORK, Message, RoundEvent, before
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.server import Server
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.world import World

# The event of an observer, which compares what processes computed with what they got, and the model that a process
# shows to attackers. Neither is a message of the all-reduce.
COMPARE, SHOW = "compare", "show"

Algorithm = Literal["ring", "tree", "butterfly", "round_robin", "all_to_all", "master_worker"]


@checked
def all_reduce(
    n: int, f: int, *, algorithm: Algorithm = "ring", corrupts: Literal["contribution", "everything"] = "contribution"
) -> Topology:
    """Processes that sum their rows among themselves, each with the model and the optimizer.

    Sends: every process chunks of its row, of partial sums and of the sum, as the algorithm says
    Rule: none but the average: sums of rows hide what each of them was

    In each round a process computes a row at its model; once all have, the all-reduce is carried out message by
    message; then every process divides the sum by n and makes the step of its optimizer. Without Byzantine processes
    all models are equal to the last bit, as each number is summed in one order for all. A process sends one message and
    receives one at a time, so that `master_worker` takes as long as the link of its master.

    * `ring`: chunks of N/n numbers go around a ring twice, first to be summed, then as sums; 2(n-1) messages a process.
    * `tree`: sums go up a binary tree to process 0 and down again; 2(n-1) messages of N in all.
    * `butterfly`: processes in distances 1, 2, 4, ... exchange what they have; log2 n messages of N a process. Where n
      is no power of two those above the largest one below hand their rows to others before, and get the sum after.
    * `round_robin`: process p gets chunk p of all rows, and sends the sum to all; both in the order of the ring.
    * `all_to_all`: every process sends its row to all others; n-1 messages of N a process.
    * `master_worker`: all send their rows to process 0, one after the other, and get the sum.

    Evaluations are means over the honest processes, with the accuracy of the worst of them and their consensus
    distance.

    Args:
        n: Number of processes.
        f: Number of Byzantine processes among them.
        algorithm: The messages.
        corrupts: The lie of a Byzantine process: "contribution" for its row, and it passes on what came from others as
            it is; "everything" for all that it sends: in place of a sum of j rows j times its forged row. Where its row
            is not forged, it lies about nothing.

    Returns:
        The topology.

    Raises:
        PartError: For an impossible n and f.

    References:
        Thakur, Rabenseifner, Gropp 2005 (tree, butterfly); Patarasuk, Yuan 2009 (ring); Zhao, Canny 2013 (round-robin)
    """
    check_workers("all_reduce", n, f)
    made = ALGORITHMS[algorithm](n)
    return Topology(
        build=lambda parts: _network(parts, made, corrupts == "everything"),
        check=_check,
        inboxes=(n,),
        declared=lambda rows: f,
        rounds=lambda run: rounds_of(run, made),
        wire=("peer",),
        parts=lambda d: tuple(chunk_sizes(d, made.chunks).tolist()),
        remembers=False,
    )


def _check(run: Run) -> None:
    if run.rule.name != "average" or run.pre:
        raise PartError(
            f"{run.topology.label}: sums rows, and sees no single one: take rule average without pre, or topology "
            "all_gather, in which every process gets all rows"
        )
    check_processes(run)
    check_one_row(run)


class Process(NamedTuple):
    """The state of a process.

    Attributes:
        server: Its model, and the state of its optimizer.
        memory: Its memory across jobs; None for none.
        chunks: `[k, c]`, the k chunks of its partial sum, filled up to one length; None where rows are gathered.
        row: `[k, c]`, the row that it computed, and once it has contributed that one; None where what it sends does not
            depend on whether it lies.
        lies: Whether its row was forged; None likewise.
    """

    server: Server
    memory: Any
    chunks: Any
    row: Any
    lies: Any


def _network(parts: NetworkParts, made: AllReduce, corrupts: bool) -> Network:
    n = len(parts.world.sizes)
    core, byzantine = parts.core_of(n), np.asarray(parts.world.byzantine_rank) >= 0
    honest = np.flatnonzero(~byzantine).tolist()
    last, wire = len(made.exchanges), build_pass_chunk(parts.run)
    sending = ChunkSending(corrupts and not made.gathers, wire)
    # the other ways of messages that are forged on the wire
    apart = sending.corrupts or (wire is not None and parts.run.attack.wire != "encoded")
    # attackers take the model of the first honest process for that of the server, and forge one row each for all
    attackers = build_receivers(parts, [np.arange(n)])
    forgeries = attackers.forgeries(lambda receiver: before(SHOW, honest[0]))

    def passes_on(number: int, p: int) -> list[Message] | None:
        """The messages that process p reads after an exchange; None where it takes part neither in it nor the next."""
        senders = [each.sender for each in made.exchanges[number - 1] if each.receiver == p]
        sends = number < last and any(each.sender == p for each in made.exchanges[number])
        return [Message(exchange_name(number - 1), sender) for sender in senders] if senders or sends else None

    exchanging = [
        RoundEvent(exchange_name(number), p, reads)
        for number in ([] if made.gathers else range(1, last + 1))
        for p in range(n)
        if (reads := passes_on(number, p)) is not None
    ]
    gathered = [Message(CONTRIBUTE, p) for p in range(n)] if made.gathers else []

    def start(world: World) -> NewStates:
        server = core.start(world)
        d = len(server.params)
        states = attackers.start(world, d)
        nothing = cut(jnp.zeros(d, server.params.dtype), made.chunks)
        own = None if made.gathers else nothing, nothing if apart else None, jnp.asarray(False) if apart else None
        states |= {("worker", p): Process(server, states["worker", p], *own) for p in range(n)}
        return states | {("observer", 0): None}

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        found = by_step(arrays)
        return {
            "workers": np.arange(n),
            "rows": jnp.stack(found[WORK]),
            "byzantine": byzantine,
            "forged": jnp.stack(found[CONTRIBUTE]),
            "aggregate": jnp.stack(found[UPDATE]),
            "params": models_of(states, range(n)),
        }

    work, *others, compare, show = _build_steps(core, made, n, corrupts, sending)
    return periodic_network(
        (work, attackers.forge, *others, compare, show),
        [
            *(RoundEvent(WORK, p) for p in range(n)),
            *forgeries,
            *(RoundEvent(CONTRIBUTE, p, [sent]) for p, sent in enumerate(attackers.rows(0))),
            *exchanging,
            *(RoundEvent(UPDATE, p, gathered) for p in range(n)),
            RoundEvent(COMPARE, 0, [*(Message(WORK, p) for p in range(n)), *(Message(UPDATE, p) for p in honest)]),
            *([RoundEvent(SHOW, honest[0])] if forgeries else []),
        ],
        parts.timeline,
        start=start,
        show=public_of,
        measure=_measure,
        arrays=put_together,
        evaluate=lambda here, states: build_evaluate_models(core.evaluate)(here, models_of(states, honest)),
        params=lambda states: models_of(states, honest).mean(axis=0),
        judged=("worker",),
    )


@compiled_once
def _build_steps(core: Core, made: AllReduce, n: int, corrupts: bool, sending: ChunkSending) -> tuple[NodeStep, ...]:
    worker = build_worker_step(core.work, core.memory, core.batch, core.even)

    def work(here: World, event: NodeEvent, process: Process, messages: Sequence[Any]) -> EventResult:
        memory, row, *_ = worker.run(here, event._replace(versions=(event.turn,)), process.memory, (process.server,))
        process = process._replace(memory=memory)
        if process.row is not None:
            process = process._replace(row=cut(row, made.chunks))
        return EventResult(process, row, arrays=row)

    def contribute(here: World, event: NodeEvent, process: Process, messages: Sequence[Any]) -> EventResult:
        rows = stack_rows(messages)
        if made.gathers and sending.wire is None:
            # all that is sent is the own row
            return EventResult(process, rows[0], arrays=rows[0])
        place = ChunkPlace(here.key, event.turn, 0, event.node)
        chunks, row, lies, message = begin(
            sending, made.chunks, rows[0], process.row, here.byzantine_rank, place, tables[0]
        )
        process = Process(*process[:2], None if made.gathers else chunks, row, lies)
        return EventResult(process, message, arrays=rows[0])

    def build_exchange(number: int, table: np.ndarray) -> Any:
        def exchange(here: World, event: NodeEvent, process: Process, messages: Sequence[Any]) -> EventResult:
            received = messages[0] if len(messages) else None
            place = ChunkPlace(here.key, event.turn, number, event.node)
            chunks, message = pass_on(sending, *process[2:], received, place, table)
            return EventResult(process._replace(chunks=chunks), message)

        return exchange

    def update(here: World, event: NodeEvent, process: Process, messages: Sequence[Any]) -> EventResult:
        server, d = process.server, len(process.server.params)
        mean = _mean_of_rows(stack_rows(messages)) if made.gathers else mean_of_chunks(process.chunks, d, n)
        params, optimizer = core.move(server.params, server.optimizer, mean)
        server = server._replace(params=params, optimizer=optimizer, step=server.step + 1)
        # partial sums are no part of a snapshot
        empty = jax.tree.map(jnp.zeros_like, (process.chunks, process.row, process.lies))
        return EventResult(Process(server, process.memory, *empty), mean, arrays=mean)

    def compare(here: World, event: NodeEvent, state: None, messages: Sequence[Any]) -> EventResult:
        return EventResult(None, jnp.zeros(()), _compare(stack_rows(messages), here.byzantine_rank, corrupts))

    def show(here: World, event: NodeEvent, process: Process, messages: Sequence[Any]) -> EventResult:
        return EventResult(process, public_of(process))

    process_step = partial(NodeStep, kind="worker", node_word="process", together="batch")
    tables = build_tables(n, made)
    return (
        worker._replace(carry_out=work, node_word="process", transform=None),
        process_step(CONTRIBUTE, carry_out=contribute),
        *(process_step(exchange_name(i), carry_out=build_exchange(i, each)) for i, each in enumerate(tables) if i),
        process_step(UPDATE, carry_out=update),
        NodeStep(COMPARE, "observer", compare, together="map"),
        process_step(SHOW, carry_out=show),
    )


@jax.jit
def _mean_of_rows(rows: jax.Array) -> jax.Array:
    # one after the other: the order is the same at all processes
    return reduce(jnp.add, rows) * np.float32(1 / len(rows))


@partial(jax.jit, static_argnums=2)
def _compare(vectors: jax.Array, ranks: jax.Array, corrupts: bool) -> tuple[Diagnostics, jax.Array]:
    """The means over honest processes: their aggregates stand behind the n rows as they were computed."""
    n, byzantine = len(ranks), ranks >= 0
    honest, _ = mean_of(vectors[:n], ~byzantine)
    norm, cosine, distance = jax.lax.map(lambda mean: compare_with_honest(mean, honest), vectors[n:])
    # of sums that were corrupted on their way nobody knows what a row weighs in them
    known = ~byzantine.any() if corrupts else True
    weights = jnp.where(known, jnp.full(n, 1 / n), jnp.nan)
    diagnostics = Diagnostics(
        aggregate_norm=norm.mean(),
        honest_cosine=cosine.mean(),
        honest_distance=distance.mean(),
        byzantine_weight=jnp.where(byzantine, weights, 0).sum(),
        undecided=jnp.zeros(()),
        age=jnp.zeros(()),
        accepted=jnp.ones(()),
    )
    return jax.tree.map(jnp.float32, diagnostics), weights


def _measure(seen: OfEvents, happened: Any = None) -> tuple[Diagnostics, Any]:
    return dict(seen)[COMPARE]
