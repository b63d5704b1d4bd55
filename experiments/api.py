"""byzax from Python: `run` a scenario, `load` its results, `simulate` a run by hand."""

import shutil
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console

from byzax.experiments import outputs, plots, progress, report, results, running, study
from byzax.experiments.gathering import Results, has_result, num_expected, varying_keys
from byzax.experiments.notes import notes
from byzax.experiments.records import METRICS
from byzax.experiments.scores import score_of
from byzax.simulator import interrupts
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.grid import Expansion, expand, put
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Study
from byzax.simulator.diagnostics import Diagnostics, Update
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import RunError
from byzax.simulator.mistakes import ScenarioError, quote
from byzax.simulator.validation import validate as check
from byzax.simulator.validation import validate_quickly

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Result:
    """The results of a study, read from its folder.

    Attributes:
        folder: The folder; one that goes with this object where none was asked for (see `save`).
        runs: One row per run: `run` (the name of its folder), `rule`, `attack`, every other setting that varies,
            `seed`, `status` (complete, degraded, failed, interrupted, unfinished), the measurements that it ended
            with, and `reason` where it failed.
        metrics: One row per run and evaluation, with the same first columns, `step`, `time_s`, `gradients`, `wall_s`,
            losses and accuracies.
    """

    folder: Path
    runs: pd.DataFrame
    metrics: pd.DataFrame
    _results: Results = field(compare=False)

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The last model of each run, by the name of the run: `[d]`."""
        found = {}
        for name, record in self._results.records.items():
            if (record.folder / "params.npz").exists():
                with np.load(record.folder / "params.npz") as arrays:
                    found[name] = arrays["params"]
        return found

    @property
    def updates(self) -> pd.DataFrame:
        """One row per run and update: the columns of a setting, `step` (from 1), and the fields of `Diagnostics`."""
        return self._joined("updates.csv")

    @property
    def weights(self) -> pd.DataFrame:
        """The weight that the rule gave to each worker's row, where `record: {weights: true}` kept it.

        Returns:
            One row per run, update and worker: `step` (from 1), `worker`, `weight`; NaN where the rule gives none.
        """
        # runs may have different numbers of workers
        found = self._joined("weights.csv", lambda wide: wide.melt("step", var_name="worker", value_name="weight"))
        if not len(found):
            return pd.DataFrame(columns=[*self._settings(), "step", "worker", "weight"])
        found = found.astype({"worker": int})
        return found.sort_values(["run", "step", "worker"], kind="stable").reset_index(drop=True)

    def recorded(self, run: str | None = None) -> list[Update]:
        """The updates that `record: {rows: ...}` kept, in order, as `simulate` gives them.

        Args:
            run: The name of a run; not needed where there is one.

        Raises:
            ValueError: For a name that no run has, or none where there are several.
        """
        folders = {name: record.folder for name, record in self._results.records.items()}
        if run is None and len(folders) == 1:
            (run,) = folders
        if run not in folders:
            raise ValueError(f"run: one of {', '.join(folders)} is needed, got {run!r}")
        found = []
        for path in sorted(folders[run].glob("update-*.npz")):
            with np.load(path) as arrays:
                given: dict[str, Any] = {name: arrays[name] for name in arrays.files}
            given |= {"step": int(given["step"]), "time_s": float(given["time_s"])}
            found.append(Update(**given, diagnostics=self._diagnostics(folders[run], given["step"])))
        return found

    @staticmethod
    def _diagnostics(folder: Path, step: int) -> Diagnostics:
        rows = pd.read_csv(folder / "updates.csv")
        row = rows.loc[rows["step"] == step + 1, list(Diagnostics._fields)]
        return Diagnostics(*(row.iloc[0].tolist() if len(row) else [np.nan] * len(Diagnostics._fields)))

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
            ValueError: For a column that is not there.
        """
        column = y or score_of(self.runs).column
        _known("x", x, ("step", "time_s", "gradients", "wall_s"))
        _known("y", column, METRICS)
        for name, value in {"hue": hue, **({} if col is None else {"col": col})}.items():
            _known(name, value, self._settings())
        return plots.compare(self._results.curves, x, column, hue, col)

    def save(self, folder: str | Path) -> Path:
        """Copies the results into a new folder, which `load` and `byzax show` read.

        Raises:
            ScenarioError: Where the folder is there already, or cannot be written.
        """
        outputs.claim([Path(folder)], [])
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Path(folder)

    def _settings(self) -> list[str]:
        columns = list(self.runs.columns)
        return [name for name in columns[: columns.index("status")] if name != "study"]

    def _joined(self, file: str, shaped: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows) -> pd.DataFrame:
        settings, parts = self.runs[self._settings()], []
        for name, record in self._results.records.items():
            if (record.folder / file).exists():
                parts.append(shaped(pd.read_csv(record.folder / file)).assign(run=name))
        return settings.merge(pd.concat(parts), on="run") if parts else settings.iloc[:0].assign(step=[])

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
    quiet: bool = False,
    ray_address: str | None = None,
    **settings: Any,
) -> Result:
    """Runs a study: every combination of its grid, every repeat.

    Args:
        scenario: A YAML file, a mapping with the same keys, a `Study` or a `Run`; None where `settings` say all.
        out: Folder of the results; None for one that is removed with the last reference to the result.
        overwrite: Whether results of byzax that are in `out` are replaced.
        quiet: Whether neither progress nor notes are shown.
        ray_address: A Ray cluster to join, for `executor="ray"`.
        settings: Keys of a scenario and their values, which stand over those of `scenario`. Where a name can stand, so
            can a function; dotted keys can be given as `**{"rule.m": 5}`.

    Returns:
        The results. Runs that failed are among them, with a warning, unless all of them did.

    Raises:
        ScenarioError: For a mistake in what was asked; one line for each, which begins with its key.
        RunError: Where no run was completed.
        KeyboardInterrupt: With what was done in `out`.

    Example:
        >>> result = run(data="digits", rule="median", attack="sign_flip", steps=2, executor="loop", quiet=True)
        >>> result.metrics["step"].tolist()
        [0, 2]
    """
    expansion = described(scenario, settings)
    expansion = check(validate_quickly(expansion)) or expansion
    if out is not None:
        return _run(expansion, Path(out), overwrite, quiet, ray_address)
    made = tempfile.mkdtemp(prefix="byzax-")
    try:
        # there already, and empty
        result = _run(expansion, Path(made), overwrite, quiet, ray_address)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    weakref.finalize(result, shutil.rmtree, made, ignore_errors=True)
    return result


