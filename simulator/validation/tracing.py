"""Traces parts at the sizes of a run, which finds what cannot be computed without making an array."""

import inspect
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.aggregators import Aggregator, Context, Info
from byzax.aggregators.filters import Filter, Sent
from byzax.aggregators.pre import Mixer, chained
from byzax.attacks import Answer, Attack, Batch, View
from byzax.members import file_of, said
from byzax.models import Model
from byzax.options import OptionError, PartError
from byzax.simulator.config.part import Part, function_of
from byzax.simulator.file_cache import file_cache


class ContractError(ValueError):
    """A part that breaks the contract of its kind, such as a rule without an aggregate."""


class BatchSpec(NamedTuple):
    """The shapes and types of a batch, by which parts are traced.

    Attributes:
        shape: Shape of a sample.
        x: Type of the samples.
        y: Type of the labels or values.
        classes: Number of labels; None for values.
        batch_size: Samples of the batch.
    """

    shape: tuple[int, ...]
    x: np.dtype[Any]
    y: np.dtype[Any]
    classes: int | None
    batch_size: int


@contextmanager
def _tracing(part: Part, what: str) -> Iterator[None]:
    """Turns errors from inside, other than messages of a part, into a ContractError with the part and the line."""
    try:
        yield
    except PartError:
        # a message of the part itself
        raise
    except Exception as error:
        raise ContractError(f"{part.label}: {what} fails: {said(error, file_of(function_of(part)))}") from error


def _server_data(part: Part, needs: frozenset[str], own: bool, models: bool, row: jax.Array) -> dict[str, Any]:
    """The functions of a context that use the server's own samples; none where it has no samples."""

    def undeclared(*_: Any) -> Any:
        raise PartError(f'{part.label} asks the server for a gradient or a loss: declare needs={{"gradient", "loss"}}')

    asked = needs & {"gradient", "loss"}
    if own and models and asked:
        raise PartError(
            f"{part.label} takes rows for gradients or changes, and with local.send model they are models: take delta"
        )
    answers: dict[str, Any] = {"gradient": lambda: row, "loss": jnp.sum}
    return {name: answer if name in asked else undeclared for name, answer in answers.items()} if own else {}


@cache
def trace_augmentation(part: Part, samples: BatchSpec) -> None:
    """Checks that an augmentation keeps the shape and type of a batch.

    Args:
        part: The augmentation.
        samples: Shapes and types of the batch.

    Raises:
        ValueError: Where it does not, or fails.
    """
    augment = part.make()
    batch = _batch(samples).x
    try:
        traced = jax.eval_shape(augment, _key(), batch)
    except ValueError:
        raise
    except Exception as error:
        raise ContractError(f"{part.label} fails: {said(error, file_of(function_of(part)))}") from error
    require(
        type_name(traced) == type_name(batch),
        f"{part.label} must give {type_name(batch)}, got {type_name(traced)}",
    )


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
        model = part.make(samples.shape, samples.classes)
        require(isinstance(model, Model), f"{part.label} must give a Model, got {type_name(model)}")
        with _tracing(part, "the model"):
            params = model.init(key)
            measured = () if model.statistics is None else (model.statistics(params, x),)
            loss, outputs = model.loss(params, x, y, key), model.predict(params, x, *measured)
            return params, loss, outputs, model.judge(outputs, y) if _is_array(outputs, expected) else None

    # values in place of logits where there are no classes
    expected = (samples.batch_size,) if samples.classes is None else (samples.batch_size, samples.classes)
    what = "values" if samples.classes is None else "logits"
    params, loss, outputs, judged = jax.eval_shape(run_model, _key(), *_batch(samples)[:2])
    require(_is_array(params, (None,)), f"{part.label}: init must give parameters [d], got {type_name(params)}")
    require(params.shape[0] > 0, f"{part.label}: init must give parameters [d] to train, d >= 1, got none")
    require(_is_array(loss, ()), f"{part.label}: loss must give a number, got {type_name(loss)}")
    require(
        _is_array(outputs, expected),
        f"{part.label}: predict must give {what} {list(expected)}, got {type_name(outputs)}",
    )
    pair = (
        isinstance(judged, tuple) and len(judged) == 2 and all(_is_array(each, expected[:1], None) for each in judged)
    )
    require(pair, f"{part.label}: judge must give (losses, right), each {list(expected[:1])}, got {type_name(judged)}")
    return params.shape[0]


