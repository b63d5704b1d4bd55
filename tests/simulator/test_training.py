"""Learning rates, optimizers and what a worker makes of its gradients, against NumPy."""

import jax
import numpy as np
import pytest

from byzax.simulator import rates
from byzax.simulator.core import build
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.mistakes import Impossible
from byzax.simulator.senders import Arrivals
from byzax.simulator.training import build_rate, clip_norm
from byzax.simulator.validation.part_checks import check_parts
from byzax.simulator.world import world
from tests.nightly import by_day, by_night
from tests.simulator.conftest import run, small
from tests.simulator.test_core import batch_of, new, prepared, softmax_gradient

T = np.arange(0, 40)
# a rate of a run of 20 updates, and the same by hand
SCHEDULES = {
    "constant": ({"start": 0.3}, lambda t: 0.3 + 0 * t),
    "step": ({"start": 0.5, "every": 7, "factor": 0.2}, lambda t: 0.5 * 0.2 ** (t // 7)),
    "exponential": ({"start": 0.5, "every": 5, "factor": 0.5}, lambda t: 0.5 ** (1 + t / 5)),
    "cosine": (
        {"start": 0.4, "final": 0.1, "steps": 10},
        lambda t: 0.1 + 0.15 * (1 + np.cos(np.pi * np.minimum(t, 10) / 10)),
    ),
    "linear": ({"start": 0.4, "final": 0.1}, lambda t: 0.4 - 0.3 * np.minimum(t, 20) / 20),
    "inverse_time": ({"start": 1.0, "half_at": 10}, lambda t: 1 * 10 / (t + 10)),
}


def test_every_schedule_of_a_rate_has_a_formula_here():
    assert set(SCHEDULES) == set(rates.available())


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_rate_follows_its_formula(name):
    options, expected = SCHEDULES[name]
    made = rates.build(name, 20, **options)
    np.testing.assert_allclose([made(t) for t in T], expected(T), rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_after_a_warm_up_a_rate_begins_as_it_would_without_and_ends_with_the_run(name):
    options, expected = SCHEDULES[name]
    chosen = {"name": "sgd", "learning_rate": {"name": name, **options, "warm_up": 4}}
    made = build_rate(small(optimizer=chosen).optimizer.learning_rate, 24)
    risen = expected(np.zeros(4)) * np.array([1, 2, 3, 4]) / 4
    np.testing.assert_allclose([made(t) for t in range(30)], np.append(risen, expected(T[:26])), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("cosine", {"start": 0.1, "final": 0.2}, "cosine: final must be at most start = 0.1, got 0.2"),
        ("linear", {"start": 0.1, "final": -1}, "linear: final must be at least 0, got -1"),
        ("step", {"every": 3, "factor": 0.0}, "step: factor must be greater than 0, got 0.0"),
        ("inverse_time", {"half_at": float("inf")}, "inverse_time: half_at must be a finite number, got inf"),
        ("constant", {"start": 0}, "constant: start must be greater than 0, got 0"),
    ],
)
def test_a_rate_that_cannot_be_is_refused_with_what_would_work(name, options, said):
    with pytest.raises(ValueError, match=said):
        rates.build(name, 20, **options)


def applied(rows, **changes):
    """The parameters after each of these updates of equal rows, and the first ones."""
    _, core, here, server = prepared(**changes)
    seen = [np.asarray(server.params, np.float64)]
    for row in rows:
        server, _, _ = core.update(here, server, new(range(7)), np.tile(row, (7, 1)).astype(np.float32))
        seen.append(np.asarray(server.params, np.float64))
    return seen


ROWS = np.random.default_rng(3).normal(size=(3, 650))


def test_the_servers_rate_goes_by_its_updates():
    speed = {"name": "inverse_time", "start": 0.5, "half_at": 2.0}
    seen = applied(ROWS, optimizer={"name": "sgd", "learning_rate": speed})
    for t in range(3):
        np.testing.assert_allclose(seen[t + 1], seen[t] - 0.5 * 2 / (t + 2) * ROWS[t], rtol=1e-5, atol=1e-6)


def momentum(rows, at, nesterov):
    velocity = 0
    for row in rows:
        velocity = 0.9 * velocity + row
        at = at - 0.1 * (row + 0.9 * velocity if nesterov else velocity)
    return at


def adagrad(rows, at):
    total = 0.1
    for row in rows:
        total = total + row**2
        at = at - 0.1 * row / np.sqrt(total + 1e-7)
    return at


def rmsprop(rows, at):
    total = 0
    for row in rows:
        total = 0.9 * total + 0.1 * row**2
        at = at - 0.1 * row / np.sqrt(total + 1e-8)
    return at


def uncorrected(rows, at, decay=0.0, b2=0.999, eps=1e-8, first=0.0, second=0.0, additive=False):
    """Adam without a correction, and Yogi (`additive`), whose squares move by no more than the newest."""
    for row in rows:
        first = 0.9 * first + 0.1 * row
        moved = np.sign(second - row**2) * row**2 if additive else second - row**2
        second = second - (1 - b2) * moved
        at = at - 0.1 * (first / (np.sqrt(second) + eps) + decay * at)
    return at


def adam(rows, at, decay=0.0):
    first = second = 0
    for t, row in enumerate(rows, 1):
        first, second = 0.9 * first + 0.1 * row, 0.999 * second + 0.001 * row**2
        at = at - 0.1 * (first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8) + decay * at)
    return at


def yogi(rows, at):
    # optax begins both moments at 1e-6
    first = second = 1e-6
    for t, row in enumerate(rows, 1):
        first = 0.9 * first + 0.1 * row
        second = second - 0.001 * np.sign(second - row**2) * row**2
        at = at - 0.1 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-3)
    return at


