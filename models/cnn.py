"""Small convolutional network for images of 28x28 pixels."""

from flax import nnx

from byzax.models._convolution import pool
from byzax.models._layers import build_convolution, num_outputs
from byzax.models.base import Array, Model, check, from_module
from byzax.options import PartError, checked


class ConvolutionalNetwork(nnx.Module):
    """Two convolutions with pooling, then two linear layers, `[b, 28, 28] -> [b, outputs]`."""

    def __init__(self, outputs: int, rngs: nnx.Rngs):
        self.first = build_convolution(1, 20, 5, rngs=rngs)
        self.second = build_convolution(20, 50, 5, rngs=rngs)
        self.hidden = nnx.Linear(4 * 4 * 50, 500, rngs=rngs)
        self.output = nnx.Linear(500, outputs, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = pool(nnx.relu(self.first(x.reshape(-1, 28, 28, 1))))
        x = pool(nnx.relu(self.second(x)))
        return self.output(nnx.relu(self.hidden(x.reshape(len(x), -1))))


@checked
def cnn(shape: tuple[int, ...], classes: int | None) -> Model:
    """Two 5x5 convolutions of 20 and 50 channels, each with ReLU and 2x2 max pooling, then 500 hidden units.

    All weights start from N(0, 1/inputs of the unit), cut off at two standard deviations (LeCun), the biases from 0.

    Size: 426,070 + 501 * classes; 431,080 for 10 classes

    Args:
        shape: Of one sample, `(28, 28)` or `(28, 28, 1)`.
        classes: The number of labels; None for a regression.

    Returns:
        The model.

    Raises:
        PartError: Unless samples are images of 28x28 pixels, with two classes or more.

    References:
        The `cnn_mnist` of byzfl and of the papers measured with it; after LeNet (LeCun et al. 1998)
    """
    check(shape, classes)
    if tuple(shape) not in ((28, 28), (28, 28, 1)):
        raise PartError(
            f"cnn needs images of 28x28 pixels, such as those of mnist or fashion_mnist, got samples of shape "
            f"{tuple(shape)}: take the model mlp or softmax"
        )
    return from_module(lambda rngs: ConvolutionalNetwork(num_outputs(classes), rngs), classes, batch=False)
