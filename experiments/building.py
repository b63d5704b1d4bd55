"""Every part of a scenario, built and traced but not run: what is impossible comes out before anything starts."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aggregators import Aggregator, Context, Info
from aggregators.filters import Filter, Sent
from aggregators.pre import Mixer, chained
from attacks import Attack, Batch, View
from models import Model
from simulator.components import (
    ATTACKS,
    AUGMENTATIONS,
    DATA,
    FILTERS,
    LATENCIES,
    MODELS,
    OPTIMIZERS,
    PARTITIONS,
    PRE,
    RATES,
    RULES,
    SCHEDULES,
    Component,
    RateSource,
)
from simulator.core import doubted
from simulator.data import Dataset
from simulator.executors.base import plan
from simulator.registry import file_of, said
from simulator.scenario import Scenario, ScenarioError
from simulator.schedules import Schedule
from simulator.timeline import Timeline
from simulator.training import optimizing, rate
from simulator.world import load, scaling_of, share_out

Factory = Callable[..., Any]


class Kind(NamedTuple):
    """What of a data set decides whether a part can be computed: `shape` of a sample, types, classes; and the batch."""

    shape: tuple[int, ...]
    x: np.dtype[Any]
    y: np.dtype[Any]
    classes: int | None
    batch_size: int


def build(scenario: Scenario) -> None:
    """Builds every part, for each seed. Raises ScenarioError, one line that begins with the key of the part."""
    n, declared = scenario.workers.total, scenario.workers.declared
    for key, lie, f in _lies(scenario):
        with _part(key, lie, ATTACKS) as attack:
            attack(n, f, **lie.options())
    with _part("schedule", scenario.schedule, SCHEDULES) as factory:
        schedule = factory(n, declared, **scenario.schedule.options())
        _need(isinstance(schedule, Schedule), f"{scenario.schedule.name} must give a Schedule, got {_type(schedule)}")
        if scenario.local and scenario.local.send == "model" and schedule.weight is not None:
            raise ValueError("staleness weights are for gradients and changes: with local.send model take constant")
    with _part("latency", scenario.latency, LATENCIES) as latency:
        latency(**scenario.latency.options())
    parts = {
        "up.delay": scenario.latency.up.delay,
        "down.delay": scenario.latency.down.delay,
        "factors": scenario.latency.factors,
    }
    for key, part in parts.items():
        if isinstance(part, Component):
            with _part(f"latency.{key}", part, LATENCIES) as latency:
                latency(**part.options())
    _optimizers(scenario)
    with _part("data", scenario.data, DATA):
        data = load(scenario.data)
        _need(isinstance(data, Dataset), f"{scenario.data.name} must give a Dataset, got {_type(data)}")
    # what is larger than the data is refused below
    batch = min(scenario.data.batch_size, len(data.y))
    samples = Kind(data.x.shape[1:], data.x.dtype, data.y.dtype, data.classes, batch)
    for each in scenario.data.augment:
        with _part("data.augment", each, AUGMENTATIONS) as augmentation:
            _trace_augmentation(augmentation, each, samples)
    if np.issubdtype(data.x.dtype, np.integer):
        _characters(scenario, data)
    if scenario.early_stopping and scenario.early_stopping.measure == "validation_accuracy" and data.classes is None:
        raise ScenarioError("early_stopping.measure: values have no accuracy: take validation_loss")
    with _part("model", scenario.model, MODELS) as model:
        d = _parameters(model, scenario.model, samples)
    for seed in scenario.seeds:
        with _part("schedule", scenario.schedule, SCHEDULES):
            timeline = plan(scenario, seed)
        kinds = np.unique(np.stack([timeline.seen, timeline.sizes]), axis=1).T.tolist()
        with _part("model", scenario.model, MODELS):
            # with Ray the rows are elsewhere
            _fits(d, 1 if scenario.executor.name == "ray" else max(map(max, kinds)))
        own, sees = scenario.data.validation > 0, schedule.sees
        if scenario.filter is not None:
            with _part("filter", scenario.filter, FILTERS) as judge:
                _sees_single_rows(scenario, kinds)
                _trace_filter(judge, scenario.filter, n, declared, d, own)
        for seen in sorted({seen for seen, _ in kinds}):
            left, f = seen, doubted(scenario, seen)
            for each in scenario.pre:
                with _part("pre", each, PRE) as mixer:
                    left = _kept(mixer, each, left, f)
            with _part("rule", scenario.rule, RULES) as rule:
                state, weighs = _trace_rule(rule, scenario.rule, scenario.pre, seen, n, f, d, own)
                if scenario.weights == "samples":
                    _need(
                        weighs,
                        f"{scenario.rule.name} gives its rows no weights: with weights samples take one that does",
                    )
                    _need(
                        _weighs(rule, scenario.rule, scenario.pre, seen, f),
                        f"{scenario.rule.name}{' with what stands before it' if scenario.pre else ''} shortens rows, so that "
                        "weights cannot be multiplied by samples: take weights equal, or a rule that does not",
                    )
                    _need(sees != "buckets", "with weights samples a schedule without buckets is needed")
                _keeps_places(scenario.rule, state, left, d, timeline, n)
        for seen, size in kinds:
            # the rows that the adversary looks at: those of the update, or the last ones of many workers
            k = size if sees == "buckets" else seen if sees == "table" or seen > 1 else n
            for key, lie, f in _lies(scenario):
                with _part(key, lie, ATTACKS) as attack:
                    _trace_attack(attack, lie, n, f, k, d, samples)
        with _part("data", scenario.data.partition, PARTITIONS):
            parts, shares = share_out(scenario.data, n, seed)
            if scenario.data.batch_size > len(parts.train):
                raise ValueError(
                    f"batch_size is {scenario.data.batch_size}, but there are only {len(parts.train)} training samples"
                )
        with _part("data.normalise", scenario.data, DATA):
            scaling_of(scenario.data, n, seed)
        if scenario.variance_reduction is not None:
            batches = -(-max(map(len, shares)) // scenario.data.batch_size)
            with _part("model", scenario.model, MODELS):
                # a gradient of every batch of every worker is kept
                _fits(d, n * batches, "take a smaller model, or leave variance_reduction out")


def _optimizers(scenario: Scenario) -> None:
    """Builds the optimizers of server and workers, and the schedules of their learning rates."""
    local = scenario.local
    optimizers = {"optimizer": scenario.optimizer, "local.optimizer": local and local.optimizer}
    rates = {f"{key}.learning_rate": part and part.options().get("learning_rate") for key, part in optimizers.items()}
    rates["local.learning_rate"] = local and local.learning_rate
    for key, speed in rates.items():
        if isinstance(speed, RateSource):
            with _part(key, speed, RATES):
                rate(speed, scenario.steps)
    for key, part in optimizers.items():
        if part is not None:
            with _part(key, part, OPTIMIZERS):
                optimizing(part, scenario.steps)


def _characters(scenario: Scenario, data: Dataset) -> None:
    """Raises ScenarioError unless the model takes characters, and all that the data has."""
    low, high, options = int(data.x.min()), int(data.x.max()), scenario.model.options()
    if low < 0:
        raise ScenarioError(f"data: {scenario.data.name} has the character {low}: whole numbers from 0 are needed")
    if not {"vocabulary", "characters"} & set(options):
        raise ScenarioError(
            f"model: {scenario.model.name} takes numbers, and the samples of this data are characters: take rnn, lstm, "
            "gru or transformer"
        )
    known = options.get("vocabulary", math.inf) or data.classes
    if known is not None and high >= known:
        raise ScenarioError(
            f"model.vocabulary: the data has characters up to {high}: at least {high + 1} is needed, got {known}"
        )


@cache
def _weighs(function: Factory, part: Component, before: tuple[Component, ...], k: int, f: int) -> bool:
    """Whether the aggregate is what the rule's weights make of the rows, by an example with a row far away at its end.

    Where rows are shortened on the way it is not, and the weights cannot be multiplied afterwards.
    """
    rule = chained(partial(function, **part.options()), k, f, [partial(PRE[m.name], **m.options()) for m in before])
    rng, state = np.random.default_rng(0), rule.init(16)
    for size in (1.0, 1.0, 1000.0):
        rows = rng.normal(size=(k, 16)).astype(np.float32)
        rows[-1] *= size
        own = {"gradient": lambda rows=rows: jnp.asarray(rows.mean(axis=0)), "loss": jnp.sum}
        aggregate, state, info = rule.apply(rows, state, Context(jax.random.key(0), jnp.zeros(16), **own))
        if info.weights is None:
            return False
        used = np.asarray(info.weights)[:, None] * rows
        if not np.allclose(used.sum(axis=0), aggregate, rtol=1e-3, atol=1e-3 * np.abs(used).max()):
            return False
    return True


def _lies(scenario: Scenario) -> list[tuple[str, Component, int]]:
    """Each attack with its key, and how many workers carry it out."""
    keys = ["attack", *(f"attack.beside.{i}" for i in range(len(scenario.attack.beside)))]
    return [(key, lie, end - first) for key, (lie, first, end) in zip(keys, scenario.lies, strict=True)]


@contextmanager
def _part(key: str, part: Component, factories: Mapping[str, Factory]) -> Iterator[Factory]:
    """Gives the function behind a part; whatever goes wrong inside becomes a ScenarioError that begins with the key."""
    function = factories[part.name]
    try:
        yield function
    except ValueError as error:
        text = " ".join(str(error).split())
        # a rule can have another one by name
        option = next((f".{key}" for key, value in part.options().items() if f"unknown rule {value!r}" in text), "")
        raise ScenarioError(f"{key}{option}: {text}") from error
    except MemoryError as error:
        raise ScenarioError(f"{key}: {part.name} needs more memory than there is: {error}") from error
    except Exception as error:
        raise ScenarioError(f"{key}: {part.name} fails: {said(error, file_of(function))}") from error


@contextmanager
def _tracing(part: Component, what: str, function: Factory) -> Iterator[None]:
    """An error from inside that nobody meant as a message becomes one that names part and line."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{part.name} "):
            # the part itself says what it needs
            raise
        raise ValueError(f"{part.name}: {what} fails: {said(error, file_of(function))}") from error


