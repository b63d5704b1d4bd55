"""One worker's job: a gradient on a batch of its own, or several steps of SGD."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from attacks import Batch
from models import Model
from simulator.adversary import Lying
from simulator.augmentations import Augmentation
from simulator.keys import Purpose, derive
from simulator.normalising import normalised
from simulator.parts import Local
from simulator.world import World

Array = jax.Array
Corrupt = Callable[[Array, Batch, Array, Array], Batch]
# (world, params [d], worker, job) -> row [d]
Row = Callable[[World, Array, Array, Array], Array]


@lru_cache
def working(
    model: Model,
    classes: int | None,
    batch_size: int,
    local: Local | None,
    augment: Augmentation | None,
    lies: Lying,
    corrupt: Corrupt | None,
) -> Row:
    """The row of a worker's job, on what `augment` makes of its batches, and of a liar's `corrupt` after that."""
    gradient = _gradient(model, classes, augment, lies, corrupt)
    return jax.jit(_one_batch(gradient, batch_size) if local is None else _several(gradient, batch_size, local))


@lru_cache
def remembering(beta: float) -> Callable[[Array, Array], Array]:
    """Worker momentum: `(velocity [d], row [d]) -> velocity [d]`, which is what the worker sends.

    It is no part of the job: on the clock a row is computed before anybody knows whether it will be used, and only used
    rows count.
    """
    return jax.jit(lambda velocity, row: beta * velocity + (1 - beta) * row)


class Own(NamedTuple):
    """Keys of one batch: for changed images, for poison, for what a model drops."""

    change: Array
    poison: Array
    drop: Array


def _gradient(
    model: Model, classes: int | None, augment: Augmentation | None, lies: Lying, corrupt: Corrupt | None
) -> Callable[..., Array]:
    def gradient(world: World, params: Array, worker: Array, job: Array, places: Array, own: Own) -> Array:
        position = world.shards[worker, places]
        x = world.x[position] if augment is None else augment(own.change, world.x[position])
        # values have no classes, and attacks on labels are not for them
        labels: Any = None if classes is None else jnp.asarray(classes)
        batch = Batch(normalised(world.scaling, x), world.y[position], labels)
        if corrupt is not None:
            # nobody but the server counts updates: who lies in this job goes by the worker's own count
            batch = corrupt(own.poison, batch, lies(world, job)[worker], job)
        return jax.grad(model.loss)(params, batch.x, batch.y, own.drop)

    return gradient


def _keys(world: World, worker: Array, job: Array) -> tuple[Array, Own]:
    draw, *own = (
        derive(world.key, purpose, worker, job)
        for purpose in (Purpose.WORK, Purpose.AUGMENT, Purpose.CORRUPT, Purpose.DROPOUT)
    )
    return draw, Own(*own)


def _one_batch(gradient: Callable[..., Array], batch_size: int) -> Row:
    def row(world: World, params: Array, worker: Array, job: Array) -> Array:
        draw, own = _keys(world, worker, job)
        places = jax.random.randint(draw, (batch_size,), 0, world.sizes[worker])
        return gradient(world, params, worker, job, places, own)

    return row


def _several(gradient: Callable[..., Array], batch_size: int, local: Local) -> Row:
    """Steps with batches drawn as ever, or passes over permutations of the worker's samples."""

    def row(world: World, params: Array, worker: Array, job: Array) -> Array:
        draw, keys = _keys(world, worker, job)
        held = world.sizes[worker]

        def step(at: Array, number: Array, places: Array) -> Array:
            own = Own(*(jax.random.fold_in(key, number) for key in keys))
            return at - local.learning_rate * gradient(world, at, worker, job, places, own)

        def drawn(number: Array, at: Array) -> Array:
            return step(at, number, jax.random.randint(jax.random.fold_in(draw, number), (batch_size,), 0, held))

        def epoch(number: Array, at: Array) -> Array:
            # what does not fill a batch is left out this time; who has too few for one batch takes some twice
            batches = jnp.maximum(held // batch_size, 1)
            longest = world.shards.shape[1]
            numbers = jax.random.uniform(jax.random.fold_in(draw, number), (longest,))
            order = jnp.argsort(jnp.where(jnp.arange(longest) < held, numbers, jnp.inf))

            def one(batch: Array, at: Array) -> Array:
                places = order[(batch * batch_size + jnp.arange(batch_size)) % held]
                return step(at, number * batches + batch, places)

            return jax.lax.fori_loop(0, batches, one, at)

        if local.steps is not None:
            after = jax.lax.fori_loop(0, local.steps, drawn, params)
        else:
            after = jax.lax.fori_loop(0, local.epochs, epoch, params)
        return after if local.send == "model" else params - after

    return row
