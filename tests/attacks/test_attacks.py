"""The promises of every attack, and each formula against NumPy in float64."""

import inspect
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import MASKS, D, F, N, example, forged, honest_statistics, view_of

from byzax import aggregators, attacks
from byzax.attacks import Batch
from byzax.attacks.little import default_z
from byzax.options import OptionError, PartError
from tests.nightly import by_day

FOLDER = Path(inspect.getfile(attacks)).parent
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem[0] != "_" and file.stem != "base")
FORGING = [name for name in SHIPPED if attacks.build(name, N, F).forge]
# by day where each attack compiles as a whole: of each kind one that compiles fast
CHEAP = {"constant", "empire", "hijack", "little", "sign_flip", "stale_replay"}


# -- oracles: the Byzantine rows [f, d], straight from the formulas, in float64 --------------------------------


def hijacked(target, scale=1.0):
    def oracle(rows, byzantine):
        mean, _ = honest_statistics(rows, byzantine)
        goal = {"reverse": -scale * mean, "zero": 0 * mean, "constant": scale + 0 * mean}[target]
        out = rows[byzantine].astype(np.float64)
        out[0] = len(rows) * goal - (rows.astype(np.float64).sum(axis=0) - out[0])
        return out

    return oracle


def at(z):
    def oracle(rows, byzantine):
        mean, deviation = honest_statistics(rows, byzantine)
        return np.tile(mean + z * deviation, (byzantine.sum(), 1))

    return oracle


def with_ddof(z, ddof):
    def oracle(rows, byzantine):
        honest = rows[~byzantine].astype(np.float64)
        return np.tile(honest.mean(axis=0) + z * honest.std(axis=0, ddof=ddof), (byzantine.sum(), 1))

    return oracle


def times_mean(factor):
    return lambda rows, byzantine: np.tile(factor * honest_statistics(rows, byzantine)[0], (byzantine.sum(), 1))


def direction(kind, rows, byzantine):
    mean, deviation = honest_statistics(rows, byzantine)
    return {"unit": -mean / np.sqrt(mean @ mean), "sign": -np.sign(mean), "std": -deviation}[kind]


def bisected(fits, mean, towards):
    """The farthest point of a ray that still fits, to the last bit of its length."""
    low, high = 0.0, 1.0
    while fits(mean + high * towards):
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(mean + middle * towards) else (low, middle)
    return mean + low * towards


def min_max(kind):
    def oracle(rows, byzantine):
        honest = rows[~byzantine].astype(np.float64)
        widest = max(np.linalg.norm(x - y) for x in honest for y in honest)
        fits = lambda z: max(np.linalg.norm(z - x) for x in honest) <= widest  # noqa: E731
        return np.tile(bisected(fits, honest.mean(axis=0), direction(kind, rows, byzantine)), (byzantine.sum(), 1))

    return oracle


def min_sum(kind, measure=max):
    def oracle(rows, byzantine):
        honest = rows[~byzantine].astype(np.float64)
        most = measure(sum(((x - y) ** 2).sum() for y in honest) for x in honest)
        fits = lambda z: sum(((z - x) ** 2).sum() for x in honest) <= most  # noqa: E731
        return np.tile(bisected(fits, honest.mean(axis=0), direction(kind, rows, byzantine)), (byzantine.sum(), 1))

    return oracle


def orthogonal_to_the_mean(location, angle, z=None):
    """rop before there was an aggregate: seen from the mean, relocated to 0; z of little for (9, 3)."""

    def oracle(rows, byzantine):
        mean, _ = honest_statistics(rows, byzantine)
        towards = mean / np.linalg.norm(mean)
        aside = np.ones(len(mean)) - towards.sum() * towards
        aside /= np.linalg.norm(aside)
        turned = np.sin(np.deg2rad(angle)) * aside + np.cos(np.deg2rad(angle)) * towards
        return np.tile((1 - location) * mean + (0.4307273 if z is None else z) * turned, (byzantine.sum(), 1))

    return oracle


def as_long_as_kept(cut):
    """The longest Byzantine rows that no cut of the longest takes away, by trying lengths in small steps from above."""

    def oracle(rows, byzantine):
        mean, _ = honest_statistics(rows, byzantine)
        norms = np.linalg.norm(rows[~byzantine].astype(np.float64), axis=1)
        for size in np.linspace(norms.max(), 0, 400_001):
            # a Byzantine row is kept where fewer than n - cut - (f - 1) honest rows are shorter
            if (norms <= size).sum() + F <= N - cut:
                return np.tile(-size * mean / np.linalg.norm(mean), (F, 1))
        return None

    return oracle


