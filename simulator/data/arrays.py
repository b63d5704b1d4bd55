"""Arrays: NumPy arrays in files of your own."""

import re
import sys
from pathlib import Path
from typing import Literal

import numpy as np

from byzax.options import checked
from byzax.simulator.data import _files, _targets
from byzax.simulator.data.base import DataError, Dataset, Task, dataset, describe, too_large
from byzax.simulator.file_cache import depends_on, file_cache
from byzax.simulator.mistakes import shorten

KEYS = ("x", "y", "x_test", "y_test", "owners", "owners_test")
SAMPLES = ("x", "x_test")
# possible numbers of colours: the axis of an image that has one of these lengths is that of its colours
COLOURS = (1, 3, 4)

Layout = Literal["channels_last", "channels_first"]


@checked
def arrays(*, path: str, task: Task | None = None, layout: Layout | None = None, tokens: bool = False) -> Dataset:
    """Reads NumPy arrays `x` `[N, ...]` and `y` `[N]` from an .npz, or from a folder of .npy files: x.npy, y.npy, ...

    Labels may be whole numbers, truth values or words (not of type object: `y.astype(str)`). They are numbered from 0
    in their order, and the names that they had are printed before a run. Other numbers in `y` are values to predict
    (regression); whole numbers of a float type could be either, and need `task`. Besides there may be `x_test` and
    `y_test`, the test set; and `owners` `[N]`, whole numbers or words that name the owner of each sample of `x`, for
    the partition by_writer, with `owners_test`. An `x` of float32 (of int32 with tokens) in a folder without a test set
    is not read but mapped, until the run places it on its device; everything else takes a copy.

    Samples: those of the files

    Args:
        path: Path of the .npz or the folder, relative to the working directory or to $BYZAX_DATA.
        task: Whether `y` holds labels or values. None: what its type says.
        layout: Place of the colours in images: "channels_first" brings `[N, colours, height, width]` into the order
            `[N, height, width, colours]`, "channels_last" leaves images as they are that look like the former.
            None: images that look like channels_first are refused, others stay as they are.
        tokens: Whether whole numbers in `x` stay such, for characters or words; otherwise they become float32, as
            pixels.

    Returns:
        The data set.

    Raises:
        OptionError: For an unknown `task` or `layout`.
        DataError: Where the file or an array is missing or damaged, or arrays do not fit each other.

    References:
        Your own files
    """
    return _load(_files.find_named("arrays", "path", path), task, layout, tokens)


@file_cache(maxsize=4)
def _load(place: Path, task: Task | None, layout: Layout | None, tokens: bool) -> Dataset:
    held = _read(place)
    for key in ("x", "y", *(("x_test", "y_test") if {"x_test", "y_test"} & set(held) else ())):
        if key not in held:
            raise DataError(
                f"{place} lacks the array {key}: it has {_files.join_words(held) if held else 'none we know'}"
            )
    if "owners_test" in held and not {"owners", "x_test"} <= set(held):
        raise DataError(f"{place}: owners_test needs owners and x_test beside it")
    for key, array in held.items():
        _check(place, key, array, held, tokens)
    about = [describe(key, held[key]) for key in SAMPLES if key in held]
    samples = [_colours_last(f"{place}: {key}", held[key], layout) for key in SAMPLES if key in held]
    x = samples[0] if len(samples) == 1 else _join(place, "x", samples)
    y = held["y"] if "y_test" not in held else _join(place, "y", [held["y"], held["y_test"]])
    test = np.arange(len(held["x"]), len(x)) if "x_test" in held else None
    owners = held.get("owners")
    if owners is not None:
        owners = _owners(place, owners, held.get("owners_test"), len(x))
    # bytes stay bytes, and a memory map of float32 a map
    divisor = 1 if x.dtype == np.uint8 and not tokens else None
    x = x if tokens or divisor else np.asarray(x, np.float32)
    if _is_labelled(place, y, task):
        numbers, names = _targets.number_labels(f"{place}: y", y)
        about.append(_targets.describe_labels("y", y.dtype, names, len(y)))
        names_of = _targets.label_names(names)
        return dataset(x, numbers, len(names), test, owners, names_of, tuple(about), divisor=divisor)
    about.append(_targets.describe_values("y", y.dtype, y))
    return dataset(x, _targets.to_values(f"{place}: y", y), None, test, owners, about=tuple(about), divisor=divisor)


