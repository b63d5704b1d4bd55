"""Effects of schedules, against the formulas of the papers written out: rows, tables, buffers, buckets."""

import jax
import numpy as np
import pytest

from byzax.simulator.core import build
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import network_of, per_job, plan, prepare
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.parts import least_rows
from byzax.simulator.senders import Arrivals
from byzax.simulator.timeline import check, truncate
from byzax.simulator.timeline_files import load, save
from byzax.simulator.world import world
from tests.nightly import by_day, by_night
from tests.simulator.conftest import Remembered, run, small
from tests.simulator.test_core import batch_of, softmax_gradient

ETA = 0.5
EXACT = {"attack": "none", "optimizer": {"name": "sgd", "learning_rate": ETA}, "evaluate_every": 1, "steps": 60}
RANDOM = {"latency": {"name": "lognormal", "sigma": 1.0}}


def history(**changes):
    """A run with its timeline: the model of every version, and every row as the core computes it, in float64."""
    scenario = small(**EXACT, **changes)
    timeline = plan(scenario.run)
    models = np.stack([checkpoint.params for checkpoint in run(scenario)])
    core, here = build(scenario.run, int(timeline.seen[0])), world(scenario.run)
    rows = [
        np.asarray(core.work(here, models[version], worker, job, version), np.float64)
        for worker, job, version in zip(timeline.rows.workers, timeline.rows.jobs, timeline.rows.versions, strict=True)
    ]
    return timeline, models.astype(np.float64), np.stack(rows)


@pytest.mark.parametrize("bound", [3, by_night(1)])
def test_a_stale_synchronous_worker_reads_the_three_sums_of_ho_and_others(bound):
    timeline, models, rows = history(schedule={"name": "stale_synchronous", "bound": bound, "apply": "each"}, **RANDOM)
    who, clock, read = timeline.rows.workers, timeline.rows.jobs, timeline.rows.versions
    ahead = []
    for i, c, v, moment in zip(who, clock, read, timeline.rows.started_s, strict=True):
        # delivered by then; nothing of two workers arrives at one time here
        there = timeline.rows.arrived_s <= moment
        guaranteed = (who != i) & (clock < c - bound)
        own = (who == i) & (clock < c)
        beyond = there & (who != i) & ~guaranteed
        assert there[guaranteed | own].all()
        expected = models[0] - ETA * (rows[guaranteed].sum(0) + rows[own].sum(0) + rows[beyond].sum(0))
        np.testing.assert_allclose(models[v], expected, rtol=1e-4, atol=1e-5)
        ahead.append(c - min(np.bincount(who[there], minlength=7)))
    # the bound is reached, and so it is what holds the workers
    assert max(ahead) == bound


def test_an_asynchronous_table_applies_the_last_row_of_every_worker():
    timeline, models, rows = history(schedule="asynchronous", **RANDOM)
    last = np.zeros((7, rows.shape[1]))
    ages = []
    for t in range(timeline.steps):
        new = timeline.places_of(t)
        last[timeline.rows.workers[new]] = rows[new]
        np.testing.assert_allclose(models[t + 1], models[t] - ETA * last.mean(0), rtol=1e-4, atol=1e-5)
        ages += timeline.ages[new].tolist()
    assert max(ages) > 7


DYING = [{"worker": 2, "at": 3.0}, {"worker": 5, "at": 3.0, "back": 6.0}]


