"""Residual network of 18 layers for small images."""

from byzax.models._layers import Initialiser
from byzax.models._residual import ImageNorm, residual
from byzax.models.base import Model


def resnet18(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    norm: ImageNorm = "group",
    groups: int = 32,
    initialiser: Initialiser = "he_normal",
) -> Model:
    """ResNet-18 as it is used for small images: a 3x3 convolution first, no pooling; two blocks of 64 to 512 channels.

    A shortcut between sizes is a 1x1 convolution with a norm (option B of the paper). Group norm is the default, for
    batches of a worker are small and of few labels.

    Parameters: 11,173,962 for images of 3 channels and 10 classes, with either norm; 576 for a channel, 513 for a class
    Source: He, Zhang, Ren and Sun, CVPR 2016, table 1, with the first layers of its section 4.2; Wu and He, ECCV 2018
    (group norm); Hsieh et al., ICML 2020 (batch norm fails where workers hold different labels)

    Args:
        norm: group: over groups of channels of one sample; batch: over the batch at hand in training, and by
            500 fixed training samples when evaluated.
        groups: of the channels of every size, with norm group.
        initialiser: of the convolutions, as jax.nn.initializers calls it.

    Raises:
        ValueError: for samples that are no images, groups that do not divide the channels or an unknown name.
    """
    return residual("resnet18", shape, classes, (64, 128, 256, 512), 2, True, norm, groups, initialiser)
