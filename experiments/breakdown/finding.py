"""Breakdown points by bisection over runs, which are kept and resumed as those of any study."""

import itertools
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from byzax.experiments import api, charts, outputs
from byzax.experiments.breakdown.search import (
    RuleOutcome,
    Span,
    Value,
    breakdown_interval,
    breaking,
    check_span,
    in_words,
    is_broken,
    narrowing_values,
    next_values,
)
from byzax.experiments.drawing import known as check_known
from byzax.experiments.entries import entries_of
from byzax.experiments.gathering import has_result
from byzax.experiments.records import METRICS
from byzax.experiments.reported import report_of, report_words
from byzax.experiments.result import Result, TemporaryFolder, path_of
from byzax.experiments.scores import score_named, score_of
from byzax.experiments.statistics import Interval, mean_interval
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.grid import NOT_SWEPT, OF_COMBINATIONS, Expansion, expand
from byzax.simulator.config.measures import columns_of
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import ScenarioError, choices_in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS_FILE, CURVE_FILE, FORMATS = "breakdown.csv", "breakdown-curve.csv", ("png", "pdf")

# Keys that a search cannot vary: seeds are what the intervals are over.
NOT_VARIED = NOT_SWEPT | {"seed"}


@dataclass(frozen=True, repr=False, eq=False)
class BreakdownPoints:
    """The measured breakdown points of a study.

    Attributes:
        over: The key of the setting.
        below: The threshold of the score.
        words: The score in words.
        higher_is_better: Whether larger scores are better.
        points: One row per combination of the other settings: `breakdown` (the smallest measured value at which the
            rule is broken; NaN where it holds up to the largest value, or up to one that is refused), its 95 % interval
            `interval_low`, `interval_high` (infinite where no measured value breaks the rule in a resample), `largest`
            (the largest value with a run; NaN for none), `words`.
        curve: One row per combination and measured value: `value`, `mean` of the score, its 95 % interval, `runs`,
            `outcome` (holds, broken or refused) and the `reason` of a refusal.
        result: The results of all runs.
    """

    over: str
    below: float
    words: str
    higher_is_better: bool
    points: pd.DataFrame
    curve: pd.DataFrame
    result: Result

    @property
    def keys(self) -> list[str]:
        """The settings that tell the combinations apart."""
        return [*self.points.columns[: list(self.points.columns).index("breakdown")]]

    @property
    def caption(self) -> str:
        """The meaning of the table."""
        word = "below" if self.higher_is_better else "above"
        return (
            f"{self.over}: smallest measured value at which the mean {self.words} is {word} {self.below:g}, with its "
            "95 % interval by the bootstrap over seeds (three at least)"
        )

    def text_rows(self) -> tuple[list[str], list[list[str]]]:
        """The points as text.

        Returns:
            The headings, and the rows.
        """
        rows = []
        for row in self.points.to_dict("records"):
            low, high = row["interval_low"], row["interval_high"]
            ends = "-" if not np.isfinite(low) else f"[{low:g}, {_end(high, row['largest'])}]"
            found = "-" if np.isnan(row["breakdown"]) else f"{row['breakdown']:g}"
            rows.append([*(str(row[key]) for key in self.keys), found, ends, row["words"]])
        return [*self.keys, "breakdown", "95 % interval", ""], rows

    def plot(self) -> "Figure":
        """Draws the score over the setting: a line for each combination, with intervals and the threshold.

        Returns:
            A matplotlib figure.

        Raises:
            ValueError: Where no run was completed.
        """
        return charts.thresholds(self.curve, self.keys, self.over, self.below, f"mean {self.words}")

    def __repr__(self) -> str:
        return f"<BreakdownPoints over {self.over}: {len(self.points)} combinations, in {self.result.folder}>"

    def _repr_html_(self) -> str:
        return self.points.to_html(index=False, float_format="%.4g")


