"""A mesh of devices: workers' jobs and their memories are split along one axis, coordinates along both.

The devices are GPUs, or on CPU threads of this process that JAX takes for devices. Compiled code is written for whole
arrays; what is split, and how, is said here by shardings, and XLA adds the exchanges that sums over split axes need.
Where the order of things matters (jobs in parts, rules over columns, rows to columns) the exchange is written out.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from byzax.models._splitting import PARAMETERS

Array = jax.Array

# the name of the other axis in compiled code
WORKERS = "workers"
# all devices, in the order of the slices of coordinates that they have where all rows are looked at together
ALL = (PARAMETERS, WORKERS)
# of arrays that all devices have
ALIKE = PartitionSpec()


class MeshShape(NamedTuple):
    """The numbers of devices along the axes of a mesh.

    Attributes:
        workers: Parts of the workers.
        parameters: Parts of the coordinates of a model.
    """

    workers: int = 1
    parameters: int = 1

    @property
    def devices(self) -> int:
        """Number of devices."""
        return self.workers * self.parameters


ONE_DEVICE = MeshShape()


@lru_cache(maxsize=8)
def build_mesh(shape: MeshShape) -> Mesh:
    """Builds the mesh of the first devices.

    Args:
        shape: Its shape; there are at least as many devices.

    Returns:
        The mesh.
    """
    return Mesh(np.array(jax.devices()[: shape.devices]).reshape(shape), (WORKERS, PARAMETERS))


def known_to_models(shape: MeshShape) -> AbstractContextManager[Any]:
    """Lets what is compiled meanwhile know of a mesh, as models do that split their layers."""
    return nullcontext() if shape == ONE_DEVICE else jax.set_mesh(build_mesh(shape))


def split_of(shape: Sequence[int], d: int, node_axis: int | None = None) -> PartitionSpec:
    """The split of an array over a mesh: of its last axis, where that is over all coordinates.

    Args:
        shape: Of the array.
        d: Number of coordinates.
        node_axis: The axis over nodes, which is split over workers, and coordinates over the other axis of the mesh;
            None where coordinates are split over all devices.

    Returns:
        The split.
    """
    if not shape or shape[-1] != d or node_axis == len(shape) - 1:
        return ALIKE
    names: list[Any] = [None] * len(shape)
    names[-1] = ALL
    if node_axis is not None:
        names[node_axis], names[-1] = WORKERS, PARAMETERS
    return PartitionSpec(*names)


def spread(tree: Any, shape: MeshShape, d: int, node_axis: int | None = None) -> Any:
    """Arrays of compiled code, split over a mesh.

    Args:
        tree: The arrays.
        shape: Shape of the mesh.
        d: Number of coordinates.
        node_axis: As in `split_of`.

    Returns:
        The same arrays.
    """
    if shape == ONE_DEVICE:
        return tree
    mesh = build_mesh(shape)
    return jax.tree.map(
        lambda leaf: jax.lax.with_sharding_constraint(
            leaf, NamedSharding(mesh, split_of(jnp.shape(leaf), d, node_axis))
        ),
        tree,
    )


@partial(jax.tree_util.register_dataclass, data_fields=("values",), meta_fields=("shape", "split"))
@dataclass(frozen=True)
class Padded:
    """An array that is split evenly: filled up with zeros.

    Attributes:
        values: The array with what fills it up.
        shape: The shape of what counts of it.
        split: Its split.
    """

    values: Any
    shape: tuple[int, ...]
    split: PartitionSpec

    def counting(self, values: Any) -> Any:
        """The part that counts of an array whose last axes are those of this one."""
        return values[tuple(map(slice, self.shape[len(self.shape) - values.ndim :]))]


def _is_padded(each: Any) -> bool:
    return isinstance(each, Padded)


def _filled_up(leaf: Any, split: PartitionSpec, shape: MeshShape) -> Any:
    def up(size: int, names: Any) -> tuple[int, int]:
        axes = () if names is None else names if isinstance(names, tuple) else (names,)
        return 0, -size % math.prod(getattr(shape, name) for name in axes)

    wanted = [*map(up, leaf.shape, split)]
    if not any(more for _, more in wanted):
        return leaf
    return (jnp if isinstance(leaf, jax.Array) else np).pad(leaf, wanted)


def _place(leaf: Any, sharding: NamedSharding) -> Array:
    """An array split as said: one of compiled code, or one that every process has whole on its host."""
    if isinstance(leaf, Tracer) or sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _place(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda part: host[part])


def padded(tree: Any, shape: MeshShape, d: int, node_axis: int | None = None) -> Any:
    """Arrays that compiled code takes and gives, split over a mesh: of compiled code, or placed from the host.

    Args:
        tree: The arrays.
        shape: Shape of the mesh.
        d: Number of coordinates.
        node_axis: As in `split_of`.

    Returns:
        A tree with `Padded` in place of arrays that are split; of one device the arrays themselves.
    """
    if shape == ONE_DEVICE:
        return tree
    mesh = build_mesh(shape)

    def pad(leaf: Any) -> Any:
        split = split_of(jnp.shape(leaf), d, node_axis)
        made = _place(_filled_up(leaf, split, shape), NamedSharding(mesh, split))
        return made if split == ALIKE else Padded(made, jnp.shape(leaf), split)

    return jax.tree.map(pad, tree)


def unpadded(tree: Any) -> Any:
    """The arrays of which `padded` made a tree."""
    return jax.tree.map(lambda each: each.counting(each.values) if _is_padded(each) else each, tree, is_leaf=_is_padded)


def on_host(tree: Any, *places: int) -> Any:
    """Arrays of a mesh on the host.

    Args:
        tree: As `padded` gives it.
        *places: Places along the first axes, of which alone they are wanted.

    Returns:
        A tree of arrays of NumPy without what filled them up; keys of random numbers stay keys.
    """

    def fetch(each: Any) -> Any:
        if _is_padded(each):
            return each.counting(whole(each.values[places] if places else each.values))
        first = each.addressable_data(0)
        # a copy: the array itself may be given away
        return first[places] if jnp.issubdtype(each.dtype, jax.dtypes.prng_key) else np.array(first)[places]

    return jax.tree.map(fetch, tree, is_leaf=_is_padded)


def whole(values: Array) -> np.ndarray:
    """An array on the host, whose parts may be at devices of other processes."""
    if values.is_fully_addressable or values.is_fully_replicated:
        return np.asarray(values)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(values, tiled=True))


def to_all(tree: Any, shape: MeshShape) -> Any:
    """Arrays on all devices of a mesh.

    Args:
        tree: The arrays.
        shape: Shape of the mesh.

    Returns:
        The same arrays; of one device they stay where they are.
    """
    if shape == ONE_DEVICE:
        return tree
    everywhere = NamedSharding(build_mesh(shape), ALIKE)
    return jax.tree.map(lambda leaf: _place(leaf, everywhere), tree)


def in_parts(
    function: Callable[[Any, Any], Any], alike: Any, given: Any, count: int, shape: MeshShape, whole_rows: bool
) -> Any:
    """The results of a function for each of some things, of which every part of the mesh handles as many.

    Args:
        function: Takes the arrays that they have in common and those of some of them, and gives arrays, with a leading
            axis over them each.
        alike: The arrays that all have in common.
        given: The arrays of all, `[count, ...]` each.
        count: Their number.
        shape: Shape of the mesh.
        whole_rows: Whether each device handles some by itself, with all coordinates; else those along one axis handle
            the same ones together, and coordinates stay split between them.

    Returns:
        The results for all of them, `[count, ...]` each.
    """
    axes = ALL if whole_rows else (WORKERS,)
    parts = math.prod(getattr(shape, name) for name in axes)
    if parts == 1 or count == 1:
        return function(alike, given)

    def fill_up(leaf: Array) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(fill_up(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        # what follows handles the first thing of all, for nothing
        return jnp.pad(leaf, [(0, -count % parts), *[(0, 0)] * (leaf.ndim - 1)])

    made = jax.shard_map(
        function,
        mesh=build_mesh(shape),
        in_specs=(ALIKE, PartitionSpec(axes)),
        out_specs=PartitionSpec(axes),
        axis_names={*axes},
        check_vma=False,
    )(alike, jax.tree.map(fill_up, given))
    return jax.tree.map(lambda leaf: leaf[:count], made)


def to_columns(rows: Array, shape: MeshShape) -> Array:
    """Rows that are split by workers, split by coordinates alone: every device has its slice of all rows.

    Args:
        rows: `[n, d]`.
        shape: Shape of the mesh.

    Returns:
        `[n, d]`, as in `spread` without an axis over nodes.
    """
    if shape == ONE_DEVICE:
        return rows
    n, d = rows.shape
    if shape.workers > 1:
        # slices along the one axis, and as long as those of all of its devices will be together
        have, wanted = -(-d // shape.parameters), -(-d // shape.devices) * shape.workers
        longer = wanted - have
        beyond = shape.parameters * longer
        if beyond > have:
            # a few numbers
            have, longer = wanted, 0

        def exchange(mine: Array) -> Array:
            if longer:
                # a slice begins a little later than it did, and ends in the next device's
                pairs = [(device, device - 1) for device in range(1, shape.parameters)]
                following = (
                    jax.lax.ppermute(mine[:, :beyond], PARAMETERS, pairs) if pairs else jnp.zeros_like(mine[:, :beyond])
                )
                begin = longer * jax.lax.axis_index(PARAMETERS)
                mine = jax.lax.dynamic_slice_in_dim(jnp.concatenate([mine, following], 1), begin, wanted, axis=1)
            return jax.lax.all_to_all(mine, WORKERS, split_axis=1, concat_axis=0, tiled=True)

        filled = jnp.pad(rows, [(0, -n % shape.workers), (0, shape.parameters * have - d)])
        moved = jax.shard_map(
            exchange,
            mesh=build_mesh(shape),
            in_specs=PartitionSpec(WORKERS, PARAMETERS),
            out_specs=PartitionSpec(None, ALL),
            check_vma=False,
        )(filled)
        rows = moved[:n, :d]
    return spread(rows, shape, d)
