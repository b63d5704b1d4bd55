"""BadNets: a patch that decides the label."""

from typing import Literal

from byzax.attacks._backdoor import patch
from byzax.attacks.base import Attack


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
        value: of the pixels, at every channel, as a share of the data's range: 0 is the background, 1 the other end.
        target: the label that the patch should lead to.
        share: of the samples in each batch.
        boost: what the row is multiplied by.

    Raises:
        ValueError: unless 0 <= f <= n, or for an option out of range; when used, for samples that are no images, for
            images smaller than the patch.
    """
    return patch("backdoor", n, f, size, place, value, target, share, boost)
