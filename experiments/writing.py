"""Atomic writing: files are there whole or not at all."""

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from byzax.simulator.mistakes import ScenarioError

# Name of a file that is being written; a killed process may leave one.
BEGUN = r"\.byzax-[0-9a-f]{8}\.tmp"
# Near the beginning of files that byzax may replace outside its folders.
STAMP = "written by byzax"


def atomically(path: Path, write: Callable[[Any], Any]) -> None:
    """Writes a file so that a reader, a crash or a power cut finds the old file or the new one, never half of it.

    Args:
        path: The file; a link stays a link.
        write: Called with a file open for bytes, which takes the place of `path` when all is written.
    """
    if path.exists() and not path.is_file():
        # a pipe or a terminal, such as /dev/stdout, has no content that could be lost
        with path.open("wb") as file:
            write(file)
        return
    # a link stays one
    place = path.resolve()
    begun = place.with_name(f".byzax-{secrets.token_hex(4)}.tmp")
    try:
        # "x": never a file or a link that is there already
        with begun.open("xb") as file:
            write(file)
            file.flush()
            # the content before the name: else a power cut may leave an empty file of this name
            os.fsync(file.fileno())
        os.replace(begun, place)
    except BaseException:
        begun.unlink(missing_ok=True)
        raise
    sync(place.parent)


def sync(path: Path) -> None:
    """Waits until the content of a file, or the names in a folder, are on the disk.

    Args:
        path: The file or folder.
    """
    place = os.open(path, os.O_RDONLY)
    try:
        os.fsync(place)
    except OSError:
        # some network file systems know no folders that could be waited for
        pass
    finally:
        os.close(place)


def check_replaceable(path: Path, option: str) -> None:
    """Checks that a file may be replaced: it is missing, empty, or written by byzax.

    Args:
        path: The file.
        option: The command-line option that named it.

    Raises:
        ScenarioError: Where it may not, or cannot be read.
    """
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            # a PDF says at its end who wrote it
            start = file.read(8192)
            file.seek(max(0, path.stat().st_size - 8192))
            end = file.read()
    except OSError as error:
        raise ScenarioError(f"{option} {path}: cannot be read ({error.strerror}): name another file") from None
    if start and STAMP.encode() not in start and STAMP.encode() not in end:
        raise ScenarioError(f"{option} {path}: is there, and byzax did not write it: name another file, or remove it")


def write_numbers(path: Path, numbers: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, with the stamp of files that may be replaced.

    Args:
        path: The file.
        numbers: The mapping.
    """
    write_json(path, {"about": STAMP, **numbers})


def write_picture(path: Path, figure: Any, option: str) -> None:
    """Writes a figure as PNG, PDF or SVG.

    Args:
        path: The picture.
        figure: The figure.
        option: The command-line option that named the picture.

    Raises:
        ScenarioError: Where a file that byzax did not write is there, or the picture cannot be written.
    """
    check_replaceable(path, option)
    suffix = path.suffix[1:]
    # without a date the same picture is the same file
    dateless = {"svg": {"Creator": STAMP, "Date": None}, "pdf": {"Creator": STAMP, "CreationDate": None}}
    about = dateless.get(suffix, {"Software": STAMP})
    try:
        atomically(path, partial(figure.savefig, format=suffix, dpi=160, metadata=about))
    except OSError as error:
        raise ScenarioError(f"{option} {path}: cannot be written ({error.strerror})") from None


def write_text(path: Path, text: str) -> None:
    """Writes a text, whole or not at all.

    Args:
        path: The file.
        text: The text.
    """
    atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, whole or not at all.

    Args:
        path: The file.
        value: The mapping.
    """
    write_text(path, json_text(value))


def json_text(value: Mapping[str, Any]) -> str:
    """A mapping as JSON for people and programs.

    Args:
        value: The mapping.

    Returns:
        The text, indented.
    """
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


class WriteError(RuntimeError):
    """A file of results that cannot be written, such as on a full disk; one line that names it."""


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Turns an OSError while files of a folder are written into a WriteError.

    Args:
        folder: The folder, named in the error where the file is not known.

    Raises:
        WriteError: For a file that cannot be written, such as on a full disk.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(f"{error.filename or folder}: cannot be written ({error.strerror or error})") from None
