"""Consecutive updates of one kind as a compiled loop."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.numbers import Numbers
from byzax.simulator.compilation import compiled_once
from byzax.simulator.diagnostics import Diagnostics
from byzax.simulator.events import EventResult, MeasureUpdate, NodeEvent, NodeStep
from byzax.simulator.executors.waves import Arriving, GroupEvents, Groups, UpdateKind, Wave, WaveEvents
from byzax.simulator.mesh import ONE_DEVICE, MeshShape, in_parts, padded, spread, to_columns, unpadded
from byzax.simulator.messages import Inbox
from byzax.simulator.world import SEED_AXES, World

Array = jax.Array
_TRACE = jax.make_user_context()
# States of all nodes by their kinds, [nodes, ...] each.
Nodes = dict[str, Any]


class OneNode(NamedTuple):
    """The state of the only node of a kind, without an axis over nodes, which would be copied in every update."""

    state: Any


class LoopState(NamedTuple):
    """The state of a run in compiled loops.

    Attributes:
        nodes: The states of all nodes by their kinds, `[nodes, ...]` each.
        held: `[slots, d]`, the rows that were computed and are not applied yet.
        last: `[n, d]` each, the last row of every worker that was applied, where later updates read it: as it was sent,
            and as it was computed. See `HeldRows.lanes`.
    """

    nodes: Nodes
    held: Array
    last: tuple[Array, ...] = ()


# The state after updates, their diagnostics and weights, and the arrays of events.
Advanced = tuple[LoopState, Diagnostics, Array, list[Any]]


class FilledEvents(NamedTuple):
    """The events of updates of one kind, filled up so that few lengths are compiled.

    Attributes:
        length: Number of updates.
        groups: The jobs whose rows are held; None for none.
        arriving: The new rows that later updates read too; None for none.
        waves: The other events.
    """

    length: np.ndarray
    groups: GroupEvents | None
    arriving: Arriving | None
    waves: tuple[WaveEvents, ...]


def fill_up(
    length: int,
    groups: GroupEvents | None,
    arriving: Arriving | None,
    waves: tuple[WaveEvents, ...],
    widest: int,
) -> FilledEvents:
    """Fills a stretch of updates up.

    Args:
        length: Number of updates.
        groups: The jobs whose rows are held; None for none.
        arriving: The new rows that later updates read too; None for none.
        waves: The other events.
        widest: The widest group.

    Returns:
        The stretch, in whole numbers of 32 bits.
    """
    if groups is not None:
        jobs = ("nodes", "turns", "versions", "slots", "states")
        # there is room for whole groups behind the last one: few lengths are compiled
        groups = GroupEvents(
            **{
                name: None if each is None else _filled(each, 16 * widest if name in jobs else 16)
                for name, each in groups._asdict().items()
            }
        )
    return FilledEvents(np.array(length), groups, *jax.tree.map(_filled, (arriving, waves)))


def _filled(values: np.ndarray, least: int = 16) -> np.ndarray:
    """Filled up with zeros to a power of two, and at least to `least`."""
    whole = 1 << (max(len(values), least) - 1).bit_length()
    return np.concatenate([values, np.zeros((whole - len(values), *values.shape[1:]), values.dtype)]).astype(np.int32)


class Functions(NamedTuple):
    """The functions of a network that are compiled.

    Attributes:
        steps: Its steps.
        show: Makes the message that a node sent last out of its state.
        measure: Puts the measurements of an update together.
        mesh: Shape of the mesh that they are compiled for.
        d: Number of coordinates.
    """

    steps: tuple[NodeStep, ...]
    show: Callable[[Any], Any]
    measure: MeasureUpdate
    mesh: MeshShape = ONE_DEVICE
    d: int = 0


class Watching(NamedTuple):
    """The results of a loop over updates beside diagnostics.

    Attributes:
        weights: Number of workers whose weights are measured; 0 for none.
        whole: Whether it is a loop over one update, of which all arrays are asked for.
    """

    weights: int
    whole: bool


@compiled_once
def build_advance(functions: Functions, kind: UpdateKind, watching: Watching, numbers: Numbers | None = None) -> Any:
    """Builds a loop over updates of one kind, of several seeds at once.

    Args:
        functions: The functions of the network.
        kind: The kind of update.
        watching: The results beside the diagnostics.
        numbers: The numbers in the functions that the loop takes as arguments; None for none.

    Returns:
        A function of the numbers `[MOST]`, where there are some, and of the worlds, states and stretches of all seeds,
        each with a leading axis: the states after the updates, their diagnostics `[t]`, the workers' weights `[t, n]`,
        and the arrays of the events in the order of the table where they are asked for, each with a leading axis. On a
        mesh states and arrays are as `padded` makes them.
    """

    def update(here: World, state: LoopState, groups: Any, now: Any) -> Advanced:
        begun, nodes, held, last = state.nodes, dict(state.nodes), state.held, state.last
        bounds, arriving, waves = now
        if kind.groups is not None:
            nodes, held = _carry_out_groups(functions, kind.groups, watching, here, groups, bounds, nodes, held)
        if arriving is not None:
            last = tuple(lane.at[arriving.workers].set(held[arriving.slots]) for lane in last)
        sent: list[Array] = []
        found: list[EventResult] = []
        for wave, events in zip(kind.waves, waves, strict=True):
            rows = _last_rows(wave, events, last) if wave.lanes else _rows_of(wave, events, sent, held)
            done = _carry_out(functions, wave, here, events, nodes, begun, rows)
            name = functions.steps[wave.step].kind
            if not functions.steps[wave.step].unread:
                nodes[name] = _replaced(nodes[name], wave, events, done.state)
            sent.append(_as_columns(functions, wave, done.message))
            if wave.lanes and functions.steps[wave.step].forges:
                # later updates read what was sent
                last = (last[0].at[events.senders[0, events.new[0]]].set(done.message[0]), *last[1:])
            found += [
                jax.tree.map(lambda leaf, i=i: leaf[i], done._replace(state=None, message=None))
                for i in range(wave.width)
            ]
        names = [functions.steps[wave.step].name for wave in kind.waves for _ in range(wave.width)]
        seen = [(names[i], found[i].seen) for i in kind.order]
        if any(wave.vacant for wave in kind.waves):
            happened = [
                each.nodes < wave.vacant if wave.vacant else jnp.ones(wave.width, bool)
                for wave, each in zip(kind.waves, waves, strict=True)
            ]
            diagnostics, weights = functions.measure(seen, jnp.concatenate(happened)[np.array(kind.order)])
        else:
            diagnostics, weights = functions.measure(seen)
        arrays = [found[i].arrays for i in kind.order] if watching.whole else []
        state = spread_state(functions, LoopState(nodes, held, last))
        return state, diagnostics, weights[: watching.weights], arrays

    def at(stretch: FilledEvents, i: Any) -> Any:
        bounds = None if stretch.groups is None else stretch.groups.bounds
        return jax.tree.map(lambda each: each[i], (bounds, stretch.arriving, stretch.waves))

    grouped = kind.groups and functions.steps[kind.groups.step].kind

    def opened(nodes: Nodes) -> Nodes:
        lengths = {name: {len(leaf) for leaf in jax.tree.leaves(states)} for name, states in nodes.items()}
        return {
            name: OneNode(jax.tree.map(lambda leaf: leaf[0], states))
            if lengths[name] == {1} and name != grouped
            else states
            for name, states in nodes.items()
        }

    def closed(nodes: Nodes) -> Nodes:
        return {
            name: jax.tree.map(lambda leaf: leaf[None], states.state) if isinstance(states, OneNode) else states
            for name, states in nodes.items()
        }

    def advance(here: World, state: LoopState, stretch: FilledEvents) -> Advanced:
        state = spread_state(functions, state._replace(nodes=opened(state.nodes)))
        if watching.whole:
            state, diagnostics, weights, arrays = update(here, state, stretch.groups, at(stretch, 0))
            measured = jax.tree.map(lambda each: each[None], (diagnostics, weights))
            return state._replace(nodes=closed(state.nodes)), *measured, arrays
        count = len(stretch.waves[0].nodes)
        diagnostics = Diagnostics(*(jnp.zeros(count) for _ in Diagnostics._fields))

        def body(i: Array, carry: tuple[LoopState, Diagnostics, Array]) -> tuple[LoopState, Diagnostics, Array]:
            state, measured, weights, _ = update(here, carry[0], stretch.groups, at(stretch, i))
            kept = jax.tree.map(lambda found, value: found.at[i].set(value), carry[1], measured)
            return state, kept, carry[2].at[i].set(weights)

        begin = state, diagnostics, jnp.zeros((count, watching.weights))
        state, *measured = jax.lax.fori_loop(0, stretch.length, body, begin)
        return state._replace(nodes=closed(state.nodes)), *measured, []

    return _over_seeds(advance, functions, numbers)


def spread_state(functions: Functions, state: LoopState) -> LoopState:
    """A state inside of a loop, split over a mesh: memories of nodes by nodes and coordinates, all else by these."""

    def spread_nodes(states: Any) -> Any:
        alone = isinstance(states, OneNode)
        return spread(states, functions.mesh, functions.d, None if alone else 0)

    held, last = spread((state.held, state.last), functions.mesh, functions.d)
    return LoopState({kind: spread_nodes(states) for kind, states in state.nodes.items()}, held, last)


def padded_state(functions: Functions, state: LoopState) -> LoopState:
    """A state with an axis over seeds, as compiled loops take and give it. See `padded`."""

    def pad(states: Any) -> Any:
        several = any(jnp.shape(leaf)[1] > 1 for leaf in jax.tree.leaves(states))
        return padded(states, functions.mesh, functions.d, 1 if several else None)

    held, last = padded((state.held, state.last), functions.mesh, functions.d)
    return LoopState({kind: pad(states) for kind, states in state.nodes.items()}, held, last)


def _as_columns(functions: Functions, wave: Wave, message: Any) -> Any:
    """The messages of a wave, all rows of which have their coordinates split over all devices."""
    if functions.mesh == ONE_DEVICE:
        return message

    def move(leaf: Array) -> Array:
        rows = leaf.ndim == 2 and wave.width > 1 and leaf.shape[1] == functions.d
        return to_columns(leaf, functions.mesh) if rows else spread(leaf, functions.mesh, functions.d)

    return jax.tree.map(move, message)


def _replaced(states: Any, wave: Wave, events: WaveEvents, new: Any) -> Any:
    """The states of all nodes of a kind with those after the events of a wave."""
    if isinstance(states, OneNode):
        return (
            jax.tree.map(lambda old, each: jnp.where(events.nodes[0] < 1, each, old), states, new)
            if wave.vacant
            else new
        )
    places = _places_of(wave, events)
    if isinstance(places, slice):
        # in place, where a scatter copies
        return jax.tree.map(
            lambda leaf, each: jax.lax.dynamic_update_slice_in_dim(leaf, each, places.start, 0), states, new
        )
    # places of nodes that are none are left out
    return jax.tree.map(lambda leaf, each: leaf.at[places].set(each), states, new)


def _places_of(wave: Wave, events: WaveEvents) -> Any:
    """The places of the states of the nodes of events, as an index."""
    if events.states is not None:
        return events.states
    return events.nodes if wave.first is None else slice(wave.first, wave.first + wave.width)


def _last_rows(wave: Wave, events: WaveEvents, last: tuple[Array, ...]) -> tuple[Array, ...]:
    """The last rows that an event reads, `[1, k, d]` each: as they were sent, and as they were computed."""
    workers = events.senders[:, : wave.rows].reshape(wave.lanes, -1)
    rows = (lane if wave.in_place else lane[mine] for lane, mine in zip(last, workers, strict=False))
    if wave.padded:
        rows = (jnp.where(mine[:, None] >= 0, each, 0) for each, mine in zip(rows, workers, strict=True))
    return tuple(each[None] for each in rows)


def _rows_of(wave: Wave, events: WaveEvents, sent: list[Array], held: Array) -> tuple[Array, ...]:
    """The rows that the events of a wave read, `[w, k, d]`; nothing for none."""
    if not wave.rows:
        return ()
    messages = [held if each < 0 else sent[each].reshape(-1, sent[each].shape[-1]) for each in wave.reads]
    rows = messages[0] if len(messages) == 1 else jnp.concatenate(messages)
    if wave.direct:
        return (rows.reshape(wave.width, wave.rows, -1),)
    rows = rows[events.places]
    # senders of what only fills an inbox up are -1
    there = events.senders[:, : wave.rows, None] >= 0
    return (jnp.where(there, rows, 0) if wave.padded else rows,)


def _carry_out(
    functions: Functions,
    wave: Wave,
    here: World,
    events: WaveEvents,
    nodes: Nodes,
    begun: Nodes,
    rows: tuple[Array, ...],
) -> EventResult:
    """The results of the events of a wave, with a leading axis each."""
    step = functions.steps[wave.step]

    def state_of(states: Any, places: Any) -> Any:
        return states.state if isinstance(states, OneNode) else jax.tree.map(lambda leaf: leaf[places], states)

    public, each_public = (), None
    if wave.shown and wave.shared:
        public = (functions.show(state_of(begun[wave.shown], events.shown[0])),)
    elif wave.shown:
        each_public = jax.vmap(functions.show)(state_of(begun[wave.shown], events.shown))

    def one(here: World, public: tuple[Any, ...], given: Any) -> EventResult:
        node, turn, senders, versions, lags, new, state, rows, own = given
        if lags is None:
            lags, new = np.repeat([0, -1], [wave.rows, bool(wave.shown)]), np.arange(wave.rows)
        event = NodeEvent(node, turn, wave.seen, senders, versions, lags, new)
        return step.run(here, event, state, Inbox(rows, public if own is None else (own,)))

    states = nodes[step.kind]
    each = (events.nodes, events.turns, events.senders, events.versions, events.lags, events.new, rows, each_public)
    if wave.width == 1 and (step.together == "map" or isinstance(states, OneNode)):
        given = jax.tree.map(lambda leaf: leaf[0], each)
        mine = (
            states.state
            if isinstance(states, OneNode)
            else jax.tree.map(lambda leaf: leaf[0], state_of(states, _places_of(wave, events)))
        )
        done = one(here, public, (*given[:6], mine, *given[6:]))
        alone = OneNode(done.state) if isinstance(states, OneNode) else None
        done = jax.tree.map(lambda leaf: leaf[None], done._replace(state=None) if alone else done)
        return done._replace(state=alone) if alone else done
    each = (*each[:6], state_of(states, _places_of(wave, events)), *each[6:])

    def some(alike: tuple[World, tuple[Any, ...]], given: Any) -> EventResult:
        each = partial(one, *alike)
        return jax.vmap(each)(given) if step.together == "batch" else jax.lax.map(each, given)

    # what nobody reads takes no time
    mesh = ONE_DEVICE if step.unread else functions.mesh
    # rules of several nodes may take more iterations at some than at others
    return in_parts(some, (here, public), each, wave.width, mesh, whole_rows=wave.rows > 0 or not step.shared)


def _carry_out_groups(
    functions: Functions,
    groups: Groups,
    watching: Watching,
    here: World,
    events: GroupEvents,
    bounds: Array,
    nodes: Nodes,
    held: Array,
) -> tuple[Nodes, Array]:
    """The states and the held rows after the jobs at the beginning of an update."""
    name, begun = functions.steps[groups.step].kind, dict(nodes)

    def of(width: int) -> Callable[[Array, Array, Any, Array], tuple[Any, Array]]:
        wave = Wave(
            groups.step, width, rows=0, seen=0, shown=groups.shown, shared=True, first=None, reads=(), direct=False,
            padded=False, lanes=0, in_place=False,
        )  # fmt: skip

        def carry_out(begin: Array, model: Array, workers: Any, held: Array) -> tuple[Any, Array]:
            who, turns, versions, slots = (
                jax.lax.dynamic_slice_in_dim(each, begin, width)
                for each in (events.nodes, events.turns, events.versions, events.slots)
            )
            places = None if events.states is None else jax.lax.dynamic_slice_in_dim(events.states, begin, width)
            shown = jnp.full((width,), model)
            given = WaveEvents(who, turns, shown[:, None], versions[:, None], shown, None, None, None, places)
            done = _carry_out(functions, wave, here, given, begun | {name: workers}, begun, ())
            if done.seen is not None or (watching.whole and done.arrays is not None):
                raise ValueError(
                    f"the step {functions.steps[groups.step].name} measures jobs whose rows later updates read: "
                    "leave seen and arrays of its EventResult out, or take executor loop or ray"
                )
            return _replaced(workers, wave, given, done.state), held.at[slots].set(done.message)

        return carry_out

    branches = [of(width) for width in groups.widths]

    def group(number: Array, kept: tuple[Any, Array]) -> tuple[Any, Array]:
        begin, model = events.begins[number], events.shown[number]
        if len(branches) == 1:
            return branches[0](begin, model, *kept)
        return jax.lax.switch(events.widths[number], branches, begin, model, *kept)

    kept = nodes[name], held
    kept = group(bounds[0], kept) if groups.single else jax.lax.fori_loop(bounds[0], bounds[1], group, kept)
    return nodes | {name: kept[0]}, kept[1]


def _over_seeds(function: Callable[..., Any], functions: Functions, numbers: Numbers | None) -> Callable[..., Any]:
    """`function(world, ...)` for all seeds in one compiled call; all its arguments are stacked by seed.

    Those of `numbers` come before them.
    """

    def one(common: World, own: tuple[Any, ...]) -> Any:
        fields = (mine if axis == 0 else shared for axis, mine, shared in zip(SEED_AXES, own[0], common, strict=True))
        return function(World._make(fields), *own[1:])

    def all_seeds(worlds: World, state: LoopState, *others: Any) -> Any:
        mine = World(*(value if axis == 0 else () for axis, value in zip(SEED_AXES, worlds, strict=True)))  # pyright: ignore[reportArgumentType]
        each = (mine, unpadded(state), *others)
        # On CPU a batch of seeds takes longer than one seed after the other (experiments/benchmarks/RESULTS.md).
        if jax.default_backend() == "cpu":
            after, *measured, arrays = jax.lax.map(lambda own: one(worlds, own), each)
        else:
            after, *measured, arrays = jax.vmap(lambda *own: one(worlds, own))(*each)
        after, measured = padded_state(functions, after), padded(measured, functions.mesh, 0)
        return after, *measured, padded(arrays, functions.mesh, functions.d)

    if numbers is None:
        return jax.jit(all_seeds, donate_argnums=1)

    def with_numbers(values: Array, worlds: World, *others: Any) -> Any:
        each = [jax.lax.index_in_dim(values, slot, keepdims=False) for slot in range(len(values))]
        # what is compiled inside, once for all of a process, is not what it was for another call
        with numbers.read_from(each), _TRACE(object()):
            return all_seeds(worlds, *others)

    return jax.jit(with_numbers, donate_argnums=2)
