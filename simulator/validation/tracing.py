"""Traces parts at the sizes of a run, which finds what cannot be computed without making an array."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.aggregators import Aggregator, Context, Info
from byzax.aggregators.filters import Sent
from byzax.aggregators.pre import chained
from byzax.attacks import Answer, Batch, View
from byzax.options import OptionError, PartError
from byzax.simulator.config.part import Part
from byzax.simulator.contracts import ContractError, build, failure, location, require, type_name
from byzax.simulator.file_cache import file_cache
from byzax.simulator.rates import Rate
from byzax.simulator.schedules import Board, Schedule, Situation
from byzax.simulator.timeline import Timeline
from byzax.simulator.training import build_optimizer

# steps of a learning rate schedule whose rates are looked at before a run
FIRST_RATES = 3


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
    except (PartError, ContractError):
        # a message of the part itself, or about it
        raise
    except Exception as error:
        raise ContractError(f"{part.label}: {what} fails: {failure(error, part)}") from error


def _server_data(part: Part, needs: frozenset[str], own: bool, models: bool, row: jax.Array) -> dict[str, Any]:
    """The functions of a context that use the server's own samples; none where it has no samples."""

    def undeclared(name: str) -> Callable[..., Any]:
        def refuse(*_: Any) -> Any:
            raise PartError(f'{part.label} calls {name} of its context: declare needs={{"{name}"}}')

        return refuse

    asked = needs & {"gradient", "loss"}
    if own and models and asked:
        raise PartError(
            f"{part.label} takes rows for gradients or changes, and with local.send model they are models: take delta"
        )
    answers: dict[str, Any] = {"gradient": lambda: row, "loss": jnp.sum}
    return {name: answer if name in asked else undeclared(name) for name, answer in answers.items()} if own else {}


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
    batch = _batch(samples).x
    with _tracing(part, "the augmentation"):
        given = jax.eval_shape(augment, _key(), batch)
    require(
        type_name(given) == type_name(batch),
        f"{part.label} must give {type_name(batch)}, got {type_name(given)}{location(part, augment)}",
    )


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
    with _tracing(part, "the schedule"):
        given = jax.eval_shape(rate, jax.ShapeDtypeStruct((), jnp.int32))
    fits = _is_array(given, ()) or _is_array(given, (), jnp.integer)
    require(fits, f"{part.label} must give a number for a step, got {type_name(given)}{location(part, rate)}")


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
    with _tracing(part, "the schedule"):
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
    with _tracing(part, "update"):
        before, given = jax.eval_shape(update, row, row)
    where = location(part, optimizer.update)
    pair = isinstance(given, tuple) and len(given) == 2
    require(pair, f"{part.label}: update must give (change, state), got {type_name(given)}{where}")
    change, after = given
    fits = _is_array(change, (d,))
    require(fits, f"{part.label}: update must give a change [d={d}], got {type_name(change)}{where}")
    _require_same_state(part, "update", before, after, optimizer.update)


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
        with _tracing(part, name):
            given = function(*arguments)
        require(
            fits(given), f"{part.label}: {name} must give {wanted}, got {type_name(given)}{location(part, function)}"
        )
        return given

    if schedule.weight is not None:
        ages = jax.ShapeDtypeStruct((n,), jnp.int32)
        with _tracing(part, "weight"):
            given = jax.eval_shape(schedule.weight, ages)
        fits = _is_array(given, (n,))
        place = location(part, schedule.weight)
        require(fits, f"{part.label}: weight must give factors [{n}] of ages [{n}], got {type_name(given)}{place}")
    if schedule.plan is not None:
        check("plan", lambda given: isinstance(given, Timeline), "a Timeline", situation)
        return
    check("due", lambda given: isinstance(given, (bool, np.bool_)), "true or false", board)
    check("free", lambda given: isinstance(given, (bool, np.bool_)), "true or false", board, 0)
    check("waits", lambda given: isinstance(given, str), "text", board)
    if schedule.order is not None:
        order = check("order", callable, "a function of the update", situation)
        with _tracing(part, "order"):
            turns = order(0)
        place = location(part, order)
        several = isinstance(turns, (Sequence, np.ndarray))
        require(several, f"{part.label}: order must give workers for an update, got {type_name(turns)}{place}")
        wrong = [each for each in turns if not isinstance(each, (int, np.integer)) or not 0 <= each < n]
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
        where.append({name: location(part, getattr(model, name)) for name in ("init", "loss", "predict", "judge")})
        with _tracing(part, "the model"):
            params, at = model.init(key), where[-1]["init"]
            is_vector = _is_array(params, (None,))
            require(is_vector, f"{part.label}: init must give parameters [d], got {type_name(params)}{at}")
            enough = params.shape[0] > 0
            require(enough, f"{part.label}: init must give parameters [d] to train, d >= 1, got none{at}")
            measured = () if model.statistics is None else (model.statistics(params, x),)
            loss, outputs = model.loss(params, x, y, key), model.predict(params, x, *measured)
            return params, loss, outputs, model.judge(outputs, y) if _is_array(outputs, expected) else None

    # values in place of logits where there are no classes
    expected = (samples.batch_size,) if samples.classes is None else (samples.batch_size, samples.classes)
    what = "values" if samples.classes is None else "logits"
    where: list[dict[str, str]] = []
    params, loss, outputs, judged = jax.eval_shape(run_model, _key(), *_batch(samples)[:2])
    at = where[-1]
    require(_is_array(loss, ()), f"{part.label}: loss must give a number, got {type_name(loss)}{at['loss']}")
    require(
        _is_array(outputs, expected),
        f"{part.label}: predict must give {what} {list(expected)}, got {type_name(outputs)}{at['predict']}",
    )
    pair = (
        isinstance(judged, tuple) and len(judged) == 2 and all(_is_array(each, expected[:1], None) for each in judged)
    )
    each_one = f"each {list(expected[:1])}"
    require(pair, f"{part.label}: judge must give (losses, right), {each_one}, got {type_name(judged)}{at['judge']}")
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
    return int(build(part, n, f).kept)


