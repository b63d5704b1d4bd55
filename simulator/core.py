"""The functions of a run, put together from the parts of its scenario; executors call them and hold no formula."""

import bisect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import optax

from byzax.aggregators import Aggregator
from byzax.aggregators.filters import Filter
from byzax.aggregators.pre import chained
from byzax.attacks import Attack, Goal
from byzax.models import Model
from byzax.simulator.adversary import Adversary, Lying, Part, joined, lying, window
from byzax.simulator.augmentations import Augmentation
from byzax.simulator.compilation import kept
from byzax.simulator.components import (
    ATTACKS,
    AUGMENTATIONS,
    FILTERS,
    MODELS,
    PRE,
    RULES,
    SCHEDULES,
    Component,
    RateSource,
    reads_files,
)
from byzax.simulator.diagnostics import Evaluation, Update, evaluating
from byzax.simulator.file_cache import file_cache
from byzax.simulator.jobs import making, working
from byzax.simulator.parts import DataSource
from byzax.simulator.scenario import Scenario
from byzax.simulator.schedules import Schedule
from byzax.simulator.serving import (
    Server,
    applying,
    asks,
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
    """The functions of a scenario; r is the number of new rows of an update, n the number of workers.

    `start(world)` gives the `Server` before the first update. `work(world, params, worker, job, handed)` gives the row
    `[d]` of a job whose worker was handed the model after `handed` updates. `memory`: what a worker remembers of its
    used rows, and what it sends in place of them; None where it sends them as they are; where it has `handed`, `work`
    takes the memory too. `lies(world, step)` says which of the Byzantine workers each is, `[n]`, -1 for the honest.
    `adversary(d)` is what the adversary keeps. `forge(world, step, arrived, rows [r, d], server as shown, adversary
    state)` gives `(rows [r, d], adversary state)`, honest rows untouched; None where no attack forges anything.
    `update(world, server, arrived, rows)` gives `(server, Update)`. `evaluate(world, params)` gives an `Evaluation`.
    """

    start: Callable[[World], Server]
    work: Callable[..., Array]
    memory: Memory | None
    lies: Lying
    adversary: Callable[[int], Any]
    forge: Callable[..., tuple[Array, Any]] | None
    update: Callable[..., tuple[Server, Update]]
    evaluate: Callable[[World, Array], Evaluation]


def build(scenario: Scenario, seen: int) -> Core:
    """The core of a scenario for updates in which the rule sees `seen` rows.

    Scenarios that agree in a part share the compiled functions of that part. Raises ValueError where rule, attack and
    numbers of workers do not fit, or where a filter would see more than one row.
    """
    n, memory = scenario.workers.total, _memory(scenario)
    adversary, lies = joined(_parts(scenario)), lying(_sampled(scenario))
    lied = telling(adversary, lies, changing=_sampled(scenario) is not None)
    rule = _rule(scenario.rule, scenario.pre, seen, doubted(scenario, seen))
    # equal but for their seeds: compiled once
    unseeded = {"seed": None}
    model = _model(scenario.model.model_copy(update=unseeded), scenario.data.model_copy(update=unseeded))
    optimizer = _optimizer(scenario)
    classes = load(scenario.data).classes
    judge = None if scenario.filter is None else _filter(scenario.filter, n, scenario.workers.declared)
    if judge is not None and seen != 1:
        raise ValueError(f"a filter judges single rows, and in an update of this schedule the rule sees {seen}")
    how, augment, batch_size = training(scenario), augmenting(scenario.data.augment), scenario.data.batch_size
    own = owning(making(model, classes, batch_size, how, augment, None, None), memory, how.local, batch_size)
    # only then does it matter who asks for the server's own row
    matters = memory is not None or any(part.attack.questions for part in _parts(scenario))
    rule_asks, filter_asks = _ask(scenario, rule, seen, judge) if matters else (False, False)
    rule_remembers, filter_remembers = rule_asks and memory is not None, filter_asks and memory is not None
    apply = applying(rule, scenario.weights, rule_remembers)
    models = scenario.local is not None and scenario.local.send == "model"
    move = moving(optimizer, models)
    context, harm = knowing(model, batch_size, own, move), harming(model, batch_size)
    decides = schedule(scenario)
    counts = counting(adversary, lies)
    shown = showing(decides.sees, decides.buckets, decides.weight, seen)
    # an adversary that sees one row at a time remembers the others
    remembers = decides.sees == "table" or (decides.sees == "rows" and seen == 1)
    return Core(
        start=starting(
            model, optimizer, rule, judge, n if decides.sees == "table" else 0, own, rule_remembers, filter_remembers
        ),
        work=working(model, classes, batch_size, how, augment, lies, adversary.corrupt),
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
            weighed=scenario.weights == "samples",
            asks_own=rule_asks,
            remembers=rule_remembers,
            rate=_server_rate(scenario),
        ),
        update=updating(apply, judge, context, move, lied, counts, shown, filter_remembers),
        evaluate=evaluating(model, _goal(scenario, adversary)),
    )


def schedule(scenario: Scenario) -> Schedule:
    """The schedule of a scenario. Raises ValueError for an option out of range."""
    return _schedule(scenario.schedule, scenario.workers.total, scenario.workers.declared)


