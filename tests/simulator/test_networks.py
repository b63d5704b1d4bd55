"""Executors of tables carry out a network that they have never seen: a chain, in which each node passes numbers on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax.simulator.diagnostics import Diagnostics, Evaluation
from byzax.simulator.event_contract import check
from byzax.simulator.events import EventBlock, EventResult, EventTable, KeptRows, Network, NodeStep
from byzax.simulator.executors import loop
from byzax.simulator.executors.compiled_updates import Functions, LoopState, Watching, build_advance, fill_up
from byzax.simulator.executors.programs import Program
from byzax.simulator.executors.waves import held_rows
from byzax.simulator.round_table import Message, RoundEvent, before, round_table
from byzax.simulator.timeline import timeline
from byzax.simulator.world import World

N, STEPS = 4, 6
TIMES = timeline([[0]] * STEPS, [[t] for t in range(STEPS)], [[t] for t in range(STEPS)], np.arange(1.0, STEPS + 1))


def pass_on(here, event, state, messages):
    """Adds what came from the node before, twice the node's number and the turn."""
    state = state + sum(messages, jnp.zeros(1)) + 2.0 * event.node + event.turn
    return EventResult(state, state * 0.5, seen=state[0])


def events(since, until):
    turns = np.repeat(np.arange(since, until), N)
    node = np.tile(np.arange(N), until - since)
    number = 1 + turns * N + node
    reads = node > 0
    return EventBlock(
        begin=1 + since * N,
        step=np.zeros(len(node), int),
        node=node,
        turn=turns,
        row=np.full(len(node), -1),
        seen=np.zeros(len(node), int),
        begin_s=turns + node / N,
        end_s=turns + (node + 1) / N,
        arrive_s=turns + (node + 1) / N,
        last=np.where(node < N - 1, number + 1, number),
        first=np.concatenate([[0], np.cumsum(reads)]),
        source=number[reads] - 1,
        port=np.full(reads.sum(), -1),
        sender=node[reads] - 1,
        version=turns[reads],
        job=np.full(reads.sum(), -1),
        lag=np.zeros(reads.sum(), int),
        bounds=np.arange(until - since + 1) * N,
    )


def chain(together="map"):
    return Network(
        steps=(NodeStep("pass on", "node", pass_on, "node", together=together),),
        nodes={"node": N},
        table=EventTable(events, lambda step: {}, lambda step: KeptRows(*[np.empty(0, int)] * 4)),
        start=lambda here: {("node", i): jnp.zeros(1) for i in range(N)},
        show=lambda state: state,
        measure=lambda seen: (Diagnostics(sum(found for _, found in seen), *[jnp.zeros(())] * 6), jnp.zeros(N)),
        arrays=lambda step, arrays, states: dict.fromkeys(loop.ARRAYS),
        evaluate=lambda here, states: Evaluation(*[0.0] * 7),
        params=lambda states: states["node", N - 1],
    )


def expected():
    """The states of all nodes after each update, and their sum."""
    states, found = np.zeros(N), []
    for turn in range(STEPS):
        for node in range(N):
            states[node] += (0.5 * states[node - 1] if node else 0.0) + 2.0 * node + turn
        found.append(states.copy())
    return np.array(found)


def test_the_table_of_the_chain_can_be_carried_out():
    for at_once in (1, 4, STEPS):
        check(chain(), STEPS, lambda update: np.zeros(N, bool), at_once)


def test_loop_carries_out_the_chain():
    network = chain()
    begin = loop.Moment(0, network.start(None), {})
    for (update, moment), states in zip(loop.updates(network, None, begin, TIMES), expected(), strict=True):
        np.testing.assert_allclose([float(moment.states["node", i][0]) for i in range(N)], states)
        np.testing.assert_allclose(update.diagnostics.aggregate_norm, states.sum())
        # nothing that nobody reads any more is kept
        assert not moment.live


def program(network):
    return Program(network, TIMES, held_rows(network.steps, TIMES, N))


