"""The functions of a run, put together from the parts of its scenario; executors call them and hold no formula."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from byzax.aggregators import Aggregator
from byzax.aggregators.filters import Filter
from byzax.aggregators.pre import chained
from byzax.attacks import Attack, Goal
from byzax.models import Model
from byzax.simulator.adversary import Adversary, Attackers, Lying, joined, lying, window
from byzax.simulator.augmentations import Augmentation
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.data import DataPart
from byzax.simulator.config.part import Part
from byzax.simulator.config.rates import RatePart
from byzax.simulator.config.run import Run
from byzax.simulator.diagnostics import Decision, Diagnostics, Evaluation, evaluating
from byzax.simulator.file_cache import file_cache
from byzax.simulator.jobs import making, working
from byzax.simulator.schedules import Schedule
from byzax.simulator.serving import (
    Server,
    applying,
    counting,
    forging,
    harming,
    knowing,
    moving,
    owning,
    remembered_by,
    showing,
    starting,
    telling,
    updating,
)
from byzax.simulator.training import Memory, by_job, controlling, optimizing, rate, remembering, training
from byzax.simulator.world import World, load

Array = jax.Array


class Core(NamedTuple):
    """The functions of a run; r is the number of new rows of an update, n the number of workers.

    Attributes:
        start: `start(world)` gives the `Server` before the first update.
        work: `work(world, params, worker, job, handed)` gives the row `[d]` of a job whose worker was handed the model
            after `handed` updates; where `memory.handed` is there it takes the worker's memory too.
        batch: Whether `work` is fast for several workers together on a CPU.
        memory: What a worker remembers of its used rows, and what it sends in place of them; None where it sends them
            as they are.
        lies: `lies(world, step)` gives the number of each worker among the Byzantine ones, `[n]`, -1 for the honest.
        adversary: `adversary(d)` gives the state of the adversary before the first update.
        forge: `forge(world, step, arrived, rows [r, d], server as shown, adversary state)` gives `(rows [r, d],
            adversary state)`, honest rows untouched; None where no attack forges anything.
        update: `update(world, server, arrived, rows)` gives `(server, Diagnostics, Decision)`.
        evaluate: `evaluate(world, params)` gives an `Evaluation`.
    """

    start: Callable[[World], Server]
    work: Callable[..., Array]
    batch: bool
    memory: Memory | None
    lies: Lying
    adversary: Callable[[int], Any]
    forge: Callable[..., tuple[Array, Any]] | None
    update: Callable[..., tuple[Server, Diagnostics, Decision]]
    evaluate: Callable[[World, Array], Evaluation]


def build(run: Run, seen: int) -> Core:
    """The core of a scenario for updates in which the rule sees `seen` rows.

    Scenarios that agree in a part share the compiled functions of that part. Raises ValueError where rule, attack and
    numbers of workers do not fit, or where a filter would see more than one row.
    """
    n, memory = run.workers.total, _memory(run)
    adversary, lies = joined(_attackers(run)), lying(_sampled(run))
    lied = telling(adversary, lies, changing=_sampled(run) is not None)
    rule = _rule(run.rule, run.pre, seen, doubted(run, seen))
    # equal but for their seeds: compiled once
    model = _model(run.model.replace(seed=None), run.data.replace(seed=None))
    optimizer = _optimizer(run)
    classes = load(run.data).classes
    judge = None if run.filter is None else _filter(run.filter, n, run.workers.declared)
    if judge is not None and seen != 1:
        raise ValueError(f"a filter judges single rows, and in an update of this schedule the rule sees {seen}")
    how, augment, batch_size = training(run), augmenting(run.data.augment), run.data.batch_size
    own = owning(making(model, classes, batch_size, how, augment, None, None), memory, how.local, batch_size)
    # who needs the server's own row, for which it may have to remember what workers remember
    rule_needs = bool(run.data.validation) and "gradient" in rule.needs
    filter_needs = bool(run.data.validation) and judge is not None and "gradient" in judge.needs
    rule_remembers, filter_remembers = rule_needs and memory is not None, filter_needs and memory is not None
    apply = applying(rule, run.weights, rule_remembers)
    models = run.local is not None and run.local.send == "model"
    move = moving(optimizer, models)
    context, harm = knowing(model, batch_size, own, move), harming(model, batch_size)
    decides = schedule(run)
    counts = counting(adversary, lies)
    shown = showing(decides.sees, decides.buckets, decides.weight, seen)
    # an adversary that sees one row at a time remembers the others
    remembers = decides.sees == "table" or (decides.sees == "rows" and seen == 1)
    return Core(
        start=starting(
            model, optimizer, rule, judge, n if decides.sees == "table" else 0, own, rule_remembers, filter_remembers
        ),
        work=working(model, classes, batch_size, how, augment, lies, adversary.corrupt),
        batch=model.batch,
        memory=memory and by_job(memory),
        lies=lies,
        adversary=remembered_by(adversary, n if remembers else 0),
        forge=None
        if adversary.forge is None
        else forging(
            adversary,
            lies,
            lied,
            apply,
            context,
            move,
            harm,
            counts,
            shown,
            kept=decides.sees == "table",
            models=models,
            weighed=run.weights == "samples",
            asks_own=rule_needs and any("ask_rule" in each.attack.needs for each in _attackers(run)),
            remembers=rule_remembers,
            rate=_server_rate(run),
        ),
        update=updating(apply, judge, context, move, lied, counts, shown, filter_remembers),
        evaluate=evaluating(model, _goal(run, adversary)),
    )


def schedule(run: Run) -> Schedule:
    """The schedule of a run. Raises ValueError for an option out of range."""
    return _schedule(run.schedule, run.workers.total, run.workers.declared)


def doubted(run: Run, seen: int) -> int:
    """The f that the rule is told of `seen` rows: all declared, if there are so many; 0 behind a filter.

    Where exactly so many Byzantine workers take part in every update, and all of them are declared, it is that number.
    """
    told, byzantine = schedule(run).doubted, run.workers.byzantine
    if byzantine.participating is not None and run.schedule.options()["doubted"] == "likely":
        told = byzantine.participating if run.workers.declared == byzantine.count else told
    return min(run.workers.declared if told is None else told, seen) if run.filter is None else 0


def least_rows(run: Run) -> int:
    """The fewest rows, up to n, that the rule accepts with what stands before it."""
    n = run.workers.total
    # what a rule declares does not depend on the f that it is made for, and 0 is no limit of any
    return min(n, _rule(run.rule, run.pre, n, 0).least_rows(doubted(run, n)))


def may_shrink(run: Run) -> bool:
    """Whether the rule remembers nothing that is as long as its rows are many, so that it can go on with fewer."""
    n, d = run.workers.total, message_bits(run) // 32

    def state(seen: int) -> Any:
        return jax.eval_shape(lambda: _rule(run.rule, run.pre, seen, doubted(run, seen)).init(d))

    return least_rows(run) == n or state(n) == state(n - 1)


def message_bits(run: Run) -> int:
    """The bits of a model or row that travels: 32 for each parameter."""
    dataset, part = load(run.data), run.model

    def init(key: Array) -> Array:
        return part.make(dataset.x.shape[1:], dataset.classes).init(key)

    # the factory inside too: of a model that does not fit into memory the size is known all the same
    return 32 * jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0))).shape[0]


@compiled_once
def augmenting(parts: tuple[Part, ...]) -> Augmentation | None:
    """What all augmentations make of images, one after the other; None without any."""
    made = [part.make() for part in parts]

    def augment(key: Array, x: Array) -> Array:
        for place, change in enumerate(made):
            x = change(jax.random.fold_in(key, place), x)
        return x

    return augment if made else None


# The parts, each made once: functions made from equal parts are then the same functions, compiled once.
def _attackers(run: Run) -> tuple[Attackers, ...]:
    return tuple(
        Attackers(_attack(part, run.workers.total, end - first), first, end, part.knowledge, window(part))
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


@compiled_once
def _attack(part: Part, n: int, byzantine: int) -> Attack:
    return part.make(n, byzantine)


@compiled_once
def _schedule(part: Part, n: int, f: int) -> Schedule:
    return part.make(n, f)


@compiled_once
def _rule(part: Part, before: tuple[Part, ...], k: int, f: int) -> Aggregator:
    return chained(part.make, k, f, [each.make for each in before])


@compiled_once
def _filter(part: Part, n: int, f: int) -> Filter:
    return part.make(n, f)


def _memory(run: Run) -> Memory | None:
    local = run.local
    if local is not None and local.control_variates:
        # a scenario with them has these two numbers
        return controlling(local.steps, local.learning_rate, run.optimizer.options()["learning_rate"])  # pyright: ignore[reportArgumentType]
    return remembering(run.worker_momentum, run.variance_reduction, run.data.batch_size)


def _server_rate(run: Run) -> Any:
    """By what the server multiplies an aggregate of changes, a number or a function of the step; 1 if it is not known.

    Gradients are no changes of the model: there is nothing of which a rate would take a share.
    """
    options = run.optimizer.options()
    plain = run.optimizer.name == "sgd" and not options["momentum"]
    return rate(options["learning_rate"], run.steps) if run.local is not None and plain else 1.0


def _optimizer(run: Run) -> optax.GradientTransformation:
    part = run.optimizer
    # of a rate that stays the length of the run makes no difference
    falling = isinstance(part.options().get("learning_rate"), RatePart)
    return _optimizer_of(part, run.steps if falling else 0, run.regularisation.max_norm)


@compiled_once
def _optimizer_of(part: Part, updates: int, max_norm: float | None) -> optax.GradientTransformation:
    return optimizing(part, updates, max_norm)


@file_cache(maxsize=128)
def _model(part: Part, data: DataPart) -> Model:
    part.reads_files()
    dataset = load(data)
    return part.make(dataset.x.shape[1:], dataset.classes)
