"""Rules over columns: each device of a mesh aggregates a slice of the coordinates."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from byzax.aggregators import Aggregator, Context, Info
from byzax.aggregators.kernels.sharding import Exchange, Slice, answered
from byzax.simulator.compilation import compiled_once
from byzax.simulator.mesh import ALIKE, ALL, ONE_DEVICE, MeshShape, build_mesh
from byzax.simulator.updating import by_itself

Array = jax.Array

# Slices are filled up to multiples of it: XLA does not vectorise loops over odd numbers that it shares out to threads.
BLOCK = 64


@compiled_once
def over_columns(rule: Aggregator, mesh: MeshShape) -> Aggregator:
    """The same rule on the devices of a mesh, equal but for rounding: each aggregates a slice of all rows.

    Args:
        rule: The rule.
        mesh: Shape of the mesh.

    Returns:
        A rule over rows whose coordinates are split; the rule itself where it has no sharded form: then XLA decides
        what of the rows is gathered.
    """
    form, devices = rule.sharded, mesh.devices
    if mesh == ONE_DEVICE or form is None:
        return rule

    def apply(rows: Array, state: Any, context: Context | None = None) -> tuple[Array, Any, Info]:
        d = rows.shape[1]
        if d < devices * BLOCK:
            return rule.apply(rows, state, context)
        size = -(-d // devices)
        wide = BLOCK * -(-size // BLOCK)
        of_slice = jax.eval_shape(lambda: form.init(Slice(0, size, d), size))
        axes = jax.tree.map(_axis_of_coordinates, state, of_slice)

        def along(leaf: Array, axis: int, more: int) -> Array:
            """Filled up with zeros along its axis over coordinates."""
            return leaf if axis < 0 else jnp.pad(leaf, [(0, more * (each == axis)) for each in range(leaf.ndim)])

        def cut(leaf: Array, axis: int, count: int) -> Array:
            return leaf if axis < 0 else jax.lax.slice_in_dim(leaf, 0, count, axis=axis)

        def split(axis: int) -> PartitionSpec:
            return ALIKE if axis < 0 else PartitionSpec(*[None] * axis, ALL)

        def answer(asked: Exchange) -> Any:
            parts = jax.lax.all_gather(asked.quantity.part(*asked.arrays), ALL)
            return asked.quantity.join(parts, *asked.arrays)

        def aggregate(mine: Array, own: Any, key: Array | None) -> tuple[Array, Any, Info]:
            first = size * jax.lax.axis_index(ALL)
            where = Slice(first, jnp.clip(d - first, 0, size), d)
            own = jax.tree.map(lambda leaf, axis: along(leaf, axis, wide - size), own, axes)
            # nothing else of it is read by a rule over slices
            known = None if key is None else Context(key)

            def carry_out(given: tuple[Array, Any]) -> tuple[Array, Any, Info]:
                return answered(form.steps(*given, known, where), answer)

            # XLA would fuse what cuts and fills up into a sorting network
            made, after, info = by_itself(first >= 0, carry_out, (along(mine, 1, wide - size), own))
            return made[:size], jax.tree.map(lambda leaf, axis: cut(leaf, axis, size), after, axes), info

        splits = jax.tree.map(split, axes)
        more = size * devices - d
        made, after, info = jax.shard_map(
            aggregate,
            mesh=build_mesh(mesh),
            in_specs=(split(1), splits, ALIKE),
            out_specs=(split(0), splits, ALIKE),
            check_vma=False,
        )(
            along(rows, 1, more),
            jax.tree.map(lambda leaf, axis: along(leaf, axis, more), state, axes),
            None if context is None else context.key,
        )
        return made[:d], jax.tree.map(lambda leaf, axis: cut(leaf, axis, d), after, axes), info

    return rule._replace(apply=apply)


def _axis_of_coordinates(whole: Any, of_slice: Any) -> int:
    """The axis of an array in which that of a slice is shorter; -1 for none."""
    pairs = enumerate(zip(jnp.shape(whole), of_slice.shape, strict=True))
    return next((axis for axis, (one, other) in pairs if one != other), -1)
