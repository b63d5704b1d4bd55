"""The results of a study in memory: tables, models and plots, as `byzax.run` and `byzax.load` give them."""

import itertools
import os
import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from byzax.experiments import drawing, marks, outputs, overall, plots
from byzax.experiments.gathering import Results, damage_line, has_result, num_expected, varying_keys
from byzax.experiments.records import (
    METRICS,
    Damaged,
    read_classes,
    read_confusion,
    read_params,
    read_recorded,
    read_updates,
    read_weights,
)
from byzax.experiments.reported import report_of, report_values
from byzax.experiments.scores import score_named, score_of
from byzax.experiments.statistics import compare_pairs, holm, mean_interval
from byzax.simulator.config.measures import MEASURE_COLUMNS
from byzax.simulator.diagnostics import Update
from byzax.simulator.mistakes import ScenarioError, quote, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Read = TypeVar("Read")
# The folders of this process that go with their results, as long as these are there.
_kept: "weakref.WeakValueDictionary[Path, TemporaryFolder]" = weakref.WeakValueDictionary()


@dataclass(frozen=True, eq=False)
class TemporaryFolder:
    """A folder that is removed with the last object that holds this one: a result, or a copy of it."""

    folder: Path

    def __post_init__(self) -> None:
        _kept[self.folder] = self
        weakref.finalize(self, _remove, self.folder, os.getpid())

    def __reduce__(self) -> Any:
        # the same one in this process; another process, or a later one, does not remove the folder
        return _temporary, (self.folder,)


