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


def available(package: str) -> tuple[str, ...]:
    """The names of all members of `package`, such as "simulator.data".

    One for each file, but for `base` and files whose names start with an underscore: those are shared helpers.
    """
    files = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return tuple(sorted(m.name for m in files if not m.ispkg and m.name != "base" and not m.name.startswith("_")))


def factory(package: str, name: str, kind: str | None = None) -> Callable[..., Any]:
    """The function behind a member's name: `factory("simulator.partitions", "iid")()`.

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

    Raises PluginError for a folder that is not there, for two files of one name and for a file that cannot be loaded.
    """
    for folder in filter(None, os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep)):
        if not any(Path(folder, each).is_dir() for each in FOLDERS):
            lacks = f"holds none of the folders {', '.join(FOLDERS)}" if Path(folder).is_dir() else "is no folder"
            raise PluginError(f"$BYZAX_PLUGINS: {folder} {lacks}")
    first: dict[str, Path] = {}
    for folder in map(Path, package.__path__):
        for file in sorted(folder.glob("*.py")):
            if file.stem != "__init__" and first.setdefault(file.stem, file) != file:
                raise PluginError(f"{file}: there is {first[file.stem]} too: rename one of the two")
    found = {}
    for name in package.available():
        with named(str(first[name])):
            found[name] = package.factory(name)
            if not callable(found[name]):
                raise TypeError(f"{name} must be a function, and is {type(found[name]).__name__}")
    return found


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
