"""Tuning: hyperparameters chosen on the validation samples, before the test numbers are looked at."""

import csv
import io
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from byzax.experiments import outputs, study
from byzax.experiments.gathering import damage_line
from byzax.experiments.names import file_name, joined, short
from byzax.experiments.records import Damaged, Summary, read_summary
from byzax.experiments.report import study_name
from byzax.experiments.settings import settings_line, shared_settings
from byzax.experiments.strict_yaml import dump
from byzax.experiments.tables import TableCell, cell_text, spread_text
from byzax.simulator.config.base import thaw
from byzax.simulator.config.dotted_keys import put, put_order
from byzax.simulator.config.grid import Expansion
from byzax.simulator.config.rates import RatePart
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import ScenarioError, on_one_line, prefix_errors
from byzax.simulator.validation import load_data

# Measurements that are not written while there is something to choose.
HIDDEN = ("test_loss", "test_accuracy", "attack_success", "worst_accuracy", "mean_model_accuracy")
# Keys that change the samples the choice is made on, so that their values cannot be compared.
MEASURING = ("seed", "data", "data.name", "data.seed", "data.validation", "data.test", "data.test_by")
# The numbers of tune.csv after the mean.
COLUMNS = ("std", "low", "high", "seeds", "count", "of", "chosen")
# Factors of the learning rates in the default sweep.
AROUND = (0.1, 0.3, 1.0, 3.0, 10.0)


class Tuning(NamedTuple):
    """A study whose grid also sweeps the hyperparameters, expanded.

    Attributes:
        expansion: The study.
        over: The keys that are chosen.
        each: Keys of the scenario's own grid; for each combination of their values a choice is made.
        by: The measure that decides.
    """

    expansion: Expansion
    over: tuple[str, ...]
    each: tuple[str, ...]
    by: str


class TriedCombination(NamedTuple):
    """The results of one combination of values, in one group of runs.

    Attributes:
        each: The values that define the group.
        chosen: The values tried.
        mean: Mean of the measure over the repeats (of each repeat the mean over the rest of the grid); NaN unless
            `counted` is `of`.
        std: Standard deviation over the repeats, likewise.
        low: Lowest of the repeats, likewise.
        high: Highest of the repeats, likewise.
        seeds: Number of repeats.
        counted: Number of runs completed.
        of: Number of runs asked for.
        best: Whether the combination is chosen.
    """

    each: Mapping[str, Any]
    chosen: Mapping[str, Any]
    mean: float
    std: float
    low: float
    high: float
    seeds: int
    counted: int
    of: int
    best: bool


def plan_tuning(
    path: Path,
    overrides: Sequence[str],
    over: Sequence[str],
    each: Sequence[str],
    by: str | None,
    raw: Mapping[str, Any] | None = None,
) -> Tuning:
    """Plans a tuning.

    Args:
        path: The scenario.
        overrides: Texts `key=value`, applied to it.
        over: Sweeps `key=[values]`; empty for the default ones.
        each: Keys of the scenario's grid for each value of which a choice is made.
        by: The measure that decides; None for the validation accuracy, or loss in a regression.
        raw: The content of the file, where it was read already.

    Returns:
        The tuning.

    Raises:
        ScenarioError: One line for each mistake.
    """
    plain = study.load(path, overrides, raw)
    if plain.study.include:
        raise ScenarioError(f"{path}: include: byzax tune chooses for whole grids: remove it, or write a grid")
    asked = list(over) or default_sweeps(plain.study)
    keys = [text.partition("=")[0].strip() for text in asked]
    if twice := [key for i, key in enumerate(keys) if key in keys[:i]]:
        raise ScenarioError(f"--over {twice[0]}: is given twice: give all its values in one list")
    if unlike := [key for key in keys if key in MEASURING]:
        instead = "for more seeds use repeats" if unlike[0] == "seed" else "tune each by itself, with --set"
        raise ScenarioError(
            f"--over {unlike[0]}: decides which samples the choice is made by, so that its values cannot be compared: "
            f"{instead}"
        )
    if both := [key for key in each if key in keys]:
        raise ScenarioError(f"--each {both[0]}: is chosen by --over: give it once")
    if unknown := [key for key in each if key not in plain.study.grid]:
        known = ", ".join(plain.study.grid) or "it is empty"
        raise ScenarioError(f"--each {unknown[0]}: is no key of the grid of {path} ({known})")
    for text in asked:
        if "=" not in text:
            raise ScenarioError(f"--over {text}: values are needed, such as --over {text}=[0.01,0.1]")
    try:
        expansion = study.load(path, [*overrides, *(f"grid.{text}" for text in asked)], raw)
    except ScenarioError as error:
        raise ScenarioError(str(error).replace("--set grid.", "--over ")) from None
    # test samples are not looked at
    cells = [cell._replace(study=cell.study.replace(measure=(), log=())) for cell in expansion.cells]
    expansion = expansion._replace(cells=tuple(cells))
    for cell in cells:
        if not cell.study.data.validation:
            raise ScenarioError(f"{path}: data.validation is 0: there are no samples to choose by: such as 0.1")
    with prefix_errors(path):
        regression = load_data(expansion.study.run).classes is None
    chosen_by = by or ("validation_loss" if regression else "validation_accuracy")
    if regression and chosen_by == "validation_accuracy":
        raise ScenarioError(f"--by {by}: {expansion.study.data.name} has no classes: choose validation_loss")
    return Tuning(expansion, tuple(keys), tuple(each), chosen_by)


