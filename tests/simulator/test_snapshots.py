"""Snapshots: a run that is left at any update and gone on with, by any executor, has the numbers of a whole one."""

import io
from contextlib import closing

import numpy as np
import pytest

from byzax.simulator import executors, snapshots
from byzax.simulator.engine import EngineLost, leaves_of, restored
from byzax.simulator.executors import RunError, driver, loop, vectorised
from byzax.simulator.executors.driver import MOST_LOST, Saving, drive
from tests.nightly import by_night
from tests.simulator.conftest import same, small
from tests.simulator.test_executors import SCENARIOS

# Of the states: a table of last rows with replayed ones; a buffer with momentum; a filter, and a rule that remembers.
RECORDING = {"record": {"weights": True, "rows": 5}}


def stored(snapshot, path):
    """A snapshot after a way through a file."""
    snapshots.save(snapshot, path)
    return snapshots.load(path)


def left(execute, scenario, path, **given):
    """The checkpoints of a scenario, and its snapshots after every update, as they are read from files."""
    kept = []

    def save(seed, snapshot):
        kept.append(stored(snapshot, path))

    return list(execute(scenario.task, saving=Saving(save, every_s=None, every=1), **given)), kept


def rest_is_same(whole, rest, snapshot):
    """Tells whether the checkpoints after a snapshot are those of a whole run, with all that is recorded."""
    expected = [each for each in whole if each.step > snapshot.evaluations[-1].step]
    return same(expected, rest) and all(
        np.array_equal(
            *(np.float32([]) if each.weights is None else each.weights for each in (one, other)), equal_nan=True
        )
        and [update.step for update in one.recorded] == [update.step for update in other.recorded]
        and all(np.array_equal(a.forged, b.forged) for a, b in zip(one.recorded, other.recorded, strict=True))
        for one, other in zip(expected, rest, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_that_was_left_at_any_update_has_the_numbers_of_a_whole_one(name, tmp_path, monkeypatch):
    # several stretches of updates between two evaluations
    monkeypatch.setattr(vectorised, "LONGEST_LOOP", 3)
    for executor in ("loop", "vectorised"):
        scenario = small(**SCENARIOS[name], **RECORDING, executor=executor)
        with executors.session(scenario.executor) as execute:
            whole, kept = left(execute, scenario, tmp_path / "snapshot.npz")
            assert same(whole, list(execute(scenario.task)))
            # of a run of four updates there is one between two stretches of three
            assert kept
            for snapshot in kept[len(kept) // 3 :: max(1, len(kept) // 3)]:
                assert rest_is_same(whole, list(execute(scenario.task, {0: snapshot})), snapshot)


# one of them by day: workers with states, which are dealt to several actors in turn
@pytest.mark.parametrize("name", [name if name == "poisoned" else by_night(name) for name in SCENARIOS])
def test_what_one_executor_left_another_one_goes_on_with(ray_session, name, tmp_path):
    scenario = small(**SCENARIOS[name], **RECORDING)
    with executors.session(scenario.executor) as execute:
        whole, kept = left(execute, scenario, tmp_path / "snapshot.npz")
        snapshot = kept[len(kept) // 2]
        for actors in (1, 2):
            by_ray = small(**SCENARIOS[name], **RECORDING, executor={"name": "ray", "actors": actors})
            assert rest_is_same(whole, list(ray_session(by_ray, {0: snapshot})), snapshot)
        _, of_ray = left(lambda task, **given: ray_session(by_ray, **given), by_ray, tmp_path / "of_ray.npz")
        for mine, other in zip(kept, of_ray, strict=True):
            for one, same_one in zip(mine.state, other.state, strict=True):
                np.testing.assert_equal(one, same_one)
        assert rest_is_same(whole, list(execute(scenario.task, {0: of_ray[len(kept) // 2]})), snapshot)


def test_early_stopping_counts_evaluations_before_a_snapshot(tmp_path):
    scenario = small(
        data={"name": "digits", "batch_size": 8, "validation": 0.1},
        optimizer={"name": "sgd", "learning_rate": 0.0001},
        early_stopping={"patience": 2, "measure": "validation_accuracy"},
        steps=40,
        evaluate_every=2,
    )
    with executors.session(scenario.executor) as execute:
        whole, kept = left(execute, scenario, tmp_path / "snapshot.npz")
        assert whole[-1].stopped
        for snapshot in kept:
            rest = list(execute(scenario.task, {0: snapshot}))
            assert rest_is_same(whole, rest, snapshot)
            assert rest[-1].stopped == whole[-1].stopped


def lost_after(place, times):
    """The repeats of `loop` whose engines are lost at an update, so many times."""

    def repeats(task):
        for each in loop.repeats(task):
            count = 0

            def opened(states, each=each):
                engine = each.open(states)

                def advance(stop):
                    nonlocal count
                    if stop > place and count < times:
                        count += 1
                        raise EngineLost("worker actor 0 died")
                    return engine.advance(stop)

                return engine._replace(advance=advance)

            yield each._replace(open=opened, mortal=True)

    return repeats


@pytest.mark.parametrize("every", [None, 1, 3])
def test_an_engine_that_is_lost_is_replaced_and_no_checkpoint_is_given_twice(every):
    scenario = small(steps=12, evaluate_every=2, worker_momentum=0.9)
    expected = list(drive(scenario.task, loop.repeats(scenario.task)))
    said = []
    repeats = lost_after(7, MOST_LOST - 1)(scenario.task)
    got = list(drive(scenario.task, repeats, saving=Saving(every_s=None, every=every), notice=said.append))
    assert same(expected, got)
    at = {None: 0, 1: 7, 3: 6}[every]
    assert said == [f"worker actor 0 died; the run goes on after update {at}"] * (MOST_LOST - 1)


def test_engines_that_are_lost_at_one_place_end_the_run():
    scenario = small(steps=12, evaluate_every=2)
    checkpoints = drive(scenario.task, lost_after(7, MOST_LOST)(scenario.task))
    seen = []
    with (
        closing(checkpoints),
        pytest.raises(RunError, match=r"^worker actor 0 died; this is the third time after update 0$"),
    ):
        seen.extend(checkpoints)
    assert [each.step for each in seen] == [0, 2, 4, 6]


def test_a_snapshot_waits_until_it_costs_little(monkeypatch):
    now = 0.0
    monkeypatch.setattr(driver.time, "perf_counter", lambda: now)
    scenario = small(steps=400, evaluate_every=400)
    (each,) = loop.repeats(scenario.task)
    engine = each.open(None)
    saved = []

    def advance(stop):
        nonlocal now
        now += 1.0
        return stop

    def save(seed, snapshot):
        nonlocal now
        saved.append(now)
        # seconds that a snapshot takes: 2 % of 100
        now += 2.0

    slow = each._replace(open=lambda states: engine._replace(advance=advance))
    # no update is made: only the moments count
    list(drive(scenario.task, [slow], saving=Saving(save, every_s=25.0)))
    assert saved[0] == 25.0
    assert np.diff(saved).min() >= 2.0 / driver.SHARE


def test_a_damaged_snapshot_is_named(tmp_path):
    scenario = small(steps=4)
    with executors.session(scenario.executor) as execute:
        _, kept = left(execute, scenario, tmp_path / "snapshot.npz")
    whole = (tmp_path / "snapshot.npz").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"no zip"):
        (tmp_path / "snapshot.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"snapshot.npz: is no snapshot, or damaged"):
            snapshots.load(tmp_path / "snapshot.npz")
    with pytest.raises(ValueError, match=r"snapshot.npz: cannot be read"):
        snapshots.load(tmp_path / "missing" / "snapshot.npz")
    # of another model
    other = small(steps=4, model={"name": "mlp", "hidden": [4]})
    with executors.session(other.executor) as execute, pytest.raises(ValueError, match="an array"):
        list(execute(other.task, {0: kept[0]}))


def test_leaves_are_restored_bit_by_bit_with_keys_and_small_floats():
    import jax
    import jax.numpy as jnp

    tree = {"key": jax.random.key(3), "half": jnp.array([1.5, jnp.nan], jnp.bfloat16), "count": jnp.int32(7)}
    file = io.BytesIO()
    np.savez(file, *leaves_of(tree))
    file.seek(0)
    with np.load(file) as arrays:
        again = restored(tree, [arrays[name] for name in arrays.files])
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    for one, other in zip(leaves_of(tree), leaves_of(again), strict=True):
        assert one.tobytes() == other.tobytes()
        assert one.dtype == other.dtype