@cache
def rows_left(part: Part, n: int, f: int) -> int:
    """The number of rows that a pre-aggregation leaves.

    Args:
        part: The pre-aggregation.
        n: Number of rows that it gets.
        f: Number of them that may be Byzantine.

    Returns:
        The number of rows.

    Raises:
        ValueError: Where it does not accept these numbers.
    """
    mixer = part.make(n, f)
    require(isinstance(mixer, Mixer), f"{part.label} must give a Mixer, got {type_name(mixer)}")
    return mixer.kept


@cache
def build_rule(part: Part, before: tuple[Part, ...], k: int, f: int) -> Aggregator:
    """Builds a rule with the pre-aggregations before it.

    Args:
        part: The rule.
        before: The pre-aggregations.
        k: Number of rows that the first of them sees.
        f: Number of rows that may be Byzantine.

    Returns:
        The rule of k rows.

    Raises:
        ValueError: Where one of them does not accept these numbers.
    """
    rule = chained(part.make, k, f, [each.make for each in before])
    require(isinstance(rule, Aggregator), f"{part.label} must give an Aggregator, got {type_name(rule)}")
    return rule


@cache
def trace_rule(part: Part, before: tuple[Part, ...], k: int, f: int, d: int, own: bool, models: bool) -> Any:
    """Checks that a rule can be applied.

    Args:
        part: The rule.
        before: The pre-aggregations before it.
        k: Number of rows.
        f: Number of rows that may be Byzantine.
        d: Number of parameters.
        own: Whether the server has samples of its own.
        models: Whether rows are models.

    Returns:
        The state before the first update (traced), whether the rule gives its rows weights, and whether its aggregate
        is the sum of its rows times these.

    Raises:
        ValueError: Where `apply` fails or gives another shape or type than it must.
    """
    rule = build_rule(part, before, k, f)

    def apply(rows: jax.Array, key: jax.Array) -> tuple[Any, Any]:
        state, params = rule.init(d), rows[0]
        data = _server_data(part, rule.needs, own, models, params)
        return state, rule.apply(rows, state, Context(key, params, after=lambda row: params - row, **data))

    with _tracing(part, "apply"):
        start, traced = jax.eval_shape(apply, jax.ShapeDtypeStruct((k, d), jnp.float32), _key())
    named = isinstance(traced, tuple) and len(traced) == 3 and isinstance(traced[2], Info)
    where = _location(rule.apply, part)
    require(named, f"{part.label}: apply must give (aggregate, state, Info()), got {type_name(traced)}{where}")
    aggregate, after, info = traced
    require(
        _is_array(aggregate, (d,)),
        f"{part.label}: apply must give an aggregate [d={d}], got {type_name(aggregate)}{where}",
    )
    require(
        info.weights is None or _is_array(info.weights, (k,)),
        f"{part.label}: Info.weights must be [n={k}] or None, got {type_name(info.weights)}",
    )
    _require_same_state(part, "apply", start, after)
    return start, info.weights is not None, rule.linear