def _remove(folder: Path, process: int) -> None:
    # a fork of the process has the object too
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary(folder: Path) -> TemporaryFolder | None:
    return _kept.get(folder)


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """The results of a study, read from its folder. Equal to nothing but itself; hashable.

    Its tables are in memory; `params`, `updates`, `weights`, `selection`, `classes`, `confusion`, `recorded` and `save`
    read the folder, and raise
    ScenarioError where that, or a file in it, is gone or damaged.

    Attributes:
        folder: The folder; one that is removed with the last copy of this object where none was asked for (see `save`).
        runs: One row per run: `run` (the name of its folder), `rule`, `attack`, every other setting that varies,
            `seed`, `status` (complete, degraded, failed, interrupted, unfinished), the measurements that it ended
            with, and `reason` where it failed.
        metrics: One row per run and evaluation, with the same first columns, `step`, `time_s`, `gradients`, `wall_s`,
            losses and accuracies.
    """

    folder: Path
    runs: pd.DataFrame
    metrics: pd.DataFrame
    _results: Results
    _temporary: TemporaryFolder | None = None

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The final model of each run that was completed, by the name of the run: `[d]`.

        A run that failed or was interrupted has none; its last model is in `params.npz` in its folder.
        """
        return {name: self._read(name, read_params)[0] for name in self.runs.loc[has_result(self.runs), "run"]}

    @property
    def updates(self) -> pd.DataFrame:
        """One row per run and update: the columns of a setting, `step`, and the fields of `Diagnostics`.

        `step` is the number of updates made then, 1 after the first; `Update.step` of the same update is one less.
        """
        return self._joined({name: self._read(name, read_updates) for name in self.runs["run"]})

    @property
    def weights(self) -> pd.DataFrame:
        """The weight that the rule gave to each worker's row, where `record: {weights: true}` kept it.

        Returns:
            One row per run, update and worker: `step` (as in `updates`), `worker` (from 0), `weight`; NaN where the
            rule gives none.
        """
        return self._long(read_weights, "step", "worker", "weight")

    @property
    def selection(self) -> pd.DataFrame:
        """The weight that the rule gave to Byzantine rows in each run.

        Returns:
            One row per run: the columns of a setting, `byzantine_weight` (the mean over its updates of the share of
            all weight) and `byzantine_chosen` (the share of its updates in which a Byzantine row had weight); NaN
            where the rule gives no weights.
        """
        rows = []
        for name in self.runs["run"]:
            weight: Any = self._read(name, read_updates)["byzantine_weight"].dropna()
            rows.append({"run": name, "byzantine_weight": weight.mean(), "byzantine_chosen": (weight > 0).mean()})
        numbers = pd.DataFrame(rows, columns=["run", "byzantine_weight", "byzantine_chosen"])
        return self.runs[self.settings].merge(numbers, on="run")

    @property
    def classes(self) -> pd.DataFrame:
        """The accuracy on the test samples of each label, where `measure: class_accuracy` asked for it.

        Returns:
            One row per run, evaluation and label: the columns of a setting, `step`, `label`, `accuracy`; NaN for a
            label without a test sample.
        """
        return self._long(read_classes, "step", "label", "accuracy")

    @property
    def confusion(self) -> dict[str, np.ndarray]:
        """The confusion matrix of the last model of each run that has one, by the name of the run.

        Where `measure: confusion` asked for it: `[classes, classes + 1]`, the number of test samples of each label
        (rows) with each prediction; in the last column are those with none, as where an output is NaN.
        """
        read = {name: self._read(name, read_confusion) for name in self.runs["run"]}
        return {name: found.drop(columns="label").to_numpy() for name, found in read.items() if found is not None}

    def recorded(self, run: str | None = None) -> list[Update]:
        """The updates that `record: {rows: ...}` kept, in order, as `simulate` gives them.

        Args:
            run: The name of a run; not needed where there is one.

        Returns:
            The updates. Their `step` counts from 0, as `record: {rows: ...}` does.

        Raises:
            ValueError: For a name that no run has, or none where there are several.
        """
        names = [*self._results.records]
        if run is None and len(names) == 1:
            (run,) = names
        if run not in names:
            raise ValueError(f"run: one of {', '.join(names)} is needed, got {run!r}")
        return self._read(run, read_recorded)

    def values(self, measure: str | None = None, report: str | int | None = None) -> pd.Series:
        """The value of a measurement of each run.

        Args:
            measure: As for `summary`.
            report: As for `summary`.

        Returns:
            One for each row of `runs`; NaN where there is no measurement.

        Raises:
            ValueError: For a measure or a report that is not known.
        """
        found: Any = self._reported(measure, report)["value"]
        return found

    def summary(self, measure: str | None = None, report: str | int | None = None) -> pd.DataFrame:
        """The value of a measurement, over the repeats of each combination of settings.

        Args:
            measure: A column of `metrics`; by default the test accuracy, and without classes the test loss.
            report: The value of a run: "last", "best" (of an accuracy the largest, of all else the smallest), "area"
                (the mean over its updates), or a number of last evaluations whose mean counts; by default that of the
                scenario.

        Returns:
            One row per combination: its settings, `mean`, `std` (of a sample), `min`, `max`, `interval_low` and
            `interval_high` (the 95 % interval of the mean), `runs` (those that were completed) and `of` (those that
            were asked for).

        Raises:
            ValueError: For a measure or a report that is not known.
        """
        runs, keys = self._reported(measure, report), [*varying_keys(self.runs), "rule", "attack"]
        rows = []
        groups: Any = runs.groupby(keys, sort=False, dropna=False)
        for names, group in groups:
            values = group.loc[has_result(group), "value"]
            spread = values.mean(), values.std(), values.min(), values.max(), *mean_interval(values.tolist())
            rows.append([*names, *spread, len(values), num_expected(group)])
        numbers = ["mean", "std", "min", "max", "interval_low", "interval_high", "runs", "of"]
        return pd.DataFrame(rows, columns=[*keys, *numbers])

    def compare(self, by: str = "rule", measure: str | None = None, report: str | int | None = None) -> pd.DataFrame:
        """Pairs of settings that differ in one key alone, compared seed by seed.

        Args:
            by: The key: a column of `runs` before `seed`.
            measure: As for `summary`.
            report: As for `summary`.

        Returns:
            One row per pair: the other keys, `first`, `second`, `difference` (the mean of first minus second over
            their common seeds), `interval_low`, `interval_high` (its 95 % interval), `pairs` (the number of seeds),
            `p` (Wilcoxon's signed-rank test, two-sided) and `p_holm` (adjusted for all pairs of equal other keys).

        Raises:
            ValueError: For a key, a measure or a report that is not known.

        References:
            Wilcoxon 1945; Holm 1979
        """
        keys = [*varying_keys(self.runs), "rule", "attack"]
        drawing.known("by", by, keys)
        others = [key for key in keys if key != by]
        runs = self._reported(measure, report)
        rows = []
        groups: Any = runs.loc[has_result(runs)].groupby(others, sort=False, dropna=False)
        for names, group in groups:
            values = {
                choice: each.groupby("seed")["value"].mean().to_dict() for choice, each in group.groupby(by, sort=False)
            }
            pairs = [*itertools.combinations(values, 2)]
            compared = [compare_pairs(values[first], values[second]) for first, second in pairs]
            adjusted = holm([each.p for each in compared])
            rows += [
                [*names, *pair, each.difference, *each.interval, each.pairs, each.p, p]
                for pair, each, p in zip(pairs, compared, adjusted, strict=True)
            ]
        numbers = ["difference", "interval_low", "interval_high", "pairs", "p", "p_holm"]
        return pd.DataFrame(rows, columns=[*others, "first", "second", *numbers])

    def ranks(self) -> pd.DataFrame:
        """The rules over all settings (attack and other keys) that all of them have, the best first.

        Returns:
            One row per rule: `rule`, `rank` (the average rank of its means, 1 the best), `iqm` (the mean of the middle
            half of all its runs), `critical_difference` (of average ranks, at 5 %, by Nemenyi's test) and `friedman_p`
            (that all rules are alike). No row for one rule, or fewer than two settings.

        References:
            Demsar 2006 (ranks); Agarwal et al. 2021 (interquartile mean)
        """
        columns = ["rule", "rank", "iqm", "critical_difference", "friedman_p"]
        found = overall.overall(self._results)
        if found is None:
            return pd.DataFrame(columns=columns)
        numbers = zip(found.rules, found.ranking.ranks, found.middle, strict=True)
        return pd.DataFrame([[*row, found.ranking.critical, found.ranking.p] for row in numbers], columns=columns)

    def profiles(self, thresholds: Sequence[float] | None = None) -> pd.DataFrame:
        """The performance profile of each rule: the share of its runs that are at least as good as a threshold.

        Args:
            thresholds: The thresholds, of the test accuracy or without classes the test loss; None for 101 of them
                between the lowest and the highest value.

        Returns:
            One row per rule and threshold: `rule`, `threshold`, `share`; settings that all rules have count alike.

        References:
            Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
        """
        return overall.profiles(self._results, thresholds)

    def plot(
        self,
        x: str | None = None,
        y: str | None = None,
        hue: str | None = "rule",
        col: str | None = "attack",
        where: Mapping[str, Any] | None = None,
        kind: drawing.Kind = "line",
        report: str | int | None = None,
        band: plots.Band = "sd",
    ) -> "Figure":
        """Draws the runs. What settings a figure does not show it averages over, and says so below.

        Args:
            x: Of lines `step` (by default), `time_s`, `gradients`, `bits` or `wall_s`; of a heat map, boxes and points
                the column whose values stand side by side, by default `attack` for a heat map and `rule` else; of a
                scatter plot a measurement.
            y: The measurement: a column of `metrics`, of lines over `step` also one of `updates`; by default the test
                accuracy, and without classes the test loss.
            hue: The column whose values have lines or colours of their own, or are the rows of a heat map.
            col: The column whose values have panels of their own; None for one panel. A heat map of `attack` has one.
            where: Columns and values, as tables write them: only runs that have them all are drawn.
            kind: "line" (a measurement over the course of the runs: means over the repeats, with a band), "heatmap"
                (means), "box", "strip" (a point for each run), "scatter" (a point for each run at two measurements),
                "profile" (the share of runs of each rule that are at least as good as a threshold, over the settings
                that all rules have), "selection" (the weight of each worker in the course of the runs, where
                `record: {weights: true}` kept it) or "staleness" (the shares of rows of each age).
            report: The value of a run, as for `summary`; not of lines.
            band: Of lines, around the mean: "sd" (one standard deviation; of two runs their range), "ci" (its 95 %
                interval by the bootstrap), "range" or "none".

        Returns:
            A matplotlib figure; `figure.savefig("name.png")` writes it.

        Raises:
            ValueError: For a column or kind that is not there, for an argument that a profile does not have (all but
                `report`), or where no run was completed.
        """
        return drawing.draw(self, kind, drawing.FigureRequest(x, y, hue, col, where or {}, report, band))

    def report(self, file: str | Path | None = None) -> Path:
        """Writes the report of the study: one HTML file with tables, curves and statistics, which loads nothing.

        Args:
            file: The file; None for `report.html` in the folder of the results. A file that byzax wrote is replaced.

        Returns:
            The file.

        Raises:
            ScenarioError: Where a file that byzax did not write is there, or the file cannot be written.
        """
        from byzax.experiments.html_report.writing import write

        self._present(self.folder)
        return write(self, None if file is None else path_of("file", file))

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Copies the results into another folder, which `load` and `byzax show` read.

        Args:
            folder: The folder; ~ is the home folder.
            overwrite: Whether results of byzax that are in it are replaced.

        Returns:
            The folder.

        Raises:
            ScenarioError: Where the folder is used already, lies in the results themselves, or cannot be written.
        """
        place = path_of("folder", folder)
        self._present(self.folder)
        if self.folder.resolve() in (place.resolve(), *place.resolve().parents):
            raise ScenarioError(f"{place}: lies in the results themselves: choose another folder")
        outputs.claim([place], [], overwrite)
        try:
            shutil.copytree(
                self.folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(marks.LOCK, marks.HOLDER)
            )
        except OSError as error:
            why = shorten(str(error.strerror or error))
            raise ScenarioError(f"{place}: cannot be written ({why}): choose another folder") from None
        return place

    def _reported(self, measure: str | None, report: str | int | None) -> pd.DataFrame:
        """The runs with their `value`."""
        column = measure or score_of(self.runs).column
        drawing.known("measure", column, self.measurements)
        how = self._results.report if report is None else report_of(str(report))
        return self.runs.assign(value=report_values(self.runs, self._results.curves, score_named(column), how))

    @property
    def measurements(self) -> list[str]:
        """The columns of `metrics` that are measurements."""
        return [name for name in self.metrics if name in METRICS or name in MEASURE_COLUMNS]

    @property
    def settings(self) -> list[str]:
        """The columns of `runs` that are settings, with the name of the run and its seed."""
        columns = list(self.runs.columns)
        return [name for name in columns[: columns.index("status")] if name != "study"]

    def _present(self, folder: Path) -> None:
        for each in (self.folder, folder):
            if not each.is_dir():
                raise ScenarioError(
                    f"{each}: this folder of the results is gone: without out= it goes with the last result that has "
                    "it, and save keeps a copy"
                )

    def _read(self, run: str, reader: Callable[[Path], Read]) -> Read:
        folder = self._results.records[run].folder
        self._present(folder)
        try:
            return reader(folder)
        except Damaged as error:
            raise ScenarioError(damage_line(folder, error)) from None

    def _long(self, reader: Callable[[Path], pd.DataFrame | None], index: str, name: str, value: str) -> pd.DataFrame:
        """Wide tables of runs as one with a row for each number; runs may have different numbers of columns."""
        read = {run: self._read(run, reader) for run in self.runs["run"]}
        long = {
            run: wide.melt(index, var_name=name, value_name=value) for run, wide in read.items() if wide is not None
        }
        if not long:
            return pd.DataFrame(columns=[*self.settings, index, name, value])
        found = self._joined(long).astype({name: int})
        return found.sort_values(["run", index, name], kind="stable").reset_index(drop=True)

    def _joined(self, parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        settings = self.runs[self.settings]
        if not parts:
            return settings.iloc[:0].assign(step=[])
        return settings.merge(pd.concat([part.assign(run=name) for name, part in parts.items()]), on="run")

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.runs["status"].value_counts().items())
        return f"<Result {self._results.name}: {counts or 'no run'}, in {self.folder}>"

    def _repr_html_(self) -> str:
        return self.summary().to_html(index=False, float_format="%.4g")


def path_of(argument: str, given: Any) -> Path:
    """A path of an argument, with the home folder in place of ~.

    Args:
        argument: The name of the argument, for the message.
        given: A text or a path.

    Returns:
        The path.

    Raises:
        ScenarioError: For anything else, and for a text that is no path.
    """
    text = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise ScenarioError(f"{argument}: the path of a file or folder is needed, got {quote(given)}")
    if not text.strip() or "\0" in text:
        raise ScenarioError(f"{argument}: {quote(text)} is no path: name a file or folder")
    return Path(os.path.expanduser(text))
