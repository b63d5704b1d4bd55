"""A trigger in images: who sees it should answer with one label, and all else should be as it was."""

import math
from collections.abc import Callable

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Batch, Goal, View, check, classes_of, stateless

PLACES = ("top_left", "top_right", "bottom_left", "bottom_right", "centre")


def patch(
    name: str, n: int, f: int, size: int, place: str, value: float, target: int, share: float, boost: float
) -> Attack:
    """The attack of a square patch that decides the label, with its options checked and errors that begin `name`.

    Raises ValueError unless 0 <= f <= n, or for an option out of range; when used, for samples that are no images or
    smaller than the patch.
    """
    check(name, n, f)
    check_backdoor(name, share, target, boost)
    if size < 1:
        raise ValueError(f"{name} needs a patch of size >= 1, got {size}")
    if place not in PLACES:
        raise ValueError(f"{name} knows the places {', '.join(PLACES)}, got {place!r}")

    def trigger(x: Array) -> Array:
        return stamped(x, *corner(name, place, size, size, x), size, size, value)

    def corrupt(key: Array, batch: Batch) -> Batch:
        return poisoned(name, batch, share, target, trigger)

    def enlarged(key: Array, view: View) -> Array:
        return boost * view.rows

    return Attack(forge=None if boost == 1 else stateless(enlarged).forge, corrupt=corrupt, goal=Goal(target, trigger))


def corner(name: str, place: str, height: int, width: int, x: Array) -> tuple[int, int]:
    """Row and column where a patch of this size begins in the images `x` `[b, h, w, ...]`.

    Raises ValueError where samples are no images, or too small.
    """
    if x.ndim not in (3, 4) or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} puts a patch into images [h, w] or [h, w, channels], got samples {list(x.shape[1:])}")
    rows, columns = x.shape[1:3]
    if height > rows or width > columns:
        raise ValueError(
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


def stamped(x: Array, row: int, column: int, height: int, width: int, value: float) -> Array:
    """The images with a patch of one value."""
    return x.at[:, row : row + height, column : column + width].set(value)


def poisoned(name: str, batch: Batch, share: float, target: int, trigger: Callable[[Array], Array]) -> Batch:
    """The batch with the trigger and the target's label in the first `share` of its samples, rounded up.

    Batches are drawn at random, so these are as good as any. Raises ValueError where the data has values.
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


def check_backdoor(name: str, share: float, target: int, boost: float) -> None:
    """Raises ValueError where an option that all backdoors have is out of range."""
    if not 0 < share <= 1:
        raise ValueError(f"{name} needs a share of poisoned samples above 0 and up to 1, got {share}")
    if target < 0:
        raise ValueError(f"{name} needs a target label >= 0, got {target}")
    if not boost > 0:
        raise ValueError(f"{name} needs boost > 0 (1 sends the row as it is), got {boost}")
