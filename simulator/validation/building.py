"""The checks of one task: every part is built, and traced at the sizes of the run."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from byzax.options import PartError
from byzax.simulator import threads
from byzax.simulator.config.part import NestedPart, Part, parts_of
from byzax.simulator.config.rates import RatePart
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Task
from byzax.simulator.contracts import ContractError, build, build_rule, check_type, errors_of, location, require
from byzax.simulator.data import Dataset, Split
from byzax.simulator.executors.base import all_together, plan, prepare, situation
from byzax.simulator.mistakes import Impossible, ScenarioError
from byzax.simulator.parts import f_of_rule, topology
from byzax.simulator.schedules import Schedule
from byzax.simulator.timeline import Timeline
from byzax.simulator.timings import Timing
from byzax.simulator.training import build_optimizer
from byzax.simulator.validation.network_traces import trace_network
from byzax.simulator.validation.row_traces import (
    build_nested,
    rows_left,
    trace_attack,
    trace_filter,
    trace_pre,
    trace_rule,
)
from byzax.simulator.validation.tracing import BatchSpec
from byzax.simulator.validation.training_traces import (
    check_first_rates,
    check_schedule,
    num_parameters,
    trace_augmentation,
    trace_optimizer,
    trace_rate,
)
from byzax.simulator.world import load, scaling_of, share_out, split_of

# Updates of the timeline by which n and f are checked before anything is traced.
FIRST_UPDATES = 100


def check_parts(run: Run) -> Schedule:
    """Builds every part that needs neither data nor tracing.

    Args:
        run: The run.

    Returns:
        The schedule.

    Raises:
        ScenarioError: One line that begins with the key of the part; Impossible for numbers that do not go together.
    """
    n, declared = run.workers.total, run.workers.declared
    with errors_of("topology", run.topology):
        structure = topology(run)
    for key, part, f in _attacks(run):
        for inner_key, inner in _nested(part, key):
            with errors_of(inner_key, inner):
                build(inner, n, f)
        with errors_of(key, part):
            made = build(part, n, f)
            require(
                made.claim is None or run.weights == "samples",
                f"{part.label} states false numbers of samples, and with weights equal these do not count: take "
                "weights samples, or another attack",
            )
            require(
                not (made.by_receiver and structure.one_server),
                f"{part.label} tells receivers apart, and {run.topology.name} has one: take topology gossip, or "
                "an attack that makes one row for all, such as little",
                PartError,
            )
    if run.trigger is not None:
        with errors_of("trigger", run.trigger):
            made = build(run.trigger, n, run.workers.byzantine.count)
            require(
                made.goal is not None,
                f"{run.trigger.label} has no trigger whose success could be measured: take backdoor, "
                "distributed_backdoor or neurotoxin",
            )
    _check_timing(run)
    with errors_of("schedule", run.schedule):
        schedule: Schedule = build(run.schedule, n, declared)
        if run.sends_models and schedule.weight is not None:
            raise ValueError("staleness weights are for gradients and changes: with local.send model take constant")
    with errors_of("topology", run.topology):
        structure.check(run)
    functions = [*parts_of(run.latency, "latency"), ("data.partition", run.data.partition)]
    functions += [(f"data.augment[{i}]", each) for i, each in enumerate(run.data.augment)]
    for key, part in functions:
        with errors_of(key, part):
            build(part)
    _check_optimizers(run)
    if run.local is not None and run.local.control_variates and not all_together(run):
        raise Impossible(
            "local.control_variates: needs a row of every worker in every update: take schedule synchronous with "
            "quorum all, attack.timing honest, and no lost message or crash"
        )
    if all_together(run):
        for rows in structure.inboxes or (n,):
            _check_rule(run, rows)
    return schedule


def _check_timing(run: Run) -> None:
    """Builds the timing, and checks that the Byzantine workers of the run can have it."""
    part, byzantine = run.attack.timing, run.workers.byzantine
    with errors_of("attack.timing", part):
        made: Timing = build(part)
    changing = byzantine.per_round == "sampled"
    if not made.in_time and (changing or not all(each.part.always for each in run.attacks)):
        what = "workers.byzantine.per_round sampled" if changing else "from, until and every"
        raise Impossible(f"attack.timing: {part.label} needs the same Byzantine workers in all updates, not {what}")
    if byzantine.participating is not None and not made.always:
        raise Impossible(
            f"workers.byzantine.participating: Byzantine workers that do not answer (attack.timing {part.label}) take "
            "no part: leave one of the two out"
        )


def check_numbers(run: Run) -> Schedule:
    """Builds every part as `check_parts`, reads the data, and checks n and f in the first updates.

    Args:
        run: The run.

    Returns:
        The schedule.

    Raises:
        ScenarioError: As `check_parts`.
    """
    schedule = check_parts(run)
    load_data(run)
    if not all_together(run):
        if schedule.plan is None:
            # a plan asks the rule for its fewest rows, by f = 0
            _check_rule(run, run.workers.total, 0)
        with errors_of("schedule", run.schedule):
            first = situation(run)
            check_schedule(run.schedule, schedule, first._replace(steps=min(first.steps, FIRST_UPDATES)))
            # a plan needs the number of parameters, for which the model is traced
            seen = np.unique(plan(run, FIRST_UPDATES).seen).tolist()
        for rows in seen:
            _check_rule(run, rows)
    return schedule


def _check_rule(run: Run, seen: int, declared: int | None = None) -> tuple[int, int]:
    """Builds rule and pre-aggregations for `seen` rows. Returns the number of rows left to the rule, and its f."""
    left, f = seen, f_of_rule(run, seen) if declared is None else declared
    for i, each in enumerate(run.pre):
        with errors_of(f"pre[{i}]", each), _explain_rows(run, seen, f):
            left = rows_left(each, left, f)
    for key, base in _nested(run.rule, "rule"):
        with errors_of(key, base):
            build_nested(base, left, f)
    with errors_of("rule", run.rule), _explain_rows(run, seen, f):
        build_rule(run.rule, run.pre, seen, f)
    return left, f


def _nested(part: Part, key: str) -> Iterator[tuple[str, Part]]:
    """The parts that are options of a part, with their keys, the innermost first."""
    for option in part.options():
        if isinstance(inner := getattr(part, option), NestedPart):
            yield from _nested(inner, f"{key}.{option}")
            yield f"{key}.{option}", inner


def check_task(task: Task) -> None:
    """Builds and traces every part, for each seed.

    Args:
        task: The task.

    Raises:
        ScenarioError: One line that begins with the key of the part; Impossible for numbers that do not go together.
    """
    threads.start()
    run = task.run
    schedule = check_numbers(run)
    structure = topology(run)
    if task.record.rows is not None and not structure.one_server:
        raise ScenarioError(
            f"record.rows: is for one server, and not for {run.topology.label}: byzax.simulate gives all rows"
        )
    for key, part, updates in _rates(run):
        with errors_of(key, part):
            check_first_rates(part, updates)
    n, declared = run.workers.total, run.workers.declared
    models = "with local.send model they are models: take delta" if run.sends_models else ""
    if structure.mixes:
        models = f"with {run.topology.name} they are models: take another rule"
    data = load(run.data)
    # a batch larger than the data is refused below
    batch = min(run.data.batch_size, len(data.y))
    samples = BatchSpec(data.x.shape[1:], data.x.dtype, data.y.dtype, data.classes, batch)
    for i, each in enumerate(run.data.augment):
        with errors_of(f"data.augment[{i}]", each):
            trace_augmentation(each, samples)
    if np.issubdtype(data.x.dtype, np.integer):
        _check_characters(run, data)
    if task.early_stopping and task.early_stopping.measure == "validation_accuracy" and data.classes is None:
        raise Impossible("early_stopping.measure: values have no accuracy: take validation_loss")
    with errors_of("model", run.model):
        d = num_parameters(run.model, samples)
    for key, part in _optimizers(run):
        with errors_of(key, part):
            trace_optimizer(part, run.steps, d)
    for seed in task.seeds:
        run = task.run.replace(seed=seed)
        with errors_of("schedule", run.schedule):
            timeline = plan(run)
        inboxes = topology(run).inboxes
        kinds = np.unique(np.stack([timeline.seen, timeline.sizes]), axis=1).T.tolist()
        if inboxes is not None:
            kinds = [[rows, rows] for rows in inboxes]
        with errors_of("model", run.model):
            # with Ray the rows are in other processes
            _check_memory(d, 1 if task.executor.name == "ray" else max(map(max, kinds)))
        own, sees = run.data.validation > 0, schedule.sees
        if run.filter is not None:
            with errors_of("filter", run.filter):
                _check_single_rows(run, kinds)
                trace_filter(run.filter, n, declared, d, own)
        weighs, states = {}, {}
        for seen in sorted({seen for seen, _ in kinds}):
            left, f = _check_rule(run, seen)
            rows = seen
            for i, each in enumerate(run.pre):
                with errors_of(f"pre[{i}]", each):
                    trace_pre(each, rows, f, d)
                    rows = rows_left(each, rows, f)
            for key, base in _nested(run.rule, "rule"):
                with errors_of(key, base):
                    if build_nested(base, left, f) is not None:
                        trace_rule(base, (), left, f, d, own, models)
            with errors_of("rule", run.rule):
                state, weighs[seen], linear = trace_rule(run.rule, run.pre, seen, f, d, own, models)
                states[seen] = [leaf.shape for leaf in jax.tree.leaves(state)]
                if inboxes is not None and states[seen] != states[inboxes[0]]:
                    raise PartError(
                        f"{run.rule.label} keeps a state by the number of rows, and nodes see {inboxes[0]} and {seen}: "
                        "take a graph in which all nodes have as many neighbours, or another rule"
                    )
                if run.weights == "samples":
                    before = " with what stands before it" if run.pre and weighs[seen] else ""
                    why = "is no sum of its rows times its weights" if weighs[seen] else "gives its rows no weights"
                    if not (weighs[seen] and linear):
                        raise PartError(
                            f"{run.rule.label}{before} {why}, so that weights cannot be multiplied by samples: take "
                            "weights equal, or a rule whose aggregate is its weights times the rows: multi_krum"
                        )
                    if sees == "buckets":
                        raise ValueError("with weights samples a schedule without buckets is needed")
                _check_places(run.rule, state, left, d, timeline, n)
        for seen, size in kinds:
            # the rows that the adversary sees: those of the update, or the last ones of many workers
            k = size if sees == "buckets" else seen if sees == "table" or seen > 1 else n
            measured = [] if run.trigger is None else [("trigger", run.trigger, run.workers.byzantine.count)]
            for key, part, f in [*_attacks(run), *measured]:
                with errors_of(key, part):
                    trace_attack(part, n, f, k, d, samples, weighs[seen])
        with errors_of("data", run.data):
            train = len(split_of(run.data, seed).train)
        if run.data.batch_size > train:
            raise Impossible(f"data.batch_size: is {run.data.batch_size}, but there are only {train} training samples")
        _, shares = share_data(run)
        with errors_of("data.normalise", run.data):
            scaling_of(run.data, n, seed)
        if run.variance_reduction is not None:
            batches = -(-max(map(len, shares)) // run.data.batch_size)
            with errors_of("model", run.model):
                # a gradient of every batch of every worker is kept
                _check_memory(d, n * batches, "take a smaller model, or leave variance_reduction out")
    if not structure.one_server:
        first = task.repeats[0]
        with errors_of("topology", run.topology):
            trace_network(first, prepare(first.run))


def load_data(run: Run) -> Dataset:
    """Loads the data set of a run.

    Args:
        run: The run.

    Returns:
        The data set.

    Raises:
        ScenarioError: One line that begins with `data`.
    """
    with errors_of("data", run.data):
        return load(run.data)


def share_data(run: Run) -> tuple[Split, list[np.ndarray]]:
    """Splits the data and shares the training samples out to the workers.

    Args:
        run: The run.

    Returns:
        The split, and the positions of the samples of each worker.

    Raises:
        ScenarioError: One line that begins with `data` or `data.partition`.
    """
    with errors_of("data", run.data):
        split_of(run.data, run.seed)
    return share_out(run.data, run.workers.total, run.seed)


def _check_optimizers(run: Run) -> None:
    """Builds the optimizers of server and workers, and the schedules of their learning rates."""
    for key, part, updates in _rates(run):
        with errors_of(key, part):
            trace_rate(part, updates)
    for key, part in _optimizers(run):
        with errors_of(key, part):
            check_type(part, build_optimizer(part, run.steps))


def _rates(run: Run) -> list[tuple[str, Part, int]]:
    """The learning rate schedules, with their keys and the number of updates of each."""
    return [(key, part, max(1, run.steps - part.warm_up)) for key, part in parts_of(run) if isinstance(part, RatePart)]


def _optimizers(run: Run) -> list[tuple[str, Part]]:
    """The optimizers of server and workers, with their keys."""
    found = [("optimizer", run.optimizer), ("local.optimizer", run.local and run.local.optimizer)]
    return [(key, part) for key, part in found if part is not None]


def _check_characters(run: Run, data: Dataset) -> None:
    """Raises Impossible unless the model takes characters, and all those of the data."""
    low, high, options = int(data.x.min()), int(data.x.max()), run.model.options()
    if low < 0:
        raise Impossible(f"data: {run.data.label} has the character {low}: whole numbers from 0 are needed")
    if not {"vocabulary", "characters"} & set(options):
        raise Impossible(
            f"model: {run.model.label} takes numbers, and the samples of this data are characters: take rnn, lstm, "
            "gru or transformer"
        )
    known = options.get("vocabulary", math.inf) or data.classes
    if known is not None and high >= known:
        raise Impossible(
            f"model.vocabulary: the data has characters up to {high}: at least {high + 1} is needed, got {known}"
        )


def _describe_rows(run: Run, seen: int, f: int) -> str:
    """The reason for the rule's number of rows and f in words: the options of schedule or topology that decide them."""
    n, declared, by_schedule = run.workers.total, run.workers.declared, topology(run).inboxes is None
    kind, part = ("schedule", run.schedule) if by_schedule else ("topology", run.topology)
    options = part.options()
    written = [f"{key} {value}" for key, value in options.items() if key in part.model_fields_set]
    # a default that makes the number
    written += [f"{key} {value}, the default" for key, value in options.items()
                if key not in part.model_fields_set and type(value) is int and value == seen]  # fmt: skip
    how = f"{part.label} ({', '.join(written)})" if written else part.label
    rows = "1 row" if seen == 1 else f"{seen} rows"
    told = "" if f == declared else f", of which it is told {f} are Byzantine ({declared} declared)"
    said = f"with the {kind} {how} the rule sees {rows} of {n} workers{told}"
    if not by_schedule:
        return said
    made: Schedule = build(part, n, declared)
    # of a plan the updates stand in it
    single = made.plan is None and made.due is Schedule._field_defaults["due"]
    way_out = ": a Schedule without due makes an update of each single row: give it one" if single else ""
    return f"{said}{way_out}{location(part, made.due)}"


