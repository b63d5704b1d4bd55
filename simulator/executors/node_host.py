"""Nodes of a network in one process of several: it carries out their events and keeps their states."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator import compilation
from byzax.simulator.config.study import Task
from byzax.simulator.diagnostics import Diagnostics, Evaluation
from byzax.simulator.engine import leaves_of, restored
from byzax.simulator.events import Node, inbox_of, iterate_events
from byzax.simulator.executors.base import floats, network_of, prepare, stage


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
        self.network, self.here = network_of(task.run, prepare(task.run))
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
        self, update: int, places: np.ndarray, *parts: dict[int, Any]
    ) -> tuple[dict[int, Any], list[tuple[int, str, Any]]]:
        """Carries out events.

        Args:
            update: The update that they belong to.
            places: `[e]`, their places in the table of the update.
            *parts: Messages that they read, by their numbers; others may be among them.

        Returns:
            The messages that are read by later events, by their numbers; and what was seen of each event, with its
            place and the name of its step.
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
                self.states[me], message, found, _ = step.carry_out(self.here, event, self.states[me], messages)
            if table.last[place] > table.begin + place:
                sent[table.begin + place] = _in_numpy(message)
            seen.append((place, step.name, _in_numpy(found)))
        return sent, seen

    def measure(self, *parts: Sequence[tuple[int, str, Any]]) -> tuple[Diagnostics, np.ndarray]:
        """The measurements of an update, from what was seen of its events."""
        seen = sorted((each for part in parts for each in part), key=lambda each: each[0])
        diagnostics, weights = self.network.measure([(name, found) for _, name, found in seen])
        return Diagnostics(*map(float, diagnostics)), np.asarray(weights)

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
        states = {node: jax.tree.map(jnp.asarray, state) for part in parts for node, state in part.items()}
        with stage("evaluate", step=step):
            return floats(self.network.evaluate(self.here, states)), np.asarray(self.network.params(states))


def _in_numpy(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)
