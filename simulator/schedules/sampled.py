"""Rounds of a few out of many."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from byzax.simulator.schedules.base import Schedule, Situation, at_least

# How likely a round should have no more Byzantine participants than the rule is told.
LIKELY = Fraction(999, 1000)


def sampled(
    n: int,
    f: int,
    *,
    participants: Annotated[int, Field(ge=1)] = 10,
    asked: Annotated[int, Field(ge=1)] | None = None,
    by: Literal["uniform", "samples", "cyclic"] = "uniform",
    doubted: Annotated[int, Field(ge=0)] | Literal["likely"] = "likely",
) -> Schedule:
    """Every update takes rows of a few workers, drawn anew from a large population.

    Waits: for the first `participants` of those that were asked
    Ages: 0
    Source: McMahan et al., AISTATS 2017 (FedAvg, C); Bonawitz et al., MLSys 2019 (asking more than are needed)

    The server asks workers in an order drawn for the update. Who is dead, or still at a job of an earlier update, is
    passed over; where a message is lost the next one is asked. Rows that come after the update are dropped.

    `workers.declared` counts Byzantine workers of the whole population. The rule is told how many of those
    asked for an update are Byzantine at most with probability 0.999 (all equally likely to be drawn), or `doubted`.
    With `workers.byzantine.participating` exactly so many participants of every update are Byzantine: the first so many
    of them in that order, and the other participants are the first honest ones. A lost or dead worker's place goes to
    one of its kind. The rule is then told that number, if the declared number is the real one.

    Args:
        participants: rows of an update.
        asked: how many are asked for them, at least `participants`, which is the default.
        by: `uniform`, all equally likely; `samples`, one after the other with chances in proportion to the number of
            samples that each holds; `cyclic`, in turn, in an order drawn once.
        doubted: the f that the rule is told.

    Raises:
        ValueError: unless 1 <= participants <= asked <= n and 0 <= doubted <= participants, or for an unknown word.
    """
    at_least("sampled", "participants", participants, 1, n)
    asked = participants if asked is None else asked
    at_least("sampled", "asked", asked, participants, n)
    if by not in ("uniform", "samples", "cyclic"):
        raise ValueError(f"sampled knows uniform, samples and cyclic as by, got {by!r}")
    if isinstance(doubted, str) and doubted != "likely":
        raise ValueError(f"sampled knows a number and likely as doubted, got {doubted!r}")
    # liars may be the first of all that are asked
    told = min(participants, most_likely(n, f, asked)) if doubted == "likely" else int(doubted)
    at_least("sampled", "doubted", told, 0, participants)

    def order(situation: Situation) -> Callable[[int], Sequence[int]]:
        if by == "cyclic":
            turns = np.tile(situation.rng.permutation(n), 2)
            return lambda step: turns[step * participants % n :][:n].tolist()
        if by == "samples":
            sizes = situation.sizes()
            # the first of exponential clocks: drawing one after the other, in proportion to what is left
            return lambda step: np.argsort(situation.at(step).exponential(size=n) / sizes, kind="stable").tolist()
        return lambda step: situation.at(step).permutation(n).tolist()

    return Schedule(
        oldest=0,
        order=order,
        asked=asked,
        doubted=told,
        due=lambda board: len(board.waiting) >= participants,
        waits=lambda board: f"the rows of {participants} participants, and has {len(board.waiting)}",
    )


def most_likely(n: int, f: int, participants: int) -> int:
    """The fewest that f Byzantine of n workers do not exceed among so many drawn, with probability `LIKELY`.

    >>> most_likely(1000, 200, 50), most_likely(10, 2, 10), most_likely(100, 0, 10)
    (19, 2, 0)
    """
    ways, all_ways = 0, math.comb(n, participants)
    for count in range(participants + 1):
        ways += math.comb(f, count) * math.comb(n - f, participants - count)
        # in whole numbers: these are too large for a float
        if LIKELY.denominator * ways >= LIKELY.numerator * all_ways:
            return count
    return participants
