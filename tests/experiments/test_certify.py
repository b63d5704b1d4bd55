"""The measurements of `byzax certify`, against exact values."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax.experiments.certify import breakdown, draws, forging, intervals, leak, resilience, robustness, search, theory
from byzax.experiments.certify.description import Gradients, load
from byzax.experiments.certify.subject import answers, build_subject
from byzax.experiments.labels import labels
from byzax.simulator.mistakes import ScenarioError
from tests.nightly import by_day, by_night

Q = 2 / 7  # q = f / (n - 2f) at n = 11, f = 2


def quiet(text):
    pass


def asked(rule, **flags):
    flags = {"rules": [rule], "n": 11, "f": 2, "d": 40, "budget": 1000, "samples": 60, **flags}
    return load(None, {key: value for key, value in flags.items() if value is not None})


def subject_of(certificate, d=None):
    part = certificate.subjects[0]
    return build_subject(part.name, part, certificate.pre, certificate.n, certificate.f, d or certificate.d)


def measured(rule, **flags):
    certificate = asked(rule, **flags)
    scene, subject = draws.scene(certificate), subject_of(certificate)
    attackers = certificate.attackers
    forgers, skipped = forging.build_batched_attacks(attackers, labels(attackers), subject, bool(certificate.attacks))
    found, _ = resilience.measure(subject, scene, forgers, skipped, certificate.samples, certificate.budget, quiet)
    return {case.attack: case for case in found.cases}, found, scene


def kappa(rule, n=11, f=2, budget=4000, **flags):
    certificate = asked(rule, n=n, f=f, **flags)
    return robustness.measure(subject_of(certificate), budget, 0, quiet)


def broken(rule, **flags):
    certificate = asked(rule, d=5, **flags)
    return breakdown.measure(subject_of(certificate), draws.scene(certificate), None, quiet)


# intervals


def test_the_length_of_a_mean_is_estimated_without_the_noise_of_the_mean():
    generator, mu = np.random.default_rng(0), np.full(20, 0.05)
    squares, naive, inside = [], [], 0
    for _ in range(300):
        x = mu + generator.normal(size=(40, 20))
        found = intervals.length_of_mean(x @ x.T)
        squares.append(found.value**2 if found.value else 0)
        naive.append(np.square(x.mean(axis=0)).sum())
        inside += found.low <= np.linalg.norm(mu) <= found.high
    # |mu|² = 0.05 and the noise of the mean 20/40 = 0.5: the plain square of the mean is eleven times too large
    assert np.mean(naive) > 0.5
    assert np.mean(squares) < 0.15
    assert inside / 300 >= 0.93


def test_the_interval_of_a_length_covers_it_19_times_of_20():
    generator, mu = np.random.default_rng(1), np.full(10, 0.5)
    inside = 0
    for _ in range(400):
        x = mu + generator.normal(size=(50, 10))
        found = intervals.length_of_mean(x @ x.T)
        inside += found.low <= np.linalg.norm(mu) <= found.high
    assert 0.91 <= inside / 400 <= 0.99


@pytest.mark.slow
def test_the_bootstrap_of_a_ratio_covers_it_19_times_of_20():
    generator, inside = np.random.default_rng(2), 0
    for _ in range(200):
        below = generator.gamma(5, size=80)
        found = intervals.ratio(below * generator.gamma(10, 0.2, size=80), below, generator)
        inside += found.low <= 2 <= found.high
    assert 0.88 <= inside / 200 <= 0.99


def test_answers_that_are_not_finite_have_no_angle():
    assert intervals.length_of_mean(np.full((3, 3), np.nan)) == (np.inf, np.inf, np.inf)


# resilience


def test_what_empire_does_to_the_average_is_what_the_formula_says():
    # F = (n - f - f epsilon) / n times the honest mean, so E F = 5/11 g and r = 6/11 |g|
    cases, _, scene = measured("average", attacks=[{"name": "empire", "epsilon": 2.0}, "none"], samples=400)
    empire, none = cases["empire epsilon=2"], cases["none"]
    assert empire.sine.low <= 6 / 11 <= empire.sine.high
    assert empire.sine.high - empire.sine.low < 0.03
    assert empire.inner.low <= 5 / 11 <= empire.inner.high
    assert empire.verdict == "holds at 33°"
    assert none.sine.low == 0
    # E |F|² / E |G|² = (1 + 1/11) / (1 + 1) without an attack: the noise of a row is as long as g
    assert scene.spread == pytest.approx(scene.norm)
    assert none.moments[0].low <= (1 + 1 / 11) / 2 <= none.moments[0].high


@pytest.mark.slow
def test_the_search_breaks_the_average_and_turns_krum_where_no_attack_of_the_folder_does():
    cases, found, _ = measured("average", attacks=["none"])
    assert cases["searched angle"].verdict == "fails: turned round" or cases["searched angle"].sine.low > 1
    assert found.worst.sine.value > 10
    # n=11, f=2: Krum accepts rows up to sqrt(2 7/6 - 1) = 1.15 spreads away, and a spread is |g|
    cases, found, _ = measured("krum", d=1000, samples=100, budget=4000)
    assert cases["searched inner"].inner.high < 0
    shipped = {"empire", "gaussian", "hijack", "little", "non_finite", "none", "sign_flip"}
    assert max(cases[name].sine.high for name in shipped) < 0.5
    assert any("label_flip" in line for line in found.skipped)


@pytest.mark.slow
def test_krum_keeps_the_angle_of_its_theorem_where_there_is_one():
    # sigma such that sin alpha = eta sqrt(d) sigma / |g| = 0.9
    sigma = 0.9 / theory.eta(11, 2) / np.sqrt(40)
    cases, found, _ = measured("krum", sigma=float(sigma), attacks=["empire", "little"])
    assert found.proven is not None
    assert found.proven.value == pytest.approx(0.9)
    assert all(case.sine.high <= 0.9 and case.inner.low >= 1 - 0.9 for case in cases.values())


def test_draws_do_not_depend_on_the_chunks_they_come_in():
    scene = draws.scene(asked("krum"))
    whole = draws.honest_rows(scene, (draws.DrawPurpose.HONEST,), np.arange(6))
    np.testing.assert_array_equal(whole[3:5], draws.honest_rows(scene, (draws.DrawPurpose.HONEST,), np.arange(3, 5)))
    assert not np.array_equal(whole[0], whole[1])


def test_a_batch_that_is_not_full_gives_the_same_answers():
    certificate = asked("dnc")
    scene, subject = draws.scene(certificate), subject_of(certificate)
    rows = draws.honest_rows(scene, (draws.DrawPurpose.HONEST,), np.arange(70))
    own, key = rows[:, 0], jax.random.key(3)
    np.testing.assert_array_equal(answers(subject, rows, own, key)[:5], answers(subject, rows[:5], own[:5], key))


@pytest.mark.slow
def test_the_noise_of_measured_gradients_falls_with_the_root_of_the_batch():
    scenes = [
        draws.scene(
            asked(
                "krum",
                gradients={"model": "softmax", "batches": 60, "data": {"name": "digits", "batch_size": size}},
                d=None,
            )
        )
        for size in (8, 32)
    ]
    assert [scene.d for scene in scenes] == [650, 650]
    assert scenes[0].sigma / scenes[1].sigma == pytest.approx(2, rel=0.15)
    np.testing.assert_array_equal(scenes[0].gradient, scenes[1].gradient)


# robustness


def largest_ratio(rows, answer, f):
    """The definition, for every subset, one by one."""
    best = 0.0
    for chosen in combinations(range(len(rows)), len(rows) - f):
        some = rows[list(chosen)]
        mean = sum(some) / len(some)
        best = max(best, sum((answer - mean) ** 2) / (sum(sum((x - mean) ** 2) for x in some) / len(some)))
    return best


def test_the_ratio_is_that_of_the_definition():
    generator = np.random.default_rng(0)
    every = robustness._all_subsets(8, 3)
    for _ in range(10):
        rows, answer = generator.normal(size=(8, 3)), generator.normal(size=3)
        # what float32 may have added to an answer is taken off: 2e-5 of a row's length
        assert robustness.ratio(rows, answer, 3, every) == pytest.approx(largest_ratio(rows, answer, 3), rel=1e-3)


def test_likely_sets_are_nearly_as_bad_as_all_of_them():
    generator = np.random.default_rng(1)
    every, shares = robustness._all_subsets(11, 2), []
    for _ in range(50):
        rows = generator.standard_t(2, size=(11, 4))
        answer = np.median(rows, axis=0)
        shares.append(robustness.ratio(rows, answer, 2) / robustness.ratio(rows, answer, 2, every))
    assert max(shares) <= 1 + 1e-9
    assert min(shares) > 0.9
    assert np.median(shares) > 0.999


def test_rounding_of_an_answer_is_no_deviation():
    rows = np.full((5, 2), 1e6)
    assert robustness.ratio(rows, np.full(2, 1e6 + 0.0625), 1) == 0
    assert robustness.ratio(rows, np.full(2, 1e6 + 1e3), 1) > robustness.LARGEST


# rule -> smallest and largest kappa that a search at n=11, f=2 may find
KAPPAS = {
    # the lower bound for any rule is attained: f ones and n-2f zeros, Byzantine rows at zero; nothing more was
    # ever found
    "trimmed_mean": (Q - 1e-3, Q + 1e-6),
    # exact for odd n: (n-f-a) / a with a = (n+1)/2 - f = 4
    "median": (1.25 - 1e-3, 1.25 + 1e-6),
    "geometric_median": (1.25 - 1e-3, 4 * (1 + Q) ** 2),
    "krum": (1.5, 9.0),
    "brute": (1.2, 8 * 4 / 9),
    "smea": (4 * Q - 1e-2, 4 * Q + 1e-6),
}


@pytest.mark.parametrize("rule", by_day(["trimmed_mean", "median", "krum"], KAPPAS))
def test_kappa_is_found_between_known_and_proven(rule):
    found = kappa(rule, budget=1500)
    low, high = KAPPAS[rule]
    assert low <= found.found <= high
    assert found.bound is not None
    assert found.verdict == "within the bound"


@pytest.mark.parametrize("rule", ["average", "sign_majority", "cge"])
def test_kappa_of_rules_that_have_none_is_found_to_grow(rule):
    found = kappa(rule, budget=1000)
    assert found.found == np.inf
    assert found.verdict == "fails: grows with the attack"


def test_kappa_of_a_rule_that_fewer_byzantine_rows_break_is_found_to_grow():
    """One row far out hides another from dnc, whose direction is that of the farthest."""
    found = robustness.measure(subject_of(asked("dnc")), 400, 0, quiet)
    assert found.found == np.inf, found


def test_kappa_of_the_average_without_byzantine_rows_is_0():
    assert kappa("average", f=0, budget=200).found == 0


def test_kappa_of_a_rule_that_trusts_the_server_counts_the_rows_that_it_trusts():
    assert subject_of(asked("fltrust")).trusting
    assert not subject_of(asked("dnc")).trusting
    assert np.isfinite(kappa("fltrust", budget=300).found)


@pytest.mark.slow
def test_nnm_in_front_stays_within_its_own_bound():
    found = kappa("median", pre=["nnm"], budget=1000)
    assert found.bound is not None
    assert found.bound.value == pytest.approx(8 * 2 / 9 * 2.25)
    assert Q - 1e-3 <= found.found <= found.bound.value


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["krum", "median", "trimmed_mean", "geometric_median", "brute", "smea"])
@pytest.mark.parametrize(("n", "f"), [(12, 2), (15, 3), (11, 4), (16, 5)])
def test_kappa_never_exceeds_what_is_proven(rule, n, f):
    if rule == "krum" and n < 2 * f + 3:
        return
    found = kappa(rule, n, f, budget=6000)
    assert found.bound is not None
    assert theory.fraction(n, f) - 1e-3 <= found.found <= found.bound.value + 1e-6


# breakdown


@pytest.mark.parametrize(
    ("rule", "n", "f", "num_byzantine"),
    [
        ("average", 11, 2, 1),
        ("median", 11, 5, 6),
        ("median", 12, 5, 6),
        by_night("geometric_median", 11, 5, 6),
        ("trimmed_mean", 11, 2, 3),
    ],
)
def test_rules_break_where_theory_says(rule, n, f, num_byzantine):
    found = broken(rule, n=n, f=f)
    assert found.num_byzantine == num_byzantine
    assert found.standing is not None
    assert found.standing.value == num_byzantine - 1


@pytest.mark.parametrize("rule", by_day(["krum"], ("krum", "bulyan", "brute", "multi_krum")))
def test_no_rule_breaks_at_the_number_of_byzantine_rows_it_was_built_for(rule):
    found = broken(rule)
    assert found.standing is not None
    assert found.num_byzantine is not None
    assert found.num_byzantine > found.standing.value == 2
    assert found.curve[2] < 10


def test_multi_krum_over_all_rows_is_proven_to_stand_no_byzantine_row():
    (every,), (some,) = asked({"name": "multi_krum", "m": 11}).subjects, asked("multi_krum").subjects
    stands = [theory.standing(part, (), 11, 2) for part in (every, some)]
    assert [bound and bound.value for bound in stands] == [0, 2]


def test_resilience_standing_and_leak_are_claimed_for_what_they_are_proven_for_alone():
    for rule, n, stands in (
        ("krum", 11, 2),
        ({"name": "krum", "distance": "plain"}, 11, None),
        ({"name": "krum", "neighbours": "n-f"}, 11, None),
        ({"name": "krum", "unproven": True}, 6, None),
        ({"name": "krum", "unproven": True}, 5, None),
        ({"name": "multi_krum", "m": 7}, 11, 2),
        ({"name": "multi_krum", "m": 8}, 11, None),
        ({"name": "multi_krum", "unproven": True}, 5, None),
        ({"name": "bulyan", "base": {"name": "krum", "distance": "plain"}}, 11, 2),
        ({"name": "bulyan", "unproven": True}, 9, None),
        ({"name": "geometric_median", "nu": 0.1}, 11, None),
        ("medoid", 11, None),
    ):
        (part,) = asked(rule, n=n).subjects
        found = theory.standing(part, (), n, 2)
        assert (found and found.value) == stands, rule
        proven = rule == "krum"
        assert (theory.sine(part, (), n, 2, 1.0, 1.0) is not None) == proven
        # the closed form of the leak needs an honest neighbour of a Byzantine row, n >= 2f + 2, and no theorem
        assert (theory.leak(part, (), n, 2, 100) is not None) == (proven or (part.name == "krum" and n == 6))


@pytest.mark.parametrize(
    ("rule", "n"),
    [
        ({"name": "multi_krum", "m": 9}, 11),
        by_night({"name": "multi_krum", "m": 9, "neighbours": "n-f-1"}, 11),
        by_night({"name": "krum", "neighbours": "n-f-3"}, 11),
        by_night({"name": "krum", "unproven": True}, 6),
        by_night({"name": "krum", "unproven": True, "neighbours": "n-f-1"}, 5),
        by_night({"name": "median", "median": "lower"}, 12),
    ],
    ids=str,
)
def test_no_search_finds_more_than_the_bound_of_a_variant(rule, n):
    found = kappa(rule, n=n, budget=2000)
    assert found.bound is not None
    assert theory.fraction(n, 2) - 1e-3 <= found.found <= found.bound.value + 1e-6


@pytest.mark.slow
def test_krum_is_broken_by_a_byzantine_row_on_the_way_to_the_others():
    # n=13, f=2: among 5 Byzantine rows far away together each has 4 neighbours at 0 and needs 5 honest ones; one that
    # stands between them and the honest rows is nearer to both
    certificate = asked("krum", n=13, f=2, d=5)
    scene, subject = draws.scene(certificate), subject_of(certificate)
    assert breakdown.largest_deviation(subject, scene, 2)[0] < 10
    assert breakdown.largest_deviation(subject, scene, 5)[0] > breakdown.BEYOND


@pytest.mark.parametrize("num_byzantine", [1, 2, 41, 50, 99])
def test_bisection_finds_the_number_between_the_points_of_the_curve(num_byzantine):
    def ask(rows, own, keys):
        far = ~(jnp.abs(rows).max(axis=2) < 100)
        return jnp.where((far.sum(axis=1) >= num_byzantine)[:, None], rows[:, 0], rows[:, -1]), None

    certificate = asked("average", n=100, f=0, d=3)
    subject = subject_of(certificate)._replace(ask=ask)
    found = breakdown.measure(subject, draws.scene(certificate), None, quiet)
    assert found.num_byzantine == num_byzantine
    assert len(found.curve) < 45


def test_the_average_turns_at_the_epsilon_of_the_paper_and_the_median_at_none():
    # Xie et al. 2019: if and only if epsilon > (n - f) / f
    found = broken("average", sigma=0.01).epsilon
    assert found is not None
    assert found.low == pytest.approx(9 / 2, rel=0.02)
    assert found.high == np.inf
    assert broken("median").epsilon is None


# leak


def leaks(rule, n, f, dimensions):
    certificate = asked(rule, n=n, f=f)
    return leak.measure(
        lambda d: subject_of(certificate, d),
        lambda d: draws.scene(certificate.model_copy(update={"d": d})),
        dimensions,
        quiet,
    )


@pytest.mark.slow
def test_the_leak_of_krum_grows_with_the_root_of_d_and_that_of_bulyan_and_median_does_not():
    krum = leaks("krum", 15, 3, (100, 3000))
    assert 0.45 <= krum.slope <= 0.55
    assert krum.points[-1].value.value == pytest.approx(krum.points[-1].closed, rel=0.03)
    for rule in ("bulyan", "median"):
        found = leaks(rule, 15, 3, (100, 3000))
        assert found.verdict == "flat"
        assert all(point.value.value < 3 for point in found.points)
        assert found.points[0].closed is None


def test_the_leak_of_the_average_has_no_limit():
    assert leaks("average", 7, 1, (10, 100)).verdict == "no limit"


@pytest.mark.slow
def test_the_leak_of_krum_is_its_closed_form():
    # n=39, f=9: 1.342 sqrt(d)
    found = leaks("krum", 39, 9, (100, 1000, 10_000))
    assert 0.45 <= found.slope <= 0.55
    assert found.points[-1].value.value == pytest.approx(134.16, rel=0.03)
    assert abs(leaks("bulyan", 39, 9, (100, 1000, 10_000)).slope) < 0.15


# theory


@pytest.mark.parametrize(
    ("n", "f", "eta"), [(20, 6, 14.4), (25, 11, 58.6), (39, 9, 18.3), (51, 12, 23.5), (51, 24, 176.7)]
)
def test_eta_of_krum(n, f, eta):
    assert theory.eta(n, f) == pytest.approx(eta, abs=0.06)


def test_the_table_of_kappa():
    def bound(rule, **flags):
        certificate = asked(rule, **flags)
        found = theory.kappa(certificate.subjects[0], certificate.pre, certificate.n, certificate.f)
        return found and found.value

    # q = 2/7: 6 (1+q), and one row fewer for the Krum of 2017, 6 9/6
    assert bound({"name": "krum", "neighbours": "n-f-1"}) == pytest.approx(7.714, abs=1e-3)
    assert bound("krum") == pytest.approx(9)
    assert bound("geometric_median") == pytest.approx(6.612, abs=1e-3)
    assert bound("trimmed_mean") == pytest.approx(2.204, abs=1e-3)
    assert bound("median") == pytest.approx(1.25)
    assert bound("median", f=4) == pytest.approx(2.5)
    assert bound("geometric_median", pre=["nnm"]) == pytest.approx(16 / 9 * 7.612, abs=1e-2)
    # no bound for variants that the proofs are not of, nor for other rules
    assert bound({"name": "krum", "distance": "plain"}) is None
    assert bound({"name": "krum", "distance": "fourth"}) is None
    assert bound({"name": "krum", "neighbours": "n-f"}) is None
    assert bound({"name": "geometric_median", "nu": 0.1}) is None
    assert bound({"name": "multi_krum", "m": 11}) is None
    assert bound({"name": "multi_krum", "distance": "plain"}) is None
    assert bound("medoid") is None
    # 6 (n-f) / (k+1-f) for k neighbours, whatever m <= n-f is, and where fewer rows are there on purpose
    assert bound({"name": "krum", "neighbours": "n-f-3"}) == pytest.approx(10.8)
    assert bound({"name": "multi_krum", "m": 9}) == bound("multi_krum") == pytest.approx(9)
    assert bound({"name": "multi_krum", "m": 9, "neighbours": "n-f-1"}) == pytest.approx(7.714, abs=1e-3)
    assert bound({"name": "krum", "unproven": True}, n=6) == pytest.approx(24)
    assert bound({"name": "krum", "unproven": True}, n=5) is None
    assert bound({"name": "krum", "unproven": True, "neighbours": "n-f-1"}, n=5) == pytest.approx(18)
    # every median of an even number has as many honest rows beyond it
    assert bound({"name": "median", "median": "lower"}, n=12) == bound("median", n=12) == pytest.approx(1.5)
    assert bound({"name": "trimmed_mean", "trim": 3}) is None
    assert bound("krum", pre=["clip"]) is None
    assert bound("bulyan") is None
    assert theory.fraction(11, 2) == pytest.approx(Q)


@pytest.mark.parametrize(("n", "f", "constant"), [(39, 9, 1.342), (57, 27, 5.20), (51, 24, 4.90), (51, 12, 1.36)])
def test_the_constant_of_the_leak(n, f, constant):
    part = asked("krum").subjects[0]
    assert theory.leak(part, (), n, f, 10_000) == pytest.approx(100 * constant, rel=3e-3)


def test_patterns_of_few_byzantine_rows_are_different_ones():
    assert list(search.patterns(1)) == ["all alike"]
    assert len(search.patterns(5)) == 4


@pytest.mark.slow
def test_gradients_are_those_of_samples_on_the_scale_asked_for_and_of_none_that_are_changed():
    data = {"name": "digits", "batch_size": 8}
    standard = data | {"normalise": "standard"}
    plain, scaled = (
        draws.measure_gradient(Gradients.model_validate({"model": "softmax", "data": each}), 0)[0]
        for each in (data, standard)
    )
    # the bias has the same gradient only where the logits are the same
    assert not np.allclose(plain, scaled, rtol=1e-2)
    with pytest.raises(ScenarioError, match=r"gradients.data.augment: is for training"):
        draws.measure_gradient(Gradients.model_validate({"model": "softmax", "data": data | {"augment": ["flip"]}}), 0)