@cache
def trace_filter(part: Part, n: int, f: int, d: int, own: bool) -> None:
    """Checks that a filter can judge a row.

    Args:
        part: The filter.
        n: Number of workers.
        f: Declared number of Byzantine workers.
        d: Number of parameters.
        own: Whether the server has samples of its own.

    Raises:
        ValueError: Where `judge` fails or gives another shape or type than it must.
    """
    judge = part.make(n, f)
    require(isinstance(judge, Filter), f"{part.label} must give a Filter, got {type_name(judge)}")

    def judge_row(row: jax.Array, key: jax.Array, worker: jax.Array) -> tuple[Any, Any]:
        state = judge.init(row)
        context = Context(
            key, row, after=lambda aggregate: row - aggregate, **_server_data(part, judge.needs, own, False, row)
        )
        return state, judge.judge(row, Sent(worker, worker), context, state)

    with _tracing(part, "judge"):
        shapes = (jax.ShapeDtypeStruct((d,), jnp.float32), _key(), jax.ShapeDtypeStruct((), jnp.int32))
        start, traced = jax.eval_shape(judge_row, *shapes)
    named = isinstance(traced, tuple) and len(traced) == 3
    where = _location(judge.judge, part)
    require(named, f"{part.label}: judge must give (row, accepted, state), got {type_name(traced)}{where}")
    row, accepted, after = traced
    require(_is_array(row, (d,)), f"{part.label}: judge must give a row [d={d}], got {type_name(row)}{where}")
    require(
        _is_array(accepted, (), jnp.bool_),
        f"{part.label}: judge must give a truth value for accepted, got {type_name(accepted)}",
    )
    _require_same_state(part, "judge", start, after)


@cache
def trace_attack(part: Part, n: int, f: int, k: int, d: int, samples: BatchSpec, weighs: bool) -> None:
    """Checks that an attack can forge rows and poison a batch.

    Args:
        part: The attack.
        n: Number of workers.
        f: Number of workers that carry it out.
        k: Number of rows that it sees.
        d: Number of parameters.
        samples: Shapes and types of a batch.
        weighs: Whether the rule gives its rows weights.

    Raises:
        ValueError: Where a function of the attack fails or gives another shape or type than it must, or an option does
            not fit the data.
    """
    attack = part.make(n, f)
    require(isinstance(attack, Attack), f"{part.label} must give an Attack, got {type_name(attack)}")

    def forge(key: jax.Array, rows: jax.Array, byzantine: jax.Array, params: jax.Array, step: jax.Array) -> Any:
        state = attack.init(d)

        def undeclared(name: str) -> Callable[..., Any]:
            def refuse(*_: Any) -> Any:
                raise PartError(f'{part.label} calls {name} of its view: declare needs=frozenset({{"{name}"}})')

            return refuse

        functions = {
            "ask_rule": lambda tried: Answer(tried.mean(axis=0), jnp.full(k, 1 / k) if weighs else None, tried),
            "loss": jnp.sum,
            "after": lambda aggregate: params - aggregate,
        }
        answers: dict[str, Any] = {
            name: function if name in attack.needs else undeclared(name) for name, function in functions.items()
        }
        view = View(
            rows,
            byzantine,
            known=~byzantine,
            workers=jnp.arange(k),
            params=params,
            step=step,
            new=jnp.ones(k, bool),
            **answers,
        )
        return state, attack.forge(key, view, state)  # pyright: ignore[reportOptionalCall]

    if attack.claim is not None:
        claimed = jax.eval_shape(attack.claim, jax.ShapeDtypeStruct((k,), jnp.float32))
        require(_is_array(claimed, (k,)), f"{part.label}: claim must give numbers [n={k}], got {type_name(claimed)}")
    if attack.forge is not None:
        shapes = [((k, d), jnp.float32), ((k,), jnp.bool_), ((d,), jnp.float32), ((), jnp.int32)]
        with _tracing(part, "forge"):
            before, traced = jax.eval_shape(forge, _key(), *(jax.ShapeDtypeStruct(*each) for each in shapes))
        named = isinstance(traced, tuple) and len(traced) == 2
        where = _location(attack.forge, part)
        require(named, f"{part.label}: forge must give (rows, state), got {type_name(traced)}{where}")
        rows, after = traced
        require(
            _is_array(rows, (k, d)),
            f"{part.label}: forge must give rows [n={k}, d={d}], got {type_name(rows)}{where}",
        )
        _require_same_state(part, "forge", before, after)

    if attack.reads_labels and samples.classes is None:
        raise PartError(
            f"{part.label} changes labels, and this data has values: take feature_noise, or an attack that changes rows"
        )
    if attack.corrupt is not None:
        batch = _batch(samples)
        options = part.options()
        chosen = [] if options.get("labels", "targeted") != "targeted" else ["source", "target"]
        for key in chosen:
            value, last = options.get(key), (samples.classes or math.inf) - 1
            if isinstance(value, int) and value > last:
                raise OptionError(key, f"is {value}, and labels are 0 to {last}", part.label)
        if attack.goal is not None:
            with _tracing(part, "trigger"):
                traced = jax.eval_shape(attack.goal.trigger, batch.x)
            require(
                _is_array(traced, batch.x.shape),
                f"{part.label}: trigger must give {type_name(batch.x)}, got {type_name(traced)}",
            )
        with _tracing(part, "corrupt"):
            traced = jax.eval_shape(attack.corrupt, _key(), batch)
        require(
            isinstance(traced, Batch) and _like(traced.x, batch.x) and _like(traced.y, batch.y),
            f"{part.label}: corrupt must give a Batch of x {type_name(batch.x)} and y {type_name(batch.y)}, "
            f"got {type_name(traced)}",
        )