@pytest.mark.parametrize(
    "options", [{}, by_night({"max_age": 12}), by_night({"dead_rows": "stay"})], ids=["leave", "max_age", "stay"]
)
def test_the_row_of_a_dead_worker_leaves_the_table_at_once_or_after_max_age_or_never(options):
    # one worker comes back, and is in the table again with its next row
    latency = {"name": "lognormal", "sigma": 0.5, "crashes": DYING}
    timeline, models, rows = history(schedule={"name": "asynchronous", **options}, latency=latency)
    last, handed, there = np.zeros((7, rows.shape[1])), np.zeros(7), np.zeros(7, bool)
    sizes = []
    for t in range(timeline.steps):
        new, now = timeline.places_of(t), timeline.time_s[t]
        fresh = timeline.rows.workers[new]
        dead = [crash["worker"] for crash in DYING if crash["at"] <= now < crash.get("back", np.inf)]
        if options.get("dead_rows") != "stay":
            old = [worker for worker in dead if t - handed[worker] > options.get("max_age", -1)]
            there[old] = False
        last[fresh], handed[fresh], there[fresh] = rows[new], timeline.rows.handed[new], True
        assert timeline.seen[t] == there.sum()
        np.testing.assert_allclose(models[t + 1], models[t] - ETA * last[there].mean(0), rtol=1e-4, atol=1e-5)
        sizes.append(int(there.sum()))
    assert sizes[0] == 7
    assert (min(sizes), sizes[-1]) == ((7, 7) if options.get("dead_rows") else (5, 6))
    check(timeline, 7)
    assert len(truncate(timeline, 20).gone) <= len(timeline.gone) == (0 if options.get("dead_rows") else 2)


def test_where_fewer_rows_are_left_than_the_rule_accepts_the_run_ends_and_says_so():
    crashes = [{"worker": worker, "at": 4.0} for worker in (2, 3, 5)]
    changes = {"latency": {"name": "exponential", "crashes": crashes}, "rule": "krum", "steps": 60}
    timeline = plan(small(schedule="asynchronous", **changes).run)
    assert 0 < timeline.steps < 60
    assert "waits for the rows of 5 workers that live, the fewest that the rule can go on with, and has 4" in (
        timeline.stopped
    )
    assert "schedule.dead_rows stay" in timeline.stopped
    assert plan(small(schedule={"name": "asynchronous", "dead_rows": "stay"}, **changes).run).steps == 60


def test_a_timeline_with_rows_that_leave_is_saved_and_one_of_before_is_read(tmp_path):
    changes = {"latency": {"name": "exponential", "crashes": DYING}, "steps": 40}
    made = plan(small(schedule="asynchronous", **changes).run)._replace(lost=np.array([[5, 3]]))
    save(made, tmp_path / "made.npz")
    again = load(tmp_path / "made.npz")
    assert len(made.gone)
    assert np.array_equal(again.gone, made.gone)
    assert again.lost.tolist() == [[5, 3]]
    with np.load(tmp_path / "made.npz") as arrays:
        np.savez(tmp_path / "old.npz", **{name: arrays[name] for name in arrays if name not in ("gone", "lost")})
    assert load(tmp_path / "old.npz").gone.shape == (0, 2)
    for wrong in ([[5, 7]], [[0, 1]], [[99, 1]]):
        with pytest.raises(ValueError, match=r"timeline: (gone must be|update .* leave)"):
            check(made._replace(gone=np.array(wrong)), 7)


