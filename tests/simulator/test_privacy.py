"""Differential privacy as its page describes it: what is clipped, how much noise there is, and what epsilon counts."""

import io
import math
from functools import partial
from itertools import pairwise
from typing import Any

import dp_accounting
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dp_accounting.rdp import RdpAccountant
from scipy import stats

import byzax
from byzax.experiments.notes import privacy_notes
from byzax.models import softmax
from byzax.simulator import accounting, executors, snapshots
from byzax.simulator.accounting import Release, epsilon_of
from byzax.simulator.batches import OVERFLOW, draw_batch, poisson_width
from byzax.simulator.config.privacy import Privacy
from byzax.simulator.executors.base import plan
from byzax.simulator.executors.driver import Saving
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.privacy import bound, build_private_gradient
from tests.nightly import by_day, by_night
from tests.simulator.conftest import same, small

CLIP, NOISE, CLASSES = 0.7, 1.5, 3
SAMPLE: dict[str, Any] = {"level": "sample", "clip": CLIP, "noise": NOISE}
DATA: dict[str, Any] = {"name": "gaussian_mixture", "samples": 300, "shape": [4], "classes": CLASSES, "batch_size": 8}
SMALL: dict[str, Any] = {
    "data": DATA,
    "model": "softmax",
    "optimizer": {"name": "sgd", "learning_rate": 0.5},
    "rule": "average",
    "attack": "none",
    "workers": {"total": 6, "byzantine": 0},
    "steps": 3,
}


def batch(size, seed=0):
    drawn = np.random.default_rng(seed)
    model = softmax((4,), CLASSES)
    x, y = drawn.normal(size=(size, 4)).astype(np.float32), drawn.integers(0, CLASSES, size)
    return model, jnp.asarray(drawn.normal(size=15), jnp.float32), x, y.astype(np.int32)


def gradients_of_samples(model, params, x, y):
    """The gradients of softmax regression, sample by sample, in NumPy: of the logits p - e_y, times the sample."""
    # the order of the parameters in the vector, read off the predictions
    basis = np.stack([np.asarray(model.predict(each, np.eye(4, dtype=np.float32))) for each in np.eye(15)])
    zero = np.stack([np.asarray(model.predict(each, np.zeros((1, 4), np.float32)))[0] for each in np.eye(15)])
    found = []
    for sample, label in zip(x.astype(float), y, strict=True):
        # logits are linear in the parameters: the row of each says by how much
        rows = zero + np.einsum("pfc,f->pc", basis - zero[:, None], sample)
        logits = np.asarray(params, float) @ rows
        chances = np.exp(logits - logits.max())
        chances /= chances.sum()
        found.append(rows @ (chances - np.eye(CLASSES)[label]))
    return np.array(found)


def clipped(vectors, clip):
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors * np.minimum(1, clip / lengths)


def private(model, count, passes=False, **changes):
    return build_private_gradient(model.loss, Privacy(**SAMPLE | changes), count, passes)


KEYS = jax.random.key(1), jax.random.key(2)


def test_the_gradient_of_every_sample_is_clipped_before_the_mean():
    model, params, x, y = batch(16)
    each = gradients_of_samples(model, params, x, y)
    lengths = np.linalg.norm(each, axis=1)
    # some are longer and some are not
    assert (lengths > CLIP).any()
    assert (lengths < CLIP).any()
    wanted = clipped(each, CLIP).mean(axis=0)
    got = private(model, 16, noise=0.0)(params, x, y, *KEYS, None)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)
    # the mean that is clipped is another one
    assert np.abs(clipped(each.mean(axis=0), CLIP) - wanted).max() > 0.02


