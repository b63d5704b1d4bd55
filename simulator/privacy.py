"""Differential privacy: what is clipped, and the noise that is added."""

from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from byzax.models.base import Loss
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.privacy import Privacy
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.memories import Memory, with_job_keys
from byzax.simulator.training import clip_norm
from byzax.simulator.world import World

Array = jax.Array

# Numbers of the gradients of single samples that are in memory together, for each worker that is computed at once. As
# many as stay in a cache: of a model of 50,000 parameters 64 samples at once take 5 times as long as by 8 on a CPU.
AT_ONCE = 2**19


class PrivateGradient(Protocol):
    """Computes the gradient of a batch of which no sample's part is longer than a bound, with noise."""

    def __call__(
        self, params: Array, x: Array, y: Array, dropout: Array, noise: Array, shares: Array | None, /
    ) -> Array:
        """The gradient.

        Args:
            params: `[d]`, the model.
            x: `[b, ...]`, the samples.
            y: `[b]`, their labels or values.
            dropout: Key of what the model drops.
            noise: Key of the noise.
            shares: `[b]`, the share of each sample, those with the share 0 last; None for 1/b.

        Returns:
            `[d]`.
        """
        ...


def bound(vector: Array, clip: float) -> Array:
    """Shortens a vector to a length.

    Args:
        vector: `[d]`.
        clip: The largest length.

    Returns:
        `[d]`, as `clip_norm` makes it; zeros for a vector that is not finite.
    """
    return jnp.where(jnp.isfinite(vector).all(), clip_norm(vector, clip), 0)


def add_noise(key: Array, vector: Array, deviation: Any) -> Array:
    """Adds normal noise to a vector.

    Args:
        key: Key.
        vector: `[d]`.
        deviation: The deviation of each of its numbers.

    Returns:
        `[d]`.
    """
    return vector + deviation * jax.random.normal(key, vector.shape, vector.dtype)


@compiled_once
def build_private_gradient(loss: Loss, privacy: Privacy, batch_size: int, passes: bool) -> PrivateGradient:
    """Builds the gradient of DP-SGD: the mean of the clipped gradients of single samples, with noise.

    Gradients of single samples are computed in chunks, of which one is in memory, and chunks without a sample that
    counts are left out.

    Args:
        loss: The loss of the model.
        privacy: The bound and the noise.
        batch_size: Samples of a batch.
        passes: Whether batches come from passes over the samples, of which the last may have fewer.

    Returns:
        The function that computes the gradient, not compiled.

    References:
        Abadi et al., CCS 2016, "Deep learning with differential privacy", algorithm 1
    """
    scale = privacy.noise * privacy.clip

    def gradient(params: Array, x: Array, y: Array, dropout: Array, noise: Array, shares: Array | None) -> Array:
        count = len(x)
        chunk = min(count, privacy.chunk or max(1, AT_ONCE // len(params)))
        weights = jnp.full(count, 1 / count) if shares is None else shares
        keys = jax.vmap(partial(jax.random.fold_in, dropout))(jnp.arange(count))

        def of_sample(x: Array, y: Array, key: Array) -> Array:
            return bound(jax.grad(loss)(params, x[None], y[None], key), privacy.clip)

        def weighted(x: Array, y: Array, keys: Array, weights: Array) -> Array:
            return jnp.matmul(weights, jax.vmap(of_sample)(x, y, keys), precision=jax.lax.Precision.HIGHEST)

        samples = (x, y, keys, weights)
        if chunk == count:
            total = weighted(*samples)
        else:
            # the last chunk is filled up by samples of weight 0
            places = jnp.arange(-(-count // chunk) * chunk)
            samples = (
                *(each[places % count] for each in samples[:3]),
                jnp.where(places < count, weights[places % count], 0),
            )
            real = count if shares is None else (shares > 0).sum()

            def add(number: Any, total: Array) -> Array:
                part = (jax.lax.dynamic_slice_in_dim(each, number * chunk, chunk) for each in samples)
                return total + weighted(*part)

            total = jax.lax.fori_loop(0, -(-real // chunk), add, jnp.zeros_like(params))
        # the most that one sample may add; of a Poisson batch it is known before the batch is
        share = jnp.max(weights) if passes else 1 / batch_size
        return add_noise(noise, total, scale * share)

    return gradient


@compiled_once
def with_row_noise(memory: Memory | None, clip: float, noise: float) -> Memory:
    """The memory of workers that clip the rows that they send, and add noise.

    Args:
        memory: The memory of workers; None for none.
        clip: The largest length of a row.
        noise: The deviation of the noise, in units of `clip`.

    Returns:
        The memory, whose `remember` takes the number of the job in place of its key.

    References:
        McMahan et al., ICLR 2018, "Learning differentially private recurrent language models" (clipped updates)
    """
    inner = None if memory is None else with_job_keys(memory)

    @jax.jit
    def remember(world: World, own: Any, row: Array, worker: Array, job: Array) -> tuple[Any, Array]:
        if inner is not None:
            own, row = inner.remember(world, own, row, worker, job)
        return own, add_noise(derive(world.key, Purpose.NOISE, worker, job), bound(row, clip), noise * clip)

    if inner is None:
        return Memory(lambda world, d: (), remember)
    return inner._replace(remember=remember)
