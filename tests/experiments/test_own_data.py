"""Messages about data of one's own: notes before a run, mistakes in one line, and the labels of every split."""

import json

import numpy as np
import pytest

from byzax.experiments import shares, study
from byzax.experiments.notes import data_notes, notes, single_sample_notes
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.data import build
from byzax.simulator.world import load, split_of
from tests.experiments.command import SMALL, byzax, write
from tests.simulator.conftest import small

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 4, 4), np.uint8)
LABELS = np.arange(60) % 3


def stored(path, **held):
    np.savez(path, **{"x": IMAGES, "y": LABELS, **held})
    return {"name": "arrays", "path": str(path), "batch_size": 4}


def said_of(done, file):
    prefix = f"{file}: note: "
    return [line.removeprefix(prefix) for line in done.stderr.splitlines() if line.startswith(prefix)]


def test_a_run_begins_with_what_was_found_and_keeps_the_names_of_labels(tmp_path):
    # of the shape of digits, for which everything is compiled already
    digits = build("digits")
    file = write(tmp_path, data=stored(tmp_path / "mine.npz", x=digits.x, y=digits.y + 1))
    done = byzax("run", file, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    numbers, names = (", ".join(map(str, range(first, first + 10))) for first in (0, 1))
    assert said_of(done, file) == [
        "data: x: float32 [1797, 8, 8], 0 to 1",
        f"data: y: int32, 10 labels: {names} are numbered {numbers}",
    ]
    (summary,) = (tmp_path / "out" / "runs").glob("*/summary.json")
    assert json.loads(summary.read_text())["labels"] == names.split(", ")


def test_what_a_part_of_a_grid_lacks_is_said_once(tmp_path):
    file = write(tmp_path, data=stored(tmp_path / "mine.npz"), grid={"data.normalise": ["none", "unit"]})
    assert notes(study.load(file)) == [
        f"{file}: note: {line}"
        for line in (
            "data: x: uint8 [60, 4, 4], 0 to 255",
            "data: y: int64, 3 labels, 0 to 2",
            "data.normalise: is none, and the numbers of a sample go from 0 to 255: images train better with standard, "
            "or unit (in 1 of 2 combinations)",
        )
    ]


def test_notes_are_of_the_data_and_not_of_the_batches(tmp_path):
    data = stored(tmp_path / "mine.npz")
    for change in ({}, {"batch_size": 2}, {"partition": "extreme"}):
        lines = data_notes(parse_as(Study, {**SMALL, "data": {**data, **change}}))
        assert [line.partition(":")[0] for line in lines] == ["data", "data", "data.normalise"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("digits", []),
        ("breast_cancer", ["data.normalise: is none, and columns have deviations from 0.00264 to 569 and means up to"]),
        ({"name": "breast_cancer", "normalise": "per_feature"}, []),
        ({"name": "letters"}, []),
    ],
)
def test_only_data_that_train_badly_are_remarked_on(data, said):
    lines = data_notes(parse_as(Study, {**SMALL, "data": data}))
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))


def test_values_far_from_1_are_remarked_on(tmp_path):
    data = stored(tmp_path / "mine.npz", y=1000.5 * np.arange(60), x=IMAGES / 255)
    assert data_notes(parse_as(Study, {**SMALL, "data": data}))[1:] == (
        "data: y: float64, values to predict, 0 to 59029.5",
        "data: the values to predict have a deviation of 1.73e+04, and losses are squares of that: bring them near 1, "
        "or take a small learning rate",
    )


def bad(folder):
    """Data that cannot be read, with the file and a word of what is said."""
    (folder / "long.csv").write_text("a,b\n1,2,3\n3,4,5\n")
    words = "\n".join(f"{i},{i % 2},{'x' * (i % 7)}{i}" for i in range(50_000))
    (folder / "words.csv").write_text(f"a,sick,word\n{words}\n")
    (folder / "cut.npz").write_bytes(b"PK\x03\x04")
    (folder / "huge").mkdir()
    with (folder / "huge" / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 10)})
    (folder / "leaf").mkdir()
    (folder / "leaf" / "all_data_0.json").write_text('{"users": ["a"], "user_data": {"a": {"x": [[NaN]], "y": [0]}}}')
    (folder / "a.svm").write_text("1 1:nan\n2 1:1\n")
    return [
        ({"name": "csv", "path": folder / "long.csv", "target": "b"}, "long.csv", "2 of 3 lines have more values"),
        ({"name": "csv", "path": folder / "words.csv", "target": "sick"}, "words.csv", "data.drop: [word]"),
        ({"name": "csv", "path": folder / "none.csv", "target": "b"}, "none.csv", "is not there"),
        ({"name": "csv", "path": "x" * 5000, "target": "b"}, "x" * 30, "File name too long"),
        ({"name": "arrays", "path": folder / "cut.npz"}, "cut.npz", "or damaged"),
        ({"name": "arrays", "path": folder / "huge"}, "huge/x.npy", "or damaged"),
        ({"name": "femnist", "root": folder / "leaf"}, "all_data_0.json", "writer a: a pixel is not finite"),
        ({"name": "libsvm", "path": folder / "a.svm"}, "a.svm", "not finite"),
        ({"name": "mnist", "root": "x" * 5000}, "x" * 10, "is no folder"),
    ]


