"""Residual network of 20 layers for small images."""

from byzax.models._layers import Initialiser
from byzax.models._residual import ImageNorm, residual
from byzax.models.base import Model


def resnet20(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    norm: ImageNorm = "group",
    groups: int = 8,
    initialiser: Initialiser = "he_normal",
) -> Model:
    """ResNet-20 for small images: three blocks each of 16, 32 and 64 channels; the paper's is that with norm batch.

    A shortcut between sizes takes every second pixel and fills up with zeros (option A of the paper), without
    parameters. Group norm is the default, for batches of a worker are small and of few labels.

    Parameters: 269,722 for images of 3 channels and 10 classes, with either norm; 144 for a channel, 65 for a class
    Source: He, Zhang, Ren and Sun, CVPR 2016, section 4.2; Wu and He, ECCV 2018 (group norm); Hsieh et al., ICML 2020
    (batch norm fails where workers hold different labels)

    Args:
        norm: group: over groups of channels of one sample; batch: over the batch at hand in training, and by
            500 fixed training samples when evaluated.
        groups: of the channels of every size, with norm group.
        initialiser: of the convolutions, as jax.nn.initializers calls it.

    Raises:
        ValueError: for samples that are no images, groups that do not divide the channels or an unknown name.
    """
    return residual("resnet20", shape, classes, (16, 32, 64), 3, False, norm, groups, initialiser)
