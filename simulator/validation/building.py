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
from byzax.simulator.config.part import Part
from byzax.simulator.config.rates import RatePart
from byzax.simulator.core import doubted
from byzax.simulator.data import DataError, Dataset, Split
from byzax.simulator.executors.base import all_together, plan
from byzax.simulator.mistakes import LONGEST_VALUE, Impossible, ScenarioError, cut
from byzax.members import file_of, said
from byzax.simulator.config.run import Run
from byzax.simulator.schedules import Schedule
from byzax.simulator.timeline import Timeline
from byzax.simulator.training import optimizing, rate
from byzax.simulator.world import load, scaling_of, share_out, split_of

# Updates of the timeline by which n and f are looked at before anything is traced.
FIRST_UPDATES = 100


def possible(run: Run) -> Schedule:
    """Makes every part that can be made without data and without tracing: what can be looked at at once.

    Returns:
        The schedule.

    Raises:
        ScenarioError: One line that begins with the key of the part; Impossible for numbers that do not go together.
    """
    n, declared = run.workers.total, run.workers.declared
    models = run.local is not None and run.local.send == "model"
    for key, lie, f in _lies(run):
        with _part(key, lie, ATTACKS) as attack:
            made = attack(n, f, **lie.options())
            need(
                getattr(made, "claim", None) is None or run.weights == "samples",
                f"{lie.name} lies about numbers of samples, and with weights equal these do not count: take weights "
                "samples, or another attack",
            )
    if run.trigger is not None:
        with _part("trigger", run.trigger, ATTACKS) as attack:
            made = attack(n, run.workers.byzantine.count, **run.trigger.options())
            need(
                getattr(made, "goal", None) is not None,
                f"{run.trigger.name} has no trigger whose success could be measured: take backdoor, "
                "distributed_backdoor or neurotoxin",
            )
    with _part("schedule", run.schedule, SCHEDULES) as factory:
        schedule = factory(n, declared, **run.schedule.options())
        need(isinstance(schedule, Schedule), f"{run.schedule.name} must give a Schedule, got {typed(schedule)}")
        if models and schedule.weight is not None:
            raise ValueError("staleness weights are for gradients and changes: with local.send model take constant")
    with _part("latency", run.latency, LATENCIES) as latency:
        latency(**run.latency.options())
    parts = {
        "up.delay": run.latency.up.delay,
        "down.delay": run.latency.down.delay,
        "factors": run.latency.factors,
    }
    for key, part in parts.items():
        if isinstance(part, Part):
            with _part(f"latency.{key}", part, LATENCIES) as latency:
                latency(**part.options())
    _optimizers(run)
    if all_together(run):
        _assemble_rule(run, n)
    return schedule


def assemble(run: Run) -> Schedule:
    """Makes what `possible` makes, reads the data, and looks at n and f in the first updates; returns the schedule."""
    schedule = possible(run)
    load_data(run)
    if not all_together(run):
        begun = run.model_copy(update={"steps": min(run.steps, FIRST_UPDATES)})
        with _part("schedule", run.schedule, SCHEDULES):
            # a plan asks how long the model is, for which it is traced
            seen = np.unique(plan(begun, run.seed).seen).tolist()
        for rows in seen:
            _assemble_rule(run, rows)
    return schedule


def _assemble_rule(run: Run, seen: int) -> tuple[int, int]:
    """Makes the rule and its pre-aggregations for `seen` rows. Returns the rows left to the rule and the f it knows."""
    left, f = seen, doubted(run, seen)
    for i, each in enumerate(run.pre):
        with _part(f"pre[{i}]", each, PRE) as mixer, _fewer_rows(run, seen, f):
            left = kept(mixer, each, left, f)
    with _part("rule", run.rule, RULES) as rule, _fewer_rows(run, seen, f):
        made_rule(rule, run.rule, run.pre, seen, f)
    return left, f


