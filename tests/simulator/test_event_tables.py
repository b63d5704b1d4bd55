"""Tables of events that are listed by hand: compiled loops have the numbers of the loop over single events."""

from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byzax.simulator.diagnostics import Diagnostics, Evaluation
from byzax.simulator.event_contract import check
from byzax.simulator.events import EventBlock, EventResult, EventTable, KeptRows, Network, NodeStep
from byzax.simulator.executors import loop
from byzax.simulator.executors.compiled_updates import Functions, LoopState, Watching, build_advance, fill_up
from byzax.simulator.executors.grouping import groups_of, is_regular
from byzax.simulator.executors.node_host import NodeHost
from byzax.simulator.executors.parcels import Parcel
from byzax.simulator.executors.programs import Program
from byzax.simulator.executors.waves import held_rows
from byzax.simulator.timeline import timeline
from byzax.simulator.world import World

NO_ROWS = KeptRows(*[np.empty(0, int)] * 4)


class Event(NamedTuple):
    """An event: its step and node, the messages that it reads as (update, place), those of first states of update -1,
    and its job."""

    step: str
    node: int
    reads: tuple = ()
    row: int = -1


def carry_out(here, event, state, messages):
    """Adds what is read, each message with another factor, and numbers of the event."""
    read = sum(((3 + i) * message for i, message in enumerate(messages)), jnp.zeros(1))
    state = 0.5 * state + read / 8 + event.node + 1.0 + event.turn
    return EventResult(state, state, seen=state[0])


def silent(here, event, state, messages):
    return carry_out(here, event, state, messages)._replace(seen=None)


def measure(seen):
    """A number that depends on the order of what is measured."""
    measured = [(name, value) for name, value in seen if value is not None]
    total = sum(((1 + i + 10 * len(name)) * value for i, (name, value) in enumerate(measured)), 0.0)
    return Diagnostics(total, *[jnp.zeros(())] * 6), jnp.zeros(1)


def network_of(steps, nodes, updates):
    """The network whose updates have these events, each a list."""
    kinds, names = {step.name: step.kind for step in steps}, [step.name for step in steps]
    first = [(kind, i) for kind, count in nodes.items() for i in range(count)]
    bounds = np.cumsum([1, *map(len, updates)])
    flat = [event for update in updates for event in update]

    def number(source):
        update, place = source
        return place - len(first) + 1 if update < 0 else int(bounds[update]) + place

    def sender(source):
        update, place = source
        return first[place] if update < 0 else (kinds[updates[update][place].step], updates[update][place].node)

    last = {}
    for e, event in enumerate(flat, 1):
        last |= {number(source): e for source in event.reads}
    sources = {number(source): sender(source) for event in flat for source in event.reads}

    def events(since, until):
        own = [event for update in updates[since:until] for event in update]
        begin = int(bounds[since])
        turn = np.repeat(np.arange(since, until), np.diff(bounds[since : until + 1]))
        read = [source for event in own for source in event.reads]
        source, count = [number(each) for each in read], len(own)
        of_read = [*zip(np.repeat(turn, [len(event.reads) for event in own]).tolist(), source, strict=True)]
        step, row = np.array([names.index(event.step) for event in own]), np.array([event.row for event in own])
        sizes = [len(event.reads) for event in own]
        return EventBlock(
            begin, step, np.array([event.node for event in own]), turn, row, np.zeros(count, int),
            *[turn.astype(float)] * 3,
            last=np.array([last.get(begin + e, begin + e) for e in range(count)]),
            first=np.concatenate([[0], np.cumsum(sizes)]),
            source=np.array(source, int),
            port=np.full(len(read), -1),
            sender=np.array([sender(each)[1] for each in read], int),
            version=np.repeat(turn, sizes),
            job=np.array([flat[each - 1].row if each > 0 else -1 for each in source], int),
            # the row at place u of the timeline arrives for update u
            lag=np.array([t - flat[n - 1].row if n > 0 and flat[n - 1].row >= 0 else 0 for t, n in of_read], int),
            bounds=bounds[since : until + 1] - begin,
        )  # fmt: skip

    def kept(update):
        begin = int(bounds[update])
        found = {n: (node, last[n]) for n, node in sources.items() if n < begin <= last[n]}
        return {n: each for n, each in found.items() if n <= 0 or flat[n - 1].row < 0}

    return Network(
        steps, nodes, EventTable(events, kept, lambda update: NO_ROWS),
        start=lambda here: {node: jnp.full(1, 1.0 + i) for i, node in enumerate(first)},
        show=lambda state: state,
        measure=measure,
        arrays=lambda step, arrays, states: dict.fromkeys(loop.ARRAYS),
        evaluate=lambda here, states: Evaluation(*[0.0] * 7),
        params=lambda states: states[first[0]],
    )  # fmt: skip


