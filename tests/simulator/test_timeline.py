"""Timelines: what can happen, and what cannot."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import schedules
from simulator.timeline import Timeline, check


def synchronous(n: int, steps: int) -> Timeline:
    return schedules.build("synchronous")(n, steps, np.random.default_rng(0))


@given(st.integers(1, 12), st.integers(1, 30))
def test_synchronous_updates_hold_one_fresh_row_of_every_worker(n, steps):
    timeline = check(synchronous(n, steps), n)
    assert timeline.workers.shape == (steps, n)
    assert (np.sort(timeline.workers, axis=1) == np.arange(n)).all()
    assert (timeline.ages == 0).all()
    assert (np.diff(timeline.time_s) > 0).all()


def test_last_use_is_the_last_update_that_reads_a_version():
    timeline = Timeline(
        workers=np.array([[0], [1], [2]]),
        versions=np.array([[0], [0], [1]]),
        jobs=np.zeros((3, 1), int),
        time_s=np.array([1.0, 2.0, 3.0]),
    )
    assert timeline.last_use().tolist() == [1, 2, -1, -1]
    assert timeline.ages.ravel().tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("field", "place", "value", "message"),
    [
        ("workers", (1, 0), 3, "update 1 names a worker outside 0..2"),
        ("workers", (1, 0), 2, "update 1 has two rows of one worker"),
        ("versions", (1, 2), 2, "update 1 has a row from a version that does not exist yet"),
        ("versions", (0, 0), -1, "update 0 has a row from a version that does not exist yet"),
        ("jobs", (2, 1), 1, "update 2 has jobs out of order"),
        ("time_s", (2,), 0.5, "update 2 happens before the one before it"),
    ],
)
def test_an_impossible_timeline_is_refused_with_the_update(field, place, value, message):
    timeline = synchronous(3, 4)
    broken = getattr(timeline, field).copy()
    broken[place] = value
    with pytest.raises(ValueError, match=message):
        check(timeline._replace(**{field: broken}), 3)


def test_several_updates_may_happen_at_one_time():
    timeline = synchronous(3, 4)
    assert check(timeline._replace(time_s=np.zeros(4)), 3).time_s.tolist() == [0, 0, 0, 0]


def test_arrays_of_other_shapes_are_refused():
    timeline = synchronous(3, 4)
    with pytest.raises(ValueError, match=r"must be \[T, k\]"):
        check(timeline._replace(jobs=timeline.jobs[:, :2]), 3)
