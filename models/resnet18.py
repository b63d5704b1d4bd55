"""ResNet-18 for small images (He et al. 2016)."""

from byzax.models._layers import Initialiser
from byzax.models._residual import ImageNorm, build_residual
from byzax.models.base import Count, Model
from byzax.options import checked


@checked
def resnet18(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    norm: ImageNorm = "group",
    groups: Count = 32,
    initialiser: Initialiser = "he_normal",
) -> Model:
    """ResNet-18 as it is used for small images: a 3x3 convolution first, no pooling; two blocks of 64 to 512 channels.

    A shortcut between sizes is a 1x1 convolution with a norm (option B of the paper). Group norm is the default, for
    batches of a worker are small and of few labels.

    Size: 11,173,962 for images of 3 channels and 10 classes, with either norm; 576 for a channel, 513 for a class

    Args:
        shape: Of one sample, `(h, w)` or `(h, w, channels)`.
        classes: The number of labels; None for a regression.
        norm: group: over groups of channels of one sample; batch: over the batch at hand in training, and by
            500 fixed training samples when evaluated.
        groups: Of the channels of every size, with norm group.
        initialiser: Of the convolutions, as jax.nn.initializers calls it.

    Returns:
        The model.

    Raises:
        PartError: For samples that are no images.
        OptionError: For an option out of its range, or groups that do not divide the channels.

    References:
        He, Zhang, Ren and Sun, CVPR 2016, table 1, with the first layers of its section 4.2
        Wu and He, ECCV 2018 (group norm)
        Hsieh et al., ICML 2020 (batch norm fails where workers hold different labels)
    """
    return build_residual(
        "resnet18", shape, classes, sizes=(64, 128, 256, 512), blocks=2, project=True,
        norm=norm, groups=groups, initialiser=initialiser,
    )  # fmt: skip
