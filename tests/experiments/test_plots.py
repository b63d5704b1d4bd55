"""What a plot shows of runs that were not completed, or that diverged."""

import numpy as np
import pandas as pd
import pytest

from experiments.plots import DASHES, colours, scores, spending
from simulator.components import RULES

STEPS = [0, 10, 20]
# run -> status, accuracies at the steps it reached, final test loss
RUNS = {
    "seed-0": ("complete", [0.1, 0.5, 0.9], 0.3),
    "seed-1": ("complete", [0.1, 0.3, 0.1], np.nan),
    "seed-2": ("failed", [0.1, 0.7], 0.5),
    "seed-3": ("interrupted", [], np.nan),
}


@pytest.fixture
def figure():
    frame = pd.DataFrame(
        {"run": run, "seed": i, "status": status, "test_loss": loss}
        for i, (run, (status, _, loss)) in enumerate(RUNS.items())
    )  # fmt: skip
    curves = pd.DataFrame(
        {
            "run": run, "line": "krum", "attack": "none", "seed": i, "status": status, "classes": 10, "step": step,
            "test_accuracy": value, "test_loss": loss if step else 2.3,
        }
        for i, (run, (status, values, loss)) in enumerate(RUNS.items())
        for step, value in zip(STEPS, values, strict=False)
    )  # fmt: skip
    return scores(frame, curves, ["krum"], [])


def lines(figure):
    return [
        (line.get_marker(), line.get_xdata().tolist(), line.get_ydata().tolist()) for line in figure.axes[0].lines[:-1]
    ]


def test_the_mean_is_that_of_the_completed_runs(figure):
    mean, *_ = lines(figure)
    assert mean == ("None", STEPS, pytest.approx([0.1, 0.4, 0.5]))


def test_a_run_that_was_not_completed_ends_in_a_cross_and_a_diverged_one_is_marked_where_it_did(figure):
    _, *marked = lines(figure)
    assert marked == [("None", [0, 10], [0.1, 0.7]), ("x", [10], [0.7]), ("v", [10], [0.3])]


def test_the_note_counts_runs_that_left_nothing_to_draw_too(figure):
    assert figure.legends[0].get_title().get_text().splitlines()[1:] == [
        "\N{MULTIPLICATION SIGN} not completed, not in the mean: 2 runs",
        "\N{WHITE DOWN-POINTING TRIANGLE} diverged: 1 run",
    ]


def test_every_rule_of_byzax_has_a_colour_of_its_own():
    assert len(set(colours([*RULES]).values())) == len(RULES)
    # of forty no two look alike, though they share colours
    many = [f"own_{i}" for i in range(40)]
    assert len({(colour, i % len(DASHES)) for i, colour in enumerate(colours(many).values())}) == 40


@pytest.mark.parametrize(("lies", "expected"), [((1, 1, 0, 0), True), ((0, 1, 1, 0), False), ((1, 1, 1, 1), False)])
def test_the_chart_of_time_says_where_the_liars_stand(tmp_path, lies, expected):
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    spent = {f"{kind}_s": [1.0] * 4 for kind in ("computing", "messages", "waiting")}
    pd.DataFrame({"worker": range(4), "byzantine": np.array(lies, bool), **spent}).to_csv(run / "workers.csv")
    drawn = spending(tmp_path, pd.DataFrame({"line": ["krum"], "run": ["one"]}), [])
    assert ("(the Byzantine ones first)" in drawn.axes[1].get_xlabel()) == expected
