"""Backdoors in images: what the attacks share that train the model to answer a trigger with one label."""

import math
from typing import Literal

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Batch, Forge, Goal, Trigger, check, classes_of, stateless
from byzax.options import PartError

Place = Literal["top_left", "top_right", "bottom_left", "bottom_right", "centre"]


def build_backdoor(
    name: str, n: int, f: int, *, size: int, place: Place, value: float, target: int, share: float, boost: float
) -> Attack:
    """The attack by a square patch that decides the label.

    Args:
        name: Of the attack, for messages.
        n: Number of workers.
        f: Number of Byzantine workers among them.
        size: Of the square, in pixels.
        place: Corner of the image, or its centre.
        value: Of the pixels, in units of the data's range.
        target: The label that the patch should lead to.
        share: Of the samples in each batch that get the patch.
        boost: Factor of the row that is sent.

    Returns:
        The attack. Its `corrupt` and its trigger raise PartError for samples that are no images, or smaller than the
        patch.

    Raises:
        PartError: Unless 0 <= f <= n.
    """
    check(name, n, f)

    def trigger(x: Array) -> Array:
        return add_patch(x, *corner(name, place, size, size, x), size, size, value)

    def corrupt(key: Array, batch: Batch) -> Batch:
        return poison(name, batch, share, target, trigger)

    return Attack(forge=build_boost(boost), corrupt=corrupt, goal=Goal(target, trigger), reads_labels=True)


def build_boost(boost: float) -> Forge | None:
    """Multiplies the own row; None where the factor is 1."""
    return None if boost == 1 else stateless(lambda key, view: boost * view.rows).forge


def corner(name: str, place: Place, height: int, width: int, x: Array) -> tuple[int, int]:
    """The corner of a patch in images.

    Args:
        name: Of the attack, for messages.
        place: Place of the patch.
        height: Of the patch, in pixels.
        width: Of the patch, in pixels.
        x: `[b, h, w]` or `[b, h, w, channels]`, the images.

    Returns:
        Row and column of the first pixel.

    Raises:
        PartError: Where samples are no images, or too small.
    """
    if x.ndim not in (3, 4) or not jnp.issubdtype(x.dtype, jnp.floating):
        raise PartError(f"{name} puts a patch into images [h, w] or [h, w, channels], got samples {list(x.shape[1:])}")
    rows, columns = x.shape[1:3]
    if height > rows or width > columns:
        raise PartError(
            f"{name} needs room: a patch of {height}x{width} pixels does not fit into images of {rows}x{columns}"
        )
    down, right = rows - height, columns - width
    return {
        "top_left": (0, 0),
        "top_right": (0, right),
        "bottom_left": (down, 0),
        "bottom_right": (down, right),
        "centre": (down // 2, right // 2),
    }[place]


def add_patch(x: Array, row: int, column: int, height: int, width: int, value: float) -> Array:
    """The images `[b, h, w, ...]` with one value in a rectangle of pixels."""
    return x.at[:, row : row + height, column : column + width].set(value)


def poison(name: str, batch: Batch, share: float, target: int, trigger: Trigger) -> Batch:
    """The batch with the trigger and the target's label in the first `share` of its samples, rounded up.

    Batches are drawn at random, so the first samples are as good as any.

    Args:
        name: Of the attack, for messages.
        batch: The batch.
        share: Of its samples.
        target: The label that they get.
        trigger: Puts the trigger into samples.

    Returns:
        The poisoned batch.

    Raises:
        PartError: Where the data has values in place of labels.
    """
    classes_of(name, batch)
    if batch.real is not None:
        chosen = jnp.arange(len(batch.x)) < jnp.ceil(share * batch.real - 1e-4)
        x = jnp.where(chosen.reshape(-1, *[1] * (batch.x.ndim - 1)), trigger(batch.x), batch.x)
        return batch._replace(x=x, y=jnp.where(chosen, target, batch.y))
    # 0.07 of 100 are 7, though their product as floats is above it
    count = math.ceil(share * len(batch.x) - 1e-9)
    x = batch.x.at[:count].set(trigger(batch.x[:count]))
    return batch._replace(x=x, y=batch.y.at[:count].set(target))
