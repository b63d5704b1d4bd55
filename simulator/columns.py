"""Rules over columns: each device of a mesh aggregates a slice of the coordinates."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from byzax.aggregators import Aggregator, Context, Info
from byzax.aggregators.kernels.sharding import Exchange, answered
from byzax.simulator.compilation import compiled_once
from byzax.simulator.mesh import AXIS, gathered
from byzax.simulator.slices import Cuts, join_servers

Array = jax.Array

# Coordinates that stay together: XLA does not vectorise loops over odd numbers of them that it shares out to threads.
BLOCK = 64


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
        if d < devices * BLOCK:
            return rule.apply(rows, state, context)
        cuts, device = Cuts(d, devices, BLOCK), jax.lax.axis_index(AXIS)
        of_slice = jax.eval_shape(lambda: form.init(cuts.slice(0), cuts.width))

        def cut(server: int, whole: tuple[Array, Any]) -> tuple[Array, Any]:
            rows, state = whole
            return cuts.cut(rows, server), jax.tree.map(partial(_cut_like, cuts, server), state, of_slice)

        def answer(asked: Exchange) -> Any:
            return asked.quantity.join(gathered(asked.quantity.part(*asked.arrays)), *asked.arrays)

        # branches: XLA would fuse a slice that begins anywhere into a sorting network
        mine, own = jax.lax.switch(device, [partial(cut, server) for server in range(devices)], (rows, state))
        made, after, info = answered(form.steps(mine, own, context, cuts.slice_of(device)), answer)
        slices = jax.tree.map(gathered, (made, after))
        parts = [jax.tree.map(lambda leaf, server=server: leaf[server], slices) for server in range(devices)]
        return *join_servers(cuts, (jax.ShapeDtypeStruct((d,), rows.dtype), state), parts), info

    return rule._replace(apply=apply)


def _cut_like(cuts: Cuts, server: int, whole: Any, shape: Any) -> Any:
    """The slice of an array, along the axis in which it is longer than those of the shape of a slice."""
    axes = [axis for axis, (one, other) in enumerate(zip(whole.shape, shape.shape, strict=True)) if one != other]
    return jnp.moveaxis(cuts.cut(jnp.moveaxis(whole, axes[0], -1), server), -1, axes[0]) if axes else whole