# little for (9, 3): s = 4 + 1 - 3 = 2 supporters of 6 honest, Phi^-1(4/6) = 0.430727
ORACLES = [
    ("sign_flip", {}, lambda rows, byzantine: -rows[byzantine]),
    ("sign_flip", {"scale": 4.0}, lambda rows, byzantine: -4 * rows[byzantine]),
    ("empire", {}, times_mean(-1.1)),
    ("empire", {"epsilon": 0.25}, times_mean(-0.25)),
    ("little", {}, at(-0.4307273)),
    ("little", {"z": 1.5}, at(-1.5)),
    ("little", {"z": 1.5, "sign": "plus"}, at(1.5)),
    ("little", {"z": 1.5, "ddof": 1}, with_ddof(-1.5, 1)),
    ("hijack", {}, hijacked("reverse")),
    ("hijack", {"target": "reverse", "scale": 5.0}, hijacked("reverse", 5)),
    ("hijack", {"target": "zero"}, hijacked("zero")),
    ("hijack", {"target": "constant", "scale": -2.0}, hijacked("constant", -2)),
    ("min_max", {}, min_max("std")),
    ("min_max", {"perturbation": "unit"}, min_max("unit")),
    ("min_max", {"perturbation": "sign"}, min_max("sign")),
    ("min_sum", {}, min_sum("std")),
    ("min_sum", {"perturbation": "unit"}, min_sum("unit")),
    ("min_sum", {"perturbation": "sign", "bound": "smallest"}, min_sum("sign", min)),
    ("reverse_gradient", {}, times_mean(-2.0 * (N - F))),
    ("reverse_gradient", {"scale": 0.5}, times_mean(-0.5 * (N - F))),
    ("scaled", {}, lambda rows, byzantine: 3 * rows[byzantine]),
    ("scaled", {"boost": 10.0}, lambda rows, byzantine: 10 * rows[byzantine]),
    # without a receiver among the rows: away from its model, which is 0
    ("dissensus", {}, times_mean(-1.5 * (N - F) / F)),
    ("equivocate", {}, at(-1.5)),
    ("equivocate", {"gamma": 0.5, "perturbation": "sign"}, lambda rows, byzantine: at(0)(rows, byzantine) - 0.5),
    ("rop", {}, orthogonal_to_the_mean(1, 90)),
    ("rop", {"location": 0.25, "angle": 180.0, "z": 2.0}, orthogonal_to_the_mean(0.25, 180, 2.0)),
    ("rop", {"location": 0.0, "angle": 60.0}, orthogonal_to_the_mean(0, 60)),
    ("anti_cge", {}, as_long_as_kept(F)),
    ("anti_cge", {"cut": 1}, as_long_as_kept(1)),
    ("stale_replay", {}, lambda rows, byzantine: np.zeros((F, D))),
    ("zero", {}, lambda rows, byzantine: np.zeros((F, D))),
    ("constant", {}, lambda rows, byzantine: np.full((F, D), 100.0)),
    ("constant", {"value": -0.5}, lambda rows, byzantine: np.full((F, D), -0.5)),
    ("non_finite", {}, lambda rows, byzantine: np.full((F, D), np.nan)),
    ("non_finite", {"value": "inf"}, lambda rows, byzantine: np.full((F, D), np.inf)),
    ("non_finite", {"value": "-inf"}, lambda rows, byzantine: np.full((F, D), -np.inf)),
    ("non_finite", {"value": 1e30}, lambda rows, byzantine: np.full((F, D), 1e30)),
    ("non_finite", {"value": "mixed"}, lambda r, b: np.repeat([[np.nan], [np.inf], [-np.inf]], D, axis=1)),
]


