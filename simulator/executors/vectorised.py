"""The fastest executor on one machine: stretches of updates are compiled loops, workers and repeats batched."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator import compilation, engine, interrupts
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.executors import Vectorised
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Task
from byzax.simulator.core import Core, message_bits, schedule, topology
from byzax.simulator.diagnostics import Decision, Diagnostics, Evaluation, Update
from byzax.simulator.engine import (
    Engine,
    Look,
    Repeats,
    Stretch,
    TakeLooks,
    leaves_of,
    no_rows,
    restored,
    rows_of,
    stretch_of,
)
from byzax.simulator.executors import levels
from byzax.simulator.executors.base import Prepared, batched, floats, network_of, prepare, stage
from byzax.simulator.serving import Arrivals, Server, public_state
from byzax.simulator.timeline import Timeline
from byzax.simulator.world import SEED_AXES, World, stack, world

Array = jax.Array
# Updates of one compiled loop at most, and their work: samples times parameters.
LONGEST_LOOP, LOOP_WORK = 1024, 2 * 10**9


class LoopState(NamedTuple):
    """The state of a run in compiled loops.

    `memories`: what each worker remembers, with a leading axis `[n]`; None for nothing. `held` `[m n, d]`: rows that
    were computed and are not applied yet, m for a worker.
    """

    server: Server
    memories: Any
    adversary: Any
    held: Array


class Layout(NamedTuple):
    """A timeline as compiled loops need it: a row is computed when its version is made, and held until its update.

    Rows are computed in groups of one version, no worker twice in one: group g are `counts[g]` rows from place
    `begins[g]` on of `readers`; version v has the groups `groups[v]` to `groups[v + 1]`. Row r is held at `places[r]`
    of m times n places; m is 0 where the rows of a version are just those of the next update.
    """

    timeline: Timeline
    readers: np.ndarray
    places: np.ndarray
    begins: np.ndarray
    counts: np.ndarray
    groups: np.ndarray
    m: int


@contextmanager
def session(executor: Vectorised) -> Iterator[Any]:
    """Nothing but compiled code lives across runs here. See `byzax.simulator.executors.session`."""
    yield repeats


def repeats(task: Task) -> Iterator[Repeats]:
    """The repeats of a task.

    On GPUs those whose timelines have the same form, and whose splits the same sizes, advance together; on CPU, where a
    batch of seeds takes longer, one after the other.
    """
    compilation.use_disk_cache()
    if not topology(task.run).one_server:
        for each in task.repeats:
            yield Repeats(each.seeds, partial(_by_levels, each))
        return
    runs, n = {seed: task.run.replace(seed=seed) for seed in task.seeds}, task.run.workers.total
    ready = {seed: prepare(run) for seed, run in runs.items()}
    layouts = {seed: layout(each.timeline, n) for seed, each in ready.items()}
    # one size for all: functions are compiled once
    m = max(each.m for each in layouts.values())
    layouts = {seed: layout(ready[seed].timeline, n, m) if o.m < m else o for seed, o in layouts.items()}
    together: dict[Any, list[int]] = {}
    for seed, each in layouts.items():
        form: tuple[Any, ...] = (seed,)
        if jax.default_backend() != "cpu":
            here = world(runs[seed])
            form = each.m, each.timeline.stopped, *(part.tobytes() for part in (each.counts, each.groups))
            # with test samples by owners each split has sizes of its own
            form += tuple(len(part) for part in (here.train, here.test, here.validation))
            form += each.timeline.first.tobytes(), each.timeline.seen.tobytes()
        together.setdefault(form, []).append(seed)
    for seeds in together.values():
        parts = [ready[seed] for seed in seeds], [layouts[seed] for seed in seeds], [runs[seed] for seed in seeds]
        yield Repeats(tuple(seeds), partial(_engine, task, *parts))


def _by_levels(task: Task, states: Sequence[engine.State] | None) -> Engine:
    """The engine of a run of one seed, of any network."""
    run, prepared = task.run, prepare(task.run)
    network, here = network_of(run, prepared)
    return levels.engine(task, prepared, here, network, _stretch(run, message_bits(run) // 32), states)


def layout(timeline: Timeline, n: int, least: int = 0) -> Layout:
    """The layout of a timeline: how its rows are computed and held, with `least` places for each worker or more."""
    rows, updates = timeline.rows, timeline.updates
    readers, first = timeline.readers()
    count = len(readers)
    # a worker's rows one after the other: with m places for each, place m more is free again when it is needed
    mine = np.lexsort((rows.jobs, rows.workers))
    turn = np.arange(count) - np.searchsorted(rows.workers[mine], rows.workers[mine])
    m = max(1, least)
    while not _fits(rows.workers[mine], rows.versions[mine], updates[mine], m):
        m += 1
    places = np.empty(count, np.int32)
    places[mine] = rows.workers[mine] * m + turn % m
    # a second row of one worker from the same version goes into the version's next group
    again = np.zeros(count, np.int64)
    by_version = np.lexsort((rows.jobs, rows.workers, rows.versions))
    pair = rows.versions[by_version].astype(np.int64) * n + rows.workers[by_version]
    again[by_version] = np.arange(count) - np.searchsorted(pair, pair)
    widths = _widths(np.bincount(rows.versions * (again.max(initial=0) + 1) + again))
    readers = readers[np.lexsort((rows.workers[readers], again[readers], rows.versions[readers]))]
    edges = np.flatnonzero(np.diff(rows.versions[readers]) | np.diff(again[readers])) + 1
    begins, counts = [], []
    for begin, end in itertools.pairwise([0, *edges.tolist(), count]):
        while begin < end:
            width = max(width for width in widths if width <= end - begin)
            begins.append(begin)
            counts.append(width)
            begin += width
    groups = np.searchsorted(np.array(begins), first)
    if (
        not least
        and (readers == np.arange(count)).all()
        and not timeline.ages.any()
        and (np.diff(groups[:-1]) == 1).all()
    ):
        m = 0
    return Layout(timeline, readers, places, np.array(begins), np.array(counts), groups, m)


def _fits(workers: np.ndarray, versions: np.ndarray, updates: np.ndarray, m: int) -> bool:
    """Tells whether each worker's row is applied before its m-th next one is computed."""
    same = workers[m:] == workers[:-m]
    return bool((~same | (versions[m:] > updates[:-m])).all())