@pytest.mark.parametrize("chunk", by_day([3, 40], [1, 3, 7, 15, 16, 40]))
def test_chunks_change_nothing_but_rounding(chunk):
    model, params, x, y = batch(16)
    whole = private(model, 16)(params, x, y, *KEYS, None)
    np.testing.assert_allclose(private(model, 16, chunk=chunk)(params, x, y, *KEYS, None), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("chunk", "real"),
    [(None, 0), (5, 3), *(by_night(chunk, real) for chunk in (None, 2, 5) for real in (0, 3, 11))],
)
def test_samples_of_share_0_count_for_nothing_and_the_noise_does_not_tell_how_many_there_are(chunk, real):
    model, params, x, y = batch(16)
    shares = np.where(np.arange(16) < real, 1 / 8, 0).astype(np.float32)
    x[real:] = np.nan
    each = clipped(gradients_of_samples(model, params, x[:real], y[:real]), CLIP) if real else np.zeros((1, 15))
    made = private(model, 8, chunk=chunk)(params, x, y, *KEYS, shares)
    noise = NOISE * CLIP / 8 * np.asarray(jax.random.normal(KEYS[1], (15,)))
    np.testing.assert_allclose(made, each.sum(axis=0) / 8 + noise, rtol=1e-4, atol=1e-5)


def test_the_noise_of_a_last_batch_goes_by_its_own_size():
    model, params, x, y = batch(16)
    shares = np.where(np.arange(16) < 4, 1 / 4, 0).astype(np.float32)
    quiet, loud = (private(model, 16, True, noise=noise)(params, x, y, *KEYS, shares) for noise in (0.0, NOISE))
    noise = NOISE * CLIP / 4 * np.asarray(jax.random.normal(KEYS[1], (15,)))
    np.testing.assert_allclose(loud - quiet, noise, rtol=1e-4, atol=1e-5)


def is_deviation(values, deviation):
    """Tells whether numbers are normal of mean 0 with this deviation, where they are not by chance in 1e-6 of cases."""
    low, high = stats.chi2.interval(1 - 1e-6, values.size)
    scaled = (np.asarray(values, float).ravel() / deviation) ** 2
    return low < scaled.sum() < high and abs(values.mean()) < 5 * deviation / math.sqrt(values.size)


def test_the_noise_is_normal_of_sigma_c_over_b():
    model, params, x, y = batch(16)
    quiet = private(model, 16, noise=0.0)(params, x, y, *KEYS, None)
    keys = jax.random.split(jax.random.key(3), 300)
    loud = jax.vmap(lambda key: private(model, 16)(params, x, y, KEYS[0], key, None))(keys)
    noise = np.asarray(loud - quiet)
    assert is_deviation(noise, NOISE * CLIP / 16)
    # sigma C, or the noise before the clipping
    assert not is_deviation(noise, NOISE * CLIP)
    assert not is_deviation(clipped(noise + quiet, CLIP / 16) - quiet, NOISE * CLIP / 16)
    assert stats.kstest(noise.ravel() / (NOISE * CLIP / 16), "norm").pvalue > 1e-4


def test_what_is_not_finite_is_clipped_to_zero():
    for bad in (np.nan, np.inf, -np.inf):
        assert not np.asarray(bound(jnp.array([1.0, bad]), CLIP)).any()
    np.testing.assert_allclose(bound(jnp.array([3e30, 4e30]), 1.0), [0.6, 0.8], rtol=1e-6)


def simulated(**changes):
    return [*byzax.simulate(**SMALL | changes)]


def test_a_worker_sends_its_row_clipped_and_with_noise_of_its_own_in_every_job():
    level = {"level": "worker", "clip": 0.05}
    plain = simulated()[0].rows
    quiet, loud = (simulated(privacy={**level, "noise": noise}) for noise in (0.0, 2.0))
    np.testing.assert_allclose(quiet[0].rows, clipped(plain, 0.05), rtol=1e-4, atol=1e-6)
    noise = np.stack([loud[0].rows - quiet[0].rows])
    assert is_deviation(noise, 0.1)
    # others for every worker, and for every job: the same model, whose row is the same
    assert np.abs(np.corrcoef(noise[0]) - np.eye(6)).max() < 0.9
    still = {"name": "sgd", "learning_rate": 1e-12}
    one, other = (simulated(privacy={**level, "noise": 2.0}, optimizer=still, steps=2)[i].rows for i in (0, 1))
    assert np.abs(one - other).max() > 0.1


