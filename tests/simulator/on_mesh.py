"""Checks on a mesh, in a process of their own: `python -m tests.simulator.on_mesh DEVICES FILE < CHECKS`.

Reads a list of checks as JSON, each the name of a function below and its arguments, and writes what these gave to a
file. A process has one number of devices; meshes of fewer ones are made of the first of them.
"""

import json
import math
import pickle
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from byzax import models
from byzax.aggregators import Context
from byzax.models._splitting import arrays_of
from byzax.simulator import columns, executors, mesh, threads
from byzax.simulator.columns import BLOCK, over_columns
from byzax.simulator.contracts import build_rule
from byzax.simulator.executors import vectorised
from byzax.simulator.mesh import MeshShape, build_mesh, in_parts, padded, spread, to_columns, unpadded
from tests.simulator.conftest import same, small
from tests.simulator.test_snapshots import left, rest_is_same

N, D = 11, 8 * BLOCK + 37


def run(workers, parameters, changes):
    """The checkpoints of a run, which has the same numbers where it was cut; of repeats those of all."""
    scenario = small(**changes, executor=executor(workers, parameters))
    with executors.session(scenario.executor) as execute:
        whole, kept = left(execute, scenario, Path(sys.argv[2]).with_suffix(".npz"))
        assert same(whole, list(execute(scenario.task)))
        if scenario.repeats > 1:
            return whole
        snapshot = kept[len(kept) // 2]
        assert rest_is_same(whole, list(execute(scenario.task, {0: snapshot})), snapshot)
    return whole


def executor(workers, parameters):
    return {"name": "vectorised", "mesh": {"workers": workers, "parameters": parameters}}


def describe(alike, given):
    """Numbers of several types for each of some things, and a key."""
    numbers, key = given
    return {
        "largest": numbers.max(axis=-1) + alike,
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


def parts(workers, parameters, count, whole_rows):
    """Tells whether every thing is handled once, and how many a device handles."""
    shape, sizes = MeshShape(workers, parameters), []
    given = jax.random.normal(jax.random.key(0), (count, 3)), jax.random.split(jax.random.key(1), count)

    def counted(alike, given):
        sizes.append(len(given[0]))
        return describe(alike, given)

    made = jax.jit(lambda alike, given: in_parts(counted, alike, given, count, shape, whole_rows))(1.0, given)
    return agree(made, jax.jit(describe)(1.0, given)), sizes


def places(workers, parameters, n, d):
    """Tells whether arrays keep their numbers wherever they are placed; the sizes that one device has of them."""
    shape = MeshShape(workers, parameters)
    rows = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)

    @jax.jit
    def move(tree):
        by_worker = spread(unpadded(tree), shape, d, 0)
        return padded(to_columns(by_worker, shape), shape, d), padded(by_worker, shape, d, 0)

    made = move(padded(rows, shape, d, 0))
    sizes = [each.values.sharding.shard_shape(each.values.shape) for each in made]
    fetched = mesh.on_host(made)
    return all(np.array_equal(each, rows) for each in fetched) and np.array_equal(
        mesh.on_host(made[0], 1), rows[1]
    ), sizes


def rule_of(name, *before):
    """A rule for eleven rows of which two may be Byzantine."""
    described = small(rule=name, pre=before)
    return build_rule(described.rule, described.pre, N, 2)


def rule(workers, parameters, name, before=(), d=D):
    """Tells whether a rule over columns is the rule, for some updates from the state before."""
    shape, made = MeshShape(workers, parameters), rule_of(name, *before)
    over = over_columns(made, shape)
    assert over.apply is not made.apply
    state = made.init(d)
    for step in range(2):
        given = jax.random.normal(jax.random.key(step), (N, d))
        context = Context(jax.random.key(step))
        expected, after, info = jax.jit(made.apply)(given, state, context)
        on_mesh = jax.device_put((given, state, context), jax.NamedSharding(build_mesh(shape), mesh.ALIKE))
        got, mine, told = jax.jit(over.apply)(*on_mesh)
        # rounding decides how often a rule iterates
        results = ((got, mine, told._replace(iterations=None)), (expected, after, info._replace(iterations=None)))
        for one, other in zip(*map(jax.tree.leaves, results), strict=True):
            if not np.allclose(one, other, rtol=1e-5, atol=1e-6):
                return False
        state = after
    return True


def mistake(workers, parameters, name):
    """Tells whether a rule over columns is the rule though there is a mistake in what is known of slices."""
    kept = columns.Slice, jax.lax.all_gather
    try:
        if name == "all have the first slice":
            columns.Slice = lambda first, size, d: kept[0](0 * first, size, d)
        elif name == "own part alone":
            jax.lax.all_gather = lambda values, axes: jnp.stack([values] * workers * parameters)
        over_columns.cache_clear()
        return rule(
            workers, parameters, "norm_clipping" if name == "own part alone" else {"name": "dnc", "coordinates": 100}
        )
    finally:
        columns.Slice, jax.lax.all_gather = kept
        over_columns.cache_clear()


def layers(parts, *shapes):
    """Tells whether each device has its part of the arrays of a vector, and whether the way back gives the vector."""
    shape, d = MeshShape(1, parts), sum(map(math.prod, shapes))
    values = np.random.default_rng(0).normal(size=d).astype(np.float32)

    def arrays(vector):
        return arrays_of(spread(unpadded(vector), shape, d), shapes)

    def gradient(vector):
        # of half the sum of squares: the vector itself
        return jax.grad(lambda params: sum((each**2).sum() / 2 for each in arrays_of(params, shapes)))(unpadded(vector))

    with mesh.known_to_models(shape):
        vector = padded(values, shape, d)
        found = jax.jit(arrays)(vector)
        back = mesh.on_host(jax.jit(lambda vector: padded(gradient(vector), shape, d))(vector))
    begin, right = 0, np.array_equal(back, values)
    for array, size in zip(found, shapes, strict=True):
        whole = values[begin : begin + math.prod(size)].reshape(size)
        begin += whole.size
        if len(size) > 1 and max(size[-2:]) % parts == 0:
            axis = len(size) - (1 if size[-1] >= size[-2] else 2)
            wanted = np.split(whole, parts, axis)
            right &= all(np.array_equal(each.data, wanted[each.device.id]) for each in array.addressable_shards)
        right &= np.array_equal(array, whole)
    return right


def gradients(workers, parameters, name, size, options=None):
    """The largest difference of gradients of some workers from those on one device, relative to the largest value."""
    shape, model = MeshShape(workers, parameters), models.build(name, size, 10, **(options or {}))
    params = model.init(jax.random.key(0))
    d, count = len(params), 3
    x_key, y_key = jax.random.split(jax.random.key(1))
    given = (count, 4, *size)
    x = jax.random.randint(x_key, given, 0, 10) if len(size) == 1 else jax.random.normal(x_key, given)
    samples = x, jax.random.randint(y_key, (count, 4), 0, 10)

    def some(params, samples):
        def one(sample):
            return jax.grad(model.loss)(params, *sample)

        return jax.vmap(one)(samples) if model.batch else jax.lax.map(one, samples)

    def split(params, samples):
        rows = in_parts(some, spread(unpadded(params), shape, d), samples, count, shape, whole_rows=False)
        return padded(to_columns(rows, shape), shape, d)

    expected = np.asarray(jax.jit(some)(params, samples))
    with mesh.known_to_models(shape):
        got = mesh.on_host(jax.jit(split)(padded(np.asarray(params), shape, d), mesh.to_all(samples, shape)))
    return float(np.abs(got - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    devices, file = int(sys.argv[1]), Path(sys.argv[2])
    threads.start(devices)
    vectorised.LONGEST_LOOP = 3
    # meshes of fewer devices than threads are meant
    threads._warn = lambda *counts: None
    made = [globals()[name](*arguments) for name, *arguments in json.load(sys.stdin)]
    file.write_bytes(pickle.dumps(made))
