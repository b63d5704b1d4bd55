"""Lines between processes, and followers that carry out updates by themselves, here threads of one process."""

import contextlib
import itertools
import os
import pickle
import socket
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax.simulator.executors.base import RunError
from byzax.simulator.executors.following import Follower, StreamTask, Told, Trade
from byzax.simulator.executors.grouping import EventGroup
from byzax.simulator.executors.lines import Frame, Letterbox, Line, LineLost, Outbox
from byzax.simulator.executors.parcels import Packing, Parcel, unpack


@pytest.fixture
def line():
    """Makes lines, both ends of each, and closes them at the end."""
    made = []

    def new():
        made.append(tuple(map(Line, socket.socketpair())))
        return made[-1]

    yield new
    for end in itertools.chain(*made):
        end.close()


def heard(end):
    """The kinds of all that is said until the line ends."""
    found = []
    with contextlib.suppress(LineLost):
        while True:
            found.append(end.receive().kind)
    return found


def test_what_is_said_comes_whole_and_in_order_and_the_end_is_noticed(line):
    one, other = line()
    said = [Frame(Told.GO, 3, (2**40, -1)), Frame(Told.FAILED, text=b"x" * 100_000), Frame(Told.DONE)]
    teller = threading.Thread(target=lambda: [one.send(each) for each in said])
    teller.start()
    assert [other.receive() for _ in said] == said
    teller.join()
    one.close()
    with pytest.raises(LineLost):
        other.receive()
    with pytest.raises(LineLost):
        other.send(Frame(Told.DONE))


def test_arrays_of_any_size_come_as_they_were_sent_while_the_memory_grows_and_two_are_kept(line):
    rng = np.random.default_rng(0)
    one, other = line()
    outbox, box = Outbox(Frame(Told.SENT, 7), [one]), Letterbox()
    before = None
    for size in (0, 1, 5, 1000, 3, 70_000, 70_000, 2):
        sent = {"a": rng.random(size).astype(np.float32), "b": [np.arange(size), "word"], "c": np.float64(size)}
        outbox.put(sent)
        box.announce(other, other.receive())
        got = box.take()
        assert not box
        np.testing.assert_array_equal(got["a"], sent["a"])
        np.testing.assert_array_equal(got["b"][0], sent["b"][0])
        assert (got["b"][1], got["c"]) == ("word", size)
        if before is not None:
            # the message before is still there
            np.testing.assert_array_equal(before[0], before[1])
        before = got["a"], sent["a"].copy()


def test_jax_takes_no_memory_of_a_message_for_its_own(line):
    # what it made of a message must not change when the memory is written again
    one, other = line()
    outbox, box, kept = Outbox(Frame(Told.SENT), [one]), Letterbox(), []
    same = jax.jit(lambda x: x)
    for value in range(6):
        outbox.put([np.full(100_000, value, np.float32)])
        box.announce(other, other.receive())
        (row,) = box.take()
        assert row.ctypes.data % 64
        made = jnp.asarray(row), same(row), jax.device_put(row)
        jax.block_until_ready(made)
        kept.append(made)
    for value, made in enumerate(kept):
        assert all((np.asarray(each) == value).all() for each in made)


def test_no_file_stays_open(line):
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None
    if before is None:
        pytest.skip("this system does not list the files of a process")
    one, other = line()
    outbox, box = Outbox(Frame(Told.SENT), [one]), Letterbox()
    for size in (10, 1000, 100_000):
        outbox.put(np.zeros(size))
        box.announce(other, other.receive())
    for _ in range(3):
        box.take()
    one.close()
    other.close()
    del outbox, box
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_row_whose_numbers_nobody_reads_travels_as_its_shape():
    sent = Packing()
    sent.add(1, (), np.ones(5, np.float32))
    sent.add_blank(2, jnp.ones(100_000))
    for parcel in (sent.parcel(), sent.loose()):
        assert len(pickle.dumps(parcel)) < 2000
        found = unpack([parcel])
        assert (np.stack([found[2, -1]]).shape, found[2, -1].dtype) == ((1, 100_000), np.float32)
        np.testing.assert_array_equal(found[1, -1], np.ones(5))


# --- followers --------------------------------------------------------------------------------------------------------

NOTHING = np.zeros((5, 1), int), np.zeros((5, 1, 0), int)


def team(line, learned, tasks, trades):
    """Followers with the lines of their leader to them, told of their tasks."""
    lines, followers = [], []
    for trade in trades:
        mine, its = line()
        lines.append(mine)
        followers.append(Follower(its, trade))
    for one in range(len(trades)):
        for other in range(one):
            ends = socket.socketpair()
            lines[one].send(Frame(Told.PEER, other), ends[0].fileno())
            lines[other].send(Frame(Told.PEER, one), ends[1].fileno())
            for end in ends:
                end.close()
    for each, mine in zip(lines, tasks, strict=True):
        each.send(Frame(Told.LEARN, text=pickle.dumps((learned, mine))))
    return lines, followers


