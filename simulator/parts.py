"""The schedule and topology of a run, each built once, and the numbers that follow from its parts."""

import math
from typing import Any

import jax

from byzax.simulator.compilation import MAX_COMPILED, compiled_once
from byzax.simulator.config.data import DataPart
from byzax.simulator.config.part import Choice, NestedPart, Part
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import ContractError, build, build_rule, location
from byzax.simulator.file_cache import file_cache
from byzax.simulator.grouping import WorkerGroups
from byzax.simulator.schedules import Schedule
from byzax.simulator.topologies import Topology
from byzax.simulator.world import load

Array = jax.Array

# equal parts give the same functions, and these are compiled once
_schedule = compiled_once(build)
_MIXING = Choice("mixing", NestedPart)


# a graph may be read from a file
@file_cache(maxsize=MAX_COMPILED)
def _topology(part: Part, n: int, f: int) -> Topology:
    made: Topology = build(part, n, f)
    if made.mixing is not None:
        try:
            _MIXING.validate(made.mixing)
        except ValueError as error:
            raise ContractError(f"{part.label}: mixing must be a mixing: {error}{location(part)}") from None
    return made


def schedule(run: Run) -> Schedule:
    """The schedule of a run.

    Args:
        run: The run.

    Returns:
        The decisions of the parameter server.

    Raises:
        ValueError: For an option out of its range.
    """
    made: Schedule = _schedule(run.schedule, run.workers.total, run.workers.declared)
    return made if run.masks is None else _in_groups(made, run.masks.groups, run.masks.dropped == "lost")


@compiled_once
def _in_groups(made: Schedule, groups: int, whole: bool) -> Schedule:
    # a mask hides all but the sums of groups
    return made._replace(sees="buckets", buckets=groups, whole=whole)


def groups_of(run: Run) -> WorkerGroups | None:
    """The groups of workers of whose rows the rule sees the means.

    Args:
        run: The run.

    Returns:
        The groups; None where it sees the rows.
    """
    decides = schedule(run)
    if decides.sees != "buckets":
        return None
    return WorkerGroups(decides.buckets, run.workers.total, decides.whole, run.masks)


def topology(run: Run) -> Topology:
    """The topology of a run.

    Args:
        run: The run.

    Returns:
        The nodes of the run and what they do.

    Raises:
        ValueError: For an option out of its range.
    """
    return _topology(run.topology, run.workers.total, run.workers.declared)


def rule_of(run: Run) -> tuple[str, Part]:
    """The rule of a run, or the mixing of its topology, which takes its place.

    Args:
        run: The run.

    Returns:
        Its key in the scenario, and the part.
    """
    mixing = topology(run).mixing
    return ("rule", run.rule) if mixing is None else ("topology.mixing", _MIXING.validate(mixing))


def f_of_rule(run: Run, rows_seen: int) -> int:
    """The f that the rule is built with.

    Args:
        run: The run.
        rows_seen: Number of rows that the rule sees.

    Returns:
        The declared number of Byzantine workers, at most `rows_seen`; 0 behind a filter. Where a fixed number of
        Byzantine workers takes part in every update, and all of them are declared, it is that number.
    """
    of_topology = topology(run).declared
    if of_topology is not None:
        return of_topology(rows_seen)
    if run.filter is not None:
        return 0
    decides, byzantine, declared = schedule(run), run.workers.byzantine, run.workers.declared
    f = declared if decides.doubted is None else decides.doubted
    if decides.likely and byzantine.participating is not None and declared == byzantine.count:
        f = byzantine.participating
    return min(f, rows_seen)


def least_rows(run: Run) -> int:
    """The fewest rows that the rule accepts.

    Args:
        run: The run.

    Returns:
        The fewest rows, with the pre-aggregations before the rule; at most n.
    """
    n = run.workers.total
    # what a rule declares does not depend on the f that it is made for, and 0 is no limit of any
    return min(n, build_rule(rule_of(run)[1], run.pre, n, 0).least_rows(f_of_rule(run, n)))


def may_shrink(run: Run) -> bool:
    """Tells whether the run can go on with fewer than n rows.

    Args:
        run: The run.

    Returns:
        True where the shape of the rule's state does not depend on the number of rows, or the rule needs all n.
    """
    n, d = run.workers.total, message_bits(run) // 32

    def state(rows_seen: int) -> Any:
        rule = build_rule(rule_of(run)[1], run.pre, rows_seen, f_of_rule(run, rows_seen))
        return jax.eval_shape(lambda: rule.init(d))

    return least_rows(run) == n or state(n) == state(n - 1)


def message_bits(run: Run) -> int:
    """The size of a message.

    Args:
        run: The run.

    Returns:
        The bits of a model or row: 32 for each parameter.
    """
    return 32 * sum(math.prod(shape) for shape in parameter_shapes(run))


def parameter_shapes(run: Run) -> tuple[tuple[int, ...], ...]:
    """The shapes of the parameters of the model.

    Args:
        run: The run.

    Returns:
        The shapes in the order of the vector `[d]`; one vector for a model that does not say them.
    """
    # the same for all seeds
    return _parameter_shapes(run.model.replace(seed=None), run.data.replace(seed=None))


@file_cache(maxsize=128)
def _parameter_shapes(part: Part, data: DataPart) -> tuple[tuple[int, ...], ...]:
    part.reads_files()
    dataset, found = load(data), []

    def init(key: Array) -> Array:
        model = build(part, dataset.x.shape[1:], dataset.classes)
        found.append(model.shapes)
        return model.init(key)

    # the factory is traced too, which gives the size of a model that does not fit into memory
    params = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)))
    return found[0] or (params.shape,)
