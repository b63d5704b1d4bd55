"""A claim of a paper as something to run and to check: `Target`, its `Statement`s, and what was measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from byzax.experiments.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from byzax.experiments.reproduction.cells import Cells

REPRODUCED, PARTLY, NOT, NO_BOUND = "reproduced", "partly reproduced", "not reproduced", "measured"


class Statement(NamedTuple):
    """A quantity, and the bounds within which its mean over seeds must be for the claim to hold.

    Attributes:
        text: The quantity, in words.
        measure: Its value by seed, of the results: the `Cells` of each scenario by name.
        low: The lower bound; None for none.
        high: The upper bound; None for none.
        quick: Whether the quick form of the target measures it.
    """

    text: str
    measure: "Callable[[Mapping[str, Cells]], Mapping[int, float]]"
    low: float | None = None
    high: float | None = None
    quick: bool = False


class Finding(NamedTuple):
    """A statement, and the values that were measured for it.

    Attributes:
        text: The quantity, in words.
        values: One for each seed; of what does not depend on a seed one.
        low: As of `Statement`.
        high: As of `Statement`.
    """

    text: str
    values: tuple[float, ...]
    low: float | None
    high: float | None

    @property
    def mean(self) -> float:
        """The mean over seeds; NaN where there is no value."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the mean; NaN for fewer than three values."""
        return mean_interval(self.values)

    @property
    def holds(self) -> bool | None:
        """True where the mean is within the bounds, NaN never is; None where there are none."""
        if self.low is None and self.high is None:
            return None
        above = self.low is None or self.mean >= self.low
        return above and (self.high is None or self.mean <= self.high)


class Target(NamedTuple):
    """A claim of a paper.

    Attributes:
        title: The claim in a few words.
        paper: Authors, year, title and venue.
        place: Figure, table or section.
        claim: The claim, in a sentence or two.
        setting: The setting of the runs.
        statements: The quantities that are measured for it.
        scenarios: Names of the scenarios that are run, without `.yaml`; none for what is computed without training.
        scaled: The differences from the paper's setting, and why; empty for none.
        quick: Keys that the quick form sets, by scenario; None where there is no quick form.
        figure: A scenario, and the arguments of `Result.plot`; None for a target without a figure.
        remark: The meaning of the numbers, above all where the claim does not hold.
    """

    title: str
    paper: str
    place: str
    claim: str
    setting: str
    statements: tuple[Statement, ...]
    scenarios: tuple[str, ...] = ()
    scaled: str = ""
    quick: Mapping[str, Mapping[str, Any]] | None = None
    figure: tuple[str, Mapping[str, Any]] | None = None
    remark: str = ""


class Reproduction(NamedTuple):
    """The numbers that were measured for a target.

    Attributes:
        target: Its name.
        form: "full" or "quick".
        date: Day on which it was run, as 2026-11-30.
        command: The command that does it again.
        data: The data set in place of that of the scenarios; None for theirs.
        runs: Number of runs.
        seconds: Seconds of computing of all runs, also of those that went side by side.
        versions: Versions of byzax and JAX, and the machine.
        measured: The statements with their numbers.
    """

    target: str
    form: str
    date: str
    command: str
    data: str | None
    runs: int
    seconds: float
    versions: Mapping[str, str]
    measured: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """Reproduced, partly or not, as all statements with bounds hold, some or none; "measured" without bounds."""
        held = [each.holds for each in self.measured if each.holds is not None]
        if not held:
            return NO_BOUND
        return REPRODUCED if all(held) else PARTLY if any(held) else NOT


def minus(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """The difference of two settings, seed by seed.

    Args:
        first: Values by seed.
        second: Values by seed.

    Returns:
        First minus second, of the seeds that both have.
    """
    return {seed: value - second[seed] for seed, value in first.items() if seed in second}


def largest(settings: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The setting with the largest mean.

    Args:
        settings: Values by seed, of each setting.

    Returns:
        Its values.
    """
    return dict(max(settings, key=_mean))


def smallest(settings: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The setting with the smallest mean.

    Args:
        settings: Values by seed, of each setting.

    Returns:
        Its values.
    """
    return dict(min(settings, key=_mean))


def _mean(values: Mapping[int, float]) -> float:
    return math.fsum(values.values()) / len(values)