def test_momentum_comes_before_the_noise_of_a_worker_and_after_that_of_a_sample():
    sent = simulated(privacy={"level": "worker", "clip": 0.05, "noise": 0.0}, worker_momentum=0.9)
    assert (np.linalg.norm([update.rows for update in sent], axis=-1) <= 0.05 * (1 + 1e-5)).all()
    quiet, loud = (simulated(privacy=SAMPLE | {"noise": noise}, worker_momentum=0.9)[0].rows for noise in (0.0, NOISE))
    assert is_deviation(loud - quiet, 0.1 * NOISE * CLIP / 8)


def test_the_server_clips_rows_and_adds_noise_by_their_number():
    level = {"level": "server", "clip": 0.05}
    bad = {"workers": {"total": 6, "byzantine": 1}, "attack": {"name": "non_finite"}}
    quiet, loud = (simulated(privacy={**level, "noise": noise}, steps=1)[0] for noise in (0.0, 5.0))
    np.testing.assert_allclose(quiet.aggregate, clipped(quiet.rows, 0.05).mean(axis=0), rtol=1e-4, atol=1e-6)
    assert is_deviation(loud.aggregate - quiet.aggregate, 5.0 * 0.05 / 6)
    # the mean of clipped rows, and not the mean clipped
    assert np.abs(clipped(quiet.rows.mean(axis=0), 0.05) - quiet.aggregate).max() > 1e-3
    assert np.isfinite(simulated(privacy={**level, "noise": 5.0}, **bad)[-1].params).all()
    quorum = {"name": "synchronous", "quorum": 4}
    quiet, loud = (simulated(privacy={**level, "noise": s}, schedule=quorum, steps=1)[0] for s in (0.0, 5.0))
    assert is_deviation(loud.aggregate - quiet.aggregate, 5.0 * 0.05 / 4)


def test_forged_rows_have_no_noise_and_rows_that_attackers_see_have():
    byzantine = {"workers": {"total": 6, "byzantine": 1}, "attack": "sign_flip"}
    update = simulated(privacy={"level": "worker", "clip": 0.05, "noise": 2.0}, **byzantine)[0]
    quiet = simulated(privacy={"level": "worker", "clip": 0.05, "noise": 0.0}, **byzantine)[0]
    assert is_deviation(update.rows - quiet.rows, 0.1)
    np.testing.assert_array_equal(update.forged[0], -update.rows[0])


def drawn(batches, held, size, count, longest=None):
    keys = jax.random.split(jax.random.key(5), count)
    return jax.vmap(lambda key: draw_batch(key, jnp.int32(held), longest or held, size, batches))(keys)


def test_a_batch_without_replacement_has_every_sample_once_at_most_and_all_equally_often():
    places, shares = drawn("without_replacement", 12, 5, 4000, longest=17)
    assert shares is None
    assert all(len(set(row)) == 5 for row in places.tolist())
    often = np.bincount(np.asarray(places).ravel(), minlength=12)
    assert len(often) == 12
    assert np.abs(often / 4000 - 5 / 12).max() < 5 * math.sqrt(5 / 12 * 7 / 12 / 4000)


def test_a_poisson_batch_has_every_sample_by_itself():
    held, size, count = 20, 6, 5000
    places, shares = map(np.asarray, drawn("poisson", held, size, count, longest=26))
    there = shares > 0
    assert np.isclose(shares[there], 1 / size).all()
    # first those that count
    assert (np.diff(there.astype(int), axis=1) <= 0).all()
    assert places.min() >= 0
    assert places.max() < held
    inside = np.zeros((count, held), int)
    for row, some, counts in zip(inside, places, there, strict=True):
        row[some[counts]] += 1
    assert inside.max() == 1
    rate = size / held
    assert np.abs(inside.mean(axis=0) - rate).max() < 5 * math.sqrt(rate * (1 - rate) / count)
    # independent of one another: of a fixed number of them the covariance would be below 0
    assert np.abs(np.cov(inside.T) - rate * (1 - rate) * np.eye(held)).max() < 5 * rate * (1 - rate) / math.sqrt(count)
    assert abs(there.sum(axis=1).var() - held * rate * (1 - rate)) < 0.4


