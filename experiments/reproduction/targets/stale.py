"""Stragglers: who waits is ahead by updates, who does not by seconds (Ho et al. 2013; Tang et al. 2020)."""

import math

from byzax.experiments.reproduction.cells import Cells
from byzax.experiments.reproduction.target import Statement, Target

ENOUGH = 0.88
SYNCHRONOUS, ASYNCHRONOUS = "synchronous", "asynchronous"


def stale(bound: int) -> str:
    """The schedule with a bound as tables write it."""
    return f"stale_synchronous bound={bound}"


def first(cells: Cells, schedule: str, measure: str) -> dict[int, float]:
    """The smallest `step` or `time_s` at which the test accuracy reaches 88 %, by seed; infinite where it does not."""
    metrics = cells.result.metrics
    found = {}
    for seed in cells(schedule=schedule):
        course = metrics.loc[(metrics["schedule"] == schedule) & (metrics["seed"] == seed)]
        enough = course.loc[course["test_accuracy"] >= ENOUGH, measure]
        found[seed] = float(enough.min()) if len(enough) else math.inf
    return found


def ratio(cells: Cells, over: str, under: str, measure: str) -> dict[int, float]:
    """The time, or updates, of one schedule over those of another, by seed."""
    below = first(cells, under, measure)
    return {seed: value / below[seed] for seed, value in first(cells, over, measure).items()}


TARGET = Target(
    title="With stragglers who does not wait is ahead by the clock and behind by updates",
    paper="Ho et al. 2013, More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server, NeurIPS",
    place="figures 2 to 4; the comparison of Tang et al. 2020, Communication-Efficient Distributed Deep Learning",
    claim="Bounded staleness and asynchrony reach an accuracy in less time than waiting for all where a fifth of the "
    "workers is ten times as slow; per update waiting is ahead, and the larger the bound the more it is.",
    setting="MNIST, softmax regression, n=15, no Byzantine worker, SGD 0.1, batch 32, jobs of lognormal duration "
    "(sigma 0.3), three stragglers with a factor of 10; time and updates until the test accuracy is 88 %.",
    scaled="virtual time; their models are matrix factorisation, topic models and lasso. Tang's local steps are not "
    "run.",
    scenarios=("stale",),
    statements=(
        *(
            Statement(
                f"seconds of {words} over those of synchronous",
                lambda runs, schedule=schedule: ratio(runs["stale"], schedule, SYNCHRONOUS, "time_s"),
                high=1.0,
            )
            for schedule, words in (
                (stale(3), "stale-synchronous, bound 3"),
                (stale(10), "stale-synchronous, bound 10"),
                (ASYNCHRONOUS, "asynchronous"),
            )
        ),
        *(
            Statement(
                f"updates of synchronous over those of {words}",
                lambda runs, schedule=schedule: ratio(runs["stale"], SYNCHRONOUS, schedule, "step"),
                high=1.0,
            )
            for schedule, words in (
                (stale(1), "stale-synchronous, bound 1"),
                (stale(10), "stale-synchronous, bound 10"),
                (ASYNCHRONOUS, "asynchronous"),
            )
        ),
        Statement(
            "updates of stale-synchronous with bound 10 over those with bound 1",
            lambda runs: ratio(runs["stale"], stale(10), stale(1), "step"),
            low=1.0,
        ),
    ),
    figure=("stale", {"x": "time_s", "hue": "schedule", "col": None}),
)
