"""The reference executor: one event after the other, in this process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from byzax.simulator import compilation, interrupts
from byzax.simulator.config.executors import Loop
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Task
from byzax.simulator.diagnostics import Update
from byzax.simulator.engine import (
    Engine,
    Look,
    Repeats,
    State,
    TakeLooks,
    common_starts,
    no_rows,
    node_leaves,
    restored,
    stretch_of,
)
from byzax.simulator.events import Network, NewStates, iterate_events
from byzax.simulator.executors.base import (
    Checkpoint,
    Prepared,
    bits_so_far,
    ended,
    floats,
    in_numpy,
    network_of,
    prepare,
    stage,
)
from byzax.simulator.executors.driver import drive
from byzax.simulator.messages import RowOf
from byzax.simulator.timeline import Timeline
from byzax.simulator.world import World

# Updates whose events are put into one table.
AT_ONCE = 256
# The fields of an update that are arrays of rows and models.
ARRAYS = ("workers", "rows", "byzantine", "forged", "aggregate", "params")


class Moment(NamedTuple):
    """A run between two updates.

    Attributes:
        step: Updates so far.
        states: The states of all nodes.
        live: The messages that later events read, by their numbers, with the last event that reads each, and of forged
            ones those that they were made of.
    """

    step: int
    states: NewStates
    live: dict[int, tuple[Any, int, Sequence[Any]]]


@contextmanager
def session(executor: Loop):
    """Nothing lives across runs here. See `byzax.simulator.executors.session`."""
    yield repeats


def repeats(task: Task) -> Iterator[Repeats]:
    """The repeats of a task, one after the other."""
    for each in task.repeats:
        yield Repeats(each.seeds, lambda states, each=each: _engine(each, prepare(each.run), states))


def replay(task: Task, observed: Timeline) -> Iterator[Checkpoint]:
    """The checkpoints of a repeat whose order of events was recorded."""
    prepared = prepare(task.run, observed)
    return drive(task, [Repeats(task.seeds, lambda states: _engine(task, prepared, states))])


def simulate(run: Run) -> Iterator[Update]:
    """A run by hand: its updates one after the other, with all their arrays.

    Args:
        run: The run.

    Yields:
        Each update, in NumPy. Numbers are those of any executor.

    Raises:
        ValueError: Where a part does not accept the numbers of the run.
        RunError: Where a stage fails, naming worker and job.
    """
    compilation.use_disk_cache()
    prepared = prepare(run)
    network, here = network_of(run, prepared)
    begin = _start(network, _begin(run, network, here), None)
    for update, _ in updates(network, here, begin, prepared.timeline):
        yield in_numpy(update)
    ended(prepared.timeline)


def updates(
    network: Network, here: World, begin: Moment, timeline: Timeline, whole: Callable[[int], bool] = lambda step: True
) -> Iterator[tuple[Update, Moment]]:
    """The updates from a moment on, each with the moment after it. States and messages are replaced in place.

    Args:
        network: The network.
        here: Arrays of the run.
        begin: The moment.
        timeline: The timeline of the run.
        whole: Tells whether the rows and models of an update are asked for.

    Yields:
        Each update, and the moment after it.
    """
    step, states, live = begin
    for since in range(step, timeline.steps, AT_ONCE):
        table = network.table.events(since, min(since + AT_ONCE, timeline.steps))
        first, bounds = table.first.tolist(), table.bounds.tolist()
        kinds, lasts, source, port = (each.tolist() for each in (table.step, table.last, table.source, table.port))
        events = iterate_events(table)
        for update, (begins, ends) in enumerate(pairwise(bounds), since):
            interrupts.check()
            seen, arrays, recorded = [], [], whole(update)
            for place in range(begins, ends):
                number, reads = table.begin + place, range(first[place], first[place + 1])
                what, event, last = network.steps[kinds[place]], next(events), lasts[place]
                sent = [live[source[i]] for i in reads]
                messages = [
                    each if port[i] < 0 else RowOf(each, port[i], of)
                    for i, (each, _, of) in zip(reads, sent, strict=True)
                ]
                me = what.kind, event.node
                try:
                    states[me], message, found, made = what.run(here, event, states[me], messages)
                except Exception:
                    with stage(what.name, **what.place(event)):
                        raise
                seen.append((what.name, found))
                arrays.append((what.name, made if recorded else None))
                for each in {source[i] for i in reads}:
                    if live[each][1] == number:
                        del live[each]
                if last > number:
                    # beyond the update they would be held through one another
                    of_update = what.forges and last < table.begin + ends
                    live[number] = message, last, messages if of_update else ()
            diagnostics, weights = network.measure(seen)
            given: dict[str, Any] = network.arrays(update, arrays, states) if recorded else dict.fromkeys(ARRAYS)
            measured: dict[str, Any] = {
                "time_s": float(timeline.time_s[update]),
                "weights": weights,
                "diagnostics": diagnostics,
            }
            yield Update(step=update, **measured, **given), Moment(update + 1, states, live)


def _begin(run: Run, network: Network, here: World) -> NewStates:
    with stage("start", seed=run.seed):
        return network.start(here)


def _start(network: Network, states: NewStates, state: State | None) -> Moment:
    """The moment before the first update, or that of a state."""
    for kind, (nodes, leaves) in (state.nodes if state else {}).items():
        for place, node in enumerate(nodes.tolist()):
            states[kind, node] = restored(states[kind, node], [leaf[place] for leaf in leaves])
    step = state.step if state else 0
    live: dict[int, Any] = {
        number: (network.show(states[node]), last, ()) for number, (node, last) in network.table.kept(step).items()
    }
    if state is None:
        return Moment(step, states, live)
    kept = network.table.rows(step)
    for number in np.unique(kept.source).tolist():
        mine = kept.source == number
        ports, message = kept.port[mine], state.rows[mine]
        if ports[0] >= 0:
            # zeros for rows that nobody reads any more
            message = np.zeros((ports.max() + 1, message.shape[1]), message.dtype)
            message[ports] = state.rows[mine]
        live[number] = jnp.asarray(message if ports[0] >= 0 else message[0]), int(kept.last[mine].max()), ()
    return Moment(step, states, live)


def _state(network: Network, present: Moment, starts: Mapping[str, Any]) -> State:
    nodes = {
        kind: node_leaves({i: present.states[kind, i] for i in range(n)}, starts.get(kind))
        for kind, n in network.nodes.items()
    }
    kept = network.table.rows(present.step)
    rows = [
        np.asarray(present.live[number][0])[port if port >= 0 else ...]
        for number, port in zip(kept.source.tolist(), kept.port.tolist(), strict=True)
    ]
    return State(
        present.step, nodes, kept.places, np.stack(rows) if rows else no_rows(network.params(present.states).shape[0])
    )


def _engine(task: Task, prepared: Prepared, states: Sequence[State] | None) -> Engine:
    compilation.use_disk_cache()
    run, timeline = task.run, prepared.timeline
    n = run.workers.total if task.record.weights else None
    network, here = network_of(run, prepared)
    recorded = task.record.steps(timeline.steps)
    begun = _begin(run, network, here)
    starts = common_starts(begun, network.nodes)
    present = _start(network, begun, states[0] if states else None)
    begin = present.step
    # of the others no row and no model is kept in memory
    coming = updates(network, here, present, timeline, lambda step: step in recorded)
    since: list[Update] = []

    def stretch():
        whole = [in_numpy(update) for update in since if update.step in recorded]
        return stretch_of([(update.diagnostics, update.weights) for update in since], n, whole)

    def advance(stop: int) -> int:
        nonlocal present
        while present.step < stop:
            update, present = next(coming)
            since.append(update)
        return stop

    def evaluate() -> TakeLooks:
        with stage("evaluate", step=present.step):
            evaluation = floats(network.evaluate(here, present.states))
        bits = bits_so_far(network, present.states)
        looks = [Look(evaluation, np.asarray(network.params(present.states)), stretch(), bits)]
        since.clear()
        return lambda wait: looks

    return Engine(
        begin, timeline.steps, 1, lambda: [timeline], advance, evaluate, lambda: [stretch()],
        lambda: [_state(network, present, starts)],
    )  # fmt: skip
