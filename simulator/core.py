"""The functions of a run, built from the parts of its scenario; executors call them and hold no formula."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from byzax.aggregators.kernels.sharding import ShardedForm
from byzax.attacks import Goal
from byzax.models import Model
from byzax.simulator.adversary import (
    Adversary,
    ByzantineRanks,
    InitAdversary,
    IsAmong,
    build_adversary,
    build_byzantine_ranks,
)
from byzax.simulator.attackers import Attackers, build_is_active
from byzax.simulator.augmentations import Augmentation
from byzax.simulator.columns import over_columns
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.data import DataPart
from byzax.simulator.config.part import Part
from byzax.simulator.config.rates import RatePart
from byzax.simulator.config.run import Run
from byzax.simulator.context import build_context
from byzax.simulator.contracts import build as build_part
from byzax.simulator.contracts import build_rule
from byzax.simulator.diagnostics import Evaluate, build_evaluate
from byzax.simulator.file_cache import file_cache
from byzax.simulator.forging import ForgeUpdate, build_forge, build_harm
from byzax.simulator.grouping import build_mean_of_groups
from byzax.simulator.jobs import Work, build_make_row, build_work
from byzax.simulator.memories import Memory, build_control_variates, build_memory, with_job_keys
from byzax.simulator.mesh import ONE_DEVICE, MeshShape
from byzax.simulator.parts import f_of_rule, groups_of, rule_of, schedule, topology
from byzax.simulator.privacy import with_row_noise
from byzax.simulator.rates import Rate
from byzax.simulator.senders import IsByzantine, build_count_samples, build_is_byzantine, build_ranks_of_rows
from byzax.simulator.server import MoveModel, Start, build_move_model, build_start, take_aggregate
from byzax.simulator.server_row import ServerRow, build_server_row
from byzax.simulator.training import build_optimizer, build_rate, worker_training
from byzax.simulator.updating import Aggregate, MakeUpdate, build_aggregate, build_update, make_update
from byzax.simulator.world import load

Array = jax.Array


class Core(NamedTuple):
    """The functions of a run. They keep nothing: arrays of the run and states are arguments.

    Attributes:
        start: Makes the state of the server before the first update.
        work: Does a worker's job; it takes the worker's memory too where `memory.receive` is not None.
        move: Applies a row to the model that it was computed from.
        batch: Whether `work` is fast for several workers together on a CPU.
        even: Whether all jobs have as many steps.
        memory: The memory of a worker across its jobs, whose `remember` takes the number of the job in place of a key;
            None where workers send the rows of their jobs.
        byzantine_ranks: Numbers the Byzantine workers of an update.
        init_adversary: Makes the state of the adversary before the first update.
        hides_rows: Whether some attack does not read all rows, as they were sent.
        is_unread: Finds the workers whose rows are forged without reading what they computed, by their numbers among
            the Byzantine ones.
        forge: Forges the rows of Byzantine workers; None where no attack forges any.
        update: Makes an update of the server.
        evaluate: Evaluates a model.
    """

    start: Start
    work: Work
    move: MoveModel
    batch: bool
    even: bool
    memory: Memory | None
    byzantine_ranks: ByzantineRanks
    init_adversary: InitAdversary
    hides_rows: bool
    is_unread: IsAmong
    forge: ForgeUpdate | None
    update: MakeUpdate
    evaluate: Evaluate


def build(run: Run, rows_seen: int, mesh: MeshShape = ONE_DEVICE) -> Core:
    """Builds the core of a run. Runs that agree in a part share the compiled functions of that part.

    Args:
        run: The run.
        rows_seen: Number of rows that the rule sees in an update.
        mesh: Shape of the mesh whose devices aggregate a slice of the coordinates each.

    Returns:
        The core for updates in which the rule sees so many rows.

    Raises:
        ValueError: Where rule, attack and numbers of workers do not fit, or a filter would see more than one row.
    """
    n, memory = run.workers.total, _memory(run)
    adversary, ranks = build_adversary(_attackers(run)), build_byzantine_ranks(_sampled(run))
    ranks_of_rows = build_ranks_of_rows(ranks, changing=_sampled(run) is not None)
    is_byzantine = build_is_byzantine(adversary, ranks, ranks_of_rows, changing=_sampled(run) is not None)
    rule = over_columns(build_rule(rule_of(run)[1], run.pre, rows_seen, f_of_rule(run, rows_seen)), mesh)
    # equal but for their seeds: compiled once
    model = model_of(run.model.replace(seed=None), run.data.replace(seed=None))
    optimizer = _optimizer(run)
    classes = load(run.data).classes
    judge = None if run.filter is None else _filter(run.filter, n, run.workers.declared)
    if judge is not None and rows_seen != 1:
        raise ValueError(f"a filter judges single rows, and in an update of this schedule the rule sees {rows_seen}")
    how, augment, batch_size = worker_training(run), build_augmentation(run.data.augment), run.data.batch_size
    own = _server_row(run)
    # where rule or filter needs the server's own row, the server may have to remember what workers remember
    rule_needs = bool(run.data.validation) and "gradient" in rule.needs
    filter_needs = bool(run.data.validation) and judge is not None and "gradient" in judge.needs
    rule_remembers, filter_remembers = rule_needs and memory is not None, filter_needs and memory is not None
    structure = topology(run)
    weighed = run.weights == "samples"
    models = run.sends_models
    step = build_move_model(optimizer, models)
    # without a server the aggregate is the next model
    move, models = (take_aggregate, True) if structure.mixes else (step, models)
    make_context, harm = build_context(model, batch_size, own, move), build_harm(model, batch_size)
    decides = schedule(run)
    count_samples = build_count_samples(adversary, ranks_of_rows)
    by_worker, by_server = (_clip_and_noise(run, level) for level in ("worker", "server"))
    clip, noise = by_server or (None, 0.0)
    groups = groups_of(run)
    # who asks the rule many times need not mask rows each time
    aggregate, answer = (
        build_aggregate(
            rule,
            decides.weight,
            None if groups is None else _mean_of_groups(groups, rows_seen, hidden and groups.masks is not None),
            weighed,
            rule_remembers,
            clip,
        )
        for hidden in (True, False)
    )
    return Core(
        start=build_start(model, optimizer, rule, judge, own, rule_remembers, filter_remembers),
        work=build_work(model, classes, batch_size, how, augment, ranks, adversary.corrupt),
        move=_compiled(step),
        batch=model.batch,
        even=run.local is None or run.local.steps is not None,
        memory=with_row_noise(memory, *by_worker) if by_worker else memory and with_job_keys(memory),
        byzantine_ranks=ranks,
        init_adversary=adversary.init,
        hides_rows=adversary.has_hidden_rows,
        is_unread=adversary.has_unread_rows,
        forge=None
        if adversary.forge is None
        else build_forge(
            adversary,
            ranks,
            is_byzantine,
            answer,
            make_context,
            move,
            harm,
            count_samples,
            decides.weight,
            alone=decides.sees == "rows",
            models=models,
            weighed=weighed or rule.weighs,
            asks_own=rule_needs and any("ask_rule" in each.attack.needs for each in _attackers(run)),
            remembers=rule_remembers,
            rate=1.0 if structure.mixes else _server_rate(run),
        ),
        update=build_update(
            aggregate, judge, make_context, move, is_byzantine, count_samples, filter_remembers, noise * (clip or 0)
        ),
        evaluate=build_evaluate(model, _goal(run, adversary)),
    )


class Agreement(NamedTuple):
    """The functions by which nodes agree on a model: each takes a rule over models that servers sent.

    Attributes:
        init_adversary: Makes the state of what forges models before the first update.
        forge: Forges the models of Byzantine servers; None where there are none.
        update: Takes the rule over models.
        init_rule: Makes the state of the rule, which never changes.
    """

    init_adversary: InitAdversary
    forge: ForgeUpdate | None
    update: MakeUpdate
    init_rule: Callable[[int], Any]


def build_agreement(run: Run, rule: Part, attack: Part, servers: int, byzantine: int, models_seen: int) -> Agreement:
    """Builds the functions by which nodes agree on a model.

    Args:
        run: The run.
        rule: The rule over models.
        attack: The attack of Byzantine servers, who know all models that a receiver gets.
        servers: Number of servers.
        byzantine: Number of Byzantine servers.
        models_seen: Number of models that a node takes the rule over.

    Returns:
        The functions, for worlds whose workers are the servers.

    Raises:
        ValueError: Where rule or attack do not fit these numbers.
    """
    forging = Attackers(_attack(attack, servers, byzantine), 0, byzantine, "omniscient", None)
    adversary, ranks = build_adversary((forging,)), build_byzantine_ranks(None)
    ranks_of_rows = build_ranks_of_rows(ranks, changing=False)
    is_byzantine = build_is_byzantine(adversary, ranks, ranks_of_rows, changing=False)
    count_samples = build_count_samples(adversary, ranks_of_rows)
    made = build_rule(rule, (), models_seen, min(byzantine, (models_seen - 1) // 2))
    model, batch_size = model_of(run.model.replace(seed=None), run.data.replace(seed=None)), run.data.batch_size
    make_context = build_context(model, batch_size, _server_row(run), take_aggregate)
    aggregate = build_aggregate(made, None, None, False, False)
    return Agreement(
        init_adversary=adversary.init,
        forge=None
        if adversary.forge is None
        else build_forge(
            adversary,
            ranks,
            is_byzantine,
            aggregate,
            make_context,
            take_aggregate,
            build_harm(model, batch_size),
            count_samples,
            None,
            alone=True,
            models=True,
            weighed=False,
            asks_own=False,
            remembers=False,
            rate=1.0,
        ),
        update=build_update(aggregate, None, make_context, take_aggregate, is_byzantine, count_samples, False),
        init_rule=made.init,
    )


class SlicedUpdate(NamedTuple):
    """The functions of servers that hold slices of the coordinates.

    Attributes:
        form: The rule over slices.
        optimizer: The optimizer of each server.
        is_byzantine: Finds the Byzantine rows, for diagnostics.
        make_update: Makes the update of a server from an aggregation of its slices, not compiled yet.
    """

    form: ShardedForm
    optimizer: optax.GradientTransformation
    is_byzantine: IsByzantine
    make_update: Callable[[Aggregate], MakeUpdate]


@compiled_once
def build_sliced_update(run: Run, rows_seen: int) -> SlicedUpdate:
    """Builds the functions of servers that hold slices.

    Args:
        run: The run.
        rows_seen: Number of rows that the rule sees.

    Returns:
        The functions.

    Raises:
        PartError: For a rule or pre-aggregation without a sharded form.
    """
    form = build_rule(rule_of(run)[1], run.pre, rows_seen, f_of_rule(run, rows_seen)).sharded
    assert form is not None
    adversary, ranks = build_adversary(_attackers(run)), build_byzantine_ranks(_sampled(run))
    ranks_of_rows = build_ranks_of_rows(ranks, changing=False)
    is_byzantine = build_is_byzantine(adversary, ranks, ranks_of_rows, changing=False)
    count_samples = build_count_samples(adversary, ranks_of_rows)
    model, optimizer = model_of(run.model.replace(seed=None), run.data.replace(seed=None)), _optimizer(run)
    move = build_move_model(optimizer, run.sends_models)
    make_context = build_context(model, run.data.batch_size, _server_row(run), move)

    def made(aggregate: Aggregate) -> MakeUpdate:
        return make_update(aggregate, None, make_context, move, is_byzantine, count_samples, False)

    return SlicedUpdate(form, optimizer, is_byzantine, made)


class CoreOf:
    """The functions of a run for updates in which the rule sees so many rows.

    Two are equal where their runs differ in nothing but the seed: what is built of one is then compiled once.
    """

    def __init__(self, run: Run, mesh: MeshShape = ONE_DEVICE) -> None:
        """Takes the run, and the shape of the mesh whose devices aggregate a slice of the coordinates each."""
        self._run, self._mesh, self._cores = run, mesh, {}
        # no function depends on the seed
        self._key = run.replace(seed=0), mesh

    def __call__(self, rows: int) -> Core:
        """The functions for so many rows."""
        if rows not in self._cores:
            self._cores[rows] = build(self._run, rows, self._mesh)
        return self._cores[rows]

    def __eq__(self, other: object) -> bool:
        """True for functions that are the same."""
        return isinstance(other, CoreOf) and self._key == other._key

    def __hash__(self) -> int:
        """A hash of the run without its seed, and of the mesh."""
        return hash(self._key)


@compiled_once
def build_augmentation(parts: tuple[Part, ...]) -> Augmentation | None:
    """Builds the augmentation of a scenario.

    Args:
        parts: Augmentations.

    Returns:
        The augmentation that carries them out one after the other; None without any.
    """
    changes = [build_part(part) for part in parts]

    def augment(key: Array, x: Array) -> Array:
        for place, change in enumerate(changes):
            x = change(jax.random.fold_in(key, place), x)
        return x

    return augment if changes else None


# Each part is built once: functions built from equal parts are then the same functions, compiled once.
_attack, _filter = compiled_once(build_part), compiled_once(build_part)
_compiled, _mean_of_groups = compiled_once(jax.jit), compiled_once(build_mean_of_groups)


def _server_row(run: Run) -> ServerRow:
    """The server's own row, made as workers make theirs."""
    model, classes = model_of(run.model.replace(seed=None), run.data.replace(seed=None)), load(run.data).classes
    how, augment, batch_size = worker_training(run), build_augmentation(run.data.augment), run.data.batch_size
    # its samples are its own
    how = how._replace(batches="replacement", privacy=None)
    make_row = build_make_row(model, classes, batch_size, how, augment, None, None)
    return build_server_row(make_row, _memory(run), how.local, batch_size)