def _widths(sizes: np.ndarray) -> list[int]:
    """The numbers of rows that are computed at once: a version's rows are put together from them."""
    found = np.unique(sizes[sizes > 0]).tolist()
    # each width is compiled
    return found if len(found) <= 2 else [*(4**i for i in range(found[-1].bit_length()) if 4**i < found[-1]), found[-1]]


def _stretch(run: Run, d: int) -> int:
    """Updates that are compiled as one loop at most: a second of work or so, of which nothing can be kept."""
    return max(1, min(LONGEST_LOOP, LOOP_WORK // (run.workers.total * run.data.batch_size * d)))


def _engine(
    task: Task, ready: list[Prepared], layouts: list[Layout], runs: list[Run], states: Sequence[engine.State] | None
) -> Engine:
    timeline, n, count = layouts[0].timeline, task.run.workers.total, len(runs)
    core = ready[0].core_of(int(timeline.seen[0]))
    worlds = stack([world(run) for run in runs])
    # where updates differ in their rows but not in what the rule sees they are filled up, for one loop to do them all
    fill = int(timeline.sizes.max()) if schedule(task.run).sees == "buckets" else 0
    with stage("start"):
        present = _start(core, n, layouts[0].m)(worlds)
    d = present.server.params.shape[1]
    step = 0
    if states:
        step, present = states[0].step, _restored(present, states, layouts)
    begin = step
    parts: list[tuple[Diagnostics, np.ndarray]] = []
    whole: list[tuple[int, Any]] = []
    # updates of one kind share a compiled loop
    kinds = np.stack([timeline.seen, np.full(timeline.steps, fill) if fill else timeline.sizes])
    changes = 1 + np.flatnonzero(np.diff(kinds, axis=1).any(axis=0))
    recorded = {step for step in task.record.steps(timeline.steps) if step < timeline.steps}
    leavers = n if any(len(own.timeline.gone) for own in layouts) else 0
    loops = {
        (seen, size): _loop_of(layouts[0], (kinds[0] == seen) & (kinds[1] == size))
        for seen, size in np.unique(kinds, axis=1).T.tolist()
    }
    # an update that is recorded is carried out by itself
    edges = np.array(sorted({*changes.tolist(), *recorded, *(step + 1 for step in recorded)}), int)

    def advance(stop: int) -> int:
        nonlocal step, present
        inner = edges[(step < edges) & (edges < stop)].tolist()
        for since, until in itertools.pairwise([step, *inner, stop]):
            interrupts.check()
            seen, size = kinds[:, since].tolist()
            widths, single = loops[seen, size]
            parts_of_seeds = (_events(own, since, until, size, widths, leavers) for own in layouts)
            events = jax.tree.map(lambda *each: np.stack(each), *parts_of_seeds)
            how = _Watching(task.record.weights, since in recorded)
            carry_out = _advance(ready[0].core_of(seen), widths, single, fill > 0, n, how)
            with stage("advance", step=until):
                present, updates, weights, watched = carry_out(worlds, present, events)
            # a stretch is filled up to a length that is compiled already
            there = slice(until - since)
            parts.append(jax.tree.map(lambda each, there=there: each[:, there], jax.device_get((updates, weights))))
            if watched is not None:
                whole.append((since, jax.device_get(watched)))
            step = until
        return step

    def stretches() -> list[Stretch]:
        if not parts:
            return [stretch_of([], n if task.record.weights else None)] * count
        diagnostics, weights = jax.tree.map(lambda *each: np.concatenate(each, axis=1), *parts)
        return [
            Stretch(
                Diagnostics(*(each[i].astype(np.float64) for each in diagnostics)),
                weights[i],
                tuple(_recorded(at, each, i, layouts[i].timeline) for at, each in whole),
            )
            for i in range(count)
        ]

    def evaluate() -> TakeLooks:
        with stage("evaluate", step=step):
            evaluations = jax.device_get(_evaluate(core)(worlds, present.server.params))
        params = np.asarray(present.server.params)
        looks = [
            Look(floats(Evaluation(*(value[i] for value in evaluations))), params[i], since)
            for i, since in enumerate(stretches())
        ]
        parts.clear()
        whole.clear()
        return lambda wait: looks

    def left() -> list[engine.State]:
        return [_state(jax.tree.map(lambda leaf, i=i: leaf[i], present), step, own) for i, own in enumerate(layouts)]

    timelines = [own.timeline for own in layouts]
    return Engine(begin, timeline.steps, _stretch(task.run, d), lambda: timelines, advance, evaluate, stretches, left)


def _state(present: LoopState, step: int, own: Layout) -> engine.State:
    """The state of one seed."""
    places = rows_of(own.timeline, step)
    held = np.asarray(present.held)
    return engine.State(
        step,
        {
            "server": [leaf[None] for leaf in leaves_of(present.server)],
            "adversary": [leaf[None] for leaf in leaves_of(present.adversary)],
            "worker": leaves_of(present.memories),
        },
        places,
        held[own.places[places]] if len(held) else no_rows(held.shape[1]),
    )


def _restored(begin: LoopState, states: Sequence[engine.State], layouts: Sequence[Layout]) -> LoopState:
    """The state of several seeds after their first updates, in the form of the state that they begin with."""
    server, adversary, memories = (
        [np.stack(leaves) for leaves in zip(*(state.nodes[kind] for state in states), strict=True)]
        for kind in ("server", "adversary", "worker")
    )
    held = np.zeros(begin.held.shape, begin.held.dtype)
    for mine, state, own in zip(held, states, layouts, strict=True):
        mine[own.places[state.places]] = state.rows
    return LoopState(
        restored(begin.server, [leaf[:, 0] for leaf in server]), restored(begin.memories, memories),
        restored(begin.adversary, [leaf[:, 0] for leaf in adversary]), jnp.asarray(held),
    )  # fmt: skip


class _Watching(NamedTuple):
    """The results of a loop over updates beside diagnostics: the workers' weights; all arrays of its only update."""

    weights: bool
    whole: bool


class _Watched(NamedTuple):
    """An update that is recorded, before it is put together."""

    workers: Array
    rows: Array
    forged: Array
    decision: Decision
    params: Array
    diagnostics: Diagnostics


def _recorded(step: int, watched: _Watched, seed: int, timeline: Timeline) -> Update:
    """The recorded update of one of the seeds. Places that only fill an update up are left out."""
    mine = jax.tree.map(lambda each: each[seed], watched)
    there = mine.workers >= 0
    return Update(
        step=step,
        time_s=float(timeline.time_s[step]),
        workers=mine.workers[there],
        rows=mine.rows[there],
        byzantine=mine.decision.byzantine[there],
        forged=mine.forged[there],
        aggregate=mine.decision.aggregate,
        weights=mine.decision.weights,
        params=mine.params,
        diagnostics=Diagnostics(*map(float, mine.diagnostics)),
    )


def _loop_of(own: Layout, mine: np.ndarray) -> tuple[tuple[int, ...], bool]:
    """The widths of the groups that are computed for some updates, and whether each of these has just one group."""
    count = np.diff(own.groups[:-1])
    widths = np.unique(own.counts[np.repeat(mine, count)])
    return tuple(widths.tolist()) or (1,), bool((count[mine] == 1).all())


class Events(NamedTuple):
    """A stretch of a timeline, filled up so that few lengths are compiled: its first `length` updates count.

    `step` `[t]`. `groups` `[t, 2]`: the groups of rows computed at each version, from and up to. `begins` and `kinds`
    `[g]`: where each group begins and which width it has. `workers`, `jobs`, `handed` and `places`: of the rows,
    in the order of computing. `arrived` and `taken` `[t, r]`: whose rows go into each update, and where they are held.
    """

    length: np.ndarray
    step: np.ndarray
    groups: np.ndarray
    begins: np.ndarray
    kinds: np.ndarray
    workers: np.ndarray
    jobs: np.ndarray
    handed: np.ndarray
    places: np.ndarray
    arrived: Arrivals
    taken: np.ndarray


def _events(own: Layout, since: int, step: int, size: int, widths: tuple[int, ...], leavers: int) -> Events:
    """`leavers`: the number of workers where rows leave the table in some update, else 0."""
    timeline = own.timeline
    rows, first = timeline.rows, timeline.first
    groups = own.groups[since : step + 1]
    begins, counts = own.begins[groups[0] : groups[-1]], own.counts[groups[0] : groups[-1]]
    origin = begins[0] if len(begins) else 0
    readers = own.readers[origin : origin + counts.sum()]
    room = 16 * widths[-1]
    taken = first[since:step, None] + np.arange(size)
    there = taken < first[since + 1 : step + 1, None]
    taken = np.where(there, taken, 0)
    return Events(
        length=np.array(step - since),
        step=_padded(np.arange(since, step)),
        groups=_padded(np.stack([groups[:-1], groups[1:]], axis=1) - groups[0]),
        begins=_padded(begins - origin),
        kinds=_padded(np.searchsorted(widths, counts)),
        workers=_padded(rows.workers[readers], room),
        jobs=_padded(rows.jobs[readers], room),
        handed=_padded(rows.handed[readers], room),
        places=_padded(own.places[readers], room),
        arrived=Arrivals(
            _padded(np.where(there, rows.workers[taken], -1)),
            _padded(np.where(there, rows.handed[taken], 0)),
            _padded(_gone(timeline.gone, since, step, leavers)) if leavers else None,
        ),
        taken=_padded(np.where(there, own.places[taken], 0)),
    )


def _gone(pairs: np.ndarray, since: int, step: int, n: int) -> np.ndarray:
    """Mask of the rows that leave the table in each update of a stretch, `[step - since, n]`."""
    found = np.zeros((step - since, n), np.int32)
    mine = pairs[(since <= pairs[:, 0]) & (pairs[:, 0] < step)]
    found[mine[:, 0] - since, mine[:, 1]] = 1
    return found


def _padded(values: np.ndarray, least: int = 16) -> np.ndarray:
    """Filled up with zeros to a power of two, and at least to `least`."""
    whole = 1 << (max(len(values), least) - 1).bit_length()
    return np.concatenate([values, np.zeros((whole - len(values), *values.shape[1:]), values.dtype)]).astype(np.int32)


def _over_seeds(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(world, ...)` for all seeds in one compiled call; all its arguments are stacked by seed."""

    def one(common: World, own: tuple[Any, ...]) -> Any:
        fields = (mine if axis == 0 else shared for axis, mine, shared in zip(SEED_AXES, own[0], common, strict=True))
        return function(World._make(fields), *own[1:])

    @jax.jit
    def all_seeds(worlds: World, *others: Any) -> Any:
        mine = World(*(value if axis == 0 else () for axis, value in zip(SEED_AXES, worlds, strict=True)))  # pyright: ignore[reportArgumentType]
        # On CPU a batch of seeds takes longer than one seed after the other (experiments/benchmarks/RESULTS.md).
        if jax.default_backend() == "cpu":
            return jax.lax.map(lambda own: one(worlds, own), (mine, *others))
        return jax.vmap(lambda *own: one(worlds, own))(mine, *others)

    return all_seeds


@compiled_once
def _start(core: Core, n: int, m: int) -> Callable[[World], LoopState]:
    def start(here: World) -> LoopState:
        server = core.start(here)
        d = len(server.params)
        one = core.memory and core.memory.start(here, d)
        memories = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n, *leaf.shape)), one)
        return LoopState(server, memories, core.init_adversary(d), jnp.zeros((m * n, d), server.params.dtype))

    return _over_seeds(start)


@compiled_once
def _evaluate(core: Core) -> Callable[[World, Array], Evaluation]:
    return _over_seeds(core.evaluate)


@compiled_once
def _advance(
    core: Core, widths: tuple[int, ...], single: bool, filled: bool, n: int, how: _Watching
) -> Callable[[World, LoopState, Events], tuple[LoopState, Diagnostics, Array, _Watched | None]]:
    """A loop over updates.

    Args:
        core: Of these updates.
        widths: Numbers of rows that are computed at once.
        single: Whether every version has just one group.
        filled: Whether places may hold no row.
        n: Workers.
        how: The results beside the diagnostics.

    Returns:
        A function that gives the state after a stretch of updates, their diagnostics `[t]`, the workers' weights
        `[t, n]` (`[t, 0]` where they are not recorded), and all arrays of the update where there is one to be recorded.
    """

    def computed(
        here: World, events: Events, group: Array, params: Array, memories: Any, held: Array
    ) -> tuple[Any, Array]:
        def of(width: int) -> Callable[[Any, Array], tuple[Any, Array]]:
            def branch(memories: Any, held: Array) -> tuple[Any, Array]:
                begin = events.begins[group]
                workers, jobs, handed, places = (
                    jax.lax.dynamic_slice_in_dim(each, begin, width)
                    for each in (events.workers, events.jobs, events.handed, events.places)
                )
                mine = jax.tree.map(lambda leaf: leaf[workers], memories)
                given = ()
                if core.memory is not None and core.memory.receive is not None:
                    mine = jax.vmap(core.memory.receive, (0, None))(mine, params)
                    given = (mine,)
                rows = batched(core.work, core.batch)(here, params, workers, jobs, handed, *given)
                if core.memory is not None:
                    mine, rows = jax.vmap(partial(core.memory.remember, here))(mine, rows, workers, jobs)
                    memories = jax.tree.map(lambda leaf, new: leaf.at[workers].set(new), memories, mine)
                return memories, held.at[places].set(rows) if len(held) else rows

            return branch

        branches = [of(width) for width in widths]
        if len(branches) == 1:
            return branches[0](memories, held)
        return jax.lax.switch(events.kinds[group], branches, memories, held)

    def update(here: World, state: LoopState, events: Events, now: Any) -> tuple[LoopState, _Watched]:
        step, groups, arrived, taken = now
        server, memories, adversary, held = state

        def compute(group: Array, kept: tuple[Any, Array]) -> tuple[Any, Array]:
            return computed(here, events, group, server.params, *kept)

        if single:
            memories, held = compute(groups[0], (memories, held))
        else:
            memories, held = jax.lax.fori_loop(groups[0], groups[1], compute, (memories, held))
        if not len(state.held):
            rows, held = held, state.held
        elif filled:
            rows = jnp.where(arrived.workers[:, None] >= 0, held[taken], 0)
        else:
            rows = held[taken]
        forged = rows
        if core.forge is not None:
            forged, adversary = core.forge(here, step, arrived, rows, public_state(server), adversary)
        server, diagnostics, decision = core.update(here, server, arrived, forged)
        watched = _Watched(arrived.workers, rows, forged, decision, server.params, diagnostics)
        return LoopState(server, memories, adversary, held), watched

    def at(events: Events, i: Any) -> Any:
        return jax.tree.map(lambda each: each[i], (events.step, events.groups, events.arrived, events.taken))

    def advance(here: World, state: LoopState, events: Events) -> tuple[LoopState, Diagnostics, Array, _Watched | None]:
        count = len(events.step)
        diagnostics = Diagnostics(*(jnp.zeros(count) for _ in Diagnostics._fields))
        weights = jnp.zeros((count, n if how.weights else 0))
        if how.whole:
            state, watched = update(here, state, events, at(events, 0))
            diagnostics = jax.tree.map(lambda found, value: found.at[0].set(value), diagnostics, watched.diagnostics)
            return state, diagnostics, weights.at[0].set(watched.decision.weights[: weights.shape[1]]), watched

        def body(i: Array, carry: tuple[LoopState, Diagnostics, Array]) -> tuple[LoopState, Diagnostics, Array]:
            state, watched = update(here, carry[0], events, at(events, i))
            seen = jax.tree.map(lambda found, value: found.at[i].set(value), carry[1], watched.diagnostics)
            return state, seen, carry[2].at[i].set(watched.decision.weights[: weights.shape[1]])

        return *jax.lax.fori_loop(0, events.length, body, (state, diagnostics, weights)), None

    return _over_seeds(advance)
