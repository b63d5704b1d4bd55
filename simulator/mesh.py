"""A mesh of devices: each carries out a part of the events of an update, and all have everything else.

The devices are GPUs, or on CPU threads of this process that JAX takes for devices. All of them run the same compiled
code on the same arrays, but for what is split here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Array = jax.Array

# the name of the devices in compiled code
AXIS = "devices"
# of arrays that all of them have
ALIKE = PartitionSpec()


def build_mesh(devices: int) -> Mesh:
    """Builds the mesh of the first devices.

    Args:
        devices: Number of devices, at most as many as there are.

    Returns:
        The mesh.
    """
    return Mesh(np.array(jax.devices()[:devices]), (AXIS,))


def on_all(function: Callable[..., Any], devices: int) -> Callable[..., Any]:
    """A function that is called on all devices of a mesh, with the same arguments and the same results.

    Args:
        function: The function; it may split events by `in_parts`.
        devices: Number of devices.

    Returns:
        The function, to be compiled; of one device it is the function itself.
    """
    if devices == 1:
        return function
    return jax.shard_map(function, mesh=build_mesh(devices), in_specs=ALIKE, out_specs=ALIKE, check_vma=False)


def to_all(tree: Any, devices: int) -> Any:
    """Arrays on all devices of a mesh.

    Args:
        tree: The arrays.
        devices: Number of devices.

    Returns:
        The same arrays; of one device they stay where they are.
    """
    return tree if devices == 1 else jax.device_put(tree, NamedSharding(build_mesh(devices), ALIKE))


def first_copy(tree: Any) -> Any:
    """The first device's copy of arrays that all have."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def gathered(values: Array) -> Array:
    """The arrays of all devices, `[devices, ...]`, at each of them."""
    if jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(gathered(jax.random.key_data(values)), impl=jax.random.key_impl(values))
    return jax.lax.all_gather(values, AXIS)


def in_parts(function: Callable[[Any], Any], given: Any, count: int, devices: int) -> Any:
    """The results of a function for each of some things, of which every device handles as many.

    Args:
        function: Takes the arrays of some of them, and gives arrays, with a leading axis over them each.
        given: The arrays of all, `[count, ...]` each.
        count: Their number.
        devices: Number of devices.

    Returns:
        The results for all of them, `[count, ...]` each, at every device.
    """
    if devices == 1 or count == 1:
        return function(given)
    size = -(-count // devices)
    # the last ones are handled twice where they cannot be dealt evenly
    begins = [min(device * size, count - size) for device in range(devices)]
    begin = jnp.asarray(begins, jnp.int32)[jax.lax.axis_index(AXIS)]
    mine = jax.tree.map(partial(jax.lax.dynamic_slice_in_dim, start_index=begin, slice_size=size), given)

    def whole(values: Array) -> Array:
        of_all = gathered(values)
        if count == size * devices:
            return of_all.reshape(count, *values.shape[1:])
        ends = [min((device + 1) * size, count) for device in range(devices)]
        return jnp.concatenate(
            [
                of_all[device, device * size - begins[device] : end - begins[device]]
                for device, end in enumerate(ends)
                if device * size < end
            ]
        )

    return jax.tree.map(whole, function(mine))