def default_sweeps(base: Study) -> list[str]:
    """The default sweeps: five learning rates around the scenario's, and the momentum of sgd.

    Args:
        base: The scenario.

    Returns:
        Texts `key=[values]`; the learning rate is that of the workers where these take steps.

    Raises:
        ScenarioError: Where there is no learning rate that is a number.
    """
    local = base.local
    part = base.optimizer if local is None else local.optimizer
    key, speed = ("local", local.learning_rate) if local is not None and part is None else ("", None)
    if part is not None:
        key, speed = ("optimizer" if local is None else "local.optimizer"), getattr(part, "learning_rate", None)
    key = f"{key}.learning_rate"
    if isinstance(speed, RatePart):
        key, speed = f"{key}.start", speed.options().get("start")
    if not isinstance(speed, (int, float)):
        # an optimizer or a schedule of the user's own
        raise ScenarioError(f"--over: there is no number {key} to try others around: say what is to be tried")
    sweeps = [f"{key}=[{', '.join(f'{speed * factor:.6g}' for factor in AROUND)}]"]
    if base.optimizer.name == "sgd":
        sweeps.append("optimizer.momentum=[0.0, 0.9]")
    return sweeps


def tried_combinations(folder: Path, tuning: Tuning) -> list[TriedCombination]:
    """Reads the results of every combination from the files of the runs.

    Args:
        folder: The folder of the study.
        tuning: The tuning.

    Returns:
        The combinations, group by group, in the order of the scenario.
    """
    summaries, _ = _summaries(folder)
    # no choice: models with a loss that is not finite, whatever their accuracy, and runs that lost workers
    scores = {
        summary.position: getattr(summary, tuning.by)
        for summary in summaries
        if summary.status == "complete" and math.isfinite(summary.validation_loss)
    }
    position = itertools.count()
    # by group and combination, the values by seed; NaN of a run that was not completed
    values: dict[tuple[str, str], dict[int, list[float]]] = {}
    choices: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
    missing: dict[tuple[str, str], int] = {}
    possible = [(cell.choices, cell.study.seeds) for cell in tuning.expansion.cells]
    # combinations left out of the grid count as not completed
    left_out = [(cell.choices, tuning.expansion.study.seeds) for cell in tuning.expansion.skipped]
    for picked, seeds in [*possible, *left_out]:
        each, chosen = ({key: picked[key] for key in keys} for keys in (tuning.each, tuning.over))
        place = repr(each), repr(chosen)
        choices[place] = each, chosen
        for seed in seeds:
            number = next(position)
            missing[place] = missing.get(place, 0) + (number not in scores)
            values.setdefault(place, {}).setdefault(seed, []).append(scores.get(number, math.nan))
    rows = []
    for place, by_seed in values.items():
        means = [statistics.fmean(of_seed) for of_seed in by_seed.values()]
        runs = sum(map(len, by_seed.values()))
        whole = all(map(math.isfinite, means))
        spread = statistics.stdev(means) if len(means) > 1 and whole else math.nan
        ends = (min(means), max(means)) if whole else (math.nan, math.nan)
        numbers = statistics.fmean(means), spread, *ends, len(means), runs - missing[place], runs
        rows.append(TriedCombination(*choices[place], *numbers, False))
    sign = 1 if tuning.by == "validation_accuracy" else -1
    groups: dict[str, list[TriedCombination]] = {}
    for row in rows:
        groups.setdefault(repr(row.each), []).append(row)
    for group in groups.values():
        usable = [i for i, row in enumerate(group) if math.isfinite(row.mean)]
        if usable:
            # the first of equals
            best = max(usable, key=lambda i: sign * group[i].mean)
            group[best] = group[best]._replace(best=True)
    return [row for group in groups.values() for row in group]


def write(folder: Path, tuning: Tuning, rows: Sequence[TriedCombination]) -> list[Path]:
    """Writes `tune.csv`, and the chosen scenario of each group.

    Args:
        folder: The folder of the study.
        tuning: The tuning.
        rows: The combinations.

    Returns:
        The paths.
    """
    written = [folder / "tune.csv"]
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*tuning.each, *tuning.over, f"mean_{tuning.by}", *COLUMNS])
    for row in rows:
        names = [on_one_line(value) for value in (*row.each.values(), *row.chosen.values())]
        numbers = row.mean, row.std, row.low, row.high, row.seeds, row.counted, row.of, int(row.best)
        lines.writerow([*names, *numbers])
    outputs.save_text(written[0], text.getvalue())
    for row in (row for row in rows if row.best):
        stem = file_name(["tuned", *short({k: on_one_line(v) for k, v in row.each.items()})], [p.stem for p in written])
        written.append(folder / f"{stem}.yaml")
        outputs.save_text(written[-1], dump(replace_sweeps(tuning.expansion.study.given(), {**row.each, **row.chosen})))
    return written


