"""Networks with a wire: steps send what receivers make of compressed messages, and keep the states of both ends."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.run import Run
from byzax.simulator.core import Core
from byzax.simulator.durations import WAYS, Way
from byzax.simulator.events import EventResult, Network, NewStates, Node, NodeEvent, NodeStep, Sending, States
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.messages import Inbox, stack_rows
from byzax.simulator.transforms import Transform, WireKeys
from byzax.simulator.transforms.base import Message
from byzax.simulator.wire import transform_of, varies
from byzax.simulator.world import World

Array = jax.Array


class Channel(NamedTuple):
    """The messages of a step on the wire.

    Attributes:
        transform: Their transform.
        sending: Their direction and kind.
        byzantine: The Byzantine nodes among the senders; None for the Byzantine workers.
        forged: Whether other events forge the messages of Byzantine nodes, and compress them: these nodes then send
            theirs as they are.
        kept: Whether their own node reads them as they are.
        counted: Whether they vary in size, so that their bits are counted.
        how: The way in which what is forged is sent. See `AttackPart.wire`.
    """

    transform: Transform
    sending: Sending
    byzantine: tuple[int, ...] | None
    forged: bool
    kept: bool
    counted: bool
    how: Literal["encoded", "ignored", "malformed"]


class ChannelState(NamedTuple):
    """The state of the messages of one sender.

    Attributes:
        sender: That of its end.
        receiver: That of a receiver, which all have alike that get all messages.
        first: `[d]`, the first model of the run; `()` where messages are no models.
        exact: `[d]`, the last message before it was compressed; `()` where its node does not read it.
        counts: `[3]`, uint32: the bits of its messages, the lower and the upper half of their number, and the number of
            messages; `()` where all have the same size.
    """

    sender: Any
    receiver: Any
    first: Any
    exact: Any
    counts: Any


class Wired(NamedTuple):
    """The state of a node with messages on the wire.

    Attributes:
        node: The state of the node.
        channels: The states of its messages, by the names of their steps; of a step that forges each array has a
            leading axis over the senders.
    """

    node: Any
    channels: dict[str, ChannelState]


def wired(network: Network, run: Run, core: Core) -> Network:
    """A network whose messages go through the transforms of a run.

    A message is encoded once, by its sender, which decodes it too, as every receiver would, and sends what these get.

    Args:
        network: The network, whose steps say which messages can be compressed.
        run: The run.
        core: The functions of the run.

    Returns:
        The network; the same one where nothing is compressed.
    """
    transforms = {way: made for way in WAYS if (made := transform_of(run, way)) is not None}
    sent, received = (
        {
            step.name: _channel(network, run, step, sending, transforms[sending.way])
            for step, sending in ((step, getattr(step, which)) for step in network.steps)
            if sending is not None and sending.way in transforms
        }
        for which in ("sends", "receives")
    )
    kinds = {step.kind for step in network.steps if step.name in sent or step.name in received}
    if not kinds:
        return network
    counts = {
        step.name: network.nodes[_sender(network, sent[step.name].sending.way).kind] if step.forges else None
        for step in network.steps
        if step.name in sent
    }

    def start(here: World) -> NewStates:
        first = core.start(here).params
        channels = {kind: {} for kind in kinds}
        for step in network.steps:
            if step.name in sent:
                channels[step.kind][step.name] = _begin(sent[step.name], first, counts[step.name])
            if step.name in received:
                channels[step.kind][_incoming(step)] = _begin(received[step.name], first, None)
        # nodes that have one state together have it further on
        made: dict[tuple[str, int], Any] = {}
        states = network.start(here)
        return {
            node: made.setdefault((node[0], id(state)), Wired(state, channels[node[0]])) if node[0] in kinds else state
            for node, state in states.items()
        }

    steps = tuple(
        _wired_step(step, sent.get(step.name), received.get(step.name), step.keeps in sent)
        if step.kind in kinds
        else step
        for step in network.steps
    )
    # the places of the counts of each direction whose messages vary, all of one kind of node
    counted: dict[Way, tuple[str, list[str]]] = {}
    for step in network.steps:
        for name, channel in ((step.name, sent.get(step.name)), (_incoming(step), received.get(step.name))):
            if channel is not None and channel.counted:
                counted.setdefault(channel.sending.way, (step.kind, []))[1].append(name)

    def measure_bits(states: States) -> dict[Way, np.ndarray]:
        return {
            way: np.array(
                [[_counts(states[kind, i].channels[name]) for name in names] for i in range(network.nodes[kind])]
            ).sum(axis=1)
            for way, (kind, names) in counted.items()
        }

    judged = network.judged and tuple(dict.fromkeys([*network.judged, *(kind for kind, _ in counted.values())]))
    return network._replace(
        steps=steps,
        start=start,
        show=_wired_show(network.show),
        arrays=lambda step, arrays, states: network.arrays(step, arrays, NodesAlone(states)),
        evaluate=lambda here, states: network.evaluate(here, NodesAlone(states)),
        params=lambda states: network.params(NodesAlone(states)),
        judged=judged,
        measure_bits=measure_bits if counted else None,
    )


class NodesAlone(Mapping[Node, Any]):
    """States of nodes without those of their messages."""

    def __init__(self, states: States) -> None:
        """Takes the states with those of messages."""
        self._states = states

    def __getitem__(self, node: Node) -> Any:
        """The state of a node."""
        return _alone(self._states[node])

    def __iter__(self) -> Iterator[Node]:
        """All nodes."""
        return iter(self._states)

    def __len__(self) -> int:
        """The number of nodes."""
        return len(self._states)


def _alone(state: Any) -> Any:
    return state.node if isinstance(state, Wired) else state


def _sender(network: Network, way: Way) -> NodeStep:
    """The step whose messages of a direction forging steps forge."""
    return next(step for step in network.steps if step.sends and step.sends.way == way and not step.forges)


def _channel(network: Network, run: Run, step: NodeStep, sending: Sending, transform: Transform) -> Channel:
    kind = step.kind if step.receives is sending else _sender(network, sending.way).kind
    return Channel(
        transform,
        # rows are models where workers send these
        sending._replace(models=sending.models or run.sends_models),
        None if kind == "worker" else tuple(network.byzantine.get(kind, ())),
        any(each.forges and each.sends and each.sends.way == sending.way for each in network.steps),
        any(each.keeps == step.name for each in network.steps),
        # in a race the ends of a message are not where a worker's state is evaluated
        run.clock == "virtual" and not step.forges and varies(run, sending.way),
        run.attack.wire,
    )


def _counts(state: ChannelState) -> tuple[float, float]:
    """Bits and number of the messages of a sender."""
    low, high, number = np.asarray(state.counts, np.float64)
    return low + 2.0**32 * high, number


def _incoming(step: NodeStep) -> str:
    """The name by which the state of what a step receives is kept."""
    return f"{step.name} received"


def _begin(channel: Channel, first: Array, senders: int | None) -> ChannelState:
    # of a transform of one's own they may be numbers of Python
    sender, receiver = jax.tree.map(jnp.asarray, (channel.transform.init(), channel.transform.init_receiver()))
    if senders is not None:
        sender, receiver = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (senders, *jnp.shape(leaf))), (sender, receiver)
        )
    kept = channel.kept and senders is None
    return ChannelState(
        sender,
        receiver,
        first=first if channel.sending.models else (),
        exact=first if kept else (),
        counts=jnp.zeros(3, jnp.uint32) if channel.counted else (),
    )


@compiled_once
def _wired_show(show: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda state: show(_alone(state))


@compiled_once
def _wired_step(step: NodeStep, sent: Channel | None, received: Channel | None, keeps: bool) -> NodeStep:
    """A step of a kind of nodes of which some messages are on the wire.

    Args:
        step: The step.
        sent: Its messages; None where they are sent as they are.
        received: The models that it reads, which are compressed for its node alone; None for none.
        keeps: Whether it reads a message of its own node as it was before.

    Returns:
        The step over states with those of the messages.
    """
    build = _build_send_forged if step.forges else _build_send
    receive, send = received and _build_send(received), sent and build(sent)

    def carry_out(here: World, event: NodeEvent, state: Wired, messages: Sequence[Any]) -> EventResult:
        node, channels = state
        if receive is not None:
            # a model that its node got before is compressed when it is used, as one that it reads
            name, given = _incoming(step), messages[0] if len(messages) else node
            params, own = receive(here, event.node, event.turn, _update_of(event), given.params, channels[name])
            channels, given = channels | {name: own}, given._replace(params=params)
            if len(messages):
                messages = [given, *messages[1:]]
            else:
                node = given
        if keeps:
            messages = Inbox((_with_own(stack_rows(messages), event.senders, event.node, channels[step.keeps].exact),))
        made = step.carry_out(here, event, node, messages)
        return made._replace(state=Wired(made.state, channels))

    def transform(here: World, event: NodeEvent, state: Wired, message: Any) -> tuple[Wired, Any]:
        node, channels = state
        if step.transform is not None:
            node, message = step.transform(here, event, node, message)
        if send is None:
            return Wired(node, channels), message
        if step.forges:
            # those of new rows, which come in the order of the message
            new = event.new[: len(message)]
            senders, updates = event.senders[new], event.versions[new]
            given = here, event.node, event.turn, senders, updates, message, channels[step.name]
            message, own = send(*given)
        else:
            message, own = send(here, event.node, event.turn, _update_of(event), message, channels[step.name])
        return Wired(node, channels | {step.name: own}), message

    changes = step.transform is not None or sent is not None
    return step._replace(carry_out=carry_out, transform=transform if changes else None)


def _update_of(event: NodeEvent) -> Any:
    """The update that keys are shared in: the version of the model that is read first, or the turn."""
    return event.versions[0] if len(event.versions) else event.turn


@jax.jit
def _with_own(rows: Array, senders: Array, node: Any, own: Array) -> Array:
    """Rows, of which the first that is the node's own is another one."""
    mine = senders == node
    first = jnp.arange(len(senders)) == jnp.argmax(mine)
    return jnp.where((mine & first)[:, None], own, rows)


