"""Any periodic table of events in compiled loops: events that can be carried out together are one batched call."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator import interrupts
from byzax.simulator.config.study import Task
from byzax.simulator.diagnostics import Diagnostics
from byzax.simulator.engine import Engine, Look, State, Stretch, TakeLooks, leaves_of, no_rows, restored
from byzax.simulator.events import EventBlock, Network, NodeEvent, States, inbox_of, levels_of
from byzax.simulator.executors.base import Prepared, floats, stage
from byzax.simulator.world import World

Array = jax.Array


class Wave(NamedTuple):
    """Events of one step with inboxes of one size, none of which reads a message of another.

    Attributes:
        step: The step, as its place in `Network.steps`.
        nodes: `[w]`, their nodes.
        rows: `[w, k]`, the rows that they read, as places among all rows that were sent before in the same update.
        shown: `[w]`, the nodes whose last message of the update before each reads besides, of the kind of `of`; None
            where they read none.
        of: The kind of these nodes.
        sends: Whether other events of the same update read its messages.
    """

    step: int
    nodes: np.ndarray
    rows: np.ndarray
    shown: np.ndarray | None
    of: str
    sends: bool


def waves_of(network: Network, steps: int) -> list[Wave]:
    """The waves of one update, which are those of every update.

    Args:
        network: The network.
        steps: Number of updates.

    Returns:
        The waves, in an order in which they can be carried out.

    Raises:
        ValueError: Where updates differ in more than their turn, or a step cannot be carried out in compiled code.
    """
    if alone := [step.name for step in network.steps if step.together is None]:
        raise ValueError(
            f"the step {alone[0]} does not say how it is carried out together: give its NodeStep "
            'together="map", or take executor loop or ray'
        )
    block = network.table.events(0, 1)
    _check_periodic(network, block, steps)
    shown = {number: node for number, (node, _) in network.table.kept(0).items()}
    end = block.begin + len(block.step)
    waves, place_of, sent = [], {}, 0
    for places in levels_of(block, shown):
        kind = int(block.step[places[0]])
        rows, others = [], []
        for e in places:
            read = inbox_of(block, e)
            rows.append([place_of[source] + max(port, 0) for source, port in read if source not in shown])
            others += [shown[source] for source, _ in read if source in shown]
            if any(source in shown for source, _ in read[:-1]) or len({kind for kind, _ in others}) > 1:
                raise ValueError(
                    f"the step {network.steps[kind].name} reads messages of the update before: compiled loops need one "
                    "for each event, of one kind of node, as the last that it reads: list it so, or take executor loop "
                    "or ray"
                )
        sends = any(block.begin + e < block.last[e] < end for e in places)
        waves.append(
            Wave(
                kind,
                block.node[places],
                np.array(rows, int).reshape(len(places), -1),
                np.array([node for _, node in others]) if others else None,
                others[0][0] if others else network.steps[kind].kind,
                sends,
            )
        )
        # a forging event sends a row for each that it reads
        width = len(rows[0]) if network.steps[kind].forges else 1
        for e in places if sends else ():
            place_of[block.begin + e] = sent
            sent += width
    return waves


def _check_periodic(network: Network, block: EventBlock, steps: int) -> None:
    for since in range(0, steps, 256):
        part = network.table.events(since, min(since + 256, steps))
        count = len(part.bounds) - 1
        same = all(
            np.array_equal(getattr(part, name), np.tile(getattr(block, name), count))
            for name in ("step", "node", "port")
        ) and np.array_equal(np.diff(part.first), np.tile(np.diff(block.first), count))
        # numbers of messages, counted from the first event of the update
        begins = part.begin + np.repeat(part.bounds[:-1], np.diff(part.first[part.bounds]))
        if not same or not np.array_equal(part.source - begins, np.tile(block.source - block.begin, count)):
            raise ValueError("compiled loops need a table whose updates differ in their turn alone: take executor loop")


Carry = tuple[dict[str, Any], Diagnostics, Array]


def build_rounds(network: Network, steps: int, n: int) -> Callable[[World, dict[str, Any], Any, Any, int], Carry]:
    """Builds the compiled loop over updates.

    Args:
        network: The network.
        steps: Number of updates of the run.
        n: Number of workers whose weights are measured; 0 for none.

    Returns:
        A function of the world, the states of all nodes by kind `[nodes, ...]`, the first update, the number of updates
        and room for so many: the states after them, their diagnostics `[room]` and weights `[room, n]`.
    """
    waves = waves_of(network, steps)

    def update(here: World, states: dict[str, Any], turn: Array) -> tuple[dict[str, Any], Diagnostics, Array]:
        begun = dict(states)
        sent: list[Array] = []
        seen: list[tuple[str, Any]] = []
        for wave in waves:
            step = network.steps[wave.step]
            mine = jax.tree.map(lambda leaf, wave=wave: leaf[wave.nodes], states[step.kind])
            inbox = jnp.concatenate(sent)[wave.rows] if wave.rows.size else None
            last = None
            if wave.shown is not None:
                last = jax.vmap(network.show)(jax.tree.map(lambda leaf, w=wave: leaf[w.shown], begun[wave.of]))

            def carry_out(given: Any, step: Any = step, k: int = wave.rows.shape[1]) -> Any:
                node, state, rows, other = given
                messages = [] if rows is None else [rows[i] for i in range(k)]
                messages += [] if other is None else [other]
                return step.carry_out(here, NodeEvent(node, turn, jnp.int32(-1)), state, messages)

            each = (jnp.asarray(wave.nodes), mine, inbox, last)
            done = jax.vmap(carry_out)(each) if step.together == "batch" else jax.lax.map(carry_out, each)
            states[step.kind] = jax.tree.map(
                lambda leaf, new, wave=wave: leaf.at[wave.nodes].set(new), states[step.kind], done.state
            )
            if wave.sends:
                sent.append(done.message.reshape(-1, done.message.shape[-1]))
            seen += [(step.name, jax.tree.map(lambda leaf, i=i: leaf[i], done.seen)) for i in range(len(wave.nodes))]
        return states, *network.measure(seen)

    @jax.jit(static_argnums=4)
    def rounds(here: World, states: dict[str, Any], first: Array, count: Array, room: int) -> Carry:
        def body(i: Array, carry: Carry) -> Carry:
            states, diagnostics, weights = carry
            states, measured, shares = update(here, dict(states), first + i)
            kept = jax.tree.map(lambda found, value: found.at[i].set(value), diagnostics, measured)
            return states, kept, weights.at[i].set(shares[:n])

        nothing = Diagnostics(*(jnp.zeros(room) for _ in Diagnostics._fields))
        return jax.lax.fori_loop(0, count, body, (states, nothing, jnp.zeros((room, n))))

    return rounds


def engine(
    task: Task, prepared: Prepared, here: World, network: Network, stretch: int, states: Sequence[State] | None
) -> Engine:
    """The engine of one seed.

    Args:
        task: The task.
        prepared: The run.
        here: Its arrays.
        network: Its network.
        stretch: Most updates of one compiled loop.
        states: The state to begin with; None for the beginning of the run.

    Returns:
        The engine.
    """
    timeline = prepared.timeline
    n = task.run.workers.total if task.record.weights else 0
    with stage("start", seed=task.run.seed):
        begun = network.start(here)
    present = {
        kind: jax.tree.map(lambda *leaves: jnp.stack(leaves), *(begun[kind, i] for i in range(count)))
        for kind, count in network.nodes.items()
    }
    step = begin = states[0].step if states else 0
    if states:
        present = {kind: restored(state, states[0].nodes[kind]) for kind, state in present.items()}
    rounds = build_rounds(network, timeline.steps, n)
    parts: list[tuple[Diagnostics, np.ndarray]] = []

    def advance(stop: int) -> int:
        nonlocal step, present
        interrupts.check()
        # few lengths are compiled
        room = 1 << (stop - step - 1).bit_length()
        with stage("advance", step=stop):
            present, *measured = rounds(here, present, jnp.int32(step), jnp.int32(stop - step), room)
            parts.append(jax.tree.map(lambda each: each[: stop - step], tuple(jax.device_get(measured))))
        step = stop
        return step

    def since() -> Stretch:
        if not parts:
            return Stretch(Diagnostics(*(np.empty(0) for _ in Diagnostics._fields)), np.empty((0, n), np.float32))
        diagnostics, weights = jax.tree.map(lambda *each: np.concatenate(each), *parts)
        return Stretch(Diagnostics(*(each.astype(np.float64) for each in diagnostics)), weights)

    def separate() -> States:
        return {
            (kind, i): jax.tree.map(lambda leaf, i=i: leaf[i], present[kind])
            for kind, count in network.nodes.items()
            for i in range(count)
        }

    def evaluate() -> TakeLooks:
        apart = separate()
        with stage("evaluate", step=step):
            looks = [Look(floats(network.evaluate(here, apart)), np.asarray(network.params(apart)), since())]
        parts.clear()
        return lambda wait: looks

    def left() -> list[State]:
        nodes = {kind: leaves_of(state) for kind, state in present.items()}
        d = network.params(separate()).shape[0]
        return [State(step, nodes, np.empty(0, int), no_rows(d))]

    return Engine(begin, timeline.steps, stretch, lambda: [timeline], advance, evaluate, lambda: [since()], left)
