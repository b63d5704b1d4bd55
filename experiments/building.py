"""Every part of a scenario, built and traced but not run: what is impossible comes out before anything starts."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aggregators import Context
from aggregators.pre import chained
from experiments.tracing import (
    Broken,
    Factory,
    Kind,
    kept,
    made_rule,
    need,
    parameters,
    trace_attack,
    trace_augmentation,
    trace_filter,
    trace_rule,
    typed,
)
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
from simulator.data import DataError, Dataset
from simulator.executors.base import plan
from simulator.mistakes import Impossible, ScenarioError
from simulator.registry import file_of, said
from simulator.scenario import Scenario
from simulator.schedules import Schedule
from simulator.timeline import Timeline
from simulator.training import optimizing, rate
from simulator.world import load, scaling_of, share_out, split_of


# Updates of the timeline by which n and f are looked at before anything is traced.
FIRST_UPDATES = 100


def assemble(scenario: Scenario) -> Schedule:
    """Makes every part that can be made without tracing and reads the data: what is quick to look at. Gives the schedule.

    Raises ScenarioError, one line that begins with the key of the part; Impossible for numbers that do not go together.
    """
    n, declared = scenario.workers.total, scenario.workers.declared
    models = scenario.local is not None and scenario.local.send == "model"
    for key, lie, f in _lies(scenario):
        with _part(key, lie, ATTACKS) as attack:
            attack(n, f, **lie.options())
    with _part("schedule", scenario.schedule, SCHEDULES) as factory:
        schedule = factory(n, declared, **scenario.schedule.options())
        need(isinstance(schedule, Schedule), f"{scenario.schedule.name} must give a Schedule, got {typed(schedule)}")
        if models and schedule.weight is not None:
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
        need(isinstance(data, Dataset), f"{scenario.data.name} must give a Dataset, got {typed(data)}")
    begun = scenario.model_copy(update={"steps": min(scenario.steps, FIRST_UPDATES)})
    with _part("schedule", scenario.schedule, SCHEDULES):
        seen = np.unique(plan(begun, scenario.seed).seen).tolist()
    for rows in seen:
        left, f = rows, doubted(scenario, rows)
        for i, each in enumerate(scenario.pre):
            with _part(f"pre[{i}]", each, PRE) as mixer:
                left = kept(mixer, each, left, f)
        with _part("rule", scenario.rule, RULES) as rule:
            made_rule(rule, scenario.rule, scenario.pre, rows, n, f)
    return schedule


def build(scenario: Scenario) -> None:
    """Builds and traces every part, for each seed. Raises as `assemble` does."""
    schedule = assemble(scenario)
    n, declared = scenario.workers.total, scenario.workers.declared
    models = scenario.local is not None and scenario.local.send == "model"
    data = load(scenario.data)
    # what is larger than the data is refused below
    batch = min(scenario.data.batch_size, len(data.y))
    samples = Kind(data.x.shape[1:], data.x.dtype, data.y.dtype, data.classes, batch)
    for i, each in enumerate(scenario.data.augment):
        with _part(f"data.augment[{i}]", each, AUGMENTATIONS) as augmentation:
            trace_augmentation(augmentation, each, samples)
    if np.issubdtype(data.x.dtype, np.integer):
        _characters(scenario, data)
    if scenario.early_stopping and scenario.early_stopping.measure == "validation_accuracy" and data.classes is None:
        raise Impossible("early_stopping.measure: values have no accuracy: take validation_loss")
    with _part("model", scenario.model, MODELS) as model:
        d = parameters(model, scenario.model, samples)
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
                trace_filter(judge, scenario.filter, n, declared, d, own)
        for seen in sorted({seen for seen, _ in kinds}):
            left, f = seen, doubted(scenario, seen)
            for i, each in enumerate(scenario.pre):
                with _part(f"pre[{i}]", each, PRE) as mixer:
                    left = kept(mixer, each, left, f)
            with _part("rule", scenario.rule, RULES) as rule:
                state, weighs = trace_rule(rule, scenario.rule, scenario.pre, seen, n, f, d, own, models)
                if scenario.weights == "samples":
                    need(
                        weighs,
                        f"{scenario.rule.name} gives its rows no weights: with weights samples take one that does",
                    )
                    need(
                        _weighs(rule, scenario.rule, scenario.pre, seen, f),
                        f"{scenario.rule.name}{' with what stands before it' if scenario.pre else ''} shortens rows, "
                        "so that weights cannot be multiplied by samples: take weights equal, or a rule that does not",
                    )
                    need(sees != "buckets", "with weights samples a schedule without buckets is needed")
                _keeps_places(scenario.rule, state, left, d, timeline, n)
        for seen, size in kinds:
            # the rows that the adversary looks at: those of the update, or the last ones of many workers
            k = size if sees == "buckets" else seen if sees == "table" or seen > 1 else n
            for key, lie, f in _lies(scenario):
                with _part(key, lie, ATTACKS) as attack:
                    trace_attack(attack, lie, n, f, k, d, samples, models)
        with _part("data", scenario.data, DATA):
            train = len(split_of(scenario.data, seed).train)
        if scenario.data.batch_size > train:
            raise Impossible(
                f"data.batch_size: is {scenario.data.batch_size}, but there are only {train} training samples"
            )
        with _part("data.partition", scenario.data.partition, PARTITIONS):
            _, shares = share_out(scenario.data, n, seed)
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
        raise Impossible(f"data: {scenario.data.name} has the character {low}: whole numbers from 0 are needed")
    if not {"vocabulary", "characters"} & set(options):
        raise Impossible(
            f"model: {scenario.model.name} takes numbers, and the samples of this data are characters: take rnn, lstm, "
            "gru or transformer"
        )
    known = options.get("vocabulary", math.inf) or data.classes
    if known is not None and high >= known:
        raise Impossible(
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
    return [(key, lie, end - first) for key, (lie, first, end) in zip(scenario.lie_keys, scenario.lies, strict=True)]


@contextmanager
def _part(key: str, part: Component, factories: Mapping[str, Factory]) -> Iterator[Factory]:
    """Gives the function behind a part; whatever goes wrong inside becomes a ScenarioError that begins with the key."""
    function = factories[part.name]
    try:
        yield function
    except ValueError as error:
        text = " ".join(str(error).split())
        # data that is not there, and a part that does not do what it must, are no matter of numbers
        kind = ScenarioError if isinstance(error, (Broken, DataError)) else Impossible
        raise kind(f"{key}{_option(part, text)}: {text}") from error
    except MemoryError as error:
        raise ScenarioError(f"{key}: {part.name} needs more memory than there is: {error}") from error
    except Exception as error:
        raise ScenarioError(f"{key}: {part.name} fails: {said(error, file_of(function))}") from error


def _option(part: Component, text: str) -> str:
    """The option, with a dot before it, that a message of a part is about; nothing where it is about none or several.

    >>> from simulator.components import AUGMENTATIONS, one_of
    >>> from pydantic import TypeAdapter
    >>> cutout = TypeAdapter(one_of("augmentation", AUGMENTATIONS)).validate_python({"name": "cutout", "size": 0})
    >>> _option(cutout, "cutout needs size >= 1, got 0"), _option(cutout, "cutout is for images of a size")
    ('.size', '')
    """
    condition = re.match(rf"{part.name} needs (.+?), got ", text)
    words = re.findall(r"\w+", condition[1]) if condition else []
    # a rule can have another one by name
    found = [key for key, value in part.options().items() if key in words or f"unknown rule {value!r}" in text]
    return f".{found[0]}" if len(found) == 1 else ""


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
