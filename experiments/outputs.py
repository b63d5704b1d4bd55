"""Folders of results: the mark that says what byzax wrote in one, and that nothing else is removed or replaced.

The mark is the file `.byzax`. Its first line says which kind of results the folder holds; each other line names a file,
or the folder of a run, that byzax writes there. Names are entered before anything of that name is written, so that
all files of a killed process are listed. Files that are not listed, and all links, are not byzax's.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from byzax.experiments.writing import BEGUN, atomically, write_text
from byzax.simulator.mistakes import ScenarioError, shorten

MARK = ".byzax"
# The lock of the process that writes into a folder, which the system frees when it ends, and a note of who it is.
LOCK, HOLDER = ".byzax-lock", ".byzax-holder.json"
# The ways out, as the command line and Python have them.
ANOTHER = "choose another folder (--out, in Python out=)"
OVERWRITE = "--overwrite, in Python overwrite=True"
# The end of the name of a run's folder that is about to get another name.
ASIDE = ".renamed"
ResultsKind = Literal["study", "tuning", "certificate"]
# The names that a folder of each kind can hold: one that is listed and has no such name is not removed.
STUDY_NAMES = (
    "scenario.yaml", "summary.csv", "summary.md", "tables.csv", "skipped.csv", "accuracy*.png", "accuracy*.svg",
    "loss*.png", "loss*.svg", "time*.png", "time*.svg", "tune.csv", "tuned*.yaml", "runs/*",
)  # fmt: skip
NAMES: dict[str, tuple[str, ...]] = {
    "study": STUDY_NAMES,
    "tuning": STUDY_NAMES,
    "certificate": ("certificate.json", "certificate.csv", "certificate.png", "certificate.svg"),
}
# What the folder of a run holds.
RUN_FILES = (
    "scenario.yaml", "metrics.csv", "updates.csv", "params.npz", "workers.csv", "ages.csv", "timeline.npz",
    "versions.json", "summary.json", "error.txt", "weights.csv", "update-*.npz",
    "snapshot.npz",
)  # fmt: skip


class FolderContents(NamedTuple):
    """The contents of a folder.

    Attributes:
        kind: The kind of results in its mark; None without a mark.
        files: Files that byzax wrote, without the mark.
        folders: Folders that byzax made, inner ones first.
        foreign: The first entry that byzax did not write; None where there is none.
    """

    kind: str | None
    files: list[Path]
    folders: list[Path]
    foreign: Path | None

    @property
    def used(self) -> bool:
        """True where anything but empty folders is there."""
        return bool(self.kind or self.files or self.foreign)


def folder_contents(folder: Path) -> FolderContents:
    """Lists the contents of a folder. No link in it is followed.

    Args:
        folder: The folder, which need not exist.

    Returns:
        The contents.

    Raises:
        ScenarioError: Where the folder cannot be read.
    """
    # not Path.is_dir, which fails for a name that is too long
    if not os.path.isdir(folder):
        return FolderContents(None, [], [], None)
    kind, listed = read_mark(folder)
    files: list[Path] = []
    folders: list[Path] = []
    try:
        foreign = next(_foreign(folder, folder, listed, files, folders), None)
    except OSError as error:
        raise ScenarioError(f"{error.filename}: cannot be read ({error.strerror}): {ANOTHER}") from None
    return FolderContents(kind, files, folders, foreign)


def read_mark(folder: Path) -> tuple[str | None, frozenset[str]]:
    """Reads the mark of a folder.

    Args:
        folder: The folder.

    Returns:
        The kind of results, None without a mark, and the names in the mark.
    """
    mark = folder / MARK
    if mark.is_symlink() or not mark.is_file():
        return None, frozenset()
    try:
        first, *rest = mark.read_text().split("\n")
    except (OSError, UnicodeDecodeError):
        return None, frozenset()
    kind = first.removeprefix("byzax ")
    if first == kind or kind not in NAMES:
        return None, frozenset()
    # a mark may come from a stranger: it cannot name files that byzax does not write
    return kind, frozenset(name for name in rest if _can_be(kind, name))


def _can_be(kind: str, name: str) -> bool:
    """Tells whether byzax writes files of this name, relative to the folder."""
    above, _, last = name.rpartition("/")
    return above in ("", "runs") and last not in ("", ".", "..") and any(
        fnmatch(name, pattern) and above == pattern.rpartition("/")[0] for pattern in NAMES[kind]
    )  # fmt: skip


def _foreign(
    folder: Path, here: Path, listed: frozenset[str], files: list[Path], folders: list[Path]
) -> Iterator[Path]:
    """Yields all entries below `here` that byzax did not write; adds its own to `files` and `folders`."""
    for entry in sorted(os.scandir(here), key=lambda each: each.name):
        path, name = Path(entry.path), Path(entry.path).relative_to(folder).as_posix()
        if entry.is_dir(follow_symlinks=False):
            yield from _foreign(folder, path, listed, files, folders)
            if _own_folder(name, listed):
                folders.append(path)
            elif (above := name.rpartition("/")[0]) not in ("", "runs") and _own_folder(above, listed):
                # the folder of a run is removed whole; empty folders elsewhere do no harm, and stay
                yield path
        elif (
            name in (LOCK, HOLDER, MARK)
            and entry.is_file(follow_symlinks=False)
            and (name != MARK or read_mark(folder)[0])
        ):
            continue
        elif entry.is_file(follow_symlinks=False) and _own_file(name, listed):
            files.append(path)
        else:
            yield path


def _own_folder(name: str, listed: frozenset[str]) -> bool:
    """Tells whether this is the folder of runs, or of a run: with a dot before its name until it is begun."""
    above, _, last = name.rpartition("/")
    if name == "runs":
        return any(each.startswith("runs/") for each in listed)
    return above == "runs" and not {f"runs/{last}", f"runs/{last.removeprefix('.')}"}.isdisjoint(listed)


def _own_file(name: str, listed: frozenset[str]) -> bool:
    above, _, last = name.rpartition("/")
    begun = re.fullmatch(BEGUN, last) is not None
    if not above:
        # a process that was killed while it wrote the first mark left no mark
        return begun or name in listed
    return _own_folder(above, listed) and above != "runs" and (begun or any(fnmatch(last, name) for name in RUN_FILES))


def run_files(folder: Path) -> list[Path]:
    """The files of byzax in the folder of a run."""
    names = [entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    own = (name for name in names if re.fullmatch(BEGUN, name) or any(fnmatch(name, file) for file in RUN_FILES))
    return [folder / name for name in sorted(own)]


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


def list_in_mark(folder: Path, names: Iterable[str], kind: ResultsKind = "study") -> None:
    """Adds names to the mark of a folder, before files of these names are written.

    Args:
        folder: The folder.
        names: Names relative to it.
        kind: The kind of results, for a folder without a mark.

    Raises:
        ScenarioError: Where a link or a folder has the name of the mark.
    """
    mark = folder / MARK
    if os.path.lexists(mark) and (mark.is_symlink() or not mark.is_file()):
        raise ScenarioError(f"{mark}: is no file of byzax, which keeps the names of its files there: remove it")
    already, listed = read_mark(folder)
    if missing := [name for name in dict.fromkeys(names) if name not in listed]:
        wrong = [name for name in missing if not _can_be(already or kind, name)]
        assert not wrong, f"byzax writes no {wrong[0]}"
        write_text(mark, "\n".join([f"byzax {already or kind}", *sorted(listed), *missing, ""]))


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
