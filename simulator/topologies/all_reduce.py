"""All-reduce: processes without a server sum their rows by messages among themselves, and all take the same step."""

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.aggregators.kernels.means import mean_of
from byzax.options import PartError, checked
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.run import Run
from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Diagnostics, build_evaluate_models, compare_with_honest
from byzax.simulator.events import EventResult, Network, NewStates, NodeEvent, NodeStep, OfEvents, States
from byzax.simulator.exchanges import ALGORITHMS, AllReduce, count_rows
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
        row: `[k, c]`, the row that it computed, and once it has contributed that one; None where it passes on what came
            from others as it is.
        lies: Whether it lies in all that it sends; None likewise.
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
    last = len(made.exchanges)
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
        nothing = _cut(jnp.zeros(d, server.params.dtype), made.chunks)
        # what is gathered is no sum: all that is sent is the own row
        lies = corrupts and not made.gathers
        own = None if made.gathers else nothing, nothing if lies else None, jnp.asarray(False) if lies else None
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

    work, *others, compare, show = _build_steps(core, made, n, corrupts)
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
def _build_steps(core: Core, made: AllReduce, n: int, corrupts: bool) -> tuple[NodeStep, ...]:
    worker = build_worker_step(core.work, core.memory, core.batch)

    def work(here: World, event: NodeEvent, process: Process, messages: Sequence[Any]) -> EventResult:
        memory, row, *_ = worker.run(here, event._replace(versions=(event.turn,)), process.memory, (process.server,))
        process = process._replace(memory=memory)
        if process.row is not None:
            process = process._replace(row=_cut(row, made.chunks))
        return EventResult(process, row, arrays=row)

    def contribute(here: World, event: NodeEvent, process: Process, messages: Sequence[Any]) -> EventResult:
        rows = stack_rows(messages)
        if made.gathers:
            return EventResult(process, rows[0], arrays=rows[0])
        ranks = here.byzantine_rank
        *after, message = _begin(made.chunks, rows, process.row, ranks, event.node, tables[0])
        return EventResult(Process(*process[:2], *after), message, arrays=rows[0])

    def build_exchange(table: np.ndarray) -> Any:
        def exchange(here: World, event: NodeEvent, process: Process, messages: Sequence[Any]) -> EventResult:
            received = messages[0] if len(messages) else None
            chunks, message = _pass_on(*process[2:], received, event.node, table)
            return EventResult(process._replace(chunks=chunks), message)

        return exchange

    def update(here: World, event: NodeEvent, process: Process, messages: Sequence[Any]) -> EventResult:
        server, d = process.server, len(process.server.params)
        mean = _mean_of_rows(stack_rows(messages)) if made.gathers else _mean_of_chunks(process.chunks, d, n)
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
    tables = [] if made.gathers else _tables(n, made)
    return (
        worker._replace(carry_out=work, node_word="process", transform=None),
        process_step(CONTRIBUTE, carry_out=contribute),
        *(process_step(exchange_name(i), carry_out=build_exchange(each)) for i, each in enumerate(tables) if i),
        process_step(UPDATE, carry_out=update),
        NodeStep(COMPARE, "observer", compare, together="map"),
        process_step(SHOW, carry_out=show),
    )


def _tables(n: int, made: AllReduce) -> list[np.ndarray]:
    """The tables of the contribution and of the end of each exchange, `[n, 4]` each.

    A process receives chunk `[p, 0]` and adds it where `[p, 1]` is 1, and then sends chunk `[p, 2]` with the sum of
    `[p, 3]` rows.
    """
    tables = [np.zeros((n, 4), np.int32) for _ in range(len(made.exchanges) + 1)]
    for i, (exchange, rows) in enumerate(zip(made.exchanges, count_rows(n, made), strict=True)):
        for each in exchange:
            tables[i][each.sender, 2:] = each.chunk, rows[each.sender]
            tables[i + 1][each.receiver, :2] = each.chunk, each.adds
    return tables


@partial(jax.jit, static_argnums=1)
def _cut(vector: jax.Array, chunks: int) -> jax.Array:
    """A vector in chunks `[chunks, c]`. See `chunk_sizes`: shorter ones end with a zero."""
    short, longer = divmod(len(vector), chunks)
    if not longer:
        return vector.reshape(chunks, short)
    first, others = jnp.split(vector, [longer * (short + 1)])
    filled = jnp.pad(others.reshape(chunks - longer, short), ((0, 0), (0, 1)))
    return jnp.concatenate([first.reshape(longer, short + 1), filled])


@partial(jax.jit, static_argnums=(1, 2))
def _mean_of_chunks(sums: jax.Array, d: int, n: int) -> jax.Array:
    longer = d % len(sums)
    others = sums[longer:, : d // len(sums)]
    # as XLA divides by a number too
    return jnp.concatenate([sums[:longer].ravel(), others.ravel()]) * np.float32(1 / n)


@jax.jit
def _mean_of_rows(rows: jax.Array) -> jax.Array:
    # one after the other: the order is the same at all processes
    return reduce(jnp.add, rows) * np.float32(1 / len(rows))


@partial(jax.jit, static_argnums=0)
def _begin(chunks: int, rows: jax.Array, computed: Any, ranks: Any, node: Any, table: Any) -> tuple[Any, Any, Any, Any]:
    """The partial sum of a process that contributes a row, this row, whether it lies in all, and its first message."""
    mine, lies = _cut(rows[0], chunks), None
    if computed is not None:
        lies = (ranks[node] >= 0) & (mine != computed).any()
    row = None if computed is None else mine
    return mine, row, lies, _sent(mine, row, lies, table[node])


@jax.jit
def _pass_on(chunks: Any, row: Any, lies: Any, received: Any, node: Any, table: Any) -> tuple[Any, Any]:
    """The partial sum of a process after an exchange, and the message that it sends in the next one."""
    if received is not None:
        into, adds = table[node, 0], table[node, 1]
        chunks = chunks.at[into].set(jnp.where(adds, chunks[into] + received, received))
    return chunks, _sent(chunks, row, lies, table[node])


def _sent(chunks: Any, row: Any, lies: Any, entry: Any) -> Any:
    _, _, chunk, count = entry
    return chunks[chunk] if row is None else jnp.where(lies, count * row[chunk], chunks[chunk])


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
