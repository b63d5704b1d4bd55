"""A mesh of devices: the numbers of one device but for rounding, and the same bits on any number of cores.

A process has one number of devices: runs on a mesh are made in processes of their own. How events and columns are
split is tested with the devices as an axis of `vmap`, which has the same collectives.
"""

import json
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax.aggregators import Context
from byzax.simulator import columns, mesh, threads
from byzax.simulator.columns import BLOCK, over_columns
from byzax.simulator.contracts import build_rule
from byzax.simulator.mesh import AXIS, in_parts
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.slices import Cuts
from byzax.simulator.validation import validate
from tests.nightly import by_night
from tests.simulator.conftest import loop, small
from tests.simulator.test_executors import SCENARIOS

N, D = 11, 4 * BLOCK + 37


def on_devices(function, devices, *arguments):
    """The results of a function on each of some devices, `[devices, ...]`."""
    return jax.jit(jax.vmap(lambda _: function(*arguments), axis_name=AXIS))(jnp.arange(devices))


def describe(given):
    """Numbers of several types for each of some things, and a key."""
    numbers, key = given
    return {
        "largest": numbers.max(axis=-1),
        "many": jnp.round(100 * numbers).astype(jnp.int32),
        "some": numbers[:, 0] > 0,
        "key": jax.vmap(jax.random.fold_in, (0, None))(key, 7),
        "none": None,
    }