@cache
def _trace_augmentation(function: Factory, part: Component, samples: Kind) -> None:
    augment = function(**part.options())
    batch = _batch(samples).x
    try:
        given = jax.eval_shape(augment, _key(), batch)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{part.name} fails: {said(error, file_of(function))}") from error
    _need(_type(given) == _type(batch), f"{part.name} must give {_type(batch)}, got {_type(given)}")


@cache
def _parameters(function: Factory, part: Component, samples: Kind) -> int:
    """The number of parameters of a model, d, after a look that it can be computed. No array is made."""

    def look(key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Any, ...]:
        model = function(samples.shape, samples.classes, **part.options())
        _need(isinstance(model, Model), f"{part.name} must give a Model, got {_type(model)}")
        with _tracing(part, "the model", function):
            params = model.init(key)
            loss, outputs = model.loss(params, x, y, key), model.predict(params, x)
            return params, loss, outputs, model.judge(outputs, y) if _is(outputs, expected) else None

    # values in place of logits where there are no classes
    expected = (samples.batch_size,) if samples.classes is None else (samples.batch_size, samples.classes)
    what = "values" if samples.classes is None else "logits"
    params, loss, outputs, judged = jax.eval_shape(look, _key(), *_batch(samples)[:2])
    _need(_is(params, (None,)), f"{part.name}: init must give parameters [d], got {_type(params)}")
    _need(_is(loss, ()), f"{part.name}: loss must give a number, got {_type(loss)}")
    _need(_is(outputs, expected), f"{part.name}: predict must give {what} {list(expected)}, got {_type(outputs)}")
    pair = isinstance(judged, tuple) and len(judged) == 2 and all(_is(each, expected[:1], None) for each in judged)
    _need(pair, f"{part.name}: judge must give (losses, right), each {list(expected[:1])}, got {_type(judged)}")
    return params.shape[0]


