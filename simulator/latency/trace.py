"""Latency read from a file of measured durations."""

import csv
import math
from pathlib import Path

import numpy as np

from byzax.options import PartError, checked
from byzax.simulator.file_cache import depends_on, file_cache
from byzax.simulator.latency.base import Latency


@checked
def trace(*, file: str) -> Latency:
    """Replays measured durations from a CSV file with the columns `worker` and `seconds`, one line for each job.

    The lines of a worker are in the order of its jobs. A worker that has used all its lines begins with the first
    again. Where the file has fewer workers than the scenario, worker i gets the durations of the (i mod their
    number)-th worker of the file, in the order in which they first appear.

    Formula: the file's

    Args:
        file: Path of the CSV file; a relative one begins at the working directory.

    Returns:
        The latency model.

    Raises:
        PartError: For a file that cannot be read, lacks a column or has no line of values; for a line without a
            worker, with another number of values than the first line, or whose seconds are not a number >= 0.

    References:
        Measured, such as the clock of a real run
    """
    durations = _read(file)

    def latency(rng: np.random.Generator, worker: int, first: int, count: int) -> np.ndarray:
        of_worker = durations[worker % len(durations)]
        return of_worker[np.arange(first, first + count) % len(of_worker)]

    return latency


@file_cache(maxsize=4)
def _read(file: str) -> list[np.ndarray]:
    by_worker: dict[str, list[float]] = {}
    try:
        depends_on(Path(file).expanduser())
        # spreadsheets put a mark before the first column's name
        with Path(file).expanduser().open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True)
            if missing := {"worker", "seconds"} - {*(reader.fieldnames or ())}:
                raise PartError(f"trace {file}: lacks the column {' and '.join(sorted(missing))} in its first line")
            for line in reader:
                if None in line or None in line.values() or not line["worker"]:
                    raise PartError(
                        f"trace {file}: line {reader.line_num}: {len(reader.fieldnames or ())} values are needed, as "
                        "many as there are columns, and a worker among them (decimals have a point)"
                    )
                text = line["seconds"]
                try:
                    seconds = float(text)
                except ValueError:
                    seconds = math.nan
                if not 0 <= seconds < math.inf:
                    raise PartError(
                        f"trace {file}: line {reader.line_num}: seconds must be a number >= 0, got {text!r}"
                    )
                by_worker.setdefault(line["worker"], []).append(seconds)
    except (OSError, RuntimeError, UnicodeDecodeError, csv.Error) as error:
        raise PartError(f"trace {file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not by_worker:
        raise PartError(f"trace {file}: holds no line after the first: one for each job is needed")
    return [np.array(durations) for durations in by_worker.values()]
