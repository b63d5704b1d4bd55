"""Nodes of a network in one process of several: it carries out their events and keeps their states."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator import compilation
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.executors import Ray
from byzax.simulator.config.study import Task
from byzax.simulator.diagnostics import Evaluation
from byzax.simulator.engine import NodeLeaves, common_starts, node_leaves, restored
from byzax.simulator.events import EventResult, Node, NodeEvent, NodeStep
from byzax.simulator.executors.base import bits_so_far, floats, network_of, prepare, stage
from byzax.simulator.executors.grouping import EventGroup, SingleEvent
from byzax.simulator.executors.parcels import Packing, Parcel, unpack
from byzax.simulator.timeline import Timeline


class SeenEvent(NamedTuple):
    """The results of an event that its update is told by.

    Attributes:
        update: The update.
        place: The place of the event among those of the update.
        step: The name of its step.
        found: Its measurements.
        arrays: Its arrays where the update is recorded whole; else None.
    """

    update: int
    place: int
    step: str
    found: Any
    arrays: Any


class NodeHost:
    """Hosts nodes of a network. Messages and states leave it in NumPy."""

    def host(
        self,
        task: Task,
        timeline: Timeline,
        mine: Mapping[str, np.ndarray],
        leaves: Mapping[str, NodeLeaves] | None,
    ) -> None:
        """Takes nodes of the network of a task.

        Args:
            task: The task, of one seed.
            timeline: The first update of its timeline.
            mine: The nodes of each kind that it hosts.
            leaves: Their states, by kind; None for the beginning of the run.
        """
        compilation.use_disk_cache()
        compilation.make_room()
        self.network, self.here = network_of(task.run, prepare(task.run, timeline))
        self.seen: list[SeenEvent] = []
        # the messages that the last event of each step read which reads last rows, in a race
        self.kept: dict[int, dict[tuple[int, int], Any]] = {}
        # the states before the last turn of each node, in a race
        self.before: dict[Node, dict[Node, Any]] = {}
        self.mine, self.batch = mine, isinstance(task.executor, Ray) and task.executor.batch
        self.states: dict[Node, Any] = {}
        with stage("start", seed=task.run.seed):
            begun = self.network.start(self.here)
        self.starts = common_starts(begun, self.network.nodes)
        for kind, nodes in mine.items():
            self.states |= {(kind, node): begun[kind, node] for node in nodes.tolist()}
        for kind, (nodes, arrays) in (leaves or {}).items():
            for place, node in enumerate(nodes.tolist()):
                self.states[kind, node] = restored(begun[kind, node], [leaf[place] for leaf in arrays])

    def shown(self, nodes: Mapping[int, Node]) -> Parcel:
        """The messages that nodes sent last, by their numbers."""
        shown = {number: in_numpy(self.network.show(self.states[node])) for number, node in nodes.items()}
        return Parcel(others=shown)

    def carry_out(self, events: EventGroup | SingleEvent, recorded: bool, *parts: Parcel) -> Parcel:
        """Carries out events. What is seen of them stays here until `take_seen`.

        Args:
            events: The events. Of a race it is one.
            recorded: Whether their update is recorded whole.
            *parts: The messages that they read; others may be among them. Messages that an event of a race reads as the
                one of its step before did, where the step reads last rows, are still here.

        Returns:
            The messages that other events read.
        """
        live = unpack(parts)
        if isinstance(events, SingleEvent):
            live, events = {**self.kept.get(events.step, {}), **live}, events.alone()
            if self.network.steps[events.step].last_rows:
                numbers = {*events.reads[0].ravel().tolist()}
                self.kept[events.step] = {at: message for at, message in live.items() if at[0] in numbers}
        step, sent = self.network.steps[events.step], Packing()
        inboxes = self._inboxes(events, live)
        made = self._together(step, events, live) if self.batch else None
        if made is None:
            # asked for one after the other, and not waited for before all are
            made = [self._carry_out_one(step, event, inbox) for event, inbox in inboxes]
        places, numbers, *_ = events.events.tolist()
        for i, ((event, _), result) in enumerate(zip(inboxes, made, strict=True)):
            with stage(step.name, **step.place(event)):
                if (ports := events.read[i]) is not None:
                    sent.add(numbers[i], ports, in_numpy(result.message))
                found, arrays = jax.tree.map(plain, result.seen), in_numpy(result.arrays if recorded else None)
            if found is not None or arrays is not None:
                self.seen.append(SeenEvent(events.update, places[i], step.name, found, arrays))
        return sent.parcel()

    def conclude(self, events: EventGroup | SingleEvent, recorded: bool, *parts: Parcel) -> tuple[Parcel, None]:
        """Carries out the last events of an update. The second result is there to be waited for."""
        return self.carry_out(events, recorded, *parts), None

    def _carry_out_one(self, step: NodeStep, event: NodeEvent, inbox: list[Any]) -> EventResult:
        me = step.kind, event.node
        with stage(step.name, **step.place(event)):
            made = step.run(self.here, event, self.states[me], inbox)
        # messages may be views of memory that is used again
        self.states[me] = jax.tree.map(owned, made.state)
        return made

    def learn(self, groups: Sequence[EventGroup], nodes: Mapping[int, Node]) -> None:
        """Takes the events that it carries out in every update.

        Args:
            groups: Those of one update.
            nodes: Its nodes of which these read the last message of the update before, by the numbers of the messages.
        """
        self.groups, self.nodes = groups, nodes

    def show_again(self, shift: int) -> Parcel:
        """The messages that its nodes sent last, by the numbers that they have in the events learned."""
        return self.shown(self.nodes)

    def repeat(self, shift: int, group: int, *parts: Parcel) -> Parcel:
        """Carries out events that were learned.

        Args:
            shift: Number of updates since that of the events learned.
            group: Their group.
            *parts: Messages that they read, by the numbers that these have in the events learned.

        Returns:
            The messages that other events read.
        """
        return self.carry_out(self.groups[group].later(shift), False, *parts)

    def repeat_last(self, shift: int, group: int, *parts: Parcel) -> None:
        """Carries out events that were learned and whose messages no other event of the update reads."""
        self.repeat(shift, group, *parts)

    def take_seen(self) -> list[SeenEvent]:
        """Takes what was seen of the events since the last call."""
        seen, self.seen = self.seen, []
        return seen

    def save(self) -> dict[str, NodeLeaves]:
        """The states of its nodes, by kind."""
        return {
            kind: node_leaves({i: self.states[kind, i] for i in nodes.tolist()}, self.starts.get(kind))
            for kind, nodes in self.mine.items()
        }

    def copied_states(self) -> dict[Node, Any]:
        """The states of its nodes of the kinds that an evaluation reads."""
        judged = self.network.judged
        return in_numpy({node: state for node, state in self.states.items() if not judged or node[0] in judged})

    def evaluate(self, step: int, *parts: dict[Node, Any]) -> tuple[Evaluation, np.ndarray, Mapping[str, np.ndarray]]:
        """The evaluation of the models after `step` updates, from the states of nodes of other hosts too.

        Args:
            step: Number of updates so far.
            *parts: States of nodes of other hosts.

        Returns:
            The evaluation, the model that is kept, and the messages that only states tell.
        """
        states, network = self.states | joined(parts), self.network
        with stage("evaluate", step=step):
            evaluation, params = floats(network.evaluate(self.here, states)), np.asarray(network.params(states))
            return evaluation, params, bits_so_far(network, states)

    def _inboxes(self, events: EventGroup, live: Mapping[tuple[int, int], Any]) -> list[tuple[NodeEvent, list[Any]]]:
        """The events, each with the messages that it reads."""
        source, port = events.reads[:2].tolist()
        asked = [[*zip(*inbox, strict=True)] for inbox in zip(source, port, strict=True)]
        if len(asked) > 1:
            # in arrays of JAX once, and not once for each event that reads it
            shared = {each for each in asked[0] if each[1] < 0 and each in asked[1]}
            live = {**live, **{each: jax.tree.map(jnp.asarray, live[each]) for each in shared}}
        # a row is there alone, or in the message that it is one of
        inboxes = [[live[at] if at in live else live[at[0], -1][at[1]] for at in inbox] for inbox in asked]
        return [*zip(events.as_seen(), inboxes, strict=True)]

    def _together(
        self, step: NodeStep, events: EventGroup, live: Mapping[tuple[int, int], Any]
    ) -> list[EventResult] | None:
        """The results of events that all read the same messages, whole; None where they are no such."""
        source, port, sender, version, lag = events.reads
        alike = (source == source[0]).all() and (port < 0).all() and (lag == lag[0]).all()
        _, _, nodes, turns, _ = events.events
        given = [self.states[step.kind, i] for i in nodes.tolist()]
        # of a node with a state one event follows from the other
        alike &= len({*nodes.tolist()}) == len(nodes) or not jax.tree.leaves(given)
        if len(source) == 1 or step.together is None or not alike:
            return None
        states = jax.tree.map(lambda *each: jnp.stack(each), *given)
        with stage(step.name, **step.place(next(events.as_seen()))):
            messages = [live[number, -1] for number in source[0].tolist()]
            made = _all_at_once(step)(
                self.here, nodes, turns, sender, version, lag[0], np.flatnonzero(lag[0] == 0), states, messages
            )
        each = [jax.tree.map(lambda leaf, i=i: leaf[i], made) for i in range(len(nodes))]
        self.states |= {(step.kind, i): one.state for i, one in zip(nodes.tolist(), each, strict=True)}
        return each


@compiled_once
def _all_at_once(step: NodeStep) -> Any:
    """A step for several nodes that read the same messages: node, turn, sender, version, state have a leading axis."""

    @jax.jit
    def all_of_them(
        here: Any, nodes: Any, turns: Any, senders: Any, versions: Any, lags: Any, new: Any, states: Any, messages: Any
    ) -> Any:
        def one(given: Any) -> EventResult:
            node, turn, sender, version, state = given
            return step.run(here, NodeEvent(node, turn, 0, sender, version, lags, new), state, messages)

        each = nodes, turns, senders, versions, states
        return jax.vmap(one)(each) if step.together == "batch" else jax.lax.map(one, each)

    return all_of_them


def joined(parts: Sequence[dict[Node, Any]]) -> dict[Node, Any]:
    """The states of nodes of several hosts, in arrays of JAX."""
    return {node: jax.tree.map(jnp.asarray, state) for part in parts for node, state in part.items()}


def in_numpy(tree: Any) -> Any:
    """A tree with its arrays on the host."""
    return jax.tree.map(np.asarray, tree)


def plain(leaf: Any) -> Any:
    """An array in NumPy, or a number of its type: each array takes some microseconds to be sent."""
    return np.asarray(leaf)[()]


def owned(leaf: Any) -> Any:
    """An array that is no view of memory that is used again."""
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf
