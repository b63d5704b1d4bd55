"""byzax from Python: `run` a scenario, `load` its results, `simulate` a run by hand."""

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from byzax.experiments import progress, report, resuming, run_groups, run_processes, running, study
from byzax.experiments.gathering import has_result
from byzax.experiments.notes import notes
from byzax.experiments.records import METRICS
from byzax.experiments.result import Result, TemporaryFolder, path_of
from byzax.experiments.study_files import skipped_combinations, skipped_lines
from byzax.simulator import interrupts
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.grid import Expansion, expand
from byzax.simulator.config.measures import MEASURE_COLUMNS
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Study
from byzax.simulator.diagnostics import Update
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import RunError
from byzax.simulator.mistakes import ScenarioError, quote
from byzax.simulator.validation import validate as check
from byzax.simulator.validation import validate_quickly
from byzax.simulator.validation.link_checks import link_notes


def run(
    scenario: str | Path | Mapping[str, Any] | Study | Run | None = None,
    /,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    quiet: bool = False,
    ray_address: str | None = None,
    jobs: int | None = None,
    retries: int = 0,
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
        jobs: Processes that execute runs side by side, with executor loop or vectorised on CPUs; None for one for each
            core where that is worth it. The numbers are the same.
        retries: Times that a run whose process died is run again from its last snapshot; with it runs of loop and
            vectorised on CPUs have processes of their own.
        settings: Keys of a scenario and their values, which stand over those of `scenario`. Where a name can stand, so
            can a function; dotted keys can be given as `**{"rule.m": 5}`. A key that the grid of `scenario` varies is
            varied no more, as with `--set`; a `grid` that is given here varies the other keys that are.

    Returns:
        The results. Runs that failed are among them, with a warning, unless all of them did.

    Raises:
        ScenarioError: For a mistake in what was asked; one line for each, which begins with its key.
        RunError: Where no run was completed, or the Ray cluster that was joined is gone.
        RuntimeError: Where a file cannot be written, such as on a full disk; what was done is in `out`.
        KeyboardInterrupt: With what was done in `out`.

    Example:
        >>> result = run(data="digits", rule="median", attack="sign_flip", steps=2, executor="loop", quiet=True)
        >>> result.metrics["step"].tolist()
        [0, 2]
    """
    place = None if out is None else path_of("out", out)
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise ScenarioError(f"retries: a whole number from 0 on is needed, got {quote(retries)}")
    expansion = checked(described(scenario, settings), jobs)
    if place is not None:
        return run_expansion(expansion, place, overwrite, retry_failed, quiet, ray_address, jobs, retries)
    made = TemporaryFolder(Path(tempfile.mkdtemp(prefix="byzax-")))
    try:
        # there already, and empty
        return replace(
            run_expansion(expansion, made.folder, overwrite, retry_failed, quiet, ray_address, jobs, retries),
            _temporary=made,
        )
    except BaseException:
        # the error holds this frame, and with it the object
        shutil.rmtree(made.folder, ignore_errors=True)
        raise


def checked(expansion: Expansion, jobs: int | None) -> Expansion:
    """Checks a study before it is run.

    Args:
        expansion: The study.
        jobs: Number of processes that was asked for; None for none.

    Returns:
        The study, without the combinations that are impossible where `skip_impossible` leaves these out.

    Raises:
        ScenarioError: As `run`.
    """
    expansion = validate_quickly(expansion)
    run_processes.check([cell.study for cell in expansion.cells], jobs)
    return check(expansion) or expansion


def run_expansion(
    expansion: Expansion,
    folder: Path,
    overwrite: bool,
    retry_failed: bool,
    quiet: bool,
    ray_address: str | None,
    jobs: int | None,
    retries: int,
) -> Result:
    """Runs a study that was checked.

    Args:
        expansion: The study.
        folder: The folder of the results.
        overwrite: As of `run`.
        retry_failed: As of `run`.
        quiet: As of `run`.
        ray_address: As of `run`.
        jobs: As of `run`.
        retries: As of `run`.

    Returns:
        The results.

    Raises:
        RunError: As `run`.
    """
    inputs = [Path(expansion.source)] if expansion.source else []
    with resuming.opened([folder], [expansion], inputs, overwrite, retry_failed) as (standing,):
        todo = run_groups.group_runs(expansion, folder, standing)
        runs, steps = sum(len(job.runs) for job in todo), sum(job.scenario.steps * len(job.runs) for job in todo)
        if not quiet:
            said = [*skipped_lines(skipped_combinations(expansion)), *notes(expansion)]
            for line in [*said, *resuming.lines(folder, expansion, standing)]:
                print(line, file=sys.stderr)
        if todo:
            report_of = progress.report(Console(stderr=True), runs, steps, None, quiet)
            with interrupts.raise_on_signals(), report_of as shown:
                running.execute_groups(todo, ray_address, shown, jobs=jobs, retries=retries)
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
        file = path_of("scenario", scenario)
        source, mapping = str(file), study.load(file).study.given()
    elif isinstance(scenario, (Study, Run)):
        mapping = scenario.given()
    elif scenario is None or isinstance(scenario, Mapping):
        mapping = scenario or {}
    else:
        raise ScenarioError(f"scenario: a file, a mapping, a Study or a Run is needed, got {quote(scenario)}")
    return expand(parse_as(Study, study.assign_all({"name": "study", **mapping}, settings)), source)


def validate(scenario: str | Path | Mapping[str, Any] | Study | Run | None = None, /, **settings: Any) -> None:
    """Checks all that can be checked without running: every part is built and traced, for every seed and combination.

    Args:
        scenario: As in `run`.
        settings: As in `run`.

    Raises:
        ScenarioError: One line for each mistake, which begins with its key and says what would work.
    """
    expansion = described(scenario, settings)
    check(expansion)
    _warn(*(cell.study.task.run for cell in expansion.cells))


def _warn(*runs: Run) -> None:
    """Warns of settings that change nothing, each once, as `run` prints them in its notes."""
    for line in dict.fromkeys(line for run in runs for line in link_notes(run)):
        warnings.warn(line, stacklevel=3)


def load(folder: str | Path) -> Result:
    """The results in the folder of a study, as `run` gives them.

    Args:
        folder: A folder that `byzax run` or `run(..., out=folder)` wrote, of one study; ~ is the home folder.

    Returns:
        The results, read from the files of the runs. A damaged run is left out, with a warning.

    Raises:
        ScenarioError: Where there is no run in it, with the folder to be named instead.
    """
    place = path_of("folder", folder)
    if not os.path.isdir(place) or not any(place.glob("runs/[!.]*")):
        raise ScenarioError(f"{place}: no run here: {_way_to_results(place)}")
    place = place.absolute()
    found = report.read([place])
    for line in found.damaged:
        warnings.warn(line, stacklevel=2)
    columns = [*found.curves.columns[: list(found.curves.columns).index("status")]]
    columns += [name for name in found.curves if name in METRICS or name in MEASURE_COLUMNS]
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
    _warn(made)
    return loop.simulate(made)
