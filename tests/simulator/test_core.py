"""The core against NumPy: one worker's job, the adversary's reach, one update, one evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax import models
from byzax.simulator.core import build
from byzax.simulator.diagnostics import EVALUATED_AT_ONCE, build_evaluate
from byzax.simulator.keys import Purpose, derive, generator
from byzax.simulator.senders import Arrivals
from byzax.simulator.world import share_out, world
from tests.nightly import by_night
from tests.simulator.conftest import at, small


def prepared(**changes):
    scenario = small(**changes)
    core, here = build(scenario.run, scenario.workers.total), world(scenario.run)
    return scenario, core, here, core.start(here)


def new(workers) -> Arrivals:
    """Rows of these workers, all from the first model."""
    return Arrivals(np.array([*workers]), np.zeros(len(workers), int))


def batch_of(here, worker: int, job: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The batch of a job, drawn by the rule that keys.py states."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(jax.random.key(0), int(Purpose.WORK)), worker), job)
    draw = np.asarray(jax.random.randint(key, (size,), 0, int(here.sizes[worker])))
    position = np.asarray(here.shards)[worker][draw]
    return np.asarray(here.x, np.float64)[position].reshape(size, -1), np.asarray(here.y)[position]


def softmax_gradient(params: np.ndarray, x: np.ndarray, y: np.ndarray, classes: int = 10) -> np.ndarray:
    """d/d(bias, kernel) of the mean cross-entropy of softmax regression, by hand."""
    bias, kernel = params[:classes], params[classes:].reshape(-1, classes)
    logits = x @ kernel + bias
    probability = np.exp(logits - logits.max(1, keepdims=True))
    probability /= probability.sum(1, keepdims=True)
    probability[np.arange(len(y)), y] -= 1
    return np.concatenate([probability.mean(0), (x.T @ probability / len(y)).ravel()])


def test_the_first_model_is_drawn_with_a_key_of_its_own():
    _, _, here, server = prepared()
    key = jax.random.fold_in(jax.random.key(0), int(Purpose.INIT))
    expected = models.factory("softmax")(here.x.shape[1:], 10).init(key)
    np.testing.assert_allclose(server.params, expected, rtol=1e-6)


@pytest.mark.parametrize(("worker", "job"), [(0, 0), (3, 5), (6, 1)])
def test_a_row_is_the_gradient_on_the_batch_of_that_worker_and_job(worker, job):
    _, core, here, server = prepared()
    row = core.work(here, server.params, worker, job, job)
    expected = softmax_gradient(np.asarray(server.params, np.float64), *batch_of(here, worker, job, 8))
    np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-6)


def test_worker_momentum_averages_exponentially():
    beta = 0.9
    _, plain, here, server = prepared()
    _, core, _, _ = prepared(worker_momentum=beta)
    memory, expected = core.memory.start(here, len(server.params)), 0.0
    for job in range(4):
        gradient = plain.work(here, server.params, 2, job, job)
        expected = beta * expected + (1 - beta) * np.asarray(gradient, np.float64)
        memory, row = core.memory.remember(here, memory, core.work(here, server.params, 2, job, job), 2, job)
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("attack", ["label_flip", "backdoor", "distributed_backdoor"])
def test_poisoned_data_reach_the_byzantine_workers_only(attack):
    _, clean, here, server = prepared(attack="none", workers={"total": 7, "byzantine": 2})
    _, poisoned, _, _ = prepared(attack=attack, workers={"total": 7, "byzantine": 2})
    for worker in range(7):
        one, other = (core.work(here, server.params, worker, 0, 0) for core in (clean, poisoned))
        assert np.array_equal(one, other) == (worker >= 2)


def test_a_flipped_label_is_counted_from_the_other_end():
    _, poisoned, here, server = prepared(attack="label_flip", workers={"total": 7, "byzantine": 2})
    x, y = batch_of(here, 1, 0, 8)
    flipped = softmax_gradient(np.asarray(server.params, np.float64), x, 9 - y)
    np.testing.assert_allclose(poisoned.work(here, server.params, 1, 0, 0), flipped, rtol=1e-4, atol=1e-6)


def test_poison_is_drawn_anew_for_each_worker_and_job():
    _, core, here, server = prepared(attack="noisy", workers={"total": 7, "byzantine": 2})
    # every worker has one and the same sample: what differs comes from the poison
    same = here._replace(shards=here.shards * 0)
    jobs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    rows = {core.work(same, server.params, *job, 0).tobytes() for job in jobs}
    assert len(rows) == len(jobs)
    again = core.work(same, server.params, *jobs[0], 0)
    assert again.tobytes() in rows


def test_an_attack_cannot_touch_honest_rows():
    _, core, here, server = prepared(attack="overreaching", workers={"total": 7, "byzantine": 2})
    rows = np.random.default_rng(0).normal(size=(7, len(server.params))).astype(np.float32)
    forged, _ = core.forge(here, 0, new(range(7)), rows, server, core.init_adversary(650))
    assert np.array_equal(np.asarray(forged)[2:], rows[2:])
    assert (np.asarray(forged)[:2] == 7).all()
    # who lies goes by the worker, not by the place in the update
    forged, _ = core.forge(here, 0, new(range(6, -1, -1)), rows, server, core.init_adversary(650))
    assert (np.asarray(forged)[5:] == 7).all()
    assert np.array_equal(np.asarray(forged)[:5], rows[:5])


def test_an_update_is_the_rule_then_the_optimizer_and_says_what_it_saw():
    _, core, here, server = prepared(
        workers={"total": 7, "byzantine": 2}, optimizer={"name": "sgd", "learning_rate": 0.5}
    )
    rows = np.random.default_rng(1).normal(size=(7, len(server.params))).astype(np.float32)
    after, seen, _ = core.update(here, server, new(range(7)), rows)
    aggregate, honest = rows.mean(0, dtype=np.float64), rows[2:].mean(0, dtype=np.float64)
    np.testing.assert_allclose(after.params, np.asarray(server.params) - 0.5 * aggregate, rtol=1e-5, atol=1e-6)
    cosine = aggregate @ honest / np.linalg.norm(aggregate) / np.linalg.norm(honest)
    expected = [np.linalg.norm(aggregate), cosine, np.linalg.norm(aggregate - honest), 2 / 7, 0, 0, 1]
    np.testing.assert_allclose(np.array(seen), expected, rtol=1e-5)
    # who lies goes by the worker, not by the place in the update
    _, seen, _ = core.update(here, server, new(range(6, -1, -1)), rows[::-1])
    np.testing.assert_allclose(np.array(seen), expected, rtol=1e-5)


def test_rows_that_weigh_by_samples_are_averaged_as_fedavg_does():
    data = {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.3}}
    changes = {"workers": {"total": 7, "byzantine": 2}, "weights": "samples", "data": data}
    _, core, here, server = prepared(**changes, optimizer={"name": "sgd", "learning_rate": 0.5})
    rows = np.random.default_rng(1).normal(size=(7, len(server.params))).astype(np.float32)
    sizes = np.asarray(here.sizes, np.float64)
    after, seen, _ = core.update(here, server, new([6, 0, 1, 2, 3, 4, 5]), rows)
    samples = sizes[[6, 0, 1, 2, 3, 4, 5]]
    expected = samples @ rows / samples.sum()
    np.testing.assert_allclose(after.params, np.asarray(server.params) - 0.5 * expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(seen.byzantine_weight, (sizes[0] + sizes[1]) / sizes.sum(), rtol=1e-5)


def test_samples_multiply_the_weights_that_a_rule_gives():
    data = {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.3}}
    changes = {"workers": {"total": 7, "byzantine": 2}, "data": data, "rule": {"name": "multi_krum", "m": 3}}
    _, core, here, server = prepared(**changes, weights="samples", optimizer={"name": "sgd", "learning_rate": 1.0})
    rows = np.random.default_rng(1).normal(size=(7, len(server.params))).astype(np.float32)
    # what has no weight may be anything
    rows[:2] = np.inf
    scores = [sorted(((x - y) ** 2).sum() for y in rows[2:])[1:4] for x in rows[2:]]
    chosen = 2 + np.argsort([sum(score) for score in scores])[:3]
    samples = np.asarray(here.sizes, np.float64)[chosen]
    after, _, _ = core.update(here, server, new(range(7)), rows)
    expected = samples @ rows[chosen] / samples.sum()
    np.testing.assert_allclose(after.params, np.asarray(server.params) - expected, rtol=1e-4, atol=1e-6)


def test_a_nan_row_leaves_what_is_said_of_the_honest_rows_finite():
    _, core, here, server = prepared(rule="median", workers={"total": 7, "byzantine": 2})
    rows = np.random.default_rng(1).normal(size=(7, len(server.params))).astype(np.float32)
    rows[:2] = np.nan
    after, seen, _ = core.update(here, server, new(range(7)), rows)
    assert np.isfinite(after.params).all()
    assert np.isfinite([seen.aggregate_norm, seen.honest_cosine, seen.honest_distance]).all()
    assert np.isnan(seen.byzantine_weight)


@pytest.mark.parametrize("size", [1e-34, 1e-22, 1e-11, 1e17, 1e20, 1e36])
def test_what_is_said_of_an_update_is_right_also_where_squares_leave_float32(size):
    _, core, here, server = prepared(workers={"total": 7, "byzantine": 2})
    rows = (size * np.random.default_rng(1).normal(size=(7, len(server.params)))).astype(np.float32)
    _, seen, _ = core.update(here, server, new(range(7)), rows)
    aggregate, honest = rows.mean(0, dtype=np.float64), rows[2:].mean(0, dtype=np.float64)
    cosine = aggregate @ honest / np.linalg.norm(aggregate) / np.linalg.norm(honest)
    expected = [np.linalg.norm(aggregate), cosine, np.linalg.norm(aggregate - honest), 2 / 7, 0, 0, 1]
    np.testing.assert_allclose(np.array(seen), expected, rtol=1e-5)


def test_what_has_no_meaning_is_nan_and_nothing_else_is():
    _, core, here, server = prepared(workers={"total": 7, "byzantine": 2})
    rows = np.zeros((7, len(server.params)), np.float32)
    np.testing.assert_allclose(core.update(here, server, new(range(7)), rows)[1], [0, np.nan, 0, 2 / 7, 0, 0, 1])
    rows[0, 3] = np.inf
    np.testing.assert_allclose(
        core.update(here, server, new(range(7)), rows)[1], [np.inf, np.nan, np.inf, 2 / 7, 0, 0, 1]
    )
    _, core, here, server = prepared(workers={"total": 7, "byzantine": 7, "declared": 0})
    _, seen, _ = core.update(here, server, new(range(7)), np.ones((7, len(server.params)), np.float32))
    np.testing.assert_allclose(seen, [np.sqrt(len(server.params)), np.nan, np.nan, 1, 0, 0, 1], rtol=1e-6)


@pytest.mark.parametrize("samples", [300, by_night(EVALUATED_AT_ONCE * 5), 2 * EVALUATED_AT_ONCE * 5 + 35])
def test_evaluation_is_the_mean_over_all_samples_however_many_there_are(samples):
    data = {"name": "gaussian_mixture", "samples": samples, "shape": [3], "classes": 4, "batch_size": 8}
    scenario, core, here, server = prepared(data=data)
    assert len(here.test) == round(samples * scenario.data.test)
    params, x = np.asarray(server.params, np.float64), np.asarray(here.x, np.float64)
    logits = x @ params[4:].reshape(3, 4) + params[:4]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(x)), here.y]
    right = logits.argmax(1) == np.asarray(here.y)
    train, test, own = np.asarray(here.train), np.asarray(here.test), np.asarray(here.validation)
    expected = [losses[train].mean(), right[train].mean(), losses[test].mean(), right[test].mean(), np.nan]
    # one model has neither a worst one nor a mean of several nor a distance from others
    expected += [losses[own].mean(), right[own].mean(), np.nan, np.nan, np.nan]
    np.testing.assert_allclose(np.array(core.evaluate(here, server.params)), expected, rtol=1e-5)


def test_without_validation_samples_there_is_nothing_to_say_of_them():
    _, core, here, server = prepared(data={"name": "digits", "batch_size": 8, "validation": 0.0})
    found = core.evaluate(here, server.params)
    assert np.isnan([found.validation_loss, found.validation_accuracy]).all()
    assert np.isfinite(found[:4]).all()


def test_a_backdoor_succeeds_where_samples_of_other_labels_get_its_target():
    _, core, here, server = prepared(attack={"name": "backdoor", "target": 8, "size": 4, "value": 0.7})
    params = np.asarray(server.params, np.float64)
    x, y = np.asarray(here.x, np.float64)[here.test], np.asarray(here.y)[here.test]
    x[:, 4:, 4:] = 0.7
    answers = (x.reshape(len(x), -1) @ params[10:].reshape(64, 10) + params[:10]).argmax(1)
    others = y != 8
    assert 0 < (answers[others] == 8).sum() < others.sum()
    success = core.evaluate(here, server.params).attack_success
    np.testing.assert_allclose(success, (answers[others] == 8).mean(), rtol=1e-6)
    # what the model does with clean samples is measured all the same
    _, clean, _, _ = prepared(attack="none")
    np.testing.assert_array_equal(core.evaluate(here, server.params)[:4], clean.evaluate(here, server.params)[:4])
    assert np.isnan(clean.evaluate(here, server.params).attack_success)


@pytest.mark.parametrize(("samples", "at_once"), [(300, 300), (500, 500), (501, 500), (1300, 500)])
def test_one_size_is_evaluated_at_once_and_each_sample_is_counted_once(samples, at_once):
    def shown(params, x):
        return jnp.full(len(x), len(x), jnp.float32)

    model = models.build("linear", (3,), None)._replace(predict=shown, judge=lambda outputs, y: (outputs, y))
    here = world(small().run)._replace(x=jnp.zeros((2000, 3)), y=jnp.arange(2000.0))
    # all are shown with so many, and each is counted once
    positions = jnp.arange(samples)
    seen = build_evaluate(model, None)(here._replace(train=positions, test=positions), jnp.zeros(4))
    assert float(seen.test_loss) == pytest.approx(at_once, rel=1e-6)
    assert float(seen.test_accuracy) == pytest.approx((samples - 1) / 2, rel=1e-6)


MODELS = {
    "softmax": ((4, 4), {}), "linear": ((3,), {}), "mlp": ((3,), {"norm": "batch", "dropout": 0.5}),
    "resnet20": ((4, 4), {"norm": "batch"}), "lenet": ((28, 28), {}), "gru": ((4, 2), {}), "transformer": ((4, 2), {}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_accuracy_is_a_property_of_model_and_test_set(name, monkeypatch):
    from byzax.attacks import Goal
    from byzax.simulator import diagnostics

    shape, options = MODELS[name]
    classes = None if name == "linear" else 3
    model = models.build(name, shape, classes, **options)
    keys = jax.random.split(jax.random.key(0), 3)
    params = model.init(keys[0])
    params = params + 0.3 * jax.random.normal(keys[1], params.shape)
    x = jax.random.normal(keys[2], (60, *shape)) * jnp.linspace(0.1, 3, 60).reshape(-1, *[1] * len(shape))
    y = jnp.arange(60) % 3 if classes else jnp.arange(60.0)
    goal = Goal(1, lambda x: x + 1) if classes else None
    here = world(small().run)._replace(x=x, y=y, train=jnp.arange(20), scaling=None)

    def evaluated(at_once, test):
        monkeypatch.setattr(diagnostics, "EVALUATED_AT_ONCE", at_once)
        build_evaluate.cache_clear()
        found = build_evaluate(model, goal)(here._replace(test=jnp.asarray(test), validation=jnp.asarray(test)), params)
        return np.array(found)

    test = np.arange(20, 60)
    expected = evaluated(500, test)
    order = np.random.default_rng(0).permutation(test)
    assert classes is None or 0 < expected[3] < 1
    for at_once, mine in ((500, order), (20, test), (33, order)):
        # statistics are those of the first training samples, as many as are evaluated at once
        assert at_once >= 20
        np.testing.assert_allclose(evaluated(at_once, mine), expected, rtol=1e-4, atol=1e-5)
    build_evaluate.cache_clear()


@pytest.mark.slow
def test_what_is_dropped_is_drawn_anew_for_each_worker_and_job_and_not_from_the_key_of_the_batch():
    model = {"name": "mlp", "hidden": [6], "dropout": 0.5}
    data = {"name": "gaussian_mixture", "samples": 70, "shape": [3], "batch_size": 1}
    _, core, here, server = prepared(model=model, data=data)
    # everybody has the same one sample
    here = here._replace(shards=jnp.zeros_like(here.shards), sizes=jnp.ones_like(here.sizes))
    rows = {(worker, job): core.work(here, server.params, worker, job, job) for worker in range(3) for job in range(3)}
    assert len({np.asarray(row).tobytes() for row in rows.values()}) > 6
    key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(here.key, int(Purpose.DROPOUT)), 2), 1)
    built = models.build("mlp", (3,), 10, hidden=(6,), dropout=0.5)
    wanted = jax.jit(jax.grad(built.loss))(server.params, here.x[:1], here.y[:1], key)
    np.testing.assert_allclose(rows[2, 1], wanted, rtol=1e-5, atol=1e-6)


def test_the_parts_of_the_world_share_no_sample():
    scenario, _, here, _ = prepared()
    shares = [set(np.asarray(here.shards)[i][: int(here.sizes[i])]) for i in range(scenario.workers.total)]
    assert len(set.union(*shares)) == sum(map(len, shares))
    assert not set.union(*shares) & set(np.asarray(here.test).tolist())
    assert np.asarray(here.byzantine_rank).tolist() == [0] + [-1] * 6


def test_keys_differ_by_purpose_worker_and_job_and_nothing_else():
    root = jax.random.key(3)
    keys = {
        (purpose, worker, job): jax.random.key_data(derive(root, purpose, worker, job)).tobytes()
        for purpose in Purpose for worker in range(4) for job in range(4)
    }  # fmt: skip
    assert len(set(keys.values())) == len(keys)
    assert jax.random.key_data(derive(root, Purpose.WORK, 2, 3)).tobytes() == keys[Purpose.WORK, 2, 3]
    drawn = {(seed, purpose): generator(seed, purpose).bytes(8) for seed in range(3) for purpose in Purpose}
    assert len(set(drawn.values())) == len(drawn)


def test_the_numbers_of_the_purposes_stay_what_recorded_results_were_made_with():
    assert [each.name for each in sorted(Purpose)][:8] == [
        "INIT", "WORK", "CORRUPT", "FORGE", "SPLIT", "PARTITION", "SCHEDULE", "EVALUATE"
    ]  # fmt: skip
    assert sorted(Purpose)[:8] == list(range(8))


def test_scenarios_that_share_a_part_share_its_compiled_function():
    one, other = build(small(rule="krum").run, 7), build(small(rule="median", attack="little").run, 7)
    assert one.work is other.work
    assert one.evaluate is other.evaluate
    assert one.update is not other.update


def test_the_adversary_sees_the_model_and_the_rule_in_its_present_state():
    rows = np.random.default_rng(0).normal(size=(7, 650)).astype(np.float32)
    _, core, here, server = prepared(rule="remembering", attack="counting")
    remembered = np.linspace(-1, 1, 650, dtype=np.float32)
    forged, _ = core.forge(here, 0, new(range(7)), rows, server._replace(rule=remembered), core.init_adversary(650))
    expected = (np.asarray(server.params) - (rows.mean(axis=0) + remembered) / 2) / 10
    np.testing.assert_allclose(forged[0], expected, rtol=1e-5, atol=1e-7)


def test_the_adversary_draws_anew_at_every_step():
    rows = np.random.default_rng(0).normal(size=(7, 650)).astype(np.float32)
    _, core, here, server = prepared(attack="gaussian")
    first, again, later = (
        core.forge(here, t, new(range(7)), rows, server, core.init_adversary(650))[0] for t in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], later[0])


def test_rule_and_optimizer_remember_from_one_update_to_the_next():
    optimizer = {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9}
    _, core, here, server = prepared(rule="remembering", optimizer=optimizer)
    params, aggregate, velocity = np.asarray(server.params, np.float64), 0.0, 0.0
    for seed in range(3):
        rows = np.random.default_rng(seed).normal(size=(7, 650)).astype(np.float32)
        server, _, _ = core.update(here, server, new(range(7)), rows)
        aggregate = (rows.mean(0, dtype=np.float64) + aggregate) / 2
        velocity = aggregate + 0.9 * velocity
        params = params - 0.5 * velocity
        np.testing.assert_allclose(server.params, params, rtol=1e-4, atol=1e-5)


def test_what_is_evaluated_as_training_is_training_data_alone():
    data = {"name": "gaussian_mixture", "samples": 3000, "shape": [3], "batch_size": 8}
    for scenario in (small(), small(data=data)):
        here = world(scenario.run)
        parts, shares = share_out(scenario.data, scenario.workers.total, scenario.seed)
        assert len(set(np.asarray(here.train).tolist())) == min(2000, len(parts.train))
        assert set(np.asarray(here.train).tolist()) <= set(parts.train.tolist())
        assert set(np.concatenate(shares).tolist()) <= set(parts.train.tolist())
        assert not set(parts.train.tolist()) & {*parts.validation.tolist(), *parts.test.tolist()}


def test_each_seed_has_a_key_a_split_a_partition_and_a_training_sample_of_its_own():
    def drawn(seed: int) -> list[np.ndarray]:
        here, (parts, shares) = world(at(small(), seed)), share_out(small().data, 7, seed)
        # places in the training set: the split alone does not make them differ
        share, sample = (np.searchsorted(parts.train, part) for part in (shares[0], here.train))
        assert np.array_equal(jax.random.key_data(here.key), jax.random.key_data(jax.random.key(seed)))
        return [parts.test, share, sample]

    assert not any(np.array_equal(zero, one) for zero, one in zip(drawn(0), drawn(1), strict=True))
    assert all(np.array_equal(once, again) for once, again in zip(drawn(1), drawn(1), strict=True))


def test_what_a_rule_draws_changes_with_the_step_and_not_with_the_rows():
    _, core, here, server = prepared(rule="median", pre=[{"name": "bucketing", "s": 2}])
    rows = np.random.default_rng(0).normal(size=(7, len(server.params))).astype(np.float32)
    first, again = (core.update(here, server, new(range(7)), rows)[0] for _ in range(2))
    assert np.array_equal(first.params, again.params)
    assert (server.step, first.step) == (0, 1)
    later, _, _ = core.update(here, server._replace(step=first.step), new(range(7)), rows)
    assert not np.array_equal(first.params, later.params)


def test_the_servers_own_row_is_a_gradient_on_validation_samples_alone():
    scenario, core, here, server = prepared(rule="fltrust", optimizer={"name": "sgd", "learning_rate": 1})
    parts, _ = share_out(scenario.data, scenario.workers.total, scenario.seed)
    assert np.array_equal(here.validation, parts.validation)
    # rows that all agree with the server's: the aggregate has their direction and its length
    one = here._replace(validation=here.validation[:1])
    gradient = softmax_gradient(
        np.asarray(server.params, np.float64),
        np.asarray(here.x, np.float64)[[parts.validation[0]]].reshape(1, -1),
        np.asarray(here.y)[[parts.validation[0]]],
    )
    rows = np.tile(3 * gradient, (7, 1)).astype(np.float32)
    after, seen, _ = core.update(one, server, new(range(7)), rows)
    np.testing.assert_allclose(np.asarray(server.params) - after.params, gradient, rtol=1e-3, atol=1e-5)
    assert seen.byzantine_weight == pytest.approx(1 / 7)


@pytest.mark.slow
def test_zeno_keeps_the_rows_that_lower_the_loss():
    _, core, here, server = prepared(
        rule="zeno", workers={"total": 7, "byzantine": 3}, data={"name": "digits", "batch_size": 100}
    )
    gradients = np.stack([core.work(here, server.params, worker, 0, 0) for worker in range(7)])
    rows = np.where(np.arange(7)[:, None] < 3, -5 * gradients, gradients)
    _, seen, _ = core.update(here, server, new(range(7)), rows)
    assert seen.byzantine_weight == 0


def test_an_adversary_that_asks_the_rule_does_not_know_what_it_will_draw():
    changes = {"rule": "median", "pre": [{"name": "bucketing", "s": 2}], "attack": "counting"}
    _, core, here, server = prepared(**changes)
    rows = np.random.default_rng(0).normal(size=(7, len(server.params))).astype(np.float32)
    forged, _ = core.forge(here, 0, new(range(7)), rows, server, core.init_adversary(len(server.params)))
    after, _, _ = core.update(here, server, new(range(7)), rows)
    asked, given = -10 * np.asarray(forged)[0], (np.asarray(server.params) - after.params) / 0.1
    assert not np.allclose(asked, given, atol=1e-3)
