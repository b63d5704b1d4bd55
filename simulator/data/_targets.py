"""Targets in files of your own: labels, which are numbered from 0 in their order, or values to predict."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from byzax.simulator.data.base import DataError, too_large

# Larger whole numbers are identifiers or checksums.
LARGEST_LABEL = 2**31 - 1
# A message lists at most so many labels by name, in at most so many characters.
MAX_LISTED, MAX_WIDTH = 10, 60


def number_labels(where: str, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers labels in their order.

    Args:
        where: The file and the array or column in it, for messages, such as `mine.npz: y`.
        values: Labels `[N]`: whole numbers (float types too), truth values, or text.

    Returns:
        The numbers `[N]`, int32 from 0 on without gaps, and the name of each label.

    Raises:
        DataError: For a label that is not a whole number, or is too large, and for fewer than two labels.
    """
    known, numbers = np.unique(values, return_inverse=True)
    if known.dtype.kind == "f":
        if not np.isfinite(known).all():
            raise DataError(f"{where} holds a label that is not finite")
        if between := [value for value in known.tolist() if value != math.floor(value)]:
            raise DataError(f"{where} holds {between[0]:g}, which is no label: values to predict need task: regression")
    if known.dtype.kind in "iuf" and len(known) and max(abs(known[0].item()), abs(known[-1].item())) > LARGEST_LABEL:
        worst = max(known[0].item(), known[-1].item(), key=abs)
        raise DataError(
            f"{where} holds the label {worst:g}: labels are whole numbers up to {LARGEST_LABEL}, or words; larger ones "
            "np.unique(y, return_inverse=True)[1] numbers from 0 on"
        )
    if len(known) < 2:
        raise DataError(
            f"{where}: all labels are {_name(known[0])}: two of them or more are needed, or task: regression"
        )
    return numbers.astype(np.int32).reshape(-1), tuple(map(_name, known))


def to_values(where: str, values: np.ndarray) -> np.ndarray:
    """Converts values to predict to float32.

    Args:
        where: See `number_labels`.
        values: Values `[N]`.

    Returns:
        The values `[N]`, float32.

    Raises:
        DataError: For a value that is not finite, or beyond float32.
    """
    if not np.isfinite(values).all() or too_large(values).any():
        raise DataError(f"{where} holds a value that is not finite, or beyond float32 (3.4e38)")
    return values.astype(np.float32)


def label_names(names: Sequence[str]) -> tuple[str, ...] | None:
    """The names of labels; None where these are just their numbers.

    Example:
        >>> label_names(["0", "1"]), label_names(["1", "2"]), label_names(["False", "True"])
        (None, ('1', '2'), None)
    """
    plain = [str(number) for number in range(len(names))]
    return None if [*names] in (plain, ["False", "True"]) else tuple(names)


def describe_labels(key: str, kind: Any, names: Sequence[str], count: int) -> str:
    """One line about labels: their type, how many there are, and their numbers.

    Args:
        key: Name of the array or column that holds them, such as `y`.
        kind: Their type in the file.
        names: Name of each label, in the order of their numbers.
        count: Number of samples.

    Returns:
        The line.

    Example:
        >>> describe_labels("y", "int64", ["1", "2", "5"], 60)
        'y: int64, 3 labels: 1, 2, 5 are numbered 0, 1, 2'
        >>> describe_labels("y", "uint8", [str(n) for n in range(10)], 60)
        'y: uint8, 10 labels, 0 to 9'
    """
    if label_names(names) is None:
        line = f"{key}: {kind}, {len(names)} labels, {names[0]} to {names[-1]}"
    else:
        few = len(names) <= MAX_LISTED
        listed = ", ".join(names if few else [*names[:2], "...", names[-1]])
        listed = listed if len(listed) <= MAX_WIDTH else listed[: MAX_WIDTH - 3] + "..."
        numbers = ", ".join(map(str, range(len(names)))) if few else f"0 to {len(names) - 1}"
        line = f"{key}: {kind}, {len(names)} labels: {listed} are numbered {numbers}"
    if len(names) > max(MAX_LISTED, count / 2):
        line += f"; {count} samples have so many: are these values to predict (task: regression)?"
    return line


def describe_values(key: str, kind: Any, values: np.ndarray) -> str:
    """One line about values to predict: their type and range."""
    return f"{key}: {kind}, values to predict, {float(values.min()):g} to {float(values.max()):g}"


def _name(label: Any) -> str:
    if isinstance(label, (float, np.floating)):
        return f"{label:.0f}"
    text = label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
    # what is printed is one line
    return "".join(each if each.isprintable() else "?" for each in text)