def _fits(d: int, rows: int, way_out: str = "take a smaller model") -> None:
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        # not every system tells
        return
    if 4 * d * (rows + 1) > memory:
        raise ValueError(
            f"{d} parameters take {4 * d / 1e9:.4g} GB for the model and for each of {rows} rows, this machine has "
            f"{memory / 1e9:.4g} GB: {way_out}"
        )


@cache
def _kept(function: Factory, part: Component, n: int, f: int) -> int:
    mixer = function(n, f, **part.options())
    _need(isinstance(mixer, Mixer), f"{part.name} must give a Mixer, got {_type(mixer)}")
    return mixer.kept


@cache
def _trace_rule(
    function: Factory, part: Component, before: tuple[Component, ...], k: int, n: int, f: int, d: int, own: bool
) -> Any:
    mixers = [partial(PRE[each.name], **each.options()) for each in before]
    try:
        rule = chained(partial(function, **part.options()), k, f, mixers)
    except ValueError as error:
        if k == n:
            raise
        raise ValueError(f"{error}; with this schedule the rule sees {k} rows of {n} workers") from error
    _need(isinstance(rule, Aggregator), f"{part.name} must give an Aggregator, got {_type(rule)}")

    def apply(rows: jax.Array, key: jax.Array) -> tuple[Any, Any]:
        state, params = rule.init(d), rows[0]
        asked = {"gradient": lambda: params, "loss": jnp.sum} if own else {}
        return state, rule.apply(rows, state, Context(key, params, **asked))

    with _tracing(part, "apply", function):
        start, given = jax.eval_shape(apply, jax.ShapeDtypeStruct((k, d), jnp.float32), _key())
    named = isinstance(given, tuple) and len(given) == 3 and isinstance(given[2], Info)
    _need(named, f"{part.name}: apply must give (aggregate, state, Info), got {_type(given)}")
    aggregate, after, info = given
    _need(_is(aggregate, (d,)), f"{part.name}: apply must give an aggregate [d={d}], got {_type(aggregate)}")
    _need(
        info.weights is None or _is(info.weights, (k,)),
        f"{part.name}: Info.weights must be [n={k}] or None, got {_type(info.weights)}",
    )
    _keeps(part, "apply", start, after)
    return start, info.weights is not None


