"""Files that are there whole or not at all."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def atomically(path: Path, write: Callable[[Any], Any]) -> None:
    """Calls `write(file)`, with a file open for bytes that takes the place of `path` when all is written.

    A reader, or a crash, finds the old file or the new one and never half of it.
    """
    if path.exists() and not path.is_file():
        # a pipe or a terminal, such as /dev/stdout, has no content that could be lost
        with path.open("wb") as file:
            write(file)
        return
    # a link stays one
    place = path.resolve()
    beside = place.with_name(f".{place.name}.tmp")
    with beside.open("wb") as file:
        write(file)
    os.replace(beside, place)


def write_text(path: Path, text: str) -> None:
    """Writes a text, whole or not at all."""
    atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