def _clip_and_noise(run: Run, level: str) -> tuple[float, float] | None:
    """The bound and the noise of `privacy`; None where it is not of this level."""
    private = run.privacy
    return None if private is None or private.level != level else (private.clip, private.noise)


def _attackers(run: Run) -> tuple[Attackers, ...]:
    return tuple(
        Attackers(_attack(part, run.workers.total, end - first), first, end, part.knowledge, build_is_active(part))
        for _, part, first, end in run.attacks
    )


def _goal(run: Run, adversary: Adversary) -> Goal | None:
    """The backdoor whose success is measured."""
    if run.trigger is None:
        return adversary.goal
    return _attack(run.trigger, run.workers.total, run.workers.byzantine.count).goal


def _sampled(run: Run) -> int | None:
    byzantine = run.workers.byzantine
    return byzantine.count if byzantine.per_round == "sampled" else None


def _memory(run: Run) -> Memory | None:
    local = run.local
    if local is not None and local.control_variates:
        # a scenario with them has these two numbers
        return build_control_variates(local.steps, local.learning_rate, run.optimizer.options()["learning_rate"])  # pyright: ignore[reportArgumentType]
    return build_memory(run.worker_momentum, run.variance_reduction, run.data.batch_size)


def _server_rate(run: Run) -> float | Rate:
    """The factor between aggregate and update: a number or a function of the step; 1 where it is not known.

    It is 1 for gradients too, which are no changes of the model.
    """
    options = run.optimizer.options()
    plain = run.optimizer.name == "sgd" and not options["momentum"]
    return build_rate(options["learning_rate"], run.steps) if run.local is not None and plain else 1.0


def _optimizer(run: Run) -> optax.GradientTransformation:
    part = run.optimizer
    # a constant rate does not depend on the length of the run
    falling = isinstance(part.options().get("learning_rate"), RatePart)
    return _optimizer_of(part, run.steps if falling else 0, run.regularisation.max_norm)


@compiled_once
def _optimizer_of(part: Part, updates: int, max_norm: float | None) -> optax.GradientTransformation:
    return build_optimizer(part, updates, max_norm)


@file_cache(maxsize=128)
def model_of(part: Part, data: DataPart) -> Model:
    """The model of a run.

    Args:
        part: The model's description.
        data: The data it is made for.

    Returns:
        The model, one for equal descriptions.
    """
    part.reads_files()
    dataset = load(data)
    return build_part(part, dataset.x.shape[1:], dataset.classes)
