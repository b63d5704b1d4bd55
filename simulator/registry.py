"""Lookup in a folder of plug-in files: one file per member, holding a factory of the file's own name."""

import difflib
import importlib
import os
import pkgutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDERS = (
    "aggregators", "attacks", "models", "pre", "filters", "data", "partitions", "augmentations", "schedules", "latency",
    "rates",
)  # fmt: skip


class PluginError(ImportError):
    """A file or folder of plug-ins that cannot be used; one line that names it."""


# By folder and name: files that cannot be used. Nobody is told of them but who asks for the name.
unusable: dict[tuple[str, str], PluginError] = {}


def available(package: str) -> tuple[str, ...]:
    """The names of all members of `package`, such as "byzax.simulator.data".

    One for each file, but for `base` and files whose names start with an underscore: those are shared helpers.
    """
    files = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return tuple(sorted(m.name for m in files if not m.ispkg and m.name != "base" and not m.name.startswith("_")))


def factory(package: str, name: str, kind: str | None = None) -> Callable[..., Any]:
    """The function behind a member's name: `factory("byzax.simulator.partitions", "iid")()`.

    `kind` is the word for a member in the message; without one it is the singular of the folder's name.

    Raises ValueError for an unknown name, with the nearest known one.
    """
    known = available(package)
    if name not in known:
        word = kind or package.rpartition(".")[2].removesuffix("s")
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown {word} {name!r}: {hint}available: {', '.join(known)}")
    module = importlib.import_module(f"{package}.{name}")
    if not hasattr(module, name):
        raise ValueError(f"{module.__file__} must hold a function of its own name, {name}")
    return getattr(module, name)


def members(package: ModuleType) -> dict[str, Callable[..., Any]]:
    """Every member of a package of plug-ins, by name, each loaded.

    A file that cannot be used, or two of one name, are left out and kept in `unusable`. Raises PluginError for a folder
    that is not there, and for two files of one name that others import.
    """
    for folder in filter(None, os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep)):
        if not any(Path(folder, each).is_dir() for each in FOLDERS):
            lacks = f"holds none of the folders {', '.join(FOLDERS)}" if Path(folder).is_dir() else "is no folder"
            raise PluginError(f"$BYZAX_PLUGINS: {folder} {lacks}")
    first: dict[str, Path] = {}
    twice: dict[str, Path] = {}
    for folder in map(Path, package.__path__):
        for file in sorted(folder.glob("*.py")):
            if file.stem != "__init__" and first.setdefault(file.stem, file) != file:
                twice[file.stem] = file
    found, kind = {}, package.__name__.rpartition(".")[2]
    names = package.available()
    if helpers := [file for name, file in twice.items() if name not in names]:
        # every file of the folder may import them
        raise PluginError(f"{helpers[0]}: there is {first[helpers[0].stem]} too: rename one of the two")
    for name in names:
        try:
            with named(str(first[name])):
                if name in twice:
                    raise PluginError(f"{twice[name]}: there is {first[name]} too: rename one of the two")
                function = package.factory(name)
                if not callable(function):
                    raise TypeError(f"{name} must be a function, and is {type(function).__name__}")
            found[name] = function
        except PluginError as error:
            unusable[kind, name] = error
    return found


def unusable_of(kind: str) -> dict[str, PluginError]:
    """The names of a kind, such as rule, whose files cannot be used, with what is wrong."""
    return {name: error for (folder, name), error in unusable.items() if folder == _folder(kind)}


def leave_out(kind: str, name: str, error: PluginError) -> None:
    """Keeps what is wrong with a file of a kind, for whoever asks for its name."""
    unusable[_folder(kind), name] = error


def _folder(kind: str) -> str:
    return {"rule": "aggregators", "pre": "pre", "data": "data", "latency": "latency"}.get(kind, f"{kind}s")


@contextmanager
def named(file: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes a PluginError that names the file, and the line where it happened there."""
    try:
        yield
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        text = str(error)
        raise PluginError(text if text.startswith(file) else f"{file}: {said(error, file)}") from error


def file_of(function: Callable[..., Any]) -> str:
    """The file that a function comes from."""
    return str(getattr(sys.modules.get(function.__module__), "__file__", function.__module__))


def said(error: BaseException, file: str) -> str:
    """An error in one line: its type, what it says, and the last line of `file` that it passed through."""
    text = textwrap.shorten(str(error), 300, placeholder=" ...")
    file = os.path.abspath(file)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{type(error).__name__}: {text}" + (f" ({file}:{lines[-1]})" if lines else "")
