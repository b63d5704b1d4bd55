"""Traces of the parts that training is made of: augmentation, learning rate, optimizer, schedule and model."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from byzax.models import Model
from byzax.simulator.config.part import Part
from byzax.simulator.contracts import build, location, require, type_name
from byzax.simulator.file_cache import file_cache
from byzax.simulator.rates import Rate
from byzax.simulator.schedules import Board, Schedule, Situation
from byzax.simulator.timeline import Timeline
from byzax.simulator.training import build_optimizer
from byzax.simulator.validation.tracing import (
    BatchSpec,
    batch_spec,
    is_array,
    is_tuple,
    key_spec,
    require_given,
    require_same_state,
    tracing,
)

# steps of a learning rate schedule whose rates are looked at before a run
FIRST_RATES = 3


@cache
def trace_augmentation(part: Part, samples: BatchSpec) -> None:
    """Checks that an augmentation keeps the shape and type of a batch.

    Args:
        part: The augmentation.
        samples: Shapes and types of the batch.

    Raises:
        ValueError: Where it does not, or fails.
    """
    augment = build(part)
    batch = batch_spec(samples).x
    with tracing(part, "the augmentation"):
        given = jax.eval_shape(augment, key_spec(), batch)
    require_given(type_name(given) == type_name(batch), part, "", type_name(batch), given, augment)


@cache
def trace_rate(part: Part, updates: int) -> None:
    """Checks that a learning rate schedule gives a number at every step.

    Args:
        part: The schedule.
        updates: Number of updates of the run.

    Raises:
        ValueError: Where it does not, or fails.
    """
    rate: Rate = build(part, updates)
    with tracing(part, "the schedule"):
        given = jax.eval_shape(rate, jax.ShapeDtypeStruct((), jnp.int32))
    fits = is_array(given, ()) or is_array(given, (), jnp.integer)
    require_given(fits, part, "", "a number for a step", given, rate)


@cache
def check_first_rates(part: Part, updates: int) -> None:
    """Checks the first rates of a learning rate schedule, which are computed.

    Args:
        part: The schedule.
        updates: Number of updates of the run.

    Raises:
        ValueError: Where one is negative, infinite or no number.
    """
    rate: Rate = build(part, updates)
    with tracing(part, "the schedule"):
        first = [float(rate(jnp.int32(step))) for step in range(min(updates, FIRST_RATES))]
    for step, value in enumerate(first):
        fits = math.isfinite(value) and value >= 0
        require(fits, f"{part.label} must give rates of at least 0, got {value} at step {step}{location(part, rate)}")


@cache
def trace_optimizer(part: Part, updates: int, d: int) -> None:
    """Checks that an optimizer makes a change of the parameters of an aggregate.

    Args:
        part: The optimizer.
        updates: Number of updates of the run.
        d: Number of parameters.

    Raises:
        ValueError: Where a function of it fails or gives another shape or type than it must.
    """
    optimizer = build_optimizer(part, updates)

    def update(row: jax.Array, params: jax.Array) -> Any:
        state = optimizer.init(params)
        return state, optimizer.update(row, state, params)

    row = jax.ShapeDtypeStruct((d,), jnp.float32)
    with tracing(part, "update"):
        before, given = jax.eval_shape(update, row, row)
    require_given(is_tuple(given, 2), part, "update", "(change, state)", given, optimizer.update)
    change, after = given
    require_given(is_array(change, (d,)), part, "update", f"a change [d={d}]", change, optimizer.update)
    require_same_state(part, "update", before, after, optimizer.update)


def check_schedule(part: Part, schedule: Schedule, situation: Situation) -> None:
    """Checks what the functions of a schedule give before the first update.

    Args:
        part: The schedule.
        schedule: The value that it gives.
        situation: The run.

    Raises:
        ValueError: Where a function of it fails or gives something else than it must.
    """
    n = situation.n
    board = Board(0, 1, frozenset(), frozenset(), [0] * n, lambda: 0)

    def check(name: str, fits: Callable[[Any], bool], wanted: str, *arguments: Any) -> Any:
        function = getattr(schedule, name)
        with tracing(part, name):
            given = function(*arguments)
        require_given(fits(given), part, name, wanted, given, function)
        return given

    if schedule.weight is not None:
        ages = jax.ShapeDtypeStruct((n,), jnp.int32)
        with tracing(part, "weight"):
            given = jax.eval_shape(schedule.weight, ages)
        wanted = f"factors [{n}] of ages [{n}]"
        require_given(is_array(given, (n,)), part, "weight", wanted, given, schedule.weight)
    if schedule.plan is not None:
        check("plan", lambda given: isinstance(given, Timeline), "a Timeline", situation)
        return
    check("due", lambda given: isinstance(given, (bool, np.bool_)), "true or false", board)
    check("free", lambda given: isinstance(given, (bool, np.bool_)), "true or false", board, 0)
    check("waits", lambda given: isinstance(given, str), "text", board)
    if schedule.order is not None:
        order = check("order", callable, "a function of the update", situation)
        with tracing(part, "order"):
            turns = order(0)
        several = isinstance(turns, (Sequence, np.ndarray))
        require_given(several, part, "order", "workers for an update", turns, order)
        wrong = [each for each in turns if not isinstance(each, (int, np.integer)) or not 0 <= each < n]
        place = location(part, order)
        require(not wrong, f"{part.label}: order must give workers, 0..{n - 1}, got {wrong[:1]}{place}")


@file_cache(maxsize=1000)
def num_parameters(part: Part, samples: BatchSpec) -> int:
    """Checks that a model can be computed on a batch, without making an array.

    Args:
        part: The model.
        samples: Shapes and types of the batch.

    Returns:
        The number of parameters, d.

    Raises:
        ValueError: Where a function of the model fails or gives another shape or type than it must.
    """
    part.reads_files()

    def run_model(key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Any, ...]:
        model = build(part, samples.shape, samples.classes)
        built.append(model)
        with tracing(part, "the model"):
            params = model.init(key)
            require_given(is_array(params, (None,)), part, "init", "parameters [d]", params, model.init)
            at, enough = location(part, model.init), params.shape[0] > 0
            require(enough, f"{part.label}: init must give parameters [d] to train, d >= 1, got none{at}")
            measured = () if model.statistics is None else (model.statistics(params, x),)
            loss, outputs = model.loss(params, x, y, key), model.predict(params, x, *measured)
            return params, loss, outputs, model.judge(outputs, y) if is_array(outputs, expected) else None

    # values in place of logits where there are no classes
    expected = (samples.batch_size,) if samples.classes is None else (samples.batch_size, samples.classes)
    what = "values" if samples.classes is None else "logits"
    built: list[Model] = []
    params, loss, outputs, judged = jax.eval_shape(run_model, key_spec(), *batch_spec(samples)[:2])
    model = built[-1]
    require_given(is_array(loss, ()), part, "loss", "a number", loss, model.loss)
    fits = is_array(outputs, expected)
    require_given(fits, part, "predict", f"{what} {list(expected)}", outputs, model.predict)
    fits = is_tuple(judged, 2) and all(is_array(each, expected[:1], None) for each in judged)
    require_given(fits, part, "judge", f"(losses, right), each {list(expected[:1])}", judged, model.judge)
    return params.shape[0]