def doubted(scenario: Scenario, seen: int) -> int:
    """The f that the rule is told of `seen` rows: all declared, if there are so many; 0 behind a filter.

    Where exactly so many Byzantine workers take part in every update, and all of them are declared, it is that number.
    """
    told, byzantine = schedule(scenario).doubted, scenario.workers.byzantine
    if byzantine.participating is not None and scenario.schedule.options()["doubted"] == "likely":
        told = byzantine.participating if scenario.workers.declared == byzantine.count else told
    return min(scenario.workers.declared if told is None else told, seen) if scenario.filter is None else 0


def least(scenario: Scenario) -> int:
    """The fewest rows, up to n, that the rule accepts with what stands before it; n where it accepts none."""
    n = scenario.workers.total

    def accepts(seen: int) -> bool:
        try:
            _rule(scenario.rule, scenario.pre, seen, doubted(scenario, n))
        except ValueError:
            return False
        return True

    return bisect.bisect_left(range(1, n), True, key=accepts) + 1


def may_shrink(scenario: Scenario) -> bool:
    """Whether the rule remembers nothing that is as long as its rows are many, so that it can go on with fewer."""
    n, d = scenario.workers.total, message_bits(scenario) // 32

    def state(seen: int) -> Any:
        return jax.eval_shape(lambda: _rule(scenario.rule, scenario.pre, seen, doubted(scenario, seen)).init(d))

    return least(scenario) == n or state(n) == state(n - 1)


def message_bits(scenario: Scenario) -> int:
    """The bits of a model or row that travels: 32 for each parameter."""
    dataset, part = load(scenario.data), scenario.model

    def init(key: Array) -> Array:
        return MODELS[part.name](dataset.x.shape[1:], dataset.classes, **part.options()).init(key)

    # the factory inside too: of a model that does not fit into memory the size is known all the same
    return 32 * jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0))).shape[0]


def _ask(scenario: Scenario, rule: Aggregator, seen: int, judge: Filter | None) -> tuple[bool, bool]:
    """Who asks for the server's own row: the rule, the filter."""
    if not scenario.data.validation:
        return False, False
    d = message_bits(scenario) // 32
    return asks(rule.apply, rule.init, seen, d), judge is not None and asks(judge.judge, judge.init, None, d)


@kept
def augmenting(parts: tuple[Component, ...]) -> Augmentation | None:
    """What all augmentations make of images, one after the other; None without any."""
    made = [AUGMENTATIONS[part.name](**part.options()) for part in parts]

    def augment(key: Array, x: Array) -> Array:
        for place, change in enumerate(made):
            x = change(jax.random.fold_in(key, place), x)
        return x

    return augment if made else None


# The parts, each made once: functions made from equal parts are then the same functions, compiled once.
def _parts(scenario: Scenario) -> tuple[Part, ...]:
    return tuple(
        Part(_attack(lie, scenario.workers.total, end - first), first, end, lie.knowledge, window(lie))
        for lie, first, end in scenario.lies
    )


def _goal(scenario: Scenario, adversary: Adversary) -> Goal | None:
    """The backdoor whose success is measured."""
    if scenario.trigger is None:
        return adversary.goal
    return _attack(scenario.trigger, scenario.workers.total, scenario.workers.byzantine.count).goal


def _sampled(scenario: Scenario) -> int | None:
    byzantine = scenario.workers.byzantine
    return byzantine.count if byzantine.per_round == "sampled" else None


@kept
def _attack(part: Component, n: int, byzantine: int) -> Attack:
    return ATTACKS[part.name](n, byzantine, **part.options())


@kept
def _schedule(part: Component, n: int, f: int) -> Schedule:
    return SCHEDULES[part.name](n, f, **part.options())


@kept
def _rule(part: Component, before: tuple[Component, ...], k: int, f: int) -> Aggregator:
    mixers = [partial(PRE[each.name], **each.options()) for each in before]
    return chained(partial(RULES[part.name], **part.options()), k, f, mixers)


@kept
def _filter(part: Component, n: int, f: int) -> Filter:
    return FILTERS[part.name](n, f, **part.options())


def _memory(scenario: Scenario) -> Memory | None:
    local = scenario.local
    if local is not None and local.control_variates:
        # a scenario with them has these two numbers
        return controlling(local.steps, local.learning_rate, scenario.optimizer.options()["learning_rate"])  # pyright: ignore[reportArgumentType]
    return remembering(scenario.worker_momentum, scenario.variance_reduction, scenario.data.batch_size)


def _server_rate(scenario: Scenario) -> Any:
    """By what the server multiplies an aggregate of changes, a number or a function of the step; 1 if it is not known.

    Gradients are no changes of the model: there is nothing of which a rate would take a share.
    """
    options = scenario.optimizer.options()
    plain = scenario.optimizer.name == "sgd" and not options["momentum"]
    return rate(options["learning_rate"], scenario.steps) if scenario.local is not None and plain else 1.0


def _optimizer(scenario: Scenario) -> optax.GradientTransformation:
    part = scenario.optimizer
    # of a rate that stays the length of the run makes no difference
    falling = isinstance(part.options().get("learning_rate"), RateSource)
    return _optimizer_of(part, scenario.steps if falling else 0, scenario.regularisation.max_norm)


@kept
def _optimizer_of(part: Component, updates: int, max_norm: float | None) -> optax.GradientTransformation:
    return optimizing(part, updates, max_norm)


@file_cache(maxsize=128)
def _model(part: Component, data: DataSource) -> Model:
    reads_files(part)
    dataset = load(data)
    return MODELS[part.name](dataset.x.shape[1:], dataset.classes, **part.options())