def times_of(rows):
    """The timeline of jobs, each (worker, version), of which one goes into each update."""
    who, versions = np.array(rows).T
    jobs = [np.count_nonzero(who[:i] == worker) for i, worker in enumerate(who)]
    return timeline(who[:, None], versions[:, None], np.array(jobs)[:, None], np.arange(1.0, 1 + len(rows)))


def by_loop(network, times):
    states = network.start(None)
    live = {n: (network.show(states[node]), last, ()) for n, (node, last) in network.table.kept(0).items()}
    made = [*loop.updates(network, None, loop.Moment(0, states, live), times)]
    return states, [float(update.diagnostics.aggregate_norm) for update, _ in made]


def by_compiled_loops(network, times):
    held = held_rows(network.steps, times, network.nodes.get("worker", 0))
    made, begun, found = Program(network, times, held), network.start(None), []
    nodes = {kind: jnp.stack([begun[kind, i] for i in range(n)])[None] for kind, n in network.nodes.items()}
    last = (jnp.zeros((1, network.nodes.get("worker", 0), 1)),) * held.lanes
    state = LoopState(nodes, jnp.zeros((1, held.num_slots, 1)), last)
    here = World(*[jnp.zeros((1, 1))] * len(World._fields))
    for since, until in pairwise([0, *(1 + np.flatnonzero(np.diff(made.kind_of))).tolist(), times.steps]):
        kind = made.kinds[made.kind_of[since]]
        widest = kind.groups.widths[-1] if kind.groups else 1
        events = fill_up(until - since, *made.events(since, until), widest)
        advance = build_advance(Functions(network.steps, network.show, network.measure), kind, Watching(0, False))
        state, measured, *_ = advance(here, state, jax.tree.map(lambda each: np.asarray(each)[None], events))
        found += measured.aggregate_norm[0, : until - since].tolist()
    return {(kind, i): state.nodes[kind][0, i] for kind, count in network.nodes.items() for i in range(count)}, found


def steps_of(*named, how=carry_out, **fields):
    return tuple(NodeStep(name, kind, how, together="map", **fields) for name, kind in named)


# of the last one there are no events
TWO = steps_of(("add", "one"), ("change", "other"), ("rest", "third"))


def alternating():
    """Two events without messages, in one order and in the other."""
    return network_of(
        TWO, {"one": 1, "other": 1},
        [[Event("add", 0), Event("change", 0)], [Event("change", 0), Event("add", 0)]] * 2,
    )  # fmt: skip


def unequal():
    """Updates with two, one and three waves, which read as three times two: add, change, add, change, add, change."""
    return network_of(
        TWO, {"one": 1, "other": 2},
        [
            [Event("add", 0), Event("change", 0, ((0, 0),))],
            [Event("add", 0)],
            [Event("change", 0), Event("add", 0, ((2, 0),)), Event("change", 1, ((2, 1),))],
        ],
    )  # fmt: skip


def two_kinds_shown():
    """Events of one step, which read last messages of nodes of two kinds."""
    updates = [[Event("add", 0, ((-1, 2),)), Event("add", 1, ((-1, 1),)), Event("change", 0)]]
    updates += [[Event("add", 0, ((t - 1, 2),)), Event("add", 1, ((t - 1, 0),)), Event("change", 0)] for t in (1, 2)]
    return network_of(TWO, {"one": 2, "other": 1}, updates)


def by_hosts(network, times, host_of):
    """The states after tasks of several hosts, and the first measurement of each update."""
    hosts, begun = [NodeHost() for _ in range(3)], network.start(None)
    for each in hosts:
        each.network, each.here, each.batch, each.states, each.seen = network, None, False, {}, []
    for (kind, i), state in begun.items():
        hosts[host_of(kind, i)].states[kind, i] = state
    places = lambda kind, nodes: np.array([host_of(kind, i) for i in nodes.tolist()])  # noqa: E731
    live = {n: Parcel(others={n: network.show(begun[node])}) for n, (node, _) in network.table.kept(0).items()}
    found = []
    for since in range(0, times.steps, 2):
        block = network.table.events(since, min(since + 2, times.steps))
        for update, (begin, end) in enumerate(pairwise(block.bounds.tolist()), since):
            measured = [(network.steps[step].name, None) for step in block.step[begin:end].tolist()]
            for host, group in groups_of(block, since, update, network.steps, places):
                parts = [live[number] for number in dict.fromkeys(group.reads[0].ravel().tolist())]
                sent = hosts[host].carry_out(group, False, *parts)
                live |= dict.fromkeys([*(number for number, _ in sent.places), *sent.others], sent)
                for each in hosts[host].take_seen():
                    measured[each.place] = each.step, each.found
            found.append(float(network.measure(measured)[0].aggregate_norm))
    return {node: state for each in hosts for node, state in each.states.items()}, found


