"""Targets run and checked: `names`, `read_target`, `reproduce`, and the outcomes in files."""

import importlib
import json
import math
import pkgutil
import platform
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from byzax.experiments.reproduction import targets
from byzax.experiments.reproduction.target import Finding, Reproduction, Target
from byzax.simulator.mistakes import ScenarioError, quote

SCENARIOS = Path(__file__).parent / "scenarios"
OUTCOME = "outcome.json"
# Dots per inch of a figure, so that all of them together stay small.
RESOLUTION = 75


def names() -> list[str]:
    """The targets, in the order of the alphabet."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(targets.__path__))


def read_target(name: str) -> Target:
    """A target.

    Args:
        name: Its name.

    Returns:
        The target.

    Raises:
        ScenarioError: For a name that no target has.
    """
    if name not in names():
        raise ScenarioError(f"{quote(name)}: no target has this name: one of {', '.join(names())}")
    return importlib.import_module(f"{targets.__name__}.{name.replace('-', '_')}").TARGET


def reproduce(
    name: str,
    folder: Path,
    *,
    quick: bool = False,
    data: str | None = None,
    jobs: int | None = None,
    quiet: bool = False,
) -> Reproduction:
    """Runs the scenarios of a target, or what is missing of them, and measures its statements.

    Args:
        name: The target.
        folder: Folder of its results: one of each scenario, `outcome.json` and `NAME.png`.
        quick: Whether fewer and shorter runs are made, for the statements that these can show.
        data: A data set in place of that of the scenarios.
        jobs: Processes side by side, as for `byzax.run`.
        quiet: Whether no progress is shown.

    Returns:
        The outcome.

    Raises:
        ScenarioError: For a mistake in what was asked, such as a quick form that is not there.
        RunError: Where no run of a scenario was completed.
        ValueError: Where no run of a setting that a statement reads was completed.
        RuntimeError: Where a file cannot be written.
        KeyboardInterrupt: With what was done in the folder; the same call goes on.
    """
    from byzax.experiments import api
    from byzax.experiments.reproduction.cells import Cells

    target = read_target(name)
    if quick and target.quick is None:
        raise ScenarioError(f"{name}: has no quick form: leave --quick out")
    cells: dict[str, Cells] = {}
    for scenario in target.scenarios:
        if quick and scenario not in (target.quick or {}):
            continue
        settings: dict[str, Any] = {**((target.quick or {}).get(scenario, {}) if quick else {})}
        if data is not None:
            settings["data.name"] = data
        result = api.run(SCENARIOS / f"{scenario}.yaml", out=folder / scenario, jobs=jobs, quiet=quiet, **settings)
        cells[scenario] = Cells(result)
    measured = tuple(
        Finding(each.text, tuple(each.measure(cells).values()), each.low, each.high)
        for each in target.statements
        if each.quick or not quick
    )
    folder.mkdir(parents=True, exist_ok=True)
    if target.figure and target.figure[0] in cells:
        scenario, arguments = target.figure
        figure = cells[scenario].result.plot(**arguments)
        figure.savefig(folder / f"{name}.png", dpi=RESOLUTION)
    options = [*(["--quick"] if quick else []), *([f"--data {data}"] if data else [])]
    outcome = Reproduction(
        name,
        "quick" if quick else "full",
        date.today().isoformat(),
        " ".join(["byzax reproduce", name, *options]),
        data,
        sum(len(each.result.runs) for each in cells.values()),
        sum(sum(each.result.runs["wall_s"].tolist()) for each in cells.values()),
        _versions(),
        measured,
    )
    write_outcome(outcome, folder / OUTCOME)
    return outcome


def _versions() -> Mapping[str, str]:
    from importlib import metadata

    return {
        "byzax": metadata.version("byzax"),
        "jax": metadata.version("jax"),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def write_outcome(outcome: Reproduction, path: Path) -> None:
    """Writes an outcome as JSON, a number that is not finite as null.

    Args:
        outcome: The outcome.
        path: The file.
    """
    measured = [
        each._asdict() | {"values": [value if math.isfinite(value) else None for value in each.values]}
        for each in outcome.measured
    ]
    text = json.dumps(outcome._asdict() | {"measured": measured}, indent=1, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_outcome(path: Path) -> Reproduction:
    """Reads an outcome.

    Args:
        path: The file.

    Returns:
        The outcome.

    Raises:
        ScenarioError: For a file that `write_outcome` did not write.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        measured = [Finding(**{**each, "values": tuple(map(_number, each["values"]))}) for each in plain["measured"]]
        return Reproduction(**{**plain, "measured": tuple(measured)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScenarioError(f"{path}: is no outcome of byzax reproduce ({error}): run the target again") from None


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