@pytest.mark.parametrize("command", ["run", "tune", "partition"])
def test_data_that_cannot_be_read_are_one_line_with_the_file(tmp_path, command):
    for data, name, expected in bad(tmp_path):
        named = {key: value if isinstance(value, str) else str(value) for key, value in data.items()}
        file = write(tmp_path, data=named)
        out = "chart.png" if command == "partition" else "out"
        done = byzax(command, file, "--out", tmp_path / out)
        assert done.exit_code == 2, (data, done.output, done.exception)
        assert len(done.stderr.splitlines()) == 1, (data, done.stderr)
        assert done.stderr.startswith(f"{file}: data: ")
        assert name in done.stderr
        assert expected in done.stderr


def test_partition_tells_the_labels_and_owners_of_every_split(tmp_path):
    names = np.array(["apple", "pear [x]", "$\\frac{$"])
    data = stored(tmp_path / "mine.npz", y=names[LABELS], owners=np.arange(60) // 6)
    file = write(tmp_path, data={**data, "test_by": "owners"}, workers={"total": 3, "byzantine": 1})
    done = byzax("partition", file, "--out", tmp_path / "chart.png")
    assert done.exit_code == 0, done.output
    found = shares.read(file, [], None)
    assert found.labels == sorted(names)
    split = split_of(study.load(file).study.data, 0)
    owners = np.arange(60) // 6
    for name, positions in split._asdict().items():
        part = found.parts[name]
        y = load(study.load(file).study.data).y[positions]
        assert part.counts.tolist() == np.bincount(y, minlength=3).tolist()
        assert part.owners == len(np.unique(owners[positions]))
        row = next(line.split() for line in done.stdout.splitlines() if line.split()[:1] == [name])
        assert row[1:4] == [str(len(positions)), str(part.owners), str(part.unseen)]
    assert (found.parts["test"].owners, found.parts["test"].unseen) == (2, 2)
    assert (found.parts["validation"].unseen, found.parts["train"].unseen) == (0, 0)
    assert "apple: 33.3" in done.stdout
    assert "pear [x]" in done.stdout


def test_a_label_that_a_split_lacks_is_named(tmp_path):
    data = stored(tmp_path / "mine.npz", x_test=IMAGES[:4], y_test=np.array([0, 1, 1, 0]))
    done = byzax("partition", write(tmp_path, data=data), "--out", tmp_path / "chart.png")
    assert "test has no sample of label 2" in " ".join(done.stdout.split())


NORMED = {"model": {"name": "mlp", "hidden": [8], "norm": "batch"}, "local": {"epochs": 1}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({**NORMED}, "local.last_batch drop, another batch_size, or another norm"),
        ({**NORMED, "local": None, "variance_reduction": "saga"}, "take another batch_size, or another norm"),
        ({**NORMED, "local": {"epochs": 1, "last_batch": "drop"}}, None),
        ({**NORMED, "local": {"steps": 2}}, None),
        ({**NORMED, "model": {"name": "mlp", "hidden": [8], "norm": "layer"}}, None),
        # its norms are over the pixels too
        ({**NORMED, "model": {"name": "resnet20", "norm": "batch"}}, None),
    ],
)
def test_a_last_batch_of_one_sample_below_a_batch_norm_is_remarked_on(changes, said):
    # 9 workers hold 1,437 samples: 159 and 160, which is 53 times 3 and one more
    nine = {"workers": {"total": 9, "byzantine": 0}, "data": {"name": "digits", "batch_size": 3, "validation": 0.0}}
    lines = [*single_sample_notes(small(**nine, attack="none", **changes))]
    if said is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith("data.batch_size: the last batch of ")
        assert " of 9 workers holds one sample" in line
        assert line.endswith(said)
