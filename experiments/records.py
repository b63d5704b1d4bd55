"""Checked reading of the folders of runs: a damaged run is an error of its own, and the others are read."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from byzax.simulator.config.measures import MEASURE_COLUMNS
from byzax.simulator.diagnostics import Diagnostics, Evaluation, Traffic, Update

MEASURED = [*Evaluation._fields]
SENT = [*Traffic._fields]
METRICS = ["step", "time_s", "gradients", "wall_s", *MEASURED, *SENT, "epsilon"]
# The use of time: updates per second, mean age of the rows, share of the workers' time spent waiting, and share of the
# jobs whose rows went into no update.
TIMES = ["updates_per_s", "mean_age", "waiting", "unused"]
SPENT = ["computing_s", "messages_s", "waiting_s"]
# Runs with a final result. A degraded one lost workers or servers on the way.
COUNTED = ("complete", "degraded")
LARGEST = 2**53
# The arrays of an update with an entry for each row.
# with several receivers `forged` has an axis over these before that of rows
BY_ROW = {"rows": -2, "byzantine": -1, "forged": -2}
SWITCHES = {"True": "1", "False": "0"}
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
# control characters and halves of surrogate pairs would reach the terminal, or break a table
Words = Annotated[
    str, AfterValidator(lambda text: "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))
]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]


class Damaged(ValueError):
    """A file of a run that is missing or not as byzax writes it; the message names the file."""


class Summary(BaseModel):
    """The content of `summary.json`.

    Attributes:
        position: Position of the run in its study.
        rule: Label of the rule.
        attack: Label of the attack.
        others: The other choices of the grid.
        seed: Seed of the run.
        status: complete, degraded, failed, interrupted or running.
        of: Number of runs in the cell.
        runs: Number of runs in the study.
        settings: The settings by dotted key.
        lost: The first update without each lost worker.
        lost_servers: The first update without each lost server, where there are several.
        reason: The reason for the status, or for an early stop.
        classes: Number of classes of the data; None for values.
        digest: Digest of the checkpoints.
        step: Number of updates made.
        time_s: Time of the last update, in simulated seconds.
        gradients: Number of gradients delivered.
        wall_s: Seconds of the clock.
    """

    position: Whole
    rule: Words
    attack: Words
    others: dict[Words, Words]
    seed: Whole
    status: Literal["complete", "degraded", "failed", "interrupted", "running"]
    of: Whole | None = None
    runs: Whole | None = None
    settings: dict[Words, Words] = {}
    lost: dict[Whole, Whole] = {}
    lost_servers: dict[Whole, Whole] = {}
    reason: Words | None = None
    classes: Annotated[int, Field(ge=1, le=LARGEST)] | None = None
    digest: Words | None = None
    step: Whole | None = None
    time_s: Number = math.nan
    gradients: Number = math.nan
    wall_s: Number = math.nan
    train_loss: Number = math.nan
    train_accuracy: Number = math.nan
    test_loss: Number = math.nan
    test_accuracy: Number = math.nan
    attack_success: Number = math.nan
    validation_loss: Number = math.nan
    validation_accuracy: Number = math.nan
    worst_accuracy: Number = math.nan
    mean_model_accuracy: Number = math.nan
    consensus_distance: Number = math.nan
    messages: Number = math.nan
    bits_up: Number = math.nan
    bits_down: Number = math.nan
    bits_peer: Number = math.nan
    epsilon: Number = math.nan
    updates_per_s: Number = math.nan
    mean_age: Number = math.nan
    waiting: Number = math.nan
    unused: Number = math.nan

    @model_validator(mode="before")
    @classmethod
    def _measured(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("status") in COUNTED:
            for field in ("step", "time_s", "gradients", "test_loss", "test_accuracy"):
                if fields.get(field) is None:
                    raise ValueError(f"{field} is missing")
        return fields

    @model_validator(mode="after")
    def _columns(self) -> "Summary":
        if clash := set(self.others) & {"study", "run", *type(self).model_fields}:
            raise ValueError(f"others has the key {clash.pop()}, which no grid has")
        return self


class Record(NamedTuple):
    """The files of a run.

    Attributes:
        folder: The folder.
        summary: The summary.
        metrics: One row per evaluation.
        ages: `[oldest + 1]`, number of rows of each age; None where the run wrote none.
        spent: One row per worker: seconds of each kind, and whether it was Byzantine; None where the run wrote none.
    """

    folder: Path
    summary: Summary
    metrics: pd.DataFrame
    ages: np.ndarray | None
    spent: pd.DataFrame | None


def read_summary(folder: Path) -> Summary:
    """Reads the summary of a run.

    Args:
        folder: The folder of the run.

    Returns:
        The summary.

    Raises:
        Damaged: Where it is missing or damaged.
    """
    path = folder / "summary.json"
    text = _text(path)
    try:
        # Python's own json takes numbers that no float holds and nests without end
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise Damaged(f"{path.name} is no JSON") from None
    if not isinstance(fields, dict):
        raise Damaged(f"{path.name} holds no mapping")
    try:
        return Summary.model_validate(fields)
    except ValidationError as error:
        mistake = error.errors()[0]
        place, message = ".".join(map(str, mistake["loc"])), mistake["msg"].removeprefix("Value error, ")
        raise Damaged(f"{path.name}: {f'{place}: ' if place else ''}{message[0].lower()}{message[1:]}") from None
    except OverflowError:
        raise Damaged(f"{path.name} holds a number that is too large") from None


def read(folder: Path) -> Record:
    """Reads the files of a run that tables and plots show.

    Args:
        folder: The folder of the run.

    Returns:
        The content.

    Raises:
        Damaged: Where a file is missing or damaged.
    """
    summary, metrics = read_summary(folder), read_metrics(folder)
    last = int(metrics["step"].iloc[-1]) if len(metrics) else None
    if summary.status in COUNTED and last != summary.step:
        raise Damaged(f"metrics.csv ends at step {last}, summary.json at {summary.step}")
    ages, spent = folder / "ages.csv", folder / "workers.csv"
    return Record(
        folder,
        summary,
        metrics,
        _ages(ages, summary.step or 0) if ages.exists() else None,
        _spent(spent) if spent.exists() else None,
    )


def read_metrics(folder: Path) -> pd.DataFrame:
    """Reads the evaluations of a run, without a last line that was cut off.

    Args:
        folder: The folder of the run.

    Returns:
        One row per evaluation.

    Raises:
        Damaged: Where the file is missing or damaged.
    """
    path = folder / "metrics.csv"
    found = _numbers(path, ["step", "time_s", "gradients", "test_loss", "test_accuracy"])
    metrics = found.reindex(columns=[*METRICS, *(name for name in MEASURE_COLUMNS if name in found)])
    places = metrics[["step", "time_s", "gradients"]].to_numpy()
    steps = places[:, 0]
    if not (np.isfinite(places).all() and (places >= 0).all() and (steps == np.floor(steps)).all()):
        raise Damaged(f"{path.name}: steps, seconds and gradients are no numbers from 0")
    if (np.diff(places, axis=0) < 0).any() or (np.diff(steps) == 0).any() or (steps > LARGEST).any():
        raise Damaged(f"{path.name}: the steps do not rise")
    return metrics.astype({"step": int})


def read_updates(folder: Path) -> pd.DataFrame:
    """Reads the diagnostics of all updates of a run, without a last line that was cut off.

    Args:
        folder: The folder of the run.

    Returns:
        One row per update: `step` (the updates made then, from 1), and the fields of `Diagnostics`.

    Raises:
        Damaged: Where the file is missing or damaged.
    """
    return _by_update(folder / "updates.csv", Diagnostics._fields)


def read_weights(folder: Path) -> pd.DataFrame | None:
    """Reads the weights that the rule gave to the workers' rows, without a last line that was cut off.

    Args:
        folder: The folder of the run.

    Returns:
        One row per update: `step` (from 1), and a column for each worker, `0` to `n - 1`; None where none were kept.

    Raises:
        Damaged: Where the file is damaged.
    """
    path = folder / "weights.csv"
    return _by_update(path, ["0"]) if path.exists() else None


def read_classes(folder: Path) -> pd.DataFrame | None:
    """Reads the accuracy on the test samples of each label at the evaluations of a run.

    Args:
        folder: The folder of the run.

    Returns:
        One row per evaluation: `step`, and a column for each label, `0` to `classes - 1`; None where it was not
        measured.

    Raises:
        Damaged: Where the file is damaged.
    """
    path = folder / "classes.csv"
    return _numbers(path, ["step", "0"]).astype({"step": int}) if path.exists() else None


def read_confusion(folder: Path) -> pd.DataFrame | None:
    """Reads the confusion matrix of the last model of a run.

    Args:
        folder: The folder of the run.

    Returns:
        One row per label: `label`, the number of its test samples with each prediction (`0` to `classes - 1`), and of
        those without one (`none`); None where it was not measured.

    Raises:
        Damaged: Where the file is damaged.
    """
    path = folder / "confusion.csv"
    return _numbers(path, ["label", "0", "none"]).astype(int) if path.exists() else None


def _by_update(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    found = _numbers(path, ["step", *columns])
    if not (found["step"].to_numpy() == np.arange(1, len(found) + 1)).all():
        raise Damaged(f"{path.name}: no updates from 1 on")
    return found.astype({"step": int})


def read_params(folder: Path) -> tuple[np.ndarray, int]:
    """Reads the last model of a run.

    Args:
        folder: The folder of the run.

    Returns:
        `[d]`, the parameters, and the number of updates before.

    Raises:
        Damaged: Where the file is missing or damaged.
    """
    arrays = _arrays(folder / "params.npz", ("params", "step"))
    if arrays["params"].ndim != 1 or arrays["params"].dtype.kind != "f" or not _is_whole(arrays["step"]):
        raise Damaged("params.npz holds no vector of parameters with its step")
    return arrays["params"], int(arrays["step"])


def read_recorded(folder: Path) -> list[Update]:
    """Reads the updates of a run that were recorded whole.

    Args:
        folder: The folder of the run.

    Returns:
        The updates, in order.

    Raises:
        Damaged: Where a file is damaged, or the diagnostics of an update are missing.
    """
    paths = sorted(folder.glob("update-*.npz"))
    diagnostics = read_updates(folder)[[*Diagnostics._fields]].to_numpy() if paths else np.zeros(0)
    found = []
    for path in paths:
        arrays: dict[str, Any] = _arrays(path, [name for name in Update._fields if name != "diagnostics"])
        step, n = arrays["step"], len(arrays["workers"]) if arrays["workers"].ndim else -1
        if (
            not _is_whole(step)
            or arrays["time_s"].ndim
            or any(arrays[k].shape[axis : axis + 1 or None] != (n,) for k, axis in BY_ROW.items())
        ):
            raise Damaged(f"{path.name} holds no update")
        if not 0 <= step < len(diagnostics):
            raise Damaged(f"{path.name} is of update {step}, and updates.csv ends before it")
        arrays |= {"step": int(step), "time_s": float(arrays["time_s"])}
        found.append(Update(**arrays, diagnostics=Diagnostics(*diagnostics[int(step)].tolist())))
    return found


def _is_whole(number: np.ndarray) -> bool:
    return number.ndim == 0 and number.dtype.kind in "iu"


def _arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Reads arrays from a file of NumPy. Raises Damaged."""
    try:
        # opened here, so that it is closed where numpy finds no archive
        with path.open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in names}
    except FileNotFoundError:
        raise Damaged(f"{path.name} is missing") from None
    except Exception as error:
        raise Damaged(f"{path.name} does not hold {', '.join(names)} ({type(error).__name__})") from None