@compiled_once
def _build_send(channel: Channel) -> Callable[..., tuple[Array, ChannelState]]:
    """Builds what a sender makes of a message: what receivers get, and its state after it."""

    @jax.jit
    def send(
        here: World, node: Any, turn: Any, update: Any, vector: Array, state: ChannelState
    ) -> tuple[Array, ChannelState]:
        message, after = _passed(channel, _keys(channel, here, node, turn, update, 0), vector, state)
        if channel.kept:
            after = after._replace(exact=vector)
        if channel.sending.every > 1:
            is_sent, before = (turn + 1) % channel.sending.every == 0, state._replace(exact=after.exact)
            after = jax.tree.map(lambda new, old: jnp.where(is_sent, new, old), after, before)
        if channel.forged:
            message = jnp.where(_are_byzantine(channel, here, node), vector, message)
        return message, after

    return send


@compiled_once
def _build_send_forged(channel: Channel) -> Callable[..., tuple[Array, ChannelState]]:
    """Builds what is made of forged messages: of each Byzantine sender with a state of its own."""

    @jax.jit
    def send(
        here: World, node: Any, turn: Any, senders: Array, updates: Array, rows: Array, state: ChannelState
    ) -> tuple[Array, ChannelState]:
        if channel.how == "ignored":
            return rows, state
        senders, updates = jnp.asarray(senders), jnp.asarray(updates)
        mine = (senders >= 0) & _are_byzantine(channel, here, senders)

        def one(worker: Array, update: Array, row: Array, ends: tuple[Any, Any]) -> tuple[Array, tuple[Any, Any]]:
            own = state._replace(sender=ends[0], receiver=ends[1])
            keys = _keys(channel, here, worker, turn, update, 1 if channel.sending.alike else node + 1)
            made, after = _passed(channel, keys, row, own, broken=channel.how == "malformed")
            return made, (after.sender, after.receiver)

        ends = state.sender, state.receiver
        made, after = jax.vmap(one)(senders, updates, rows, jax.tree.map(lambda leaf: leaf[senders], ends))
        # nothing is written there
        places = jnp.where(mine, senders, jnp.iinfo(jnp.int32).max)
        sender, receiver = jax.tree.map(lambda leaf, new: leaf.at[places].set(new, mode="drop"), ends, after)
        return jnp.where(mine[:, None], made, rows), state._replace(sender=sender, receiver=receiver)

    return send


