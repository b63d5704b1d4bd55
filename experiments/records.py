"""Reading the folders of runs without trust: a damaged run is named, and the others are read."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from byzax.simulator.diagnostics import Evaluation

MEASURED = [*Evaluation._fields]
METRICS = ["step", "time_s", "gradients", "wall_s", *MEASURED]
# How a schedule used its time: updates per second, mean age of the rows, share of the workers' time spent waiting, and
# of the jobs begun those whose rows went into no update.
TIMES = ["updates_per_s", "mean_age", "waiting", "unused"]
SPENT = ["computing_s", "messages_s", "waiting_s"]
# Runs with a final result. A degraded one lost workers on the way.
COUNTED = ("complete", "degraded")
LARGEST = 2**53
SWITCHES = {"True": "1", "False": "0"}
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
# what is no character of a line (control characters, halves of a pair) would reach the terminal, or break a table
Words = Annotated[
    str, AfterValidator(lambda text: "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))
]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]


class Damaged(ValueError):
    """A file of a run that is missing or cannot be what byzax wrote; the message names it."""


class Summary(BaseModel):
    """`summary.json` of a run. `of`: the runs of its cell. `runs`: those of its study. `lost`: worker -> update."""

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
    updates_per_s: Number = math.nan
    mean_age: Number = math.nan
    waiting: Number = math.nan
    unused: Number = math.nan

    @model_validator(mode="before")
    @classmethod
    def _measured(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("status") in COUNTED:
            for field in ("step", "time_s", "gradients", "test_loss", "test_accuracy"):
                if given.get(field) is None:
                    raise ValueError(f"{field} is missing")
        return given

    @model_validator(mode="after")
    def _columns(self) -> "Summary":
        if clash := set(self.others) & {"study", "run", *type(self).model_fields}:
            raise ValueError(f"others has the key {clash.pop()}, which no grid has")
        return self


class Record(NamedTuple):
    """A run as its folder has it.

    `metrics`: one row per evaluation. `ages` `[oldest + 1]`: rows of each age. `spent`: one row per worker, its seconds
    of each kind and whether it was Byzantine. The last two are None where the run wrote none.
    """

    folder: Path
    summary: Summary
    metrics: pd.DataFrame
    ages: np.ndarray | None
    spent: pd.DataFrame | None


def read_summary(folder: Path) -> Summary:
    """The summary of a run. Raises Damaged."""
    path = folder / "summary.json"
    text = _text(path)
    try:
        # Python's own json takes numbers that no float holds and nests without end
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Damaged(f"{path.name} is no JSON") from None
    if not isinstance(found, dict):
        raise Damaged(f"{path.name} holds no mapping")
    try:
        return Summary.model_validate(found)
    except ValidationError as error:
        mistake = error.errors()[0]
        where, said = ".".join(map(str, mistake["loc"])), mistake["msg"].removeprefix("Value error, ")
        raise Damaged(f"{path.name}: {f'{where}: ' if where else ''}{said[0].lower()}{said[1:]}") from None
    except OverflowError:
        raise Damaged(f"{path.name} holds a number that is too large") from None


def read(folder: Path) -> Record:
    """Everything about a run that tables and plots show. Raises Damaged."""
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
    """The evaluations of a run; a last line that was not written to its end is left out. Raises Damaged."""
    path = folder / "metrics.csv"
    found = _numbers(path, ["step", "time_s", "gradients", "test_loss", "test_accuracy"]).reindex(columns=METRICS)
    places = found[["step", "time_s", "gradients"]].to_numpy()
    steps = places[:, 0]
    if not (np.isfinite(places).all() and (places >= 0).all() and (steps == np.floor(steps)).all()):
        raise Damaged(f"{path.name}: steps, seconds and gradients are no numbers from 0")
    if (np.diff(places, axis=0) < 0).any() or (np.diff(steps) == 0).any() or (steps > LARGEST).any():
        raise Damaged(f"{path.name}: the steps do not rise")
    return found.astype({"step": int})


def _ages(path: Path, steps: int) -> np.ndarray:
    found = _numbers(path, ["age", "rows"])
    ages, rows = found["age"].to_numpy(), found["rows"].to_numpy()
    if not (np.isfinite(found.to_numpy()).all() and (ages == np.arange(len(ages))).all() and (rows >= 0).all()):
        raise Damaged(f"{path.name}: no ages from 0 on with their rows")
    if len(ages) > steps + 1:
        raise Damaged(f"{path.name}: rows are older than the run, which has {steps} updates")
    return rows


def _spent(path: Path) -> pd.DataFrame:
    found = _numbers(path, ["worker", "byzantine", *SPENT])
    seconds = found[SPENT].to_numpy()
    if not (found["worker"].to_numpy() == np.arange(len(found))).all():
        raise Damaged(f"{path.name}: no workers from 0 on")
    if not (np.isfinite(seconds).all() and (seconds >= 0).all()):
        raise Damaged(f"{path.name}: seconds are no numbers from 0")
    return found.reindex(columns=["worker", "byzantine", *SPENT]).astype({"worker": int, "byzantine": bool})


def _numbers(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """A CSV file of numbers, True and False. Raises Damaged, also where a line is longer or shorter than others."""
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
