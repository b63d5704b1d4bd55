"""Slices of the coordinates: a server's part of model and states, and measurements put together from those of parts."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from byzax.aggregators.kernels.sharding import ShardedForm, Slice
from byzax.simulator.diagnostics import Diagnostics
from byzax.simulator.server import Server

Array = jax.Array

# Numbers and steps by which an optimizer is seen to take every coordinate by itself.
TRIED, STEPS = 12, 3


class Cuts(NamedTuple):
    """The slices of d coordinates that S servers hold, each as long as the others or one longer.

    Attributes:
        d: Number of coordinates.
        servers: Number of slices.
    """

    d: int
    servers: int

    @property
    def bounds(self) -> tuple[int, ...]:
        """Slice s has the coordinates `bounds[s]` up to `bounds[s + 1]`."""
        return tuple(self.d * s // self.servers for s in range(self.servers + 1))

    @property
    def width(self) -> int:
        """The width of the arrays of all slices: of those that are one shorter the last number is 0."""
        return -(-self.d // self.servers)

    def slice(self, server: int) -> Slice:
        """The slice of a server."""
        begin, end = self.bounds[server : server + 2]
        return Slice(begin, end - begin, self.d)

    def slice_of(self, server: Array) -> Slice:
        """The slice of a server whose number compiled code knows later."""
        bounds = jnp.asarray(self.bounds, jnp.int32)
        return Slice(bounds[server], bounds[server + 1] - bounds[server], self.d)

    def cut(self, values: Any, server: int) -> Any:
        """The slice of an array `[..., d]`, `[..., width]`."""
        begin, end = self.bounds[server : server + 2]
        return jnp.pad(values[..., begin:end], [*[(0, 0)] * (values.ndim - 1), (0, self.width - (end - begin))])

    def join(self, slices: Sequence[Any], axis: int = -1) -> Any:
        """The array of which these are the slices of all servers along an axis."""
        sizes = np.diff(self.bounds).tolist()
        parts = zip(slices, sizes, strict=True)
        # a gather of these places would copy number by number
        return jnp.concatenate([jax.lax.slice_in_dim(each, 0, size, axis=axis) for each, size in parts], axis=axis)


def cut_server(cuts: Cuts, whole: Server, form: ShardedForm, server: int) -> Server:
    """A server's part of the state of one server before the first update.

    Args:
        cuts: The slices.
        whole: The state of one server.
        form: The rule over slices.
        server: The server.

    Returns:
        Its state.
    """

    def cut(leaf: Any) -> Any:
        return cuts.cut(leaf, server) if jnp.shape(leaf) == (cuts.d,) else leaf

    return whole._replace(
        params=cuts.cut(whole.params, server),
        optimizer=jax.tree.map(cut, whole.optimizer),
        rule=form.init(cuts.slice(server), cuts.width),
    )


def join_servers(cuts: Cuts, whole: Any, parts: Sequence[Any]) -> Any:
    """A tree from its parts at all servers.

    Args:
        cuts: The slices.
        whole: A tree with the shapes of the result.
        parts: The parts, of the same structure; axes that are as long as a slice is wide are d in the result.

    Returns:
        The tree. Leaves that all servers have alike are those of the first.
    """

    def join(shape: Any, *leaves: Any) -> Any:
        wanted, got = jnp.shape(shape), jnp.shape(leaves[0])
        axes = [axis for axis, (one, other) in enumerate(zip(wanted, got, strict=True)) if one != other]
        return cuts.join(leaves, axes[0]) if axes else leaves[0]

    return jax.tree.map(join, whole, *parts)


def flatten(tree: Any) -> Array:
    """All numbers of a tree in one vector of float32."""
    return jnp.concatenate([jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(tree)])


def unflatten(shapes: Any, values: Array) -> Any:
    """The tree of which `flatten` made a vector.

    Args:
        shapes: A tree of the same structure, shapes and types.
        values: The vector.

    Returns:
        The tree.
    """
    leaves, structure = jax.tree.flatten(shapes)
    ends = np.cumsum([np.prod(jnp.shape(leaf), dtype=int) for leaf in leaves]).tolist()
    parts = zip(leaves, [0, *ends], ends, strict=False)
    made = [values[begin:end].reshape(jnp.shape(leaf)).astype(leaf.dtype) for leaf, begin, end in parts]
    return jax.tree.unflatten(structure, made)


class SeenSlice(NamedTuple):
    """The measurements of a server in an update.

    Attributes:
        diagnostics: Those of its slice.
        honest_norm: The length of its slice of the honest mean.
        weights: `[n]`, the weights of rows, the same at all servers.
    """

    diagnostics: Diagnostics
    honest_norm: Array
    weights: Array


@jax.jit
def join_measurements(seen: Sequence[SeenSlice]) -> tuple[Diagnostics, Array]:
    """The measurements of an update from those of all servers.

    Args:
        seen: Those of the servers.

    Returns:
        The diagnostics, as of one server, and the weights.
    """
    slices, honest, weights = jax.tree.map(lambda *each: jnp.stack(each), *seen)
    norm, other = _length(slices.aggregate_norm), _length(honest)
    # of a slice that is 0 the cosine is not a number
    pulls = jnp.where((slices.aggregate_norm == 0) | (honest == 0), 0, slices.honest_cosine)
    cosine = jnp.sum(pulls * (slices.aggregate_norm / norm) * (honest / other))
    first = jax.tree.map(lambda each: each[0], slices)
    joined = first._replace(aggregate_norm=norm, honest_cosine=cosine, honest_distance=_length(slices.honest_distance))
    return joined, weights[0]


def _length(parts: Array) -> Array:
    """The length of a vector from those of its slices, also where their squares leave the range of float32."""
    largest = jnp.max(jnp.abs(parts))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * jnp.sqrt(jnp.sum((parts / scale) ** 2))


@lru_cache(maxsize=32)
def takes_coordinates_alone(optimizer: optax.GradientTransformation) -> bool:
    """Tells whether an optimizer changes every coordinate of a model by itself, by some steps on few numbers.

    Args:
        optimizer: The optimizer.

    Returns:
        False where a part of the numbers takes another way without the others.
    """
    params, *rows = np.random.default_rng(0).normal(size=(1 + STEPS, TRIED)).astype(np.float32)

    def follow(begin: int, end: int) -> Any:
        model = jnp.asarray(params[begin:end])
        state = optimizer.init(model)
        for row in rows:
            change, state = optimizer.update(jnp.asarray(row[begin:end]), state, model)
            model = optax.apply_updates(model, change)
        return np.asarray(model)

    middle = TRIED // 3
    parts = np.concatenate([follow(0, middle), follow(middle, TRIED)])
    return bool(np.allclose(parts, follow(0, TRIED), rtol=1e-6, atol=1e-7))
