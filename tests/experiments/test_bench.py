"""The benchmark of rules: what it compares is the same rule, and its command says what it measured."""

import json
import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax import aggregators, models
from byzax.aggregators import Context, pre
from byzax.experiments import writing
from byzax.experiments.benchmarks import models as model_benchmark
from byzax.experiments.benchmarks import peers, straightforward, training, training_peers
from byzax.experiments.benchmarks.products import count_products
from byzax.experiments.benchmarks.timing import benchmark_rows, peak_memory
from byzax.experiments.writing import write_text
from tests.experiments.command import ROOT, command
from tests.nightly import by_night

N, F, D = 11, 2, 40


def bench(*arguments):
    """In a process of its own: the command decides how many threads XLA has. `(exit code, stdout, stderr)`."""
    process = command("bench", *arguments)
    stdout, stderr = process.communicate()
    return process.returncode, stdout, stderr


@pytest.mark.parametrize(
    ("name", "xp"),
    [
        (name, xp) if name in ("median", "krum", "clip") else by_night(name, xp)
        for name in sorted(straightforward.RULES)
        for xp in (np, jnp)
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_straightforward_rule_is_the_rule(name, xp):
    rows = benchmark_rows(N, D) + np.float32(0.1)
    if name in pre.available():
        ours, _ = pre.factory(name)(N, F).mix(rows, Context(None))
    else:
        rule = aggregators.build(name, N, F)
        ours, _, _ = rule.apply(rows, rule.init(D))
    assert straightforward.feasible(name, xp, N, F)
    np.testing.assert_allclose(straightforward.RULES[name](xp, xp.asarray(rows), F), ours, atol=1e-4)


# Products of one sample's gradient, two operations each: a layer counts for the value and for its weights, and once
# more for its inputs unless these are the samples.
PRODUCTS = {
    "softmax": 2 * 784 * 10,
    "mlp": 2 * 784 * 100 + 3 * 100 * 10,
    # 24x24 pixels of 5x5 kernels to 20 channels; 8x8 of 20 times 5x5 to 50; 800-500-10
    "cnn": 2 * 576 * 25 * 20 + 3 * (64 * 500 * 50 + 800 * 500 + 500 * 10),
    "lenet": 2 * 784 * 25 * 6 + 3 * (100 * 150 * 16 + 400 * 120 + 120 * 84 + 84 * 10),
    # 80 steps of 8 inputs and 128 units, gates of 128
    "rnn": 3 * (80 * (8 + 128) * 128 + 128 * 80),
    "gru": 3 * (80 * (8 + 128) * 3 * 128 + 128 * 80),
    "lstm": 3 * (80 * (8 + 128) * 4 * 128 + 128 * 80),
    # two blocks of width 64: 12 width^2 a step, and two products of 80 with 80 steps
    "transformer": 3 * (2 * (80 * 12 * 64**2 + 2 * 80 * 80 * 64) + 64 * 80),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_products_of_a_gradient_are_counted_as_by_hand(name):
    case = model_benchmark.CASES[name]
    model = models.build(name, case.shape, case.classes, **case.options)
    kind = jnp.int32 if len(case.shape) == 1 else jnp.float32
    x, y = jax.ShapeDtypeStruct((1, *case.shape), kind), jax.ShapeDtypeStruct((1,), jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert count_products(model.loss, params, x, y) == 2 * PRODUCTS[name]


def test_every_model_that_is_no_regression_is_measured():
    assert sorted(model_benchmark.CASES) == sorted(set(models.available()) - {"linear", "module"})


def test_bench_models_measures_both_forms_and_refuses_what_it_does_not_know(tmp_path):
    code, out, _ = bench("models", "--model", "softmax", "--repeats", "1", "--json", str(tmp_path / "numbers.json"))
    assert code == 0
    assert out.splitlines()[-1].startswith("softmax")
    (row,) = json.loads((tmp_path / "numbers.json").read_text())["records"]
    # 25 samples
    assert row["operations"] == 25 * 2 * PRODUCTS["softmax"]
    assert row["map_s"] > 0
    assert row["vmap_s"] > 0
    code, _, err = bench("models", "--model", "softmx")
    assert code == 2
    assert "--model softmx: there are: softmax, mlp" in err


def test_the_rows_are_the_same_each_time_and_begin_where_jax_takes_them_without_a_copy():
    rows = benchmark_rows(5, 33)
    assert rows.ctypes.data % 64 == 0
    np.testing.assert_array_equal(rows, benchmark_rows(5, 33))


def test_the_peak_of_memory_is_that_of_the_call():
    def call():
        return np.ones(40_000_000).sum()  # 320 MB for a moment

    peak = peak_memory(call)
    if peak is None:
        pytest.skip("this system does not tell the peak of a process's memory")
    assert 300e6 < peak.extra < 400e6
    assert peak.total > peak.extra


@pytest.mark.slow
@pytest.mark.parametrize("third", ["median", "geometric_median"])
def test_a_table_has_a_line_for_each_rule_and_the_numbers_go_to_a_file(tmp_path, third):
    path = tmp_path / "numbers.json"
    code, stdout, stderr = bench(
        *("rules", "--size", "11,2,50", "--repeats", "2", "--no-peers", "--json", path),
        *("--rule", "krum", "--rule", "nnm", "--rule", third, "--rule", "krum"),
    )
    assert code == 0, stderr
    lines = [line.split() for line in stdout.splitlines()]
    found = {line[0]: line for line in lines if line and line[0] in ("krum", "nnm", third)}
    assert list(found) == ["krum", "nnm", third]
    written = json.loads(path.read_text())["records"]
    records = {each["name"]: each for each in written}
    assert len(written) == len(records), "a rule that is named twice is measured once"
    assert set(records) == {"machine", *found}
    for name in found:
        assert float(found[name][1]) == pytest.approx(1000 * records[name]["best_s"], abs=0.01)
        assert records[name]["best_s"] > 0
        assert records[name]["compile_s"] > 0
        assert records[name]["planned_bytes"] > 0
        assert {"jnp_s", "numpy_s"} <= set(records[name])
    if third == "geometric_median":
        assert records[third]["iterations"] >= 1


@pytest.mark.slow
def test_what_cannot_be_measured_at_a_size_is_said_and_the_others_go_on():
    code, stdout, stderr = bench(
        *("rules", "--size", "5,1,20", "--repeats", "1", "--no-peers", "--no-plain"),
        *("--rule", "bulyan", "--rule", "average"),
    )
    assert code == 0, stderr
    assert "\nbulyan                 bulyan needs n >= 4f + 3" in stdout
    assert "\naverage " in stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rules", "--size", "25,5"], "--size 25,5: three whole numbers N,F,D are needed"),
        by_night(["rules", "--size", "0,0,5"], "--size 0,0,5: three whole numbers"),
        by_night(["rules", "--rule", "krumm"], "--rule krumm: did you mean krum?"),
        # a process each, which takes seconds
        by_night(["rules", "--json", "nowhere/at/all.json"], "there is no folder nowhere/at"),
        by_night(["training", "--model", "rnn"], "--model rnn: there are: mlp, cnn"),
        by_night(["population", "--clients", "30"], "--participants 50: there are only 30 clients (--clients)"),
        by_night(["sharded", "--rule", "zeno"], "--rule zeno: has no sharded form"),
        by_night(["training", "--rule", "krumm"], "rule: unknown rule 'krumm'; did you mean 'krum'?"),
        by_night(["training", "--json", "nowhere/at/all.json"], "there is no folder nowhere/at"),
        by_night(["rules", "--json", "tests"], "--json tests: cannot be written (Is a directory): name another file"),
        by_night(
            ["training", "--json", "tests"], "--json tests: cannot be written (Is a directory): name another file"
        ),
    ],
)
def test_a_mistake_is_one_line(arguments, said):
    code, stdout, stderr = bench(*arguments)
    assert (code, stdout) == (2, "")
    assert said in stderr
    assert len(stderr.splitlines()) == 1


def test_an_interrupted_benchmark_keeps_what_was_measured(tmp_path):
    path = tmp_path / "numbers.json"
    process = command(
        *("bench", "rules", "--size", "11,2,50", "--size", "51,12,100000", "--no-peers", "--repeats", "50"),
        *("--rule", "average", "--rule", "brute", "--json", path),
    )
    limit = time.monotonic() + 200
    while time.monotonic() < limit and not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=100)
    assert (process.returncode, stderr) == (130, f"interrupted: what was measured is in {path}\n")
    assert json.loads(path.read_text())["records"][0]["name"] == "machine"


def test_numbers_take_the_place_of_older_ones_when_they_are_whole(tmp_path, monkeypatch):
    path, link = tmp_path / "numbers.json", tmp_path / "link.json"
    path.write_text("old")
    link.symlink_to(path)
    monkeypatch.setattr(writing.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("the power is gone")))
    with pytest.raises(OSError, match="power"):
        write_text(link, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    write_text(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.json", "numbers.json"]


def test_numbers_may_go_into_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "numbers")
    assert os.read(reader, 100) == b"numbers"
    os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["population", "rules", "schedules", "sharded", "topologies", "training"])
