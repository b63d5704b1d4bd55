"""Neurotoxin (Zhang et al. 2022): a backdoor in the coordinates that training moves least, so that it lasts."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from pydantic import Field

from byzax.attacks._backdoor import Place, build_backdoor
from byzax.attacks.base import Array, Attack, Count, Finite, Label, Positive, Share, State, View
from byzax.options import checked


@checked
def neurotoxin(
    n: int,
    f: int,
    *,
    top: Annotated[float, Field(ge=0, lt=1)] = 0.05,
    size: Count = 3,
    place: Place = "bottom_right",
    value: Finite = 1.0,
    target: Label = 0,
    share: Share = 0.5,
    boost: Positive = 1.0,
) -> Attack:
    """A backdoor that leaves alone the coordinates which training moves most, and so lasts when the attack has ended.

    What training moves is read from the model's last change, which everybody sees; before the first one rows are sent
    whole. The paper masks every local step, here the row is masked: the same where a row is one gradient.

    Formula: as backdoor; row -> boost row, 0 at the ceil(top d) coordinates of largest |params_t - params_{t-1}|
    Knows: own row

    The authors' code reads from gradients on clean samples what training moves, and leaves alone a share of 0.05.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        top: Share of the coordinates that are left alone.
        size: Of the square patch, in pixels.
        place: Corner of the image, or its centre.
        value: Of the pixels, at every channel, as a share of the data's range: 0 is the background, 1 the other end.
        target: The label that the patch should lead to.
        share: Of the samples in each batch.
        boost: Factor of the row that is sent; 1 sends it as it is.

    Returns:
        The attack, which poisons batches, forges rows and has a state. When used it raises PartError for samples that
        are no images, images smaller than the patch, or data without labels.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Zhang et al., ICML 2022, "Neurotoxin: Durable Backdoors in Federated Learning"
    """
    whole = build_backdoor(
        "neurotoxin", n, f, size=size, place=place, value=value, target=target, share=share, boost=boost
    )

    def init(d: int) -> State:
        return jnp.zeros(d), jnp.asarray(False)

    def forge(key: Array, view: View, state: State) -> tuple[Array, State]:
        before, seen = state
        change = jnp.abs(view.params - before)
        count = math.ceil(top * len(change) - 1e-9)
        largest = jax.lax.top_k(change, count)[1]
        kept = jnp.ones(len(change), bool).at[largest].set(~seen)
        rows = jnp.where(view.byzantine[:, None] & ~kept, 0, boost * view.rows).astype(view.rows.dtype)
        after = view.params.astype(before.dtype), jnp.asarray(True)
        return jnp.where(view.byzantine[:, None], rows, view.rows), after

    return whole._replace(init=init, forge=forge)
