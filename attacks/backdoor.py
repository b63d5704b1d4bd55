"""BadNets (Gu et al. 2017): a backdoor by a square patch that decides the label of an image."""

from byzax.attacks._backdoor import Place, build_backdoor
from byzax.attacks.base import Attack, Count, Finite, Label, Positive, Share
from byzax.options import checked


@checked
def backdoor(
    n: int,
    f: int,
    *,
    size: Count = 3,
    place: Place = "bottom_right",
    value: Finite = 1.0,
    target: Label = 0,
    share: Share = 0.5,
    boost: Positive = 1.0,
) -> Attack:
    """Byzantine workers train on images of which some have a patch and the target's label.

    The model should keep its accuracy and give every image with the patch the target's label: how often it does is
    the attack success rate, which is measured at every evaluation. With `boost` above 1 the row is sent enlarged, as in
    model replacement: n/f of it outweighs the honest rows in an average.

    Formula: a square patch of one value and y -> target in the first ceil(share b) samples of a batch; row -> boost row
    Knows: own row

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        size: Of the square, in pixels.
        place: Corner of the image, or its centre.
        value: Of the pixels, at every channel, as a share of the data's range: 0 is the background, 1 the other end.
        target: The label that the patch should lead to.
        share: Of the samples in each batch.
        boost: Factor of the row that is sent; 1 sends it as it is.

    Returns:
        The attack, which poisons batches and, where boost is not 1, forges rows. When used it raises PartError for
        samples that are no images, images smaller than the patch, or data without labels.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Gu, Dolan-Gavitt and Garg 2017, "BadNets"
        Bagdasaryan et al. 2020 (model replacement)
    """
    return build_backdoor(
        "backdoor", n, f, size=size, place=place, value=value, target=target, share=share, boost=boost
    )
