"""Groups of workers, of whose rows the rule sees the means."""

from collections.abc import Collection
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.config.privacy import Masks
from byzax.simulator.masks import decode, encode, fixed_point, mask_rows, pairs_of, sum_groups

Array = jax.Array


class WorkerGroups(NamedTuple):
    """Groups of workers: worker i belongs to group i mod `number`.

    Attributes:
        number: The number of groups.
        workers: Number of workers.
        whole: Whether a group counts only where a row of each of its workers is there.
        masks: The masks under which rows are sent; None for none.
    """

    number: int
    workers: int
    whole: bool = False
    masks: Masks | None = None


class MeanOfGroups(Protocol):
    """Takes the means of the rows of groups."""

    def __call__(self, rows: Array, workers: Array, key: Array, /) -> tuple[Array, Array, Array]:
        """The means.

        Args:
            rows: `[m, d]`.
            workers: `[m]`, their workers, -1 where no row is.
            key: Key of the masks.

        Returns:
            The means `[seen, d]` of the groups that count, by their numbers; for each row the place of its group among
            them `[m]`, `seen` where it is in none; and the number of rows of its group `[m]`.
        """
        ...


def heard_groups(heard: Collection[int], count: int, whole: bool, n: int) -> int:
    """The number of groups that count.

    Args:
        heard: The workers whose rows are there.
        count: Number of groups.
        whole: See `WorkerGroups.whole`.
        n: Number of workers.

    Returns:
        The number of groups with a row, or with all rows.
    """
    rows = np.bincount(np.fromiter(heard, int) % count, minlength=count)
    return int((rows == sizes_of(n, count) if whole else rows > 0).sum())


def sizes_of(n: int, count: int) -> np.ndarray:
    """The numbers of workers `[count]` of groups of n workers."""
    return np.bincount(np.arange(n) % count, minlength=count)


def build_mean_of_groups(groups: WorkerGroups, seen: int, hidden: bool) -> MeanOfGroups:
    """Builds the means of groups.

    Args:
        groups: The groups.
        seen: The number of groups that count.
        hidden: Whether rows are put under their masks, which changes no sum.

    Returns:
        The function that takes them, not compiled.
    """
    count, n, masks = groups.number, groups.workers, groups.masks
    sizes = sizes_of(n, count)
    pairs = pairs_of(n, count)

    def sum_of(rows: Array, workers: Array, place: Array, key: Array) -> Array:
        if masks is None:
            return jax.ops.segment_sum(rows, place, count + 1)[:count]
        point = fixed_point(masks.bits, masks.range, int(sizes.max()))
        whom = jnp.where(workers < 0, n, workers)
        encoded = jnp.zeros((n, rows.shape[1]), jnp.uint32).at[whom].set(encode(rows, point), mode="drop")
        there = jnp.zeros(n, bool).at[whom].set(True, mode="drop")
        if hidden:
            encoded = mask_rows(encoded, key, pairs, masks.bits)
        return decode(sum_groups(encoded, there, key, pairs if hidden else pairs[:0], count, masks.bits), point)

    def mean_of_groups(rows: Array, workers: Array, key: Array) -> tuple[Array, Array, Array]:
        place = jnp.where(workers < 0, count, workers % count)
        counts = jax.ops.segment_sum(jnp.ones(len(workers), jnp.float32), place, count + 1)
        means = sum_of(rows, workers, place, key) / counts[:count, None].astype(rows.dtype)
        if seen == count:
            return means, place, counts[place]
        heard = counts[:count] == sizes if groups.whole else counts[:count] > 0
        order = jnp.argsort(~heard, stable=True)[:seen]
        rank = jnp.full(count + 1, seen).at[order].set(jnp.arange(seen))
        return means[order], rank[place], counts[place]

    return mean_of_groups
