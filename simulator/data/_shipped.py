"""The files of data that scikit-learn ships, read without importing it, which takes seconds."""

import importlib.util
from pathlib import Path

import numpy as np

from byzax.simulator.data import _files
from byzax.simulator.data.base import DataError


def read_shipped(name: str, skipped: int = 0) -> np.ndarray:
    """Reads a table of scikit-learn.

    Args:
        name: Name of the file, gzip or not.
        skipped: Lines at its beginning that are no numbers of samples.

    Returns:
        `[N, columns]`, float64; `[N]` for one column.

    Raises:
        DataError: Where scikit-learn is not installed, or has no such file, or the file is damaged.
    """
    # finds the package and does not import it
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise DataError(f"{name} comes with scikit-learn, which is not installed: pip install scikit-learn")
    place = Path(found.origin).parent / "datasets" / "data" / name
    if not place.is_file():
        raise DataError(f"{place} is missing: install scikit-learn anew, 1.6 or newer")
    text = _files.read_text(place)
    try:
        return np.loadtxt(text.splitlines(), delimiter="," if "," in text else None, skiprows=skipped)
    except ValueError as error:
        raise DataError(f"{place} is damaged ({error}): install scikit-learn anew") from None
