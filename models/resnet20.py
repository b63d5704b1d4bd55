"""ResNet-20 for small images (He et al. 2016)."""

from byzax.models._layers import Initialiser
from byzax.models._residual import ImageNorm, build_residual
from byzax.models.base import Count, Model
from byzax.options import checked


@checked
def resnet20(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    norm: ImageNorm = "group",
    groups: Count = 8,
    initialiser: Initialiser = "he_normal",
) -> Model:
    """ResNet-20 for small images: three blocks each of 16, 32 and 64 channels; the paper's is that with norm batch.

    A shortcut between sizes takes every second pixel and fills up with zeros (option A of the paper), without
    parameters. Group norm is the default, for batches of a worker are small and of few labels.

    Size: 269,722 for images of 3 channels and 10 classes, with either norm; 144 for a channel, 65 for a class

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
        He, Zhang, Ren and Sun, CVPR 2016, section 4.2
        Wu and He, ECCV 2018 (group norm)
        Hsieh et al., ICML 2020 (batch norm fails where workers hold different labels)
    """
    return build_residual(
        "resnet20", shape, classes, sizes=(16, 32, 64), blocks=3, project=False,
        norm=norm, groups=groups, initialiser=initialiser,
    )  # fmt: skip