def test_no_benchmark_writes_over_its_numbers_as_they_are(name):
    text = (ROOT / "experiments" / "benchmarks" / f"{name}.py").read_text()
    assert "write_numbers(path, " in text
    assert ".write_text(" not in text


def test_peers_that_are_not_installed_are_left_out():
    assert set(peers.installed_peers()) <= set(peers.PEERS)


def test_bench_training_refuses_sizes_that_no_run_has():
    code, _, err = bench("training", "--workers", "5", "--byzantine", "5", "--model", "mlp", "--rule", "average")
    assert code == 2
    assert "byzantine" in err


@pytest.mark.slow
def test_bench_training_measures_every_executor_beside_its_floor(tmp_path):
    path = tmp_path / "numbers.json"
    code, out, err = bench(
        *("training", "--model", "mlp", "--rule", "median", "--steps", "2", "--repeats", "1", "--no-peers"),
        *("--workers", "5", "--byzantine", "2", "--batch", "8", "--json", path),
    )
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads(path.read_text())["records"]}
    assert list(rows) == ["gradients alone", *training.EXECUTORS]
    for name, row in rows.items():
        assert name in out
        assert row["updates_per_s"] > 0
        # three honest workers, eight samples
        assert row["floor_updates_per_s"] == pytest.approx(1e11 / (3 * 8 * 2 * PRODUCTS["mlp"]))


@pytest.mark.skipif("byzfl" in peers.installed_peers(), reason="byzfl is installed: this is what it does without")
def test_a_peer_that_is_not_there_is_reported_in_its_line():
    found = training_peers.measure("mlp", "average", (5, 1, 8), 1, 1, 1)
    assert list(found) == ["failed"]