def breakdown(
    scenario: Any = None,
    /,
    *,
    over: str,
    below: float = 0.5,
    low: Value | None = None,
    high: Value | None = None,
    points: int = 2,
    precision: float = 0.05,
    measure: str | None = None,
    report: str | int | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    ray_address: str | None = None,
    jobs: int | None = None,
    retries: int = 0,
    **settings: Any,
) -> BreakdownPoints:
    """Finds the value of a setting from which each combination of a study is broken, by bisection.

    A combination is broken where the mean of its score over the seeds is beyond the threshold. Bisection takes it that
    it stays broken for larger values; `points` measures more of them, and what holds again is said.

    Args:
        scenario: As in `byzax.run`; its grid gives the combinations.
        over: The dotted key of the setting, such as `workers.byzantine` or `attack.scale`.
        below: The threshold: a rule is broken below it, of a score such as a loss above it.
        low: The smallest value; for `workers.byzantine` 1 by default.
        high: The largest value; for `workers.byzantine` the largest number below n / 2 by default. With two whole
            numbers values are whole.
        points: Number of values at equal distances that are measured first, both ends among them.
        precision: The difference between a value that holds and one that is broken at which the search ends, as a share
            of that between the ends; of whole numbers it is 1.
        measure: The score, a column of `Result.metrics`; by default the test accuracy, without classes the test loss.
        report: The value of a run, as of `Result.summary`.
        out: As in `byzax.run`. A second call with it runs nothing anew.
        quiet: As in `byzax.run`.
        ray_address: As in `byzax.run`.
        jobs: As in `byzax.run`.
        retries: As in `byzax.run`.
        settings: As in `byzax.run`.

    Returns:
        The breakdown points.

    Raises:
        ScenarioError: For a mistake in what was asked.
        RunError: As `byzax.run`.
    """
    described = api.described(scenario, settings)
    _check_score(described, measure, report)
    span = _span(described, over, below, low, high, points, precision)
    base = {key: value for key, value in described.study.given().items() if key not in OF_COMBINATIONS}
    combinations = [cell.choices for cell in described.cells]
    if varied := [key for choices in combinations for key in choices if key == over]:
        raise ScenarioError(f"over: the grid varies {varied[0]} already: take it out of the grid")
    made = None if out is not None else TemporaryFolder(Path(tempfile.mkdtemp(prefix="byzax-")))
    folder = made.folder if made else path_of("out", out)
    asked: list[list[Value]] = [span.first() for _ in combinations]
    while True:
        study = _study(base, combinations, asked, over, described.source)
        expansion = api.checked(study, jobs)
        result = api.run_expansion(expansion, folder, False, False, quiet, ray_address, jobs, retries)
        found = _Found(expansion, result, below, measure, report)
        known = [
            {value: found.outcome({**choices, over: value}) for value in values}
            for choices, values in zip(combinations, asked, strict=True)
        ]
        further = [
            next_values(span, each) or narrowing_values(span, each, found.interval(choices, over, each))
            for choices, each in zip(combinations, known, strict=True)
        ]
        if not any(further):
            break
        asked = [values + more for values, more in zip(asked, further, strict=True)]
    words = report_words(found.score, result._results.report if report is None else report_of(str(report)))
    tables = _tables(found, combinations, known, span, over)
    kept = replace(result, _temporary=made)
    return BreakdownPoints(over, below, words, found.score.higher_is_better, *tables, kept)


def _end(value: float, largest: float) -> str:
    """An end of an interval, which may lie beyond all measured values."""
    return f"> {largest:g}" if np.isinf(value) else f"{value:g}"


class _Found:
    """The results of all values that were measured."""

    def __init__(
        self, expansion: Expansion, result: Result, below: float, measure: str | None, report: str | int | None
    ):
        self.below = below
        self.score = score_named(measure or score_of(result.runs).column)
        values = result.values(measure, report).where(has_result(result.runs))
        of_run = dict(zip(result.runs["run"], values, strict=True))
        entries = iter(entries_of(expansion))
        self.by_choices: dict[str, dict[int, float]] = {}
        for cell in expansion.cells:
            each = list(itertools.islice(entries, len(cell.study.seeds)))
            scores = {entry.scenario.seed: of_run.get(entry.slug, np.nan) for entry in each}
            key = choices_in_words(cell.choices)
            self.by_choices[key] = {seed: float(score) for seed, score in scores.items() if not np.isnan(score)}
        self.reasons = {choices_in_words(skipped.choices): skipped.reason for skipped in expansion.skipped}

    def scores(self, choices: Mapping[str, Any]) -> dict[int, float]:
        """The score of each seed; none for a combination that was refused, or whose runs all failed."""
        return self.by_choices.get(choices_in_words(choices), {})

    def outcome(self, choices: Mapping[str, Any]) -> RuleOutcome:
        """The outcome of a combination: it holds, is broken, or was refused."""
        scores = self.scores(choices)
        if not scores:
            return RuleOutcome.REFUSED
        mean = np.array(np.mean([*scores.values()]))
        return RuleOutcome.BROKEN if is_broken(mean, self.below, self.score.higher_is_better) else RuleOutcome.HOLDS

    def interval(self, choices: Mapping[str, Any], over: str, values: Iterable[Value]) -> Interval:
        """The interval of the breakdown point of a combination, of all these values of the setting that have scores."""
        scores = {value: self.scores({**choices, over: value}) for value in values}
        measured = {value: each for value, each in scores.items() if each}
        return breakdown_interval(measured, self.below, self.score.higher_is_better)

    def reason(self, choices: Mapping[str, Any]) -> str:
        """The reason of a refusal; empty for none."""
        return self.reasons.get(choices_in_words(choices), "" if self.scores(choices) else "all runs failed")


