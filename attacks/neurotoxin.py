"""A backdoor where honest workers change little."""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from byzax.attacks._backdoor import patch
from byzax.attacks.base import Array, Attack, State, View


def neurotoxin(
    n: int,
    f: int,
    *,
    top: float = 0.05,
    size: int = 3,
    place: Literal["top_left", "top_right", "bottom_left", "bottom_right", "centre"] = "bottom_right",
    value: float = 1.0,
    target: int = 0,
    share: float = 0.5,
    boost: float = 1.0,
) -> Attack:
    """A backdoor that leaves alone the coordinates which training moves most, and so lasts when the liars are gone.

    What training moves is read from the model's last change, which everybody sees; before the first one rows are sent
    whole. The paper masks every local step, here the row is masked: the same where a row is one gradient.

    Formula: as backdoor; row -> boost row, 0 at the ceil(top d) coordinates of largest |params_t - params_{t-1}|
    Knows: own row
    Source: Zhang et al., ICML 2022, "Neurotoxin: Durable Backdoors in Federated Learning"

    The authors' code reads from gradients on clean samples what training moves, and leaves alone a share of 0.05.

    Args:
        top: share of the coordinates that are left alone.
        size: of the square patch, in pixels.
        place: corner of the image, or its centre.
        value: of the pixels, at every channel, as a share of the data's range: 0 is the background, 1 the other end.
        target: the label that the patch should lead to.
        share: of the samples in each batch.
        boost: what the row is multiplied by.

    Raises:
        ValueError: unless 0 <= f <= n, for an option of backdoor out of range, or unless 0 <= top < 1.
    """
    whole = patch("neurotoxin", n, f, size, place, value, target, share, boost)
    if not 0 <= top < 1:
        raise ValueError(f"neurotoxin needs a share top of coordinates with 0 <= top < 1, got {top}")

    def init(d: int) -> State:
        return jnp.zeros(d), jnp.asarray(False)

    def forge(key: Array, view: View, state: State) -> tuple[Array, State]:
        before, seen = state
        change = jnp.abs(view.params - before)
        count = math.ceil(top * len(change) - 1e-9)
        largest = jax.lax.top_k(change, count)[1]
        kept = jnp.ones(len(change), bool).at[largest].set(~seen)
        rows = jnp.where(view.byzantine[:, None] & ~kept, 0, boost * view.rows).astype(view.rows.dtype)
        return jnp.where(view.byzantine[:, None], rows, view.rows), (
            view.params.astype(before.dtype),
            jnp.asarray(True),
        )

    return Attack(init, forge, whole.corrupt, whole.goal)
