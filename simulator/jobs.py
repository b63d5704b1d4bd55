"""A worker's job: the gradient on one of its batches, or several local steps."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from byzax.attacks import Batch
from byzax.models import Model
from byzax.simulator.adversary import ByzantineRanks, CorruptBatch
from byzax.simulator.augmentations import Augmentation
from byzax.simulator.batches import Batches, draw_batch, draw_fixed_batch, shuffled
from byzax.simulator.compilation import compiled_once
from byzax.simulator.events import EventResult, NodeEvent, NodeStep, Sending
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.memories import ControlVariates, Memory
from byzax.simulator.normalising import apply_scaling
from byzax.simulator.privacy import PrivateGradient, build_private_gradient
from byzax.simulator.training import (
    Gradient,
    WorkerTraining,
    build_local_optimizer,
    num_batches,
    penalise_and_clip,
)
from byzax.simulator.units import change_in_units
from byzax.simulator.world import World, read_samples

Array = jax.Array


class JobKeys(NamedTuple):
    """The keys of one job.

    Attributes:
        batches: For the draw of its batches.
        augment: For augmentations.
        corrupt: For poisoned batches.
        dropout: For what a model drops.
        noise: For the noise of `privacy`.
    """

    batches: Array
    augment: Array
    corrupt: Array
    dropout: Array
    noise: Array


class Work(Protocol):
    """Does a worker's job."""

    def __call__(self, world: World, params: Array, worker: Any, job: Any, handed: Any, /, *memory: Any) -> Array:
        """The row of the job.

        Args:
            world: Arrays of the run.
            params: `[d]`, the model that the row is computed from.
            worker: The worker.
            job: Number of the job, by which its keys are derived.
            handed: The version of the model that the worker was handed.
            *memory: The worker's control variates, where there are any.

        Returns:
            The row `[d]`.
        """
        ...


class MakeRow(Protocol):
    """Does a worker's job, or the server's in its place, with given keys."""

    def __call__(
        self, world: World, params: Array, worker: Array, keys: JobKeys, handed: Array, /, *memory: Any, **steps: Any
    ) -> Array:
        """The row of the job.

        Args:
            world: Arrays of the run.
            params: `[d]`, the model that the row is computed from.
            worker: The worker.
            keys: Keys of the job.
            handed: The version of the model that the worker was handed.
            *memory: The worker's control variates, where there are any.
            **steps: `steps`, the number of local steps in place of that of `local.epochs`.

        Returns:
            The row `[d]`.
        """
        ...


@compiled_once
def build_work(
    model: Model,
    classes: int | None,
    batch_size: int,
    how: WorkerTraining,
    augment: Augmentation | None,
    ranks: ByzantineRanks,
    corrupt: CorruptBatch | None,
) -> Work:
    """Builds the job of a worker.

    Args:
        model: The model.
        classes: Number of labels of the data; None for values.
        batch_size: Samples of a batch.
        how: The settings of a worker.
        augment: Changes the samples of a batch; None for none.
        ranks: Numbers the Byzantine workers.
        corrupt: Poisons the batches of Byzantine workers, after the augmentation; None for none.

    Returns:
        The function that does a job, compiled.
    """
    make_row = build_make_row(model, classes, batch_size, how, augment, ranks, corrupt)

    @jax.jit
    def work(world: World, params: Array, worker: Array, job: Array, handed: Array, *memory: ControlVariates) -> Array:
        purposes = (Purpose.WORK, Purpose.AUGMENT, Purpose.CORRUPT, Purpose.DROPOUT, Purpose.NOISE)
        keys = JobKeys(*(derive(world.key, purpose, worker, job) for purpose in purposes))
        return make_row(world, params, worker, keys, handed, *memory)

    return work


def build_worker_step(work: Work, memory: Memory | None, batch: bool) -> NodeStep:
    """Builds the step of workers: a job on the model of a server, whose row they send.

    Args:
        work: Does a job.
        memory: The memory of a worker across its jobs; None for none.
        batch: Whether `work` is fast for several workers together on a CPU.

    Returns:
        The step. It reads the public state of a server, and its state is the worker's memory.
    """
    reads = memory is not None and memory.receive

    def job(here: World, event: NodeEvent, own: Any, messages: Sequence[Any]) -> EventResult:
        params, when = messages[0].params, (event.node, event.turn, event.versions[0])
        if not reads:
            return EventResult(own, work(here, params, *when))
        own = reads(own, params)
        return EventResult(own, work(here, params, *when, own))

    def remember(here: World, event: NodeEvent, own: Any, row: Any) -> tuple[Any, Any]:
        assert memory is not None
        return memory.remember(here, own, row, event.node, event.turn)

    # Measured on CPU (`byzax bench models`, experiments/benchmarks/RESULTS.md): a dense model gains by vmap, but the
    # convolutions of many kernels at once are grouped ones, and sequences leave the cache: both take two to three times
    # as long as one worker after the other.
    together = "batch" if batch or jax.default_backend() != "cpu" else "map"
    return NodeStep(
        "work", "worker", job, "worker", "job", together=together, transform=None if memory is None else remember,
        sends=Sending("up"), receives=Sending("down", models=True),
    )  # fmt: skip


def build_unread_step() -> NodeStep:
    """Builds the step of Byzantine workers whose rows nobody reads: they do no job, and send zeros."""

    def hold_place(here: World, event: NodeEvent, own: Any, messages: Sequence[Any]) -> EventResult:
        return EventResult(own, jnp.zeros_like(messages[0].params))

    return NodeStep("unread", "worker", hold_place, "worker", "job", together="batch", unread=True)