def _run(expansion: Expansion, folder: Path, overwrite: bool, quiet: bool, ray_address: str | None) -> Result:
    outputs.claim([folder], [Path(expansion.source)] if expansion.source else [], overwrite)
    results.save_study(folder, expansion)
    todo = running.group_runs(expansion, folder)
    runs, steps = sum(len(job.runs) for job in todo), sum(job.scenario.steps * len(job.runs) for job in todo)
    console = Console(stderr=True)
    if not quiet:
        for line in [*study.skipped_lines(results.skipped_combinations(expansion)), *notes(expansion)]:
            print(line, file=sys.stderr)
    with interrupts.raise_on_signals(), progress.report(console, runs, steps, None, quiet) as shown:
        running.execute_groups(todo, ray_address, shown)
    result = load(folder)
    failed = result.runs.loc[~has_result(result.runs)]
    if len(failed):
        said = f"{len(failed)} of {runs} runs failed, such as {failed['run'].iloc[0]}: {failed['reason'].iloc[0]}"
        if len(failed) == runs:
            raise RunError(said)
        warnings.warn(said, stacklevel=3)
    return result


def described(scenario: str | Path | Mapping[str, Any] | Study | Run | None, settings: Mapping[str, Any]) -> Expansion:
    """The study that `run` is asked for, expanded. Raises ScenarioError."""
    if isinstance(scenario, Study) and not settings:
        return expand(scenario)
    if not isinstance(scenario, (str, Path, Mapping, Study, Run, type(None))):
        raise ScenarioError(f"scenario: a file, a mapping, a Study or a Run is needed, got {quote(scenario)}")
    source = str(scenario) if isinstance(scenario, (str, Path)) else ""
    if source:
        mapping: Any = study.load(Path(source)).study.given()
    elif isinstance(scenario, (Study, Run)):
        mapping = scenario.given()
    else:
        mapping = scenario or {}
    mapping = {"name": "study", **mapping}
    for key, value in settings.items():
        mapping = put(mapping, key, value)
    return expand(parse_as(Study, mapping), source)


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
        folder: A folder that `byzax run` or `run(..., out=folder)` wrote.

    Returns:
        The results, read from the files of the runs. A damaged run is left out, with a warning.

    Raises:
        ScenarioError: Where there is no run in it.
    """
    place = Path(folder)
    if not any(place.glob("runs/[!.]*")):
        raise ScenarioError(f"{place}: no run here: a folder that byzax run wrote is needed")
    found = report.read([place])
    for line in found.damaged:
        warnings.warn(line, stacklevel=2)
    columns = [*found.curves.columns[: list(found.curves.columns).index("status")], *METRICS]
    metrics: Any = found.curves[columns]
    return Result(place, found.frame, metrics, found)


def simulate(run: Run | Mapping[str, Any] | None = None, /, **settings: Any) -> Iterator[Update]:
    """A run by hand: its updates one after the other, with all their arrays.

    Args:
        run: The run, or a mapping with the same keys; None where `settings` say all.
        settings: Keys of a run and their values, which stand over those of `run`.

    Returns:
        An iterator over the updates. The numbers are those of every executor.

    Raises:
        ScenarioError: For a mistake in what was asked, before the first update.
        RunError: Where a stage fails, naming worker and job.

    Example:
        >>> for update in simulate(data="digits", rule="krum", attack="sign_flip", steps=1):
        ...     print(update.rows.shape == update.forged.shape, update.weights.sum())
        True 1.0
    """
    mapping: Any = run.given() if isinstance(run, Run) else run or {}
    for key, value in settings.items():
        mapping = put(mapping, key, value, Run)
    made = parse_as(Run, mapping)
    check(made)
    return loop.simulate(made)
