"""`byzax plot` and `Result.plot`: kinds of figures, their numbers, what they average over, mistakes."""

import numpy as np
import pytest
from typer.testing import CliRunner

import byzax
from byzax.experiments.cli import app
from byzax.experiments.statistics import mean_interval
from tests.experiments.command import SMALL


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return byzax.run(
        out=tmp_path_factory.mktemp("charts") / "study",
        quiet=True,
        data="digits",
        model="softmax",
        workers={"total": 7, "byzantine": 1},
        rule="median",
        attack="none",
        steps=4,
        evaluate_every=2,
        repeats=2,
        grid={
            "rule.name": ["average", "median"],
            "attack.name": ["none", "sign_flip"],
            "workers.byzantine": [2, 1],
        },
    )


def test_a_heat_map_has_the_mean_of_each_cell(result):
    figure = result.plot(kind="heatmap", x="workers.byzantine", col="attack")
    runs = result.runs
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in panels] == ["attack: none", "attack: sign_flip"]
    for axes, attack in zip(panels, ("none", "sign_flip"), strict=True):
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2"]
        assert [text.get_text() for text in panels[0].get_yticklabels()] == ["average", "median"]
        for row, rule in enumerate(("average", "median")):
            for column, count in enumerate(("1", "2")):
                cell = (runs["rule"] == rule) & (runs["attack"] == attack)
                wanted = runs.loc[cell & (runs["workers.byzantine"].astype(str) == count), "test_accuracy"].mean()
                assert axes.images[0].get_array()[row, column] == pytest.approx(wanted)


@pytest.mark.parametrize("kind", ["box", "strip"])
def test_every_run_is_a_point(result, kind):
    figure = result.plot(kind=kind, x="workers.byzantine", hue="rule", col="attack")
    drawn = np.concatenate(
        [line.get_ydata() for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    )
    assert sorted(drawn) == pytest.approx(sorted(result.runs["test_accuracy"]))


def test_a_profile_is_that_of_the_result(result):
    (axes,) = result.plot(kind="profile").axes
    profiles = result.profiles()
    for line in axes.lines:
        wanted = profiles.loc[profiles["rule"] == line.get_label()]
        assert line.get_ydata() == pytest.approx(wanted["share"].to_numpy())


def test_a_profile_is_of_the_value_that_is_asked_for(result):
    for report in ("last", "best", "area"):
        (axes,) = result.plot(kind="profile", report=report).axes
        values = result.runs.assign(value=result.values(report=report))
        for line in axes.lines:
            own = values.loc[values["rule"] == line.get_label(), "value"].to_numpy()
            shares = [(own >= threshold - 1e-12).mean() for threshold in line.get_xdata()]
            assert line.get_ydata() == pytest.approx(shares)
    last, area = (result.plot(kind="profile", report=report).axes[0].lines[0] for report in ("last", "area"))
    assert list(last.get_xdata()) != list(area.get_xdata())


@pytest.mark.parametrize("kind", ["box", "strip"])
def test_a_rule_has_its_own_colour_in_every_figure(result, kind):
    lines = {line.get_label(): line.get_color() for line in result.plot().axes[0].lines}
    for axes in result.plot(kind=kind).axes:
        for place, rule in enumerate(["average", "median"]):
            near = [line for line in axes.lines if len(line.get_xdata()) and round(float(line.get_xdata()[0])) == place]
            assert near
            assert {line.get_color() for line in near} == {lines[rule]}


def note(figure):
    return figure.get_supxlabel()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "heatmap"}, "means over all values of workers.byzantine"),
        ({"kind": "heatmap", "where": {"workers.byzantine": 1}}, ""),
        ({"kind": "strip"}, "runs of all values of workers.byzantine"),
        ({"band": "none"}, "means over all values of workers.byzantine"),
        ({"band": "none", "hue": "workers.byzantine"}, "means over all values of rule"),
        ({"band": "none", "col": "workers.byzantine", "where": {"attack": "none"}}, ""),
        ({"band": "ci", "col": "workers.byzantine", "where": {"attack": "none"}}, "bands: 95 % interval of the mean"),
        ({}, "bands: one standard deviation, of two runs their range; means over all values of workers.byzantine"),
    ],
)
def test_a_figure_says_what_it_averages_over(result, arguments, words):
    assert note(result.plot(**arguments)).replace("\n", " ").startswith(words)
    assert bool(note(result.plot(**arguments))) == bool(words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "pie"}, "kind must be one of line"),
        ({"kind": "heatmap", "x": "model"}, "x must be one of"),
        ({"kind": "heatmap", "x": "rule"}, "hue: a heat map needs a column for its rows"),
        ({"kind": "profile", "where": {"rule": "median"}}, "where: a profile is"),
        ({"where": {"rule": "krum"}}, "no run has rule=krum: one of average, median"),
        ({"where": {"model": "softmax"}}, "where must be one of"),
        ({"kind": "box", "y": "speed"}, "y must be one of"),
        ({"kind": "heatmap", "y": "speed"}, "y must be one of"),
        ({"kind": "profile", "y": "speed"}, "y must be one of"),
        ({"kind": "profile", "x": "nonsense"}, "x: a profile is"),
        ({"kind": "profile", "hue": "nonsense"}, "hue: a profile is"),
        ({"kind": "profile", "col": "workers.byzantine"}, "col: a profile is"),
        ({"kind": "profile", "report": "worst"}, "worst"),
        ({"kind": "box", "report": "worst"}, "worst"),
    ],
)
def test_mistakes_name_the_argument(result, arguments, words):
    with pytest.raises(ValueError, match=words):
        result.plot(**arguments)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_command_writes_a_figure_and_replaces_its_own(result, tmp_path, suffix):
    path = tmp_path / f"figure.{suffix}"
    asked = ["plot", str(result.folder), "--kind", "heatmap", "--where", "workers.byzantine=1", "--out", str(path)]
    for _ in range(2):
        shown = CliRunner().invoke(app, asked)
        assert shown.exit_code == 0, shown.output
    assert path.stat().st_size > 1000


