"""Chunks of sums on the wire: each is compressed by who sends it first, and passed on as it came."""

from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.run import Run
from byzax.simulator.durations import WAYS
from byzax.simulator.exchanges import AllReduce
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.transforms import Transform, WireKeys
from byzax.simulator.wire import part_sizes, transform_at
from byzax.simulator.wired import break_message

Array = jax.Array


class Encoding(NamedTuple):
    """The random numbers of a message.

    Attributes:
        root: Root key of the run.
        turn: The round.
        exchange: The exchange in which it is sent, from 0.
        total: The sum that it holds, as a number: all who have the same one encode it alike.
    """

    root: Any
    turn: Any
    exchange: Any
    total: Any


class PassChunk(Protocol):
    """Sends a chunk over the wire."""

    def __call__(self, encoding: Encoding, values: Array, chunk: Any, breaks: Any, /) -> Array:
        """The numbers that receivers get.

        Args:
            encoding: Its random numbers.
            values: `[c]`, the numbers of the chunk, filled up with zeros.
            chunk: The chunk.
            breaks: Whether its sender treats it as `attack.wire` says.

        Returns:
            `[c]`.
        """
        ...


def build_pass_chunk(run: Run) -> PassChunk | None:
    """Builds the way of the chunks of an all-reduce over the wire.

    Args:
        run: The run.

    Returns:
        The function; None where they are sent as they are.

    Raises:
        ValueError: Where a transform cannot be built for chunks.
    """
    sizes = part_sizes(run)
    # the first are the longer ones
    distinct = tuple(dict.fromkeys(size for size in sizes if size))
    made = [transform_at(run, "peer", ((size,),)) for size in distinct]
    transforms = tuple(each for each in made if each is not None)
    if not transforms:
        return None
    return _build_pass(transforms, distinct, sizes.count(sizes[0]), run.attack.wire)


@compiled_once
def _build_pass(
    transforms: tuple[Transform, ...],
    sizes: tuple[int, ...],
    longer: int,
    how: Literal["encoded", "ignored", "malformed"],
) -> PassChunk:
    """Builds it for chunks of one size or two, of which the first `longer` have the first size."""
    way, width = WAYS.index("peer"), sizes[0]

    def through(made: Transform, size: int, keys: WireKeys, values: Array, breaks: Any) -> Array:
        message, _ = made.encode(keys, values[:size], made.init())
        if how == "malformed":
            broken = break_message(jax.random.fold_in(keys.own, 2), message)
            message = jax.tree.map(lambda bad, good: jnp.where(breaks, bad, good), broken, message)
        decoded, _ = made.decode(keys, message, made.init_receiver())
        return jnp.pad(decoded, (0, width - size))

    def pass_chunk(encoding: Encoding, values: Array, chunk: Any, breaks: Any) -> Array:
        root, turn, exchange, total = encoding
        keys = WireKeys(
            derive(root, Purpose.WIRE, len(WAYS) + way, total, turn, exchange),
            # a mask of its own in each exchange: numbers that met one mask twice would be scaled twice
            derive(root, Purpose.WIRE, way, turn, exchange),
        )
        received = through(transforms[0], sizes[0], keys, values, breaks)
        if len(transforms) > 1:
            received = jnp.where(chunk < longer, received, through(transforms[1], sizes[1], keys, values, breaks))
        return jnp.where(breaks, values, received) if how == "ignored" else received

    return pass_chunk


def encoded_first(n: int, made: AllReduce) -> list[np.ndarray]:
    """The chunks that processes encode: those that they sent in no encoding yet, and did not get in one.

    What a process has sent it holds further on as its receivers do, and who have the same sum encode it alike, so that
    all have the same one in the end; in `butterfly` those too encode it who have nobody to send it to.

    Args:
        n: Number of processes.
        made: The all-reduce.

    Returns:
        For each exchange the chunk that each process encodes, -1 for none, and the number of the sum that it is of,
        `[n, 2]`.
    """
    known = np.zeros((n, made.chunks), bool)
    # the least of the rows in each sum: no two sums of a chunk have one in common
    least = np.tile(np.arange(n)[:, None], made.chunks)
    found = [np.tile([-1, 0], (n, 1)) for _ in made.exchanges]

    def encode(exchange: int, p: int, chunk: int) -> None:
        found[exchange][p] = chunk, chunk * n + least[p, chunk]

    for i, exchange in enumerate(made.exchanges):
        sent = [least[each.sender, each.chunk] for each in exchange]
        for each in exchange:
            if not known[each.sender, each.chunk]:
                encode(i, each.sender, each.chunk)
        for each in exchange:
            known[each.sender, each.chunk] = True
        for each, other in zip(exchange, sent, strict=True):
            mine = each.receiver, each.chunk
            known[mine], least[mine] = not each.adds, min(least[mine], other) if each.adds else other
    for p, chunk in zip(*np.nonzero(~known & known.any(axis=0)), strict=True):
        encode(next(i for i, each in enumerate(made.exchanges) if not all(one.adds for one in each)), p, chunk)
    return found