@pytest.mark.parametrize("where", MASKS)
@pytest.mark.parametrize(("name", "options", "oracle"), ORACLES, ids=lambda part: "" if callable(part) else str(part))
def test_the_byzantine_rows_are_the_formula_and_the_others_are_untouched(name, options, oracle, where):
    rows, byzantine = example(MASKS[where])
    got = forged(name, rows, byzantine, **options)
    np.testing.assert_allclose(got[byzantine], oracle(rows, byzantine), rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(got[~byzantine], rows[~byzantine])


@pytest.mark.parametrize("epsilon", [0.1, 2.0])
def test_empire_of_models_reverses_the_mean_of_the_honest_models(epsilon):
    rows, byzantine = example(MASKS["scattered"])
    params = np.linspace(-3, 5, D, dtype=np.float32)
    got = forged("empire", rows, byzantine, changes={"params": params}, epsilon=epsilon, of="models")
    models = params - rows[~byzantine].astype(np.float64)
    np.testing.assert_allclose(params - got[byzantine], np.tile(-epsilon * models.mean(axis=0), (F, 1)), atol=2e-5)


def test_every_formula_has_an_oracle():
    random_or_empty = {
        "gaussian", "uniform", "random_model", "none", "silent", "label_flip", "feature_noise", "edge_case", "claims",
    }  # fmt: skip
    asking_the_rule = {"fang", "gradient_ascent", "hidden_vulnerability", "optimised", "spectral"}  # test_adaptive
    backdoors = {"backdoor", "distributed_backdoor", "neurotoxin"}  # test_backdoors
    elsewhere = random_or_empty | asking_the_rule | backdoors | {"mimic", "stale"}  # test_memory
    assert {name for name, _, _ in ORACLES} | elsewhere == set(SHIPPED)


def mutants():
    """The likely mistakes; each must differ from the right answer by far more than the tolerance above."""
    rows, byzantine = example(MASKS["scattered"])
    mean, deviation = honest_statistics(rows, byzantine)
    z, honest = -0.4307273, rows[~byzantine].astype(np.float64)
    yield "little with the wrong sign", "little", {}, mean - z * deviation
    yield "little with ddof 1", "little", {}, mean + z * honest.std(axis=0, ddof=1)
    yield "little with ddof 0", "little", {"ddof": 1}, mean + z * deviation
    # (n - s) / n instead of (n - f - s) / (n - f): Phi^-1(7/9)
    yield "little with z over all workers", "little", {}, mean - 0.7647097 * deviation
    yield "little with the variance", "little", {}, mean + z * deviation**2
    yield "little over all rows", "little", {}, rows.mean(axis=0) + z * rows.std(axis=0)
    yield "empire over all rows", "empire", {}, -1.1 * rows.mean(axis=0)
    yield "empire with the sum over n", "empire", {}, -1.1 * honest.sum(axis=0) / N
    yield "empire with the wrong sign", "empire", {}, 1.1 * mean
    yield "sign_flip of the mean", "sign_flip", {}, -mean
    far = np.linalg.norm(honest[:, None] - honest[None], axis=2)
    yield "min_max along the mean", "min_max", {}, min_max("unit")(rows, byzantine)[0]
    yield (
        "min_max up to the mean distance",
        "min_max",
        {},
        bisected(lambda z: np.linalg.norm(honest - z, axis=1).max() <= far.mean(), mean, -deviation),
    )
    yield (
        "min_max towards the gradient",
        "min_max",
        {},
        bisected(lambda z: np.linalg.norm(honest - z, axis=1).max() <= far.max(), mean, deviation),
    )
    yield "min_sum by the smallest sum", "min_sum", {}, min_sum("std", min)(rows, byzantine)[0]
    yield (
        "min_sum of plain distances",
        "min_sum",
        {},
        bisected(lambda z: np.linalg.norm(honest - z, axis=1).sum() <= far.sum(axis=1).max(), mean, -deviation),
    )
    yield "rop along the ones", "rop", {"location": 0.0}, mean + 0.4307273 / np.sqrt(D)
    yield (
        "rop with the length of the ones",
        "rop",
        {"location": 0.0},
        mean + 0.4307273 * (1 - mean * mean.sum() / (mean @ mean)),
    )
    yield (
        "anti_cge at the longest honest norm",
        "anti_cge",
        {},
        -mean / np.linalg.norm(mean) * np.linalg.norm(honest, axis=1).max(),
    )
    kept = np.sort(np.linalg.norm(honest, axis=1))
    # n - 2f = 3 honest rows are kept: the Byzantine rows may be as long as the fourth
    yield "anti_cge at the last kept honest norm", "anti_cge", {}, -mean / np.linalg.norm(mean) * kept[N - 2 * F - 1]
    yield "reverse_gradient of the mean", "reverse_gradient", {}, -2 * mean
    yield "scaled for the honest alone", "scaled", {}, (N - F) / F * rows[byzantine][0]
    yield "hijack for honest rows alone", "hijack", {"target": "zero"}, -honest.sum(axis=0)
    yield "hijack for n - f rows", "hijack", {}, (N - F) * -mean - (rows.sum(axis=0) - rows[byzantine][0])


@pytest.mark.parametrize(("name", "options", "wrong"), [pytest.param(*rest, id=what) for what, *rest in mutants()])
def test_the_known_wrong_variants_are_told_apart(name, options, wrong):
    rows, byzantine = example(MASKS["scattered"])
    first = forged(name, rows, byzantine, **options)[byzantine][0]
    assert np.abs(first - wrong).max() > 1e-2


def test_one_honest_row_alone_has_no_deviation_whatever_the_ddof():
    rows, byzantine = example(np.arange(N)[:-1])
    got = forged("little", rows, byzantine, f=N - 1, z=2.0, ddof=1)
    np.testing.assert_array_equal(got, np.tile(rows[-1], (N, 1)))
    with pytest.raises(ValueError, match="little: ddof must be 0 or 1, got 2"):
        forged("little", rows, byzantine, z=2.0, ddof=2)


@pytest.mark.parametrize(("name", "oracle"), [("min_max", min_max("std")), ("min_sum", min_sum("std"))])
def test_the_length_of_the_direction_moves_no_row_of_min_max_and_min_sum(name, oracle):
    """Codes differ in ddof; the largest gamma makes up for it."""
    rows, byzantine = example(MASKS["scattered"])
    honest = rows[~byzantine].astype(np.float64)
    mean, got = honest.mean(axis=0), forged(name, rows, byzantine)[byzantine][0]
    towards = -honest.std(axis=0, ddof=1)
    gamma = (got - mean) @ towards / (towards @ towards)
    np.testing.assert_allclose(got, mean + gamma * towards, rtol=1e-5)
    between = np.linalg.norm(honest[:, None] - honest[None], axis=2)

    def fits(gamma):
        far = np.linalg.norm(honest - mean - gamma * towards, axis=1)
        return far.max() <= between.max() if name == "min_max" else (far**2).sum() <= (between**2).sum(axis=1).max()

    assert fits(0.9999 * gamma)
    assert not fits(1.0001 * gamma)


@pytest.mark.parametrize("name", ["empire", "little", "hijack", "gaussian", "min_max", "min_sum", "reverse_gradient"])
def test_what_the_byzantine_workers_computed_does_not_enter_the_honest_statistics(name):
    options = {"gaussian": {"centre": "mean", "standard_deviation": 0.0}}.get(name, {})
    rows, byzantine = example([2], d=4)
    spoiled = np.where(byzantine[:, None], np.nan, rows)
    got = forged(name, spoiled, byzantine, f=1, **options)
    np.testing.assert_array_equal(got, forged(name, rows, byzantine, f=1, **options))
    assert np.isfinite(got).all()


@pytest.mark.parametrize("f", [1, 3, 8])
@pytest.mark.parametrize("target", ["reverse", "zero", "constant"])
def test_hijack_makes_the_plain_average_the_chosen_vector(target, f):
    rows, byzantine = example(np.arange(N)[-f:], d=50)
    mean, _ = honest_statistics(rows, byzantine)
    wanted = {"reverse": -7.0 * mean, "zero": 0 * mean, "constant": 7.0 + 0 * mean}[target]
    average = forged("hijack", rows, byzantine, f=f, target=target, scale=7.0).astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(average, wanted, atol=1e-5 * np.abs(rows).max())


@pytest.mark.parametrize("epsilon", [1.9, 2.1])
def test_empire_turns_the_average_exactly_when_epsilon_exceeds_honest_over_byzantine(epsilon):
    rows, byzantine = example(MASKS["scattered"])  # (n - f) / f = 2
    average = forged("empire", rows, byzantine, epsilon=epsilon).mean(axis=0)
    mean, _ = honest_statistics(rows, byzantine)
    assert (average @ mean < 0) == (epsilon > 2)


def test_gaussian_rows_have_the_stated_moments_and_are_different_draws():
    rows, byzantine = example(MASKS["scattered"], d=20_000)
    got = forged("gaussian", rows, byzantine)[byzantine]
    assert np.abs(got.mean(axis=1)).max() < 5 * 200 / math.sqrt(20_000)
    np.testing.assert_allclose(got.std(axis=1), 200, rtol=0.03)
    assert np.abs(np.corrcoef(got) - np.eye(F)).max() < 0.04
    assert not np.array_equal(got, forged("gaussian", rows, byzantine, seed=1)[byzantine])
    np.testing.assert_array_equal(got, forged("gaussian", rows, byzantine)[byzantine])
    centred = forged("gaussian", rows, byzantine, centre="mean")[byzantine]
    np.testing.assert_allclose(centred - got, np.tile(honest_statistics(rows, byzantine)[0], (F, 1)), atol=1e-3)


def test_random_models_have_the_stated_moments_whatever_the_receiver_has():
    rows, byzantine = example(MASKS["scattered"], d=20_000)
    params = np.linspace(-3, 3, 20_000).astype(np.float32)
    got = forged("random_model", rows, byzantine, changes={"params": params}, standard_deviation=2.0)[byzantine]
    # what is sent is a model, seen as the way to it
    models = params - got
    assert np.abs(models.mean(axis=1)).max() < 5 * 2 / math.sqrt(20_000)
    np.testing.assert_allclose(models.std(axis=1), 2, rtol=0.03)
    assert np.abs(np.corrcoef(models) - np.eye(F)).max() < 0.04
    elsewhere = forged("random_model", rows, byzantine, changes={"params": 0 * params}, standard_deviation=2.0)
    np.testing.assert_allclose(-elsewhere[byzantine], models, atol=1e-5)


def test_uniform_rows_fill_their_limits_and_are_different_draws():
    rows, byzantine = example(MASKS["scattered"], d=20_000)
    got = forged("uniform", rows, byzantine, low=2.0, high=5.0)[byzantine]
    assert got.min() >= 2
    assert got.max() <= 5
    np.testing.assert_allclose(got.mean(axis=1), 3.5, atol=0.05)
    np.testing.assert_allclose(got.std(axis=1), 3 / 12**0.5, rtol=0.03)
    assert np.abs(np.corrcoef(got) - np.eye(F)).max() < 0.04
    assert not np.array_equal(got, forged("uniform", rows, byzantine, seed=1, low=2.0, high=5.0)[byzantine])


@pytest.mark.parametrize("name", ["min_max", "min_sum"])
@pytest.mark.parametrize("kind", ["unit", "sign", "std"])
def test_rows_that_hide_among_equal_rows_are_these_rows(name, kind):
    """No honest row is away from another: nothing may be moved, and nothing is divided by 0."""
    rows, byzantine = example(MASKS["first"])
    for same in (rows[-1], 0 * rows[-1]):
        equal = np.where(byzantine[:, None], rows, same)
        np.testing.assert_allclose(
            forged(name, equal, byzantine, perturbation=kind)[byzantine], np.tile(same, (F, 1)), rtol=1e-6
        )


def test_reverse_gradient_reverses_the_average_with_one_byzantine_worker():
    rows, byzantine = example([4])
    mean, _ = honest_statistics(rows, byzantine)
    assert forged("reverse_gradient", rows, byzantine, f=1).mean(axis=0) @ mean < 0


# ALGORITHMS, section 2: z_max of the paper's formula
@pytest.mark.parametrize(
    ("n", "f", "z"),
    [
        (25, 5, 0.253),
        (25, 11, 1.068),
        (50, 24, 1.426),
        (51, 12, 0.361),
        (51, 24, 1.446),
        (20, 8, 0.674),
        (60, 12, 0.264),
    ],
)
def test_little_takes_the_papers_z(n, f, z):
    assert default_z(n, f) == pytest.approx(z, abs=6e-4)


@pytest.mark.parametrize("name", ["little", "rop"])
@pytest.mark.parametrize(("n", "f"), [(2, 1), (1, 1), (9, 5), (9, 9), (10, 6)])
def test_without_a_finite_default_z_one_has_to_be_given(name, n, f):
    with pytest.raises(
        OptionError, match=rf"^{name}: z must be given, such as z: 1.5.*f <= {n // 2}, got n={n}, f={f}"
    ):
        attacks.build(name, n, f)
    assert attacks.build(name, n, f, z=1.5).forge is not None


@pytest.mark.parametrize(("n", "f"), [(3, 1), (10, 5), (9, 4), (11, 0), (1, 0)])
def test_little_has_a_finite_z_up_to_half_of_the_workers(n, f):
    assert math.isfinite(default_z(n, f))


# -- what every attack promises --------------------------------


@pytest.mark.parametrize("name", by_day(set(FORGING) - {"fang", "gradient_ascent"}, FORGING))
def test_without_a_byzantine_row_nothing_changes(name):
    rows, nobody = example([])[0], np.zeros(N, bool)
    for f in (0, F):  # an attack that nobody carries out, and an update that no Byzantine worker is part of
        np.testing.assert_array_equal(forged(name, rows, nobody, f=f), rows)


@pytest.mark.parametrize("name", FORGING)
def test_with_byzantine_rows_only_nothing_fails(name):
    rows, everybody = example(np.arange(N))
    options = {"little": {"z": 1.0}, "rop": {"z": 1.0}, "gradient_ascent": {"start": "empire"}}.get(name, {})
    got = forged(name, rows, everybody, f=N, **options)
    assert got.shape == rows.shape
    assert np.isfinite(got).all() or name == "non_finite"


@pytest.mark.parametrize("name", FORGING)
def test_who_knows_no_row_or_meets_large_ones_still_sends_numbers(name):
    rows, byzantine = example(MASKS["scattered"])
    got = forged(name, rows, byzantine, changes={"known": jnp.zeros(N, bool)})
    assert np.isfinite(got).all() or name == "non_finite"
    large = forged(name, np.float32(1e16) * rows, byzantine)
    assert not np.isnan(large).any() or name == "non_finite"


@pytest.mark.parametrize("name", by_day(set(FORGING) - {"fang", "gradient_ascent"}, FORGING))
def test_an_update_of_fewer_rows_than_workers_is_forged_for_its_own_size(name):
    rows, byzantine = example([1, 4])
    attack, fewer = attacks.build(name, N, F), slice(0, 5)
    assert attack.forge is not None
    got = np.asarray(attack.forge(jax.random.key(0), view_of(rows[fewer], byzantine[fewer]), attack.init(D))[0])
    assert got.shape == (5, D)
    if name == "hijack":
        np.testing.assert_allclose(got.mean(axis=0), -honest_statistics(rows[fewer], byzantine[fewer])[0], atol=1e-4)


@pytest.mark.parametrize("name", FORGING)
def test_the_state_keeps_its_shapes_and_types(name):
    """A compiled loop over updates carries it."""
    attack, (rows, byzantine) = attacks.build(name, N, F), example(MASKS["scattered"])
    assert attack.forge is not None
    forge = attack.forge
    state = attack.init(D)
    after = jax.eval_shape(lambda state: forge(jax.random.key(0), view_of(rows, byzantine), state)[1], state)
    kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), each) for each in (state, after)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", FORGING)
