"""DBA (Xie et al. 2020): a backdoor whose trigger is divided among the Byzantine workers."""

import math
from typing import Annotated

import jax.numpy as jnp
from jax import lax
from pydantic import Field

from byzax.attacks._backdoor import Place, add_patch, build_boost, corner, poison
from byzax.attacks.base import Array, Attack, Batch, Count, Finite, Goal, Label, Positive, Share, check
from byzax.options import OptionError, checked


@checked
def distributed_backdoor(
    n: int,
    f: int,
    *,
    parts: Count | None = None,
    length: Count = 3,
    gap: Annotated[int, Field(ge=0)] = 1,
    place: Place = "top_left",
    value: Finite = 1.0,
    target: Label = 0,
    share: Share = 0.5,
    boost: Positive = 1.0,
) -> Attack:
    """Each Byzantine worker trains on images with one bar of the trigger; the model is asked with all bars.

    No single worker shows what the trigger is, and its row differs less from honest rows than with the whole of it.
    Byzantine worker j has bar j mod `parts`; more parts than workers are refused, for some bars would never be trained
    on. The bars stand in two columns, as in the paper. How often all of them together lead to the target's label is the
    attack success rate.

    Formula: as backdoor, with bar (rank mod parts) of 1 x length pixels in place of the patch
    Knows: own row

    The authors' code has bars of length 4 with a gap of 2 on MNIST, of 6 with a gap of 3 on CIFAR-10, the target 2 and
    a boost of 100 for one Byzantine worker of 100. The defaults here fit into the 8x8 pixels of digits.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        parts: Number of bars. None: as many as there are Byzantine workers, and at most the paper's 4.
        length: Of a bar, in pixels.
        gap: Pixels between bars, in both directions.
        place: Of the rectangle of all bars.
        value: Of the pixels, at every channel, as a share of the data's range: 0 is the background, 1 the other end.
        target: The label that the trigger should lead to.
        share: Of the samples in each batch.
        boost: Factor of the row that is sent (the paper's scale); 1 sends it as it is.

    Returns:
        The attack, which poisons batches and, where boost is not 1, forges rows. When used it raises PartError for
        samples that are no images, images smaller than the bars together, or data without labels.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range, or parts > f.

    References:
        Xie, Huang, Chen and Li, ICLR 2020, "DBA: Distributed Backdoor Attacks against Federated Learning"
    """
    check("distributed_backdoor", n, f)
    if parts is None:
        parts = min(4, f) or 4
    if f and parts > f:
        raise OptionError(
            "parts",
            f"must be at most f = {f}: each Byzantine worker trains on one bar of the trigger, and the model is asked "
            f"with all of them, got parts={parts}: take parts {f}, or more Byzantine workers",
        )
    columns = min(parts, 2)
    height = math.ceil(parts / columns) * (1 + gap) - gap
    width = columns * (length + gap) - gap

    def add_bar(x: Array, number: int) -> Array:
        row, column = corner("distributed_backdoor", place, height, width, x)
        down, right = divmod(number, columns)
        return add_patch(x, row + down * (1 + gap), column + right * (length + gap), 1, length, value)

    def trigger(x: Array) -> Array:
        for number in range(parts):
            x = add_bar(x, number)
        return x

    def corrupt(key: Array, batch: Batch) -> Batch:
        branches = [lambda x, number=number: add_bar(x, number) for number in range(parts)]

        def add_own_bar(x: Array) -> Array:
            return lax.switch(jnp.asarray(batch.rank) % parts, branches, x)

        return poison("distributed_backdoor", batch, share, target, add_own_bar)

    return Attack(forge=build_boost(boost), corrupt=corrupt, goal=Goal(target, trigger), reads_labels=True)
