"""Lookup in a folder of plug-in files: one file per member, holding a factory of the file's own name."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any


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