def replace_sweeps(raw: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Sets chosen values in a scenario in place of the sweeps over them.

    Args:
        raw: The scenario.
        chosen: The values by key.

    Returns:
        A new mapping.
    """
    grid = {key: values for key, values in (raw.get("grid") or {}).items() if key not in chosen}
    mapping = {key: value for key, value in raw.items() if key != "grid"}
    for key in sorted(chosen, key=put_order):
        # options of a component that is still swept are set after its name
        if any(key.startswith(f"{other.removesuffix('.name')}.") for other in grid):
            grid[key] = [thaw(chosen[key])]
        else:
            mapping = put(mapping, key, chosen[key])
    return {**mapping, "grid": grid} if grid else mapping


def show(folder: Path, console: Console) -> bool:
    """Prints the combinations of a finished tuning, from its `tune.csv`, with the chosen one of each group marked.

    Args:
        folder: The folder of the study.
        console: The console.

    Returns:
        Whether no run is damaged.

    Raises:
        ScenarioError: Where `tune.csv` cannot be read.
    """
    keys, measure, rows = _read(folder)
    summaries, damaged = _summaries(folder)
    console.print(Text(f"{study_name(folder)}: {measure} by {joined(keys)}", style="bold"))
    if subtitle := settings_line(shared_settings([summary.settings for summary in summaries])):
        console.print(Text(subtitle, style="dim"))
    most = max((row.seeds for row in rows), default=1)
    shown = Table(caption=f"final {measure}, {spread_text(most)}", box=box.SIMPLE_HEAD)
    for key in keys:
        shown.add_column(Text(key), vertical="bottom")
    shown.add_column(Text(measure), justify="right", vertical="bottom")
    shown.add_column("runs", justify="right", vertical="bottom")
    shown.add_column("")
    for row in rows:
        # a combination with a run that is missing has no mean to be compared
        cell = TableCell(row.mean, row.std, row.low, row.high, 0 if math.isnan(row.mean) else row.seeds, row.seeds)
        runs = str(row.of) if row.counted == row.of else f"{row.counted} of {row.of}"
        # in a pipe there is no colour
        cells = [*row.each.values(), *row.chosen.values(), cell_text(cell, ".3f"), runs, "chosen" * row.best]
        shown.add_row(*(Text(cell, style="bold green" if row.best else "") for cell in cells))
    console.print(shown)
    for problem in damaged:
        console.print(Text(problem, style="red"))
    return not damaged


def _read(folder: Path) -> tuple[list[str], str, list[TriedCombination]]:
    """Reads the keys, the measure and the rows of `tune.csv`. Raises ScenarioError."""
    path = folder / "tune.csv"
    try:
        with path.open(newline="") as file:
            headings, *lines = csv.reader(file)
        keys, mean = headings[: -len(COLUMNS) - 1], headings[-len(COLUMNS) - 1]
        if tuple(headings[-len(COLUMNS) :]) != COLUMNS or not mean.startswith("mean_") or not keys:
            raise ValueError
        rows = []
        for names, numbers in ((each[: len(keys)], each[len(keys) :]) for each in lines):
            *measured, seeds, count, of, chosen = numbers
            value, std, low, high = map(float, measured)
            whole = (int(seeds), int(count), int(of), bool(int(chosen)))
            rows.append(TriedCombination({}, dict(zip(keys, names, strict=True)), value, std, low, high, *whole))
    except (OSError, ValueError, csv.Error, IndexError):
        raise ScenarioError(f"{path}: cannot be read, or is no table that byzax tune wrote") from None
    return keys, mean.removeprefix("mean_").replace("_", " "), rows


def _summaries(folder: Path) -> tuple[list[Summary], list[str]]:
    """Reads the summaries of the runs, and a line for each that is damaged."""
    summaries, damaged = [], []
    for path in sorted(folder.glob("runs/[!.]*")):
        try:
            summaries.append(read_summary(path))
        except Damaged as error:
            damaged.append(damage_line(path, error))
    return summaries, damaged


def shares_test_samples(tuning: Tuning) -> bool:
    """Tells whether test samples of one repeat can be validation samples of another.

    Args:
        tuning: The tuning.

    Returns:
        True where repeats draw splits of their own.
    """
    return any(
        cell.study.repeats > 1 and cell.study.data.seed is None and load_data(cell.study.run).test is None
        for cell in tuning.expansion.cells
    )


def discard_if_empty(folder: Path) -> bool:
    """Removes the files of a folder in which no run began.

    Args:
        folder: The folder of the study.

    Returns:
        Whether they were removed.
    """
    if any(folder.glob("runs/[!.]*/summary.json")):
        return False
    outputs.discard(folder)
    return True
