"""The fastest executor on one machine: stretches of updates are compiled loops, events and repeats batched."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator import compilation, engine, interrupts
from byzax.simulator.config.executors import Vectorised
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Task
from byzax.simulator.diagnostics import Diagnostics, Update
from byzax.simulator.engine import (
    NOT_CHANGED,
    Engine,
    Look,
    NodeLeaves,
    Repeats,
    Stretch,
    TakeLooks,
    changed_leaves,
    common_starts,
    leaves_of,
    restored,
    stretch_of,
)
from byzax.simulator.events import Network, Node
from byzax.simulator.executors.base import Prepared, bits_so_far, floats, in_numpy, network_of, prepare, stage
from byzax.simulator.executors.compiled_updates import (
    Functions,
    LoopState,
    Watching,
    build_advance,
    fill_up,
    padded_state,
)
from byzax.simulator.executors.programs import Program
from byzax.simulator.executors.sharing import Shared
from byzax.simulator.executors.state_pages import StatePages, plan_pages
from byzax.simulator.executors.waves import Arriving, GroupEvents, HeldRows, UpdateKind, WaveEvents, held_rows
from byzax.simulator.mesh import ONE_DEVICE, MeshShape, known_to_models, on_host, to_all
from byzax.simulator.parts import topology
from byzax.simulator.world import World, stack

# Updates of one compiled loop at most, and their work: samples times parameters.
LONGEST_LOOP, LOOP_WORK = 1024, 2 * 10**9


class Compiled(NamedTuple):
    """A run of one seed, ready for compiled loops."""

    seed: int
    mesh: MeshShape
    prepared: Prepared
    network: Network
    here: World
    held: HeldRows
    program: Program
    shared: Shared

    @property
    def form(self) -> tuple[Any, ...]:
        """The part of it that runs have in common that can advance together."""
        numbers = (part.tobytes() for part in (self.program.kind_of, self.program.jobs))
        # with test samples by owners each split has sizes of its own
        sizes = (len(part) for part in (self.here.train, self.here.test, self.here.validation))
        stopped = self.prepared.timeline.stopped
        return self.functions, self.program.kinds, self.held.most, stopped, *numbers, *sizes

    @property
    def functions(self) -> Functions:
        """The functions of its network that are compiled."""
        return _functions_of(self.network, self.mesh)


def _functions_of(network: Network, mesh: MeshShape) -> Functions:
    return Functions(network.steps, network.show, network.measure, mesh)


@contextmanager
def session(executor: Vectorised) -> Iterator[Any]:
    """Nothing but compiled code lives across runs here. See `byzax.simulator.executors.session`."""
    yield repeats


def repeats(task: Task) -> Iterator[Repeats]:
    """The repeats of a task.

    On GPUs those whose tables have the same form, and whose splits the same sizes, advance together; on CPU, where a
    batch of seeds takes longer, one after the other.
    """
    compilation.use_disk_cache()
    runs = [task.run.replace(seed=seed) for seed in task.seeds]
    assert isinstance(task.executor, Vectorised)
    mesh = MeshShape(task.executor.mesh.workers, task.executor.mesh.parameters)
    ready = [prepare(run, mesh=mesh) for run in runs]
    build = partial(_build, mesh)

    if jax.default_backend() == "cpu":
        for run, prepared in zip(runs, ready, strict=True):
            yield Repeats((run.seed,), lambda states, run=run, own=prepared: _engine(task, [build(run, own)], states))
        return
    made = [*map(build, runs, ready)]
    # one size for all
    most = max(each.held.most for each in made)
    together: dict[Any, list[Compiled]] = {}
    for run, compiled in zip(runs, made, strict=True):
        sized = compiled if compiled.held.most == most else build(run, compiled.prepared, most)
        together.setdefault(sized.form, []).append(sized)
    for seeds in together.values():
        yield Repeats(tuple(each.seed for each in seeds), partial(_engine, task, seeds))


def _build(mesh: MeshShape, run: Run, prepared: Prepared, least: int = 0) -> Compiled:
    network, here = network_of(run, prepared)
    held = held_rows(network.steps, prepared.timeline, run.workers.total, least)

    def with_numbers(run: Run) -> Functions:
        return _functions_of(network_of(run, prepare(run, prepared.timeline, mesh), here)[0], mesh)

    program, shared = Program(network, prepared.timeline, held), Shared(run, mesh, with_numbers)
    return Compiled(run.seed, mesh, prepared, network, here, held, program, shared)


class NodeStates(Mapping[Node, Any]):
    """The states of all nodes of one seed, each taken out of those of its kind when it is asked for."""

    def __init__(
        self,
        kinds: Mapping[str, Any],
        counts: Mapping[str, int],
        seed: int,
        mesh: MeshShape,
        pages: StatePages | None,
    ) -> None:
        """Takes the states.

        Args:
            kinds: Those of all seeds by kind, `[seeds, nodes, ...]` each.
            counts: The number of nodes of each kind.
            seed: The place of the seed.
            mesh: Shape of the mesh that they are split over.
            pages: Those of workers, where some are not there; else None.
        """
        self._kinds, self._counts, self._seed, self._pages = kinds, counts, seed, pages
        self._take = _take if mesh == ONE_DEVICE else on_host
        self._found: dict[Node, Any] = {}

    def __getitem__(self, node: Node) -> Any:
        """The state of a node."""
        if node not in self._found:
            kind, i = node
            if kind == "worker" and self._pages is not None:
                self._found[node] = self._pages.state_of(i, self._kinds[kind])
            else:
                self._found[node] = self._take(self._kinds[kind], self._seed, i)
        return self._found[node]

    def __iter__(self) -> Iterator[Node]:
        """All nodes."""
        return ((kind, i) for kind, count in self._counts.items() for i in range(count))

    def __len__(self) -> int:
        """The number of nodes."""
        return sum(self._counts.values())


# one call for all leaves
_take = jax.jit(lambda states, *places: jax.tree.map(lambda leaf: leaf[places], states))


def _stretch(run: Run, rows: int, d: int) -> int:
    """Updates of so many rows that are compiled as one loop at most: a second of work or so, of which nothing can be
    kept."""
    return max(1, min(LONGEST_LOOP, LOOP_WORK // (rows * run.data.batch_size * d)))


class SeedStart(NamedTuple):
    """The beginning of one seed.

    Attributes:
        state: Its state.
        d: Number of parameters.
        starts: The states with which all nodes of a kind began, by kind.
        pages: The states of workers, where some are not in `state`; else None.
    """

    state: LoopState
    d: int
    starts: dict[str, Any]
    pages: StatePages | None


def _start(compiled: Compiled, state: engine.State | None, budget_bytes: float) -> SeedStart:
    """One seed at the beginning of a run, or after its first updates."""
    network, held, timeline = compiled.network, compiled.held, compiled.prepared.timeline
    with stage("start", seed=compiled.seed):
        begun = network.start(compiled.here)
    params, nodes, pages = network.params(begun), {}, None
    starts = common_starts(begun, network.nodes)
    if "worker" in starts and budget_bytes and compiled.mesh == ONE_DEVICE:
        n, first = network.nodes["worker"], starts["worker"]
        if planned := plan_pages(timeline, n, first, budget_bytes):
            pages = StatePages(planned, n, first)
    for kind, count in network.nodes.items():
        if kind == "worker" and pages is not None:
            nodes[kind] = pages.begin(state.step, state.nodes[kind]) if state else pages.begin(0, NOT_CHANGED)
        elif kind in starts or count == 1:
            nodes[kind] = jax.tree.map(lambda leaf, n=count: _repeated(leaf, n), begun[kind, 0])
        else:
            nodes[kind] = jax.tree.map(_stacked_on_host, *(begun[kind, i] for i in range(count)))
    rows: Any = np.zeros((held.num_slots, len(params)), params.dtype)
    last: Any = tuple(np.zeros((network.nodes["worker"], len(params)), params.dtype) for _ in range(held.lanes))
    if state is not None:
        nodes |= {
            kind: _with_leaves(each, state.nodes[kind])
            for kind, each in nodes.items()
            if kind != "worker" or pages is None
        }
        for mine, array, places in _kept_at(compiled, state.step, state.places, rows, last):
            array[places] = state.rows[mine]
    # on the host as long as it is not put together with others: it may be as large as what there is
    return SeedStart(LoopState(nodes, rows, last), len(params), starts, pages)


def _with_leaves(states: Any, kept: NodeLeaves) -> Any:
    """The states of all nodes of a kind, of which some are kept."""
    nodes = kept.nodes
    if not nodes.size:
        return states
    own = restored(jax.tree.map(lambda leaf: leaf[nodes], states), kept.leaves)
    return jax.tree.map(lambda all_, mine: jnp.asarray(all_).at[nodes].set(mine), states, own)


def _kept_at(
    compiled: Compiled, step: int, places: np.ndarray, held: Any, last: Sequence[Any]
) -> Iterator[tuple[np.ndarray, Any, np.ndarray]]:
    """The arrays of a state that hold rows, with the rows that each holds and their places. See `KeptRows.places`.

    Rows as they were sent come last: in the first of several arrays they stand in place of those that were computed.
    """
    timeline, jobs = compiled.prepared.timeline, np.where(places < 0, -1 - places, places)
    waiting, workers = jobs >= timeline.first[step], timeline.rows.workers[jobs]
    yield waiting, held, compiled.held.slots[jobs[waiting]]
    for mine, arrays in ((~waiting & (places >= 0), last), (places < 0, last[:1])):
        for array in arrays:
            yield mine, array, workers[mine]


def _repeated(leaf: Any, count: int) -> Any:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(leaf, (count, *leaf.shape))
    # takes no memory yet
    return np.broadcast_to(np.asarray(leaf), (count, *leaf.shape))


def _stacked_on_host(*leaves: Any) -> Any:
    if jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
        return jnp.stack(leaves)
    return np.stack([np.asarray(leaf) for leaf in leaves])


def _placed(
    task: Task, seeds: Sequence[Compiled], states: Sequence[engine.State] | None = None
) -> tuple[Functions, World, LoopState, list[SeedStart]]:
    """The functions of seeds, their arrays and states on the devices, and how each begins, without its state."""
    mesh, count = seeds[0].mesh, len(seeds)
    # on GPUs seeds advance together
    paged = count == 1 and topology(task.run).one_server
    assert isinstance(task.executor, Vectorised)
    budget = task.executor.state_memory_gib * 2**30 if paged else 0
    started = [_start(each, state, budget) for each, state in zip(seeds, states or [None] * count, strict=True)]
    begun = [each.state for each in started]
    functions = seeds[0].functions._replace(d=started[0].d)
    worlds = to_all(stack([each.here for each in seeds]), mesh)
    if mesh == ONE_DEVICE:
        present = jax.tree.map(lambda *each: jnp.asarray(each[0][None]) if count == 1 else jnp.stack(each), *begun)
    else:
        # whole arrays may be larger than what one device has room for
        present = padded_state(functions, jax.tree.map(_stacked_on_host, *begun))
    # what is on the devices needs no copy on the host
    return functions, worlds, present, [each._replace(state=LoopState({}, None)) for each in started]  # pyright: ignore[reportArgumentType]


class CompiledUpdate(NamedTuple):
    """The first update of a run, compiled and not carried out.

    Attributes:
        compiled: The compiled code, as JAX gives it.
        world: The arrays of the run.
        state: The state before the update.
        d: Number of parameters.
    """

    compiled: Any
    world: World
    state: LoopState
    d: int


def compile_update(task: Task) -> CompiledUpdate:
    """Compiles the first update of a run, to see what it takes of each device.

    Args:
        task: The run.

    Returns:
        The compiled update.
    """
    assert isinstance(task.executor, Vectorised)
    mesh = MeshShape(task.executor.mesh.workers, task.executor.mesh.parameters)
    one = _build(mesh, task.run, prepare(task.run, mesh=mesh))
    functions, world, state, (start,) = _placed(task, [one])
    kind = one.program.kinds[one.program.kind_of[0]]
    events = fill_up(1, *one.program.events(0, 1), kind.groups.widths[-1] if kind.groups else 1)
    with known_to_models(one.mesh):
        lowered = build_advance(functions, kind, Watching(0, False)).lower(
            world, state, jax.tree.map(lambda each: each[None], events)
        )
        return CompiledUpdate(lowered.compile(), world, state, start.d)


def _at_places(
    events: tuple[GroupEvents | None, Arriving | None, tuple[WaveEvents, ...]],
    kind: UpdateKind,
    network: Network,
    pages: StatePages,
) -> tuple[GroupEvents | None, Arriving | None, tuple[WaveEvents, ...]]:
    """The events of updates with the places of workers' states on the present page."""
    groups, arriving, waves = events
    if groups is not None:
        groups = groups._replace(states=pages.places(groups.nodes))
    return (
        groups,
        arriving,
        tuple(
            each._replace(states=pages.places(each.nodes)) if network.steps[wave.step].kind == "worker" else each
            for wave, each in zip(kind.waves, waves, strict=True)
        ),
    )