def compiled(network, states, since, until):
    """The states `[N]` after updates in compiled loops, and the first measurement of each."""
    made = program(network)
    here = World(*[jnp.zeros((1, 1))] * len(World._fields))
    found = []
    while since < until:
        # updates of one kind
        same = np.flatnonzero(np.append(made.kind_of[since:until], -1) != made.kind_of[since])[0]
        kind, events = made.kinds[made.kind_of[since]], fill_up(same, *made.events(since, since + same), 1)
        advance = build_advance(Functions(network.steps, network.show, network.measure), kind, Watching(0, False))
        begun = LoopState({"node": states[None, :, None]}, jnp.zeros((1, 0, 1)))
        after, diagnostics, *_ = advance(here, begun, jax.tree.map(lambda each: np.asarray(each)[None], events))
        states, since = after.nodes["node"][0, :, 0], since + same
        found += diagnostics.aggregate_norm[0, :same].tolist()
    return jax.device_get(states), found


@pytest.mark.parametrize("together", ["map", "batch"])
def test_compiled_loops_carry_out_the_chain_one_node_after_the_other(together):
    network = chain(together)
    (kind,) = program(network).kinds
    assert [(wave.width, wave.reads, wave.direct) for wave in kind.waves] == [
        (1, (), False),
        (1, (0,), True),
        (1, (1,), True),
        (1, (2,), True),
    ]
    states, measured = compiled(network, jnp.zeros(N), 0, STEPS)
    np.testing.assert_allclose(states, expected()[-1])
    np.testing.assert_allclose(measured, expected().sum(axis=1))
    # in two parts
    half, _ = compiled(network, jnp.zeros(N), 0, 2)
    np.testing.assert_array_equal(compiled(network, jnp.asarray(half), 2, STEPS)[0], states)


def test_updates_need_not_be_made_of_the_same_events():
    def changing(since, until):
        """In every third update node 1 passes nothing on, and node 2 reads of node 0."""
        block = events(since, until)
        first, source, sender = block.first.tolist(), block.source.copy(), block.sender.copy()
        for e in np.flatnonzero((block.turn % 3 == 2) & (block.node == 2)).tolist():
            source[first[e]] -= 1
            sender[first[e]] -= 1
        last = block.last + ((block.turn % 3 == 2) & (block.node == 0)) - ((block.turn % 3 == 2) & (block.node == 1))
        return block._replace(source=source, sender=sender, last=last)

    network = chain()
    network = network._replace(table=network.table._replace(events=changing))
    check(network, STEPS, lambda update: np.zeros(N, bool))
    begin = loop.Moment(0, network.start(None), {})
    *_, (_, moment) = loop.updates(network, None, begin, TIMES)
    assert len(program(network).kinds) == 2
    states, _ = compiled(network, jnp.zeros(N), 0, STEPS)
    np.testing.assert_allclose(states, [float(moment.states["node", i][0]) for i in range(N)], rtol=1e-6)
    assert not np.allclose(states, expected()[-1])


def test_a_step_that_does_not_say_how_it_is_carried_out_together_is_named():
    with pytest.raises(
        ValueError, match=r"the step pass on does not say .* together: give its NodeStep together=.map., or"
    ):
        program(chain(together=None))


@pytest.mark.parametrize(
    "reads",
    [
        [before("pass on", 1), Message("work", 0)],
        [Message("work", 0), before("pass on", 1), before("pass on", 0)],
    ],
    ids=["not the last", "two"],
)
def test_a_message_of_the_update_before_is_the_only_one_and_the_last(reads):
    steps = tuple(NodeStep(*each, pass_on, together="map") for each in (("work", "worker"), ("pass on", "node")))
    other = RoundEvent("pass on", 0, [Message("work", 0), before("pass on", 0)])
    round_table(steps, [RoundEvent("work", 0), other], TIMES)
    with pytest.raises(ValueError, match="event 2 of an update, pass on 1: reads messages of the update before: list"):
        round_table(steps, [RoundEvent("work", 0), other, RoundEvent("pass on", 1, reads)], TIMES)


def test_a_message_of_the_update_before_is_the_last_one_of_its_node_and_no_row_of_this_update():
    steps = tuple(NodeStep(*each, pass_on) for each in (("work", "worker"), ("mix", "worker"), ("pass on", "node")))
    reader = RoundEvent("pass on", 0, [before("work", 0)])
    table = round_table(steps, [RoundEvent("work", 0), reader], TIMES)
    assert table.events(0, 3).job.tolist() == [-1] * 3
    line = r"reads the message of work 0, which is not the last one of its node in an update: read before\(.mix., 0\)"
    with pytest.raises(ValueError, match=line):
        round_table(steps, [RoundEvent("work", 0), RoundEvent("mix", 0), reader], TIMES)
