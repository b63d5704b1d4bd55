"""The plot of a certificate at the edges: many rules, one row, a bound of 0."""

import pytest
from matplotlib.colors import to_hex

from byzax.experiments.certify import leak, measuring, plot, robustness, theory
from byzax.experiments.certify.description import load
from byzax.experiments.certify.intervals import Estimate
from tests.experiments.command import ROOT

RULES = [path.stem for path in (ROOT / "aggregators").glob("*.py") if path.stem not in ("__init__", "base")]


def planned(rules, **flags):
    return measuring.plan_measurements(
        load(None, {"rules": rules, "n": 15, "f": 3, "d": 5, "parts": ["leak"], **flags})
    )


def findings(plan, **parts):
    empty = dict.fromkeys(("resilience", "robustness", "breakdown", "leak"))
    return [measuring.Findings(each.label, each, **{**empty, **parts}) for each in plan.subjects]


def texts(figure):
    return [text for axes in figure.axes for text in axes.texts]


@pytest.mark.slow
def test_every_rule_has_a_colour_of_its_own_and_its_slope_within_the_panel():
    plan = planned(RULES)
    points = [leak.Point(d, Estimate(1.0, 1.0, 1.0), None) for d in (10, 100)]
    figure = plot.certificate(plan, findings(plan, leak=leak.Leak(points, 0.0)))
    (axes,) = figure.axes
    assert len({to_hex(line.get_color()) for line in axes.lines}) == len(RULES)
    low, high = axes.get_ylim()
    heights = [text.xy[1] for text in texts(figure) if text.get_text() == "flat"]
    assert len(heights) == len(RULES)
    assert len({round(height, 6) for height in heights}) == len(RULES)
    assert low * 0.99 <= min(heights)
    assert max(heights) <= high * 1.01


@pytest.mark.parametrize(
    ("rule", "f", "said"), [("trimmed_mean", 0, "0, at most 0"), ("bulyan", 3, "0, no bound known")]
)
def test_a_bound_of_0_is_a_bound(rule, f, said):
    plan = planned([rule], f=f)
    bound = theory.kappa(plan.subjects[0].part, (), 15, f)
    found = robustness.Robustness(0.0, 0.0, bound, "somewhere", 1)
    figure = plot.certificate(plan, findings(plan, robustness=found))
    assert said in [text.get_text() for text in texts(figure)]
