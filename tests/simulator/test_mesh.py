"""A mesh of devices: the numbers of one device but for rounding, and the same bits on any number of cores.

A process has one number of devices: all of these checks are made in processes of their own (`on_mesh.py`).
"""

import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax.simulator import mesh, threads
from byzax.simulator.columns import BLOCK, over_columns
from byzax.simulator.mesh import ONE_DEVICE, MeshShape, in_parts
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.validation import validate
from tests.simulator.conftest import loop, small
from tests.simulator.on_mesh import N, rule_of
from tests.simulator.test_executors import SCENARIOS


def on_mesh(folder, devices, *checks):
    """The results of checks on a mesh. See `on_mesh.py`."""
    file = folder / "results.pickle"
    subprocess.run(
        [sys.executable, "-m", "tests.simulator.on_mesh", str(devices), str(file)],
        input=json.dumps(checks), text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return pickle.loads(file.read_bytes())


def assert_close(expected, got):
    for a, b in zip(expected, got, strict=True):
        assert (a.seed, a.step, a.time_s) == (b.seed, b.step, b.time_s)
        np.testing.assert_allclose(a.params, b.params, rtol=1e-5, atol=1e-6 * np.abs(a.params).max())
        # models that are equal are apart by rounding
        np.testing.assert_allclose(a.evaluation, b.evaluation, rtol=1e-4, atol=1e-6)
        for x, y in zip(a.updates, b.updates, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


# seven workers, of which one forges its row and reads none
BY_DAY = {"rule": "trimmed_mean", "attack": "little", "worker_momentum": 0.5, "steps": 4, "evaluate_every": 2}
MISTAKES = ["all have the first slice", "own part alone"]
# numbers of things and their parts: one for all, fewer than parts, as many for each, one more than that
PARTS = [
    (2, 1, 1, False, [1]),
    (2, 2, 2, True, [1]),
    (2, 2, 6, False, [3]),
    (2, 2, 7, True, [2]),
    (1, 2, 7, False, [7]),
]
# rows, coordinates, and the sizes of each device's part: by columns, and by workers and coordinates
PLACES = [(2, 2, 7, 37, [(7, 10), (4, 19)]), (1, 4, 2, 8, [(2, 2), (2, 2)]), (4, 1, 5, 4, [(5, 1), (2, 4)])]


def test_what_is_split_keeps_its_numbers_and_no_device_has_all_of_it(tmp_path):
    checks = [
        *(("parts", *each[:-1]) for each in PARTS),
        *(("places", *each[:-1]) for each in PLACES),
        ("rule", 2, 2, "trimmed_mean"),
        ("rule", 2, 2, "norm_clipping"),
        *(("mistake", 2, 2, name) for name in MISTAKES),
        # pieces that end within rows, within columns, and biases across them
        ("layers", 4, [3, 5, 8], [8], [3, 16], [3], [16, 3], [5, 4], [2]),
        ("gradients", 2, 2, "mlp", [6, 5], {"hidden": [13]}),
        ("run", 2, 2, BY_DAY),
    ]
    *made, error, got = on_mesh(tmp_path, 4, *checks)
    assert made == [(True, each[-1]) for each in (*PARTS, *PLACES)] + [True, True, False, False, True]
    assert error < 1e-5
    assert_close(loop(**BY_DAY), got)


# of each kind of layer: dense, convolutions, recurrent, attention
MODELS = [
    ("softmax", [9, 7]), ("mlp", [28, 28], {"hidden": [50, 50, 7]}), ("cnn", [28, 28]), ("lenet", [28, 28]),
    ("lstm", [6, 5]), ("gru", [6, 5]), ("rnn", [12], {"vocabulary": 10}), ("transformer", [12], {"vocabulary": 10}),
    ("resnet20", [8, 8, 3]),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 4), (1, 8), (2, 4), (4, 2)])
def test_gradients_of_split_layers_are_those_of_one_device(shape, tmp_path):
    errors = on_mesh(tmp_path, shape[0] * shape[1], *(("gradients", *shape, *model) for model in MODELS))
    assert {model[0]: error for model, error in zip(MODELS, errors, strict=True) if error > 1e-5} == {}


RULES = [
    "krum", "foolsgold", "centered_clipping", "geometric_median", "average", "median", "multi_krum", "bulyan", "cge",
    "clipped_clustering", "dnc", "mean_around_median", "median_of_means", "medoid", "phocas", "sign_majority",
    "signguard",
]  # fmt: skip


@pytest.mark.slow
def test_a_rule_over_columns_is_the_rule(tmp_path):
    # what stands before a rule is over columns too
    checks = [*(("rule", 3, 1, name) for name in RULES), ("rule", 1, 2, "krum", ["nnm"])]
    made = on_mesh(tmp_path, 4, *checks)
    assert [check for check, holds in zip(checks, made, strict=True) if not holds] == []


def test_few_columns_and_rules_without_a_sharded_form_are_not_split():
    median, brute = rule_of("median"), rule_of("brute")
    few, two = jnp.ones((N, 2 * BLOCK - 1)), MeshShape(2, 1)
    assert (over_columns(median, two).apply(few, ())[0] == 1).all()
    assert over_columns(median, ONE_DEVICE) is median
    assert (over_columns(brute, two) is brute) == (brute.sharded is None)


