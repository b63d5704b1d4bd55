"""Rules over columns: each device of a mesh aggregates a slice of the coordinates."""

from typing import Any

import jax
import jax.numpy as jnp

from byzax.aggregators import Aggregator, Context, Info
from byzax.aggregators.kernels.sharding import Exchange, answered
from byzax.simulator.compilation import compiled_once
from byzax.simulator.mesh import AXIS, gathered
from byzax.simulator.slices import Cuts, join_servers

Array = jax.Array


@compiled_once
def over_columns(rule: Aggregator, devices: int) -> Aggregator:
    """The same rule on the devices of a mesh, equal but for rounding: each aggregates a slice of all rows.

    Args:
        rule: The rule.
        devices: Number of devices.

    Returns:
        A rule that all devices apply to the same rows; the rule itself where it has no sharded form: then each device
        aggregates whole rows.
    """
    form = rule.sharded
    if devices == 1 or form is None:
        return rule

    def apply(rows: Array, state: Any, context: Context | None = None) -> tuple[Array, Any, Info]:
        d = rows.shape[1]
        if d < devices:
            return rule.apply(rows, state, context)
        cuts = Cuts(d, devices)
        where = cuts.slice_of(jax.lax.axis_index(AXIS))
        there = jnp.arange(cuts.width) < where.size

        def cut(values: Array, shape: Any) -> Array:
            if values.shape == shape.shape:
                return values
            (axis,) = (i for i, (one, other) in enumerate(zip(values.shape, shape.shape, strict=True)) if one != other)
            mine = jax.lax.dynamic_slice_in_dim(values, where.first, cuts.width, axis)
            if d % devices == 0:
                return mine
            return jnp.where(there.reshape(-1, *[1] * (values.ndim - 1 - axis)), mine, 0).astype(values.dtype)

        def answer(asked: Exchange) -> Any:
            return asked.quantity.join(gathered(asked.quantity.part(*asked.arrays)), *asked.arrays)

        shapes = jax.eval_shape(lambda: form.init(cuts.slice(0), cuts.width))
        mine = cut(rows, jax.ShapeDtypeStruct((len(rows), cuts.width), rows.dtype))
        steps = form.steps(mine, jax.tree.map(cut, state, shapes), context, where)
        made, after, info = answered(steps, answer)
        slices = jax.tree.map(gathered, (made, after))
        parts = [jax.tree.map(lambda leaf, device=device: leaf[device], slices) for device in range(devices)]
        return *join_servers(cuts, (jax.ShapeDtypeStruct((d,), rows.dtype), state), parts), info

    return rule._replace(apply=apply)