def _check(place: Path, key: str, array: np.ndarray, held: dict[str, np.ndarray], tokens: bool) -> None:
    """Raises DataError for an array of a wrong type or shape, or with a number that cannot be used."""
    partner = "x_test" if key.endswith("_test") else "x"
    kinds = "fiub" if key in SAMPLES else "iuUS" if key.startswith("owners") else "fiubUS"
    if array.dtype.kind not in kinds:
        needed = {"fiub": "numbers", "iuUS": "whole numbers or words"}.get(kinds, "numbers or words")
        raise DataError(f"{place}: {key} must hold {needed}, got {array.dtype}")
    if array.ndim < 2 if key in SAMPLES else array.ndim != 1:
        shape = "[N, ...]" if key in SAMPLES else "[N]"
        raise DataError(f"{place}: {key} must be {shape}, got {list(array.shape)}{_way_out(key, array)}")
    if len(array) != len(held[partner]) or not array.size:
        raise DataError(f"{place}: {key} has {len(array)} entries for {len(held[partner])} samples of {partner}")
    if array.dtype.kind == "U":
        codes = np.frombuffer(array.tobytes(), np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if len(codes) and codes.max() > sys.maxunicode:
            raise DataError(f"{place}: {key} holds text that is none, or is damaged")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{place}: {key} holds a number that is not finite")
    if array.dtype.kind == "f" and array.dtype.itemsize > 4 and (large := too_large(array)).any():
        where = ", ".join(map(str, np.argwhere(large)[0]))
        raise DataError(
            f"{place}: {key}[{where}] is {array.flat[int(np.argmax(large))]:g}, and numbers are kept as "
            "float32, up to 3.4e38: bring them to another unit"
        )
    if tokens and key in SAMPLES:
        if array.dtype.kind not in "iu":
            raise DataError(f"{place}: with data.tokens {key} must hold whole numbers, got {array.dtype}")
        if array.max() > np.iinfo(np.int32).max or array.min() < 0:
            raise DataError(
                f"{place}: {key} holds the token {_extreme(array)}: 0 to {np.iinfo(np.int32).max} are known"
            )


def _way_out(key: str, array: np.ndarray) -> str:
    """Advice about labels with several axes; empty where there is none."""
    if not key.startswith("y") or array.ndim != 2:
        return ""
    if array.shape[1] == 1:
        return f": {key}.ravel() is of that shape"
    whole = array.dtype.kind in "fiub" and np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all()
    return f": it looks one-hot, and {key}.argmax(1) gives its labels" if whole else ""


def _extreme(array: np.ndarray) -> int:
    return max(array.min().item(), array.max().item(), key=lambda value: (value < 0, value))


def _join(place: Path, key: str, parts: list[np.ndarray]) -> np.ndarray:
    """Joins training and test samples or labels. Raises DataError where their shapes or types differ."""
    first, second = parts
    if first.shape[1:] != second.shape[1:]:
        raise DataError(
            f"{place}: samples of {key}_test are {list(second.shape[1:])}, of {key} {list(first.shape[1:])}"
        )
    # NumPy would join numbers and words, or bytes of 0 to 255 and numbers of 0 to 1, without an error
    kinds = [{"u": "i", "S": "U"}.get(part.dtype.kind, part.dtype.kind) for part in parts]
    if kinds[0] != kinds[1]:
        raise DataError(f"{place}: {key} is of {first.dtype} and {key}_test of {second.dtype}: bring them to one type")
    return np.concatenate(parts)


def _colours_last(where: str, x: np.ndarray, layout: Layout | None) -> np.ndarray:
    """Moves the colours of images to the last axis, where `layout` says so.

    Other samples stay as they are. Raises DataError for images whose colours seem to come first without a layout.
    """
    if layout == "channels_first":
        if x.ndim != 4:
            raise DataError(f"{where} is {list(x.shape)}: layout channels_first is for [N, colours, height, width]")
        return np.moveaxis(x, 1, -1)
    if layout is None and x.ndim == 4 and x.shape[1] in COLOURS and not {*x.shape[2:]} & {*COLOURS}:
        _, colours, *sides = x.shape
        raise DataError(
            f"{where} is {list(x.shape)}, images with their {colours} colour{'s' if colours > 1 else ''} first, and "
            f"[N, {sides[0]}, {sides[1]}, {colours}] is needed: set data.layout: channels_first (channels_last if "
            f"these are {colours} x {sides[0]} images of {sides[1]} colours), or save np.moveaxis(x, 1, -1)"
        )
    return x


def _owners(place: Path, owners: np.ndarray, of_test: np.ndarray | None, count: int) -> np.ndarray:
    """Numbers the owners in their order, `[count]`; -1 for test samples without an owner."""
    if of_test is not None:
        return np.unique(_join(place, "owners", [owners, of_test]), return_inverse=True)[1].reshape(-1)
    numbers = np.unique(owners, return_inverse=True)[1].reshape(-1)
    return np.concatenate([numbers, np.full(count - len(owners), -1)])


def _is_labelled(place: Path, y: np.ndarray, task: Task | None) -> bool:
    if task is not None:
        if task == "regression" and y.dtype.kind in "US":
            raise DataError(f"{place}: y holds words, and task: regression needs numbers")
        return task == "classification"
    if y.dtype.kind == "f" and (y == np.floor(y)).all():
        raise DataError(
            f"{place}: y is of {y.dtype} and holds whole numbers alone: say data.task: classification (labels) or "
            "data.task: regression (values to predict)"
        )
    return y.dtype.kind != "f"


def _read(place: Path) -> dict[str, np.ndarray]:
    now, arrays = place, {}
    try:
        if place.is_dir():
            for key in KEYS:
                depends_on(now := place / f"{key}.npy")
                if now.is_file():
                    arrays[key] = np.load(now, mmap_mode="r")
            return arrays
        depends_on(place)
        with place.open("rb") as file:
            held = np.load(file)
            if not isinstance(held, np.lib.npyio.NpzFile):
                raise DataError(f"{place} holds one array: an .npz with x and y is needed, or a folder of .npy files")
            return {key: held[key] for key in KEYS if key in held}
    except DataError:
        raise
    except Exception as error:  # whatever NumPy and zipfile make of damaged bytes
        # NumPy advises allow_pickle, which would run code of the file
        objects = "arrays of objects, or no arrays: save x.astype(np.float32), y.astype(str) with np.savez"
        pickled = re.search("allow_pickle|pickle|Python objects", str(error))
        reason = objects if pickled else shorten(str(error), 200)
        raise DataError(
            f"{now} is no .npz or .npy file of numbers, or damaged: {reason or type(error).__name__}"
        ) from error
