"""Hyperparameters chosen on the validation samples, before the test numbers are taken: a grid, a table, a scenario."""

import csv
import io
import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from experiments import outputs, study
from experiments.building import load_data
from experiments.names import compact, file_name, short
from experiments.strict_yaml import dump, read_mapping
from experiments.study import Study
from simulator.components import RateSource
from simulator.scenario import Scenario, ScenarioError

# What nobody may look at who still has something to choose.
HIDDEN = ("test_loss", "test_accuracy", "attack_success")
# What decides on which samples the choice is made: values of these are not measured alike.
MEASURING = ("seed", "data", "data.name", "data.seed", "data.validation", "data.test", "data.test_by")
# What a learning rate is multiplied by where --over does not say otherwise.
AROUND = (0.1, 0.3, 1.0, 3.0, 10.0)


class Tuning(NamedTuple):
    """A study whose grid also holds what is to be chosen.

    `over`: the keys that are chosen. `each`: the keys of the scenario's own grid for each value of which a choice is
    made. `by`: what it is made by.
    """

    study: Study
    over: tuple[str, ...]
    each: tuple[str, ...]
    by: str


class Tried(NamedTuple):
    """One combination of values, in one group of runs (`each`): what its runs came to.

    `mean` and `std` of the measure over the repeats (of each repeat the mean over the rest of the grid), NaN unless
    every one of its `runs` is among the `complete`. `best`: whether it is chosen.
    """

    each: Mapping[str, Any]
    chosen: Mapping[str, Any]
    mean: float
    std: float
    complete: int
    runs: int
    best: bool


def plan(
    path: Path,
    overrides: Sequence[str],
    over: Sequence[str],
    each: Sequence[str],
    by: str | None,
    raw: Mapping[str, Any] | None = None,
) -> Tuning:
    """What is to be run. Raises ScenarioError, one line for each mistake. `raw`: what the file holds, where read."""
    plain = study.load(path, overrides, raw)
    asked = list(over) or defaults(plain.base)
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
    if unknown := [key for key in each if key not in plain.base.grid]:
        known = ", ".join(plain.base.grid) or "it is empty"
        raise ScenarioError(f"--each {unknown[0]}: is no key of the grid of {path} ({known})")
    for text in asked:
        if "=" not in text:
            raise ScenarioError(f"--over {text}: values are needed, such as --over {text}=[0.01,0.1]")
    try:
        made = study.load(path, [*overrides, *(f"grid.{text}" for text in asked)], raw)
    except ScenarioError as error:
        raise ScenarioError(str(error).replace("--set grid.", "--over ")) from None
    for cell in made.cells:
        if not cell.scenario.data.validation:
            raise ScenarioError(f"{path}: data.validation is 0: there are no samples to choose by: such as 0.1")
    with study.prefixed(path):
        regression = load_data(made.base).classes is None
    chosen_by = by or ("validation_loss" if regression else "validation_accuracy")
    if regression and chosen_by == "validation_accuracy":
        raise ScenarioError(f"--by {by}: {made.base.data.name} has no classes: choose validation_loss")
    return Tuning(made, tuple(keys), tuple(each), chosen_by)


def defaults(base: Scenario) -> list[str]:
    """A small grid: five learning rates around the scenario's, at the worker where it takes steps, and momentum."""
    local = base.local
    part = base.optimizer if local is None else local.optimizer
    key, speed = ("local", local.learning_rate) if local is not None and part is None else ("", None)
    if part is not None:
        key, speed = ("optimizer" if local is None else "local.optimizer"), getattr(part, "learning_rate")  # noqa: B009
    key = f"{key}.learning_rate"
    if isinstance(speed, RateSource):
        key, speed = f"{key}.start", speed.options()["start"]
    assert isinstance(speed, float)
    found = [f"{key}=[{', '.join(f'{speed * factor:.6g}' for factor in AROUND)}]"]
    if base.optimizer.name == "sgd":
        found.append("optimizer.momentum=[0.0, 0.9]")
    return found


