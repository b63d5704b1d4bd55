"""Partial participation (FedAvg, McMahan et al. 2017): each round takes a few workers of a large population."""

import math
from fractions import Fraction
from typing import Literal

import numpy as np

from byzax.options import OptionError, checked
from byzax.simulator.schedules.base import (
    Count,
    CountOrZero,
    Schedule,
    Situation,
    WorkerOrder,
    check_workers,
)

# Probability with which an update shall have no more Byzantine participants than the f that the rule gets.
CONFIDENCE = Fraction(999, 1000)


@checked
def sampled(
    n: int,
    f: int,
    *,
    participants: Count = 10,
    asked: Count | None = None,
    by: Literal["uniform", "samples", "cyclic"] = "uniform",
    doubted: CountOrZero | Literal["likely"] = "likely",
) -> Schedule:
    """Takes the rows of a few workers in every update, drawn anew from a large population.

    Waits: for the first `participants` of those that were asked
    Ages: 0

    The server asks workers in an order drawn for the update. A worker that is dead, or still at a job of an earlier
    update, is passed over; where a message is lost the next worker is asked. Rows that come after the update are
    dropped.

    `workers.declared` counts Byzantine workers of the whole population. The f that the rule gets is the number of
    Byzantine workers that those asked for an update do not exceed with probability 0.999 (all equally likely to be
    drawn), or `doubted`. With `workers.byzantine.participating` exactly so many participants of every update are
    Byzantine: the first so many of them in that order, and the other participants are the first honest ones. A lost or
    dead worker's place goes to another honest worker, or another Byzantine one, as it was itself. The rule then gets
    that number, if the declared number is the real one.

    Args:
        n: Number of workers of the population.
        f: Number of Byzantine workers among them.
        participants: Number of rows of an update, at most n.
        asked: Number of workers that are asked for them, from `participants` to n. None: `participants`.
        by: "uniform", all workers equally likely; "samples", one after the other with chances in proportion to the
            number of samples that each holds; "cyclic", in turn, in an order drawn once.
        doubted: The f that the rule gets, at most `participants`; "likely" as above.

    Returns:
        The schedule.

    Raises:
        OptionError: For an option out of its range.
        PartError: For an impossible n and f.

    References:
        McMahan et al., AISTATS 2017 (FedAvg, C); Bonawitz et al., MLSys 2019 (asking more than are needed)
    """
    check_workers("sampled", n, f)
    if participants > n:
        raise OptionError("participants", f"must be at most n = {n}, got {participants}")
    asked = participants if asked is None else asked
    if not participants <= asked <= n:
        raise OptionError("asked", f"must be from participants = {participants} to n = {n}, got {asked}")
    # not of the participants: Byzantine workers may be the first to answer of all that are asked
    bound = min(participants, likely_bound(n, f, asked)) if doubted == "likely" else int(doubted)
    if bound > participants:
        raise OptionError("doubted", f"must be at most participants = {participants}, got {bound}")

    def order(situation: Situation) -> WorkerOrder:
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
        doubted=bound,
        likely=doubted == "likely",
        due=lambda board: len(board.waiting) >= participants,
        waits=lambda board: f"the rows of {participants} participants, and has {len(board.waiting)}",
    )


def likely_bound(n: int, f: int, participants: int) -> int:
    """The least bound on the number of Byzantine participants that holds with probability `CONFIDENCE`.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        participants: Number of workers drawn, each set of them equally likely.

    Returns:
        The smallest number that the Byzantine workers drawn do not exceed with that probability.

    Example:
        >>> likely_bound(1000, 200, 50), likely_bound(10, 2, 10), likely_bound(100, 0, 10)
        (19, 2, 0)
    """
    ways, all_ways = 0, math.comb(n, participants)
    for count in range(participants + 1):
        ways += math.comb(f, count) * math.comb(n - f, participants - count)
        # in whole numbers: these are too large for a float
        if CONFIDENCE.denominator * ways >= CONFIDENCE.numerator * all_ways:
            return count
    return participants