def _are_byzantine(channel: Channel, here: World, nodes: Any) -> Array:
    if channel.byzantine is None:
        return here.byzantine_rank[nodes] >= 0
    return jnp.isin(nodes, jnp.array(channel.byzantine, jnp.int32))


def _keys(channel: Channel, here: World, node: Any, turn: Any, update: Any, receiver: Any) -> WireKeys:
    """The keys of a message: `receiver` is 1 more than the node that it is forged for, and 0 where all get it."""
    way = WAYS.index(channel.sending.way)
    own = derive(here.key, Purpose.WIRE, len(WAYS) + way, node, turn, receiver)
    keys = WireKeys(own, derive(here.key, Purpose.WIRE, way, update))
    # the first message may be one of a list, whose transforms fold in numbers from 1 on
    return WireKeys(*(jax.random.fold_in(key, 0) for key in keys)) if channel.sending.second else keys


def _passed(
    channel: Channel, keys: WireKeys, vector: Array, state: ChannelState, broken: bool = False
) -> tuple[Array, ChannelState]:
    """The vector that receivers make of a message, and the state after it."""
    transform, models = channel.transform, channel.sending.models
    message, sender = transform.encode(keys, vector - state.first if models else vector, state.sender)
    if broken:
        message = break_message(jax.random.fold_in(keys.own, 2), message)
    made, receiver = transform.decode(keys, message, state.receiver)
    after = state._replace(sender=sender, receiver=receiver)
    if channel.counted:
        low, high, number = state.counts
        more = low + transform.bits(message)
        after = after._replace(counts=jnp.stack([more, high + (more < low), number + 1]))
    return made + state.first if models else made, after