def tried(folder: Path, tuning: Tuning) -> list[Tried]:
    """What every combination came to, from the files of the runs, group by group and in the order written."""
    found: dict[int, float] = {}
    for path in folder.glob("runs/[!.]*/summary.json"):
        summary = json.loads(path.read_text())
        # a model whose loss is not finite is none to be chosen, whatever its accuracy
        if summary["status"] == "complete" and math.isfinite(float(summary["validation_loss"])):
            found[summary["position"]] = float(summary[tuning.by])
    position = itertools.count()
    # by group and combination, the values by seed; NaN of a run that was not completed
    values: dict[tuple[str, str], dict[int, list[float]]] = {}
    choices: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
    missing: dict[tuple[str, str], int] = {}
    possible = [(cell.choices, cell.scenario.seeds) for cell in tuning.study.cells]
    # what was left out of the grid was not completed
    left_out = [(cell.choices, tuning.study.base.seeds) for cell in tuning.study.skipped]
    for picked, seeds in [*possible, *left_out]:
        each, chosen = ({key: picked[key] for key in keys} for keys in (tuning.each, tuning.over))
        place = repr(each), repr(chosen)
        choices[place] = each, chosen
        for seed in seeds:
            number = next(position)
            missing[place] = missing.get(place, 0) + (number not in found)
            values.setdefault(place, {}).setdefault(seed, []).append(found.get(number, math.nan))
    rows = []
    for place, by_seed in values.items():
        means = [statistics.fmean(mine) for mine in by_seed.values()]
        runs = sum(map(len, by_seed.values()))
        spread = statistics.stdev(means) if len(means) > 1 and all(map(math.isfinite, means)) else math.nan
        rows.append(Tried(*choices[place], statistics.fmean(means), spread, runs - missing[place], runs, False))
    sign = 1 if tuning.by == "validation_accuracy" else -1
    groups: dict[str, list[Tried]] = {}
    for row in rows:
        groups.setdefault(repr(row.each), []).append(row)
    for group in groups.values():
        usable = [i for i, row in enumerate(group) if math.isfinite(row.mean)]
        if usable:
            # the first of equals
            best = max(usable, key=lambda i: sign * group[i].mean)
            group[best] = group[best]._replace(best=True)
    return [row for group in groups.values() for row in group]


def write(folder: Path, tuning: Tuning, rows: Sequence[Tried]) -> list[Path]:
    """Writes `tune.csv`, and where every run is over the chosen scenario of each group; gives the paths."""
    written = [folder / "tune.csv"]
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*tuning.each, *tuning.over, f"mean_{tuning.by}", "std", "complete", "runs", "chosen"])
    for row in rows:
        names = [compact(value) for value in (*row.each.values(), *row.chosen.values())]
        lines.writerow([*names, row.mean, row.std, row.complete, row.runs, int(row.best)])
    outputs.save_text(written[0], text.getvalue())
    for row in (row for row in rows if row.best):
        stem = file_name(["tuned", *short({k: compact(v) for k, v in row.each.items()})], [p.stem for p in written])
        written.append(folder / f"{stem}.yaml")
        outputs.save_text(written[-1], dump(settled(tuning.study.raw, {**row.each, **row.chosen})))
    return written


def settled(raw: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping of a scenario with these values in place of a sweep over them."""
    grid = {key: values for key, values in (raw.get("grid") or {}).items() if key not in chosen}
    mapping = {key: value for key, value in raw.items() if key != "grid"}
    for key in sorted(chosen, key=study.turn):
        # what a part that is still swept takes as options must be put into it after its name
        if any(key.startswith(f"{other.removesuffix('.name')}.") for other in grid):
            grid[key] = [chosen[key]]
        else:
            mapping = study.put(mapping, key, chosen[key])
    return {**mapping, "grid": grid} if grid else mapping


def table(folder: Path) -> Table:
    """The combinations of a finished tuning, from its `tune.csv`; the chosen one of each group is set off and named."""
    with (folder / "tune.csv").open(newline="") as file:
        headings, *rows = csv.reader(file)
    measure = headings[-5].removeprefix("mean_").replace("_", " ")
    title = str(read_mapping(folder / "scenario.yaml").get("name", folder.name))
    several = any(row[-4] != "nan" for row in rows)
    caption = f"final {measure}, {'mean ± standard deviation over the repeats' if several else 'one repeat'}"
    made = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, title_style="bold")
    for key in headings[:-5]:
        made.add_column(key, vertical="bottom")
    made.add_column(measure, justify="right", vertical="bottom")
    made.add_column("runs", justify="right", vertical="bottom")
    made.add_column("")
    for *names, mean, std, complete, runs, chosen in rows:
        spread = "" if std == "nan" else f" ± {float(std):.3f}"
        said = "-" if mean == "nan" else f"{float(mean):.3f}{spread}"
        # in a pipe there is no colour
        cells = [*names, said, runs if complete == runs else f"{complete} of {runs}", "chosen" if chosen == "1" else ""]
        made.add_row(*(Text(cell, style="bold green" if chosen == "1" else "") for cell in cells))
    return made


def shares_test_samples(tuning: Tuning) -> bool:
    """Whether the test samples of one repeat may be another's validation samples: each draws its own."""
    return any(
        cell.scenario.repeats > 1 and cell.scenario.data.seed is None and load_data(cell.scenario).test is None
        for cell in tuning.study.cells
    )


def discard_if_empty(folder: Path) -> bool:
    """Takes away the folder's files where no run began; gives whether it did."""
    if any(folder.glob("runs/[!.]*/summary.json")):
        return False
    outputs.discard(folder)
    return True