@pytest.mark.parametrize("size", [1, 8, 256])
def test_a_poisson_batch_has_places_for_all_but_one_batch_in_1e30(size):
    width = poisson_width(size)
    for held in (size + 1, 10 * size, 10_000 * size):
        assert stats.binom.sf(width, held, size / held) <= OVERFLOW
    # and not many more
    assert stats.poisson.sf(0.8 * width, size) > OVERFLOW


# Epsilon: of n = 60,000 images in batches of b, with this noise, in so many passes.
MNIST = [(250, 1.3, 15), (250, 1.1, 60), (256, 1.1, 60), (256, 1.3, 15)]


def renyi(rate, noise, order):
    """The divergence of the sampled Gaussian at a whole order, by its binomial sum (Mironov, Talwar, Zhang 2019)."""
    terms = [
        math.log(math.comb(order, k))
        + (order - k) * math.log1p(-rate)
        + k * math.log(rate)
        + k * (k - 1) / 2 / noise**2
        for k in range(order + 1)
    ]
    return (max(terms) + math.log(sum(math.exp(each - max(terms)) for each in terms))) / (order - 1)


@pytest.mark.parametrize(("size", "noise", "passes"), MNIST)
def test_epsilon_on_mnist_is_that_of_the_librarys_own_accountant_and_of_a_sum_by_hand(size, noise, passes):
    steps, delta = passes * 60_000 // size, 1e-5
    event = dp_accounting.PoissonSampledDpEvent(size / 60_000, dp_accounting.GaussianDpEvent(noise))
    theirs = RdpAccountant().compose(dp_accounting.SelfComposedDpEvent(event, steps)).get_epsilon(delta)
    mine = epsilon_of(Release(noise, "poisson", size, 60_000), steps, delta)
    assert mine == pytest.approx(theirs, rel=0.01)
    spent = {order: steps * renyi(size / 60_000, noise, order) for order in range(2, 65)}
    # Canonne, Kamath and Steinke 2020, proposition 12
    by_hand = min(
        each + math.log1p(-1 / order) - math.log(delta * order) / (order - 1) for order, each in spent.items()
    )
    assert mine == pytest.approx(by_hand, rel=0.01)


@pytest.mark.parametrize(("noise", "passes", "published"), [(1.3, 15, 1.19), (1.1, 60, 3.01)])
def test_by_the_conversion_of_2017_epsilon_on_mnist_is_the_published_one(noise, passes, published):
    # the tutorial of TensorFlow Privacy, batches of 256
    steps = passes * 60_000 // 256
    orders = [1 + x / 10 for x in range(1, 100)] + [*range(12, 64)]
    accountant = RdpAccountant(orders).compose(
        dp_accounting.PoissonSampledDpEvent(256 / 60_000, dp_accounting.GaussianDpEvent(noise)), steps
    )
    old = min(each - math.log(1e-5) / (order - 1) for order, each in zip(orders, accountant.rdp, strict=True))
    assert old == pytest.approx(published, rel=0.01)
    assert epsilon_of(Release(noise, "poisson", 256, 60_000), steps, 1e-5) < published


def exact_epsilon(multiplier, delta):
    """Of one Gaussian of sensitivity 1 / multiplier, by bisection of its exact delta (Balle and Wang 2018)."""
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        first = stats.norm.cdf(0.5 * multiplier - middle / multiplier)
        second = stats.norm.logcdf(-0.5 * multiplier - middle / multiplier) + middle
        low, high = (middle, high) if first - math.exp(min(second, 700)) > delta else (low, middle)
    return high


@pytest.mark.parametrize("batches", [None, "replacement", "without_replacement", "poisson"])
def test_epsilon_is_no_smaller_than_the_exact_one_of_a_sample_that_is_in_the_batch(batches):
    # of all samples in every batch amplification says nothing: one Gaussian, whose epsilon is known
    release = Release(2.0, batches, 10, 10)
    exact = exact_epsilon(1 / 2.0 * math.sqrt(4), 1e-5)
    found = epsilon_of(release, 4, 1e-5)
    assert found >= exact
    if batches != "replacement":
        assert found < 1.1 * exact
    else:
        # in ten draws of ten a sample comes several times
        assert found > 2 * exact