def break_message(key: Array, message: Message) -> Message:
    """Breaks a message, in one of three ways at random.

    Numbers are 1e30 times as large, whole numbers are drawn from all of their type, so that places do not exist or come
    twice, or numbers at random places are NaN.

    Args:
        key: Key of the message.
        message: The message.

    Returns:
        A message of the same shapes and types as none is encoded.
    """
    which, *keys = jax.random.split(key, 1 + len(jax.tree.leaves(message)))
    kind = jax.random.randint(which, (), 0, 3)

    def change(key: Array, leaf: Array) -> Array:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            holes = jnp.where(jax.random.bernoulli(key, 0.5, leaf.shape), jnp.nan, leaf)
            huge = (leaf.astype(jnp.float32) * 1e30).astype(leaf.dtype)
            return jnp.where(kind == 0, huge, jnp.where(kind == 2, holes, leaf))
        if leaf.dtype == bool:
            return jnp.where(kind == 1, jax.random.bernoulli(key, 0.5, leaf.shape), leaf)
        drawn = jax.random.bits(key, leaf.shape, jnp.dtype(f"uint{8 * leaf.dtype.itemsize}"))
        return jnp.where(kind == 1, jax.lax.bitcast_convert_type(drawn, leaf.dtype), leaf)

    leaves, structure = jax.tree.flatten(message)
    return jax.tree.unflatten(structure, [change(*each) for each in zip(keys, leaves, strict=True)])
