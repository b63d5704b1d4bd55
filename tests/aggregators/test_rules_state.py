"""Rules with a memory: what an update leaves to the next."""

from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from rules_table import attacked
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics.pairwise import cosine_similarity

from byzax import aggregators
from tests.nightly import by_day, by_night

N, F, D = 9, 2, 4
UPDATES = attacked(12, N, D, F, seed=5)
OPTIONS = [{}, {"tau": 0.7}, {"tau": 2.0, "iterations": 3}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_centered_clipping_starts_where_it_ended_and_moves_by_no_more_than_tau_in_each_iteration(options):
    rule = aggregators.build("centered_clipping", N, F, **options)
    state, last = rule.init(D), np.zeros(D)
    for rows in UPDATES:
        aggregate, state, _ = rule.apply(rows, state)
        expected = oracles.centered_clipping(rows, F, **options, last=last)
        np.testing.assert_allclose(aggregate, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(state, aggregate)
        if "tau" in options:
            moved = np.linalg.norm(np.asarray(aggregate) - last)
            assert moved <= options["tau"] * options.get("iterations", 1) + 1e-4
        last = np.asarray(aggregate, np.float64)


@pytest.mark.parametrize("memory", [True, by_night(False)])
@pytest.mark.parametrize("start", [by_night("median"), "mean", (1.0, -2.0, 0.5, 3.0)], ids=str)
def test_centered_clipping_starts_where_it_is_told_and_keeps_where_it_ended_or_not(start, memory):
    rule = aggregators.build("centered_clipping", N, F, tau=0.7, iterations=2, start=start, memory=memory)
    state, last = rule.init(D), None
    for rows in UPDATES:
        aggregate, state, _ = rule.apply(rows, state)
        told = start if isinstance(start, tuple) else {"median": np.median, "mean": np.mean}[start](rows, axis=0)
        begun = np.array(told, np.float64) if last is None or not memory else last
        expected = oracles.centered_clipping(rows, F, tau=0.7, iterations=2, last=begun)
        np.testing.assert_allclose(aggregate, expected, rtol=1e-4, atol=1e-4)
        last = np.asarray(aggregate, np.float64)
    # rows that are not finite have no place: the start is among the others, or 0
    everything = np.full((N, D), np.nan, np.float32)
    found = rule.apply(everything, rule.init(D))[0]
    np.testing.assert_array_equal(found, start if isinstance(start, tuple) else np.zeros(D))
    with (
        pytest.raises(ValueError, match=r"centered_clipping: start must have d=5 numbers, got 4")
        if isinstance(start, tuple)
        else nullcontext()
    ):
        rule.init(D + 1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_centered_clipping_stays_where_it_is_if_every_row_is_there_or_nowhere(options):
    rule = aggregators.build("centered_clipping", N, F, **options)
    state = np.arange(D, dtype=np.float32)
    rows = np.tile(state, (N, 1))
    np.testing.assert_array_equal(rule.apply(rows, state)[0], state)
    np.testing.assert_array_equal(rule.apply(np.full_like(rows, np.nan), state)[0], state)


@pytest.mark.parametrize("history", by_day([3], (1, 3, 1000)))
def test_clipped_clustering_clips_to_the_median_of_the_norms_of_so_many_updates(history):
    rule = aggregators.build("clipped_clustering", N, F, history=history)
    state, past = rule.init(D), []
    for rows in UPDATES:
        aggregate, state, _ = rule.apply(rows, state)
        kept = past[max(0, len(past) - (history - 1)) :] if history > 1 else []
        expected = oracles.clipped_clustering(rows, F, past=np.ravel(kept))
        np.testing.assert_allclose(aggregate, expected, rtol=1e-4, atol=1e-4)
        past.append(np.linalg.norm(rows.astype(np.float64), axis=1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30, 0])
def test_the_norms_of_byzantine_rows_do_not_outlive_their_share_of_the_history(bad):
    """With f of n rows so in every update the median stays among the norms of honest rows."""
    rule = aggregators.build("clipped_clustering", N, F)
    state, honest = rule.init(D), []
    for rows in UPDATES:
        attacked_rows = rows.copy()
        attacked_rows[:F] = bad
        honest += np.linalg.norm(rows[F:], axis=1).tolist()
        aggregate, state, _ = rule.apply(attacked_rows, state)
        assert np.linalg.norm(aggregate) <= np.sort(honest)[int(0.75 * len(honest))]
    after, _, _ = rule.apply(UPDATES[0], state)
    if not np.isfinite(bad):
        expected = oracles.clipped_clustering(UPDATES[0], F, past=honest)
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(after).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("n", [6, 25])
def test_the_clusters_are_those_of_scikit_learn(n):
    rule = aggregators.build("clipped_clustering", n, 2)
    for rows in attacked(20, n, D, 2, seed=n):
        weights = np.asarray(rule.apply(rows, rule.init(D))[2].weights)
        cosines = np.clip(1 - cosine_similarity(rows.astype(np.float64)), 0, None)
        labels = AgglomerativeClustering(2, metric="precomputed", linkage="average").fit(cosines).labels_
        taken = labels == labels[weights.argmax()]
        np.testing.assert_array_equal(weights > 0, taken)
        assert 2 * taken.sum() >= n


@pytest.mark.parametrize(
    ("kappa", "output"),
    [
        (3.0, "mean"),
        *(by_night(*case) for case in ((0.5, "sum"), (0.5, "mean"), (1.0, "sum"), (1.0, "mean"), (3.0, "sum"))),
    ],
)
def test_foolsgold_compares_what_the_workers_sent_so_far(kappa, output):
    rule = aggregators.build("foolsgold", N, F, kappa=kappa, output=output)
    state, past = rule.init(D), np.zeros((N, D))
    for rows in UPDATES:
        aggregate, state, info = rule.apply(rows, state)
        expected = oracles.foolsgold(rows, F, past=past, kappa=kappa, divide=output == "mean")
        np.testing.assert_allclose(aggregate, expected, rtol=1e-3, atol=1e-3)
        assert info.weights.sum() == pytest.approx(1, abs=1e-5)
        past += rows
        np.testing.assert_allclose(state, past, rtol=1e-5, atol=1e-5)
    # rows are known by their place
    assert not np.allclose(rule.apply(UPDATES[0][::-1], state)[0], rule.apply(UPDATES[0], state)[0], rtol=1e-2)


@pytest.mark.slow
def test_foolsgold_takes_the_weight_of_any_number_of_sybils_and_leaves_that_of_workers_with_data_of_their_own():
    rng = np.random.default_rng(1)
    own, goal = 4 * np.eye(3, 12), rng.normal(size=12)
    rule = aggregators.build("foolsgold", N, 6)
    state = rule.init(12)
    for _ in range(10):
        honest, sybils = own + 0.3 * rng.normal(size=(3, 12)), goal + 0.01 * rng.normal(size=(6, 12))
        aggregate, state, info = rule.apply(np.concatenate([sybils, honest]).astype(np.float32), state)
    np.testing.assert_allclose(info.weights, [0] * 6 + [1 / 3] * 3, atol=1e-6)
    np.testing.assert_allclose(aggregate, honest.sum(axis=0), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, np.finfo(np.float32).max])
def test_a_bad_row_costs_foolsgold_its_worker_one_update_and_the_others_none(bad):
    rule = aggregators.build("foolsgold", N, F)
    _, state, _ = rule.apply(UPDATES[0], rule.init(D))
    rows = UPDATES[1].copy()
    rows[3] = bad
    if np.isfinite(bad):  # two of them are beyond the range
        _, state, _ = rule.apply(rows, state)
    else:
        aggregate, _, info = rule.apply(rows, state)
        assert info.weights[3] == 0
        assert np.isfinite(aggregate).all()
    _, after, _ = rule.apply(rows, state)
    np.testing.assert_array_equal(after[3], state[3])
    np.testing.assert_array_equal(np.delete(after, 3, axis=0), np.delete(state + rows, 3, axis=0))
    _, _, info = rule.apply(UPDATES[2], after)
    assert np.isfinite(info.weights).all()


@pytest.mark.slow
def test_workers_that_are_nearly_alike_are_weighted_by_how_far_they_are_from_it():
    """Their cosines are 1 in float32."""
    rows = (np.ones((N, D)) + 3e-5 * np.random.default_rng(2).normal(size=(N, D))).astype(np.float32)
    rule = aggregators.build("foolsgold", N, F, output="mean")
    weights = np.asarray(rule.apply(rows, rule.init(D))[2].weights)
    exact = rows.astype(np.float64)
    units = exact / np.linalg.norm(exact, axis=1)[:, None]
    apart = ((units[:, None] - units[None]) ** 2).sum(axis=2) + 9 * np.eye(N)
    assert weights.argmax() == apart.min(axis=1).argmax()


@pytest.mark.parametrize(
    "name", by_day(["centered_clipping"], ("centered_clipping", "clipped_clustering", "foolsgold"))
)
@pytest.mark.parametrize("dtype", [jnp.float32, by_night(jnp.bfloat16)])
def test_a_loop_over_updates_keeps_the_type_of_the_state_and_compiles_once(name, dtype):
    rule = aggregators.build(name, N, F)
    updates = jnp.asarray(UPDATES, dtype)
    state, one_by_one, compiled = rule.init(D), [], []
    listener = lambda event, duration, **_: compiled.append(event)  # noqa: E731
    for count, rows in enumerate(updates):
        if count == 1:
            jax.monitoring.register_event_duration_secs_listener(listener)
        aggregate, state, _ = rule.apply(np.asarray(rows), state)
        one_by_one.append(np.asarray(aggregate))
    jax.monitoring.unregister_event_duration_listener(listener)
    assert not [event for event in compiled if "compile" in event]
    assert state.dtype == jnp.float32
    assert aggregate.dtype == dtype

    def step(state, rows):
        aggregate, state, _ = rule.apply(rows, state)
        return state, aggregate

    _, scanned = jax.lax.scan(step, rule.init(D), updates)
    np.testing.assert_allclose(np.float32(scanned), np.float32(one_by_one), rtol=1e-2 if dtype != jnp.float32 else 1e-5)


def test_a_state_of_another_model_is_refused_with_what_came():
    rule = aggregators.build("centered_clipping", N, F)
    with pytest.raises(ValueError, match=r"state must be what init\(d=4\) or the last update gave"):
        rule.apply(UPDATES[0], ())
    with pytest.raises(ValueError, match="state must be"):
        rule.apply(UPDATES[0], rule.init(D + 1))