@st.composite
def tables(draw):
    """Updates of events of two steps, which read messages of this update and of all before."""
    nodes, sent, updates = {"one": 2, "other": 2}, {(-1, i): i for i in range(4)}, []
    for update in range(draw(st.integers(1, 4))):
        events = []
        for place in range(draw(st.integers(1, 5))):
            step, node = draw(st.sampled_from(["add", "change"])), draw(st.integers(0, 1))
            reads = draw(st.lists(st.sampled_from([*sent]), max_size=3, unique_by=sent.__getitem__))
            events.append(Event(step, node, tuple(reads)))
            sent[update, place] = 2 * (step == "change") + node
        updates.append(events)
    return network_of(TWO, nodes, updates), len(updates), draw(st.permutations([0, 1, 2, draw(st.integers(0, 2))]))


@settings(deadline=None)
@given(tables())
def test_tasks_of_several_hosts_have_the_numbers_of_the_loop(made):
    network, steps, hosts = made
    times = times_of([(0, t) for t in range(steps)])
    (states, measured), (others, found) = (
        by_loop(network, times),
        by_hosts(network, times, lambda kind, i: hosts[2 * (kind == "other") + i]),
    )
    assert found == measured
    assert all(np.array_equal(others[node], state) for node, state in states.items())


@settings(deadline=None)
@given(tables())
def test_updates_of_a_regular_part_are_one_update_carried_out_again(made):
    network, steps, _ = made
    block = network.table.events(0, steps)
    groups = [
        [group for _, group in groups_of(block, 0, update, network.steps, lambda kind, nodes: 0 * nodes)]
        for update in range(steps)
    ]
    size = len(block.step) // steps

    def columns(group, later=0, before=0):
        """All but `read`, so many updates later, with numbers counted from so many updates before."""
        events, reads = group.events.copy(), group.reads.copy()
        events[1] -= size * before
        reads[0] -= size * before
        moved = group._replace(events=events, reads=reads).later(later)
        return [moved.update, moved.step, moved.events.tolist(), moved.reads.tolist()]

    alike = all(
        [columns(group, later=update) for group in groups[0]] == [columns(group, before=update) for group in now]
        for update, now in enumerate(groups)
    )
    assert is_regular(block) == alike


@pytest.mark.parametrize("build", [alternating, unequal, two_kinds_shown])
def test_compiled_loops_carry_out_any_table(build):
    network = build()
    steps = {"alternating": 4}.get(build.__name__, 3)
    times = times_of([(0, t) for t in range(steps)])
    check(network, steps, lambda update: np.zeros(4, bool))
    (states, measured), (others, found) = by_loop(network, times), by_compiled_loops(network, times)
    np.testing.assert_allclose(found, measured, rtol=1e-6)
    for node, state in states.items():
        np.testing.assert_allclose(others[node], state, rtol=1e-6, err_msg=str(node))


JOBS = (*steps_of(("work", "worker"), how=silent), *steps_of(("serve", "server")))


def two_servers(change=lambda updates: updates, steps=JOBS):
    """Two workers, each with a server of its own; rows of worker 1 go into the update after that of their version."""
    updates = [
        # first states: workers 0 and 1, servers 0 and 1
        [Event("work", 0, ((-1, 2),), 0), Event("work", 1, ((-1, 3),), 1), Event("serve", 0, ((0, 0),))],
        [Event("serve", 1, ((0, 1),))],
        [Event("work", 0, ((0, 2),), 2), Event("work", 1, ((1, 0),), 3), Event("serve", 0, ((2, 0),))],
        [Event("serve", 1, ((2, 1),))],
    ]
    return network_of(steps, {"worker": 2, "server": 2}, change(updates)), times_of([(0, 0), (1, 0), (0, 2), (1, 2)])


def test_jobs_whose_rows_are_kept_read_the_messages_of_their_own_servers():
    network, times = two_servers()
    check(network, 4, lambda update: np.zeros(2, bool))
    (states, measured), (others, found) = by_loop(network, times), by_compiled_loops(network, times)
    np.testing.assert_allclose(found, measured, rtol=1e-6)
    for node, state in states.items():
        np.testing.assert_allclose(others[node], state, rtol=1e-6, err_msg=str(node))


