"""Attacks that ask the rule in use: searches against dense grids, closed forms, and rules written again in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import MASKS, D, F, N, example, forged, honest_statistics, rule_of, unweighted, view_of

from byzax import aggregators, attacks
from byzax.aggregators import Context, pre
from byzax.attacks import Answer, _search
from tests.nightly import by_day, by_night

# -- rules in float64: [n, d] -> [d] --------------------------------


def krum(rows, f=F):
    squared = np.square(rows[:, None] - rows[None]).sum(axis=2)
    # without the row itself
    scores = np.sort(squared, axis=1)[:, 1 : len(rows) - f - 1].sum(axis=1)
    return rows[int(np.argmin(scores))]


def trimmed_mean(rows, f=F):
    return np.sort(rows, axis=0)[f : len(rows) - f].mean(axis=0)


def mean(rows, f=F):
    return rows.mean(axis=0)


RULES = {"krum": krum, "trimmed_mean": trimmed_mean, "average": mean}


def answered(rule, rows, byzantine, row):
    return RULES[rule](np.where(byzantine[:, None], row, rows.astype(np.float64)))


def distance(rule, rows, byzantine, row):
    return np.linalg.norm(answered(rule, rows, byzantine, row) - honest_statistics(rows, byzantine)[0])


# -- the searcher --------------------------------


def found(harm, evaluations=20):
    return float(_search.find_strongest(harm, evaluations))


def test_the_search_asks_exactly_as_often_as_it_may():
    asked = []

    def harm(strength):
        asked.append(float(strength))
        return -jnp.square(strength - 1.3)

    for evaluations in (4, 5, 20):
        asked.clear()
        with jax.disable_jit():
            best = found(harm, evaluations)
        assert len(asked) == evaluations
        # what it gives is the best it has seen
        assert best == min(asked, key=lambda strength: abs(strength - 1.3))


@pytest.mark.parametrize("top", [0.09, 0.7, 1.0, 1.9, 9.0])
def test_a_smooth_maximum_is_found(top):
    assert found(lambda s: -jnp.square(jnp.log(s / top)), 30) == pytest.approx(top, rel=0.01)


@pytest.mark.parametrize("edge", [0.06, 0.29, 1.01, 1.99, 7.0])
def test_the_largest_strength_that_a_rule_lets_in_is_found_though_beyond_it_harm_is_flat(edge):
    # beyond the edge the row is thrown out: a search that doubles while harm grows never sees what is below
    best = found(lambda s: jnp.where(s <= edge, s, 0.01), 30)
    assert 0.97 * edge <= best <= edge


def test_harm_that_is_no_number_never_wins():
    assert found(lambda s: jnp.where(s <= 3, s, -jnp.inf), 30) == pytest.approx(3, rel=0.03)
    view = view_of(*example(MASKS["first"]), ask_rule=unweighted(lambda rows: rows.mean(axis=0) / 0))
    for measure in _search.MEASURE_NEEDS:
        assert _search.build_harm(view, measure)(view.rows) == -jnp.inf
    assert found(lambda s: jnp.full_like(s, -jnp.inf)) == 1


def test_distances_are_measured_where_their_squares_are_no_floats():
    rows, byzantine = example(MASKS["first"])
    small, large = (float(_search.build_harm(view_of(np.float32(c) * rows, byzantine))(c * rows)) for c in (1, 1e30))
    assert large == pytest.approx(1e30 * small, rel=1e-5)
    assert float(_search.length(jnp.zeros(3))) == 0


def test_bisection_gives_the_largest_accepted_size_and_the_smallest_tried_where_none_is():
    most = jnp.float32(32)
    assert float(_search.find_farthest(lambda s: s <= 5, most, 16)) == pytest.approx(5, abs=32 / 2**15)
    assert float(_search.find_farthest(lambda s: s <= -1, most, 16)) == 32 / 2**15
    # the largest is tried itself
    assert float(_search.find_farthest(lambda s: s <= 32, most, 16)) == 32


# -- searched strengths --------------------------------

SEARCHED = [
    ("little", {"z": "search"}, lambda m, s, strength: m - strength * s),
    ("little", {"z": "search", "sign": "plus"}, lambda m, s, strength: m + strength * s),
    ("empire", {"epsilon": "search"}, lambda m, s, strength: -strength * m),
]


@pytest.mark.parametrize("rule", by_day(["average", "trimmed_mean"], RULES))
@pytest.mark.parametrize(("name", "options", "formula"), SEARCHED, ids=["minus", "plus", "empire"])
def test_a_searched_strength_is_as_harmful_as_the_best_of_a_dense_grid(name, options, formula, rule):
    rows, byzantine = example(MASKS["scattered"], d=40, seed=3)
    # close to the origin, so that turning round is not far out
    rows = rows - np.where(byzantine[:, None], 0, np.float32(2.5))
    got = forged(name, rows, byzantine, changes={"ask_rule": rule_of(rule)}, evaluations=40, **options)
    m, s = honest_statistics(rows, byzantine)
    grid = [distance(rule, rows, byzantine, formula(m, s, strength)) for strength in np.geomspace(2**-10, 2**9, 2000)]
    reached = distance(rule, rows, byzantine, got[byzantine][0].astype(np.float64))
    assert reached >= 0.97 * max(grid)
    np.testing.assert_allclose(got[byzantine], np.tile(got[byzantine][0], (F, 1)))


@pytest.mark.slow
def test_a_search_is_what_optimised_makes_of_the_same_attack():
    rows, byzantine = example(MASKS["scattered"])
    changes = {"ask_rule": rule_of("krum")}
    for name, option in (("little", "z"), ("empire", "epsilon")):
        np.testing.assert_allclose(
            forged("optimised", rows, byzantine, changes=changes, attack=name),
            forged(name, rows, byzantine, changes=changes, **{option: "search"}),
            rtol=1e-5,
        )


def test_optimised_keeps_the_state_and_the_data_of_the_attack_it_wraps():
    wrapped = attacks.build("optimised", N, F, attack="sign_flip")
    rows, byzantine = example(MASKS["last"])
    got = forged("optimised", rows, byzantine, attack="sign_flip")
    ratio = got[byzantine] / rows[byzantine]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)
    assert wrapped.init(D) == ()
    assert wrapped.corrupt is None


def test_each_measure_finds_what_is_worst_by_itself():
    """The aggregate is -s m on all coordinates: far for large s, turned for any, and the loss has its top at s = 2."""
    rows, byzantine = example(MASKS["first"])
    m, _ = honest_statistics(rows, byzantine)
    changes = {
        "ask_rule": unweighted(lambda attempt: attempt[0]),
        # params = 0 - 0.5 (-s m) = s m / 2
        "loss": lambda params: -jnp.square(params - jnp.asarray(m)).sum(),
        "after": lambda aggregate: -0.5 * aggregate,
    }
    options = {"attack": "empire", "evaluations": 30}
    strength = {
        measure: float(
            np.mean(-forged("optimised", rows, byzantine, changes=changes, measure=measure, **options)[0] / m)
        )
        for measure in _search.MEASURE_NEEDS
    }
    assert strength["loss"] == pytest.approx(2, rel=0.01)
    assert strength["distance"] > 64
    # every strength turns it round alike
    assert strength["cosine"] > 0


# -- fang --------------------------------


def farthest_selected(rows, byzantine, towards, centre, most):
    """By steps of a thousandth from above, in float64: the first size at which Krum gives the Byzantine row."""
    for size in most * np.linspace(1, 0, 4001)[:-1]:
        place = centre + size * towards
        if np.array_equal(answered("krum", rows, byzantine, place), place):
            return size
    return 0.0


@pytest.mark.parametrize("where", MASKS)
def test_fang_against_krum_is_the_largest_lambda_that_krum_selects(where):
    rows, byzantine = example(MASKS[where], d=60, seed=5)
    rows = rows - np.where(byzantine[:, None], 0, np.float32(2.9))
    got = forged("fang", rows, byzantine, changes={"ask_rule": rule_of("krum")}, epsilon=0.0, evaluations=20)[byzantine]
    m, _ = honest_statistics(rows, byzantine)
    expected = farthest_selected(rows, byzantine, -np.sign(m), 0 * m, 3.0)
    assert 0.1 < expected < 2.9
    np.testing.assert_allclose(got, np.tile(-expected * np.sign(m), (F, 1)), rtol=4e-3)
    # mutants: towards the gradient, around the mean, along the mean
    for wrong in (expected * np.sign(m), m - expected * np.sign(m), -expected * m / np.abs(m).mean()):
        assert np.abs(got[0] - wrong).max() > 0.01


def test_the_bound_of_fangs_theorem_is_no_smaller_than_what_krum_selects():
    from byzax.attacks.fang import _largest_lambda

    for seed in range(5):
        rows, byzantine = example(MASKS["last"], d=30, seed=seed)
        rows = rows - np.where(byzantine[:, None], 0, np.float32(2.8))
        m, _ = honest_statistics(rows, byzantine)
        bound = float(_largest_lambda(view_of(rows, byzantine), F))
        assert farthest_selected(rows, byzantine, -np.sign(m), 0 * m, 2 * bound) <= bound
        honest = rows[~byzantine].astype(np.float64)
        squared = np.sort(np.square(honest[:, None] - honest[None]).sum(axis=2), axis=1)[:, 1 : N - F - 1]
        scores, longest = squared.sum(axis=1), np.linalg.norm(honest, axis=1).max()
        assert bound == pytest.approx((np.sqrt(scores.min() / (N - 2 * F - 1)) + longest) / np.sqrt(30), rel=1e-5)


def test_fangs_supporters_are_near_the_first_byzantine_row_and_not_on_it():
    rows, byzantine = example(MASKS["scattered"], d=30)
    got = forged("fang", rows, byzantine, epsilon=0.5)[byzantine]
    assert np.unique(np.abs(got[0])).size == 1
    apart = np.linalg.norm(got[1:] - got[0], axis=1)
    assert ((apart > 0) & (apart <= 0.5 + 1e-4)).all()
    assert np.abs(got[1] - got[2]).max() > 0


@pytest.mark.parametrize("where", MASKS)
def test_fang_against_the_trimmed_mean_is_on_the_far_side_of_the_honest_values(where):
    rows, byzantine = example(MASKS[where], d=400, seed=1)
    rows = rows - np.where(byzantine[:, None], 0, np.float32(3) - np.linspace(-3, 3, 400, dtype=np.float32))
    m, s = honest_statistics(rows, byzantine)
    honest = rows[~byzantine].astype(np.float64)
    bound = np.where(m > 0, honest.min(axis=0), honest.max(axis=0))
    options = {"against": "trimmed_mean"}
    exact = forged("fang", rows, byzantine, b=1.0, **options)[byzantine]
    np.testing.assert_allclose(exact, np.tile(bound, (F, 1)), rtol=1e-6)
    # [bound, 2 bound] away from 0 where that is farther out, [bound / 2, bound] towards it where it is
    got = forged("fang", rows, byzantine, **options)[byzantine]
    farther = np.where(m > 0, got <= bound + 1e-6, got >= bound - 1e-6)
    assert farther.all()
    ratio = np.where(np.sign(bound) == -np.sign(m), got / bound, bound / got)
    assert ratio.min() >= 1 - 1e-5
    assert ratio.max() <= 2 + 1e-5
    assert ratio.mean() == pytest.approx(1.5, abs=0.05)
    assert np.abs(got[0] - got[1]).max() > 0
    # the paper's guess where rows are hidden: 3 to 4 deviations, ddof 0
    guess = (forged("fang", rows, byzantine, bounds="deviations", **options)[byzantine] - m) / s / -np.sign(m)
    assert guess.min() >= 3 - 1e-3
    assert guess.max() <= 4 + 1e-3
    assert guess.max() > 3.99


# -- the largest that a rule accepts --------------------------------

SELECTING = {
    "krum": ("krum", {}, ()),
    "krum plain": ("krum", {"distance": "plain", "neighbours": "n-f-1"}, ()),
    "multi_krum": ("multi_krum", {}, ()),
    "brute": ("brute", {}, ()),
    "nnm, krum": ("krum", {}, ("nnm",)),
}


def chain_of(name, options, before, n, f):
    mixers = [functools.partial(pre.factory(each)) for each in before]
    rule = pre.chained(functools.partial(aggregators.factory(name), **options), n, f, mixers)

    def ask(rows):
        aggregate, _, info = rule.apply(rows, rule.init(rows.shape[1]), Context(jax.random.key(7)))
        return Answer(aggregate, info.weights, rows)

    return ask


@pytest.mark.slow
@pytest.mark.parametrize("rule", SELECTING)
@pytest.mark.parametrize("attack", ["fang", "hidden_vulnerability"])
def test_what_is_sent_is_selected_at_its_size_and_not_at_a_hundredth_more(attack, rule):
    """By the weights that the rule gives and nothing else: an honest row that is selected is no acceptance."""
    n, f, d, draws = 15, 3, 20, 12
    byzantine = jnp.arange(n) < f
    ask = chain_of(*SELECTING[rule], n, f)
    made = attacks.build(attack, n, f, **({"epsilon": 0.0} if attack == "fang" else {}))

    def weight(rows):
        return jnp.where(byzantine, ask(rows).weights, 0).sum()

    def one(rows):
        sent, _ = made.forge(jax.random.key(0), view_of(rows, byzantine, ask_rule=ask), ())
        centre = 0 if attack == "fang" else rows[f:].mean(axis=0)
        more = jnp.where(byzantine[:, None], centre + 1.01 * (sent - centre), rows)
        return jnp.abs(sent[0] - centre).max(), weight(sent), weight(more)

    # as many normal rows as in the case that showed the fault: with the aggregate alone 27 of 60 draws were selected
    rows = np.random.default_rng(0).normal(size=(draws, n, d)).astype(np.float32) + np.float32(0.5)
    size, there, beyond = (np.asarray(each) for each in jax.jit(lambda rows: jax.lax.map(one, rows))(rows))
    # half of what an average of all rows gives them
    least = f / (2 * n) * 0.99
    assert (there >= least).all()
    assert (size > 0.1).all()
    # behind mixed rows the edge is no single one: one draw in twenty
    assert (beyond < least).mean() >= (0.9 if "," in rule else 1)


def test_what_is_left_of_an_aggregate_without_the_honest_rows_is_the_part_of_the_others():
    """Mutants: an honest winner on that side is taken for acceptance; a kept Byzantine row for a new one."""
    rows, byzantine = example(MASKS["first"], d=4, seed=3)
    view = view_of(rows, byzantine, new=jnp.ones(N, bool))
    m, _ = honest_statistics(rows, byzantine)
    place = jnp.asarray(rows[5] + 0.05, jnp.float32)
    tried = jnp.broadcast_to(place, rows.shape)

    def winner(number, weights=True):
        return lambda rows: Answer(rows[number], jnp.eye(N)[number] if weights else None, rows)

    def accepts(answer, share=None, **changes):
        return bool(_search.build_acceptance(view._replace(ask_rule=answer, **changes), share)(tried, place))

    assert accepts(winner(0), 1.0)
    assert not accepts(winner(5))
    assert accepts(winner(5, weights=False))
    # two of four averaged rows
    half = jnp.zeros(N).at[jnp.array([0, 1, 5, 6])].set(0.25)
    average = lambda rows: Answer(half @ rows, half, rows)  # noqa: E731
    assert accepts(average, 0.5)
    assert not accepts(average, 0.51)
    # only the first one is new: the other was at the server before
    only = jnp.ones(N, bool).at[1].set(False)
    assert not accepts(average, 0.5, new=only)
    assert accepts(average, 0.25, new=only)
    # a rule that says one thing and does another, as Bulyan's second stage may: its aggregate counts
    assert not accepts(lambda rows: Answer(jnp.asarray(m, jnp.float32), jnp.eye(N)[0], rows))


# -- hidden vulnerability --------------------------------


@pytest.mark.parametrize(
    ("coordinate", "place"), [("last", [-1]), by_night(4, [4]), by_night("all", slice(None)), ("deviation", [17])]
)
def test_the_hidden_coordinate_is_as_far_off_as_krum_accepts(coordinate, place):
    rows, byzantine = example(MASKS["scattered"], d=40, seed=2)
    rows[:, 17] = 3 + 2 * (rows[:, 17] - 3)
    changes = {"ask_rule": rule_of("krum")}
    got = forged("hidden_vulnerability", rows, byzantine, changes=changes, coordinate=coordinate, share=0.9)[byzantine]
    m, _ = honest_statistics(rows, byzantine)
    towards = np.zeros(40)
    towards[place] = 1
    expected = farthest_selected(rows, byzantine, towards, m, 32.0 / np.linalg.norm(towards))
    assert expected > 1
    np.testing.assert_allclose(got, np.tile(m + expected * towards, (F, 1)), atol=0.05 * expected)


def leeway(d, n=39, f=9, coordinate="last", rule="krum", **options):
    rows = np.random.default_rng(d).normal(size=(n, d)).astype(np.float32)
    byzantine = np.arange(n) < f
    changes = {"ask_rule": rule_of(rule, n, f)}
    got = forged(
        "hidden_vulnerability", rows, byzantine, f=f, changes=changes, coordinate=coordinate, evaluations=14, **options
    )
    return float((got[0] - rows[~byzantine].mean(axis=0))[-1])


@pytest.mark.slow
def test_krums_leeway_is_the_closed_form_and_grows_with_the_root_of_d():
    """ALGORITHMS, section 3.2: sigma sqrt(d) sqrt(2 (n-f-2) / (n-2f-1) - 1), for normal rows."""
    constant = np.sqrt(2 * (39 - 9 - 2) / (39 - 18 - 1) - 1)
    assert constant == pytest.approx(1.342, abs=1e-3)
    large = leeway(10_000)
    assert large == pytest.approx(constant * 100, rel=0.03)
    assert np.log10(large / leeway(100)) / 2 == pytest.approx(0.5, abs=0.05)
    # in every coordinate: the same without the root of d
    assert leeway(10_000, coordinate="all") == pytest.approx(constant, rel=0.03)


def test_an_average_accepts_the_largest_size_that_is_tried():
    rows, byzantine = example(MASKS["first"])
    got = forged("hidden_vulnerability", rows, byzantine)[byzantine]
    m, s = honest_statistics(rows, byzantine)
    np.testing.assert_allclose(got[0][-1] - m[-1], 32 * np.sqrt((s**2).sum()), rtol=1e-3)


def test_a_coordinate_that_rows_do_not_have_is_refused():
    with pytest.raises(
        ValueError, match=r"^hidden_vulnerability: coordinate must be one of the coordinates 0\.\.5 of the rows, got 6"
    ):
        forged("hidden_vulnerability", *example(MASKS["first"]), coordinate=6)


# -- spectral --------------------------------


def kept_by_dnc(rows, byzantine, row, drop=F):
    """Divide and conquer on all coordinates, in float64: which rows are not dropped."""
    attacked = np.where(byzantine[:, None], row, rows.astype(np.float64))
    centred = attacked - attacked.mean(axis=0)
    scores = np.square(centred @ np.linalg.svd(centred, full_matrices=False)[2][0])
    return ~np.isin(np.arange(N), np.argsort(scores)[N - drop :])


@pytest.mark.parametrize("where", MASKS)
def test_dnc_keeps_every_byzantine_row_of_spectral_and_none_that_is_farther_out(where):
    for seed in range(4):
        rows, byzantine = example(MASKS[where], d=30, seed=seed)
        got = forged("spectral", rows, byzantine, margin=0.99)[byzantine].astype(np.float64)
        assert kept_by_dnc(rows, byzantine, got[0])[byzantine].all()
        m, _ = honest_statistics(rows, byzantine)
        assert (got[0] - m) @ m < 0
        # the closed form is the edge: a little beyond, and the Byzantine rows are what stands out
        beyond = forged("spectral", rows, byzantine, margin=1.05)[byzantine].astype(np.float64)
        assert not kept_by_dnc(rows, byzantine, beyond[0])[byzantine].all()


def test_the_size_of_spectral_is_where_the_first_direction_turns_to_the_byzantine_rows():
    rows, byzantine = example(MASKS["scattered"], d=30)
    honest = rows[~byzantine].astype(np.float64)
    m = honest.mean(axis=0)
    top = np.linalg.svd(honest - m, full_matrices=False)[2][0]
    aside = -m + (m @ top) * top
    aside /= np.linalg.norm(aside)

    def looks_along_the_honest(size):
        attacked = np.where(byzantine[:, None], m + size * aside, rows.astype(np.float64))
        first = np.linalg.svd(attacked - attacked.mean(axis=0), full_matrices=False)[2][0]
        return abs(first @ top) > 0.99

    sizes = np.linspace(0, 10, 5001)
    edge = sizes[[not looks_along_the_honest(size) for size in sizes].index(True)]
    got = forged("spectral", rows, byzantine, margin=1.0)[byzantine]
    np.testing.assert_allclose(got, np.tile(m + edge * aside, (F, 1)), atol=0.005)


# -- gradient ascent --------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "start", "together"),
    [
        ("average", "little", True),
        ("trimmed_mean", "empire", False),
        ("krum", "little", True),
        ("krum", "empire", False),
        ("dnc", "little", False),
        # loops until it is done
        ("geometric_median", "little", True),
    ],
)
def test_gradient_ascent_is_never_less_harmful_than_its_start(rule, start, together):
    rows, byzantine = example(MASKS["scattered"], d=20)
    changes = {"ask_rule": rule_of(rule)}
    harm = _search.build_harm(view_of(rows, byzantine, **changes))
    began = forged(start, rows, byzantine, changes=changes)
    got = forged("gradient_ascent", rows, byzantine, changes=changes, start=start, together=together)
    assert float(harm(got)) >= float(harm(began)) * (1 - 1e-6)
    np.testing.assert_array_equal(got[~byzantine], rows[~byzantine])
    if rule in ("average", "geometric_median") or (rule, start) == ("krum", "little"):
        assert float(harm(got)) > 1.01 * float(harm(began))


@pytest.mark.slow
def test_a_rule_without_a_way_back_is_climbed_along_random_directions():
    rows, byzantine = example(MASKS["scattered"])

    def aggregate(attempt):
        return jax.lax.while_loop(lambda carried: carried[0] < 2, lambda c: (c[0] + 1, c[1] / 2), (0, attempt.mean(0)))[
            1
        ]

    changes = {"ask_rule": unweighted(aggregate)}
    harm = _search.build_harm(view_of(rows, byzantine, **changes))
    got = forged("gradient_ascent", rows, byzantine, changes=changes)
    assert float(harm(got)) > 1.5 * float(harm(forged("little", rows, byzantine)))


@pytest.mark.slow
def test_a_step_goes_up_the_slope_of_the_harm():
    """One coordinate moves the aggregate, that of the last Byzantine row: each of the others keeps its start."""
    rows, byzantine = example(MASKS["first"])
    changes = {"ask_rule": unweighted(lambda attempt: jnp.zeros(D).at[1].set(attempt[2, 1]))}
    _, s = honest_statistics(rows, byzantine)
    usual = np.sqrt((s**2).sum())
    options = {"changes": changes, "start": "zero", "steps": 2, "step_size": 0.5}
    apart = forged("gradient_ascent", rows, byzantine, together=False, **options)[byzantine]
    # harm |(-m_0, x - m_1, ...)| grows for x below m_1: steps of 0.5 and 1 usual distances, away from the mean
    np.testing.assert_allclose(apart[2], np.eye(D)[1] * -1.5 * usual, rtol=1e-5)
    np.testing.assert_array_equal(apart[:2], 0)
    one = forged("gradient_ascent", rows, byzantine, together=True, **options)[byzantine]
    np.testing.assert_allclose(one, np.tile(np.eye(D)[1] * -1.5 * usual, (F, 1)), rtol=1e-5)


def test_a_step_that_overshoots_is_taken_back_and_halved():
    rows, byzantine = example(MASKS["first"])
    m, s = honest_statistics(rows, byzantine)
    usual = np.sqrt((s**2).sum())
    # thrown out where the first coordinate is beyond -0.3 usual distances
    inside = jnp.asarray(-0.3 * usual, jnp.float32)

    def aggregate(attempt):
        return jnp.asarray(m, jnp.float32).at[0].set(jnp.where(attempt[0, 0] > inside, attempt[0, 0], m[0]))

    options = {"changes": {"ask_rule": unweighted(aggregate)}, "start": "zero", "steps": 5, "step_size": 0.5}
    got = forged("gradient_ascent", rows, byzantine, **options)[byzantine]
    # 0.5 too far, 0.25 fits, 0.5 more does not, 0.25 not, 0.125 not
    np.testing.assert_allclose(got[0], np.eye(D)[0] * -0.25 * usual, rtol=1e-4)


def test_slopes_and_answers_that_are_no_numbers_leave_the_start():
    rows, byzantine = example(MASKS["scattered"])
    for broken in (lambda attempt: attempt.mean(axis=0) * jnp.nan, lambda attempt: jnp.sqrt(0 * attempt.mean(axis=0))):
        got = forged("gradient_ascent", rows, byzantine, changes={"ask_rule": unweighted(broken)})
        np.testing.assert_array_equal(got, forged("little", rows, byzantine))


def test_a_rule_that_jax_does_not_see_leaves_the_start():
    rows, byzantine = example(MASKS["scattered"])

    def aggregate(attempt):
        shape = jax.ShapeDtypeStruct((D,), jnp.float32)
        return jax.pure_callback(lambda rows: np.asarray(rows).mean(axis=0), shape, attempt)

    got = forged("gradient_ascent", rows, byzantine, changes={"ask_rule": unweighted(aggregate)})
    np.testing.assert_array_equal(got, forged("little", rows, byzantine))