def _engine(task: Task, seeds: Sequence[Compiled], states: Sequence[engine.State] | None) -> Engine:
    """The engine of seeds whose tables have the same form."""
    network, program, count = seeds[0].network, seeds[0].program, len(seeds)
    timelines, n = [each.prepared.timeline for each in seeds], task.run.workers.total
    weights, mesh = n if task.record.weights else 0, seeds[0].mesh
    functions, worlds, present, started = _placed(task, seeds, states)
    d, starts, pages = started[0].d, [each.starts for each in started], started[0].pages
    step = begin = states[0].step if states else 0
    parts: list[tuple[Diagnostics, np.ndarray]] = []
    whole: list[list[Update]] = [[] for _ in seeds]
    last = timelines[0].steps
    recorded = {step for step in task.record.steps(last) if step < last}
    # an update that is recorded is carried out by itself
    changes = 1 + np.flatnonzero(np.diff(program.kind_of))
    turned = () if pages is None else (page.until for page in pages.pages)
    edges = np.array(sorted({*changes.tolist(), *recorded, *(step + 1 for step in recorded), *turned}), int)

    def nodes_of(seed: int) -> NodeStates:
        return NodeStates(present.nodes, network.nodes, seed, mesh, pages)

    def advance(stop: int) -> int:
        nonlocal step, present
        inner = edges[(step < edges) & (edges < stop)].tolist()
        for since, until in pairwise([step, *inner, stop]):
            interrupts.check()
            kind, length = program.kinds[program.kind_of[since]], until - since
            widest = kind.groups.widths[-1] if kind.groups else 1
            events = [each.program.events(since, until) for each in seeds]
            if pages is not None:
                workers = pages.turn(since, present.nodes["worker"])
                present = present._replace(nodes=present.nodes | {"worker": workers})
                events = [_at_places(events[0], kind, network, pages)]
            stretches = [fill_up(length, *each, widest) for each in events]
            stretch = jax.tree.map(lambda *each: np.stack(each), *stretches)
            alone = since in recorded
            watching = Watching(n if alone else weights, alone)
            with stage("advance", step=until), known_to_models(mesh):
                present, *measured, arrays = seeds[0].shared.advance(
                    functions, kind, watching, worlds, present, stretch
                )
                # a stretch is filled up to a length that is compiled already
                there = slice(length)
                diagnostics, shares = jax.tree.map(lambda each, t=there: each[:, t], tuple(on_host(measured)))
                parts.append((diagnostics, shares[:, :, :weights]))
            step = until
            if alone:
                keep(since, kind, (diagnostics, shares, on_host(arrays)))
        return step

    def keep(update: int, kind: UpdateKind, found: tuple[Diagnostics, np.ndarray, list[Any]]) -> None:
        names = [network.steps[wave.step].name for wave in kind.waves for _ in range(wave.width)]
        for seed, each in enumerate(seeds):
            diagnostics, shares, arrays = jax.tree.map(lambda leaf, seed=seed: leaf[seed], found)
            _, _, waves = each.program.events(update, update + 1)
            happened = [
                is_there
                for wave, events in zip(kind.waves, waves, strict=True)
                for is_there in (events.nodes[0] < (wave.vacant or np.inf)).tolist()
            ]
            by_step = [(names[i], made) for i, made in zip(kind.order, arrays, strict=True) if happened[i]]
            made = Update(
                step=update,
                time_s=float(timelines[seed].time_s[update]),
                weights=shares[0],
                diagnostics=jax.tree.map(lambda value: value[0], diagnostics),
                **each.network.arrays(update, by_step, nodes_of(seed)),
            )
            whole[seed].append(in_numpy(made))

    def since_last() -> list[Stretch]:
        if not parts:
            return [stretch_of([], weights or None)] * count
        diagnostics, shares = jax.tree.map(lambda *each: np.concatenate(each, axis=1), *parts)
        return [
            Stretch(Diagnostics(*(each[i].astype(np.float64) for each in diagnostics)), shares[i], tuple(whole[i]))
            for i in range(count)
        ]

    def evaluate() -> TakeLooks:
        looks = []
        with stage("evaluate", step=step):
            for i, since in enumerate(since_last()):
                nodes, own = nodes_of(i), seeds[i].network
                evaluation, params = floats(own.evaluate(seeds[i].here, nodes)), np.asarray(own.params(nodes))
                looks.append(Look(evaluation, params, since, bits_so_far(own, nodes)))
        parts.clear()
        for each in whole:
            each.clear()
        return lambda wait: looks

    def left() -> list[engine.State]:
        found, copy = [], present if mesh == ONE_DEVICE else on_host(present)
        for i, each in enumerate(seeds):
            places = each.network.table.rows(step).places
            held, last = np.asarray(copy.held[i]), [np.asarray(lane[i]) for lane in copy.last]
            rows = np.empty((len(places), d), held.dtype)
            for mine, array, there in _kept_at(each, step, places, held, last):
                rows[mine] = array[there]
            nodes = {}
            for kind, states in copy.nodes.items():
                if kind == "worker" and pages is not None:
                    nodes[kind] = pages.left(states)
                    continue
                leaves = leaves_of(jax.tree.map(lambda leaf, i=i: leaf[i], states))
                nodes[kind] = changed_leaves(np.arange(network.nodes[kind]), leaves, starts[i].get(kind))
            found.append(engine.State(step, nodes, places, rows))
        return found

    # several processes would have to be left at the same update
    leave = left if jax.process_count() == 1 else None
    most = int(timelines[0].sizes.max(initial=1))
    return Engine(begin, last, _stretch(task.run, most, d), lambda: timelines, advance, evaluate, since_last, leave)
