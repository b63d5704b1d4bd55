"""The mark of a folder of results, which says what byzax wrote there.

It is the file `.byzax`. Its first line says which kind of results the folder holds; each other line names a file, or
the folder of a run, that byzax writes there. Names are entered before anything of that name is written, so that all
files of a killed process are listed. Files that are not listed, and all links, are not byzax's.
"""

import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple

from byzax.experiments.writing import BEGUN, write_text
from byzax.simulator.mistakes import ScenarioError

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
    "scenario.yaml", "summary.csv", "summary.md", "tables.csv", "tables.tex", "skipped.csv", "accuracy*.png",
    "accuracy*.svg", "loss*.png", "loss*.svg", "time*.png", "time*.svg", "tune.csv", "tuned*.yaml",
    "report.html", "breakdown*.csv", "breakdown.png", "breakdown.pdf", "runs/*",
)  # fmt: skip
NAMES: dict[str, tuple[str, ...]] = {
    "study": STUDY_NAMES,
    "tuning": STUDY_NAMES,
    "certificate": ("certificate.json", "certificate.csv", "certificate.png", "certificate.svg"),
}
# What the folder of a run holds.
RUN_FILES = (
    "scenario.yaml", "metrics.csv", "updates.csv", "params.npz", "workers.csv", "ages.csv", "timeline.npz",
    "versions.json", "summary.json", "error.txt", "weights.csv", "classes.csv", "confusion.csv",
    "update-*.npz",
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