def test_the_type_of_the_rows_is_kept(name, dtype):
    rows, byzantine = example(MASKS["first"])
    attack = attacks.build(name, N, F)
    assert attack.forge is not None
    forge = attack.forge
    out = jax.eval_shape(
        lambda rows: forge(jax.random.key(0), view_of(rows, byzantine), attack.init(D))[0], jnp.asarray(rows, dtype)
    )
    assert out.dtype == dtype


@pytest.mark.parametrize("name", by_day(CHEAP, FORGING))
def test_jit_and_vmap_give_the_same_rows_and_the_mask_is_data(name):
    attack = attacks.build(name, N, F)
    forge = attack.forge
    assert forge is not None
    traces = []

    def rows_of(key, rows, byzantine):
        traces.append(None)
        return forge(key, view_of(rows, byzantine), attack.init(D))[0]

    keys = jax.random.split(jax.random.key(3), len(MASKS))
    examples = [example(positions, seed=seed) for seed, positions in enumerate(MASKS.values())]
    rows, masks = (np.stack(part) for part in zip(*examples, strict=True))
    plain = np.stack([rows_of(*arguments) for arguments in zip(keys, rows, masks, strict=True)])
    traces.clear()
    jitted = jax.jit(rows_of)
    compiled = np.stack([jitted(*arguments) for arguments in zip(keys, rows, masks, strict=True)])
    assert len(traces) == 1, "another mask compiled again"
    np.testing.assert_allclose(compiled, plain, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(jax.jit(jax.vmap(rows_of))(keys, rows, masks), plain, rtol=1e-5, atol=1e-4)


def test_equivocate_tells_servers_of_odd_number_the_opposite():
    rows, byzantine = example(MASKS["scattered"])
    got = [forged("equivocate", rows, byzantine, changes={"receiver": jnp.int32(k)})[byzantine] for k in range(3)]
    mean, deviation = honest_statistics(rows, byzantine)
    np.testing.assert_allclose(got[0], np.tile(mean - 1.5 * deviation, (F, 1)), rtol=1e-5)
    np.testing.assert_allclose(got[1], np.tile(mean + 1.5 * deviation, (F, 1)), rtol=1e-5)
    np.testing.assert_array_equal(got[2], got[0])


@pytest.mark.parametrize("where", MASKS)
def test_cge_keeps_every_byzantine_row_of_anti_cge_and_cuts_honest_rows(where):
    rows, byzantine = example(MASKS[where], d=30)
    rule = aggregators.build("cge", n=N, f=F)
    attacked = forged("anti_cge", rows, byzantine)
    _, _, info = rule.apply(attacked, rule.init(30))
    kept = np.asarray(info.weights) > 0
    assert kept[byzantine].all()
    # a hundredth longer, and they are cut
    longer = np.where(byzantine[:, None], np.float32(1.01 / (1 - 1e-5)) * attacked, attacked)
    slightly = np.sort(np.linalg.norm(attacked[~byzantine], axis=1))
    assert (
        slightly[4] < 1.01 * slightly[3]
        or not (np.asarray(rule.apply(longer, rule.init(30))[2].weights)[byzantine] > 0).all()
    )


def corrupted(name, x, y, classes=7, seed=0, **options):
    attack = attacks.build(name, N, F, **options)
    assert attack.forge is None
    assert attack.corrupt is not None
    return jax.jit(attack.corrupt)(jax.random.key(seed), Batch(jnp.asarray(x), jnp.asarray(y), jnp.int32(classes)))


def test_targeted_labels_are_those_of_the_source_alone():
    y = np.array([0, 1, 4, 6, 4], np.int32)
    got = corrupted("label_flip", np.zeros((5, 2)), y, labels="targeted", source=4, target=2)
    assert got.y.tolist() == [0, 1, 2, 6, 2]
    # a label that the data does not have would make the loss no number
    assert corrupted("label_flip", np.zeros((5, 2)), y, labels="targeted", source=4, target=7).y.tolist() == y.tolist()


def test_random_labels_are_each_of_the_others_equally_often_and_never_the_own():
    y = np.tile(np.arange(4, dtype=np.int32), 5_000)
    got = np.asarray(corrupted("label_flip", np.zeros((len(y), 1)), y, classes=4, labels="random").y)
    counts = np.zeros((4, 4), int)
    np.add.at(counts, (y, got), 1)
    assert (np.diag(counts) == 0).all()
    assert np.abs(counts[~np.eye(4, dtype=bool)] - 5_000 / 3).max() < 5 * np.sqrt(5_000 * 2 / 9)
    other = np.asarray(corrupted("label_flip", np.zeros((len(y), 1)), y, classes=4, labels="random", seed=1).y)
    assert (got != other).any()
    # of one class there is no other
    assert corrupted("label_flip", np.zeros((2, 1)), np.zeros(2, np.int32), classes=1, labels="random").y.tolist() == [
        0,
        0,
    ]


def test_feature_noise_has_the_stated_deviation_and_leaves_labels_and_whole_numbers_alone():
    x, y = np.full((2_000, 10), 5, np.float32), np.arange(2_000, dtype=np.int32) % 7
    got = corrupted("feature_noise", x, y, standard_deviation=0.5)
    noise = np.asarray(got.x) - x
    assert noise.std() == pytest.approx(0.5, rel=0.03)
    assert abs(noise.mean()) < 0.02
    assert np.unique(noise[:, 0]).size > 1_900
    np.testing.assert_array_equal(got.y, y)
    assert got.x.dtype == jnp.float32
    with pytest.raises(ValueError, match=r"samples of this data are int32.*label_flip"):
        corrupted("feature_noise", x.astype(np.int32), y)


def tail(x, chosen, share):
    """The samples farthest from the mean of the chosen ones, one by one in float64."""
    x = x.reshape(len(x), -1).astype(np.float64)
    mean = sum(x[chosen]) / chosen.sum()
    far = sorted(np.flatnonzero(chosen), key=lambda i: -np.linalg.norm(x[i] - mean))
    return sorted(far[: math.ceil(share * chosen.sum())])


@pytest.mark.parametrize("source", [None, 3])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_edge_case_gives_the_target_to_the_samples_farthest_out_and_to_no_others(source, share):
    rng = np.random.default_rng(6)
    x = (rng.normal(size=(40, 3, 4)) * rng.gamma(2, size=(40, 1, 1))).astype(np.float32) + 5
    y = rng.integers(1, 6, 40).astype(np.int32)
    got = corrupted("edge_case", x, y, share=share, source=source)
    expected = y.copy()
    expected[tail(x, (y == source) if source else np.ones(40, bool), share)] = 0
    np.testing.assert_array_equal(got.y, expected)
    np.testing.assert_array_equal(got.x, x)
    assert (expected != y).sum() >= 1


def test_edge_case_without_a_sample_of_the_source_or_a_label_for_the_target_changes_nothing():
    x, y = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32), np.arange(8, dtype=np.int32) % 3
    np.testing.assert_array_equal(corrupted("edge_case", x, y, source=5).y, y)
    np.testing.assert_array_equal(corrupted("edge_case", x, y, target=7).y, y)