# Reddi et al. 2021
FEDERATED_YOGI = {"name": "yogi", "bias_correction": False, "first_moment": 0.0, "b2": 0.99, "eps": 1e-3}
OPTIMIZERS = {
    "momentum": ({"name": "sgd", "momentum": 0.9}, lambda rows, at: momentum(rows, at, False)),
    "nesterov": ({"name": "sgd", "momentum": 0.9, "nesterov": True}, lambda rows, at: momentum(rows, at, True)),
    "adagrad": ({"name": "adagrad"}, adagrad),
    "rmsprop": ({"name": "rmsprop"}, rmsprop),
    "adam": ({"name": "adam"}, adam),
    "adamw": ({"name": "adamw", "weight_decay": 0.2}, lambda rows, at: adam(rows, at, 0.2)),
    "yogi": ({"name": "yogi"}, yogi),
    "adam uncorrected": ({"name": "adam", "bias_correction": False}, uncorrected),
    "adamw uncorrected": (
        {"name": "adamw", "weight_decay": 0.2, "bias_correction": False},
        lambda rows, at: uncorrected(rows, at, 0.2),
    ),
    "FedAdam": (
        {"name": "adam", "bias_correction": False, "b2": 0.99, "eps": 1e-3, "second_moment": 1e-6},
        lambda rows, at: uncorrected(rows, at, b2=0.99, eps=1e-3, second=1e-6),
    ),
    "FedYogi": (
        {**FEDERATED_YOGI, "second_moment": 1e-6},
        lambda rows, at: uncorrected(rows, at, b2=0.99, eps=1e-3, second=1e-6, additive=True),
    ),
    "FedYogi from another square": (
        {**FEDERATED_YOGI, "second_moment": 0.5},
        lambda rows, at: uncorrected(rows, at, b2=0.99, eps=1e-3, second=0.5, additive=True),
    ),
}


