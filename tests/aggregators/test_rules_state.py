"""Rules with a memory: what an update leaves to the next."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from rules_table import attacked
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics.pairwise import cosine_similarity

import aggregators

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


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_centered_clipping_stays_where_it_is_if_every_row_is_there_or_nowhere(options):
    rule = aggregators.build("centered_clipping", N, F, **options)
    state = np.arange(D, dtype=np.float32)
    rows = np.tile(state, (N, 1))
    np.testing.assert_array_equal(rule.apply(rows, state)[0], state)
    np.testing.assert_array_equal(rule.apply(np.full_like(rows, np.nan), state)[0], state)


@pytest.mark.parametrize("history", [1, 3, 1000])
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
def test_the_norms_of_liars_do_not_outlive_their_share_of_the_history(bad):
    """With f of n rows so in every update the median stays among the norms of honest rows."""
    rule = aggregators.build("clipped_clustering", N, F)
    state, honest = rule.init(D), []
    for rows in UPDATES:
        liars = rows.copy()
        liars[:F] = bad
        honest += np.linalg.norm(rows[F:], axis=1).tolist()
        aggregate, state, _ = rule.apply(liars, state)
        assert np.linalg.norm(aggregate) <= np.sort(honest)[int(0.75 * len(honest))]
    after, _, _ = rule.apply(UPDATES[0], state)
    if not np.isfinite(bad):
        expected = oracles.clipped_clustering(UPDATES[0], F, past=honest)
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(after).max() > 0.01


@pytest.mark.parametrize("n", [5, 6, 12, 25])
def test_the_clusters_are_those_of_scikit_learn(n):
    rule = aggregators.build("clipped_clustering", n, 2)
    for rows in attacked(20, n, D, 2, seed=n):
        weights = np.asarray(rule.apply(rows, rule.init(D))[2].weights)
        cosines = np.clip(1 - cosine_similarity(rows.astype(np.float64)), 0, None)
        labels = AgglomerativeClustering(2, metric="precomputed", linkage="average").fit(cosines).labels_
        taken = labels == labels[weights.argmax()]
        np.testing.assert_array_equal(weights > 0, taken)
        assert 2 * taken.sum() >= n


@pytest.mark.parametrize("name", ["centered_clipping", "clipped_clustering"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
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