@compiled_once
def build_make_row(
    model: Model,
    classes: int | None,
    batch_size: int,
    how: WorkerTraining,
    augment: Augmentation | None,
    ranks: ByzantineRanks | None,
    corrupt: CorruptBatch | None,
) -> MakeRow:
    """Builds the job of a worker for given keys.

    Args:
        model: The model.
        classes: Number of labels of the data; None for values.
        batch_size: Samples of a batch.
        how: The settings of a worker.
        augment: Changes the samples of a batch; None for none.
        ranks: Numbers the Byzantine workers; None where nothing is poisoned.
        corrupt: Poisons the batches of Byzantine workers, after the augmentation; None for none.

    Returns:
        The function that does a job, not compiled.
    """
    passes = how.local is not None and how.local.steps is None
    private = None if how.privacy is None else build_private_gradient(model.loss, how.privacy, batch_size, passes)
    gradient = penalise_and_clip(_build_gradient(model, classes, augment, ranks, corrupt, private), how)
    if how.local is not None:
        return _build_several_steps(gradient, batch_size, how)
    return _build_one_batch(gradient, batch_size, how.batches, fixed=how.reduction is not None)


def _build_gradient(
    model: Model,
    classes: int | None,
    augment: Augmentation | None,
    ranks: ByzantineRanks | None,
    corrupt: CorruptBatch | None,
    private: PrivateGradient | None,
) -> Gradient:
    def gradient(
        world: World,
        params: Array,
        worker: Array,
        handed: Array,
        places: Array,
        keys: JobKeys,
        shares: Array | None = None,
    ) -> Array:
        position = world.shards[worker, places]
        x, y = read_samples(world, position), world.y[position]
        if augment is not None:
            x = change_in_units(world.units, x, partial(augment, keys.augment))
        if corrupt is not None and ranks is not None:
            poison, rank = corrupt, ranks(world, handed)[worker]
            # values have no classes, and attacks on labels are not for them
            labels: Any = None if classes is None else jnp.asarray(classes)
            real = None if shares is None else (shares > 0).sum()

            def poisoned(x: Array) -> Array:
                nonlocal y
                batch = poison(keys.corrupt, Batch(x, y, labels, real=real), rank, handed)
                y = batch.y
                return batch.x

            x = change_in_units(world.units, x, poisoned)
        x = apply_scaling(world.scaling, x)
        if private is not None:
            return private(params, x, y, keys.dropout, keys.noise, shares)
        # without shares all samples count alike
        counts = () if shares is None else (shares,)
        return jax.grad(model.loss)(params, x, y, keys.dropout, *counts)

    return gradient


def _build_one_batch(gradient: Gradient, batch_size: int, batches: Batches, fixed: bool) -> MakeRow:
    """One gradient: on samples that are drawn, or on one of the worker's `fixed` batches."""

    def make_row(world: World, params: Array, worker: Array, keys: JobKeys, handed: Array) -> Array:
        held = world.sizes[worker]
        if not fixed:
            places, shares = draw_batch(keys.batches, held, world.shards.shape[1], batch_size, batches)
            return gradient(world, params, worker, handed, places, keys, shares)
        # the samples are dealt to the batches in turn: some have one more than others, and all count alike in the mean
        # over the batches
        batch, count = draw_fixed_batch(keys.batches, held, batch_size)
        places = batch + jnp.arange(batch_size) * count
        shares = jnp.where(places < held, count / held, 0)
        return gradient(world, params, worker, handed, places % held, keys, shares)

    return make_row


def _build_several_steps(gradient: Gradient, batch_size: int, how: WorkerTraining) -> MakeRow:
    """Local steps on batches that are drawn, or epochs over permutations of the worker's samples."""
    local = how.local
    assert local is not None
    optimizer = build_local_optimizer(local, how.updates)

    def make_row(
        world: World,
        params: Array,
        worker: Array,
        keys: JobKeys,
        handed: Array,
        memory: ControlVariates | None = None,
        steps: Array | None = None,
    ) -> Array:
        held, longest = world.sizes[worker], world.shards.shape[1]

        def step(now: tuple[Array, Any], number: Array, places: Array, shares: Array | None) -> tuple[Array, Any]:
            at, state = now
            step_keys = JobKeys(*(jax.random.fold_in(key, number) for key in keys))
            vector = gradient(world, at, worker, handed, places, step_keys, shares)
            if memory is not None:
                vector = vector - memory.own + memory.common
            return optimizer.step(at, state, vector, params, handed)

        def drawn(number: Array, now: tuple[Array, Any]) -> tuple[Array, Any]:
            draw = jax.random.fold_in(keys.batches, number)
            return step(now, number, *draw_batch(draw, held, longest, batch_size, how.batches))

        if local.steps is not None:
            after, _ = jax.lax.fori_loop(0, local.steps, drawn, (params, optimizer.init(params)))
            return after if how.sends_models else params - after

        batches = num_batches(local, held, batch_size)
        assert local.epochs is not None
        total = local.epochs * batches if steps is None else steps

        def epoch(number: Array, now: tuple[Array, Any]) -> tuple[Array, Any]:
            order, _ = shuffled(jax.random.fold_in(keys.batches, number), held, longest)

            def one(batch: Array, now: tuple[Array, Any]) -> tuple[Array, Any]:
                places = batch * batch_size + jnp.arange(batch_size)
                there = places < held
                return step(now, number * batches + batch, order[places % held], there / there.sum())

            return jax.lax.fori_loop(0, jnp.minimum(batches, total - number * batches), one, now)

        after, _ = jax.lax.fori_loop(0, -(-total // batches), epoch, (params, optimizer.init(params)))
        return after if how.sends_models else params - after

    return make_row
