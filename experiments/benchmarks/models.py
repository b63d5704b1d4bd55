"""Time of the gradients of the built-in models, beside that of their products at the full speed of a core.

The floor of a gradient is the time that its products (of matrices, and convolutions) take at `SPEED`: those of the
prediction, and each once more for every factor that depends on the parameters. What is no product, such as activations,
norms, pooling and reading the parameters, is free in it, so that small models cannot come near.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from byzax import models
from byzax.experiments.benchmarks.products import count_products
from byzax.experiments.benchmarks.timing import time_calls
from byzax.experiments.writing import write_numbers
from byzax.models import Model
from byzax.simulator import threads

# additions and multiplications per second of one core in products of large matrices
SPEED = 100e9
MATRIX = 1024  # size of the product that shows what this core does


class MeasuredModel(NamedTuple):
    """A model of the table.

    Attributes:
        shape: Of one sample.
        classes: The number of labels, and of different characters.
        batch: Samples of a gradient.
        workers: Gradients that are computed.
        options: Of the model.
    """

    shape: tuple[int, ...]
    classes: int
    batch: int = 25
    workers: int = 20
    options: Mapping[str, Any] = MappingProxyType({})


CASES = {
    "softmax": MeasuredModel((28, 28), 10),
    "mlp": MeasuredModel((28, 28), 10, options={"hidden": (100,)}),
    "cnn": MeasuredModel((28, 28), 10),
    "lenet": MeasuredModel((28, 28), 10),
    "rnn": MeasuredModel((80,), 80),
    "gru": MeasuredModel((80,), 80),
    "lstm": MeasuredModel((80,), 80),
    "transformer": MeasuredModel((80,), 80),
    "resnet20": MeasuredModel((32, 32, 3), 10, workers=4),
    "resnet18": MeasuredModel((32, 32, 3), 10, batch=4, workers=2),
}


def _gradients(model: Model, together: bool) -> Callable[..., jax.Array]:
    """All gradients at one model: together, or one after the other in a compiled loop."""

    @jax.jit
    def gradients(params: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        def one(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
            return jax.grad(model.loss)(params, *batch)

        return jax.vmap(one)((x, y)) if together else jax.lax.map(one, (x, y))

    return gradients


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Measures the gradients of a model.

    Args:
        name: Of the model, in `CASES`.
        repeats: Timed calls, of which the best counts.

    Returns:
        One row of the table: operations of one gradient, and seconds of one in each form.
    """
    shape, classes, batch, workers, options = CASES[name]
    model = models.build(name, shape, classes, **options)
    x_key, y_key = jax.random.split(jax.random.key(0))
    size = (workers, batch, *shape)
    characters = len(shape) == 1
    x = jax.random.randint(x_key, size, 0, classes) if characters else jax.random.uniform(x_key, size)
    y = jax.random.randint(y_key, size[:2], 0, classes)
    params = jax.jit(model.init)(jax.random.key(0))
    row = {
        "model": name,
        "parameters": params.size,
        "batch": batch,
        "operations": count_products(model.loss, params, x[0], y[0]),
        "together": model.batch,
    }
    for form, together in (("map", False), ("vmap", True)):
        gradients = _gradients(model, together)
        jax.block_until_ready(gradients(params, x, y))

        def call(gradients: Callable[..., jax.Array] = gradients) -> None:
            jax.block_until_ready(gradients(params, x, y))

        row[f"{form}_s"] = time_calls(call, repeats, clock=time.process_time)["best_s"] / workers
    return row


def product_speed(repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    """Operations per second in a product of two large matrices: of a core, or by another clock of the machine."""
    matrix = jnp.ones((MATRIX, MATRIX))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(matrix, matrix))
    taken = time_calls(lambda: jax.block_until_ready(product(matrix, matrix)), repeats, clock=clock)
    return 2 * MATRIX**3 / taken["best_s"]


def run(names: Sequence[str], repeats: int, path: Path | None, say: Callable[[str], None]) -> None:
    """Measures models.

    Args:
        names: Of the models, in `CASES`.
        repeats: Timed calls, of which the best counts.
        path: File for all numbers as JSON; None for none.
        say: Receives the lines of the table.
    """
    threads.start_with(1)
    speed = product_speed(repeats)
    say(
        f"CPU ms of one gradient in one thread, jax {jax.__version__}, {jax.default_backend()}; floor at "
        f"{SPEED / 1e9:.0f} GFLOP/s, where a product of {MATRIX} rows and columns has {speed / 1e9:.0f} here"
    )
    say(
        f"{'model':12} {'parameters':>10} {'batch':>5} {'MFLOP':>7} {'floor':>7} {'map':>7} {'vmap':>7} taken  of floor"
    )
    table = []
    for name in names:
        row = measure(name, repeats)
        table.append(row)
        floor, taken = row["operations"] / SPEED, "vmap" if row["together"] else "map"
        say(
            f"{name:12} {row['parameters']:10} {row['batch']:5} {row['operations'] / 1e6:7.1f} {1e3 * floor:7.2f} "
            f"{1e3 * row['map_s']:7.2f} {1e3 * row['vmap_s']:7.2f} {taken:5} {floor / row[f'{taken}_s']:9.2f}"
        )
        if path is not None:  # finished measurements are kept
            write_numbers(path, {"product_speed": speed, "records": table})