@pytest.mark.parametrize(
    ("staleness", "weight"),
    [("polynomial", lambda a: (1 + a) ** -0.7), by_night("exponential", lambda a: np.exp(-0.7 * a))],
    ids=["polynomial", "exponential"],
)
def test_a_buffer_applies_its_rows_with_the_weights_of_their_ages(staleness, weight):
    schedule = {"name": "asynchronous", "apply": "buffer", "rows": 3, "staleness": staleness, "exponent": 0.7}
    timeline, models, rows = history(schedule=schedule, **RANDOM)
    assert timeline.ages.max() > 2
    for t in range(timeline.steps):
        new = timeline.places_of(t)
        weighted = weight(timeline.ages[new])[:, None] * rows[new]
        np.testing.assert_allclose(models[t + 1], models[t] - ETA * weighted.mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_rows_of_a_table_become_lighter_as_they_grow_older():
    schedule = {"name": "asynchronous", "staleness": "polynomial", "exponent": 1.0}
    timeline, models, rows = history(schedule=schedule, **RANDOM)
    last, made = np.zeros((7, rows.shape[1])), np.zeros(7)
    for t in range(timeline.steps):
        new = timeline.places_of(t)
        last[timeline.rows.workers[new]], made[timeline.rows.workers[new]] = rows[new], timeline.rows.handed[new]
        step = (last / (1 + t - made)[:, None]).mean(0)
        np.testing.assert_allclose(models[t + 1], models[t] - ETA * step, rtol=1e-4, atol=1e-5)


def test_basgd_gives_the_rule_the_means_of_its_buckets():
    timeline, models, rows = history(schedule={"name": "basgd", "buckets": 3}, rule="median", **RANDOM)
    assert timeline.sizes.max() > 3
    for t in range(timeline.steps):
        new = timeline.places_of(t)
        bucket = timeline.rows.workers[new] % 3
        means = np.stack([rows[new][bucket == b].mean(0) for b in range(3)])
        np.testing.assert_allclose(models[t + 1], models[t] - ETA * np.median(means, axis=0), rtol=1e-4, atol=1e-5)


def test_a_quorum_applies_the_first_rows_alone():
    timeline, models, rows = history(schedule={"name": "synchronous", "quorum": 4}, **RANDOM)
    for t in range(timeline.steps):
        new = timeline.places_of(t)
        assert new.stop - new.start == 4
        np.testing.assert_allclose(models[t + 1], models[t] - ETA * rows[new].mean(0), rtol=1e-4, atol=1e-5)


def test_the_fewest_rows_a_rule_accepts_count_what_stands_before_it():
    krum = {"rule": "krum", "workers": {"total": 20, "byzantine": 3}}
    assert least_rows(small(**krum).run) == 9
    assert least_rows(small(**krum, pre=[{"name": "bucketing", "s": 2}]).run) == 17
    assert least_rows(small(rule="average").run) == 1


# --- what the adversary sees where rows come one by one ---------------------------------------------------------------


def fed(core, here, server, state, arrivals):
    """Gives every row sent, where rows come in this order: `(worker, row)` each."""
    sent, table = [], Remembered(7)
    for step, (worker, row) in enumerate(arrivals):
        forged, state = table.forged(core, here, step, [worker], row[None], server, state)
        sent.append(forged[0])
    return sent


@pytest.mark.parametrize("schedule", ["asynchronous", "stale_synchronous"])
def test_an_adversary_remembers_the_honest_rows_where_each_comes_alone(schedule):
    scenario = small(
        schedule={"name": schedule, "apply": "each"}, attack={"name": "empire", "epsilon": 2.0},
        workers={"total": 7, "byzantine": 2, "declared": 0},
    )  # fmt: skip
    core, here = build(scenario.run, 1), world(scenario.run)
    server = core.start(here)
    rows = np.random.default_rng(0).normal(size=(5, 650)).astype(np.float32)
    order = [(3, rows[0]), (0, rows[1]), (5, rows[2]), (3, rows[3]), (1, rows[4])]
    sent = fed(core, here, server, core.init_adversary(650), order)
    for place in (0, 2, 3):
        assert np.array_equal(sent[place], rows[place])
    np.testing.assert_allclose(sent[1], -2 * rows[0], rtol=1e-5)
    # worker 3's first row was replaced by its second, and what Byzantine workers sent is no honest row
    np.testing.assert_allclose(sent[4], -(rows[2] + rows[3]), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_an_adversary_that_asks_the_rule_gets_the_answer_for_the_table_as_it_will_be():
    scenario = small(
        schedule="asynchronous",
        attack="counting",
        rule="remembering",
        workers={"total": 3, "byzantine": 1, "declared": 0},
    )
    core, here = build(scenario.run, 3), world(scenario.run)
    server = core.start(here)
    rows = np.random.default_rng(0).normal(size=(3, 650)).astype(np.float32)
    table = Remembered(3)
    forged, state = table.forged(core, here, 0, np.arange(3), rows, server, core.init_adversary(650))
    first = (np.asarray(server.params) - rows.mean(0) / 2) / 10
    np.testing.assert_allclose(forged[0], first, rtol=1e-4, atol=1e-6)
    fresh = np.ones((1, 650), np.float32)
    again, state = table.forged(core, here, 1, [2], fresh, server, state)
    assert np.array_equal(again, fresh)
    forged, _ = table.forged(core, here, 2, [0], fresh, server, state)
    last = np.stack([fresh[0], rows[1], fresh[0]])
    # (params - j times what the rule would give) / 10 in the j-th update
    third = (np.asarray(server.params) - 3 * last.mean(0) / 2) / 10
    np.testing.assert_allclose(forged[0], third, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("apply", by_day(["table"], ("table", "each")))
@pytest.mark.parametrize("knowledge", ["omniscient", "colluding"])
def test_last_rows_are_messages_that_are_kept_until_they_are_replaced_and_nobody_copies_them(apply, knowledge):
    changes = {
        "attack": {"name": "empire", "knowledge": knowledge},
        "schedule": {"name": "asynchronous", "apply": apply},
    }
    run = small(**changes, **RANDOM, workers={"total": 7, "byzantine": 2, "declared": 0}, steps=40).run
    prepared = prepare(run)
    network, here = network_of(run, prepared)
    begun = network.start(here)
    live = {number: (network.show(begun[node]), last, ()) for number, (node, last) in network.table.kept(0).items()}
    moments = loop.updates(network, here, loop.Moment(0, begun, live), prepared.timeline)
    for _, (step, states, messages) in moments:
        for kind in ("server", "adversary"):
            assert all(np.size(leaf) <= 650 for leaf in jax.tree.leaves(states[kind, 0]))
        if step < run.steps:
            kept = network.table.rows(step)
            assert messages.keys() == {*kept.source.tolist(), *network.table.kept(step)}
            # a row of each worker, of a Byzantine one also as it was computed where it is hidden, and rows under way
            known = {*prepared.timeline.rows.workers[: prepared.timeline.first[step]].tolist()}
            waiting = kept.places >= prepared.timeline.first[step]
            hidden = knowledge == "colluding"
            assert (~waiting).sum() <= len(known) + hidden * 2


# --- local steps ------------------------------------------------------------------------------------------------------


def test_a_local_row_is_what_that_many_steps_of_sgd_change():
    import jax

    from byzax.simulator.keys import Purpose, derive

    scenario = small(local={"steps": 4, "learning_rate": 0.3})
    core, here = build(scenario.run, 7), world(scenario.run)
    params = np.asarray(core.start(here).params)
    at = params.astype(np.float64)
    for step in range(4):
        key = jax.random.fold_in(derive(here.key, Purpose.WORK, 3, 5), step)
        draw = np.asarray(jax.random.randint(key, (8,), 0, int(here.sizes[3])))
        position = np.asarray(here.shards)[3][draw]
        x, y = np.asarray(here.x, np.float64)[position].reshape(8, -1), np.asarray(here.y)[position]
        at = at - 0.3 * softmax_gradient(at, x, y)
    np.testing.assert_allclose(core.work(here, params, 3, 5, 5), params - at, rtol=1e-4, atol=1e-6)
    models = build(small(local={"steps": 4, "learning_rate": 0.3, "send": "model"}).run, 7)
    np.testing.assert_allclose(models.work(here, params, 3, 5, 5), at, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_one_local_step_is_the_gradient_times_its_learning_rate():
    plain, local = small(), small(local={"steps": 1, "learning_rate": 0.25})
    here = world(plain.run)
    params = np.asarray(build(plain.run, 7).start(here).params)
    # another batch: only the length and kind of the row can be compared with a job of plain SGD
    row = np.asarray(build(local.run, 7).work(here, params, 2, 0, 0))
    assert 0 < np.linalg.norm(row) < 2 * 0.25 * np.linalg.norm(softmax_gradient(params, *batch_of(here, 2, 0, 8))) * 2
    assert local.optimizer.learning_rate == 1.0
    assert small(local={"steps": 1}, optimizer="sgd").optimizer.learning_rate == 0.1


def test_an_epoch_visits_every_sample_of_the_worker_once():
    # 70 training samples over 7 workers: one batch holds all ten of a worker
    data = {"name": "gaussian_mixture", "samples": 100, "shape": [3], "classes": 4, "batch_size": 10}
    scenario = small(data=data, local={"epochs": 3, "learning_rate": 0.2})
    core, here = build(scenario.run, 7), world(scenario.run)
    assert set(np.asarray(here.sizes).tolist()) == {10}
    params = np.asarray(core.start(here).params)
    at = params.astype(np.float64)
    x, y = np.asarray(here.x, np.float64)[here.shards[4]], np.asarray(here.y)[here.shards[4]]
    for _ in range(3):
        at = at - 0.2 * softmax_gradient(at, x, y, classes=4)
    np.testing.assert_allclose(core.work(here, params, 4, 1, 1), params - at, rtol=1e-4, atol=1e-6)


def epoch_by_hand(here, params, worker, job, size, epochs, drop=False):
    """The change by passes over a worker's samples, the last batch of each smaller; and the counts of each sample."""
    held, longest = int(here.sizes[worker]), here.shards.shape[1]
    draw = derive(here.key, Purpose.WORK, worker, job)
    at, often = np.asarray(params, np.float64), np.zeros(held, int)
    for number in range(epochs):
        numbers = np.asarray(jax.random.uniform(jax.random.fold_in(draw, number), (longest,)))[:held]
        order = np.argsort(numbers, kind="stable")
        for begin in range(0, held - held % size if drop and held >= size else held, size):
            mine = order[begin : begin + size]
            often[mine] += 1
            position = np.asarray(here.shards)[worker][mine]
            x, y = np.asarray(here.x, np.float64)[position], np.asarray(here.y)[position]
            at = at - 0.2 * softmax_gradient(at, x.reshape(len(x), -1), y, classes=4)
    return np.asarray(params, np.float64) - at, often


@pytest.mark.parametrize("drop", [False, by_night(True)])
def test_in_an_epoch_every_sample_counts_once_whatever_the_size_of_the_last_batch(drop):
    # 70 training samples over 7 workers, uneven: a last batch of every size, and workers with less than a batch
    data = {
        "name": "gaussian_mixture", "samples": 150, "shape": [3], "classes": 4, "batch_size": 8,
        "partition": {"name": "dirichlet", "alpha": 0.1},
    }  # fmt: skip
    local = {"epochs": 2, "learning_rate": 0.2, **({"last_batch": "drop"} if drop else {})}
    core, here = build(small(data=data, local=local).run, 7), world(small(data=data).run)
    sizes = np.asarray(here.sizes)
    assert sizes.min() < 8 < sizes.max()
    assert (sizes % 8 != 0).any()
    params = np.asarray(core.start(here).params)
    for worker in range(7):
        expected, often = epoch_by_hand(here, params, worker, 3, 8, 2, drop)
        assert drop or (often == 2).all()
        np.testing.assert_allclose(core.work(here, params, worker, 3, 3), expected, rtol=1e-4, atol=1e-6)
    made = per_job(small(data=data, local=local).run)
    assert made.tolist() == [2 * (max(1, size // 8) if drop else -(-size // 8)) for size in sizes.tolist()]


@pytest.mark.slow
def test_the_average_of_models_is_the_next_model():
    for send in ("model", "delta"):
        scenario = small(local={"steps": 3, "send": send}, attack="none", steps=1)
        core, here = build(scenario.run, 7), world(scenario.run)
        server = core.start(here)
        rows = np.stack([core.work(here, server.params, worker, 0, 0) for worker in range(7)])
        after, _, _ = core.update(here, server, Arrivals(np.arange(7), np.zeros(7, int)), rows)
        models = rows if send == "model" else np.asarray(server.params) - rows
        np.testing.assert_allclose(after.params, models.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_local_steps_learn_faster_per_update_than_one_gradient():
    plain = run(small(steps=30, attack="none"))[-1]
    local = run(small(steps=30, attack="none", local={"steps": 10, "learning_rate": 0.1}))[-1]
    assert local.evaluation.test_loss < plain.evaluation.test_loss - 0.3
