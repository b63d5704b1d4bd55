"""Cached values are made again when a file under it changes, in every cache and executor."""

import os
import time

import numpy as np
import pytest

from byzax.simulator import latency
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.executors import session
from byzax.simulator.executors.base import plan
from byzax.simulator.file_cache import depends_on, file_cache

NET = """
from flax import nnx

class Net(nnx.Module):
    def __init__(self, shape, classes, rngs):
        self.layer = nnx.Linear(shape[0], classes, rngs=rngs)

    def __call__(self, x):
        return {} * self.layer(x.reshape(len(x), -1))
"""


@pytest.fixture
def made():
    """A cached function of a file, with another inside it, and how often each was carried out."""
    calls = []

    @file_cache(maxsize=2)
    def inner(path):
        calls.append("inner")
        depends_on(path)
        return path.read_text()

    @file_cache(maxsize=2)
    def outer(path, add):
        calls.append("outer")
        return inner(path) + add

    return outer, calls


def settle(path):
    """As if the file had been written long ago."""
    old = time.time_ns() - 10**10
    os.utime(path, ns=(old, old))


@pytest.mark.parametrize("old", [False, True])
def test_a_result_is_made_again_only_after_a_change_of_a_file_that_something_inside_read(tmp_path, made, old):
    outer, calls = made
    file = tmp_path / "a"
    file.write_text("one")
    if old:
        settle(file)
    assert [outer(file, add="!"), outer(file, add="!"), outer(file, add="?")] == ["one!", "one!", "one?"]
    assert calls == ["outer", "inner", "outer"]
    # of the same length, at once
    file.write_text("two")
    assert [outer(file, add="!"), outer(file, add="?")] == ["two!", "two?"]
    assert calls == ["outer", "inner", "outer", "outer", "inner", "outer"]


def test_a_change_that_leaves_the_times_of_a_young_file_alone_is_seen_by_content(tmp_path, made, monkeypatch):
    outer, _ = made
    file = tmp_path / "a"
    file.write_text("one")
    frozen = file.stat()
    # two writes within one tick of the file system's clock
    monkeypatch.setattr(type(file), "stat", lambda *_, **__: frozen)
    assert outer(file, add="") == "one"
    file.write_text("two")
    assert outer(file, add="") == "two"


def test_a_file_that_comes_later_or_goes_is_a_change(tmp_path):
    @file_cache(maxsize=1)
    def found(folder):
        depends_on(folder, "*.txt")
        return sorted(path.name for path in folder.glob("*.txt"))

    @file_cache(maxsize=1)
    def there(path):
        depends_on(path)
        return path.exists()

    assert (found(tmp_path), there(tmp_path / "a.txt")) == ([], False)
    (tmp_path / "a.txt").touch()
    assert (found(tmp_path), there(tmp_path / "a.txt")) == (["a.txt"], True)
    # nothing that fits
    (tmp_path / "a.csv").touch()
    before = found(tmp_path)
    assert found(tmp_path) is before
    (tmp_path / "a.txt").unlink()
    assert (found(tmp_path), there(tmp_path / "a.txt")) == ([], False)


def test_only_the_last_results_are_kept_and_an_error_is_not(tmp_path, made):
    outer, calls = made
    files = [tmp_path / name for name in "abc"]
    with pytest.raises(FileNotFoundError):
        outer(files[0], add="")
    for file in files:
        file.write_text(file.name)
        outer(file, add="")
    calls.clear()
    outer(files[2], add="")
    assert calls == []
    outer(files[0], add="")
    assert calls == ["outer", "inner"]
    outer.cache_clear()
    outer(files[0], add="")
    assert calls == ["outer", "inner", "outer"]


def arrays(path, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 3
    np.savez(path, x=rng.normal(size=(60, 4)) + 3 * np.eye(3, 4)[labels], y=labels)


def scenario(tmp_path, executor, **changes):
    return parse_as(
        Study,
        {
            "name": "small",
            "steps": 3,
            "evaluate_every": 3,
            "workers": {"total": 3, "byzantine": 0},
            "data": {"name": "arrays", "path": str(tmp_path / "mine.npz"), "batch_size": 4},
            "model": "softmax",
            "rule": "average",
            "attack": "none",
            "executor": executor,
            **changes,
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "executor", ["loop", "vectorised", {"name": "ray", "actors": 2}], ids=["loop", "vectorised", "ray"]
)
def test_a_session_that_goes_on_uses_the_files_of_data_and_model_as_they_are_at_the_next_run(tmp_path, executor):
    net = {"name": "module", "path": f"{tmp_path}/net.py:Net"}
    described = scenario(tmp_path, executor, model=net)

    def write(data, factor):
        arrays(tmp_path / "mine.npz", data)
        (tmp_path / "net.py").write_text(NET.format(factor))

    with session(described.executor) as execute:

        def params():
            return [*execute(described.task)][-1].params

        write(0, 1)
        first = params()
        np.testing.assert_array_equal(params(), first)
        write(1, 1)
        other_data = params()
        write(0, 2)
        other_model = params()
        write(0, 1)
        np.testing.assert_array_equal(params(), first)
    assert not np.allclose(first, other_data)
    assert not np.allclose(first, other_model)


def test_a_plan_follows_its_trace(tmp_path):
    file = tmp_path / "trace.csv"
    arrays(tmp_path / "mine.npz", 0)
    described = scenario(tmp_path, "loop", latency={"name": "trace", "file": str(file)})
    ends = []
    for seconds in (1, 2):
        file.write_text(f"worker,seconds\na,{seconds}\n")
        assert latency.factory("trace")(file=str(file))(np.random.default_rng(0), 0, 0, 1).tolist() == [seconds]
        ends.append(plan(described.run).time_s[-1])
    assert ends[1] == pytest.approx(2 * ends[0])
