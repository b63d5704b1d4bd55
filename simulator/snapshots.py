"""Snapshots: all that decides the rest of a run, with what was measured so far, as one file."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.diagnostics import Diagnostics, Evaluation, Update
from byzax.simulator.engine import NodeLeaves, State, Stretch

# The arrays of an update that is recorded whole, by its fields.
_ARRAYS = [name for name in Update._fields if name not in ("step", "time_s", "diagnostics")]


class Evaluated(NamedTuple):
    """An evaluation with its place in the run. See `Checkpoint`."""

    step: int
    time_s: float
    gradients: int
    wall_s: float
    evaluation: Evaluation


class Snapshot(NamedTuple):
    """A run that was left between two updates.

    Attributes:
        state: The state of all that takes part.
        wall_s: Seconds of the clock so far.
        evaluations: All evaluations so far.
        since: The updates since the last of them.
    """

    state: State
    wall_s: float
    evaluations: tuple[Evaluated, ...]
    since: Stretch


def save(snapshot: Snapshot, file: Any) -> None:
    """Writes a snapshot as NumPy arrays.

    Args:
        snapshot: The snapshot.
        file: A path or an open file.
    """
    state, since = snapshot.state, snapshot.since
    arrays: dict[str, np.ndarray] = {
        "step": np.array(state.step),
        "wall_s": np.array(snapshot.wall_s),
        "places": state.places,
        "rows": state.rows,
        "evaluations": np.array(
            [[*each[:-1], *each.evaluation] for each in snapshot.evaluations], np.float64
        ).reshape(-1, 4 + len(Evaluation._fields)),
        "diagnostics": np.array(since.diagnostics, np.float64).reshape(len(Diagnostics._fields), -1),
        "weights": since.weights,
    }  # fmt: skip
    arrays["kinds"] = np.array([*state.nodes])
    for kind, (nodes, leaves) in state.nodes.items():
        arrays |= {f"node.{kind}.{i}": leaf for i, leaf in enumerate(leaves)} | {f"nodes.{kind}": nodes}
    for i, update in enumerate(since.recorded):
        arrays |= {f"recorded.{i}.{name}": np.asarray(getattr(update, name)) for name in _ARRAYS}
        arrays[f"recorded.{i}.scalars"] = np.array([update.step, update.time_s, *update.diagnostics], np.float64)
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def load(path: Path) -> Snapshot:
    """Reads a snapshot.

    Args:
        path: The file.

    Returns:
        The snapshot.

    Raises:
        ValueError: Names the file where it cannot be read, or is none.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        recorded = []
        while (scalars := held.get(f"recorded.{len(recorded)}.scalars")) is not None:
            fields = {name: held[f"recorded.{len(recorded)}.{name}"] for name in _ARRAYS}
            step, time_s, *numbers = scalars.tolist()
            recorded.append(Update(step=int(step), time_s=time_s, diagnostics=Diagnostics(*numbers), **fields))
        evaluations = [
            Evaluated(int(step), time_s, int(gradients), wall_s, Evaluation(*numbers))
            for step, time_s, gradients, wall_s, *numbers in held["evaluations"].tolist()
        ]
        return Snapshot(
            state=State(
                step=int(held["step"]),
                nodes={
                    kind: NodeLeaves(held[f"nodes.{kind}"], _numbered(held, f"node.{kind}"))
                    for kind in held["kinds"].tolist()
                },
                places=held["places"],
                rows=held["rows"],
            ),
            wall_s=float(held["wall_s"]),
            evaluations=tuple(evaluations),
            since=Stretch(Diagnostics(*held["diagnostics"]), held["weights"], tuple(recorded)),
        )
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:
        raise ValueError(f"{path}: is no snapshot, or damaged ({type(error).__name__})") from None


def _numbered(held: dict[str, np.ndarray], part: str) -> list[np.ndarray]:
    found = []
    while (leaf := held.get(f"{part}.{len(found)}")) is not None:
        found.append(leaf)
    return found