def agree(one, other):
    def numbers(leaf):
        return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    pairs = zip(*(map(numbers, jax.tree.leaves(each)) for each in (one, other)), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


# one for all; fewer than devices; as many for each; one more than that
@pytest.mark.parametrize(("count", "devices"), [(1, 2), (2, 3), (6, 2), (7, 3)])
def test_every_thing_is_handled_once_and_all_devices_know_all_results(count, devices):
    given = jax.random.normal(jax.random.key(0), (count, 3)), jax.random.split(jax.random.key(1), count)
    expected = jax.jit(describe)(given)
    made = on_devices(lambda: in_parts(describe, given, count, devices), devices)
    for device in range(devices):
        assert agree(jax.tree.map(lambda leaf, device=device: leaf[device], made), expected)


def test_a_device_handles_its_part_alone():
    sizes = []

    def count(given):
        sizes.append(len(given))
        return given

    on_devices(lambda: in_parts(count, jnp.arange(7), 7, 3), 3)
    assert sizes == [3]


def rule_of(name, *before):
    """A rule for eleven rows of which two may be Byzantine."""
    described = small(rule=name, pre=before)
    return build_rule(described.rule, described.pre, N, 2)


def columns_agree(rule, devices, d=D, steps=2):
    """Tells whether a rule over columns is the rule, for some updates from the state before."""
    over = over_columns(rule, devices)
    assert over.apply is not rule.apply
    state = rule.init(d)
    for step in range(steps):
        given = jax.random.normal(jax.random.key(step), (N, d))
        context = Context(jax.random.key(step))
        expected, after, info = jax.jit(rule.apply)(given, state, context)
        made, mine, told = on_devices(over.apply, devices, given, state, context)
        # rounding decides how often a rule iterates
        results = ((made, mine, told._replace(iterations=None)), (expected, after, info._replace(iterations=None)))
        pairs = zip(*map(jax.tree.leaves, results), strict=True)
        for got, wanted in pairs:
            for device in range(devices):
                if not np.allclose(got[device], wanted, rtol=1e-5, atol=1e-6):
                    return False
        state = after
    return True


SPLIT = ["trimmed_mean", "norm_clipping"]
RULES = [
    *SPLIT, "krum", "foolsgold", "centered_clipping", "geometric_median", "average", "median", "multi_krum", "bulyan",
    "cge", "clipped_clustering", "dnc", "mean_around_median", "median_of_means", "medoid", "phocas", "sign_majority",
    "signguard",
]  # fmt: skip


@pytest.mark.parametrize("name", [name if name in SPLIT else by_night(name) for name in RULES])
def test_a_rule_over_columns_is_the_rule(name):
    rule = rule_of(name)
    # slices of other lengths
    assert columns_agree(rule, 3)


@pytest.mark.slow
def test_what_stands_before_a_rule_is_over_columns_too():
    assert columns_agree(rule_of("krum", "nnm"), 2)


def test_few_columns_and_rules_without_a_sharded_form_are_not_split():
    median, brute = rule_of("median"), rule_of("brute")
    assert columns_agree(median, 2, d=2 * BLOCK - 1)
    assert over_columns(median, 1) is median
    assert (over_columns(brute, 2) is brute) == (brute.sharded is None)


@pytest.mark.parametrize("mistake", ["what follows a slice is not 0", "own part alone", "all read the first slice"])
def test_mistakes_in_columns_are_seen(monkeypatch, mistake):
    if mistake == "what follows a slice is not 0":
        cut = Cuts.cut

        def wider(self, values, server):
            begin = self.bounds[server]
            return (
                values[..., begin : begin + self.width] if begin + self.width <= self.d else cut(self, values, server)
            )

        monkeypatch.setattr(Cuts, "cut", wider)
    elif mistake == "own part alone":
        monkeypatch.setattr(columns, "gathered", lambda values: jnp.stack([values] * 3))
    else:
        monkeypatch.setattr(columns.jax.lax, "switch", lambda device, branches, *given: branches[0](*given))
    over_columns.cache_clear()
    assert not columns_agree(rule_of("norm_clipping"), 3)
    over_columns.cache_clear()


@pytest.mark.parametrize("block", [1, 5, 64])
def test_slices_in_blocks_cover_all_coordinates_once(block):
    for servers in (2, 3, 7):
        cuts, values = Cuts(333, servers, block), np.arange(333)
        assert all(begin % block == 0 for begin in cuts.bounds[:-1])
        assert max(np.diff(cuts.bounds)) <= cuts.width
        joined = jax.jit(lambda all: cuts.join([cuts.cut(all, each) for each in range(cuts.servers)]))  # noqa: B023
        assert np.array_equal(joined(values), values)


def run_on_mesh(devices, folder, *scenarios):
    """The checkpoints of runs on a mesh, each of which goes on as it was where it is left in its middle."""
    file = folder / f"{devices}.pickle"
    subprocess.run(
        [sys.executable, "-m", "tests.simulator.on_mesh", str(devices), str(file)],
        input=json.dumps(scenarios), text=True, check=True, cwd=Path(__file__).parents[2],
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


# seven workers on two devices, of which one forges its row and reads none
BY_DAY = {"rule": "trimmed_mean", "attack": "little", "worker_momentum": 0.5, "steps": 4, "evaluate_every": 2}
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


def test_updates_on_two_devices_are_within_rounding_of_loop_and_go_on_after_a_cut(tmp_path):
    (got,) = run_on_mesh(2, tmp_path, BY_DAY)
    assert_close(loop(**BY_DAY), got)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("name", BY_NIGHT)
def test_updates_on_a_mesh_are_within_rounding_of_loop(name, devices, tmp_path):
    changes = shortened(BY_NIGHT[name])
    (got,) = run_on_mesh(devices, tmp_path, changes)
    assert_close(loop(**changes), got)


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
    def function():
        return 0

    assert mesh.on_all(function, 1) is function
    assert in_parts(partial(jnp.add, 1), jnp.arange(3), 3, 1).tolist() == [1, 2, 3]


def test_more_devices_than_workers_are_refused():
    with pytest.raises(ScenarioError, match=r"executor.mesh.workers: 8 devices would share 7 workers: take at most 7"):
        small(executor={"name": "vectorised", "mesh": {"workers": 8}})


def test_a_mesh_is_refused_where_jax_has_started_with_fewer_devices():
    threads.start()
    with pytest.raises(ScenarioError, match=r"executor.mesh.workers: 2 devices are needed, and JAX has started with 1"):
        validate(small(executor={"name": "vectorised", "mesh": {"workers": 2}}))


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
