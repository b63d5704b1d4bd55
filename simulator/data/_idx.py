"""Data sets in the IDX format of MNIST: finding the files, fetching them once, checking every byte count."""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np

from simulator.compilation import cache_folder
from simulator.data.base import DataError, Dataset, dataset

CLASSES = 10
# the number of dimensions of each file, in the order of training and test images and labels
FILES = {
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}


def load(
    name: str,
    root: str | None,
    scale: Literal["unit", "standard"],
    mirrors: tuple[str, ...],
    sha256: Mapping[str, str],
) -> Dataset:
    """The data set `name` from `root`, else from $BYZAX_DATA, else from the cache folder, else from a mirror.

    Raises ValueError for an unknown scale, and DataError where a file is missing or damaged.
    """
    if scale not in ("unit", "standard"):
        raise ValueError(f'{name} knows the scales "unit" and "standard", got {scale!r}')
    return _read(name, _folder(name, root, mirrors, sha256), scale)


def _folder(name: str, root: str | None, mirrors: tuple[str, ...], sha256: Mapping[str, str]) -> Path:
    if root is not None:
        places = _places(name, root, f"data.root {root!r}")
        return _complete(places) or _fail_missing(name, places)
    shared = os.environ.get("BYZAX_DATA")
    cache = cache_folder() / "data" / name
    places = [*(_places(name, shared, f"$BYZAX_DATA ({shared})") if shared else []), cache]
    if (found := _complete(places)) is not None:
        return found
    if failure := _download(cache, mirrors, sha256):
        _fail_missing(name, places, failure)
    return cache


def _places(name: str, root: str, where: str) -> list[Path]:
    try:
        base = Path(root).expanduser()
    except RuntimeError:
        raise DataError(f"{name}: {where}: there is no such user: write the folder without ~") from None
    return [base, base / name]


def _complete(places: list[Path]) -> Path | None:
    return next((folder for folder in places if not _missing(folder)), None)


def _missing(folder: Path) -> list[str]:
    return [file for file in FILES if _path(folder, file) is None]


def _path(folder: Path, file: str) -> Path | None:
    candidates = (folder / file, folder / f"{file}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _fail_missing(name: str, places: list[Path], failure: str = "") -> NoReturn:
    looked = [f"{folder} {_lacks(folder) if folder.is_dir() else 'is no folder'}" for folder in places]
    download = f", and {failure}" if failure else ""
    raise DataError(
        f"{name}: files are missing: {'; '.join(looked)}{download}. Put {_listed(FILES)} (each as it is or with .gz) "
        f"into {cache_folder() / 'data' / name}, or into a folder that data.root or $BYZAX_DATA names (or into its "
        f"sub-folder {name})"
    )


def _lacks(folder: Path) -> str:
    missing = _missing(folder)
    return "lacks all of them" if len(missing) == len(FILES) else f"lacks {_listed(missing)}"


def _listed(files: Iterable[str]) -> str:
    *most, last = files
    return f"{', '.join(most)} and {last}" if most else last


def _download(cache: Path, mirrors: tuple[str, ...], sha256: Mapping[str, str]) -> str:
    """Fetches what the cache lacks, from the first mirror that has it. Gives what failed, empty if nothing did."""
    # here, not above: only a first download needs it, and it brings an HTTP client along
    import pooch

    # a failed try is said once, with what to do
    pooch.get_logger().setLevel("WARNING")
    for file in _missing(cache):
        failures = []
        for mirror in mirrors:
            try:
                pooch.retrieve(
                    f"{mirror}/{file}.gz",
                    known_hash=f"sha256:{sha256[file]}",
                    fname=f"{file}.gz",
                    path=cache,
                    downloader=pooch.HTTPDownloader(timeout=15),  # pyright: ignore[reportArgumentType]
                )
                break
            except Exception as error:  # whatever the HTTP client raises, a person offline needs the same help
                failures.append(f"{mirror}: {_why(error)}")
        else:
            return f"{file}.gz could not be downloaded ({'; '.join(failures)})"
    return ""


def _why(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    if type(error) is ValueError:
        return "its checksum is not the published one"
    return str(error) if getattr(error, "strerror", None) else type(error).__name__


@lru_cache(maxsize=4)
def _read(name: str, folder: Path, scale: Literal["unit", "standard"]) -> Dataset:
    paths = [path for file in FILES if (path := _path(folder, file))]
    arrays = [read(path, dimensions) for path, dimensions in zip(paths, FILES.values(), strict=True)]
    for images, labels in ((0, 1), (2, 3)):
        if len(arrays[images]) != len(arrays[labels]):
            raise DataError(
                f"{paths[labels]} has {len(arrays[labels])} labels but {paths[images]} has {len(arrays[images])} "
                f"images: take both from the same source"
            )
        if arrays[labels].max() >= CLASSES:
            raise DataError(f"{paths[labels]} has the label {arrays[labels].max()}, {name} has 0..{CLASSES - 1} only")
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        sizes = [f"{rows}x{columns}" for rows, columns in (arrays[0].shape[1:], arrays[2].shape[1:])]
        raise DataError(f"{paths[0]} has images of {sizes[0]} pixels but {paths[2]} of {sizes[1]}")
    train = len(arrays[0])
    x = np.concatenate([arrays[0], arrays[2]]).astype(np.float32) / 255
    if scale == "standard":
        mean, deviation = x[:train].mean(dtype=np.float64), x[:train].std(dtype=np.float64)
        x = (x - np.float32(mean)) / np.float32(deviation or 1)
    return dataset(x, np.concatenate([arrays[1], arrays[3]]), CLASSES, np.arange(train, len(x)))


def read(path: Path, dimensions: int) -> np.ndarray:
    """The array of unsigned bytes in one IDX file, gzip or not (the content decides, not the name).

    Raises DataError, naming the file, where it cannot be read, is damaged, or does not hold `dimensions` dimensions.
    """
    way_out = "replace it (or delete it, if byzax downloaded it, to have it fetched again)"
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged or truncated gzip file ({error}): {way_out}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    header = 4 + 4 * dimensions
    magic = b"\x00\x00\x08" + bytes([dimensions])
    if content[:4] != magic:
        raise DataError(
            f"{path} has the wrong magic number {content[:4].hex() or 'nothing'}, an IDX file of "
            f"{dimensions}-dimensional unsigned bytes starts with {magic.hex()}: {way_out}"
        )
    if len(content) < header:
        raise DataError(f"{path} is truncated in its header, {len(content)} of {header} bytes: {way_out}")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = math.prod(shape)
    if expected == 0:
        raise DataError(f"{path} holds no samples, its header says {'x'.join(map(str, shape))}: {way_out}")
    if len(content) - header != expected:
        problem = "is truncated" if len(content) - header < expected else "is longer than its header says"
        raise DataError(
            f"{path} {problem}: {'x'.join(map(str, shape))} is {expected} bytes, it has {len(content) - header}: "
            f"{way_out}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