@pytest.mark.parametrize("name", by_day(("momentum", "adamw", "FedYogi"), OPTIMIZERS))
def test_an_optimizer_moves_the_model_as_its_paper_says(name):
    described, expected = OPTIMIZERS[name]
    first, *_, last = applied(ROWS, optimizer={**described, "learning_rate": 0.1})
    np.testing.assert_allclose(last, expected(ROWS, first), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_correction_or_another_start_of_the_moments_shows_in_the_first_update():
    """The variant in circulation of Yogi differs: in the first update by ten times and more without the correction."""
    first = [
        applied(ROWS[:1], optimizer={"learning_rate": 0.1, **described})[1]
        for described in (
            {"name": "yogi"},
            {"name": "yogi", "first_moment": 0.0},
            {"name": "yogi", "second_moment": 0.5},
            {"name": "yogi", "bias_correction": False},
            {"name": "adam"},
            {"name": "adam", "bias_correction": False},
        )
    ]
    for i, one in enumerate(first):
        for other in first[:i]:
            assert np.abs(one - other).max() > 1e-6


def test_a_model_longer_than_max_norm_is_projected_and_a_shorter_one_left_alone():
    plain, held = (applied(ROWS, **({"regularisation": {"max_norm": norm}} if norm else {})) for norm in (None, 3.4))
    lengths = [np.linalg.norm(each) for each in plain]
    # the bound stands between the first model and the last
    assert lengths[0] < 3.4 < lengths[-1], lengths
    at = plain[0]
    for t in range(3):
        at = at - 0.1 * ROWS[t]
        at = at * min(1, 3.4 / np.linalg.norm(at))
        np.testing.assert_allclose(held[t + 1], at, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "clip",
    [
        by_night({}),
        by_night({"value": 0.05}),
        by_night({"norm": 0.3}),
        {"value": 0.05, "norm": 0.3},
        by_night({"norm": 1e6}),
    ],
)
def test_penalties_are_in_the_gradient_and_clipping_by_value_is_before_that_by_norm(clip):
    plain = {"regularisation": {"l1": 0.03, "l2": 0.5}}
    _, core, here, server = prepared(**plain, **({"clipping": clip} if clip else {}))
    params = np.asarray(server.params, np.float64)
    expected = softmax_gradient(params, *batch_of(here, 3, 5, 8)) + 0.03 * np.sign(params) + 0.5 * params
    if "value" in clip:
        expected = np.clip(expected, -0.05, 0.05)
    if "norm" in clip:
        expected = expected * min(1, clip["norm"] / np.linalg.norm(expected))
    np.testing.assert_allclose(core.work(here, server.params, 3, 5, 5), expected, rtol=1e-4, atol=1e-6)
    _, bare, _, _ = prepared()
    assert np.array_equal(core.evaluate(here, server.params), bare.evaluate(here, server.params), equal_nan=True)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e25])
def test_clipping_keeps_the_direction_of_a_vector_of_any_size(size):
    vector = (size * np.array([3, -4])).astype(np.float32)
    np.testing.assert_allclose(clip_norm(vector, 1e-3), vector if size < 1 else [6e-4, -8e-4], rtol=1e-5)
    assert np.array_equal(clip_norm(np.zeros(3, np.float32), 1.0), np.zeros(3))


def test_a_gradient_that_is_not_finite_stays_so():
    assert np.isnan(clip_norm(np.array([np.nan, 1], np.float32), 1.0)).any()
    assert not np.isfinite(clip_norm(np.array([np.inf, 1], np.float32), 1.0)).all()


def local_batch(here, worker, job, number):
    key = jax.random.fold_in(derive(here.key, Purpose.WORK, worker, job), number)
    position = np.asarray(here.shards)[worker][np.asarray(jax.random.randint(key, (8,), 0, int(here.sizes[worker])))]
    return np.asarray(here.x, np.float64)[position].reshape(8, -1), np.asarray(here.y)[position]


def local_row(here, params, job, step):
    """The change by four steps at worker 3: `step(at, gradient, number)` gives the next parameters."""
    start = at = np.asarray(params, np.float64)
    for number in range(4):
        at = step(at, softmax_gradient(at, *local_batch(here, 3, job, number)), number)
    return start - at


def test_proximal_steps_are_drawn_towards_the_model_that_was_handed():
    _, core, here, server = prepared(local={"steps": 4, "learning_rate": 0.3, "proximal": 2.0})
    start = np.asarray(server.params, np.float64)
    expected = local_row(here, start, 5, lambda at, g, _: at - 0.3 * (g + 2.0 * (at - start)))
    np.testing.assert_allclose(core.work(here, server.params, 3, 5, 5), expected, rtol=1e-4, atol=1e-6)


def test_a_workers_rate_goes_by_the_model_it_was_handed_and_is_the_same_in_all_steps_of_a_job():
    speed = {"name": "step", "start": 0.4, "every": 2, "factor": 0.5}
    _, core, here, server = prepared(local={"steps": 4, "learning_rate": speed})
    for handed, now in ((1, 0.4), (2, 0.2), (5, 0.1)):
        expected = local_row(here, server.params, 1, lambda at, g, _, now=now: at - now * g)
        np.testing.assert_allclose(core.work(here, server.params, 3, 1, handed), expected, rtol=1e-4, atol=1e-6)


def test_an_optimizer_at_the_worker_begins_anew_with_every_job():
    described = {"name": "sgd", "momentum": 0.9, "learning_rate": {"name": "inverse_time", "start": 0.3, "half_at": 5}}
    _, core, here, server = prepared(local={"steps": 4, "optimizer": described})
    for job in (0, 5):
        velocity = np.zeros(650)

        def step(at, gradient, number, velocity=velocity, job=job):
            velocity *= 0.9
            velocity += gradient
            return at - 0.3 * 5 / (job + 5) * velocity

        expected = local_row(here, server.params, job, step)
        np.testing.assert_allclose(core.work(here, server.params, 3, job, job), expected, rtol=1e-4, atol=1e-6)