def last_of_all(change=lambda updates: updates, last_rows="sent"):
    """Three workers take turns, and the server reads the last row of each that it has, with rows of one still open."""
    workers, updates = [2, 0, 1, 1, 2, 0], []
    for t, worker in enumerate(workers):
        last = {w: (u, 0) for u, w in enumerate(workers[: t + 1])}
        model = (t - 1, 1) if t else (-1, 3)
        updates.append([Event("work", worker, (model,), t), Event("serve", 0, tuple(last[w] for w in sorted(last)))])
    steps = JOBS[0], JOBS[1]._replace(last_rows=last_rows)
    return network_of(steps, {"worker": 3, "server": 1}, change(updates)), times_of(
        [*zip(workers, range(6), strict=True)]
    )


def test_an_event_may_read_the_last_row_of_every_worker():
    network, times = last_of_all()
    check(network, 6, lambda update: np.zeros(3, bool))
    (states, measured), (others, found) = by_loop(network, times), by_compiled_loops(network, times)
    np.testing.assert_allclose(found, measured, rtol=1e-6)
    for node, state in states.items():
        np.testing.assert_allclose(others[node], state, rtol=1e-6, err_msg=str(node))


def serving_twice(updates):
    return [*updates[:5], [*updates[5], updates[5][1]]]


def reading_late(updates):
    return [*updates[:2], [*updates[2][:2], Event("serve", 0, ((2, 0), (0, 1)))], updates[3]]


def working_last(updates):
    first = [Event("serve", 0), Event("work", 0, ((0, 0),), 0), Event("work", 1, ((-1, 3),), 1)]
    second = [Event("serve", 1, ((0, 2),))]
    third = [Event("work", 0, ((0, 0),), 2), Event("work", 1, ((1, 0),), 3), Event("serve", 0, ((2, 0),))]
    return [first, second, third, updates[3]]


@pytest.mark.parametrize(
    ("change", "last_rows", "line"),
    [
        (
            lambda updates: updates,
            None,
            "the step serve reads a row after the update .* give its NodeStep last_rows, or",
        ),
        (serving_twice, "sent", "the step serve reads last rows, for which compiled loops take one event of an update"),
    ],
)
def test_last_rows_that_compiled_loops_do_not_have_are_named(change, last_rows, line):
    network, times = last_of_all(change, last_rows)
    with pytest.raises(ValueError, match=line):
        Program(network, times, held_rows(network.steps, times, 3))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (reading_late, "the step serve reads a row after the update of the timeline .*, or take executor loop or ray"),
        (working_last, "the step work makes rows that are kept .* read the last message of a node alone: list them"),
    ],
)
def test_what_compiled_loops_cannot_carry_out_is_named(change, line):
    network, times = two_servers(change)
    with pytest.raises(ValueError, match=line):
        Program(network, times, held_rows(network.steps, times, 2))


def test_measurements_of_jobs_whose_rows_are_kept_are_refused():
    network, times = two_servers(steps=(*steps_of(("work", "worker")), JOBS[1]))
    with pytest.raises(ValueError, match="the step work measures jobs whose rows later updates read: leave"):
        by_compiled_loops(network, times)


def test_an_inbox_of_more_rows_than_an_update_has_cannot_be_filled_up():
    steps = (TWO[0], TWO[1]._replace(pads=True))
    adds = [Event("add", 0), Event("add", 1)]
    network = network_of(
        steps, {"one": 2, "other": 1}, [[*adds, Event("change", 0, ((t, 0), (t, 1)))] for t in range(2)]
    )
    times = times_of([(0, 0), (0, 1)])
    with pytest.raises(ValueError, match="the step change pads, and reads more rows than the 1 of an update: leave"):
        Program(network, times, held_rows(steps, times, 0))


def test_a_whole_message_of_a_forging_event_is_refused():
    steps = (*steps_of(("add", "one")), *steps_of(("forge", "other"), forges=True), *steps_of(("change", "other")))
    update = [Event("add", 0), Event("forge", 0, ((0, 0),)), Event("change", 0, ((0, 1),))]
    network, times = network_of(steps, {"one": 1, "other": 1}, [update]), times_of([(0, 0)])
    with pytest.raises(
        ValueError, match=r"the step change reads the whole message of a forging event, .*: list these, or"
    ):
        Program(network, times, held_rows(steps, times, 0))
