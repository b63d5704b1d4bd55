"""Layers split over the devices of a mesh: each has a part of every array of parameters, and a slice of the vector.

Dense layers are split by columns or by rows, convolutions by channels, attention by heads. XLA adds the exchanges
between layers. Nothing is split unless what is compiled knows of a mesh with an axis of this name.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

Array = jax.Array

# the axis of a mesh over which layers are split
PARAMETERS = "parameters"
# A slice of the vector is handed over in so many pieces: what a piece takes comes on top of all.
PIECES = 4


class LayerArray(NamedTuple):
    """An array of parameters seen as `[before, size, after]`, of which the middle axis is split.

    Attributes:
        begin: Its first place in the vector.
        before: Product of the axes before the one that is split.
        size: Length of that one.
        after: Product of the axes after it.
        parts: Number of parts; 1 where every device has the whole array.
    """

    begin: int
    before: int
    size: int
    after: int
    parts: int

    @property
    def end(self) -> int:
        """The place in the vector after its last one."""
        return self.begin + self.before * self.size * self.after

    @property
    def part(self) -> int:
        """Length of the part of a device along the axis that is split, filled up."""
        return -(-self.size // self.parts)


def axis_of(shape: Sequence[int], parts: int) -> int | None:
    """The axis along which an array of parameters is split: its outputs or its inputs, of which there are more.

    Args:
        shape: Of the array; the last two axes are inputs and outputs of a layer, or channels of a convolution.
        parts: Number of parts.

    Returns:
        The axis; None for biases and the like, and where there are fewer than parts: every device has the whole array.
    """
    if len(shape) < 2:
        return None
    axis = len(shape) - (1 if shape[-1] >= shape[-2] else 2)
    return axis if shape[axis] >= parts else None


def _parts() -> int:
    """The number of devices that what is compiled may split layers over."""
    mesh = jax.sharding.get_abstract_mesh()
    if PARAMETERS not in mesh.axis_names or mesh._name_to_type[PARAMETERS] != AxisType.Auto:
        return 1
    return mesh.shape[PARAMETERS]


def split_along(values: Array, axis: int) -> Array:
    """Values that a layer computes, split over the devices along an axis; the values themselves without a mesh."""
    if _parts() == 1:
        return values
    return jax.lax.with_sharding_constraint(values, PartitionSpec(*[None] * axis, PARAMETERS))


def arrays_of(params: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array] | None:
    """The arrays of parameters of a vector, split over the devices; its gradient is split as the vector is.

    Args:
        params: `[d]`, of which every device has a slice.
        shapes: The shapes of the arrays, in the order of the vector.

    Returns:
        The arrays; None where there is no mesh to split them over.
    """
    parts = _parts()
    if parts == 1:
        return None
    layers: list[LayerArray] = []
    begin = 0
    for shape in shapes:
        axis = axis_of(shape, parts)
        if axis is None:
            layer = LayerArray(begin, 1, math.prod(shape), 1, parts=1)
        else:
            layer = LayerArray(begin, math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]), parts)
        layers.append(layer)
        begin = layer.end
    made = []
    for leaf, layer, shape in zip(_split(tuple(layers), params), layers, shapes, strict=True):
        whole = leaf[:, : layer.size].reshape(shape)
        made.append(whole if layer.parts == 1 else split_along(whole, axis_of(shape, parts)))  # pyright: ignore[reportArgumentType]
    return made


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _split(layers: tuple[LayerArray, ...], params: Array) -> tuple[Array, ...]:
    """The arrays `[before, size, after]` of a vector, filled up to as long parts.

    Every device hears the slices of all, piece by piece, and takes what is of its parts: no device has the whole vector
    at any time.
    """
    pieces = _pieces_of(layers)

    def take(mine: Array) -> tuple[Array, ...]:
        device = jax.lax.axis_index(PARAMETERS)
        padded = _filled_up(mine, PIECES * pieces.size)

        def build(number: int) -> Callable[..., Any]:
            def add(own: list[Array], heard: Array) -> list[Array]:
                own = list(own)
                for place, layer, first, last in pieces.runs(number):
                    begin = layer.begin + first - pieces.begin(number)
                    run = heard[begin : begin + last - first]
                    own[place] = _add_run(layer, own[place], run, first, device)
                return own

            return add

        adding = [build(number) for number in range(pieces.total)]

        def hear(number: Array, own: list[Array]) -> list[Array]:
            piece = jax.lax.dynamic_slice_in_dim(padded, number % PIECES * pieces.size, pieces.size)
            heard = jax.lax.psum(jnp.where(device == number // PIECES, piece, 0), PARAMETERS)
            return jax.lax.switch(number, adding, own, heard)

        own = [jnp.zeros((each.before, each.part, each.after), mine.dtype) for each in layers]
        # a loop: XLA would put the exchanges of all pieces together
        return tuple(jax.lax.fori_loop(0, pieces.total, hear, own))

    whole = _filled_up(params, pieces.parts * pieces.slice)
    return _mapped(take, PartitionSpec(PARAMETERS), _splits(layers))(whole)


def _join(layers: tuple[LayerArray, ...], _: None, gradients: tuple[Array, ...]) -> tuple[Array]:
    """The vector of which `_split` made arrays: the gradient of a vector from those of its arrays."""
    pieces = _pieces_of(layers)

    def put(own: tuple[Array, ...]) -> Array:
        device = jax.lax.axis_index(PARAMETERS)

        def build(number: int) -> Callable[..., Any]:
            def say(own: tuple[Array, ...]) -> Array:
                runs = [jnp.zeros(0, own[0].dtype)]
                for place, layer, first, last in pieces.runs(number):
                    run = _run_of(layer, own[place], first, last, device)
                    # what all devices have comes from one
                    runs.append(run if layer.parts > 1 else jnp.where(device == 0, run, 0))
                return _filled_up(jnp.concatenate(runs), pieces.size)

            return say

        saying = [build(number) for number in range(pieces.total)]

        def gather(number: Array, mine: Array) -> Array:
            said = jax.lax.psum(jax.lax.switch(number, saying, own), PARAMETERS)
            begin = number % PIECES * pieces.size
            before = jax.lax.dynamic_slice_in_dim(mine, begin, pieces.size)
            kept = jnp.where(device == number // PIECES, said, before)
            return jax.lax.dynamic_update_slice_in_dim(mine, kept, begin, 0)

        mine = jax.lax.fori_loop(0, pieces.total, gather, jnp.zeros(PIECES * pieces.size, own[0].dtype))
        return mine[: pieces.slice]

    whole = _mapped(put, (_splits(layers),), PartitionSpec(PARAMETERS))(gradients)
    return (whole[: layers[-1].end],)


_split.defvjp(lambda layers, params: (_split(layers, params), None), _join)


class Pieces(NamedTuple):
    """The pieces in which devices tell each other their slices of the vector, so many from each.

    Attributes:
        layers: The arrays.
        parts: Number of devices.
        slice: Length of a slice, of which that of the last device may be filled up.
        size: Length of a piece; what is beyond the slice is filled up.
    """

    layers: tuple[LayerArray, ...]
    parts: int
    slice: int
    size: int

    @property
    def total(self) -> int:
        """Number of pieces."""
        return self.parts * PIECES

    def begin(self, number: int) -> int:
        """The first place of a piece in the vector."""
        return number // PIECES * self.slice + number % PIECES * self.size

    def runs(self, number: int) -> Iterator[tuple[int, LayerArray, int, int]]:
        """The arrays in a piece: number, array, and its places in the piece, counted from its first, from and up to."""
        begin, end = self.begin(number), min(self.begin(number) + self.size, (number // PIECES + 1) * self.slice)
        for place, layer in enumerate(self.layers):
            first, last = max(begin, layer.begin), min(end, layer.end)
            if first < last:
                yield place, layer, first - layer.begin, last - layer.begin


def _pieces_of(layers: tuple[LayerArray, ...]) -> Pieces:
    parts = _parts()
    size = -(-layers[-1].end // parts)
    return Pieces(layers, parts, size, -(-size // PIECES))


def _mapped(function: Callable[..., Any], given: Any, made: Any) -> Callable[..., Any]:
    return jax.shard_map(function, in_specs=given, out_specs=made, axis_names={PARAMETERS}, check_vma=False)


def _splits(layers: Sequence[LayerArray]) -> tuple[PartitionSpec, ...]:
    return tuple(PartitionSpec(None, PARAMETERS) if layer.parts > 1 else PartitionSpec() for layer in layers)


def _filled_up(values: Array, size: int) -> Array:
    return jnp.pad(values, (0, size - len(values)))


def _add_run(layer: LayerArray, own: Array, run: Array, first: int, device: Array) -> Array:
    """A device's part of an array with what is of it in a run of consecutive places from `first` on."""
    last = first + len(run)
    if layer.parts == 1:
        return own.at[0, first:last, 0].set(run)
    row, length = layer.size * layer.after, layer.part * layer.after
    if layer.before == 1:
        # its part is consecutive too: it begins somewhere before, in or after the run
        window = jnp.pad(run, length)
        begin = jnp.clip(device * length - first + length, 0, len(run) + length)
        return own + jax.lax.dynamic_slice_in_dim(window, begin, length).reshape(own.shape)
    # whole rows, of which each device has some columns
    above, below = first // row, -(-last // row)
    rows = jnp.pad(run, (first - above * row, below * row - last)).reshape(below - above, layer.size, layer.after)
    rows = jnp.pad(rows, ((0, 0), (0, layer.part * layer.parts - layer.size), (0, 0)))
    return own.at[above:below].add(jax.lax.dynamic_slice_in_dim(rows, device * layer.part, layer.part, axis=1))


def _run_of(layer: LayerArray, own: Array, first: int, last: int, device: Array) -> Array:
    """A run of consecutive places of an array with a device's part of it, zeros elsewhere."""
    if layer.parts == 1:
        return own[0, first:last, 0]
    count, row, length = last - first, layer.size * layer.after, layer.part * layer.after
    if layer.before == 1:
        window = jnp.pad(own.reshape(-1), count)
        begin = jnp.clip(first - device * length + count, 0, count + length)
        return jax.lax.dynamic_slice_in_dim(window, begin, count)
    above, below = first // row, -(-last // row)
    rows = jnp.zeros((below - above, layer.part * layer.parts, layer.after), own.dtype)
    rows = jax.lax.dynamic_update_slice_in_dim(rows, own[above:below], device * layer.part, axis=1)
    return rows[:, : layer.size].reshape(-1)[first - above * row : last - above * row]