def test_label_flip_turns_labels_round_and_leaves_the_samples():
    attack = attacks.build("label_flip", N, F)
    assert attack.forge is None
    assert attack.corrupt is not None
    batch = Batch(jnp.arange(8.0).reshape(4, 2), jnp.array([0, 1, 4, 6], jnp.int32), jnp.int32(7))
    got = jax.jit(attack.corrupt)(jax.random.key(0), batch)
    assert got.y.tolist() == [6, 5, 2, 0]
    assert got.y.dtype == jnp.int32
    np.testing.assert_array_equal(got.x, batch.x)


def test_none_does_nothing():
    attack = attacks.build("none", N, F)
    assert attack.forge is None
    assert attack.corrupt is None


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize(("n", "f"), [(5, -1), (5, 6), (0, 0)])
def test_impossible_numbers_of_workers_are_refused(name, n, f):
    with pytest.raises(ValueError, match=rf"{name} needs .*got n={n}, f={f}"):
        attacks.build(name, n, f)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("little", {"z": "find"}, "^little: z must be a number or 'search', got 'find'"),
        ("optimised", {"attack": "litle"}, "did you mean 'little'"),
        ("optimised", {"attack": "label_flip", "strength": "source"}, "strength must be an option of label_flip that"),
        ("optimised", {"attack": "backdoor", "strength": "value"}, "got backdoor, which makes none"),
        ("optimised", {"attack": "min_max"}, "^optimised: strength must name the option of min_max"),
        ("optimised", {"attack": "uniform", "strength": "low"}, "uniform does not look at before an update"),
        ("optimised", {"attack": "little", "strength": "zz"}, "unexpected keyword argument 'zz'"),
        ("optimised", {"attack": "stale_replay", "strength": "age"}, "age must be a whole number, got 1.0"),
        ("gradient_ascent", {"start": "litle"}, "did you mean 'little'"),
        ("gradient_ascent", {"start": "label_flip"}, "^gradient_ascent: start must be .* makes none"),
        ("anti_cge", {"cut": 10}, "^anti_cge: cut must be at most n = 9, got 10"),
        (
            "label_flip",
            {"labels": "targeted", "source": 2, "target": 2},
            "target must be another label than the source",
        ),
        ("edge_case", {"source": 2, "target": 2}, "^edge_case: target must be another label than the source"),
        ("mimic", {"target": 9}, r"^mimic: target must be 'direction' or one of the workers 0\.\.8, got 9"),
        ("claims", {"attack": "claims"}, "^claims: attack must be another attack"),
        ("uniform", {"low": 1.0, "high": 0.0}, "^uniform: low must be at most high = 0.0, got 1.0"),
    ],
)
def test_options_that_do_not_fit_each_other_or_n_are_refused(name, options, message):
    with pytest.raises(PartError, match=message):
        attacks.build(name, N, F, **options)


