"""Times that were measured."""

import csv
import math
from pathlib import Path

import numpy as np

from byzax.simulator.file_cache import file_cache, reads
from byzax.simulator.latency.base import Latency


def trace(*, file: str) -> Latency:
    """Times from a CSV with the columns `worker` and `seconds`, a line for each job of each worker, in order.

    A worker that has done all its lines begins with the first again. With fewer workers in the file than in the
    scenario, worker i has the times of the (i mod their number)-th of the file, in the order in which they appear.

    Formula: the file's
    Source: measured, such as the clock of a real run

    Args:
        file: path of the CSV; relative to the folder that byzax is started in.

    Raises:
        ValueError: for a file that cannot be read, lacks a column or holds no line; and for a line without a worker,
            of another length than the first, or with a time that is no number >= 0.
    """
    times = _read(file)

    def latency(rng: np.random.Generator, worker: int, first: int, count: int) -> np.ndarray:
        mine = times[worker % len(times)]
        return mine[np.arange(first, first + count) % len(mine)]

    return latency


@file_cache(maxsize=4)
def _read(file: str) -> list[np.ndarray]:
    found: dict[str, list[float]] = {}
    try:
        reads(Path(file).expanduser())
        # spreadsheets put a mark before the first column's name
        with Path(file).expanduser().open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True)
            if missing := {"worker", "seconds"} - {*(reader.fieldnames or ())}:
                raise ValueError(f"trace {file}: lacks the column {' and '.join(sorted(missing))} in its first line")
            for line in reader:
                if None in line or None in line.values() or not line["worker"]:
                    raise ValueError(
                        f"trace {file}: line {reader.line_num}: {len(reader.fieldnames or ())} values are needed, as "
                        "many as there are columns, and a worker among them (decimals have a point)"
                    )
                text = line["seconds"]
                try:
                    seconds = float(text)
                except ValueError:
                    seconds = math.nan
                if not 0 <= seconds < math.inf:
                    raise ValueError(
                        f"trace {file}: line {reader.line_num}: seconds must be a number >= 0, got {text!r}"
                    )
                found.setdefault(line["worker"], []).append(seconds)
    except (OSError, RuntimeError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"trace {file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not found:
        raise ValueError(f"trace {file}: holds no line after the first: one for each job is needed")
    return [np.array(times) for times in found.values()]
