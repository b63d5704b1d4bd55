"""Measurements of updates and models, which change nothing in a run."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from byzax.attacks import Goal
from byzax.models import Model
from byzax.simulator.compilation import compiled_once
from byzax.simulator.normalising import apply_scaling
from byzax.simulator.units import change_in_units
from byzax.simulator.world import World, read_samples, scaled_samples

Array = jax.Array
Value = Any  # a scalar array; on the host a float, or a series of them

# Samples that are evaluated at once: bounds the memory that the activations take. A norm over the batch predicts by
# what it measures on so many of the fixed training samples.
EVALUATED_AT_ONCE = 500


class Diagnostics(NamedTuple):
    """Scalars of one update, NaN where they have no meaning.

    Attributes:
        aggregate_norm: Length of the aggregate.
        honest_cosine: Cosine of the aggregate and the mean of the honest rows.
        honest_distance: Distance of the two.
        byzantine_weight: Share that the rule gave to Byzantine rows.
        undecided: 1 where the rule reached its limit of work and the aggregate is no answer, else 0.
        age: Updates since the versions that the rows were computed from, on average over the rows given to the rule.
        accepted: Share of the rows that the filter let through, 1 without one; for a refused row the aggregate is zero.
    """

    aggregate_norm: Value
    honest_cosine: Value
    honest_distance: Value
    byzantine_weight: Value
    undecided: Value
    age: Value
    accepted: Value


class Decision(NamedTuple):
    """The server's decision on the rows of one update.

    Attributes:
        byzantine: `[r]`, truth values: the rows that count as Byzantine.
        aggregate: `[d]`, the rule's answer.
        weights: `[n]`, the share that the rule gave to each worker's row, 0 without a row; NaN where it gives none.
    """

    byzantine: Array
    aggregate: Array
    weights: Array


class Traffic(NamedTuple):
    """The messages that were sent so far: numbers, or arrays with a number for each version of the model.

    Attributes:
        messages: Their number.
        bits_up: Bits from workers to other nodes.
        bits_down: Bits to workers.
        bits_peer: Bits between other nodes, or between workers.
    """

    messages: Any
    bits_up: Any
    bits_down: Any
    bits_peer: Any


class Update(NamedTuple):
    """One update with all its arrays.

    Arrays `[r, ...]` have an entry for each of the r rows that arrived for it, in the order of the workers' numbers.
    Without a server (gossip) r is n, and a row is the model that a node sends. `forged` `[n, n, d]` has what each node
    received of each, NaN where it received nothing; `aggregate` and `params` are `[n, d]`, of each node; and `weights`
    are means over the honest nodes. With all_reduce a row is what a process computes, `forged` `[n, d]` what each
    contributed, and `aggregate` the mean that each got.

    Attributes:
        step: Number of updates before this one: 0 for the first, as `record: {rows: ...}` and `from` of attacks count.
            Tables and CSV files count the updates made, and say `step` 1 of the same one.
        time_s: Second of the timeline at which it happened.
        workers: `[r]`, the workers whose rows arrived: whole numbers from 0, rising, each worker once at most.
        rows: `[r, d]`, what each of them computed by the protocol, Byzantine workers included (in an attack on data,
            from poisoned samples). With one server NaN for Byzantine workers whose attack reads no row of its own:
            their jobs are not carried out.
        byzantine: `[r]`, truth values: which of these rows are Byzantine.
        forged: `[r, d]`, the rows as the server received them; those of honest workers are as in `rows`.
        aggregate: `[d]`, the rule's answer; 0 where a filter refused the row.
        weights: `[n]`, by the number of the worker: the share that the rule gave to its row, which in a table may have
            arrived earlier; 0 without a row, NaN where the rule gives no shares. Factors by the age of rows
            (`staleness`) are not in it: the rows are multiplied by these before the rule sees them.
        params: `[d]`, the model after the update.
        diagnostics: `Diagnostics`, scalars of the update.
    """

    step: int
    time_s: float
    workers: Any
    rows: Any
    byzantine: Any
    forged: Any
    aggregate: Any
    weights: Any
    params: Any
    diagnostics: Diagnostics


class Evaluation(NamedTuple):
    """Measurements of one model: mean losses without penalties, and accuracies in [0, 1], which are NaN for regression.

    Attributes:
        train_loss: Over training samples.
        train_accuracy: Likewise.
        test_loss: Over the test samples.
        test_accuracy: Likewise.
        attack_success: Share of the test samples of other labels that a backdoor's trigger turns into its target; NaN
            where no attack has one.
        validation_loss: Over the samples kept for validation, NaN without any; choices between runs are made by it.
        validation_accuracy: Likewise.
        worst_accuracy: Of several models, of which the others are means, the smallest `test_accuracy`; else NaN.
        mean_model_accuracy: The `test_accuracy` of their mean model; else NaN.
        consensus_distance: Root of the mean squared distance of several models from their mean; else NaN.
    """

    train_loss: Value
    train_accuracy: Value
    test_loss: Value
    test_accuracy: Value
    attack_success: Value
    validation_loss: Value
    validation_accuracy: Value
    worst_accuracy: Value = jnp.nan
    mean_model_accuracy: Value = jnp.nan
    consensus_distance: Value = jnp.nan


def compare_with_honest(aggregate: Array, honest: Array) -> tuple[Array, Array, Array]:
    """Compares the aggregate with the mean of the honest rows, also where their squares leave the range of float32.

    Args:
        aggregate: `[d]`.
        honest: `[d]`, the mean.

    Returns:
        Length of the aggregate, its cosine with the mean, and its distance from the mean, scalars.
    """
    vectors = (aggregate, honest, aggregate - honest)

    def measure(scale: Callable[[Array], Array | float]) -> tuple[Array, tuple[Array, Array, Array]]:
        scales = [scale(vector) for vector in vectors]
        one, other, gap = (vector / by for vector, by in zip(vectors, scales, strict=True))
        lengths = jnp.stack([jnp.linalg.norm(each) for each in (one, other, gap)])
        cosine = one @ other / (lengths[0] * lengths[1])
        return lengths, (lengths[0] * scales[0], cosine, lengths[2] * scales[2])

    lengths, straight = measure(lambda vector: 1.0)
    # looking for the largest values takes longer than all the rest, and is hardly ever needed
    usual = ((lengths > 1e-12) & (lengths < 1e18)).all()
    return jax.lax.cond(usual, lambda: straight, lambda: measure(_power_of_two)[1])


def _power_of_two(vector: Array) -> Array:
    """The power of two below the largest absolute value: dividing by it is exact. 1 for zeros and non-finite values."""
    largest = jnp.max(jnp.abs(vector))
    power = jnp.ldexp(jnp.ones_like(largest), jnp.frexp(largest)[1] - 1)
    return jnp.where((largest > 0) & jnp.isfinite(largest), power, 1)


class Evaluate(Protocol):
    """Evaluates a model."""

    def __call__(self, world: World, params: Array, /) -> Evaluation:
        """The losses and accuracies of a model.

        Args:
            world: Arrays of the run.
            params: `[d]`, the model.

        Returns:
            The measurements, float32 scalars.
        """
        ...


def build_predict(model: Model, world: World, params: Array) -> Callable[[Array], Array]:
    """The predictions of a model, by its statistics of the training samples where it has a norm over the batch.

    Args:
        model: The model.
        world: Arrays of the run.
        params: `[d]`.

    Returns:
        A function of samples `[b, ...]` that gives outputs.
    """
    if model.statistics is None:
        return lambda x: model.predict(params, x)
    measured = model.statistics(params, scaled_samples(world, world.train[:EVALUATED_AT_ONCE]))
    return lambda x: model.predict(params, x, measured)


def _judge_all(judge: Callable[[Array], tuple[Array, ...]], positions: Array) -> list[Array]:
    """The judgements of all samples, `EVALUATED_AT_ONCE` together, in order."""
    whole, rest = jnp.split(jnp.asarray(positions), [len(positions) // EVALUATED_AT_ONCE * EVALUATED_AT_ONCE])
    parts = []
    if len(rest):
        # a full batch where there are enough samples: one shape of the model's functions is compiled
        filled = jnp.asarray(positions)[-EVALUATED_AT_ONCE:]
        parts.append(jax.tree.map(lambda each: each[-len(rest) :], judge(filled)))
    if len(whole):
        judged = jax.lax.map(judge, whole.reshape(-1, EVALUATED_AT_ONCE))
        parts.append(jax.tree.map(jnp.ravel, judged))
    return [jnp.concatenate(each) for each in zip(*parts, strict=True)]


@compiled_once
def build_confusion(model: Model, classes: int) -> Callable[[World, Array], Array]:
    """Builds the confusion matrix of a classifier on the test samples.

    Args:
        model: The model.
        classes: Number of labels.

    Returns:
        A compiled function of the world and the parameters `[d]` that gives counts `[classes, classes + 1]`, labels by
        predictions; in the last column are the samples for which no label is right, as where a logit is NaN.
    """

    @jax.jit
    def confusion(world: World, params: Array) -> Array:
        predict = build_predict(model, world, params)

        def judge(positions: Array) -> tuple[Array, ...]:
            outputs = predict(scaled_samples(world, positions))
            # by the same judge as the accuracy, whatever the outputs of the model are
            right = jax.vmap(lambda label: model.judge(outputs, jnp.full(positions.shape, label))[1])(
                jnp.arange(classes)
            )
            return (jnp.where(right.any(axis=0), jnp.argmax(right, axis=0), classes),)

        (predicted,) = _judge_all(judge, world.test)
        return jnp.zeros((classes, classes + 1), jnp.int32).at[world.y[world.test], predicted].add(1)

    return confusion


@compiled_once
def build_evaluate(model: Model, goal: Goal | None) -> Evaluate:
    """Builds the evaluation of a model, over all training, test and validation samples of a world.

    Each sample is judged by itself: neither their order nor how many are evaluated at once changes anything but the
    rounding of sums.

    Args:
        model: The model.
        goal: The backdoor whose success is measured; None for none.

    Returns:
        The function that evaluates, compiled.
    """

    @jax.jit
    def evaluate(world: World, params: Array) -> Evaluation:
        predict = build_predict(model, world, params)

        def judge(positions: Array) -> tuple[Array, Array]:
            return model.judge(predict(scaled_samples(world, positions)), world.y[positions])

        def judge_with_trigger(positions: Array) -> tuple[Array, Array]:
            assert goal is not None
            others = world.y[positions] != goal.target
            x = change_in_units(world.units, read_samples(world, positions), goal.trigger)
            outputs = predict(apply_scaling(world.scaling, x))
            return others, others & model.judge(outputs, jnp.full(positions.shape, goal.target))[1]

        train, test = _judge_all(judge, world.train), _judge_all(judge, world.test)
        success = jnp.nan
        if goal is not None:
            others, turned = _judge_all(judge_with_trigger, world.test)
            success = turned.sum() / others.sum()
        kept = (
            [each.mean() for each in _judge_all(judge, world.validation)]
            if len(world.validation)
            else [jnp.nan, jnp.nan]
        )
        measured = (train[0].mean(), train[1].mean(), test[0].mean(), test[1].mean(), success, *kept)
        return Evaluation(*map(jnp.float32, measured))

    return evaluate


@compiled_once
def build_evaluate_models(evaluate: Evaluate) -> Callable[[World, Array], Evaluation]:
    """Builds the evaluation of several models.

    Args:
        evaluate: Evaluates one.

    Returns:
        The function that evaluates models `[h, d]`: means over them, with the worst accuracy, that of the mean model,
        and the consensus distance.
    """

    @jax.jit
    def evaluate_models(world: World, models: Array) -> Evaluation:
        each, mean = jax.lax.map(lambda params: evaluate(world, params), models), models.mean(axis=0)
        distances = jnp.square(models - mean).sum(axis=1)
        return Evaluation(*(value.mean() for value in each))._replace(
            worst_accuracy=each.test_accuracy.min(),
            mean_model_accuracy=evaluate(world, mean).test_accuracy,
            consensus_distance=jnp.sqrt(distances.mean()),
        )

    return evaluate_models
