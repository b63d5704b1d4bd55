"""The states of workers of a large population: of those that do jobs, in memory or, beyond a budget, in a file."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.engine import NodeLeaves, changed_leaves, leaves_of
from byzax.simulator.timeline import Timeline


class Page(NamedTuple):
    """Consecutive updates, and the workers whose states are in memory meanwhile.

    Attributes:
        since: The first update.
        until: The update after the last one.
        workers: `[m]`, those that do jobs in these updates.
    """

    since: int
    until: int
    workers: np.ndarray


def plan_pages(timeline: Timeline, n: int, state: Any, budget_bytes: float) -> list[Page]:
    """Cuts a run into pages whose states have room in memory; an update by itself may need more.

    Args:
        timeline: The timeline of a run with one server.
        n: Number of workers.
        state: The state with which every worker begins.
        budget_bytes: The memory for states.

    Returns:
        The pages; none where the states of all workers are in memory all the time.
    """
    size = sum(leaf.nbytes for leaf in leaves_of(state))
    drawn = np.unique(timeline.rows.workers)
    if not size or (len(drawn) == n and n * size <= budget_bytes):
        return []
    if len(drawn) * size <= budget_bytes:
        return [Page(0, timeline.steps, drawn)]
    pages = list(_cut(timeline, n, budget_bytes / size))
    # where an update has all workers nothing is gained
    return [] if max(len(page.workers) for page in pages) == n else pages


def _cut(timeline: Timeline, n: int, most: float) -> Iterator[Page]:
    """Pages of as many updates as have jobs of `most` workers."""
    readers, begins = timeline.readers()
    since, inside = 0, np.zeros(n, bool)
    for update in range(timeline.steps):
        places: Any = slice(int(begins[update]), int(begins[update + 1]))
        mine = timeline.rows.workers[places if readers is None else readers[places]]
        if update > since and np.count_nonzero(inside) + np.count_nonzero(~inside[mine]) > most:
            yield Page(since, update, np.flatnonzero(inside))
            since, inside = update, np.zeros(n, bool)
        inside[mine] = True
    yield Page(since, timeline.steps, np.flatnonzero(inside))


class StatePages:
    """The states of the workers of one seed: those of a page are arrays of JAX, the others in a file."""

    def __init__(self, pages: Sequence[Page], n: int, state: Any) -> None:
        """No states yet.

        Args:
            pages: The pages of the run.
            n: Number of workers.
            state: The state with which every worker begins.

        Raises:
            ValueError: Where a file for the states has no room.
        """
        self.pages, self._state, self._first = pages, state, leaves_of(state)
        self._order = _by_first_page(pages)
        self._slots = np.full(n, -1)
        self._slots[self._order] = np.arange(len(self._order))
        # how many, in the order of their first pages, may be others than at the beginning
        self._used, self._stored = 0, [] if len(pages) == 1 else _file_of(len(self._order), self._first)
        self._place = np.zeros(n, np.int32)
        self.page = pages[0]

    def begin(self, step: int, kept: NodeLeaves) -> Any:
        """The states of the page of an update.

        Args:
            step: The update.
            kept: The states of all workers before it.

        Returns:
            Those of the page, `[m, ...]`, on the host.
        """
        self.page = next(page for page in self.pages if step < page.until or page is self.pages[-1])
        self._place[self.page.workers] = np.arange(len(self.page.workers))
        leaves = [self._repeated(leaf, len(self.page.workers)) for leaf in self._first]
        if kept.nodes.size:
            self._fill(kept)
            inside = np.isin(kept.nodes, self.page.workers)
            for leaf, mine in zip(leaves, kept.leaves, strict=True):
                leaf[self._place[kept.nodes[inside]]] = mine[inside]
        return self._with_structure(leaves)

    def turn(self, step: int, states: Any) -> Any:
        """Turns to the page of an update.

        Args:
            step: The update.
            states: The states of the present page, `[1, m, ...]`.

        Returns:
            Those of the next one, or of the same.
        """
        if step < self.page.until:
            return states
        self._keep(states)
        self.page = next(page for page in self.pages if step < page.until)
        workers = self.page.workers
        self._place[workers] = np.arange(len(workers))
        slots = self._slots[workers]
        known = np.flatnonzero(slots < self._used)
        leaves = [self._repeated(leaf, len(workers)) for leaf in self._first]
        for leaf, stored in zip(leaves, self._stored, strict=True):
            leaf[known] = stored[slots[known]]
        return jax.tree.map(jnp.asarray, self._with_structure([leaf[None] for leaf in leaves]))

    def places(self, workers: np.ndarray) -> np.ndarray:
        """The places of workers of the present page in its states; any where a worker is none of it."""
        return self._place[workers]

    def state_of(self, worker: int, states: Any) -> Any:
        """The state of a worker.

        Args:
            worker: The worker.
            states: The states of the present page, `[1, m, ...]`.

        Returns:
            Its state.
        """
        place = self._place[worker]
        if place < len(self.page.workers) and self.page.workers[place] == worker:
            return jax.tree.map(lambda leaf: leaf[0, place], states)
        slot = self._slots[worker]
        if not 0 <= slot < self._used:
            return self._state
        return self._with_structure([np.asarray(stored[slot]) for stored in self._stored])

    def left(self, states: Any) -> NodeLeaves:
        """The states of all workers that are others than at the beginning.

        Args:
            states: The states of the present page, `[1, m, ...]`.

        Returns:
            These states.
        """
        if not self._stored:
            leaves = [leaf[0] for leaf in leaves_of(states)]
            return changed_leaves(self.page.workers, leaves, self._state)
        self._keep(states)
        # the file as it is mapped: together they may have no room in memory
        return NodeLeaves(self._order[: self._used], [stored[: self._used] for stored in self._stored])

    def _keep(self, states: Any) -> None:
        slots = self._slots[self.page.workers]
        for stored, leaf in zip(self._stored, leaves_of(states), strict=True):
            stored[slots] = leaf[0, : len(slots)]
        self._used = max(self._used, int(slots.max()) + 1)

    def _fill(self, kept: NodeLeaves) -> None:
        if not self._stored:
            return
        slots = self._slots[kept.nodes]
        self._used = int(slots.max()) + 1
        for stored, first, leaf in zip(self._stored, self._first, kept.leaves, strict=True):
            stored[: self._used] = first
            stored[slots] = leaf

    def _repeated(self, leaf: np.ndarray, count: int) -> np.ndarray:
        # a power of two of places, so that few numbers are compiled
        whole = count if len(self.pages) == 1 else 1 << (count - 1).bit_length()
        return np.broadcast_to(leaf, (whole, *leaf.shape)).copy()

    def _with_structure(self, leaves: Sequence[np.ndarray]) -> Any:
        old, structure = jax.tree.flatten(self._state)
        is_key = (isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in old)
        made = (
            jax.random.wrap_key_data(jnp.asarray(leaf)) if key else leaf
            for key, leaf in zip(is_key, leaves, strict=True)
        )
        return jax.tree.unflatten(structure, made)


def _by_first_page(pages: Sequence[Page]) -> np.ndarray:
    """The workers of all pages, each once, in the order in which they come."""
    workers = np.concatenate([page.workers for page in pages])
    return workers[np.sort(np.unique(workers, return_index=True)[1])]


def _file_of(count: int, first: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Mapped arrays for so many states, in a file without a name, which is gone with the process."""
    sizes = [leaf.nbytes * count for leaf in first]
    # arrays begin at multiples of 4096 bytes
    begins = np.concatenate([[0], np.cumsum([-(-size // 4096) * 4096 for size in sizes])]).tolist()
    with tempfile.TemporaryFile(prefix="byzax-states-") as file:
        try:
            # where a file is full later on a signal ends the process
            os.posix_fallocate(file.fileno(), 0, max(1, begins[-1]))
        except OSError as error:
            raise ValueError(
                f"executor.state_memory_gib: a file of {begins[-1] / 2**30:.2f} GiB in {tempfile.gettempdir()} for the "
                f"states of {count} workers cannot be made ({error.strerror}): set TMPDIR to a folder with room, or "
                "raise it"
            ) from None
        return [
            np.memmap(file, leaf.dtype, "r+", begin, (count, *leaf.shape))
            for leaf, begin in zip(first, begins[:-1], strict=True)
        ]