def _ages(path: Path, steps: int) -> np.ndarray:
    frame = _numbers(path, ["age", "rows"])
    ages, rows = frame["age"].to_numpy(), frame["rows"].to_numpy()
    if not (np.isfinite(frame.to_numpy()).all() and (ages == np.arange(len(ages))).all() and (rows >= 0).all()):
        raise Damaged(f"{path.name}: no ages from 0 on with their rows")
    if len(ages) > steps + 1:
        raise Damaged(f"{path.name}: rows are older than the run, which has {steps} updates")
    return rows


def _spent(path: Path) -> pd.DataFrame:
    frame = _numbers(path, ["worker", "byzantine", *SPENT])
    seconds = frame[SPENT].to_numpy()
    if not (frame["worker"].to_numpy() == np.arange(len(frame))).all():
        raise Damaged(f"{path.name}: no workers from 0 on")
    if not (np.isfinite(seconds).all() and (seconds >= 0).all()):
        raise Damaged(f"{path.name}: seconds are no numbers from 0")
    return frame.reindex(columns=["worker", "byzantine", *SPENT]).astype({"worker": int, "byzantine": bool})


def _numbers(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """Reads a CSV file of numbers, True and False. Raises Damaged, also for lines of different lengths."""
    text = _text(path)
    # pandas would guess: a line with one field more would shift all columns
    try:
        headings, *lines = csv.reader(text[: text.rfind("\n") + 1].splitlines())
    except (csv.Error, ValueError):
        raise Damaged(f"{path.name} has no lines") from None
    if missing := [name for name in needed if name not in headings]:
        raise Damaged(f"{path.name} has no column {missing[0]}")
    if len(set(headings)) < len(headings):
        raise Damaged(f"{path.name} has a column twice")
    for number, line in enumerate(lines, 2):
        if len(line) != len(headings):
            raise Damaged(f"{path.name}: line {number} has {len(line)} fields, the first one {len(headings)}")
    try:
        values = [[float(SWITCHES.get(value, value)) for value in line] for line in lines]
    except ValueError as error:
        raise Damaged(f"{path.name}: {str(error)[:60]}") from None
    return pd.DataFrame(np.array(values, float).reshape(len(lines), len(headings)), columns=headings)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise Damaged(f"{path.name} is missing") from None
    except UnicodeDecodeError:
        raise Damaged(f"{path.name} is no text") from None
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read ({error.strerror})") from None
