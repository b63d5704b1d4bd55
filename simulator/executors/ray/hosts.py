"""The actors of a run: which node is at which of them, and the states that they hold together."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import ray

from byzax.simulator.config.study import Task
from byzax.simulator.diagnostics import Diagnostics, Update
from byzax.simulator.engine import Look, NodeLeaves, State, Stretch, TakeLooks, stretch_of
from byzax.simulator.events import Network, Node
from byzax.simulator.executors.base import in_numpy
from byzax.simulator.executors.node_host import SeenEvent, joined
from byzax.simulator.executors.ray.pool import ADVERSARY, SERVER, ActorPool, fetch, worker_name
from byzax.simulator.timeline import NO_PAIRS, NO_ROWS, Rows, Timeline


class Hosts(NamedTuple):
    """The actors of a run, which have its nodes.

    Attributes:
        pool: The actors of the session.
        task: The task, of one seed.
        network: The network.
        handles: The actors of the run: those of workers, the adversary and the server, which evaluates.
        hosted: For each kind of node the place in `handles` of each of its nodes.
    """

    pool: ActorPool
    task: Task
    network: Network
    handles: list[Any]
    hosted: dict[str, np.ndarray]

    def at(self, kind: str, nodes: np.ndarray) -> np.ndarray:
        """The places in `handles` of nodes of a kind."""
        return self.hosted[kind][nodes]

    def by_actor(self, nodes: dict[int, Node]) -> dict[int, dict[int, Node]]:
        """The nodes that messages come from, by the places in `handles` of their actors."""
        found: dict[int, dict[int, Node]] = {}
        for number, (kind, node) in nodes.items():
            found.setdefault(int(self.hosted[kind][node]), {})[number] = kind, node
        return found

    def shown(self, update: int) -> dict[int, tuple[Any, int]]:
        """The last messages of nodes that events from an update on read: references, with the last event of each."""
        kept = self.network.table.kept(update)
        by_host = self.by_actor({number: node for number, (node, _) in kept.items()})
        sent = {host: self.handles[host].shown.remote(nodes) for host, nodes in by_host.items()}
        return {number: (sent[host], kept[number][1]) for host, nodes in by_host.items() for number in nodes}

    def states(self) -> list[Any]:
        """References to the states that are evaluated, of all actors that have such nodes."""
        return [self.handles[host].copied_states.remote() for host in self._judged()]

    def evaluation(self, step: int) -> Any:
        """A reference to the evaluation of the present models."""
        *others, server = self.handles
        parts = [others[host].copied_states.remote() for host in self._judged() if host < len(others)]
        return server.evaluate.remote(step, *parts)

    def seen(self, since: int = 0) -> list[Any]:
        """References to what was seen of events since it was asked for before, by the actors from one on."""
        return [handle.take_seen.remote() for handle in self.handles[since:]]

    def _judged(self) -> list[int]:
        kinds = self.network.judged or self.hosted
        return sorted({host for kind in kinds for host in self.hosted[kind].tolist()})

    def saved(self) -> dict[str, NodeLeaves]:
        """The states of all nodes. See `State.nodes`."""
        saved = fetch(self.pool.head, [handle.save.remote() for handle in self.handles])
        return {kind: _put_together([part[kind] for part in saved if kind in part]) for kind in self.hosted}


def take_in(
    pool: ActorPool,
    count: int,
    task: Task,
    network: Network,
    timeline: Timeline,
    state: State | None,
    at_server: Sequence[str] = (),
    placed: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Hosts:
    """Gives nodes to actors.

    A node that is the only one of its kind is at the server's actor, or at the adversary's where it forges.

    Args:
        pool: The actors of the session.
        count: Number of those of workers.
        task: The task, of one seed.
        network: Its network.
        timeline: Its timeline, of which they get the first update.
        state: The state to begin with; None for the beginning of the run.
        at_server: Kinds of which the server's actor has all nodes too.
        placed: For some kinds the places of their nodes among the actors.

    Returns:
        The actors, ready to go.
    """
    forging = {step.kind for step in network.steps if step.forges}
    hosted = {
        kind: np.array([count + (kind not in forging)])
        if nodes == 1 and kind != "worker"
        else np.arange(nodes) * count // nodes
        for kind, nodes in network.nodes.items()
    } | dict(placed)
    names = [*map(worker_name, range(count)), ADVERSARY, SERVER]
    handles, ready = [pool.actors[name].handle for name in names], []
    rows = int(timeline.first[1])
    first = timeline._replace(
        rows=Rows(*(each[:rows] for each in timeline.rows)),
        first=timeline.first[:2],
        seen=timeline.seen[:1],
        time_s=timeline.time_s[:1],
        unused=NO_ROWS,
        outcomes=timeline.outcomes[:0],
        gone=NO_PAIRS,
        lost=NO_PAIRS,
        rounds=tuple(times.until(1) for times in timeline.rounds),
    )
    for host, handle in enumerate(handles):
        mine = {kind: np.flatnonzero(places == host) for kind, places in hosted.items() if host in places}
        if handle is handles[-1]:
            mine |= {kind: np.arange(network.nodes[kind]) for kind in at_server}
        leaves = state and {kind: _part_of(state.nodes[kind], nodes) for kind, nodes in mine.items()}
        ready.append(handle.host.remote(task, first, mine, leaves))
    fetch(pool.head, ready)
    return Hosts(pool, task, network, handles, hosted)


def _part_of(whole: NodeLeaves, nodes: np.ndarray) -> NodeLeaves:
    mine = np.isin(whole.nodes, nodes)
    return NodeLeaves(whole.nodes[mine], [leaf[mine] for leaf in whole.leaves])


def _put_together(parts: Sequence[NodeLeaves]) -> NodeLeaves:
    order = np.argsort(nodes := np.concatenate([part.nodes for part in parts]))
    leaves = [part.leaves for part in parts if part.nodes.size]
    return NodeLeaves(nodes[order], [np.concatenate(each)[order] for each in zip(*leaves, strict=True)])


class Measured:
    """The measurements of updates since the last evaluation."""

    def __init__(self, hosts: Hosts, time_of: Callable[[int], float]) -> None:
        """Takes the actors of a run.

        Args:
            hosts: The actors.
            time_of: Gives the second of an update.
        """
        self._hosts, self._time_of = hosts, time_of
        # what is still to be put together: the names of the steps of an update's events, what was seen of them, and
        # the states after it
        self._coming: dict[int, tuple[Sequence[str], list[SeenEvent], Sequence[Any]]] = {}
        self._measured: list[tuple[Diagnostics, np.ndarray]] = []
        self._whole: list[Update] = []

    def add(self, update: int, names: Sequence[str], states: Sequence[Any] = ()) -> None:
        """Takes an update.

        Args:
            update: Its number, rising.
            names: The names of the steps of its events.
            states: References to the states after it where it is recorded whole; else none.
        """
        self._coming[update] = names, [], states

    def see(self, seen: Sequence[SeenEvent]) -> None:
        """Takes what was seen of events."""
        for each in seen:
            self._coming[each.update][1].append(each)

    def stretch(self) -> Stretch:
        """The measurements of the updates, of whose events all was seen."""
        network, task = self._hosts.network, self._hosts.task
        for update, (names, seen, states) in self._coming.items():
            found: list[tuple[str, Any]] = [(name, None) for name in names]
            arrays = [*found]
            for each in seen:
                found[each.place] = each.step, each.found
                arrays[each.place] = each.step, each.arrays
            diagnostics, weights = network.measure(found)
            self._measured.append((Diagnostics(*map(float, diagnostics)), np.asarray(weights)))
            if states:
                given = network.arrays(update, arrays, joined(fetch(self._hosts.pool.head, states)))
                about = {"time_s": self._time_of(update), "weights": weights, "diagnostics": diagnostics}
                self._whole.append(in_numpy(Update(step=update, **about, **given)))
        self._coming.clear()
        return stretch_of(self._measured, task.run.workers.total if task.record.weights else None, self._whole)


def look_at(
    hosts: Hosts, step: int, measured: Measured, seen: Sequence[Any], under_way: Sequence[Any] = ()
) -> TakeLooks:
    """Begins an evaluation of the present models.

    Args:
        hosts: The actors of the run.
        step: Number of updates so far.
        measured: The updates since the last evaluation.
        seen: References to what was seen of them and not taken yet.
        under_way: References that tell of those that are not known to be made.

    Returns:
        The function that gives the result.
    """
    evaluation = hosts.evaluation(step)

    def take(wait: bool) -> list[Look] | None:
        if not wait and not ray.wait([evaluation], timeout=0)[0]:
            return None
        (found, params, bits), *others = fetch(hosts.pool.head, [evaluation, *seen, *under_way])
        for part in others[: len(seen)]:
            measured.see(part)
        return [Look(found, np.asarray(params), measured.stretch(), bits)]

    return take