def test_amplification_is_claimed_for_random_batches_only_and_least_for_replacement():
    spent = {
        each: epsilon_of(Release(2.0, each, 32, 1000), 100, 1e-5)
        for each in (None, "replacement", "without_replacement", "poisson")
    }
    assert spent["poisson"] < spent["without_replacement"] < spent[None] < spent["replacement"]


@pytest.mark.parametrize(("draws", "held"), [(8, 20), (32, 1000), (5, 1), (4, 2)])
def test_the_times_that_a_sample_is_drawn_are_those_of_the_binomial_distribution(draws, held):
    for probability in (0.3, 1e-3, 1e-7):
        expected = next(k for k in range(draws + 1) if stats.binom.sf(k, draws, 1 / held) <= probability)
        assert accounting._most_times(draws, held, probability) == max(expected, 1)


def spent(scenario):
    with executors.session(scenario.executor) as execute:
        return list(execute(scenario.task))


def test_epsilon_counts_the_rows_that_the_worst_honest_worker_has_sent():
    changes: dict[str, Any] = {
        "schedule": {"name": "asynchronous", "apply": "buffer", "rows": 3, "max_age": 1},
        "latency": {"name": "lognormal", "sigma": 1.0, "loss": 0.1},
        "steps": 12,
        "attack": {"name": "empire", "timing": "first"},
    }
    scenario = small(privacy={"level": "worker", "clip": 1.0, "noise": 4.0}, **changes)
    timeline = plan(scenario.run)
    for checkpoint in spent(scenario):
        most = 0
        for worker in range(1, 7):
            sent = [
                computed
                for part in (timeline.rows, timeline.unused)
                for who, computed in zip(part.workers, part.computed_s, strict=True)
                if who == worker
            ]
            end = timeline.time_s[checkpoint.step - 1] if checkpoint.step else -1
            most = max(most, sum(bool(each <= end) for each in sent))
        # of two rows the distance is 2 C
        assert checkpoint.epsilon == epsilon_of(Release(2.0), most, 1e-5)
    by_server = small(privacy={"level": "server", "clip": 1.0, "noise": 4.0}, **changes)
    for checkpoint in spent(by_server):
        used = timeline.rows.workers[timeline.updates < checkpoint.step]
        most = np.bincount(used, minlength=7)[1:].max()
        assert checkpoint.epsilon == epsilon_of(Release(4.0), int(most), 1e-5)


@pytest.mark.parametrize(
    ("changes", "batches", "uses"),
    [
        by_night({}, "replacement", 1),
        by_night({"data": {**DATA, "batches": "poisson"}}, "poisson", 1),
        by_night({"local": {"steps": 3}}, "replacement", 3),
        ({"local": {"epochs": 2}}, None, 2),
    ],
    ids=["one batch", "poisson", "steps", "epochs"],
)
def test_epsilon_counts_every_use_of_a_sample_by_the_worker_with_the_fewest(changes, batches, uses):
    uneven = {"name": "dirichlet", "alpha": 3.0}
    data = {**DATA, "batch_size": 4, **changes.get("data", {}), "partition": uneven}
    scenario = small(privacy=SAMPLE, **SMALL | changes | {"data": data | {"batch_size": 4}})
    _, shares = byzax.simulator.world.share_out(scenario.run.data, 6, 0)
    fewest = min(map(len, shares))
    for checkpoint in spent(scenario):
        expected = epsilon_of(Release(NOISE, batches, 4, fewest if batches else 1), checkpoint.step * uses, 1e-5)
        assert checkpoint.epsilon == expected


def test_epsilon_is_a_column_of_results_and_not_there_without_privacy(tmp_path):
    private_run = byzax.run(**SMALL, name="one", privacy=SAMPLE, evaluate_every=2, out=str(tmp_path / "one"))
    column = private_run.metrics["epsilon"]
    assert column[0] == 0
    assert all(one < other for one, other in pairwise(column))
    assert private_run.runs["epsilon"][0] == column.iloc[-1]
    assert byzax.load(tmp_path / "one").runs["epsilon"][0] == column.iloc[-1]
    quiet = byzax.run(**SMALL, name="two", privacy=SAMPLE | {"noise": 0.0}, out=str(tmp_path / "two"))
    assert quiet.runs["epsilon"][0] == math.inf == byzax.load(tmp_path / "two").runs["epsilon"][0]
    assert np.isnan(byzax.run(**SMALL, name="three").runs["epsilon"][0])


