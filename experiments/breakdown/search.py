"""The search for a breakdown point: values that are measured next, and what is known of it."""

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from byzax.experiments.statistics import FEWEST, NOTHING, RESAMPLES, SEED, Interval

Value = int | float


class RuleOutcome(Enum):
    """The outcome of the runs with one value of the setting."""

    HOLDS = "holds"
    BROKEN = "broken"
    REFUSED = "refused"


class Span(NamedTuple):
    """The values among which a breakdown point is searched.

    Attributes:
        low: The smallest one.
        high: The largest one.
        precision: For values that are no whole numbers the difference at which the search ends, as a share of the span.
        points: Number of values at equal distances that are measured first, both ends among them.
    """

    low: Value
    high: Value
    precision: float
    points: int = 2

    @property
    def whole(self) -> bool:
        """True where values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def first(self) -> list[Value]:
        """The values that are measured in any case.

        Returns:
            Both ends, and those between them.
        """
        places = np.linspace(self.low, self.high, self.points)
        values: list[Value] = [round(place) for place in places] if self.whole else [*map(_rounded, places)]
        return sorted({*values, self.low, self.high})

    def between(self, holds: Value, breaks: Value) -> Value | None:
        """The value that halves an interval.

        Args:
            holds: Its lower end.
            breaks: Its upper end.

        Returns:
            The value; None where the interval is short enough.
        """
        if self.whole:
            middle = (int(holds) + int(breaks)) // 2
            return middle if holds < middle < breaks else None
        if breaks - holds <= self.precision * (self.high - self.low) * (1 + 1e-9):
            return None
        middle = _rounded((holds + breaks) / 2)
        return middle if holds < middle < breaks else None


def _rounded(value: float) -> float:
    """A number that reads well in tables, and is the same however it was reached."""
    return float(f"{value:.6g}")


def next_values(span: Span, known: Mapping[Value, RuleOutcome]) -> list[Value]:
    """The values that are to be measured next.

    Args:
        span: The values among which is searched.
        known: The outcome of each value that was measured.

    Returns:
        The values; none where the search has ended.
    """
    if missing := [value for value in span.first() if value not in known]:
        return missing
    breaks = breaking(known)
    lower = [value for value in known if breaks is not None and value < breaks]
    if breaks is None or not lower:
        return []
    middle = span.between(max(lower), breaks)
    return [] if middle is None else [middle]


def narrowing_values(span: Span, known: Mapping[Value, RuleOutcome], interval: Interval) -> list[Value]:
    """The values that are to be measured next so that the ends of an interval are as precise as the breakdown point.

    Args:
        span: The values among which is searched.
        known: The outcome of each value that was measured.
        interval: The interval of the breakdown point, whose finite ends are among these values.

    Returns:
        The values; none where both ends are precise.
    """
    values: set[Value] = set()
    for end in interval:
        lower = [value for value in known if value < end]
        if math.isfinite(end) and lower and (middle := span.between(max(lower), end)) is not None:
            values.add(middle)
    return sorted(values)


def breaking(known: Mapping[Value, RuleOutcome]) -> Value | None:
    """The smallest value at which a rule does not hold.

    Args:
        known: The outcome of each value that was measured.

    Returns:
        The value; None where it holds at all.
    """
    return min((value for value, outcome in known.items() if outcome is not RuleOutcome.HOLDS), default=None)


def in_words(span: Span, known: Mapping[Value, RuleOutcome]) -> str:
    """The end of a search in words.

    Args:
        span: The values among which was searched.
        known: The outcome of each value.

    Returns:
        Such as `broken at 4, holds at 3`, with a remark where larger values hold again.
    """
    breaks = breaking(known)
    if breaks is None:
        return f"holds up to {span.high:g}"
    holds = max((value for value in known if value < breaks), default=None)
    word = known[breaks].value
    words = f"{word} at {breaks:g}, " + ("the smallest value" if holds is None else f"holds at {holds:g}")
    if again := [value for value, outcome in known.items() if value > breaks and outcome is RuleOutcome.HOLDS]:
        words += f"; holds again at {', '.join(f'{value:g}' for value in sorted(again))}"
    return words


def breakdown_interval(values: Mapping[Value, Mapping[int, float]], below: float, higher_is_better: bool) -> Interval:
    """The 95 % interval of a breakdown point, by the percentile bootstrap over seeds.

    In each resample of the seeds that all measured values have, the point is the smallest measured value at which the
    mean is beyond the threshold.

    Args:
        values: For each measured value of the setting the score of each seed.
        below: The threshold.
        higher_is_better: Whether larger scores are better.

    Returns:
        The interval; an end is infinite where no measured value breaks the rule there, and NaN for fewer than three
        seeds.

    References:
        Efron and Tibshirani 1993, "An Introduction to the Bootstrap"
    """
    places = sorted(values)
    seeds = sorted(set.intersection(*(set(each) for each in values.values()))) if values else []
    if len(seeds) < FEWEST:
        return NOTHING
    scores = np.array([[values[place][seed] for seed in seeds] for place in places])
    drawn = np.random.default_rng(SEED).integers(0, len(seeds), (RESAMPLES, len(seeds)))
    broken = is_broken(scores[:, drawn].mean(axis=2), below, higher_is_better)
    points = np.where(broken.any(axis=0), np.array(places, float)[np.argmax(broken, axis=0)], math.inf)
    # no value between two points is one that was measured
    low, high = np.quantile(points, [0.025, 0.975], method="inverted_cdf")
    return Interval(float(low), float(high))


def is_broken(means: np.ndarray, below: float, higher_is_better: bool) -> np.ndarray:
    """Tells whether means are beyond the threshold; those that are no numbers are.

    Args:
        means: Any shape.
        below: The threshold.
        higher_is_better: Whether larger scores are better.

    Returns:
        Truth values of the same shape.
    """
    return ~(means >= below) if higher_is_better else ~(means <= below)


def check_span(over: str, low: Value | None, high: Value | None, workers: int) -> Sequence[Value]:
    """The ends of a span.

    Args:
        over: The key of the setting.
        low: The lower end that was asked for; None for the default.
        high: The upper end, likewise.
        workers: Number of workers.

    Returns:
        Both ends; by default of `workers.byzantine` 1 and the largest number below n / 2.

    Raises:
        ValueError: For a missing end of another key, or ends that are not in order.
    """
    if over == "workers.byzantine":
        low, high = 1 if low is None else low, (workers - 1) // 2 if high is None else high
    if low is None or high is None:
        end, word = ("low", "smallest") if low is None else ("high", "largest")
        raise ValueError(f"{end}: the {word} value of {over} is needed")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low: a value below high is needed, got {low:g} and {high:g}")
    return low, high
