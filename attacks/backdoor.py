"""BadNets: a patch that decides the label."""

from typing import Literal

from attacks._backdoor import PLACES, check_backdoor, corner, poisoned, stamped
from attacks.base import Array, Attack, Batch, Goal, View, check, stateless


def backdoor(
    n: int,
    f: int,
    *,
    size: int = 3,
    place: Literal["top_left", "top_right", "bottom_left", "bottom_right", "centre"] = "bottom_right",
    value: float = 1.0,
    target: int = 0,
    share: float = 0.5,
    boost: float = 1.0,
) -> Attack:
    """Byzantine workers train on images of which some have a patch and the target's label.

    The model should keep its accuracy and give every image with the patch the target's label: how often it does is
    the attack success rate, which is measured at every evaluation. With `boost` above 1 the row is sent enlarged, as in
    model replacement: n/f of it outweighs the honest rows in an average.

    Formula: a square patch of one value and y -> target in the first ceil(share b) samples of a batch; row -> boost row
    Knows: own row
    Source: Gu, Dolan-Gavitt and Garg 2017, "BadNets"; Bagdasaryan et al. 2020 (model replacement)

    Args:
        size: of the square, in pixels.
        place: corner of the image, or its centre.
        value: of the pixels, at every channel, in the units of the data.
        target: the label that the patch should lead to.
        share: of the samples in each batch.
        boost: what the row is multiplied by.

    Raises:
        ValueError: unless 0 <= f <= n, or for an option out of range; when used, for samples that are no images, for
            images smaller than the patch.
    """
    check("backdoor", n, f)
    check_backdoor("backdoor", share, target, boost)
    if size < 1:
        raise ValueError(f"backdoor needs a patch of size >= 1, got {size}")
    if place not in PLACES:
        raise ValueError(f"backdoor knows the places {', '.join(PLACES)}, got {place!r}")

    def trigger(x: Array) -> Array:
        return stamped(x, *corner("backdoor", place, size, size, x), size, size, value)

    def corrupt(key: Array, batch: Batch) -> Batch:
        return poisoned("backdoor", batch, share, target, trigger)

    def enlarged(key: Array, view: View) -> Array:
        return boost * view.rows

    return Attack(forge=None if boost == 1 else stateless(enlarged).forge, corrupt=corrupt, goal=Goal(target, trigger))