def build(run: Run) -> None:
    """Builds and traces every part, for each seed. Raises as `assemble` does."""
    threads.start()
    schedule = assemble(run)
    n, declared = run.workers.total, run.workers.declared
    models = run.local is not None and run.local.send == "model"
    data = load(run.data)
    # what is larger than the data is refused below
    batch = min(run.data.batch_size, len(data.y))
    samples = Kind(data.x.shape[1:], data.x.dtype, data.y.dtype, data.classes, batch)
    for i, each in enumerate(run.data.augment):
        with _part(f"data.augment[{i}]", each, AUGMENTATIONS) as augmentation:
            trace_augmentation(augmentation, each, samples)
    if np.issubdtype(data.x.dtype, np.integer):
        _characters(run, data)
    if run.early_stopping and run.early_stopping.measure == "validation_accuracy" and data.classes is None:
        raise Impossible("early_stopping.measure: values have no accuracy: take validation_loss")
    with _part("model", run.model, MODELS) as model:
        d = parameters(model, run.model, samples)
    for seed in run.seeds:
        with _part("schedule", run.schedule, SCHEDULES):
            timeline = plan(run)
        kinds = np.unique(np.stack([timeline.seen, timeline.sizes]), axis=1).T.tolist()
        with _part("model", run.model, MODELS):
            # with Ray the rows are elsewhere
            _fits(d, 1 if run.executor.name == "ray" else max(map(max, kinds)))
        own, sees = run.data.validation > 0, schedule.sees
        if run.filter is not None:
            with _part("filter", run.filter, FILTERS) as judge:
                _sees_single_rows(run, kinds)
                trace_filter(judge, run.filter, n, declared, d, own)
        weighs = {}
        for seen in sorted({seen for seen, _ in kinds}):
            left, f = _assemble_rule(run, seen)
            with _part("rule", run.rule, RULES) as rule:
                state, weighs[seen] = trace_rule(rule, run.rule, run.pre, seen, f, d, own, models)
                if run.weights == "samples":
                    why = unweighable(rule, run.rule, run.pre, seen, f) if weighs[seen] else NO_WEIGHTS
                    before = " with what stands before it" if run.pre and weighs[seen] else ""
                    if why is not None:
                        raise ValueError(
                            f"{run.rule.name}{before} {why}, so that weights cannot be multiplied by samples: "
                            "take weights equal, or a rule whose aggregate is its weights times the rows: multi_krum"
                        )
                    if sees == "buckets":
                        raise ValueError("with weights samples a schedule without buckets is needed")
                _keeps_places(run.rule, state, left, d, timeline, n)
        for seen, size in kinds:
            # the rows that the adversary looks at: those of the update, or the last ones of many workers
            k = size if sees == "buckets" else seen if sees == "table" or seen > 1 else n
            measured = (
                [] if run.trigger is None else [("trigger", run.trigger, run.workers.byzantine.count)]
            )
            for key, lie, f in [*_lies(run), *measured]:
                with _part(key, lie, ATTACKS) as attack:
                    trace_attack(attack, lie, n, f, k, d, samples, weighs[seen])
        with _part("data", run.data, DATA):
            train = len(split_of(run.data, seed).train)
        if run.data.batch_size > train:
            raise Impossible(
                f"data.batch_size: is {run.data.batch_size}, but there are only {train} training samples"
            )
        _, shares = deal(run)
        with _part("data.normalise", run.data, DATA):
            scaling_of(run.data, n, seed)
        if run.variance_reduction is not None:
            batches = -(-max(map(len, shares)) // run.data.batch_size)
            with _part("model", run.model, MODELS):
                # a gradient of every batch of every worker is kept
                _fits(d, n * batches, "take a smaller model, or leave variance_reduction out")


def load_data(run: Run) -> Dataset:
    """The data set of a run. Raises ScenarioError, one line that begins with `data`."""
    with _part("data", run.data, DATA):
        data = load(run.data)
        need(isinstance(data, Dataset), f"{run.data.name} must give a Dataset, got {typed(data)}")
        return data


def deal(run: Run) -> tuple[Split, list[np.ndarray]]:
    """The split of one repeat and the samples of each worker. Raises ScenarioError, as `load_data`."""
    with _part("data", run.data, DATA):
        split_of(run.data, seed)
    with _part("data.partition", run.data.partition, PARTITIONS):
        return share_out(run.data, run.workers.total, seed)


def _optimizers(run: Run) -> None:
    """Builds the optimizers of server and workers, and the schedules of their learning rates."""
    local = run.local
    optimizers = {"optimizer": run.optimizer, "local.optimizer": local and local.optimizer}
    rates = {f"{key}.learning_rate": part and part.options().get("learning_rate") for key, part in optimizers.items()}
    rates["local.learning_rate"] = local and local.learning_rate
    for key, speed in rates.items():
        if isinstance(speed, RatePart):
            with _part(key, speed, RATES):
                rate(speed, run.steps)
    for key, part in optimizers.items():
        if part is not None:
            with _part(key, part, OPTIMIZERS):
                optimizing(part, run.steps)


def _characters(run: Run, data: Dataset) -> None:
    """Raises ScenarioError unless the model takes characters, and all that the data has."""
    low, high, options = int(data.x.min()), int(data.x.max()), run.model.options()
    if low < 0:
        raise Impossible(f"data: {run.data.name} has the character {low}: whole numbers from 0 are needed")
    if not {"vocabulary", "characters"} & set(options):
        raise Impossible(
            f"model: {run.model.name} takes numbers, and the samples of this data are characters: take rnn, lstm, "
            "gru or transformer"
        )
    known = options.get("vocabulary", math.inf) or data.classes
    if known is not None and high >= known:
        raise Impossible(
            f"model.vocabulary: the data has characters up to {high}: at least {high + 1} is needed, got {known}"
        )


def _fewer(run: Run, seen: int, f: int) -> str:
    """Why a rule sees so many rows and is told f: what of the schedule was written, and which defaults decide."""
    n, part, declared = run.workers.total, run.schedule, run.workers.declared
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
def _fewer_rows(run: Run, seen: int, f: int) -> Iterator[None]:
    """A rule, or what stands before it, that is refused for its number of rows: says why there are so many."""
    try:
        yield
    except Broken:
        raise
    except ValueError as error:
        if (seen, f) == (run.workers.total, run.workers.declared):
            raise
        raise ValueError(f"{error}; {_fewer(run, seen, f)}") from error


def _lies(run: Run) -> list[tuple[str, Part, int]]:
    """Each attack with its key, and how many workers carry it out."""
    return [(key, lie, end - first) for key, (lie, first, end) in zip(run.lie_keys, run.lies, strict=True)]


@contextmanager
def _part(key: str, part: Part, factories: Mapping[str, Factory]) -> Iterator[Factory]:
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


def _shortened(part: Part, text: str) -> str:
    """A message of a part in which the words that a person gave as options are cut; paths are left as they are."""
    for value in part.options().values():
        if isinstance(value, str) and len(value) > LONGEST_VALUE and os.sep not in value:
            text = text.replace(value, cut(value))
    return text


def _option(part: Part, text: str) -> str:
    """The option, with a dot before it, that a message of a part is about; nothing where it is about none or several.

    >>>     >>> from pydantic import TypeAdapter
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


def _sees_single_rows(run: Run, kinds: list[list[int]]) -> None:
    assert run.filter is not None
    name, most = run.filter.name, max(map(max, kinds))
    if most > 1:
        raise ValueError(
            f"{name} judges single rows, and with {run.schedule.name} as it is an update has or sees {most}: "
            "choose asynchronous or stale_synchronous with apply each"
        )
    if run.local and run.local.send == "model":
        raise ValueError(f"{name} judges gradients and changes: with local.send model leave it out")


def _keeps_places(part: Part, state: Any, k: int, d: int, timeline: Timeline, n: int) -> None:
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