def _sees_single_rows(scenario: Scenario, kinds: list[list[int]]) -> None:
    assert scenario.filter is not None
    name, most = scenario.filter.name, max(map(max, kinds))
    if most > 1:
        raise ValueError(
            f"{name} judges single rows, and with {scenario.schedule.name} as it is an update has or sees {most}: "
            "choose asynchronous or stale_synchronous with apply each"
        )
    if scenario.local and scenario.local.send == "model":
        raise ValueError(f"{name} judges gradients and changes: with local.send model leave it out")


@cache
def _trace_filter(function: Factory, part: Component, n: int, f: int, d: int, own: bool) -> None:
    judge = function(n, f, **part.options())
    _need(isinstance(judge, Filter), f"{part.name} must give a Filter, got {_type(judge)}")

    def look(row: jax.Array, key: jax.Array, worker: jax.Array) -> tuple[Any, Any]:
        state = judge.init(row)
        asked = {"gradient": lambda: row, "loss": jnp.sum} if own else {}
        return state, judge.judge(row, Sent(worker, worker), Context(key, row, **asked), state)

    with _tracing(part, "judge", function):
        shapes = (jax.ShapeDtypeStruct((d,), jnp.float32), _key(), jax.ShapeDtypeStruct((), jnp.int32))
        start, given = jax.eval_shape(look, *shapes)
    named = isinstance(given, tuple) and len(given) == 3
    _need(named, f"{part.name}: judge must give (row, accepted, state), got {_type(given)}")
    row, accepted, after = given
    _need(_is(row, (d,)), f"{part.name}: judge must give a row [d={d}], got {_type(row)}")
    _need(
        _is(accepted, (), jnp.bool_), f"{part.name}: judge must give a truth value for accepted, got {_type(accepted)}"
    )
    _keeps(part, "judge", start, after)


def _keeps_places(part: Component, state: Any, k: int, d: int, timeline: Timeline, n: int) -> None:
    """Raises ValueError where a rule remembers rows by their place, and a place is not always the same worker's."""
    by_place = [leaf for leaf in jax.tree.leaves(state) if leaf.shape[:1] == (k,) and leaf.shape != (d,)]
    size = int(timeline.sizes[0])
    same = (timeline.sizes == size).all() and (
        timeline.rows.workers.reshape(-1, size) == timeline.rows.workers[:size]
    ).all()
    if by_place and not same and not (timeline.seen == n).all():
        raise ValueError(
            f"{part.name} remembers rows by their place, and with this schedule other workers have it in each update: "
            "choose synchronous, or asynchronous with apply table and warm_up all"
        )


