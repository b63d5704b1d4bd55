"""Nodes of a network in one process of several: it carries out their events and keeps their states."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator import compilation
from byzax.simulator.config.study import Task
from byzax.simulator.diagnostics import Diagnostics, Evaluation, Update
from byzax.simulator.engine import leaves_of, restored
from byzax.simulator.events import Node, inbox_of, iterate_events
from byzax.simulator.executors.base import floats, in_numpy, network_of, prepare, stage


class SeenEvent(NamedTuple):
    """The results of an event that its update is told by.

    Attributes:
        place: Its place in the table of the update.
        step: The name of its step.
        found: Its measurements.
        arrays: Its arrays where the update is recorded whole; else None.
    """

    place: int
    step: str
    found: Any
    arrays: Any


class NodeHost:
    """Hosts nodes of a network. Messages and states leave it in NumPy."""

    def __init__(
        self, task: Task, mine: Mapping[str, np.ndarray], leaves: Mapping[str, list[np.ndarray]] | None
    ) -> None:
        """Takes nodes of the network of a task.

        Args:
            task: The task, of one seed.
            mine: The nodes of each kind that it hosts; none for a host that measures and evaluates alone.
            leaves: Leaves of their states, by kind, each `[nodes, ...]`; None for the beginning of the run.
        """
        compilation.use_disk_cache()
        compilation.make_room()
        prepared = prepare(task.run)
        self.timeline = prepared.timeline
        self.network, self.here = network_of(task.run, prepared)
        self.mine = mine
        self.states: dict[Node, Any] = {}
        if any(map(len, mine.values())):
            with stage("start", seed=task.run.seed):
                begun = self.network.start(self.here)
            for kind, nodes in mine.items():
                for place, node in enumerate(nodes.tolist()):
                    state = begun[kind, node]
                    if leaves is not None:
                        state = restored(state, [leaf[place] for leaf in leaves[kind]])
                    self.states[kind, node] = state

    def shown(self, update: int) -> dict[int, Any]:
        """The last messages of its nodes that events from an update on read, by their numbers."""
        kept = self.network.table.kept(update)
        mine = {number: node for number, (node, _) in kept.items() if node in self.states}
        return {number: _in_numpy(self.network.show(self.states[node])) for number, node in mine.items()}

    def carry_out(
        self, update: int, places: np.ndarray, recorded: bool, *parts: dict[int, Any]
    ) -> tuple[dict[int, Any], list[SeenEvent]]:
        """Carries out events.

        Args:
            update: The update that they belong to.
            places: `[e]`, their places in the table of the update.
            recorded: Whether the update is recorded whole.
            *parts: Messages that they read, by their numbers; others may be among them.

        Returns:
            The messages that are read by later events, by their numbers; and what was seen of each event.
        """
        table = self.network.table.events(update, update + 1)
        events = [*iterate_events(table, self.network.nodes.get("worker", 0))]
        live = {number: message for part in parts for number, message in part.items()}
        sent, seen = {}, []
        for place in places.tolist():
            step = self.network.steps[table.step[place]]
            event = events[place]
            messages = [live[source] if port < 0 else live[source][port] for source, port in inbox_of(table, place)]
            me = step.kind, event.node
            with stage(step.name, **step.place(event)):
                self.states[me], message, found, arrays = step.carry_out(self.here, event, self.states[me], messages)
            if table.last[place] > table.begin + place:
                sent[table.begin + place] = _in_numpy(message)
            seen.append(SeenEvent(place, step.name, *_in_numpy((found, arrays if recorded else None))))
        return sent, seen

    def measure(self, *parts: Sequence[SeenEvent]) -> tuple[Diagnostics, np.ndarray]:
        """The measurements of an update, from what was seen of its events."""
        seen = _in_order(parts)
        diagnostics, weights = self.network.measure([(each.step, each.found) for each in seen])
        return Diagnostics(*map(float, diagnostics)), np.asarray(weights)

    def record(self, update: int, hosts: int, *parts: Any) -> tuple[Diagnostics, np.ndarray, Update]:
        """The measurements of an update, and the update with all its arrays.

        Args:
            update: Its number.
            hosts: Number of hosts of nodes.
            *parts: The states of their nodes after the update, and what was seen of its events.

        Returns:
            Diagnostics, weights, and the update in NumPy.
        """
        states, seen = _joined(parts[:hosts]), parts[hosts:]
        diagnostics, weights = self.measure(*seen)
        arrays = [(each.step, each.arrays) for each in _in_order(seen)]
        found = self.network.arrays(update, arrays, states)
        time_s = float(self.timeline.time_s[update])
        made = Update(step=update, time_s=time_s, weights=weights, diagnostics=diagnostics, **found)
        return diagnostics, weights, in_numpy(made)

    def save(self) -> dict[str, list[np.ndarray]]:
        """The leaves of the states of its nodes, by kind, each `[nodes, ...]`."""
        return {
            kind: [
                np.stack(each) for each in zip(*(leaves_of(self.states[kind, i]) for i in nodes.tolist()), strict=True)
            ]
            for kind, nodes in self.mine.items()
        }

    def copied_states(self) -> dict[Node, Any]:
        """The states of its nodes."""
        return _in_numpy(self.states)

    def evaluate(self, step: int, *parts: dict[Node, Any]) -> tuple[Evaluation, np.ndarray]:
        """The evaluation after `step` updates, and the model that is kept, from the states of all nodes."""
        states = _joined(parts)
        with stage("evaluate", step=step):
            return floats(self.network.evaluate(self.here, states)), np.asarray(self.network.params(states))


def _in_order(parts: Sequence[Sequence[SeenEvent]]) -> list[SeenEvent]:
    return sorted((each for part in parts for each in part), key=lambda each: each.place)


def _joined(parts: Sequence[dict[Node, Any]]) -> dict[Node, Any]:
    """The states of all nodes, from those of each host, in arrays of JAX."""
    return {node: jax.tree.map(jnp.asarray, state) for part in parts for node, state in part.items()}


def _in_numpy(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)
