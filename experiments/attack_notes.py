"""Notes about the attacks of a scenario before it starts: their cost, and options that do nothing there."""

from collections.abc import Iterator
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from byzax.attacks import Answer, Attack, View
from byzax.experiments.names import counted
from byzax.simulator.components import ATTACKS, Component
from byzax.simulator.executors.base import fixed_liars
from byzax.simulator.file_cache import file_cache
from byzax.simulator.parts import DataSource, Lie
from byzax.simulator.scenario import Scenario
from byzax.simulator.units import changed, units
from byzax.simulator.world import load, share_out

# Samples on which it is looked whether a trigger changes anything, and updates in which an attack does.
LOOKED_AT, UPDATES = 200, 3


def attack_notes(scenario: Scenario) -> Iterator[str]:
    """A line, beginning with the key, for each attack of a scenario that is costly or does nothing there.

    Args:
        scenario: one that was built: every part of it can be made.

    Returns:
        The lines.
    """
    for key, (lie, first, end) in zip(scenario.lie_keys, scenario.lies, strict=True):
        count = end - first
        if not count:
            continue
        attack = _made(lie, scenario.workers.total, count)
        questions = attack.questions * (count if lie.knowledge == "own" else 1)
        if questions > 1:
            yield (
                f"{key}: {lie.name} asks the rule {questions} times in every update, beside the one time that the "
                "server does: with a rule that takes long that is most of a run"
            )
        yield from _when(key, lie, scenario.steps)
        if lie.knowledge != "omniscient" and _idle(lie, scenario.workers.total, count):
            yield (
                f"{key}.knowledge: {lie.name} sends what its workers computed where they know no other row "
                f"({lie.knowledge}, {counted(count, 'worker')}): choose omniscient, or colluding with several workers"
            )
        if attack.goal is not None and not _shows(lie, count, scenario.data, scenario.workers.total):
            yield (
                f"{key}.value: the trigger of {lie.name} changes none of {LOOKED_AT} images: it is of the colour that "
                "is there already"
            )
        yield from _without_samples(key, lie, scenario, first, end)
        if lie.name == "scaled" and lie.options()["boost"] is None and scenario.local is not None:
            optimizer = scenario.optimizer
            if optimizer.name != "sgd" or optimizer.options()["momentum"]:
                how = "sgd with momentum" if optimizer.name == "sgd" else optimizer.name
                yield (
                    f"{key}.boost: with {how} at the server no one factor puts the Byzantine model in the place of the "
                    "shared one: n / f is taken"
                )


def _when(key: str, lie: Lie, steps: int) -> Iterator[str]:
    begin, end = getattr(lie, "from"), min(steps, lie.until or steps)
    if lie.every > 1 and begin + lie.every >= end:
        yield f"{key}.every: {lie.name} is carried out once, in update {begin}: the next would be {begin + lie.every}"
    options = lie.options()
    if lie.name == "stale_replay" and options["age"] >= -(-(end - begin) // lie.every):
        yield f"{key}.age: {lie.name} sends zeros in all updates: there is none {options['age']} updates before"


def _without_samples(key: str, lie: Lie, scenario: Scenario, first: int, end: int) -> Iterator[str]:
    """Labels that no worker has whose samples are to be changed, and a worker to copy that is Byzantine itself."""
    byzantine, options = scenario.workers.byzantine, lie.options()
    if byzantine.per_round != "fixed":
        return
    source = options.get("source") if options.get("labels", "targeted") == "targeted" else None
    target = options.get("target") if lie.name == "mimic" else None
    if source is None and not isinstance(target, int):
        return
    classes = load(scenario.data).classes
    for seed in scenario.seeds:
        liars = fixed_liars(scenario, seed)
        if isinstance(target, int) and target in liars:
            yield f"{key}.target: {lie.name} is to copy worker {target}, a Byzantine one itself: choose an honest one"
            return
        if source is not None and classes is not None:
            _, shares = share_out(scenario.data, scenario.workers.total, seed)
            held = np.concatenate([load(scenario.data).y[shares[worker]] for worker in liars[first:end]])
            if not (held == source).any():
                yield (
                    f"{key}.source: no Byzantine worker of {lie.name} holds a sample of label {source} (seed {seed}): "
                    "nothing is changed: choose a label that they hold, or workers.byzantine.which"
                )
                return


def _made(lie: Lie, n: int, count: int) -> Attack:
    return ATTACKS[lie.name](n, count, **lie.options())


@file_cache(maxsize=128)
def _shows(lie: Lie, count: int, data: DataSource, n: int) -> bool:
    """Whether the trigger of an attack changes any of some samples."""
    goal, dataset = _made(lie, n, count).goal, load(data)
    assert goal is not None
    some = jnp.asarray(dataset.x[:: max(1, len(dataset.x) // LOOKED_AT)])
    return bool((changed(units(dataset), some, goal.trigger) != some).any())


@lru_cache
def _idle(lie: Component, n: int, count: int) -> bool:
    """Whether an attack whose workers know no row but one sends just that row."""
    alone = getattr(lie, "knowledge", "") == "own" or count == 1
    attack = _made(lie, n, count)  # pyright: ignore[reportArgumentType]
    if attack.forge is None or attack.corrupt is not None or attack.claim is not None or not alone:
        return False
    byzantine = jnp.arange(n) < 1
    state = attack.init(8)
    for update in range(UPDATES):
        rows = jnp.broadcast_to(jax.random.normal(jax.random.key(update), (8,)), (n, 8))
        view = View(
            rows,
            byzantine,
            known=byzantine,
            workers=jnp.arange(n),
            params=jnp.zeros(8),
            ask_rule=lambda tried: Answer(tried.mean(axis=0), None, tried),
            loss=lambda params: jnp.square(params).sum(),
            step=jnp.asarray(update),
            new=jnp.ones(n, bool),
        )
        sent, state = attack.forge(jax.random.key(update), view, state)
        if not bool(jnp.allclose(sent[0], rows[0], rtol=1e-5, atol=1e-6)):
            return False
    return True
