"""The checks before anything is traced: every part of a run is built, and n and f fit its first updates."""

import numpy as np

from byzax.options import PartError
from byzax.simulator.config.part import Part, parts_of
from byzax.simulator.config.rates import RatePart
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import build, check_type, errors_of, require
from byzax.simulator.data import Dataset, Split
from byzax.simulator.executors.base import all_together, plan, situation
from byzax.simulator.mistakes import Impossible
from byzax.simulator.parts import schedule as grouped
from byzax.simulator.parts import topology
from byzax.simulator.schedules import Schedule
from byzax.simulator.timings import Timing
from byzax.simulator.training import build_optimizer
from byzax.simulator.validation.link_checks import check_outages
from byzax.simulator.validation.privacy_checks import check_masks, check_privacy
from byzax.simulator.validation.rule_rows import check_rule, nested_parts
from byzax.simulator.validation.training_traces import check_schedule, trace_rate
from byzax.simulator.validation.wire_checks import check_wire, trace_wire
from byzax.simulator.world import load, share_out, split_of

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
    for key, part, f in attacks_of(run):
        for inner_key, inner in nested_parts(part, key):
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
    check_wire(run)
    with errors_of("schedule", run.schedule):
        schedule: Schedule = build(run.schedule, n, declared)
        if run.sends_models and schedule.weight is not None:
            raise ValueError("staleness weights are for gradients and changes: with local.send model take constant")
    with errors_of("topology", run.topology):
        structure.check(run)
    check_outages(run)
    check_masks(run, schedule)
    check_privacy(run, schedule)
    schedule = grouped(run)
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
        for rows in structure.inboxes or (schedule.buckets or n,):
            check_rule(run, rows)
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


def _check_optimizers(run: Run) -> None:
    """Builds the optimizers of server and workers, and the schedules of their learning rates."""
    for key, part, updates in rates_of(run):
        with errors_of(key, part):
            trace_rate(part, updates)
    for key, part in optimizers_of(run):
        with errors_of(key, part):
            check_type(part, build_optimizer(part, run.steps))


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
    trace_wire(run)
    if not all_together(run):
        if schedule.plan is None:
            # a plan asks the rule for its fewest rows, by f = 0
            check_rule(run, run.workers.total, 0)
        with errors_of("schedule", run.schedule):
            first = situation(run)
            check_schedule(run.schedule, schedule, first._replace(steps=min(first.steps, FIRST_UPDATES)))
            # a plan needs the number of parameters, for which the model is traced
            seen = np.unique(plan(run, FIRST_UPDATES).seen).tolist()
        for rows in seen:
            check_rule(run, rows)
    return schedule


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


def attacks_of(run: Run) -> list[tuple[str, Part, int]]:
    """Each attack with its key and the number of workers that carry it out."""
    return [(each.key, each.part, each.end - each.first) for each in run.attacks]


def rates_of(run: Run) -> list[tuple[str, Part, int]]:
    """The learning rate schedules, with their keys and the number of updates of each."""
    return [(key, part, max(1, run.steps - part.warm_up)) for key, part in parts_of(run) if isinstance(part, RatePart)]


def optimizers_of(run: Run) -> list[tuple[str, Part]]:
    """The optimizers of server and workers, with their keys."""
    found = [("optimizer", run.optimizer), ("local.optimizer", run.local and run.local.optimizer)]
    return [(key, part) for key, part in found if part is not None]
