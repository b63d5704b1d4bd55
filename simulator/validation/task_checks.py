"""The checks of one task: every part is traced at the sizes of the run, for each seed."""

import math
import os
from typing import Any

import jax
import numpy as np

from byzax.options import PartError
from byzax.simulator import threads
from byzax.simulator.config.executors import devices_of
from byzax.simulator.config.measures import FlipSuccess
from byzax.simulator.config.part import Part, kind_of
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Task
from byzax.simulator.contracts import errors_of
from byzax.simulator.data import Dataset
from byzax.simulator.executors.base import plan, prepare
from byzax.simulator.mistakes import Impossible
from byzax.simulator.parts import rule_of, topology
from byzax.simulator.timeline import Timeline
from byzax.simulator.validation.network_traces import trace_network
from byzax.simulator.validation.part_checks import attacks_of, check_numbers, optimizers_of, rates_of, share_data
from byzax.simulator.validation.privacy_checks import check_batches, check_private_model
from byzax.simulator.validation.row_traces import (
    build_nested,
    rows_left,
    trace_attack,
    trace_filter,
    trace_pre,
    trace_rule,
)
from byzax.simulator.validation.rule_rows import check_rule, nested_parts
from byzax.simulator.validation.tracing import BatchSpec
from byzax.simulator.validation.training_traces import (
    check_first_rates,
    num_parameters,
    trace_augmentation,
    trace_optimizer,
)
from byzax.simulator.world import load, scaling_of, split_of


def check_task(task: Task) -> None:
    """Builds and traces every part, for each seed.

    Args:
        task: The task.

    Raises:
        ScenarioError: One line that begins with the key of the part; Impossible for numbers that do not go together.
    """
    threads.start(devices_of(task.executor))
    run = task.run
    schedule = check_numbers(run)
    structure = topology(run)
    for key, part, updates in rates_of(run):
        with errors_of(key, part):
            check_first_rates(part, updates)
    n, declared = run.workers.total, run.workers.declared
    models = "with local.send model they are models: take delta" if run.sends_models else ""
    if structure.mixes:
        models = f"with {run.topology.name} they are models: take another rule"
    data = load(run.data)
    # a batch larger than the data is refused below
    batch = min(run.data.batch_size, len(data.y))
    samples = BatchSpec(data.x.shape[1:], data.dtype, data.y.dtype, data.classes, batch)
    for i, each in enumerate(run.data.augment):
        with errors_of(f"data.augment[{i}]", each):
            trace_augmentation(each, samples)
    if np.issubdtype(data.dtype, np.integer):
        _check_characters(run, data)
    if task.early_stopping and task.early_stopping.measure == "validation_accuracy" and data.classes is None:
        raise Impossible("early_stopping.measure: values have no accuracy: take validation_loss")
    _check_measures(task, data.classes)
    with errors_of("model", run.model):
        d = num_parameters(run.model, samples)
    check_private_model(run, data)
    for key, part in optimizers_of(run):
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
            left, f = check_rule(run, seen)
            rows = seen
            for i, each in enumerate(run.pre):
                with errors_of(f"pre[{i}]", each):
                    trace_pre(each, rows, f, d)
                    rows = rows_left(each, rows, f)
            rule_key, rule = rule_of(run)
            for key, inner in nested_parts(rule, rule_key):
                with errors_of(key, inner):
                    if build_nested(inner, left, f) is not None and kind_of(inner) == "rule":
                        trace_rule(inner, (), left, f, d, own, models)
            with errors_of(rule_key, rule):
                state, weighs[seen], linear = trace_rule(rule, run.pre, seen, f, d, own, models)
                states[seen] = [leaf.shape for leaf in jax.tree.leaves(state)]
                if inboxes is not None and states[seen] != states[inboxes[0]]:
                    raise PartError(
                        f"{rule.label} keeps a state by the number of rows, and nodes see {inboxes[0]} and {seen}: "
                        "take a graph in which all nodes have as many neighbours, or another rule"
                    )
                if run.weights == "samples":
                    before = " with what stands before it" if run.pre and weighs[seen] else ""
                    why = "is no sum of its rows times its weights" if weighs[seen] else "gives its rows no weights"
                    if not (weighs[seen] and linear):
                        raise PartError(
                            f"{rule.label}{before} {why}, so that weights cannot be multiplied by samples: take "
                            "weights equal, or a rule whose aggregate is its weights times the rows: multi_krum"
                        )
                    if sees == "buckets":
                        raise ValueError("with weights samples a schedule without buckets is needed")
                _check_places(rule, state, left, d, timeline, n)
        for seen, size in kinds:
            # the rows that the adversary sees: those of the update, or the last ones of many workers
            k = size if sees == "buckets" else seen if sees == "table" or seen > 1 else n
            measured = [] if run.trigger is None else [("trigger", run.trigger, run.workers.byzantine.count)]
            for key, part, f in [*attacks_of(run), *measured]:
                with errors_of(key, part):
                    trace_attack(part, n, f, k, d, samples, weighs[seen])
        with errors_of("data", run.data):
            train = len(split_of(run.data, seed).train)
        if run.data.batch_size > train:
            raise Impossible(f"data.batch_size: is {run.data.batch_size}, but there are only {train} training samples")
        _, shares = share_data(run)
        check_batches(run, shares)
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


def _check_measures(task: Task, classes: int | None) -> None:
    """Raises Impossible for measures of labels that the data does not have."""
    if task.measure and classes is None:
        raise Impossible(f"measure: {task.measure[0].name} needs labels, and this data has values: leave it out")
    for each in task.measure:
        if isinstance(each, FlipSuccess) and classes is not None and max(each.source, each.target) >= classes:
            raise Impossible(
                f"measure: {each.name} has the label {max(each.source, each.target)}, and the data has the labels "
                f"0..{classes - 1}: take one of these"
            )


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