def ring_of(count, delays):
    """Each of some followers adds what its two neighbours showed last to what it has, and keeps the sum."""
    states = [np.full(3000, float(i)) for i in range(count)]

    def trade(me):
        def show(nodes):
            return Parcel(((me, -1),), states[me][None])

        def carry_out(events, *parts):
            time.sleep(delays[me] * (events.update % 3))
            states[me] = states[me] + sum(unpack(parts).values())
            return Parcel()

        return Trade(show, carry_out, lambda: None)

    tasks = []
    for me in range(count):
        around = sorted({(me - 1) % count, (me + 1) % count} - {me})
        feeds = tuple((other, other) for other in around)
        tasks.append(
            [
                StreamTask(me, None, {me: ("node", me)}, (), tuple(around)),
                StreamTask(count + me, EventGroup(0, 0, *NOTHING, ((),)), {}, feeds, ()),
            ]
        )
    return states, tasks, [trade(me) for me in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_followers_hand_messages_on_in_any_pace_and_learn_anew(line, count):
    states, tasks, trades = ring_of(count, [0.002 * (i % 2) for i in range(count)])
    expected = [np.full(3000, float(i)) for i in range(count)]
    lines, followers = team(line, 1, tasks, trades)
    for learned in (1, 2):
        if learned == 2:
            for each, mine in zip(lines, tasks, strict=True):
                each.send(Frame(Told.LEARN, text=pickle.dumps((learned, mine))))
        for update in range(12):
            # all at once: each follower is as far as its neighbours let it
            for each in lines:
                each.send(Frame(Told.GO, numbers=(update, 0)))
            expected = [
                expected[i] + sum(expected[j] for j in sorted({(i - 1) % count, (i + 1) % count} - {i}))
                for i in range(count)
            ]
        for each in lines:
            assert [each.receive().kind for _ in range(12)] == [Told.DONE] * 12
        for got, like in zip(states, expected, strict=True):
            np.testing.assert_array_equal(got, like)
    for each in followers:
        each.leave()


@pytest.mark.parametrize(
    ("error", "said"),
    [(RunError("work failed (worker 1)"), "work failed (worker 1)"), (ValueError("no"), "ValueError: no")],
)
def test_what_failed_is_told_and_the_others_do_not_wait_for_ever(line, error, said):
    _, tasks, trades = ring_of(3, [0, 0, 0])

    def fail(events, *parts):
        raise error

    lines, followers = team(line, 1, tasks, [trades[0], trades[1]._replace(carry_out=fail), trades[2]])
    for each in lines:
        each.send(Frame(Told.GO))
    assert lines[1].receive() == Frame(Told.FAILED, text=said.encode())
    for each in (lines[0], lines[2]):
        # one that had made its update when the other failed notices it in the next
        with contextlib.suppress(LineLost):
            each.send(Frame(Told.GO, numbers=(1, 0)))
        assert heard(each) in ([Told.LOST], [Told.DONE, Told.LOST])
    for each in followers:
        each.leave()


def test_a_follower_that_is_gone_is_noticed_by_the_others_and_the_leader(line):
    _, tasks, trades = ring_of(3, [0, 0, 0])
    lines, followers = team(line, 1, tasks, trades)
    followers[1].leave()
    for each in (lines[0], lines[2]):
        each.send(Frame(Told.GO))
        assert heard(each) in ([Told.LOST], [Told.DONE, Told.LOST])
    assert heard(lines[1]) == []
    for each in followers:
        each.leave()


def test_a_fast_sender_writes_over_nothing_that_a_slow_reader_has_not_taken(line):
    sent, read = itertools.count(), []

    def carry_out(events, *parts):
        (row,) = unpack(parts).values()
        time.sleep(0.005)
        read.append(row.copy())
        return Parcel()

    trades = [
        Trade(lambda nodes: Parcel(((0, -1),), np.full((1, 3000), float(next(sent)))), carry_out, lambda: None),
        Trade(lambda nodes: Parcel(), carry_out, lambda: None),
    ]
    tasks = [
        [StreamTask(0, None, {0: ("node", 0)}, (), (1,))],
        [StreamTask(1, EventGroup(0, 0, *NOTHING, ((),)), {}, ((0, 0),), ())],
    ]
    lines, followers = team(line, 1, tasks, trades)
    for update in range(10):
        for each in lines:
            each.send(Frame(Told.GO, numbers=(update, 0)))
    assert [lines[1].receive().kind for _ in range(10)] == [Told.DONE] * 10
    assert [{*row.tolist()} for row in read] == [{float(update)} for update in range(10)]
    for each in followers:
        each.leave()