BY_NIGHT = {
    **SCENARIOS,
    "gossip": {"topology": {"name": "gossip", "graph": "complete"}, "rule": "trimmed_mean", "attack": "little"},
    "sharded": {"topology": {"name": "sharded", "servers": 3}, "rule": "krum", "attack": "little"},
    "byzsgd": {"topology": "byzsgd", "rule": "median", "workers": {"total": 9, "byzantine": 1}},
    "all_gather": {"topology": "all_gather", "rule": "median", "attack": "little"},
    "all_reduce": {"topology": "all_reduce", "workers": {"total": 7, "byzantine": 0}},
    "cnn": {
        "data": {"name": "gaussian_mixture", "shape": [28, 28], "samples": 600, "batch_size": 4},
        "model": "cnn",
        "rule": "geometric_median",
        "attack": "little",
        "worker_momentum": 0.9,
    },
}


def shortened(changes):
    return {**changes, "steps": min(changes.get("steps", 4), 12), "evaluate_every": 4}


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 1), (4, 1), (1, 2), (2, 2), (3, 2)])
@pytest.mark.parametrize("name", BY_NIGHT)
def test_updates_on_a_mesh_are_within_rounding_of_loop(name, shape, tmp_path):
    changes = shortened(BY_NIGHT[name])
    (got,) = on_mesh(tmp_path, shape[0] * shape[1], ("run", *shape, changes))
    assert_close(loop(**changes), got)


@pytest.mark.slow
def test_processes_with_devices_of_their_own_share_a_mesh():
    """Each has two devices, and must have the whole run's numbers; see the example in docs/clusters.md."""
    code = """
import sys, jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
from byzax.simulator.executors.base import digest
from tests.simulator.conftest import run, small
changes = {"rule": "krum", "attack": "little", "worker_momentum": 0.5, "steps": 4, "evaluate_every": 2}
shape = {"workers": int(sys.argv[3]), "parameters": int(sys.argv[4])}
for record in ({}, {"record": {"rows": [1], "weights": True}}):
    print(digest(run(small(**changes, **record, executor={"name": "vectorised", "mesh": shape}))))
"""
    for shape in (("2", "2"), ("1", "4")):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, address, str(number), *shape],
                stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=os.environ | {"NPROC": "2"},
            )
            for number in range(2)
        ]  # fmt: skip
        printed = [process.communicate(timeout=400)[0].split("\n")[-3:] for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        assert printed[0] == printed[1]
        assert len(printed[0][0]) == 64


@pytest.mark.slow
def test_recorded_updates_and_repeats_on_a_mesh(tmp_path):
    changes = BY_DAY | {"record": {"rows": [1, 3], "weights": True}}
    repeated = changes | {"repeats": 2}
    given = [(2, 2, changes), (2, 2, repeated), (1, 3, changes), (3, 1, repeated)]
    results = on_mesh(tmp_path, 4, *(("run", *each) for each in given))
    for (*_, described), got in zip(given, results, strict=True):
        expected = loop(**described)
        assert_close(expected, got)
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_allclose(a.weights, b.weights, rtol=1e-5, atol=1e-6)
            assert [each.step for each in a.recorded] == [each.step for each in b.recorded]
            for one, other in zip(a.recorded, b.recorded, strict=True):
                for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
                    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_bits_of_a_mesh_do_not_depend_on_the_number_of_cores():
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("this machine offers one core only: there is nothing to compare")
    code = (
        "import os, sys; os.sched_setaffinity(0, map(int, sys.argv[1:]))\n"
        "from tests.simulator.conftest import run, small; from byzax.simulator.executors.base import digest\n"
        "data = {'name': 'gaussian_mixture', 'shape': [28, 28], 'samples': 600}\n"
        "executor = {'name': 'vectorised', 'mesh': {'workers': 2}}\n"
        "print(digest(run(small(data=data, model='cnn', rule='krum', steps=3, executor=executor))))"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", code, *map(str, which)],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
        ).stdout
        for which in (cores[:1], cores)
    ]  # fmt: skip
    assert printed[0] == printed[1] != ""


def test_a_mesh_of_one_device_is_none():
    values = jnp.arange(3)
    for function in (mesh.spread, mesh.padded):
        assert function(values, ONE_DEVICE, 3) is values
    assert mesh.to_all(values, ONE_DEVICE) is mesh.to_columns(values, ONE_DEVICE) is values
    assert in_parts(jnp.add, 1, values, 3, ONE_DEVICE, whole_rows=False).tolist() == [1, 2, 3]


def test_more_devices_than_workers_are_refused():
    with pytest.raises(ScenarioError, match=r"executor.mesh.workers: 8 parts would share 7 workers: take at most 7"):
        small(executor={"name": "vectorised", "mesh": {"workers": 8}})


def test_a_mesh_is_refused_where_jax_has_started_with_fewer_devices():
    threads.start()
    with pytest.raises(ScenarioError, match=r"executor.mesh: 2 devices are needed, and JAX has started with 1"):
        validate(small(executor={"name": "vectorised", "mesh": {"parameters": 2}}))


def test_several_numbers_of_devices_in_one_command_are_refused(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("""
data: digits
rule: median
attack: none
executor: {name: vectorised}
workers: {total: 7}
grid: {executor.mesh.workers: [1, 2]}
""")
    from byzax.experiments import study
    from byzax.experiments.command_steps import check_studies

    with pytest.raises(ScenarioError, match=r"one number of devices, got \[1, 2\]"):
        check_studies([study.load(file)], None)
