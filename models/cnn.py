"""Small convolutional network for images of 28x28 pixels."""

from flax import nnx

from byzax.models._convolution import pool
from byzax.models._layers import convolved, outputs_of
from byzax.models.base import Array, Model, check, from_module


class Network(nnx.Module):
    def __init__(self, outputs: int, rngs: nnx.Rngs):
        self.first = convolved(1, 20, 5, rngs=rngs)
        self.second = convolved(20, 50, 5, rngs=rngs)
        self.hidden = nnx.Linear(4 * 4 * 50, 500, rngs=rngs)
        self.output = nnx.Linear(500, outputs, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = pool(nnx.relu(self.first(x.reshape(-1, 28, 28, 1))))
        x = pool(nnx.relu(self.second(x)))
        return self.output(nnx.relu(self.hidden(x.reshape(len(x), -1))))


def cnn(shape: tuple[int, ...], classes: int | None) -> Model:
    """Two 5x5 convolutions of 20 and 50 channels, each with ReLU and 2x2 max pooling, then 500 hidden units.

    All weights start from N(0, 1/inputs of the unit), cut off at two standard deviations (LeCun), the biases from 0.

    Parameters: 426,070 + 501 * classes; 431,080 for 10 classes
    Source: the `cnn_mnist` of byzfl and of the papers measured with it; after LeNet (LeCun et al. 1998)

    Raises:
        ValueError: unless samples are images of 28x28 pixels, `(28, 28)` or `(28, 28, 1)`, with two classes or more.
    """
    check(shape, classes)
    if tuple(shape) not in ((28, 28), (28, 28, 1)):
        raise ValueError(
            f"cnn needs images of 28x28 pixels, such as those of mnist or fashion_mnist, got samples of shape "
            f"{tuple(shape)}: take the model mlp or softmax"
        )
    return from_module(lambda rngs: Network(outputs_of(classes), rngs), classes)