@contextmanager
def _explain_rows(run: Run, seen: int, f: int) -> Iterator[None]:
    """Adds the reason for the number of rows to an error of a rule or pre-aggregation about it."""
    try:
        yield
    except ContractError:
        raise
    except ValueError as error:
        if (seen, f) == (run.workers.total, run.workers.declared):
            raise
        kind = PartError if isinstance(error, PartError) else ValueError
        raise kind(f"{error}; {_describe_rows(run, seen, f)}") from error


def _attacks(run: Run) -> list[tuple[str, Part, int]]:
    """Each attack with its key and the number of workers that carry it out."""
    return [(each.key, each.part, each.end - each.first) for each in run.attacks]


def _check_memory(d: int, rows: int, way_out: str = "take a smaller model") -> None:
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        # not every system has these
        return
    if 4 * d * (rows + 1) > memory:
        raise ValueError(
            f"{d} parameters take {4 * d / 1e9:.4g} GB for the model and for each of {rows} rows, this machine has "
            f"{memory / 1e9:.4g} GB: {way_out}"
        )


def _check_single_rows(run: Run, kinds: list[list[int]]) -> None:
    assert run.filter is not None
    name, most = run.filter.name, max(map(max, kinds))
    if most > 1:
        raise ValueError(
            f"{name} judges single rows, and with {run.schedule.label} as it is an update has or sees {most}: "
            "choose asynchronous or stale_synchronous with apply each"
        )
    if run.sends_models:
        raise ValueError(f"{name} judges gradients and changes: with local.send model leave it out")


def _check_places(part: Part, state: Any, k: int, d: int, timeline: Timeline, n: int) -> None:
    """Raises ValueError where a rule keeps a state for each place of a row, and a place is not always one worker's."""
    by_place = [leaf for leaf in jax.tree.leaves(state) if leaf.shape[:1] == (k,) and leaf.shape != (d,)]
    size = int(timeline.sizes[0])
    same = (timeline.sizes == size).all() and (
        timeline.rows.workers.reshape(-1, size) == timeline.rows.workers[:size]
    ).all()
    if by_place and not same and not (timeline.seen == n).all():
        raise ValueError(
            f"{part.label} remembers rows by their place, and with this schedule other workers have it in each update: "
            "choose synchronous, or asynchronous with apply table, warm_up all and, where workers die, dead_rows stay"
        )
