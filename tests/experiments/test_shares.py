"""The output and the charts of `byzax partition`."""

import numpy as np
import pytest

from byzax.experiments import shares
from byzax.simulator.world import load, share_out
from tests.experiments.command import byzax, write

TWO = {"name": "digits", "partition": {"name": "by_label", "labels": 2}}


def lines(text):
    """The cells of each line of the table, by the worker's number or `all`."""
    rows = [line.replace(" (Byzantine)", "*").split() for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if (row and row[0].rstrip("*").isdigit()) or row[:1] == ["all"]}


def test_a_table_tells_samples_entropy_and_labels_of_each_worker_and_of_all(tmp_path):
    file = write(tmp_path, data=TWO, workers={"total": 7, "byzantine": 2})
    done = byzax("partition", file, "--out", tmp_path / "chart.png")
    assert done.exit_code == 0, done.output
    assert "digits, by_label, seed 0" in done.stdout
    told = lines(done.stdout)
    assert list(told) == ["0*", "1*", "2", "3", "4", "5", "6", "all"]
    data = shares.study.load(file).study.data
    y, (_, held) = load(data).y, share_out(data, 7, 0)
    for (_, row), mine in zip(told.items(), held, strict=False):
        labels, counts = np.unique(y[mine], return_counts=True)
        p = counts / len(mine)
        # two labels side by side are one run
        which = " ".join(row[3:]).replace("-", " ")
        assert row[:3] == [str(len(mine)), f"{-(p * np.log2(p)).sum():.2f}", "2"]
        assert which == " ".join(map(str, labels))
    assert told["all"][0] == str(sum(map(len, held)))
    assert told["all"][2:] == ["10", "0-9"]


def test_samples_that_nobody_holds_are_counted(tmp_path):
    file = write(tmp_path, data=TWO | {"partition": {"name": "long_tail", "gamma": 0.5}})
    done = byzax("partition", file, "--out", tmp_path / "chart.png")
    held = int(lines(done.stdout)["all"][0])
    assert f"{1258 - held} of 1258 training samples are held by nobody" in " ".join(done.stdout.split())
    assert "long_tail, seed" in done.stdout


def test_a_regression_has_mean_values_and_ten_groups_of_equally_many(tmp_path):
    file = write(tmp_path, data={"name": "diabetes", "partition": "extreme"}, model="mlp")
    found = shares.read(file, [], None)
    assert found.means is not None
    data = shares.study.load(file).study.data
    parts, held = share_out(data, 7, 0)
    np.testing.assert_allclose(found.means, [load(data).y[mine].mean() for mine in held], rtol=1e-5)
    sizes = found.counts.sum(axis=0)
    assert (len(sizes), sizes.sum()) == (10, len(parts.train))
    # values occur twice and more, at a border too
    assert sizes.max() - sizes.min() <= 6
    done = byzax("partition", file, "--out", tmp_path / "chart.svg")
    assert done.exit_code == 0, done.output
    assert "mean value" in done.stdout


def test_the_seed_and_settings_change_the_split_and_a_grid_gives_its_first(tmp_path):
    file = write(tmp_path, grid={"data.partition": ["iid", {"name": "dirichlet", "alpha": 0.1}]})

    def read(*settings, seed=None):
        return shares.read(file, settings, seed)

    assert read().name == "digits, iid, seed 0"
    assert read("data.partition=extreme").name == "digits, extreme, seed 0"
    assert read(seed=3).name == "digits, iid, seed 3"
    assert not np.array_equal(read(seed=3).counts, read().counts)
    assert read("data.partition={name: dirichlet, alpha: 0.2}").name == "digits, dirichlet alpha=0.2, seed 0"


@pytest.mark.parametrize(
    ("entropy", "counts"), [(0.0, [5, 0, 0]), (1.0, [2, 2, 0]), (np.log2(3), [1, 1, 1]), (0.8112781, [3, 1, 0])]
)
def test_entropy_is_in_bits(entropy, counts):
    assert shares.entropies(np.array([counts]))[0] == pytest.approx(entropy)


@pytest.mark.parametrize(
    ("total", "chart", "circles"), [(7, "auto", False), (60, "auto", True), (7, "bubbles", True), (60, "bars", False)]
)
def test_the_chart_is_bars_for_few_workers_and_circles_for_many_and_both_files_are_written(
    tmp_path, total, chart, circles
):
    file = write(tmp_path, workers={"total": total, "byzantine": 2})
    done = byzax("partition", file, "--out", tmp_path / "chart.png", "--chart", chart)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "chart.png").read_bytes()[:4] == b"\x89PNG"
    drawn = (tmp_path / "chart.svg").read_text()
    assert ("the largest circle" in drawn) == circles
    assert "digits, iid, seed 0" in drawn
    assert "Byzantine in red" in drawn
    assert done.stdout.split()[-2:] == [str(tmp_path / "chart.png"), str(tmp_path / "chart.svg")]


def test_the_shares_of_a_run_are_those_it_was_done_with(tmp_path):
    file = write(tmp_path, data=TWO, seed=5)
    assert byzax("run", file, "--out", tmp_path / "out").exit_code == 0
    np.testing.assert_array_equal(shares.read(tmp_path / "out", [], None).counts, shares.read(file, [], None).counts)
    done = byzax("partition", tmp_path / "out", "--set", "steps=3")
    assert done.exit_code == 2
    assert "--set: changes a scenario" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.yaml"], "nothing.yaml"),
        (["FILE", "--out", "chart.txt"], ".png or .svg is needed"),
        (["FILE", "--out", "/nowhere/chart.png"], "/nowhere/chart.png: cannot be written"),
        (
            ["FILE", "--set", "data.partition=by_writer"],
            "data.partition: by_writer needs data that has an owner for each sample",
        ),
        (["FILE", "--set", "data.partition=extrem"], "unknown partition 'extrem'; did you mean 'extreme'?"),
        (["FILE", "--set", "workers.total=2000"], "data.partition: 1258 training samples are too few for 2000 workers"),
        (["FILE", "--seed", "-1"], "seed"),
    ],
)
def test_what_cannot_be_shared_out_is_one_line(tmp_path, arguments, said):
    file = write(tmp_path)
    done = byzax("partition", *[str(file) if each == "FILE" else each for each in arguments])
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
