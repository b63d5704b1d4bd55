"""The interface between the driver of a run and the executors: engines, their states, and what they measure."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.diagnostics import Diagnostics, Evaluation, Update
from byzax.simulator.timeline import Timeline


class NodeLeaves(NamedTuple):
    """The states of the nodes of a kind, but for those that are as the one state with which all of the kind begin.

    Attributes:
        nodes: `[k]`, rising.
        leaves: The leaves of their states, each `[k, ...]`; none where nodes of that kind have no state.
    """

    nodes: np.ndarray
    leaves: list[np.ndarray]


NOT_CHANGED = NodeLeaves(np.empty(0, int), [])


class State(NamedTuple):
    """All that decides the rest of a run, between two updates: the same for every executor.

    Attributes:
        step: Updates so far.
        nodes: The states of the nodes of each kind, by its name.
        places: `[k]`, the rows that are computed already and that later updates read. See `KeptRows.places`.
        rows: `[k, d]`, these rows.
    """

    step: int
    nodes: Mapping[str, NodeLeaves]
    places: np.ndarray
    rows: np.ndarray


class Stretch(NamedTuple):
    """The measurements of consecutive updates of one run.

    Attributes:
        diagnostics: `[t]` each.
        weights: `[t, n]`, the share that the rule gave to each worker's row; `[t, 0]` where these are not recorded.
        recorded: The updates among them that are recorded whole.
    """

    diagnostics: Diagnostics
    weights: np.ndarray
    recorded: tuple[Update, ...] = ()


class Look(NamedTuple):
    """A model with its evaluation.

    Attributes:
        evaluation: Floats.
        params: `[d]`, NumPy.
        since: The updates since the engine was asked for an evaluation before.
        bits: The messages so far that vary in size, by their direction (see `MeasureBits`), and under "pulls" the
            models that workers asked single servers for (see `CountPulls`).
    """

    evaluation: Evaluation
    params: np.ndarray
    since: Stretch
    bits: Mapping[str, np.ndarray] = MappingProxyType({})


class TakeLooks(Protocol):
    """Gives the results of an evaluation that was begun."""

    def __call__(self, wait: bool, /) -> list[Look] | None:
        """One look per seed; None where they are not there yet and `wait` is false."""
        ...


class Engine(NamedTuple):
    """The updates of one run, or of several that differ in their seed and advance together.

    Attributes:
        step: Updates in the state that it began with.
        steps: Updates in all, or more where the runs may end before.
        stretch: Most updates of one call of `advance`, which ends at its multiples and at evaluations: so the numbers
            do not depend on where a run was left.
        timelines: The timelines of the runs, as far as they are known.
        advance: Carries out the updates until so many are made. Returns how many there are: fewer where the runs end.
        evaluate: Begins an evaluation of the present model.
        since: The updates since the last call of `evaluate`, one stretch per seed; waits for them.
        states: The present states, one per seed; waits for the updates so far. None where a run cannot be left.
        close: Ends the engine; its argument tells whether all its updates were made.
    """

    step: int
    steps: int
    stretch: int
    timelines: Callable[[], Sequence[Timeline]]
    advance: Callable[[int], int]
    evaluate: Callable[[], TakeLooks]
    since: Callable[[], list[Stretch]]
    states: Callable[[], list[State]] | None
    close: Callable[[bool], None] = lambda finished: None


class OpenEngine(Protocol):
    """Makes the engine of some seeds of a task."""

    def __call__(self, states: Sequence[State] | None, /) -> Engine:
        """The engine that begins with these states, one per seed; None for the beginning of the runs."""
        ...


class Repeats(NamedTuple):
    """Seeds of a task that advance together.

    Attributes:
        seeds: The seeds.
        open: Makes their engine.
        mortal: Whether their engine has processes of its own, which may die.
    """

    seeds: tuple[int, ...]
    open: OpenEngine
    mortal: bool = False


class EngineLost(RuntimeError):
    """An engine that cannot go on because a process of it died; another one can, from the last state."""


def leaves_of(tree: Any) -> list[np.ndarray]:
    """The leaves of a state as NumPy arrays; keys of random numbers as their data."""
    return [np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for leaf in jax.tree.leaves(tree)]


def common_starts(begun: Mapping[tuple[str, int], Any], nodes: Mapping[str, int]) -> dict[str, Any]:
    """The states with which all of several nodes of a kind begin.

    Args:
        begun: The first states of all nodes.
        nodes: The number of nodes of each kind.

    Returns:
        That state by kind, for kinds whose nodes begin with one and the same.
    """
    return {
        kind: begun[kind, 0]
        for kind, count in nodes.items()
        if count > 1 and all(begun[kind, i] is begun[kind, 0] for i in range(count))
    }


def node_leaves(states: Mapping[int, Any], start: Any) -> NodeLeaves:
    """The states of nodes of a kind that are others than at the beginning, to the last bit.

    Args:
        states: The state of each node, by rising numbers.
        start: The state with which all of the kind begin; None where each has its own.

    Returns:
        The leaves of these states.
    """
    # of most of a large population nothing is looked at
    nodes = np.array([i for i, state in states.items() if start is None or state is not start], int)
    if not nodes.size:
        return NodeLeaves(nodes, [])
    leaves = [np.stack(each) for each in zip(*(leaves_of(states[i]) for i in nodes.tolist()), strict=True)]
    return changed_leaves(nodes, leaves, start)


def changed_leaves(nodes: np.ndarray, leaves: list[np.ndarray], start: Any) -> NodeLeaves:
    """As `node_leaves`, of leaves that are put together already.

    Args:
        nodes: `[k]`, rising.
        leaves: The leaves of their states, each `[k, ...]`.
        start: The state with which all of the kind begin; None where each has its own.

    Returns:
        Those that are others.
    """
    if not leaves:
        return NodeLeaves(nodes[:0], [])
    if start is None:
        return NodeLeaves(nodes, leaves)
    changed = np.zeros(len(nodes), bool)
    for leaf, first in zip(leaves, leaves_of(start), strict=True):
        one, other = (np.ascontiguousarray(each).reshape(len(each), -1).view(np.uint8) for each in (leaf, first[None]))
        changed |= (one != other).any(axis=1)
    if not changed.any():
        return NodeLeaves(nodes[changed], [])
    return NodeLeaves(nodes[changed], [leaf[changed] for leaf in leaves])


def restored(template: Any, leaves: Sequence[np.ndarray]) -> Any:
    """A state with the structure of another one.

    Args:
        template: A state of the same run.
        leaves: As `leaves_of` gave them.

    Returns:
        The state, with JAX arrays.

    Raises:
        ValueError: Where the leaves do not fit the structure.
    """
    expected, structure = jax.tree.flatten(template)
    if len(expected) != len(leaves):
        raise ValueError(f"a state of {len(expected)} arrays is needed, got {len(leaves)}")
    made = []
    for old, new in zip(expected, leaves, strict=True):
        data = jax.random.key_data(old) if _is_key(old) else jnp.asarray(old)
        if data.dtype != new.dtype and data.dtype.itemsize == new.dtype.itemsize and new.dtype.kind == "V":
            # a file of NumPy knows no bfloat16
            new = new.view(data.dtype)
        if data.shape != new.shape or data.dtype != new.dtype:
            raise ValueError(f"an array {data.shape} of {data.dtype} is needed, got {new.shape} of {new.dtype}")
        made.append(jax.random.wrap_key_data(jnp.asarray(new)) if _is_key(old) else jnp.asarray(new))
    return jax.tree.unflatten(structure, made)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def stretch_of(updates: Sequence[tuple[Diagnostics, Any]], n: int | None, recorded: Sequence[Update] = ()) -> Stretch:
    """Puts together the measurements of updates.

    Args:
        updates: The diagnostics of each, and its weights `[n]`.
        n: Number of workers; None where weights are not recorded.
        recorded: Those that are recorded whole.

    Returns:
        The stretch.
    """
    scalars = (np.array([float(getattr(each, name)) for each, _ in updates]) for name in Diagnostics._fields)
    weights = np.empty((len(updates), 0), np.float32)
    if n is not None:
        weights = np.array([weights for _, weights in updates], np.float32).reshape(-1, n)
    return Stretch(Diagnostics(*scalars), weights, tuple(recorded))


def joined(one: Stretch, other: Stretch) -> Stretch:
    """Two consecutive stretches as one."""
    diagnostics = (np.concatenate(pair) for pair in zip(one.diagnostics, other.diagnostics, strict=True))
    weights = np.concatenate([one.weights, other.weights])
    return Stretch(Diagnostics(*diagnostics), weights, (*one.recorded, *other.recorded))


def no_rows(d: int) -> np.ndarray:
    """No row, `[0, d]`."""
    return np.empty((0, d), np.float32)
