"""Every part of a scenario, built and traced but not run: what is impossible comes out before anything starts."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from byzax.experiments.tracing import (
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
from byzax.experiments.weighing import NO_WEIGHTS, unweighable
from byzax.simulator import threads
from byzax.simulator.components import (
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
from byzax.simulator.core import doubted
from byzax.simulator.data import DataError, Dataset, Split
from byzax.simulator.executors.base import all_together, plan
from byzax.simulator.mistakes import LONGEST_VALUE, Impossible, ScenarioError, cut
from byzax.simulator.registry import file_of, said
from byzax.simulator.scenario import Scenario
from byzax.simulator.schedules import Schedule
from byzax.simulator.timeline import Timeline
from byzax.simulator.training import optimizing, rate
from byzax.simulator.world import load, scaling_of, share_out, split_of

# Updates of the timeline by which n and f are looked at before anything is traced.
FIRST_UPDATES = 100


def possible(scenario: Scenario) -> Schedule:
    """Makes every part that can be made without data and without tracing: what can be looked at at once.

    Returns:
        The schedule.

    Raises:
        ScenarioError: One line that begins with the key of the part; Impossible for numbers that do not go together.
    """
    n, declared = scenario.workers.total, scenario.workers.declared
    models = scenario.local is not None and scenario.local.send == "model"
    for key, lie, f in _lies(scenario):
        with _part(key, lie, ATTACKS) as attack:
            made = attack(n, f, **lie.options())
            need(
                getattr(made, "claim", None) is None or scenario.weights == "samples",
                f"{lie.name} lies about numbers of samples, and with weights equal these do not count: take weights "
                "samples, or another attack",
            )
    if scenario.trigger is not None:
        with _part("trigger", scenario.trigger, ATTACKS) as attack:
            made = attack(n, scenario.workers.byzantine.count, **scenario.trigger.options())
            need(
                getattr(made, "goal", None) is not None,
                f"{scenario.trigger.name} has no trigger whose success could be measured: take backdoor, "
                "distributed_backdoor or neurotoxin",
            )
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
    if all_together(scenario):
        _assemble_rule(scenario, n)
    return schedule


def assemble(scenario: Scenario) -> Schedule:
    """Makes what `possible` makes, reads the data, and looks at n and f in the first updates; returns the schedule."""
    schedule = possible(scenario)
    load_data(scenario)
    if not all_together(scenario):
        begun = scenario.model_copy(update={"steps": min(scenario.steps, FIRST_UPDATES)})
        with _part("schedule", scenario.schedule, SCHEDULES):
            # a plan asks how long the model is, for which it is traced
            seen = np.unique(plan(begun, scenario.seed).seen).tolist()
        for rows in seen:
            _assemble_rule(scenario, rows)
    return schedule


def _assemble_rule(scenario: Scenario, seen: int) -> tuple[int, int]:
    """Makes the rule and its pre-aggregations for `seen` rows. Returns the rows left to the rule and the f it knows."""
    left, f = seen, doubted(scenario, seen)
    for i, each in enumerate(scenario.pre):
        with _part(f"pre[{i}]", each, PRE) as mixer, _fewer_rows(scenario, seen, f):
            left = kept(mixer, each, left, f)
    with _part("rule", scenario.rule, RULES) as rule, _fewer_rows(scenario, seen, f):
        made_rule(rule, scenario.rule, scenario.pre, seen, f)
    return left, f


def build(scenario: Scenario) -> None:
    """Builds and traces every part, for each seed. Raises as `assemble` does."""
    threads.start()
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
        weighs = {}
        for seen in sorted({seen for seen, _ in kinds}):
            left, f = _assemble_rule(scenario, seen)
            with _part("rule", scenario.rule, RULES) as rule:
                state, weighs[seen] = trace_rule(rule, scenario.rule, scenario.pre, seen, f, d, own, models)
                if scenario.weights == "samples":
                    why = unweighable(rule, scenario.rule, scenario.pre, seen, f) if weighs[seen] else NO_WEIGHTS
                    before = " with what stands before it" if scenario.pre and weighs[seen] else ""
                    if why is not None:
                        raise ValueError(
                            f"{scenario.rule.name}{before} {why}, so that weights cannot be multiplied by samples: "
                            "take weights equal, or a rule whose aggregate is its weights times the rows: multi_krum"
                        )
                    if sees == "buckets":
                        raise ValueError("with weights samples a schedule without buckets is needed")
                _keeps_places(scenario.rule, state, left, d, timeline, n)
        for seen, size in kinds:
            # the rows that the adversary looks at: those of the update, or the last ones of many workers
            k = size if sees == "buckets" else seen if sees == "table" or seen > 1 else n
            measured = (
                [] if scenario.trigger is None else [("trigger", scenario.trigger, scenario.workers.byzantine.count)]
            )
            for key, lie, f in [*_lies(scenario), *measured]:
                with _part(key, lie, ATTACKS) as attack:
                    trace_attack(attack, lie, n, f, k, d, samples, weighs[seen])
        with _part("data", scenario.data, DATA):
            train = len(split_of(scenario.data, seed).train)
        if scenario.data.batch_size > train:
            raise Impossible(
                f"data.batch_size: is {scenario.data.batch_size}, but there are only {train} training samples"
            )
        _, shares = deal(scenario, seed)
        with _part("data.normalise", scenario.data, DATA):
            scaling_of(scenario.data, n, seed)
        if scenario.variance_reduction is not None:
            batches = -(-max(map(len, shares)) // scenario.data.batch_size)
            with _part("model", scenario.model, MODELS):
                # a gradient of every batch of every worker is kept
                _fits(d, n * batches, "take a smaller model, or leave variance_reduction out")


def load_data(scenario: Scenario) -> Dataset:
    """The data set of a scenario. Raises ScenarioError, one line that begins with `data`."""
    with _part("data", scenario.data, DATA):
        data = load(scenario.data)
        need(isinstance(data, Dataset), f"{scenario.data.name} must give a Dataset, got {typed(data)}")
        return data


def deal(scenario: Scenario, seed: int) -> tuple[Split, list[np.ndarray]]:
    """The split of one repeat and the samples of each worker. Raises ScenarioError, as `load_data`."""
    with _part("data", scenario.data, DATA):
        split_of(scenario.data, seed)
    with _part("data.partition", scenario.data.partition, PARTITIONS):
        return share_out(scenario.data, scenario.workers.total, seed)


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


def _fewer(scenario: Scenario, seen: int, f: int) -> str:
    """Why a rule sees so many rows and is told f: what of the schedule was written, and which defaults decide."""
    n, part, declared = scenario.workers.total, scenario.schedule, scenario.workers.declared
    options = part.options()
    written = [f"{key} {value}" for key, value in options.items() if key in part.model_fields_set]
    # a default that makes the number
    written += [f"{key} {value}, the default" for key, value in options.items()
                if key not in part.model_fields_set and type(value) is int and value == seen]  # fmt: skip
    how = f"{part.name} ({', '.join(written)})" if written else part.name
    rows = "1 row" if seen == 1 else f"{seen} rows"
    told = "" if f == declared else f", of which it is told {f} are Byzantine ({declared} declared)"
    return f"with the schedule {how} the rule sees {rows} of {n} workers{told}"


@contextmanager
def _fewer_rows(scenario: Scenario, seen: int, f: int) -> Iterator[None]:
    """A rule, or what stands before it, that is refused for its number of rows: says why there are so many."""
    try:
        yield
    except Broken:
        raise
    except ValueError as error:
        if (seen, f) == (scenario.workers.total, scenario.workers.declared):
            raise
        raise ValueError(f"{error}; {_fewer(scenario, seen, f)}") from error


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
        text = _shortened(part, " ".join(str(error).split()))
        # data that is not there, and a part that does not do what it must, are no matter of numbers
        kind = ScenarioError if isinstance(error, (Broken, DataError)) else Impossible
        option = _option(part, text)
        if option and option[1:] not in part.model_fields_set:
            text += f", which is the default: write {key}{option}"
        raise kind(f"{key}{option}: {text}") from error
    except MemoryError as error:
        raise ScenarioError(f"{key}: {part.name} needs more memory than there is: {error}") from error
    except Exception as error:
        raise ScenarioError(f"{key}: {part.name} fails: {said(error, file_of(function))}") from error


def _shortened(part: Component, text: str) -> str:
    """A message of a part in which the words that a person gave as options are cut; paths are left as they are."""
    for value in part.options().values():
        if isinstance(value, str) and len(value) > LONGEST_VALUE and os.sep not in value:
            text = text.replace(value, cut(value))
    return text


def _option(part: Component, text: str) -> str:
    """The option, with a dot before it, that a message of a part is about; nothing where it is about none or several.

    >>> from byzax.simulator.components import AUGMENTATIONS, one_of
    >>> from pydantic import TypeAdapter
    >>> cutout = TypeAdapter(one_of("augmentation", AUGMENTATIONS)).validate_python({"name": "cutout", "size": 0})
    >>> _option(cutout, "cutout needs size >= 1, got 0"), _option(cutout, "cutout is for images of a size")
    ('.size', '')
    """
    condition = re.match(rf"{part.name} needs (.+?), got ", text)
    words = re.findall(r"\w+", condition[1]) if condition else []
    found = [key for key in part.options() if key in words]
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
            "choose synchronous, or asynchronous with apply table, warm_up all and, where workers die, dead_rows stay"
        )
