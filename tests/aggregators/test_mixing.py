"""Mixing: each against a plain reading of its paper in float64, models that are not finite, and what is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax import aggregators
from byzax.aggregators import Context, mixing
from byzax.aggregators.mixing import Neighbourhood
from byzax.options import OptionError, PartError

N, D, OWN = 8, 5, 3
TARGET = np.linspace(-1, 1, D)


def example(seed=0):
    """Models of which two, of Byzantine nodes, are far away; weights of edges that differ, and sum to 1."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(N, D)) + 2
    byzantine = np.isin(np.arange(N), [1, 6])
    rows[byzantine] += 30
    weights = rng.uniform(0.05, 0.14, N)
    weights[OWN] += 1 - weights.sum()
    return rows, weights, byzantine


def loss(model):
    return ((model - TARGET) ** 2).sum()


def mixed(name, f, rows, weights, byzantine, **options):
    made = mixing.build(name, len(rows), f, **options)
    around = Neighbourhood(jnp.arange(len(rows)) == OWN, jnp.asarray(weights), jnp.asarray(byzantine))
    context = Context(jax.random.key(0), jnp.zeros(D), loss=lambda model: loss(model), neighbourhood=around)
    result, _, info = made.apply(jnp.asarray(rows, jnp.float32), made.init(D), context)
    return np.asarray(result), info.weights, made


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def weighted(f, rows, weights, byzantine):
    return sum(w * row for w, row in zip(weights, rows, strict=True))


def clipped(tau):
    def oracle(f, rows, weights, byzantine):
        own, others = rows[OWN], [j for j in range(N) if j != OWN]
        bound = tau
        if tau == "second_largest":
            bound = sorted(distance(rows[j], own) for j in others)[-2]
        if tau == "oracle":
            delta = sum(weights[j] for j in others if byzantine[j])
            spread = sum(weights[j] * distance(rows[j], own) ** 2 for j in others if not byzantine[j])
            bound = math.sqrt(spread / delta)
        result = own.copy()
        for j in others:
            way = rows[j] - own
            result += weights[j] * way * min(1, bound / distance(rows[j], own))
        return result

    return oracle


def bridge_trimmed(f, rows, weights, byzantine):
    result = []
    for k in range(D):
        values = sorted(rows[j][k] for j in range(N) if j != OWN)
        kept = values[f : len(values) - f]
        # (|N_j| - 2b + 1) values, the own one among them
        result.append((sum(kept) + rows[OWN][k]) / (len(values) - 2 * f + 1))
    return np.array(result)


def bridge_median(f, rows, weights, byzantine):
    return np.array([np.median([row[k] for row in rows]) for k in range(D)])


def by_loss(rho, alpha):
    def oracle(f, rows, weights, byzantine):
        others = sorted((j for j in range(N) if j != OWN), key=lambda j: distance(rows[j], rows[OWN]))
        near = others[: N - 1 - f if rho is None else max(1, math.floor(rho * (N - 1)))]
        good = [j for j in near if loss(rows[j]) <= loss(rows[OWN])] or [min(near, key=lambda j: loss(rows[j]))]
        return alpha * rows[OWN] + (1 - alpha) * sum(rows[j] for j in good) / len(good)

    return oracle


def nearest(f, rows, weights, byzantine):
    order = sorted(range(N), key=lambda j: distance(rows[j], rows[OWN]))
    return sum(rows[j] for j in order[: N - f]) / (N - f)


def clipped_to_the_median_length(f, rows, weights, byzantine):
    """norm_clipping of the differences: each shortened to the median of their lengths."""
    ways = [row - rows[OWN] for row in rows]
    bound = np.median([np.linalg.norm(way) for way in ways])
    return rows[OWN] + sum(way * min(1, bound / max(np.linalg.norm(way), 1e-30)) for way in ways) / N


ORACLES = [
    ("weighted_average", {}, weighted),
    ("clipped_gossip", {"tau": 0.7}, clipped(0.7)),
    ("clipped_gossip", {"tau": 1000.0}, weighted),
    ("clipped_gossip", {}, clipped("second_largest")),
    ("clipped_gossip", {"tau": "oracle"}, clipped("oracle")),
    ("bridge", {}, bridge_trimmed),
    ("bridge", {"screening": "median"}, bridge_median),
    ("ubar", {}, by_loss(None, 0.5)),
    ("ubar", {"rho": 0.4, "alpha": 0.3}, by_loss(0.4, 0.3)),
    ("ubar", {"rho": 0.01}, by_loss(0.01, 0.5)),
    ("monna", {}, nearest),
    ("self_centred", {"rule": "norm_clipping"}, clipped_to_the_median_length),
]