def test_heavy_ball_momentum_adds_the_whole_gradient():
    _, core, here, _ = prepared(worker_momentum={"beta": 0.9, "kind": "heavy_ball"})
    memory, velocity = core.memory.start(here, 650), 0.0
    for row in ROWS:
        memory, sent = core.memory.remember(here, memory, row.astype(np.float32), 2, 0)
        velocity = 0.9 * velocity + row
        np.testing.assert_allclose(sent, velocity, rtol=1e-5, atol=1e-6)


# --- variance reduction -----------------------------------------------------------------------------------------------


def saga_batches(here, worker, size=8):
    """A worker's fixed batches: its samples dealt out in turn, so that some have one more than others."""
    held = int(here.sizes[worker])
    count = -(-held // size)
    return [np.asarray(here.shards)[worker][j:held:count] for j in range(count)]


def test_saga_sends_a_gradient_less_the_last_one_of_its_batch_plus_the_mean_of_the_last_ones():
    _, core, here, server = prepared(variance_reduction="saga", workers={"total": 20, "byzantine": 1})
    worker, x, y = 3, np.asarray(here.x, np.float64), np.asarray(here.y)
    batches = saga_batches(here, worker)
    held = int(here.sizes[worker])
    assert sorted(np.concatenate(batches)) == sorted(np.asarray(here.shards)[worker][:held])
    assert len({len(batch) for batch in batches}) == 2
    memory, table, drawn = core.memory.start(here, 650), np.zeros((len(batches), 650)), []
    # a job that is left out counts for nothing
    for job in (0, 1, 3, *range(5, 60)):
        params = np.asarray(server.params) * (1 + job / 10)
        row = np.asarray(core.work(here, params, worker, job, job), np.float64)
        # every sample counts alike in the mean over the batches
        gradients = [
            softmax_gradient(params.astype(np.float64), x[b].reshape(len(b), -1), y[b]) * len(b) * len(batches) / held
            for b in batches
        ]
        batch = int(np.argmin([np.abs(row - each).max() for each in gradients]))
        np.testing.assert_allclose(row, gradients[batch], rtol=1e-3, atol=1e-5)
        drawn.append(batch)
        expected = gradients[batch] - table[batch] + table.mean(0)
        table[batch] = gradients[batch]
        memory, sent = core.memory.remember(here, memory, row.astype(np.float32), worker, job)
        np.testing.assert_allclose(sent, expected, rtol=1e-3, atol=1e-4)
    assert set(drawn) == set(range(len(batches)))
    np.testing.assert_allclose(np.asarray(memory)[: len(batches)], table, rtol=1e-3, atol=1e-5)


def test_saga_has_no_variance_left_once_every_batch_was_seen_at_one_model():
    _, core, here, server = prepared(variance_reduction="saga", workers={"total": 20, "byzantine": 1})
    memory, sent = core.memory.start(here, 650), []
    for job in range(60):
        memory, row = core.memory.remember(here, memory, core.work(here, server.params, 3, job, job), 3, job)
        sent.append(np.asarray(row))
    np.testing.assert_allclose(sent[-1], sent[-2], rtol=1e-3, atol=1e-5)
    assert np.abs(sent[0] - sent[-1]).max() > 1e-2
    plain = [np.asarray(core.work(here, server.params, 3, job, job)) for job in range(60)]
    assert np.abs(plain[-1] - plain[-2]).max() > 1e-2 or np.abs(plain[-2] - plain[-3]).max() > 1e-2


@pytest.mark.slow
def test_momentum_goes_over_what_saga_sends():
    _, core, here, server = prepared(variance_reduction="saga", worker_momentum=0.5)
    _, alone, _, _ = prepared(variance_reduction="saga")
    both, one, velocity = core.memory.start(here, 650), alone.memory.start(here, 650), 0.0
    for job in range(3):
        row = core.work(here, server.params, 2, job, job)
        both, sent = core.memory.remember(here, both, row, 2, job)
        one, reduced = alone.memory.remember(here, one, row, 2, job)
        velocity = 0.5 * velocity + 0.5 * np.asarray(reduced, np.float64)
        np.testing.assert_allclose(sent, velocity, rtol=1e-5, atol=1e-7)


def test_control_variates_are_those_of_scaffold_over_several_updates():
    changes = {
        "local": {"steps": 4, "learning_rate": 0.3, "control_variates": True}, "attack": "none",
        "optimizer": {"name": "sgd", "learning_rate": 0.5}, "evaluate_every": 1, "steps": 3,
        "workers": {"total": 7, "byzantine": 0},
    }  # fmt: skip
    scenario = small(**changes)
    here, checkpoints = world(scenario.run), run(scenario)
    at = checkpoints[0].params.astype(np.float64)
    own, common = np.zeros((7, 650)), np.zeros(650)
    for update in range(3):
        deltas, after = np.zeros((7, 650)), np.zeros((7, 650))
        for worker in range(7):
            y = at.copy()
            for number in range(4):
                gradient = softmax_gradient(y, *local_batch(here, worker, update, number))
                y = y - 0.3 * (gradient - own[worker] + common)
            deltas[worker] = at - y
            after[worker] = own[worker] - common + (at - y) / (4 * 0.3)
        # the paper's server: the mean of the models, and of what the variates have changed by
        at, common, own = at - 0.5 * deltas.mean(0), common + (after - own).mean(0), after
        np.testing.assert_allclose(checkpoints[update + 1].params, at, rtol=1e-3, atol=1e-5)


def test_control_variates_are_refused_where_they_would_not_be_read_right():
    said = "local.control_variates: needs local.steps; and optimizer sgd without momentum .*; and clock virtual"
    changes = {"optimizer": "adam", "clock": "wall", "executor": "ray"}
    with pytest.raises(ValueError, match=said):
        small(local={"epochs": 1, "control_variates": True}, **changes)
    small(local={"epochs": 1}, **changes)


CONTROLLED = {"local": {"steps": 2, "control_variates": True}, "optimizer": {"name": "sgd", "learning_rate": 0.1}}


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "asynchronous"},
        {"schedule": {"name": "synchronous", "quorum": 6}},
        {"latency": {"name": "constant", "loss": 0.1}},
        {"latency": {"name": "constant", "crashes": [{"worker": 1, "at": 1}]}},
        {"attack": {"name": "sign_flip", "timing": "first"}},
    ],
)
def test_control_variates_need_a_row_of_every_worker_in_every_update(changes):
    with pytest.raises(Impossible, match=r"^local\.control_variates: needs a row of every worker"):
        check_parts(small(**CONTROLLED | changes).run)


