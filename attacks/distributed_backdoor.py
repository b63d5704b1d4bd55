"""DBA: every liar has a part of the trigger."""

import math
from typing import Literal

import jax.numpy as jnp
from jax import lax

from byzax.attacks._backdoor import PLACES, check_backdoor, corner, poisoned, stamped
from byzax.attacks.base import Array, Attack, Batch, Goal, View, check, stateless


def distributed_backdoor(
    n: int,
    f: int,
    *,
    parts: int | None = None,
    length: int = 3,
    gap: int = 1,
    place: Literal["top_left", "top_right", "bottom_left", "bottom_right", "centre"] = "top_left",
    value: float = 1.0,
    target: int = 0,
    share: float = 0.5,
    boost: float = 1.0,
) -> Attack:
    """Each Byzantine worker trains on images with one bar of the trigger; the model is asked with all bars.

    No single worker shows what the trigger is, and its row differs less from honest rows than with the whole of it.
    Byzantine worker j has bar j mod `parts`; more parts than workers are refused, for some bars would never be trained
    on. The bars stand in two columns, as in the paper. How often all of them together lead to the target's label is the
    attack success rate.

    Formula: as backdoor, with bar (rank mod parts) of 1 x length pixels in place of the patch
    Knows: own row
    Source: Xie, Huang, Chen and Li, ICLR 2020, "DBA: Distributed Backdoor Attacks against Federated Learning"

    The authors' code has bars of length 4 with a gap of 2 on MNIST, of 6 with a gap of 3 on CIFAR-10, the target 2 and
    a boost of 100 for one liar of 100 workers. The defaults here fit into the 8x8 pixels of digits.

    Args:
        parts: number of bars; None takes as many as there are Byzantine workers, and at most the paper's 4.
        length: of a bar, in pixels.
        gap: pixels between bars, in both directions.
        place: where the rectangle of all bars stands.
        value: of the pixels, at every channel, as a share of the data's range: 0 is the background, 1 the other end.
        target: the label that the trigger should lead to.
        share: of the samples in each batch.
        boost: what the row is multiplied by (the paper's scale).

    Raises:
        ValueError: unless 0 <= f <= n, or for an option out of range; when used, for samples that are no images, for
            images smaller than the bars together.
    """
    check("distributed_backdoor", n, f)
    check_backdoor("distributed_backdoor", share, target, boost)
    if parts is None:
        parts = min(4, f) or 4
    if f and parts > f:
        raise ValueError(
            f"distributed_backdoor needs parts <= f, got parts={parts}, f={f}: each Byzantine worker trains on one "
            f"bar of the trigger, and the model is asked with all of them: take parts {f}, or more Byzantine workers"
        )
    if parts < 1 or length < 1 or gap < 0:
        raise ValueError(
            f"distributed_backdoor needs parts >= 1, length >= 1 and gap >= 0, got parts={parts}, length={length}, "
            f"gap={gap}"
        )
    if place not in PLACES:
        raise ValueError(f"distributed_backdoor knows the places {', '.join(PLACES)}, got {place!r}")
    columns = min(parts, 2)
    height = math.ceil(parts / columns) * (1 + gap) - gap
    width = columns * (length + gap) - gap

    def bar(x: Array, number: int) -> Array:
        row, column = corner("distributed_backdoor", place, height, width, x)
        down, right = divmod(number, columns)
        return stamped(x, row + down * (1 + gap), column + right * (length + gap), 1, length, value)

    def trigger(x: Array) -> Array:
        for number in range(parts):
            x = bar(x, number)
        return x

    def corrupt(key: Array, batch: Batch) -> Batch:
        branches = [lambda x, number=number: bar(x, number) for number in range(parts)]
        return poisoned(
            "distributed_backdoor",
            batch,
            share,
            target,
            lambda x: lax.switch(jnp.asarray(batch.rank) % parts, branches, x),
        )

    def enlarged(key: Array, view: View) -> Array:
        return boost * view.rows

    return Attack(forge=None if boost == 1 else stateless(enlarged).forge, corrupt=corrupt, goal=Goal(target, trigger))
