"""byzax from Python: `run` a scenario, `load` its results, `simulate` a run by hand."""

import os
import shutil
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from rich.console import Console

from byzax.experiments import outputs, plots, progress, report, results, resuming, running, study
from byzax.experiments.gathering import Results, damage_line, has_result, num_expected, varying_keys
from byzax.experiments.notes import notes
from byzax.experiments.records import METRICS, Damaged, read_params, read_recorded, read_updates, read_weights
from byzax.experiments.scores import score_of
from byzax.simulator import interrupts
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.grid import Expansion, expand
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Study
from byzax.simulator.diagnostics import Update
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import RunError
from byzax.simulator.mistakes import ScenarioError, quote, shorten
from byzax.simulator.validation import validate as check
from byzax.simulator.validation import validate_quickly

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Read = TypeVar("Read")

# The folders of this process that go with their results, as long as these are there.
_kept: "weakref.WeakValueDictionary[Path, _Temporary]" = weakref.WeakValueDictionary()


@dataclass(frozen=True, eq=False)
class _Temporary:
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


def _temporary(folder: Path) -> _Temporary | None:
    return _kept.get(folder)


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """The results of a study, read from its folder. Equal to nothing but itself; hashable.

    Its tables are in memory; `params`, `updates`, `weights`, `recorded` and `save` read the folder, and raise
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
    _temporary: _Temporary | None = None

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
        read = {name: self._read(name, read_weights) for name in self.runs["run"]}
        # runs may have different numbers of workers
        long = {
            name: wide.melt("step", var_name="worker", value_name="weight")
            for name, wide in read.items()
            if wide is not None
        }
        if not long:
            return pd.DataFrame(columns=[*self._settings(), "step", "worker", "weight"])
        found = self._joined(long).astype({"worker": int})
        return found.sort_values(["run", "step", "worker"], kind="stable").reset_index(drop=True)

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

    def summary(self, measure: str | None = None) -> pd.DataFrame:
        """The final value of a measurement, over the repeats of each combination of settings.

        Args:
            measure: A column of `metrics`; by default the test accuracy, and without classes the test loss.

        Returns:
            One row per combination: its settings, `mean`, `std` (of a sample), `min`, `max`, `runs` (those that were
            completed) and `of` (those that were asked for).
        """
        column = measure or score_of(self.runs).column
        _known("measure", column, METRICS)
        keys = [*varying_keys(self.runs), "rule", "attack"]
        rows = []
        groups: Any = self.runs.groupby(keys, sort=False, dropna=False)
        for names, group in groups:
            values = group.loc[has_result(group), column].astype(float)
            numbers = (values.mean(), values.std(), values.min(), values.max(), len(values), num_expected(group))
            rows.append([*names, *numbers])
        return pd.DataFrame(rows, columns=[*keys, "mean", "std", "min", "max", "runs", "of"])

    def plot(self, x: str = "step", y: str | None = None, hue: str = "rule", col: str | None = "attack") -> "Figure":
        """A measurement over the course of the runs: mean over the repeats, with a band of one standard deviation.

        Args:
            x: Horizontal: `step`, `time_s`, `gradients` or `wall_s`.
            y: Vertical, a column of `metrics`; by default the test accuracy, and without classes the test loss.
            hue: The column whose values have lines of their own.
            col: The column whose values have panels of their own; None for one panel.

        Returns:
            A matplotlib figure; `figure.savefig("name.png")` writes it.

        Raises:
            ValueError: For a column that is not there, or where no run was completed.
        """
        column = y or score_of(self.runs).column
        _known("x", x, ("step", "time_s", "gradients", "wall_s"))
        _known("y", column, METRICS)
        for name, value in {"hue": hue, **({} if col is None else {"col": col})}.items():
            _known(name, value, self._settings())
        return plots.compare(self._results.curves, x, column, hue, col)

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
        place = _path("folder", folder)
        self._present(self.folder)
        if self.folder.resolve() in (place.resolve(), *place.resolve().parents):
            raise ScenarioError(f"{place}: lies in the results themselves: choose another folder")
        outputs.claim([place], [], overwrite)
        try:
            shutil.copytree(
                self.folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(outputs.LOCK, outputs.HOLDER)
            )
        except OSError as error:
            why = shorten(str(error.strerror or error))
            raise ScenarioError(f"{place}: cannot be written ({why}): choose another folder") from None
        return place

    def _settings(self) -> list[str]:
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

    def _joined(self, parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        settings = self.runs[self._settings()]
        if not parts:
            return settings.iloc[:0].assign(step=[])
        return settings.merge(pd.concat([part.assign(run=name) for name, part in parts.items()]), on="run")

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.runs["status"].value_counts().items())
        return f"<Result {self._results.name}: {counts or 'no run'}, in {self.folder}>"

    def _repr_html_(self) -> str:
        return self.summary().to_html(index=False, float_format="%.4g")


def _known(argument: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{argument} must be one of {', '.join(known)}, got {value!r}")


def run(
    scenario: str | Path | Mapping[str, Any] | Study | Run | None = None,
    /,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    quiet: bool = False,
    ray_address: str | None = None,
    **settings: Any,
) -> Result:
    """Runs a study: every combination of its grid, every repeat.

    Where `out` has some of the runs, these stay, one that was cut goes on, and the others are run.

    Args:
        scenario: A YAML file (~ for the home folder), a name of `byzax list scenarios`, a mapping with the same keys, a
            `Study` or a `Run`; None where `settings` say all.
        out: Folder of the results, ~ for the home folder; None for one that is removed with the last reference to the
            result or to a copy of it.
        overwrite: Whether results of byzax that are in `out` are removed first.
        retry_failed: Whether runs in `out` that failed are run again.
        quiet: Whether neither progress nor notes are shown.
        ray_address: A Ray cluster to join, for `executor="ray"`.
        settings: Keys of a scenario and their values, which stand over those of `scenario`. Where a name can stand, so
            can a function; dotted keys can be given as `**{"rule.m": 5}`. A key that the grid of `scenario` varies is
            varied no more, as with `--set`; a `grid` that is given here varies the other keys that are.

    Returns:
        The results. Runs that failed are among them, with a warning, unless all of them did.

    Raises:
        ScenarioError: For a mistake in what was asked; one line for each, which begins with its key.
        RunError: Where no run was completed.
        RuntimeError: Where a file cannot be written, such as on a full disk; what was done is in `out`.
        KeyboardInterrupt: With what was done in `out`.

    Example:
        >>> result = run(data="digits", rule="median", attack="sign_flip", steps=2, executor="loop", quiet=True)
        >>> result.metrics["step"].tolist()
        [0, 2]
    """
    place = None if out is None else _path("out", out)
    expansion = described(scenario, settings)
    expansion = check(validate_quickly(expansion)) or expansion
    if place is not None:
        return _run(expansion, place, overwrite, retry_failed, quiet, ray_address)
    made = _Temporary(Path(tempfile.mkdtemp(prefix="byzax-")))
    try:
        # there already, and empty
        return replace(_run(expansion, made.folder, overwrite, retry_failed, quiet, ray_address), _temporary=made)
    except BaseException:
        # the error holds this frame, and with it the object
        shutil.rmtree(made.folder, ignore_errors=True)
        raise


def _run(
    expansion: Expansion, folder: Path, overwrite: bool, retry_failed: bool, quiet: bool, ray_address: str | None
) -> Result:
    inputs = [Path(expansion.source)] if expansion.source else []
    with resuming.opened([folder], [expansion], inputs, overwrite, retry_failed) as (standing,):
        todo = running.group_runs(expansion, folder, standing)
        runs, steps = sum(len(job.runs) for job in todo), sum(job.scenario.steps * len(job.runs) for job in todo)
        if not quiet:
            said = [*study.skipped_lines(results.skipped_combinations(expansion)), *notes(expansion)]
            for line in [*said, *resuming.lines(folder, expansion, standing)]:
                print(line, file=sys.stderr)
        if todo:
            report_of = progress.report(Console(stderr=True), runs, steps, None, quiet)
            with interrupts.raise_on_signals(), report_of as shown:
                running.execute_groups(todo, ray_address, shown)
        result = load(folder)
    failed = result.runs.loc[~has_result(result.runs)]
    if len(failed):
        count = len(result.runs)
        said = f"{len(failed)} of {count} runs failed, such as {failed['run'].iloc[0]}: {failed['reason'].iloc[0]}"
        if len(failed) == count:
            raise RunError(said)
        warnings.warn(said, stacklevel=3)
    return result


def describe(scenario: str | Path | Mapping[str, Any] | Study | Run | None = None, /, **settings: Any) -> Study:
    """The study that `run` would execute: read and parsed, nothing built.

    Args:
        scenario: As in `run`.
        settings: As in `run`.

    Returns:
        The study; its `run` is the first run.

    Raises:
        ScenarioError: For a mistake in what was asked; one line for each, which begins with its key.

    Example:
        >>> describe("quickstart", steps=10)
        Study(steps=10, data='digits', rule='krum', attack='sign_flip', name='quickstart')
    """
    return described(scenario, settings).study


def described(scenario: str | Path | Mapping[str, Any] | Study | Run | None, settings: Mapping[str, Any]) -> Expansion:
    """The study that `run` is asked for, expanded. Raises ScenarioError."""
    if isinstance(scenario, Study) and not settings:
        return expand(scenario)
    source = ""
    if isinstance(scenario, (str, os.PathLike)):
        file = _path("scenario", scenario)
        source, mapping = str(file), study.load(file).study.given()
    elif isinstance(scenario, (Study, Run)):
        mapping = scenario.given()
    elif scenario is None or isinstance(scenario, Mapping):
        mapping = scenario or {}
    else:
        raise ScenarioError(f"scenario: a file, a mapping, a Study or a Run is needed, got {quote(scenario)}")
    return expand(parse_as(Study, study.assign_all({"name": "study", **mapping}, settings)), source)


def _path(argument: str, given: Any) -> Path:
    """A path of an argument, with the home folder in place of ~. Raises ScenarioError for anything else."""
    text = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise ScenarioError(f"{argument}: the path of a file or folder is needed, got {quote(given)}")
    if not text.strip() or "\0" in text:
        raise ScenarioError(f"{argument}: {quote(text)} is no path: name a file or folder")
    return Path(os.path.expanduser(text))


def validate(scenario: str | Path | Mapping[str, Any] | Study | Run | None = None, /, **settings: Any) -> None:
    """Checks all that can be checked without running: every part is built and traced, for every seed and combination.

    Args:
        scenario: As in `run`.
        settings: As in `run`.

    Raises:
        ScenarioError: One line for each mistake, which begins with its key and says what would work.
    """
    check(described(scenario, settings))


def load(folder: str | Path) -> Result:
    """The results in the folder of a study, as `run` gives them.

    Args:
        folder: A folder that `byzax run` or `run(..., out=folder)` wrote, of one study; ~ is the home folder.

    Returns:
        The results, read from the files of the runs. A damaged run is left out, with a warning.

    Raises:
        ScenarioError: Where there is no run in it, with the folder to be named instead.
    """
    place = _path("folder", folder)
    if not os.path.isdir(place) or not any(place.glob("runs/[!.]*")):
        raise ScenarioError(f"{place}: no run here: {_way_to_results(place)}")
    place = place.absolute()
    found = report.read([place])
    for line in found.damaged:
        warnings.warn(line, stacklevel=2)
    columns = [*found.curves.columns[: list(found.curves.columns).index("status")], *METRICS]
    metrics: Any = found.curves[columns]
    return Result(place, found.frame, metrics, found)


def _way_to_results(place: Path) -> str:
    """The folder to be loaded in place of one without runs."""
    # not Path.is_dir, which fails for a name that is too long
    if not os.path.isdir(place):
        return "there is no such folder"
    if (place / "summary.json").exists():
        return f"this is the folder of one run: load that of its study, {place.absolute().parent.parent}"
    if studies := sorted(path.parent.name for path in place.glob("*/runs")):
        return f"load one of the studies in it, such as {place / studies[0]} (byzax show joins them)"
    return "a folder that byzax run wrote is needed"


def simulate(run: Run | Mapping[str, Any] | None = None, /, **settings: Any) -> Iterator[Update]:
    """A run by hand: its updates one after the other, with all their arrays.

    Args:
        run: The run, or a mapping with the same keys; None where `settings` say all.
        settings: Keys of a run and their values, which stand over those of `run`, dotted keys as in `byzax.run`. What a
            study has besides (grid, repeats, executor, evaluate_every, record, ...) is refused.

    Returns:
        An iterator over the updates (`byzax.simulator.diagnostics.Update`). The numbers are those of every executor.

    Raises:
        ScenarioError: For a mistake in what was asked, before the first update.
        RunError: Where a stage fails, naming worker and job.

    Example:
        >>> for update in simulate(data="digits", rule="krum", attack="sign_flip", steps=1):
        ...     print(update.rows.shape == update.forged.shape, update.weights.sum())
        True 1.0
    """
    if isinstance(run, Study):
        raise ScenarioError("run: a Study is many runs: give its first one, study.run, or run all with byzax.run")
    if not isinstance(run, (Run, Mapping, type(None))):
        way = ": byzax.describe(file).run is the first run of a file" if isinstance(run, (str, os.PathLike)) else ""
        raise ScenarioError(f"run: a Run or a mapping is needed, got {quote(run)}{way}")
    mapping = run.given() if isinstance(run, Run) else run or {}
    made = parse_as(Run, study.assign_all(mapping, settings, Run))
    check(made)
    return loop.simulate(made)