def _location(called: Any, part: Part) -> str:
    """File and line of a function that a part gave, in brackets; empty where it is not in the file of the part."""
    file = os.path.abspath(file_of(function_of(part)))
    waiting, visited = [called], set()
    while waiting:
        each = inspect.unwrap(waiting.pop(0))
        if id(each) in visited:
            continue
        visited.add(id(each))
        code = getattr(each, "__code__", None)
        if code is not None and os.path.abspath(code.co_filename) == file:
            return f" ({file}:{code.co_firstlineno})"
        # a rule may have come out of `stateless`, and an attack out of a helper
        inner = [cell.cell_contents for cell in getattr(each, "__closure__", None) or ()]
        waiting += [part for part in (*inner, getattr(each, "func", None)) if callable(part)]
    return ""


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def _batch(samples: BatchSpec) -> Any:
    shapes = [((samples.batch_size, *samples.shape), samples.x), ((samples.batch_size,), samples.y)]
    x, y = (jax.ShapeDtypeStruct(*each) for each in shapes)
    classes = None if samples.classes is None else jax.ShapeDtypeStruct((), jnp.int32)
    return Batch(x, y, classes)  # pyright: ignore[reportArgumentType]


def _require_same_state(part: Part, what: str, before: Any, after: Any) -> None:
    """Raises ContractError unless a state keeps its structure, shapes and types: a compiled loop carries it."""
    require(
        type_name(before) == type_name(after),
        f"{part.label}: {what} changes its state from {type_name(before)} to {type_name(after)}",
    )


def _is_array(value: Any, shape: tuple[int | None, ...], kind: Any = jnp.floating) -> bool:
    """Tells whether a traced value is one array of a shape and a kind of numbers; None is any size, or any kind."""
    if not isinstance(value, (jax.ShapeDtypeStruct, jax.Array)) or len(value.shape) != len(shape):
        return False
    fits = kind is None or jnp.issubdtype(value.dtype, kind)
    return fits and all(w in (None, s) for w, s in zip(shape, value.shape, strict=True))


def _like(value: Any, wanted: Any) -> bool:
    """Tells whether a traced value has the shape of another, and holds whole numbers where that does."""
    return _is_array(value, wanted.shape, jnp.integer if jnp.issubdtype(wanted.dtype, jnp.integer) else jnp.floating)


def type_name(value: Any) -> str:
    """The type of a traced value in words.

    Args:
        value: The value.

    Returns:
        Such as `float32[7, 650]` for an array, or `(float32[7], ())` for a tuple.
    """
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return f"({', '.join(map(type_name, value))})"
    leaves = jax.tree.leaves(value)
    if leaves and all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        return f"{type(value).__name__}({', '.join(map(type_name, leaves))})"
    return "None" if value is None else type(value).__name__


def require(fits: bool, message: str, kind: type[ValueError] = ContractError) -> None:
    """Raises an error unless a condition holds.

    Args:
        fits: The condition.
        message: The message of the error.
        kind: Class of the error.
    """
    if not fits:
        raise kind(message)