def test_a_number_of_numpy_is_as_good_as_one_of_python():
    rows, byzantine = example(MASKS["scattered"])
    for name, option in (("mimic", "target"), ("hidden_vulnerability", "coordinate")):
        np.testing.assert_array_equal(
            forged(name, rows, byzantine, **{option: np.int64(5)}), forged(name, rows, byzantine, **{option: 5})
        )


def test_every_file_of_the_folder_is_an_attack_that_is_found():
    assert set(SHIPPED) <= set(attacks.available())
    assert {"none", "scaled", "zero"} <= set(SHIPPED)


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match=r"unknown attack 'sign_flop'; did you mean 'sign_flip'\?"):
        attacks.build("sign_flop", N, F)


def test_the_training_loop_by_hand_in_the_readme_runs_and_ends_at_its_target():
    code = (Path(__file__).parents[2] / "README.md").read_text().split("A training loop by hand:")[1]
    names = {}
    exec(code.split("```python\n")[1].split("```")[0], names)
    np.testing.assert_allclose(names["params"], names["target"], atol=1.5)
    assert names["params"].dtype == np.float32


def test_a_view_made_by_hand_lacks_only_what_was_not_given():
    rows, byzantine = example([0, 3])
    rule = aggregators.build("krum", N, 1)
    state, key = rule.init(D), jax.random.key(0)
    asking = attacks.build("fang", N, F)
    with pytest.raises(ValueError, match="this attack asks the rule: give view_of apply="):
        asking.forge(key, attacks.view_of(rows, byzantine), asking.init(D))
    view = attacks.view_of(rows, byzantine, apply=lambda rows: rule.apply(rows, state))
    assert np.isfinite(asking.forge(key, view, asking.init(D))[0]).all()
    with pytest.raises(ValueError, match="this attack measures the loss: give view_of loss="):
        view.loss(jnp.zeros(D))
    for rows, byzantine in ((np.ones(3), np.ones(3)), (np.ones((3, 2)), np.ones(2))):
        with pytest.raises(ValueError, match=r"view_of needs rows \[n, d\] and n truth values"):
            attacks.view_of(rows, byzantine)
