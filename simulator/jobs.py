"""One worker's job: a gradient on a batch of its own, or several steps."""

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
from simulator.training import Control, Training, fixed_batch, shaped, stepping
from simulator.units import changed
from simulator.world import World

Array = jax.Array
Corrupt = Callable[[Array, Batch, Array, Array], Batch]
# (world, params [d], worker, job, handed) -> row [d]: `handed` is the number of updates before the model that the
# worker was handed; with control variates the memory of the worker stands behind them
Row = Callable[..., Array]


@lru_cache
def working(
    model: Model,
    classes: int | None,
    batch_size: int,
    how: Training,
    augment: Augmentation | None,
    lies: Lying,
    corrupt: Corrupt | None,
) -> Row:
    """The row of a worker's job, on what `augment` makes of its batches, and of a liar's `corrupt` after that."""
    gradient = shaped(_gradient(model, classes, augment, lies, corrupt), how)
    if how.local is not None:
        return jax.jit(_several(gradient, batch_size, how))
    return jax.jit(_one_batch(gradient, batch_size, fixed=how.reduction is not None))


class Own(NamedTuple):
    """Keys of one batch: for changed images, for poison, for what a model drops."""

    change: Array
    poison: Array
    drop: Array


def _gradient(
    model: Model, classes: int | None, augment: Augmentation | None, lies: Lying, corrupt: Corrupt | None
) -> Callable[..., Array]:
    def gradient(world: World, params: Array, worker: Array, handed: Array, places: Array, own: Own) -> Array:
        position = world.shards[worker, places]
        x, y = world.x[position], world.y[position]
        if augment is not None:
            x = changed(world.units, x, lambda x: augment(own.change, x))
        if corrupt is not None:
            # values have no classes, and attacks on labels are not for them
            labels: Any = None if classes is None else jnp.asarray(classes)

            def poisoned(x: Array) -> Array:
                nonlocal y
                batch = corrupt(own.poison, Batch(x, y, labels), lies(world, handed)[worker], handed)
                y = batch.y
                return batch.x

            x = changed(world.units, x, poisoned)
        return jax.grad(model.loss)(params, normalised(world.scaling, x), y, own.drop)

    return gradient


def _keys(world: World, worker: Array, job: Array) -> tuple[Array, Own]:
    draw, *own = (
        derive(world.key, purpose, worker, job)
        for purpose in (Purpose.WORK, Purpose.AUGMENT, Purpose.CORRUPT, Purpose.DROPOUT)
    )
    return draw, Own(*own)


def _one_batch(gradient: Callable[..., Array], batch_size: int, fixed: bool) -> Row:
    """One gradient: on samples drawn with replacement, or on one of the worker's fixed batches."""

    def row(world: World, params: Array, worker: Array, job: Array, handed: Array) -> Array:
        draw, own = _keys(world, worker, job)
        held = world.sizes[worker]
        if fixed:
            # the samples are dealt to the batches in turn; where they do not come out even some have two
            batch, count = fixed_batch(world, worker, job, batch_size)
            places = (batch + jnp.arange(batch_size) * count) % held
        else:
            places = jax.random.randint(draw, (batch_size,), 0, held)
        return gradient(world, params, worker, handed, places, own)

    return row


def _several(gradient: Callable[..., Array], batch_size: int, how: Training) -> Row:
    """Steps with batches drawn as ever, or passes over permutations of the worker's samples."""
    local = how.local
    assert local is not None
    own = stepping(local, how.updates)

    def row(
        world: World, params: Array, worker: Array, job: Array, handed: Array, memory: Control | None = None
    ) -> Array:
        draw, keys = _keys(world, worker, job)
        held = world.sizes[worker]

        def step(now: tuple[Array, Any], number: Array, places: Array) -> tuple[Array, Any]:
            at, state = now
            found = gradient(world, at, worker, handed, places, Own(*(jax.random.fold_in(key, number) for key in keys)))
            if memory is not None:
                found = found - memory.own + memory.common
            return own.step(at, state, found, params, handed)

        def drawn(number: Array, now: tuple[Array, Any]) -> tuple[Array, Any]:
            return step(now, number, jax.random.randint(jax.random.fold_in(draw, number), (batch_size,), 0, held))

        def epoch(number: Array, now: tuple[Array, Any]) -> tuple[Array, Any]:
            # what does not fill a batch is left out this time; who has too few for one batch takes some twice
            batches = jnp.maximum(held // batch_size, 1)
            longest = world.shards.shape[1]
            numbers = jax.random.uniform(jax.random.fold_in(draw, number), (longest,))
            order = jnp.argsort(jnp.where(jnp.arange(longest) < held, numbers, jnp.inf))

            def one(batch: Array, now: tuple[Array, Any]) -> tuple[Array, Any]:
                places = order[(batch * batch_size + jnp.arange(batch_size)) % held]
                return step(now, number * batches + batch, places)

            return jax.lax.fori_loop(0, batches, one, now)

        count, body = (local.epochs, epoch) if local.steps is None else (local.steps, drawn)
        after, _ = jax.lax.fori_loop(0, count, body, (params, own.init(params)))
        return after if local.send == "model" else params - after

    return row