@cache
def trace_pre(part: Part, n: int, f: int, d: int) -> None:
    """Checks that a pre-aggregation can be applied.

    Args:
        part: The pre-aggregation.
        n: Number of rows that it gets.
        f: Number of them that may be Byzantine.
        d: Number of parameters.

    Raises:
        ValueError: Where `mix` fails or gives another shape or type than it must.
    """
    mixer = build(part, n, f)
    with _tracing(part, "mix"):
        given = jax.eval_shape(
            lambda rows, key: mixer.mix(rows, Context(key)), jax.ShapeDtypeStruct((n, d), jnp.float32), _key()
        )
    where = location(part, mixer.mix)
    pair = isinstance(given, tuple) and len(given) == 2
    require(pair, f"{part.label}: mix must give (rows, shares), got {type_name(given)}{where}")
    for name, value, shape in (("rows", given[0], (mixer.kept, d)), ("shares", given[1], (mixer.kept, n))):
        wanted = f"[kept={mixer.kept}, {'d' if name == 'rows' else 'n'}={shape[1]}]"
        require(_is_array(value, shape), f"{part.label}: mix must give {name} {wanted}, got {type_name(value)}{where}")


@cache
def build_nested(part: Part, k: int, f: int) -> Aggregator | None:
    """Builds a rule that is an option of another.

    Args:
        part: The rule.
        k: Number of rows.
        f: Number of rows that may be Byzantine.

    Returns:
        The rule; None where it does not accept these numbers, which the rule around it says in its own words.

    Raises:
        ContractError: Where its function gives no rule.
    """
    try:
        return build(part, k, f)
    except PartError:
        return None


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
    return chained(partial(build, part), k, f, [partial(build, each) for each in before])


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
        start, given = jax.eval_shape(apply, jax.ShapeDtypeStruct((k, d), jnp.float32), _key())
    named = isinstance(given, tuple) and len(given) == 3 and isinstance(given[2], Info)
    where = location(part, rule.apply)
    require(named, f"{part.label}: apply must give (aggregate, state, Info()), got {type_name(given)}{where}")
    aggregate, after, info = given
    require(
        _is_array(aggregate, (d,)),
        f"{part.label}: apply must give an aggregate [d={d}], got {type_name(aggregate)}{where}",
    )
    require(
        info.weights is None or _is_array(info.weights, (k,)),
        f"{part.label}: Info.weights must be [n={k}] or None, got {type_name(info.weights)}{where}",
    )
    _require_same_state(part, "apply", start, after, rule.apply)
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
    judge = build(part, n, f)

    def judge_row(row: jax.Array, key: jax.Array, worker: jax.Array) -> tuple[Any, Any]:
        state = judge.init(row)
        context = Context(
            key, row, after=lambda aggregate: row - aggregate, **_server_data(part, judge.needs, own, False, row)
        )
        return state, judge.judge(row, Sent(worker, worker), context, state)

    with _tracing(part, "judge"):
        shapes = (jax.ShapeDtypeStruct((d,), jnp.float32), _key(), jax.ShapeDtypeStruct((), jnp.int32))
        start, given = jax.eval_shape(judge_row, *shapes)
    named = isinstance(given, tuple) and len(given) == 3
    where = location(part, judge.judge)
    require(named, f"{part.label}: judge must give (row, accepted, state), got {type_name(given)}{where}")
    row, accepted, after = given
    require(_is_array(row, (d,)), f"{part.label}: judge must give a row [d={d}], got {type_name(row)}{where}")
    require(
        _is_array(accepted, (), jnp.bool_),
        f"{part.label}: judge must give a truth value for accepted, got {type_name(accepted)}{where}",
    )
    _require_same_state(part, "judge", start, after, judge.judge)


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
    attack = build(part, n, f)

    def forge(key: jax.Array, rows: jax.Array, byzantine: jax.Array, params: jax.Array, step: jax.Array) -> Any:
        state = attack.init(d)

        def undeclared(name: str) -> Callable[..., Any]:
            def refuse(*_: Any) -> Any:
                raise PartError(f'{part.label} calls {name} of its view: declare needs={{"{name}"}}')

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
        with _tracing(part, "claim"):
            claimed = jax.eval_shape(attack.claim, jax.ShapeDtypeStruct((k,), jnp.float32))
        where, fits = location(part, attack.claim), _is_array(claimed, (k,))
        require(fits, f"{part.label}: claim must give numbers [n={k}], got {type_name(claimed)}{where}")
    if attack.forge is not None:
        shapes = [((k, d), jnp.float32), ((k,), jnp.bool_), ((d,), jnp.float32), ((), jnp.int32)]
        with _tracing(part, "forge"):
            before, given = jax.eval_shape(forge, _key(), *(jax.ShapeDtypeStruct(*each) for each in shapes))
        named = isinstance(given, tuple) and len(given) == 2
        where = location(part, attack.forge)
        require(named, f"{part.label}: forge must give (rows, state), got {type_name(given)}{where}")
        rows, after = given
        require(
            _is_array(rows, (k, d)),
            f"{part.label}: forge must give rows [n={k}, d={d}], got {type_name(rows)}{where}",
        )
        _require_same_state(part, "forge", before, after, attack.forge)

    if attack.reads_labels and samples.classes is None:
        raise PartError(
            f"{part.label} changes labels, and this data has values: take feature_noise, or an attack that changes rows"
        )
    if attack.corrupt is not None:
        batch = _batch(samples)
        given = part.options()
        chosen = [] if given.get("labels", "targeted") != "targeted" else ["source", "target"]
        for key in chosen:
            value, last = given.get(key), (samples.classes or math.inf) - 1
            if isinstance(value, int) and value > last:
                raise OptionError(key, f"is {value}, and labels are 0 to {last}", part.label)
        if attack.goal is not None:
            with _tracing(part, "trigger"):
                given = jax.eval_shape(attack.goal.trigger, batch.x)
            require(
                _is_array(given, batch.x.shape),
                f"{part.label}: trigger must give {type_name(batch.x)}, got {type_name(given)}"
                f"{location(part, attack.goal.trigger)}",
            )
        with _tracing(part, "corrupt"):
            given = jax.eval_shape(attack.corrupt, _key(), batch)
        require(
            isinstance(given, Batch) and _like(given.x, batch.x) and _like(given.y, batch.y),
            f"{part.label}: corrupt must give a Batch of x {type_name(batch.x)} and y {type_name(batch.y)}, "
            f"got {type_name(given)}{location(part, attack.corrupt)}",
        )


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def _batch(samples: BatchSpec) -> Any:
    shapes = [((samples.batch_size, *samples.shape), samples.x), ((samples.batch_size,), samples.y)]
    x, y = (jax.ShapeDtypeStruct(*each) for each in shapes)
    classes = None if samples.classes is None else jax.ShapeDtypeStruct((), jnp.int32)
    return Batch(x, y, classes)  # pyright: ignore[reportArgumentType]


def _require_same_state(part: Part, what: str, before: Any, after: Any, function: Any) -> None:
    """Raises ContractError unless a state keeps its structure, shapes and types: a compiled loop carries it."""
    require(
        type_name(before) == type_name(after),
        f"{part.label}: {what} changes its state from {type_name(before)} to {type_name(after)}"
        f"{location(part, function)}",
    )


def _is_array(value: Any, shape: tuple[int | None, ...], kind: Any = jnp.floating) -> bool:
    """Tells whether a traced value is one array of a shape and kind of numbers; None stands for any size, or kind."""
    if not isinstance(value, (jax.ShapeDtypeStruct, jax.Array)) or len(value.shape) != len(shape):
        return False
    fits = kind is None or jnp.issubdtype(value.dtype, kind)
    return fits and all(w in (None, s) for w, s in zip(shape, value.shape, strict=True))


def _like(value: Any, wanted: Any) -> bool:
    """Tells whether a traced value has the shape of another, and holds whole numbers where that does."""
    return _is_array(value, wanted.shape, jnp.integer if jnp.issubdtype(wanted.dtype, jnp.integer) else jnp.floating)
