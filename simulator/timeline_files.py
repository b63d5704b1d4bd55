"""Timelines as files."""

from pathlib import Path
from typing import Any

import numpy as np

from byzax.simulator.timeline import RoundTimes, Rows, Timeline, check

# Workers without a job that a recorded timeline may have: a scenario has no more.
MOST_IDLE = 100_000
# The arrays of a saved timeline beside those of its rows.
ALONE, PAIRS = ("first", "seen", "time_s", "outcomes"), ("gone", "lost", "lost_servers")
OF_ROUNDS = ("begin_s", "end_s", "taken")


def save(timeline: Timeline, file: Any) -> None:
    """Writes a timeline as compressed NumPy arrays.

    Args:
        timeline: The timeline.
        file: A path or an open file.
    """
    parts = {"rows": timeline.rows, "unused": timeline.unused}
    arrays = {f"{part}.{name}": value for part, rows in parts.items() for name, value in rows._asdict().items()}
    alone = {name: getattr(timeline, name) for name in (*ALONE, *PAIRS)}
    rounds = {f"rounds.{each.step}.{name}": getattr(each, name) for each in timeline.rounds for name in OF_ROUNDS}
    rounds |= {"steps": np.array([each.step for each in timeline.rounds])} if rounds else {}
    np.savez_compressed(file, **arrays, **alone, **rounds, stopped=np.array(timeline.stopped))  # pyright: ignore[reportArgumentType]


def load(path: Path) -> Timeline:
    """Reads a timeline that `save` wrote.

    Args:
        path: The file.

    Returns:
        The timeline, checked.

    Raises:
        ValueError: Names the file where it cannot be read, is no timeline, or is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            rows, unused = (
                Rows(**{name: arrays[f"{part}.{name}"] for name in Rows._fields}) for part in ("rows", "unused")
            )
            alone = {name: arrays[name] for name in ALONE}
            # a file of an earlier version has none
            alone |= {name: arrays[name] for name in PAIRS if name in arrays}
            rounds = tuple(
                RoundTimes(**{name: arrays[f"rounds.{step}.{name}"] for name in OF_ROUNDS}, step=step)
                for step in (arrays["steps"].tolist() if "steps" in arrays else ())
            )
            loaded = Timeline(rows=rows, unused=unused, **alone, stopped=str(arrays["stopped"]), rounds=rounds)
            numbers = [*rows[:4], *unused[:4], loaded.first, loaded.seen, loaded.outcomes]
            times = [*rows[4:], *unused[4:], loaded.time_s]
            if any(each.dtype.kind not in "iu" for each in numbers) or any(each.dtype.kind != "f" for each in times):
                raise TypeError("not the types that save writes")
            if any(each.ndim != 1 for each in (*numbers, *times)):
                raise IndexError("not the shapes that save writes")
            for begin_s, end_s, taken, _ in rounds:
                shape = taken.shape[:2]
                if taken.ndim != 3 or begin_s.shape != shape or end_s.shape != shape or len(taken) != loaded.steps:
                    raise IndexError("not the shapes that save writes")
                if taken.dtype != bool or begin_s.dtype.kind != "f" or end_s.dtype.kind != "f":
                    raise TypeError("not the types that save writes")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error}): a timeline.npz is needed") from None
    except Exception as error:
        raise ValueError(f"{path}: is no timeline, or damaged ({type(error).__name__})") from None
    n = 1 + int(np.concatenate([loaded.rows.workers, loaded.unused.workers]).max(initial=-1))
    try:
        if n > len(loaded.rows.workers) + len(loaded.unused.workers) + MOST_IDLE:
            raise ValueError(f"timeline: names worker {n - 1}, and so many there cannot be")
        return check(loaded, n)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: {error}") from None