def test_control_variates_ask_the_schedule_whether_all_workers_are_waited_for():
    assert check_parts(small(**CONTROLLED, schedule={"name": "synchronous", "quorum": 7}).run).together


# --- on the whole -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_adam_at_the_server_takes_the_workers_mean_change_for_a_gradient():
    scenario = small(
        local={"steps": 2, "learning_rate": 0.1}, attack="none", optimizer={"name": "adam", "learning_rate": 0.1}
    )
    core, here = build(scenario.run, 7), world(scenario.run)
    server = core.start(here)
    rows = np.stack([core.work(here, server.params, worker, 0, 0) for worker in range(7)])
    after, _, _ = core.update(here, server, Arrivals(np.arange(7), np.zeros(7, int)), rows)
    # the first step of Adam is the sign of the gradient
    moved = (np.asarray(server.params) - np.asarray(after.params)) / 0.1
    mean = rows.mean(0)
    np.testing.assert_allclose(moved, mean / (np.abs(mean) + 1e-8), rtol=1e-2, atol=1e-3)


def test_scenarios_whose_rates_stay_share_compiled_code_whatever_their_length():
    one, other = build(small(steps=5).run, 7), build(small(steps=9).run, 7)
    assert one.work is other.work
    assert one.update is other.update
    falling = {"optimizer": {"name": "sgd", "learning_rate": {"name": "cosine"}}}
    assert build(small(steps=5, **falling).run, 7).update is not build(small(steps=9, **falling).run, 7).update


def test_a_rate_that_falls_to_nothing_ends_where_it_comes_to():
    speed = {"name": "linear", "start": 0.5, "final": 0.0, "steps": 2}
    checkpoints = run(small(steps=5, evaluate_every=1, optimizer={"name": "sgd", "learning_rate": speed}))
    assert not np.array_equal(checkpoints[1].params, checkpoints[2].params)
    assert np.array_equal(checkpoints[2].params, checkpoints[5].params)