@pytest.mark.parametrize(
    ("name", "options", "oracle"), ORACLES, ids=lambda part: getattr(part, "__qualname__", str(part))[:30]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_mixing_is_that_of_its_paper(name, options, oracle, seed):
    rows, weights, byzantine = example(seed)
    expected = oracle(2, rows, weights, byzantine)
    result, shares, _ = mixed(name, 2, rows, weights, byzantine, **options)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    if shares is not None and name != "self_centred":
        np.testing.assert_allclose(shares.sum(), 1, rtol=1e-5)
        np.testing.assert_allclose(np.asarray(shares) @ rows, expected, rtol=1e-3, atol=1e-3)


def test_wrong_variants_in_circulation_give_other_models():
    rows, weights, byzantine = example()
    right = bridge_trimmed(2, rows, weights, byzantine)
    # the own value trimmed like the others, as by the rule trimmed_mean
    assert np.abs(np.sort(rows, axis=0)[2:-2].mean(axis=0) - right).max() > 1e-2
    # the largest distance in place of the second largest
    own = rows[OWN]
    far = clipped(max(distance(row, own) for row in rows))(2, rows, weights, byzantine)
    assert np.abs(far - clipped("second_largest")(2, rows, weights, byzantine)).max() > 1e-2
    # n-2f of all models
    order = sorted(range(N), key=lambda j: distance(rows[j], own))
    assert np.abs(rows[order[: N - 4]].mean(axis=0) - nearest(2, rows, weights, byzantine)).max() > 1e-2


ROBUST = [
    ("clipped_gossip", {"tau": 0.7}),
    ("clipped_gossip", {}),
    *((name, {}) for name in ("bridge", "ubar", "monna")),
]


@pytest.mark.parametrize(("name", "options"), ROBUST)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_byzantine_models_that_are_not_finite_or_far_away_do_no_harm(name, options, bad):
    # one of them for the second largest distance, which is an honest one then
    f = 2 if options or name != "clipped_gossip" else 1
    rows, weights, byzantine = example()
    rows[byzantine] -= 30
    byzantine = byzantine & (np.arange(N) >= (0 if f == 2 else 2))
    honest = rows[~byzantine]
    rows[byzantine] = bad
    result, _, _ = mixed(name, f, rows, weights, byzantine, **options)
    assert np.isfinite(result).all()
    assert (result >= honest.min(axis=0) - 1).all()
    assert (result <= honest.max(axis=0) + 1).all()


def test_a_node_whose_neighbours_are_no_use_keeps_its_model():
    rows, weights, byzantine = example()
    rows[np.arange(N) != OWN] = np.nan
    result, shares, _ = mixed("ubar", 2, rows, weights, byzantine)
    np.testing.assert_allclose(result, rows[OWN], rtol=1e-6)
    np.testing.assert_allclose(shares, np.arange(N) == OWN)


def test_a_node_with_one_neighbour_keeps_its_model_by_the_second_largest_distance():
    made = mixing.build("clipped_gossip", 2, 1)
    around = Neighbourhood(jnp.array([False, True]), jnp.array([0.5, 0.5]), jnp.array([True, False]))
    rows = jnp.array([[9.0, 9.0], [1.0, 2.0]])
    result, _, _ = made.apply(rows, (), Context(jax.random.key(0), neighbourhood=around))
    np.testing.assert_array_equal(result, rows[1])


def test_without_a_byzantine_neighbour_an_oracle_clips_nothing():
    rows, weights, _ = example()
    result, _, _ = mixed("clipped_gossip", 0, rows, weights, np.zeros(N, bool), tau="oracle")
    np.testing.assert_allclose(result, weighted(0, rows, weights, None), rtol=1e-5)


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "multi_krum"])
def test_a_rule_that_moves_with_its_rows_is_the_same_around_the_own_model(rule):
    rows, weights, byzantine = example()
    made = aggregators.build(rule, N, 2)
    plain, _, _ = made.apply(jnp.asarray(rows, jnp.float32), made.init(D))
    result, _, _ = mixed("self_centred", 2, rows, weights, byzantine, rule=rule)
    np.testing.assert_allclose(result, plain, rtol=1e-4, atol=1e-4)


def test_a_pre_aggregation_bounds_how_far_a_neighbour_moves_the_node():
    rows, weights, byzantine = example()
    result, _, _ = mixed("self_centred", 2, rows, weights, byzantine, pre={"name": "clip", "bound": 0.5})
    ways = rows - rows[OWN]
    lengths = np.maximum(np.linalg.norm(ways, axis=1), 1e-30)
    expected = rows[OWN] + (ways * np.minimum(1, 0.5 / lengths)[:, None]).mean(axis=0)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "n", "f", "words"),
    [
        ("bridge", 5, 2, r"bridge needs n >= 2f \+ 2"),
        ("monna", 4, 2, r"monna needs n >= 2f \+ 1"),
        ("ubar", 3, 2, r"ubar needs n >= f \+ 2"),
        ("weighted_average", 2, 2, r"weighted_average needs n >= f \+ 1"),
        ("clipped_gossip", 2, 2, r"clipped_gossip needs n >= f \+ 1"),
    ],
)
def test_too_few_models_are_refused(name, n, f, words):
    with pytest.raises(PartError, match=words):
        mixing.build(name, n, f)


def test_a_mixing_without_a_neighbourhood_says_where_it_belongs():
    made = mixing.build("monna", 3, 1)
    with pytest.raises(ValueError, match="monna mixes the models of neighbours: in a scenario topology gossip"):
        made.apply(jnp.ones((3, 2)), (), Context(jax.random.key(0)))


def test_a_rule_that_needs_a_server_is_refused():
    with pytest.raises(OptionError, match=r"^self_centred: rule compares rows with the server's own"):
        mixing.build("self_centred", 5, 1, rule="fltrust")
