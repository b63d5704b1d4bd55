"""Files that are there whole or not at all."""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from byzax.simulator.mistakes import ScenarioError

# Where a file is written before it gets its name; what a killed process leaves of it has a name that nobody else gives.
BEGUN = r"\.byzax-[0-9a-f]{8}\.tmp"
# Near the beginning of a file that is written where the user says: what has it may be replaced.
STAMP = "written by byzax"


def atomically(path: Path, write: Callable[[Any], Any]) -> None:
    """Calls `write(file)`, with a file open for bytes that takes the place of `path` when all is written.

    A reader, a crash or a power cut finds the old file or the new one and never half of it.
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
    """Waits until what was written to a file, or the names in a folder, are on the disk."""
    place = os.open(path, os.O_RDONLY)
    try:
        os.fsync(place)
    except OSError:
        # some network file systems know no folders that could be waited for
        pass
    finally:
        os.close(place)


def replaceable(path: Path, option: str) -> None:
    """Raises ScenarioError where a file with content is there that byzax did not write; `option` names it."""
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            start = file.read(8192)
    except OSError as error:
        raise ScenarioError(f"{option} {path}: cannot be read ({error.strerror}): name another file") from None
    if start and STAMP.encode() not in start:
        raise ScenarioError(f"{option} {path}: is there, and byzax did not write it: name another file, or remove it")


def write_numbers(path: Path, numbers: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, with a stamp by which it may be replaced."""
    write_json(path, {"about": STAMP, **numbers})


def write_picture(path: Path, figure: Any, option: str) -> None:
    """Writes a figure as PNG or SVG. Raises ScenarioError where another's file is there, or it cannot be written."""
    replaceable(path, option)
    suffix = path.suffix[1:]
    # without a date the same picture is the same file
    about = {"Creator": STAMP, "Date": None} if suffix == "svg" else {"Software": STAMP}
    try:
        atomically(path, partial(figure.savefig, format=suffix, dpi=160, metadata=about))
    except OSError as error:
        raise ScenarioError(f"{option} {path}: cannot be written ({error.strerror})") from None


def write_text(path: Path, text: str) -> None:
    """Writes a text, whole or not at all."""
    atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, whole or not at all."""
    write_text(path, json_text(value))


def json_text(value: Mapping[str, Any]) -> str:
    """A mapping as JSON for people and programs."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
