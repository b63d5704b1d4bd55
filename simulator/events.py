"""The events of a run as a table: each is one step of one node, which reads messages, changes a state and sends one."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from byzax.simulator.diagnostics import Diagnostics, Evaluation
from byzax.simulator.durations import Way
from byzax.simulator.world import World

# A node: its kind, and its number among the nodes of that kind.
Node = tuple[str, int]
States = Mapping[Node, Any]
NewStates = dict[Node, Any]


class EventBlock(NamedTuple):
    """Consecutive events of a run, in an order in which they can be carried out.

    Event e of the table has the number `begin + e`, and its message the same one. It reads the messages
    `source[first[e]:first[e + 1]]`, of each the part `port`.

    Attributes:
        begin: Number of the first of these events.
        step: `[E]`, the step, as its place in `Network.steps`.
        node: `[E]`, the node, among those of the step's kind.
        turn: `[E]`, rising for the events of one step and node: keys of random numbers are made of purpose, node and
            turn.
        row: `[E]`, the place in `Timeline.rows` of the job that an event carries out; -1 where it carries out none.
        seen: `[E]`, the number of rows that the rule sees in an event; 0 where it is applied to none.
        begin_s: `[E]`, the second at which the event begins: its messages have arrived by then.
        end_s: `[E]`, the second at which it ends and sends its message.
        arrive_s: `[E]`, the second at which its message is there; where several nodes get it, the second of sending.
        last: `[E]`, the last event that reads the message; the event itself where none does.
        first: `[E + 1]`, where the messages that an event reads begin in `source`.
        source: `[M]`, numbers of the messages read.
        port: `[M]`, the row of a message that holds several; -1 for the whole message.
        sender: `[M]`, the node that a message counts as one of, among those of its kind: of a forged row its worker.
        version: `[M]`, the version of the model that a row's worker was handed, or that the reader of a model is
            handed.
        job: `[M]`, the place in `Timeline.rows` of the job whose row is read; -1 for any other message.
        lag: `[M]`, updates since the one that a row arrived for, 0 for that of the event; -1 for messages beside the
            rows: a model, or a row again as it was computed.
        bounds: `[U + 1]`, the events `bounds[u]` up to `bounds[u + 1]` of the table make the u-th of U updates.
    """

    begin: int
    step: np.ndarray
    node: np.ndarray
    turn: np.ndarray
    row: np.ndarray
    seen: np.ndarray
    begin_s: np.ndarray
    end_s: np.ndarray
    arrive_s: np.ndarray
    last: np.ndarray
    first: np.ndarray
    source: np.ndarray
    port: np.ndarray
    sender: np.ndarray
    version: np.ndarray
    job: np.ndarray
    lag: np.ndarray
    bounds: np.ndarray


class NodeEvent(NamedTuple):
    """One event, as its step sees it.

    Whole numbers are scalars of JAX where several events are carried out together, but for `seen`.

    Attributes:
        node: The node, among those of the step's kind.
        turn: The number of its turn.
        seen: The number of rows that the rule sees; 0 where it is applied to none.
        senders: `[k]`, the node that each message of its inbox counts as one of, among those of its kind.
        versions: `[k]`, the version of the model that each message counts as. See `EventBlock.version`.
        lags: `[k]`, updates since the one that each row arrived for. See `EventBlock.lag`.
        new: `[r]`, the places in its inbox of the rows that arrived for its update.
    """

    node: Any
    turn: Any
    seen: int
    senders: Any
    versions: Any
    lags: Any
    new: Any


def iterate_events(block: EventBlock) -> Iterator[NodeEvent]:
    """The events of a table one by one, as their steps see them.

    Args:
        block: The table.

    Yields:
        Each event.
    """
    first, columns = block.first.tolist(), (each.tolist() for each in (block.node, block.turn, block.seen))
    # of one type, whoever carries the events out
    senders, versions, every_lag = (each.astype(np.int32) for each in (block.sender, block.version, block.lag))
    for e, (node, turn, seen) in enumerate(zip(*columns, strict=True)):
        inbox = slice(first[e], first[e + 1])
        lags = every_lag[inbox]
        yield NodeEvent(node, turn, seen, senders[inbox], versions[inbox], lags, np.flatnonzero(lags == 0))


class EventResult(NamedTuple):
    """The results of an event.

    Attributes:
        state: The state of its node after it.
        message: Its message.
        seen: The measurements for the update that it belongs to; None for none.
        arrays: Its arrays for an update that is recorded whole; None for none.
    """

    state: Any
    message: Any
    seen: Any = None
    arrays: Any = None


class CarryOut(Protocol):
    """Carries out an event."""

    def __call__(self, world: World, event: NodeEvent, state: Any, messages: Sequence[Any], /) -> EventResult:
        """The results of an event.

        Args:
            world: Arrays of the run.
            event: The event.
            state: State of its node.
            messages: The messages that it reads, in the order of the table.

        Returns:
            The state after it, its message, and what was seen.
        """
        ...


class TransformMessage(Protocol):
    """Changes a message before its node sends it, as momentum does."""

    def __call__(self, world: World, event: NodeEvent, state: Any, message: Any, /) -> tuple[Any, Any]:
        """The message that is sent.

        Args:
            world: Arrays of the run.
            event: The event that made the message.
            state: State of its node.
            message: The message.

        Returns:
            The state after it, and what the node sends.
        """
        ...


class Sending(NamedTuple):
    """Messages of a step that are vectors `[d]`, and that the transforms of a run's `wire` change.

    Attributes:
        way: Their direction, which is the key of `wire`.
        models: Whether they are models, which are sent as their change since the first model of the run.
        every: Turns from one in which they are sent to the next, the first such one having the number `every` - 1.
        second: Whether they are the second message of their direction that a node sends in a turn.
        alike: Whether what is forged for several receivers is encoded with the same random numbers, so that equal rows
            stay equal.
    """

    way: Way
    models: bool = False
    every: int = 1
    second: bool = False
    alike: bool = False


class NodeStep(NamedTuple):
    """A kind of event.

    Attributes:
        name: Its name in messages: "work", "forge", "update".
        kind: The kind of node whose state it changes.
        carry_out: Carries out one of its events.
        node_word: The word for its node in messages; empty where there is but one.
        turn_word: The word for its turn in messages.
        together: The way in which several of its events may be carried out in compiled code: "batch" for all at once,
            "map" for one after the other, as rules need it, whose loops and branches would all be run; None for not at
            all.
        forges: Whether its messages hold a row for each new row that it reads, which others read in place of those.
            Rows of honest workers stay as they are.
        pads: Whether its inbox may be filled up in compiled code, by rows of zeros of the worker -1: where it reads
            last rows with one of every worker, each at the place that is its number, and else at the end.
        last_rows: The rows that it reads beside new ones, by rising numbers of their workers: "sent" for the last row
            of each as it was sent, "both" for these and then all rows of its inbox again as they were computed; None
            for none.
        transform: Changes the messages of its events before they are sent; in a race once it is known that they are
            used. None where they are sent as they are.
        sends: Its messages as the wire of the run changes them, the last thing before they are sent; of a step that
            forges the rows of its messages that are of Byzantine nodes. None where they never are compressed.
        keeps: The step of its own node whose message it reads as it was before the wire, among those of other nodes,
            by its name; empty for none.
        receives: The models that it reads as the wire changes them for its node alone: `params` of its first message,
            or of its state where it reads none. None where it reads what was sent.
        unread: Whether nobody reads the numbers in its messages, which only hold a place, nor the state after it, and
            its messages alone are of use: compiled loops may leave its events out, or carry out the next step of its
            kind of node instead.
    """

    name: str
    kind: str
    carry_out: CarryOut
    node_word: str = ""
    turn_word: str = "step"
    together: Literal["batch", "map"] | None = None
    forges: bool = False
    pads: bool = False
    last_rows: Literal["sent", "both"] | None = None
    transform: TransformMessage | None = None
    sends: Sending | None = None
    keeps: str = ""
    receives: Sending | None = None
    unread: bool = False

    @property
    def run(self) -> CarryOut:
        """Carries out one of its events, with the transform of its message."""
        return self.carry_out if self.transform is None else partial(_transformed, self.carry_out, self.transform)

    def place(self, event: NodeEvent) -> dict[str, int]:
        """The place of an event, for a message about it."""
        node = {self.node_word: event.node} if self.node_word else {}
        return node | {self.turn_word: event.turn}


def _transformed(
    carry_out: CarryOut,
    transform: TransformMessage,
    world: World,
    event: NodeEvent,
    state: Any,
    messages: Sequence[Any],
) -> EventResult:
    made = carry_out(world, event, state, messages)
    state, message = transform(world, event, made.state, made.message)
    return made._replace(state=state, message=message)


# Results of the events of an update in their order, with the names of their steps.
OfEvents = Sequence[tuple[str, Any]]


class MeasureUpdate(Protocol):
    """Puts the measurements of an update together."""

    def __call__(self, seen: OfEvents, happened: Any = None, /) -> tuple[Diagnostics, Any]:
        """The measurements of an update.

        Args:
            seen: The measurements of its events.
            happened: `[events]`, whether each happened, as others only fill compiled code up; None where all did, as it
                is wherever all nodes take all steps.

        Returns:
            The diagnostics, and the workers' weights `[n]`.
        """
        ...


class PutTogether(Protocol):
    """Puts the arrays of an update together."""

    def __call__(self, step: int, arrays: OfEvents, states: States, /) -> dict[str, Any]:
        """The arrays of an update.

        Args:
            step: Number of updates before this one.
            arrays: Those of its events.
            states: The states after it.

        Returns:
            The fields of `Update` that are arrays, other than `weights`.
        """
        ...


class MeasureBits(Protocol):
    """Measures messages that vary in size."""

    def __call__(self, states: States, /) -> Mapping[Way, np.ndarray]:
        """The bits and the number of the messages so far, by their direction.

        Args:
            states: The states of all nodes.

        Returns:
            `[nodes, 2]` for each direction in which messages vary, of the nodes that send them; of those that receive
            them where the only server sends to each apart. A message to several nodes counts once.
        """
        ...


class CountPulls(Protocol):
    """Counts the models that workers asked single servers for."""

    def __call__(self, states: States, /) -> np.ndarray:
        """The number of models that each server sent to each worker that asked for it.

        Args:
            states: The states of all nodes.

        Returns:
            `[servers, n]`.
        """
        ...


class KeptRows(NamedTuple):
    """Rows that were sent before an update, and that events from it on read.

    Attributes:
        places: `[k]`, ascending: p for the row of the job at place p of `Timeline.rows` as it was computed, and -1 - p
            for the row that was forged in its place.
        source: `[k]`, the numbers of their messages.
        port: `[k]`, the row of a message that holds several; -1 for the whole message.
        last: `[k]`, the last events that read them.
    """

    places: np.ndarray
    source: np.ndarray
    port: np.ndarray
    last: np.ndarray


class EventTable(NamedTuple):
    """The table of all events of a run, made in parts.

    Attributes:
        events: Makes the part with the updates from one number up to another.
        kept: The messages that nodes sent last and that events from an update on read: their nodes by their numbers,
            with the last event that reads each. Rows are not among them.
        rows: The rows that were sent before an update, and that events from it on read.
    """

    events: Callable[[int, int], EventBlock]
    kept: Callable[[int], dict[int, tuple[Node, int]]]
    rows: Callable[[int], KeptRows]


class Network(NamedTuple):
    """The nodes of a run, their steps, and the table of its events.

    Attributes:
        steps: The steps.
        nodes: Number of nodes of each kind.
        table: The table.
        start: Makes the states before the first update.
        show: Makes the message that a node sent last out of its state.
        measure: Puts the measurements of an update together.
        arrays: Puts the arrays of an update together.
        evaluate: Evaluates the model, or the models.
        params: `[d]`, the model that a checkpoint keeps.
        judged: Kinds of the nodes whose states `evaluate`, `params` and `arrays` read; none for all kinds.
        byzantine: The Byzantine nodes of kinds other than "worker", whose messages may be forged.
        measure_bits: Measures the messages so far of the directions in which these vary in size; None where none do.
        count_pulls: Counts the models so far that workers asked single servers for, as many as their states say; they
            are none of the table's messages. None where there are none.
    """

    steps: tuple[NodeStep, ...]
    nodes: Mapping[str, int]
    table: EventTable
    start: Callable[[World], NewStates]
    show: Callable[[Any], Any]
    measure: MeasureUpdate
    arrays: PutTogether
    evaluate: Callable[[World, States], Evaluation]
    params: Callable[[States], Any]
    judged: tuple[str, ...] = ()
    byzantine: Mapping[str, Collection[int]] = MappingProxyType({})
    measure_bits: MeasureBits | None = None
    count_pulls: CountPulls | None = None


def inbox_of(block: EventBlock, e: int) -> list[tuple[int, int]]:
    """The messages that an event of a table reads.

    Args:
        block: The table.
        e: Place of the event in it.

    Returns:
        Number and port of each.
    """
    inbox = slice(block.first[e], block.first[e + 1])
    return list(zip(block.source[inbox].tolist(), block.port[inbox].tolist(), strict=True))
