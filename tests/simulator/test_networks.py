"""Executors of tables carry out a network that they have never seen: a chain, in which each node passes numbers on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax.simulator.diagnostics import Diagnostics, Evaluation
from byzax.simulator.events import EventBlock, EventResult, EventTable, Network, NodeStep, check
from byzax.simulator.executors import levels, loop
from byzax.simulator.periodic import Message, RoundEvent, before, periodic_table
from byzax.simulator.timeline import timeline

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
        begin_s=turns + node / N,
        end_s=turns + (node + 1) / N,
        arrive_s=turns + (node + 1) / N,
        last=np.where(node < N - 1, number + 1, number),
        first=np.concatenate([[0], np.cumsum(reads)]),
        source=number[reads] - 1,
        port=np.full(reads.sum(), -1),
        bounds=np.arange(until - since + 1) * N,
    )


def chain(together="map"):
    return Network(
        steps=(NodeStep("pass on", "node", pass_on, "node", together=together),),
        nodes={"node": N},
        table=EventTable(events, lambda step: {}, lambda place: (0, 0)),
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


@pytest.mark.parametrize("together", ["map", "batch"])
def test_levels_carry_out_the_chain_one_node_after_the_other(together):
    network = chain(together)
    assert [wave.nodes.tolist() for wave in levels.waves_of(network, STEPS)] == [[0], [1], [2], [3]]
    states, diagnostics, _ = levels.build_rounds(network, STEPS, 0)(None, {"node": jnp.zeros((N, 1))}, 0, STEPS, 8)
    np.testing.assert_allclose(states["node"][:, 0], expected()[-1])
    np.testing.assert_allclose(diagnostics.aggregate_norm[:STEPS], expected().sum(axis=1))
    # in two parts
    rounds = levels.build_rounds(network, STEPS, 0)
    half, *_ = rounds(None, {"node": jnp.zeros((N, 1))}, 0, 2, 8)
    rest, *_ = rounds(None, half, 2, STEPS - 2, 8)
    np.testing.assert_array_equal(jax.device_get(rest["node"]), jax.device_get(states["node"]))


def test_a_table_without_a_period_and_a_step_of_no_kind_are_told_where_they_can_be_carried_out():
    network = chain()

    def growing(since, until):
        block = events(since, until)
        return block._replace(node=np.where(block.turn == 3, block.node[::-1], block.node))

    with pytest.raises(ValueError, match="updates differ in their turn alone: take executor loop"):
        levels.waves_of(network._replace(table=network.table._replace(events=growing)), STEPS)
    with pytest.raises(
        ValueError, match=r"the step pass on does not say .* together: give its NodeStep together=.map., or"
    ):
        levels.waves_of(chain(together=None), STEPS)


@pytest.mark.parametrize(
    "reads",
    [
        [before("pass on", 1), Message("work", 0)],
        [Message("work", 0), before("pass on", 1), before("pass on", 0)],
    ],
    ids=["not the last", "two"],
)
def test_compiled_loops_take_one_message_of_the_update_before_and_as_the_last(reads):
    steps = tuple(NodeStep(*each, pass_on, together="map") for each in (("work", "worker"), ("pass on", "node")))
    other = RoundEvent("pass on", 0, [Message("work", 0), before("pass on", 0)])
    table = periodic_table(steps, [RoundEvent("work", 0), other, RoundEvent("pass on", 1, reads)], TIMES)
    network = chain()._replace(steps=steps, nodes={"worker": 1, "node": 2}, table=table)
    check(network, STEPS, lambda update: np.zeros(1, bool))
    with pytest.raises(ValueError, match="the step pass on reads messages of the update before: compiled loops need"):
        levels.waves_of(network, STEPS)
