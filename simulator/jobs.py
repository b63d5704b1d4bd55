"""One worker's job: a gradient on a batch of its own, or several steps."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from byzax.attacks import Batch
from byzax.models import Model
from byzax.simulator.adversary import Lying
from byzax.simulator.augmentations import Augmentation
from byzax.simulator.compilation import compiled_once
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.normalising import apply_scaling
from byzax.simulator.training import Control, Training, batches_of, fixed_batch, shaped, stepping
from byzax.simulator.units import change_in_units
from byzax.simulator.world import World

Array = jax.Array
Corrupt = Callable[[Array, Batch, Array, Array], Batch]
# (world, params [d], worker, job, handed) -> row [d]: `handed` is the number of updates before the model that the
# worker was handed; with control variates the memory of the worker stands behind them
Row = Callable[..., Array]


class Keys(NamedTuple):
    """Keys of one job: for its batches, for changed images, for poison, for what a model drops."""

    draw: Array
    change: Array
    poison: Array
    drop: Array


# (world, params [d], worker, keys, handed) -> row [d], of which `Row` is the case of a worker's own keys
Making = Callable[..., Array]


@compiled_once
def working(
    model: Model,
    classes: int | None,
    batch_size: int,
    how: Training,
    augment: Augmentation | None,
    lies: Lying,
    corrupt: Corrupt | None,
) -> Row:
    """The row of a worker's job, on what `augment` makes of its batches, and of a Byzantine worker's `corrupt` then."""
    made = making(model, classes, batch_size, how, augment, lies, corrupt)

    @jax.jit
    def row(world: World, params: Array, worker: Array, job: Array, handed: Array, *memory: Control) -> Array:
        purposes = (Purpose.WORK, Purpose.AUGMENT, Purpose.CORRUPT, Purpose.DROPOUT)
        keys = Keys(*(derive(world.key, purpose, worker, job) for purpose in purposes))
        return made(world, params, worker, keys, handed, *memory)

    return row


@compiled_once
def making(
    model: Model,
    classes: int | None,
    batch_size: int,
    how: Training,
    augment: Augmentation | None,
    lies: Lying | None,
    corrupt: Corrupt | None,
) -> Making:
    """The same for keys that are given; with `local.epochs` for so many `steps`, where they are given too."""
    gradient = shaped(_gradient(model, classes, augment, lies, corrupt), how)
    if how.local is not None:
        return _several(gradient, batch_size, how)
    return _one_batch(gradient, batch_size, fixed=how.reduction is not None)


def _gradient(
    model: Model, classes: int | None, augment: Augmentation | None, lies: Lying | None, corrupt: Corrupt | None
) -> Callable[..., Array]:
    def gradient(
        world: World, params: Array, worker: Array, handed: Array, places: Array, own: Keys, shares: Array | None = None
    ) -> Array:
        position = world.shards[worker, places]
        x, y = world.x[position], world.y[position]
        if augment is not None:
            x = change_in_units(world.units, x, partial(augment, own.change))
        if corrupt is not None and lies is not None:
            poison, rank = corrupt, lies(world, handed)[worker]
            # values have no classes, and attacks on labels are not for them
            labels: Any = None if classes is None else jnp.asarray(classes)
            real = None if shares is None else (shares > 0).sum()

            def poisoned(x: Array) -> Array:
                nonlocal y
                batch = poison(own.poison, Batch(x, y, labels, real=real), rank, handed)
                y = batch.y
                return batch.x

            x = change_in_units(world.units, x, poisoned)
        # a model of a plug-in need not know of shares where all samples count alike
        counts = () if shares is None else (shares,)
        return jax.grad(model.loss)(params, apply_scaling(world.scaling, x), y, own.drop, *counts)

    return gradient


def _one_batch(gradient: Callable[..., Array], batch_size: int, fixed: bool) -> Making:
    """One gradient: on samples drawn with replacement, or on one of the worker's fixed batches."""

    def row(world: World, params: Array, worker: Array, keys: Keys, handed: Array) -> Array:
        held = world.sizes[worker]
        if not fixed:
            places = jax.random.randint(keys.draw, (batch_size,), 0, held)
            return gradient(world, params, worker, handed, places, keys)
        # the samples are dealt to the batches in turn: some have one more than others, and all count alike in the mean
        # over the batches
        batch, count = fixed_batch(keys.draw, held, batch_size)
        places = batch + jnp.arange(batch_size) * count
        shares = jnp.where(places < held, count / held, 0)
        return gradient(world, params, worker, handed, places % held, keys, shares)

    return row


def _several(gradient: Callable[..., Array], batch_size: int, how: Training) -> Making:
    """Steps with batches drawn as ever, or passes over permutations of the worker's samples."""
    local = how.local
    assert local is not None
    own = stepping(local, how.updates)

    def row(
        world: World,
        params: Array,
        worker: Array,
        keys: Keys,
        handed: Array,
        memory: Control | None = None,
        steps: Array | None = None,
    ) -> Array:
        held = world.sizes[worker]

        def step(now: tuple[Array, Any], number: Array, *batch: Array) -> tuple[Array, Any]:
            at, state = now
            mine = Keys(*(jax.random.fold_in(key, number) for key in keys))
            places, *shares = batch
            found = gradient(world, at, worker, handed, places, mine, *shares)
            if memory is not None:
                found = found - memory.own + memory.common
            return own.step(at, state, found, params, handed)

        def drawn(number: Array, now: tuple[Array, Any]) -> tuple[Array, Any]:
            draw = jax.random.fold_in(keys.draw, number)
            return step(now, number, jax.random.randint(draw, (batch_size,), 0, held))

        if local.steps is not None:
            after, _ = jax.lax.fori_loop(0, local.steps, drawn, (params, own.init(params)))
            return after if local.send == "model" else params - after

        batches, longest = batches_of(local, held, batch_size), world.shards.shape[1]
        assert local.epochs is not None
        total = local.epochs * batches if steps is None else steps

        def epoch(number: Array, now: tuple[Array, Any]) -> tuple[Array, Any]:
            numbers = jax.random.uniform(jax.random.fold_in(keys.draw, number), (longest,))
            order = jnp.argsort(jnp.where(jnp.arange(longest) < held, numbers, jnp.inf))

            def one(batch: Array, now: tuple[Array, Any]) -> tuple[Array, Any]:
                places = batch * batch_size + jnp.arange(batch_size)
                there = places < held
                return step(now, number * batches + batch, order[places % held], there / there.sum())

            return jax.lax.fori_loop(0, jnp.minimum(batches, total - number * batches), one, now)

        after, _ = jax.lax.fori_loop(0, -(-total // batches), epoch, (params, own.init(params)))
        return after if local.send == "model" else params - after

    return row
