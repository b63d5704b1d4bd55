"""Honest rows: independent draws g + sigma N(0, I) around a true gradient, chosen or measured on a model.

That is the setting of the theorems (Blanchard et al. 2017, definition 1): G_1, ..., G_(n-f) independent with E G = g
and E |G - g|² = d sigma². The noise is normal; where the numbers come from a model, its g, d and sigma are measured and
the noise is still normal and the same in every direction.
"""

from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.experiments.certify.description import Certificate, Gradients
from byzax.simulator.contracts import build
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.normalising import apply_scaling, fit_scaling
from byzax.simulator.world import load, own_seed, split_of

Array = jax.Array
FULL_GRADIENT_AT_ONCE = 500  # samples


class DrawPurpose(IntEnum):
    """The purpose of a key. The numbers are part of every recorded result: append, never renumber."""

    GRADIENT = 0
    HONEST = 1
    OWN = 2
    RULE = 3
    FORGE = 4
    SEARCH = 5
    SEARCH_DRAWS = 6
    BOOTSTRAP = 7
    ROBUSTNESS = 8
    BREAKDOWN = 9
    STRENGTH = 10
    LEAK = 11


class Scene(NamedTuple):
    """The distribution of the honest rows.

    Attributes:
        n: Number of rows.
        f: Number of Byzantine rows.
        gradient: `[d]`, the true gradient g.
        norm: Length of g.
        sigma: Standard deviation of each coordinate.
        seed: Seed of all draws.
    """

    n: int
    f: int
    gradient: np.ndarray
    norm: float
    sigma: float
    seed: int

    @property
    def d(self) -> int:
        """Number of parameters."""
        return len(self.gradient)

    @property
    def spread(self) -> float:
        """sigma sqrt(d), the typical distance of an honest row from g."""
        return self.sigma * float(np.sqrt(self.d))


def key(seed: int, purpose: DrawPurpose, *numbers: int) -> Array:
    """A key for draws on the device.

    Args:
        seed: The seed.
        purpose: The purpose.
        numbers: Numbers within the purpose.

    Returns:
        The key.
    """
    folded = jax.random.fold_in(jax.random.key(seed), int(purpose))
    for number in numbers:
        folded = jax.random.fold_in(folded, number)
    return folded


def host_generator(seed: int, purpose: int, *numbers: int) -> np.random.Generator:
    """A generator for draws on the host.

    Args:
        seed: The seed.
        purpose: The purpose.
        numbers: Numbers within the purpose.

    Returns:
        The generator.
    """
    # a spawn key and no list of entropy: there [1, 2] and [1, 2, 0] are the same
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(purpose), *map(int, numbers))))


def scene(asked: Certificate) -> Scene:
    """The honest rows of a certificate.

    Args:
        asked: The certificate.

    Returns:
        Their distribution.

    Raises:
        ScenarioError: Where the model or its data cannot be used.
    """
    if asked.gradients:
        gradient, sigma = measure_gradient(asked.gradients, asked.seed)
    else:
        gradient = host_generator(asked.seed, DrawPurpose.GRADIENT).standard_normal(asked.d)
        gradient *= asked.norm / np.linalg.norm(gradient)
        sigma = asked.sigma or asked.norm / float(np.sqrt(asked.d))
    norm = float(np.linalg.norm(gradient.astype(np.float64)))
    return Scene(asked.n, asked.f, gradient.astype(np.float32), norm, sigma, asked.seed)


def measure_gradient(gradients: Gradients, seed: int) -> tuple[np.ndarray, float]:
    """Measures gradient and noise of a model at its initial point.

    Args:
        gradients: The model, its data, and the number of batches.
        seed: The seed.

    Returns:
        The gradient over all training samples, `[d]`, and sigma, with sigma² = mean |row - g|² / d over rows of one
        batch, drawn as workers of a scenario draw them.

    Raises:
        ScenarioError: Where the model or its data cannot be used.
    """
    try:
        data = load(gradients.data)
        model = build(gradients.model, data.x.shape[1:], data.classes)
        train = split_of(gradients.data, seed).train
        scale = fit_scaling(gradients.data.normalise, data, train)
    except ValueError as error:
        raise ScenarioError(f"gradients: {' '.join(str(error).split())}") from error
    if gradients.data.augment:
        raise ScenarioError("gradients.data.augment: is for training, and nothing is trained here: leave it out")
    root = jax.random.key(seed)
    params = model.init(derive(jax.random.key(own_seed(gradients.model.seed, seed)), Purpose.INIT))
    x, y = jnp.asarray(data.values()), jnp.asarray(data.y)
    gradient = jax.jit(lambda chosen: jax.grad(model.loss)(params, apply_scaling(scale, x[chosen]), y[chosen]))
    total = np.zeros(len(params))
    for start in range(0, len(train), FULL_GRADIENT_AT_ONCE):
        part = train[start : start + FULL_GRADIENT_AT_ONCE]
        total += np.asarray(gradient(part), np.float64) * len(part)
    whole = total / len(train)
    squares = []
    for batch in range(gradients.batches):
        draw = jax.random.randint(derive(root, Purpose.WORK, 0, batch), (gradients.data.batch_size,), 0, len(train))
        squares.append(np.square(np.asarray(gradient(train[np.asarray(draw)]), np.float64) - whole).sum())
    if not (np.isfinite(squares).all() and np.linalg.norm(whole) > 0):
        raise ScenarioError("gradients: the gradient of the model at its initial point is 0 or not finite")
    return whole, float(np.sqrt(np.mean(squares) / len(whole)))


def honest_rows(scene: Scene, purpose: tuple[int, ...], numbers: np.ndarray, rows: int | None = None) -> np.ndarray:
    """Draws honest rows.

    Args:
        scene: Their distribution.
        purpose: The purpose, and numbers within it.
        numbers: `[m]`, numbers of the draws; a draw depends on its number alone.
        rows: Number of rows of a draw; None for n.

    Returns:
        `[m, rows, d]`, float32.
    """
    # on the host: JAX would compile its normal numbers anew for every shape, which takes longer than all the draws
    drawn = np.empty((len(numbers), rows or scene.n, scene.d), np.float32)
    for place, number in zip(drawn, numbers, strict=True):
        host_generator(scene.seed, *purpose, int(number)).standard_normal(dtype=np.float32, out=place)
    drawn *= np.float32(scene.sigma)
    drawn += scene.gradient
    return drawn