def _check_score(described: Expansion, measure: str | None, report: str | int | None) -> None:
    """Raises ScenarioError for a score that runs will not have, before any is run."""
    try:
        if measure is not None:
            check_known("measure", measure, [*METRICS, *columns_of(described.study.measure)])
        if report is not None:
            report_of(str(report))
    except ValueError as error:
        text = str(error)
        raise ScenarioError(text if text.startswith("measure") else f"report: {text}") from None


def _span(
    described: Expansion,
    over: str,
    below: float,
    low: Value | None,
    high: Value | None,
    points: int,
    precision: float,
) -> Span:
    if over in NOT_VARIED:
        raise ScenarioError(f"over: {over} cannot be varied: give a number of the scenario, such as workers.byzantine")
    try:
        ends = check_span(over, low, high, described.study.workers.total)
    except ValueError as error:
        raise ScenarioError(str(error)) from None
    if not math.isfinite(below):
        raise ScenarioError(f"below: a finite number is needed, got {below:g}")
    if points < 2:
        raise ScenarioError(f"points: at least the two ends are measured, got {points}")
    if not 0 < precision < 1:
        raise ScenarioError(f"precision: a share between 0 and 1 is needed, got {precision:g}")
    return Span(ends[0], ends[1], precision, points)


def _study(
    base: Mapping[str, Any], combinations: list[dict[str, Any]], asked: list[list[Value]], over: str, source: str
) -> Expansion:
    """The study of all values that were asked for so far; combinations that are refused are left out."""
    listed = [{**choices, over: value} for choices, values in zip(combinations, asked, strict=True) for value in values]
    return expand(parse_as(Study, {**base, "include": listed, "skip_impossible": True}), source)


def _text(value: Any) -> str:
    return choices_in_words({"": value})[1:]


def _tables(
    found: _Found,
    combinations: list[dict[str, Any]],
    known: list[dict[Value, RuleOutcome]],
    span: Span,
    over: str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    points, curve = [], []
    keys = [*dict.fromkeys(key for each in combinations for key in each)]
    for choices, outcomes in zip(combinations, known, strict=True):
        names = {key: _text(choices[key]) if key in choices else "-" for key in keys}
        scores = {value: found.scores({**choices, over: value}) for value in sorted(outcomes)}
        interval = found.interval(choices, over, outcomes)
        breaks = breaking(outcomes)
        ends = {
            "interval_low": interval.low,
            "interval_high": interval.high,
            "largest": max((value for value, each in scores.items() if each), default=np.nan),
        }
        words = in_words(span, outcomes)
        broken = breaks is not None and outcomes[breaks] is RuleOutcome.BROKEN
        if breaks is not None and not broken:
            words += f": {found.reason({**choices, over: breaks}).partition(': ')[2]}"
        points.append({**names, "breakdown": breaks if broken else np.nan, **ends, "words": words})
        for value, each in scores.items():
            low, high = mean_interval([*each.values()])
            curve.append(
                {
                    **names,
                    "value": value,
                    "mean": np.mean([*each.values()]) if each else np.nan,
                    "interval_low": low,
                    "interval_high": high,
                    "runs": len(each),
                    "outcome": outcomes[value].value,
                    "reason": found.reason({**choices, over: value}),
                }
            )
    return pd.DataFrame(points), pd.DataFrame(curve)


def write(found: BreakdownPoints, folder: Path) -> list[Path]:
    """Writes the points, the curve and the figure into the folder of the runs.

    Args:
        found: The breakdown points.
        folder: The folder.

    Returns:
        The files.

    Raises:
        ScenarioError: Where a file that byzax did not write has one of these names.
    """
    for name, frame in ((POINTS_FILE, found.points), (CURVE_FILE, found.curve)):
        outputs.save_text(folder / name, frame.to_csv(index=False, lineterminator="\n"))
    figure = found.plot()
    pictures = {kind: folder / f"breakdown.{kind}" for kind in FORMATS}
    for kind, picture in pictures.items():
        # without a date the same points are the same file
        about = {"CreationDate": None} if kind == "pdf" else None
        options: dict[str, Any] = {"format": kind, "dpi": 160, "metadata": about}
        outputs.save(picture, lambda file, options=options: figure.savefig(file, **options))
    return [folder / POINTS_FILE, folder / CURVE_FILE, *pictures.values()]