def test_the_command_refuses_mistakes_and_files_of_others(result, tmp_path):
    other = tmp_path / "mine.png"
    other.write_bytes(b"mine")
    for options, words in (
        (["--out", str(other)], "byzax did not write it"),
        (["--out", "a.jpg"], ".png, .pdf, .svg is needed"),
        (["--where", "rule"], "COLUMN=VALUE is needed"),
        (["--x", "nothing"], "x must be one of"),
    ):
        shown = CliRunner().invoke(app, ["plot", str(result.folder), *options])
        assert shown.exit_code == 2
        assert words in shown.output
    assert other.read_bytes() == b"mine"
    assert CliRunner().invoke(app, ["plot", str(tmp_path)]).exit_code == 2


def test_lines_take_bits_updates_and_a_band_of_the_interval(tmp_path):
    result = byzax.run({**SMALL, "repeats": 4, "attack": "zero"}, grid={"rule": ["average", "krum"]}, quiet=True)
    over_bits = result.plot(x="bits").axes[0]
    assert over_bits.get_xlabel() == "bits sent"
    drawn = {line.get_label(): line.get_ydata() for line in result.plot(y="byzantine_weight").axes[0].get_lines()}
    means = result.updates.groupby(["rule", "step"])["byzantine_weight"].mean()
    for rule in ("average", "krum"):
        np.testing.assert_allclose(drawn[rule], means[rule])
    figure = result.plot(band="ci", col=None)
    (outline,) = [each.get_paths()[0].vertices for each in figure.axes[0].collections][:1]
    last = result.metrics.loc[(result.metrics["rule"] == "average") & (result.metrics["step"] == 4), "test_accuracy"]
    ends = outline[outline[:, 0] == 4][:, 1]
    assert (min(ends), max(ends)) == pytest.approx(tuple(mean_interval(last.tolist())), abs=1e-6)
    with pytest.raises(ValueError, match="band must be one of sd, ci, range, none"):
        result.plot(band="sem")
    with pytest.raises(ValueError, match="y must be one of"):
        result.plot(x="bits", y="byzantine_weight")


def test_selection_staleness_and_scatter(tmp_path):
    result = byzax.run(
        {**SMALL, "record": {"weights": True}, "attack": "zero", "latency": "exponential"},
        grid={"rule": ["average", "krum"], "schedule": ["synchronous", "asynchronous"]},
        quiet=True,
    )
    one = result.plot(kind="selection", col="schedule", where={"rule": "krum"})
    image = one.axes[0].images[0].get_array()
    weights = result.weights
    shown = weights.loc[(weights["rule"] == "krum") & (weights["schedule"] == "synchronous")]
    np.testing.assert_allclose(image, shown.pivot(index="worker", columns="step", values="weight"))
    assert one.axes[0].get_lines()[0].get_ydata().tolist() == [0], "the Byzantine worker is marked"
    ages = result.plot(kind="staleness", hue="schedule", col=None).axes[0].get_lines()
    shares = {line.get_label(): line.get_ydata() for line in ages}
    assert shares["synchronous"][0] == 1
    assert all(sum(each) == pytest.approx(1) for each in shares.values())
    points = result.plot(kind="scatter", x="test_loss", col=None).axes[0].get_lines()
    found = sorted((x, y) for line in points for x, y in zip(*line.get_data(), strict=True))
    assert found == sorted(zip(result.runs["test_loss"], result.runs["test_accuracy"], strict=True))
    with pytest.raises(ValueError, match="a scatter plot needs a measurement"):
        result.plot(kind="scatter")
    with pytest.raises(ValueError, match=r"record: \{weights: true\} keeps them"):
        byzax.run(SMALL, quiet=True).plot(kind="selection")


def test_long_labels_are_not_cut_off():
    attacks = ["none", {"name": "label_flip", "labels": "targeted", "source": 7}]
    result = byzax.run(SMALL, grid={"rule": ["average", "median"], "attack": attacks}, quiet=True)
    figure = result.plot()
    figure.canvas.draw()
    for axes in figure.axes:
        box = axes.get_title(loc="left")
        assert box
        drawn = axes._left_title.get_window_extent()
        assert drawn.x1 <= figure.bbox.x1
    legend = figure.legends[0].get_window_extent()
    assert legend.x1 <= figure.bbox.x1
