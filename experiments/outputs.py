"""Folders of results: claimed, written and cleared, so that nothing that byzax did not write is removed or replaced."""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from byzax.experiments.marks import (
    ANOTHER,
    HOLDER,
    LOCK,
    MARK,
    OVERWRITE,
    FolderContents,
    ResultsKind,
    folder_contents,
    list_in_mark,
    read_mark,
)
from byzax.experiments.writing import BEGUN, atomically, write_text
from byzax.simulator.mistakes import ScenarioError, shorten


def check(
    folders: Sequence[Path],
    inputs: Iterable[Path],
    overwrite: bool,
    kind: ResultsKind = "study",
    goes_on: bool = False,
) -> list[FolderContents]:
    """Checks that folders can be used for results; changes nothing.

    Args:
        folders: The folders.
        inputs: Files that are read, which must not be removed.
        overwrite: Whether results in the folders may be removed.
        kind: The kind of results.
        goes_on: Whether results of this kind may be there, to be added to.

    Returns:
        The contents of each folder.

    Raises:
        ScenarioError: Where a folder cannot be used.
    """
    read = {path.resolve() for path in inputs}
    contents = []
    for folder in folders:
        _can_be_made(folder)
        held = folder_contents(folder)
        # a process that was killed while it wrote the first mark left nothing but the begun file
        begun = held.kind is None and held.foreign is None
        if goes_on and not overwrite and (held.kind == kind or begun):
            # nothing of anybody is removed
            contents.append(held)
            continue
        if held.used and not overwrite:
            own = held.foreign is None and held.kind in (kind, None)
            _refuse(folder, f"is used already: {ANOTHER}" + (f", or overwrite it ({OVERWRITE})" if own else ""))
        if held.foreign is not None:
            name = shorten(str(held.foreign.relative_to(folder)))
            _refuse(folder, f"is used already and holds {name}, which byzax did not write: {ANOTHER}; "
                            "nothing was removed")  # fmt: skip
        if held.kind not in (kind, None):
            _refuse(folder, f"is used already and holds a {held.kind}: {ANOTHER}; nothing was removed")
        if any(path.resolve() in read for path in held.files):
            raise ScenarioError(f"{folder}: to overwrite it would remove a scenario that is to be run: {ANOTHER}")
        for place in {path.parent for path in (*held.files, *held.folders)}:
            if not os.access(place, os.W_OK | os.X_OK):
                raise ScenarioError(f"{place}: cannot be written (Permission denied): {ANOTHER}")
        contents.append(held)
    return contents


def _can_be_made(folder: Path) -> None:
    """Raises ScenarioError where a file stands in the place of a folder, or the one above cannot be written."""
    nearest = next((each for each in (folder, *folder.absolute().parents) if os.path.lexists(each)), folder)
    why = ""
    if not os.path.isdir(nearest):
        why = "Not a directory"
    elif not os.access(nearest, os.W_OK | os.X_OK):
        why = "Permission denied"
    if why:
        raise ScenarioError(f"{folder}: cannot be written ({why}): {ANOTHER}")


def _refuse(folder: Path, why: str) -> NoReturn:
    raise ScenarioError(f"{folder}: this output folder {why}")


def claim(
    folders: Sequence[Path],
    inputs: Iterable[Path],
    overwrite: bool = False,
    kind: ResultsKind = "study",
    keep: bool = False,
    goes_on: bool = False,
) -> None:
    """Makes folders for results, empty but for the mark, or with the results that are added to.

    Args:
        folders: The folders.
        inputs: Files that are read, which are never removed.
        overwrite: Whether results that byzax wrote there are removed; nothing is where one of the folders cannot be
            used.
        kind: The kind of results.
        keep: Whether earlier results stay until new ones replace them.
        goes_on: Whether results of this kind are added to, where `overwrite` does not remove them.

    Raises:
        ScenarioError: Where a folder is used or cannot be written.
    """
    contents = check(folders, inputs, overwrite, kind, goes_on)
    keep |= goes_on and not overwrite
    for folder in folders:
        make(folder)
    for folder, held in zip(folders, contents, strict=True):
        try:
            if not keep:
                _remove(held)
            if not (keep and held.kind):
                write_text(folder / MARK, f"byzax {kind}\n")
        except OSError as error:
            raise ScenarioError(f"{folder}: cannot be written ({error.strerror}): {ANOTHER}") from None


def make(folder: Path) -> None:
    """Makes a folder in which files can be written.

    Args:
        folder: The folder, which may be there.

    Raises:
        ScenarioError: Where it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ScenarioError(f"{folder}: cannot be written ({error.strerror}): {ANOTHER}") from None


def _remove(held: FolderContents) -> None:
    for path in held.files:
        path.unlink()
    for path in held.folders:
        # other people's files in the folder of all runs stay, and the folder with them
        if not any(path.iterdir()):
            path.rmdir()


def save(path: Path, write: Callable[[Any], Any], kind: ResultsKind = "study") -> None:
    """Writes a file of a folder of results, whole or not at all.

    Args:
        path: The file.
        write: Called with the open file.
        kind: The kind of results, for a folder without a mark.

    Raises:
        ScenarioError: Where a file that byzax did not write has this name.
    """
    if os.path.lexists(path) and not _is_own(path):
        raise ScenarioError(
            f"{path}: byzax did not write this file (it is not listed in {path.parent / MARK}): rename it to have it "
            "made anew"
        )
    list_in_mark(path.parent, [path.name], kind)
    atomically(path, write)


def save_text(path: Path, text: str, kind: ResultsKind = "study") -> None:
    """Writes a text of a folder of results, as `save` does.

    Args:
        path: The file.
        text: The text.
        kind: The kind of results, for a folder without a mark.

    Raises:
        ScenarioError: Where a file that byzax did not write has this name.
    """
    save(path, lambda file: file.write(text.encode()), kind)


def _is_own(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.name in read_mark(path.parent)[1]


def remove(paths: Iterable[Path]) -> None:
    """Removes files that byzax wrote; others stay.

    Args:
        paths: The files.
    """
    for path in paths:
        if _is_own(path):
            path.unlink()


def release(folder: Path) -> None:
    """Removes the mark of a folder in which nothing was written.

    Args:
        folder: The folder.
    """
    held = folder_contents(folder)
    if held.kind and not held.files:
        (folder / MARK).unlink()


def remove_begun(folder: Path) -> None:
    """Removes files that a killed process had not written in full; to be called by the one that holds the lock."""
    held = folder_contents(folder)
    for path in held.files:
        if re.fullmatch(BEGUN, path.name):
            path.unlink()


def discard(folder: Path) -> None:
    """Removes all that byzax wrote in a folder, with the mark.

    Args:
        folder: The folder.
    """
    held = folder_contents(folder)
    _remove(held)
    if held.kind:
        (folder / MARK).unlink()
    for name in (LOCK, HOLDER):
        (folder / name).unlink(missing_ok=True)