@cache
def _trace_attack(function: Factory, part: Component, n: int, f: int, k: int, d: int, samples: Kind) -> None:
    attack = function(n, f, **part.options())
    _need(isinstance(attack, Attack), f"{part.name} must give an Attack, got {_type(attack)}")

    def forge(key: jax.Array, rows: jax.Array, byzantine: jax.Array, params: jax.Array, step: jax.Array) -> Any:
        state = attack.init(d)
        view = View(
            rows,
            byzantine,
            known=~byzantine,
            workers=jnp.arange(k),
            params=params,
            aggregate=lambda attempt: attempt.mean(axis=0),
            loss=jnp.sum,
            step=step,
        )
        return state, attack.forge(key, view, state)  # pyright: ignore[reportOptionalCall]

    if attack.forge is not None:
        shapes = [((k, d), jnp.float32), ((k,), jnp.bool_), ((d,), jnp.float32), ((), jnp.int32)]
        with _tracing(part, "forge", function):
            before, given = jax.eval_shape(forge, _key(), *(jax.ShapeDtypeStruct(*each) for each in shapes))
        named = isinstance(given, tuple) and len(given) == 2
        _need(named, f"{part.name}: forge must give (rows, state), got {_type(given)}")
        rows, after = given
        _need(_is(rows, (k, d)), f"{part.name}: forge must give rows [n={k}, d={d}], got {_type(rows)}")
        _keeps(part, "forge", before, after)

    if attack.corrupt is not None:
        batch = _batch(samples)
        given = part.options()
        chosen = [] if given.get("labels", "targeted") != "targeted" else ["source", "target"]
        for key in chosen:
            value, last = given.get(key), (samples.classes or math.inf) - 1
            _need(
                not isinstance(value, int) or value <= last,
                f"{part.name}: {key} is {value}, and labels are 0 to {last}",
            )
        if attack.goal is not None:
            with _tracing(part, "trigger", function):
                given = jax.eval_shape(attack.goal.trigger, batch.x)
            _need(_is(given, batch.x.shape), f"{part.name}: trigger must give {_type(batch.x)}, got {_type(given)}")
        with _tracing(part, "corrupt", function):
            given = jax.eval_shape(attack.corrupt, _key(), batch)
        _need(
            isinstance(given, Batch) and _like(given.x, batch.x) and _like(given.y, batch.y),
            f"{part.name}: corrupt must give a Batch of x {_type(batch.x)} and y {_type(batch.y)}, got {_type(given)}",
        )


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def _batch(samples: Kind) -> Any:
    shapes = [((samples.batch_size, *samples.shape), samples.x), ((samples.batch_size,), samples.y)]
    x, y = (jax.ShapeDtypeStruct(*each) for each in shapes)
    classes = None if samples.classes is None else jax.ShapeDtypeStruct((), jnp.int32)
    return Batch(x, y, classes)  # pyright: ignore[reportArgumentType]


def _keeps(part: Component, what: str, before: Any, after: Any) -> None:
    """Raises ValueError unless a state keeps its structure, shapes and types: a compiled loop carries it."""
    _need(
        _type(before) == _type(after), f"{part.name}: {what} changes its state from {_type(before)} to {_type(after)}"
    )


def _is(value: Any, shape: tuple[int | None, ...], kind: Any = jnp.floating) -> bool:
    """Whether a traced value is one array of such numbers, None: of any; None in the shape stands for any size."""
    if not isinstance(value, (jax.ShapeDtypeStruct, jax.Array)) or len(value.shape) != len(shape):
        return False
    fits = kind is None or jnp.issubdtype(value.dtype, kind)
    return fits and all(w in (None, s) for w, s in zip(shape, value.shape, strict=True))


def _like(value: Any, wanted: Any) -> bool:
    """Whether a traced value has the shape of another, and is whole numbers where that is."""
    return _is(value, wanted.shape, jnp.integer if jnp.issubdtype(wanted.dtype, jnp.integer) else jnp.floating)


def _type(value: Any) -> str:
    """What a value is: `float32[7, 650]` for a traced array, `(float32[7], ())` for a tuple of them."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return f"({', '.join(map(_type, value))})"
    leaves = jax.tree.leaves(value)
    if leaves and all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        return f"{type(value).__name__}({', '.join(map(_type, leaves))})"
    return "None" if value is None else type(value).__name__


def _need(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(message)
