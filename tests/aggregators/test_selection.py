"""Order statistics of many rows without sorting: those of NumPy, to the last bit, whatever the numbers are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byzax.aggregators.kernels import selection
from byzax.aggregators.kernels.selection import FEW, mean_between_ranks, select_ranks
from tests.nightly import by_day, by_night

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45, 3e38, -3e38, 1.0, np.nextafter(np.float32(1), 2)])

SCENES = {
    "normal": lambda rng, n, d: rng.normal(size=(n, d)),
    "equal rows": lambda rng, n, d: rng.normal(size=(n, d)) * (np.arange(n) >= n // 2)[:, None] + 0.1,
    "few values": lambda rng, n, d: rng.integers(-2, 3, size=(n, d)),
    "all sizes": lambda rng, n, d: rng.choice([-1, 1], (n, d)) * 10.0 ** rng.uniform(-40, 38, (n, d)),
    "one of the last bits": lambda rng, n, d: 1 + rng.integers(0, 9, size=(n, d)) * 2.0**-23,
    "special": lambda rng, n, d: rng.choice(SPECIAL, (n, d)),
    "NaN": lambda rng, n, d: np.where(rng.random((n, d)) < 0.3, np.nan, rng.normal(size=(n, d))),
}


def rows_of(scene, n, d, dtype=np.float32, seed=0):
    with np.errstate(all="ignore"):
        return SCENES[scene](np.random.default_rng(seed), n, d).astype(dtype)


def ordered(rows):
    return np.sort(np.where(np.isnan(rows), np.inf, rows), axis=0)


# a block of columns and a part of the next one
@pytest.mark.parametrize(
    "d", by_day([selection.BLOCK + 3], (1, selection.BLOCK, selection.BLOCK + 3, 3 * selection.BLOCK))
)
@pytest.mark.parametrize("scene", SCENES)
def test_chosen_ranks_are_those_of_sorted_columns(scene, d):
    rows = rows_of(scene, 131, d)
    for ranks in ([0, 130], [65], [64, 65], [7, 8, 9, 120]):
        np.testing.assert_array_equal(select_ranks(jnp.asarray(rows), tuple(ranks)), ordered(rows)[ranks])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(width=32), min_size=2, max_size=40), st.data())
def test_chosen_ranks_of_any_floats_are_those_of_sorted_columns(values, data):
    rows, rank = np.array(values, np.float32)[:, None], data.draw(st.integers(0, len(values) - 1))
    np.testing.assert_array_equal(select_ranks(jnp.asarray(rows), (rank,))[0], ordered(rows)[rank])


@pytest.mark.parametrize("scene", SCENES)
def test_numbers_of_64_bits_are_told_apart_by_their_last_one(scene):
    with jax.enable_x64(True):
        rows = rows_of(scene, 99, 9, np.float64)
        rows[3:60] *= 1 + np.arange(57)[:, None] * 2.0**-52
        np.testing.assert_array_equal(select_ranks(jnp.asarray(rows), (48, 49)), ordered(rows)[[48, 49]])


@pytest.mark.parametrize("n", [pytest.param(2**15 - 1, id="short"), by_night(2**15 + 7)])
def test_more_rows_than_a_short_number_counts_are_counted(n):
    rows = rows_of("normal", n, 3)
    rows[: n // 2 + 5] = 0.25
    np.testing.assert_array_equal(select_ranks(jnp.asarray(rows), (n // 2, n - 1)), ordered(rows)[[n // 2, n - 1]])


@pytest.mark.parametrize("low", [0, 30, 64])
@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene not in ("special", "NaN", "all sizes")])
def test_means_between_ranks_are_those_of_sorted_columns(scene, low):
    rows = rows_of(scene, 131, selection.BLOCK + 3)
    expected = ordered(rows).astype(np.float64)[low : 131 - low].mean(axis=0)
    np.testing.assert_allclose(mean_between_ranks(jnp.asarray(rows), low, 131 - low), expected, rtol=1e-6, atol=1e-6)


def test_what_lies_outside_of_a_mean_is_never_added_and_large_values_do_not_overflow():
    rows = np.full((101, 4), 3e38, np.float32)
    rows[:10], rows[10:20] = -np.inf, np.nan
    np.testing.assert_allclose(mean_between_ranks(jnp.asarray(rows), 10, 91), rows[-1], rtol=1e-6)
    # one more of what is infinite
    assert np.isneginf(mean_between_ranks(jnp.asarray(rows), 9, 91)).all()
    assert np.isposinf(mean_between_ranks(jnp.asarray(rows), 10, 92)).all()


def test_slopes_are_those_of_the_rows_that_values_came_from():
    rows, weights = rows_of("normal", 101, 7), np.arange(1.0, 8, dtype=np.float32)
    order = np.argsort(rows, axis=0)
    expected = np.zeros_like(rows)
    np.put_along_axis(expected, order[40:41], weights[None], axis=0)
    np.testing.assert_array_equal(jax.grad(lambda rows: select_ranks(rows, (40,))[0] @ weights)(rows), expected)
    expected = np.zeros_like(rows)
    np.put_along_axis(expected, order[20:81], weights[None] / 61, axis=0)
    found = jax.grad(lambda rows: mean_between_ranks(rows, 20, 81) @ weights)(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_columns_in_blocks_and_all_at_once_are_the_same(monkeypatch, backend):
    rows = rows_of("few values", 131, 2 * selection.BLOCK + 5)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    np.testing.assert_array_equal(select_ranks(jnp.asarray(rows), (17, 65)), ordered(rows)[[17, 65]])


@pytest.mark.parametrize("different", [1, FEW - 1, FEW, FEW + 1, 150])
def test_values_that_share_their_upper_bits_are_told_apart_however_many_they_are(different):
    rng = np.random.default_rng(different)
    # 1 + k / 2^23: the upper halves of their keys are equal
    rows = (1 + rng.integers(0, different, size=(150, 40)) / 2**23).astype(np.float32)
    rows[:, 20:] *= rng.choice([-1, 1, 3], size=(150, 20))
    ranks = (0, 5, 74, 75, 149)
    np.testing.assert_array_equal(select_ranks(jnp.asarray(rows), ranks), ordered(rows)[list(ranks)])
    expected = ordered(rows)[30:120].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(mean_between_ranks(jnp.asarray(rows), 30, 120), expected, rtol=1e-6, atol=1e-6)
