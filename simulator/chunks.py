"""Chunks of the sums of an all-reduce, at the processes that add them up and pass them on."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.chunk_wire import Encoding, PassChunk, encoded_first
from byzax.simulator.exchanges import AllReduce, count_rows


class ChunkSending(NamedTuple):
    """The treatment of messages.

    Attributes:
        corrupts: Whether a process that lies sends in place of a sum of j rows j times its own.
        wire: Their way over the wire; None where they are sent as they are.
    """

    corrupts: bool
    wire: PassChunk | None


class ChunkPlace(NamedTuple):
    """The place of a message.

    Attributes:
        root: Root key of the run.
        turn: The round.
        exchange: The exchange in which it is sent, from 0.
        node: The process that sends it.
    """

    root: Any
    turn: Any
    exchange: Any
    node: Any


def build_tables(n: int, made: AllReduce) -> list[np.ndarray]:
    """Builds the tables of the contribution and of the end of each exchange.

    Args:
        n: Number of processes.
        made: The all-reduce.

    Returns:
        `[n, 6]` each. A process p receives chunk `[p, 0]` and adds it where `[p, 1]` is 1, and then sends chunk
        `[p, 2]` with the sum of `[p, 3]` rows, which it encodes on a wire where `[p, 4]` is 1, as the sum number
        `[p, 5]`. Of what is gathered there is that of the contribution alone.
    """
    tables = [np.zeros((n, 6), np.int32) for _ in range(len(made.exchanges) + 1)]
    encodes = encoded_first(n, made)
    for i, (exchange, rows) in enumerate(zip(made.exchanges, count_rows(n, made), strict=True)):
        chunk, total = encodes[i].T
        tables[i][:, 2], tables[i][:, 4], tables[i][:, 5] = np.maximum(chunk, 0), chunk >= 0, total
        for each in exchange:
            tables[i][each.sender, 2:4] = each.chunk, rows[each.sender]
            tables[i + 1][each.receiver, :2] = each.chunk, each.adds
    return tables[:1] if made.gathers else tables


@partial(jax.jit, static_argnums=1)
def cut(vector: jax.Array, chunks: int) -> jax.Array:
    """A vector in chunks `[chunks, c]`. See `chunk_sizes`: shorter ones end with a zero."""
    short, longer = divmod(len(vector), chunks)
    if not longer:
        return vector.reshape(chunks, short)
    first, others = jnp.split(vector, [longer * (short + 1)])
    filled = jnp.pad(others.reshape(chunks - longer, short), ((0, 0), (0, 1)))
    return jnp.concatenate([first.reshape(longer, short + 1), filled])


@partial(jax.jit, static_argnums=(1, 2))
def mean_of_chunks(sums: jax.Array, d: int, n: int) -> jax.Array:
    """The vector `[d]` of which these are the chunks, divided by n."""
    longer = d % len(sums)
    others = sums[longer:, : d // len(sums)]
    # as XLA divides by a number too
    return jnp.concatenate([sums[:longer].ravel(), others.ravel()]) * np.float32(1 / n)


@partial(jax.jit, static_argnums=(0, 1))
def begin(
    sending: ChunkSending, chunks: int, row: jax.Array, computed: Any, ranks: Any, place: ChunkPlace, table: Any
) -> tuple[Any, Any, Any, Any]:
    """Begins an all-reduce at a process.

    Args:
        sending: The treatment of messages.
        chunks: Number of chunks.
        row: `[d]`, the row that it contributes.
        computed: `[k, c]`, the row that it computed; None where what it sends does not depend on whether it lies.
        ranks: `[n]`, the ranks of Byzantine processes among themselves, -1 for honest ones.
        place: The place of its first message.
        table: That of the contribution.

    Returns:
        The chunks of its partial sum, those of the row that it contributes, whether this one is forged, and its first
        message.
    """
    mine, lies = cut(row, chunks), None
    if computed is not None:
        lies = (ranks[place.node] >= 0) & (mine != computed).any()
    kept = None if computed is None else mine
    held, message = _sent(sending, mine, kept, lies, place, table)
    return held, kept, lies, message


@partial(jax.jit, static_argnums=0)
def pass_on(
    sending: ChunkSending, chunks: Any, row: Any, lies: Any, received: Any, place: ChunkPlace, table: Any
) -> tuple[Any, Any]:
    """Goes on with an all-reduce at a process, after an exchange.

    Args:
        sending: The treatment of messages.
        chunks: `[k, c]`, the chunks of its partial sum.
        row: As `begin` gives it.
        lies: Likewise.
        received: `[c]`, the message that it received; None for none.
        place: The place of its next message.
        table: That of the exchange.

    Returns:
        The chunks after it, and the message that it sends in the next one.
    """
    if received is not None:
        into, adds = table[place.node, 0], table[place.node, 1]
        chunks = chunks.at[into].set(jnp.where(adds, chunks[into] + received, received))
    return _sent(sending, chunks, row, lies, place, table)


def _sent(sending: ChunkSending, chunks: Any, row: Any, lies: Any, place: ChunkPlace, table: Any) -> tuple[Any, Any]:
    """The chunks of a process once it has sent one, and the message."""
    _, _, chunk, count, encodes, total = table[place.node]
    lying = lies if sending.corrupts else False
    message = jnp.where(lying, count * row[chunk], chunks[chunk]) if sending.corrupts else chunks[chunk]
    if sending.wire is None:
        return chunks, message
    # in sums with rows of others nothing is forged
    breaks = False if lies is None else lies & (sending.corrupts | (count == 1))
    received = sending.wire(Encoding(place.root, place.turn, place.exchange, total), message, chunk, breaks)
    message = jnp.where((encodes > 0) | lying, received, message)
    # what others have of it is what it holds, so that all end with the same sum
    holds = (encodes > 0) & ~jnp.asarray(lying)
    return chunks.at[chunk].set(jnp.where(holds, message, chunks[chunk])), message