def test_a_run_that_was_left_goes_on_with_the_same_noise_and_the_same_epsilon():
    scenario = small(privacy=SAMPLE, worker_momentum=0.5)
    kept = []

    def save(seed, snapshot):
        file = io.BytesIO()
        snapshots.save(snapshot, file)
        kept.append(snapshot)

    with executors.session(scenario.executor) as execute:
        whole = list(execute(scenario.task, saving=Saving(save, every_s=None, every=2)))
        rest = list(execute(scenario.task, {0: kept[0]}))
    assert same(whole[-len(rest) :], rest)
    assert [each.epsilon for each in whole[-len(rest) :]] == [each.epsilon for each in rest]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"privacy": SAMPLE, "model": {"name": "mlp", "norm": "batch"}}, "sample clips .* mlp .*layer, group"),
        ({"privacy": SAMPLE, "variance_reduction": "saga"}, "privacy.level: sample .* saga"),
        ({"privacy": SAMPLE | {"level": "worker", "chunk": 2}}, "chunk: .* leave it out"),
        ({"privacy": SAMPLE | {"level": "server"}, "rule": "median"}, "server .* rule average .* worker"),
        ({"privacy": SAMPLE | {"level": "server"}, "weights": "samples"}, "privacy.level: server .* weights equal"),
        ({"privacy": SAMPLE | {"level": "server"}, "topology": "gossip"}, "topology parameter_server"),
        ({"privacy": SAMPLE | {"level": "server"}, "schedule": "asynchronous"}, "rule sees the rows of an update"),
        (
            {"privacy": SAMPLE | {"level": "worker"}, "local": {"steps": 2, "send": "model"}},
            "privacy.level: worker clips changes",
        ),
        (
            {"privacy": SAMPLE | {"level": "worker"}, "local": {"steps": 2, "control_variates": True}},
            "privacy.level: worker .*control_variates out",
        ),
        ({"data": DATA | {"batches": "poisson"}}, "data.batches: poisson .* take without_replacement"),
        (
            {"data": DATA | {"batches": "without_replacement"}, "local": {"epochs": 1}},
            "data.batches: without_replacement .* local.epochs leave it out",
        ),
        (
            {"data": DATA | {"batches": "without_replacement", "batch_size": 60}},
            "data.batches: without_replacement needs 60 .* holds 35",
        ),
        (
            {"privacy": SAMPLE, "topology": {"name": "gossip", "graph": "complete", "mixing": "ubar"}},
            "topology.mixing: ubar asks the samples",
        ),
    ],
)  # fmt: skip
def test_what_goes_with_no_privacy_is_refused_in_one_line_with_its_key(changes, said):
    with pytest.raises(ScenarioError, match=said):
        byzax.run(**SMALL | changes, name="refused")


def test_what_epsilon_does_not_claim_is_noted_before_a_run():
    assert [*privacy_notes(small())] == []
    said = [*privacy_notes(small(privacy=SAMPLE, data={"name": "digits", "normalise": "unit"}))]
    assert [line.split(":")[0] for line in said] == ["data.normalise", "privacy"]
    for quiet in ({"data": DATA | {"batches": "poisson"}}, {"local": {"epochs": 1}}):
        assert [*privacy_notes(small(privacy=SAMPLE, **quiet))] == []


def test_without_the_library_a_run_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(accounting, "LIBRARY", "dp_accounting_that_is_not_there")
    with pytest.raises(ScenarioError, match=r"privacy: .* pip install 'byzax\[privacy\]'"):
        byzax.run(**SMALL, name="refused", privacy=SAMPLE)


def test_the_bound_is_that_of_a_plain_loop():
    vectors = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32) * np.logspace(-3, 3, 20)[:, None]
    expected = [v if np.linalg.norm(v) <= 1 else v / np.linalg.norm(v) for v in vectors.astype(float)]
    got = jax.vmap(partial(bound, clip=1.0))(jnp.asarray(vectors, jnp.float32))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
