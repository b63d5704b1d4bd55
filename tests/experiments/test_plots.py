"""Plots of runs that were not completed, or that diverged."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from byzax.experiments import plots
from byzax.experiments.figures import DASHES, rule_colours, verbatim, wrap_notes
from byzax.experiments.plots import draw_scores
from byzax.experiments.records import SPENT, Record
from byzax.experiments.time_plot import draw_time
from byzax.members import available

STEPS = [0, 10, 20]
# run -> status, accuracies at the steps it reached, final test loss
RUNS = {
    "seed-0": ("complete", [0.1, 0.5, 0.9], 0.3),
    "seed-1": ("complete", [0.1, 0.3, 0.1], np.nan),
    "seed-2": ("failed", [0.1, 0.7], 0.5),
    "seed-3": ("interrupted", [], np.nan),
}


def drawn(runs=RUNS, of=4, rules=("krum",)):
    """The figure of some runs of each rule under one attack."""
    frames = [frames_of(runs, of, rule) for rule in rules]
    frame, curves = (pd.concat(each, ignore_index=True) for each in zip(*frames, strict=True))
    return draw_scores(frame, curves, list(rules), ["title", "n=7, f=1", "byzantine=3"])


def frames_of(runs, of, rule):
    names = {"study": "small", "line": rule, "attack": "none"}
    frame = pd.DataFrame(
        {**names, "run": run, "seed": i, "status": status, "test_loss": loss, "of": of, "degraded_at": 4.0}
        for i, (run, (status, _, loss)) in enumerate(runs.items())
    )  # fmt: skip
    curves = pd.DataFrame(
        {
            **names, "run": run, "seed": i, "status": status, "classes": 10, "step": step, "degraded_at": 4.0,
            "test_accuracy": value, "test_loss": loss if step else 2.3,
        }
        for i, (run, (status, values, loss)) in enumerate(runs.items())
        for step, value in zip(STEPS, values, strict=False)
    )  # fmt: skip
    return frame, curves


@pytest.fixture
def figure():
    return drawn()


def lines(figure):
    return [
        (line.get_marker(), line.get_xdata().tolist(), line.get_ydata().tolist()) for line in figure.axes[0].lines[:-1]
    ]


def band(figure):
    """The ends of the band at the last step."""
    path = figure.axes[0].collections[0].get_paths()[0].vertices
    last = path[path[:, 0] == STEPS[-1], 1]
    return last.min(), last.max()


def head(figure):
    return figure.legends[0].get_title().get_text().splitlines()


def test_the_mean_is_that_of_the_completed_runs_with_a_marker_at_each_of_its_few_evaluations(figure):
    mean, *_ = lines(figure)
    assert mean == ("o", STEPS, pytest.approx([0.1, 0.4, 0.5]))


def test_a_line_of_many_evaluations_has_no_markers(monkeypatch):
    monkeypatch.setattr(plots, "MARKED", 2)
    assert lines(drawn())[0][0] == "None"


def test_a_run_that_was_not_completed_ends_in_a_cross_and_a_diverged_one_is_marked_where_it_did(figure):
    _, *marked = lines(figure)
    assert marked == [("None", [0, 10], [0.1, 0.7]), ("x", [10], [0.7]), ("v", [10], [0.3])]


def test_the_head_says_what_is_drawn_and_counts_runs_that_left_nothing_to_draw_too(figure):
    assert figure.texts[0].get_text() == "title"
    assert head(figure)[1:] == [
        "n=7, f=1",
        "byzantine=3, mean and one standard deviation of 4 seeds",
        "fewer runs than asked for: krum under none 2 of 4 (of two the band is their",
        "range)",
        "\N{MULTIPLICATION SIGN} not completed, not in the mean: 2 runs",
        "\N{WHITE DOWN-POINTING TRIANGLE} diverged: 1 run",
    ]


def test_no_label_of_the_legend_is_cut_off(figure):
    long = [f"trimmed_mean, 0.{i}, adam learning_rate=0.01 b2=0.99 eps=0.001" for i in range(5)]
    for each in (figure, drawn(rules=long), drawn(rules=["krum", "median", "average"])):
        canvas = FigureCanvasAgg(each)
        canvas.draw()
        assert each.legends[0].get_window_extent(canvas.get_renderer()).x1 <= each.bbox.x1


def test_the_band_is_a_deviation_of_three_the_range_of_two_and_nothing_of_one():
    ends = (0.9, 0.5, 0.4)
    runs = {f"seed-{i}": ("complete", [0.1, 0.5, end], 0.3) for i, end in enumerate(ends)}
    spread = np.std(ends, ddof=1)
    assert band(drawn(runs, 3)) == pytest.approx((np.mean(ends) - spread, np.mean(ends) + spread))
    assert head(drawn(runs, 3))[-1] == "byzantine=3, mean and one standard deviation of 3 seeds"
    two = dict(list(runs.items())[:2])
    assert band(drawn(two, 2)) == pytest.approx((0.5, 0.9))
    assert head(drawn(two, 2))[-1] == "byzantine=3, mean and range of 2 seeds"
    one = dict(list(runs.items())[:1])
    assert band(drawn(one, 1)) == pytest.approx((0.9, 0.9))
    assert head(drawn(one, 1))[-1] == "byzantine=3, one seed"


def test_a_run_that_lost_workers_counts_in_the_mean_and_is_marked_at_the_first_model_without_them():
    runs = {"seed-0": ("complete", [0.1, 0.5, 0.9], 0.3), "seed-1": ("degraded", [0.1, 0.3, 0.5], 0.3)}
    mean, *marked = lines(drawn(runs, 2))
    assert mean[2] == pytest.approx([0.1, 0.4, 0.7])
    assert marked == [("D", [10], [0.3])]
    assert head(drawn(runs, 2))[-1] == "\N{WHITE DIAMOND} lost workers or servers: 1 run"


def test_on_a_logarithmic_axis_lines_stay_linear_in_time_and_none_is_flat_before_its_first_evaluation():
    names = {"study": "small", "attack": "none", "seed": 0, "status": "complete", "of": 1, "degraded_at": np.nan}
    frame = pd.DataFrame({**names, "line": line, "run": line, "test_loss": 1.0} for line in ("slow", "fast"))
    curves = pd.DataFrame(
        {
            **names, "line": line, "run": line, "classes": 10, "step": step, "time_s": each * step,
            "test_accuracy": 0.1 + 0.3 * step, "test_loss": 1.0,
        }
        for line, each in (("slow", 100.0), ("fast", 1.0)) for step in range(3)
    )  # fmt: skip
    axes = draw_scores(frame, curves, ["slow", "fast"], ["title"], "time_s").axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] == 1
    for line, each in zip(axes.lines, (100.0, 1.0), strict=False):
        places, values = line.get_data()
        np.testing.assert_allclose(values, 0.1 + 0.3 * places / each, rtol=1e-9)
        assert [*places[line.get_markevery()]] == [each, 2 * each]
        assert (np.diff(np.log(places)) < 0.1).all()


@pytest.mark.parametrize("label", [r"$\frac{$", "$x$ $", r"\$", "a" * 300])
def test_a_label_is_shown_as_it_is_written(label):
    figure = Figure()
    axes = figure.subplots()
    axes.set_title(verbatim(label))
    figure.suptitle(wrap_notes([label], 5))
    # a formula would be parsed, and a mistake in it raise
    figure.savefig(io.BytesIO())


def test_a_rule_keeps_its_colour_behind_what_mixes_its_rows():
    assert rule_colours(["nnm + krum"])["nnm + krum"] == rule_colours(["krum"])["krum"]


def test_every_rule_of_byzax_has_a_colour_of_its_own():
    rules = available("rule")
    assert len(set(rule_colours(rules).values())) == len(rules)
    # of forty no two look alike, though they share colours
    many = [f"own_{i}" for i in range(40)]
    assert len({(colour, i % len(DASHES)) for i, colour in enumerate(rule_colours(many).values())}) == 40


@pytest.mark.parametrize(
    ("byzantine", "expected"), [((1, 1, 0, 0), True), ((0, 1, 1, 0), False), ((1, 1, 1, 1), False)]
)
def test_the_chart_of_time_says_where_the_byzantine_workers_stand(tmp_path, byzantine, expected):
    spent = pd.DataFrame(
        {"worker": range(4), "byzantine": np.array(byzantine, bool), **dict.fromkeys(SPENT, [1.0] * 4)}
    )
    record = Record(tmp_path, None, None, np.ones(2), spent)
    frame = pd.DataFrame({"line": ["krum"], "run": ["one"], "status": ["complete"]})
    drawn = draw_time({"one": record}, frame, [])
    assert ("(the Byzantine ones first)" in drawn.axes[1].get_xlabel()) == expected
