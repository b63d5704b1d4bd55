"""Parts by reference: the function behind `krum`, behind `rules.py:mine`, or of an installed package."""

import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pkgutil
import reprlib
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from byzax.options import PartError

_short = reprlib.Repr()
_short.maxstring = 60


class PluginError(ValueError):
    """A file, folder or installed package of the user's own that cannot be used; one line that names it."""


class Kind(NamedTuple):
    """A kind of parts.

    Attributes:
        word: The word for one of them in messages.
        package: The package that holds a file for each.
        folder: Their folder in a folder of plug-ins; installed packages offer theirs as entry points `byzax.<folder>`.
    """

    word: str
    package: str
    folder: str


KINDS = {
    "rule": Kind("rule", "byzax.aggregators", "aggregators"),
    "pre": Kind("pre-aggregation", "byzax.aggregators.pre", "pre"),
    "filter": Kind("filter", "byzax.aggregators.filters", "filters"),
    "attack": Kind("attack", "byzax.attacks", "attacks"),
    "model": Kind("model", "byzax.models", "models"),
    "data": Kind("data set", "byzax.simulator.data", "data"),
    "partition": Kind("partition", "byzax.simulator.partitions", "partitions"),
    "augmentation": Kind("augmentation", "byzax.simulator.augmentations", "augmentations"),
    "schedule": Kind("schedule", "byzax.simulator.schedules", "schedules"),
    "latency": Kind("latency model", "byzax.simulator.latency", "latency"),
    "rate": Kind("learning rate schedule", "byzax.simulator.rates", "rates"),
    "optimizer": Kind("optimizer", "byzax.simulator.optimizers", "optimizers"),
}


class Folder(ModuleType):
    """A package whose attributes are the functions of its files: `byzax.aggregators.krum(n=15, f=3)`."""

    def __setattr__(self, name: str, value: Any) -> None:
        # importing a file puts its module here, where the function of the same name belongs
        function = getattr(value, name, None) if isinstance(value, ModuleType) else None
        super().__setattr__(name, function if callable(function) else value)


def open_folder(kind: str) -> None:
    """Adds the plug-ins of a kind to its package, whose `__init__` calls this."""
    package, folder = sys.modules[KINDS[kind].package], KINDS[kind].folder
    package.__path__.extend(str(Path(each, folder)) for each in plugin_folders())
    package.__class__ = Folder


def plugin_folders() -> list[str]:
    """The folders that `$BYZAX_PLUGINS` names, separated as in `$PATH`."""
    return [os.path.expanduser(each) for each in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if each]


def check_plugin_folders() -> None:
    """Raises PluginError for a folder of `$BYZAX_PLUGINS` that is not there, or holds none of the folders of parts."""
    for folder in plugin_folders():
        if not any(Path(folder, kind.folder).is_dir() for kind in KINDS.values()):
            names = ", ".join(kind.folder for kind in KINDS.values())
            lacks = f"holds none of the folders {names}" if Path(folder).is_dir() else "is no folder"
            raise PluginError(f"$BYZAX_PLUGINS: {folder} {lacks}")


def available(kind: str) -> tuple[str, ...]:
    """The names of all parts of a kind, without loading any: those of files, `base` and `_*` aside, and entry points.

    Args:
        kind: A key of `KINDS`.
    """
    package = importlib.import_module(KINDS[kind].package)
    files = {each.name for each in pkgutil.iter_modules(package.__path__) if not each.ispkg}
    files = {name for name in files if name != "base" and not name.startswith("_")}
    return tuple(sorted(files | {point.name for point in _entry_points(KINDS[kind].folder)}))


def attribute(kind: str, name: str) -> Callable[..., Any]:
    """The function behind a name, as an attribute of the package of its kind. Raises AttributeError without one."""
    # what Python, IPython and pickle look for in any module
    if name.startswith("_") or name not in available(kind):
        raise AttributeError(f"module {KINDS[kind].package!r} has no attribute {name!r}")
    return find(kind, name)


def find(kind: str, reference: str | Callable[..., Any]) -> Callable[..., Any]:
    """The function of a part.

    Args:
        kind: A key of `KINDS`.
        reference: A name; or `"path/to/file.py:name"`, where a relative path begins at the working directory; or the
            function itself.

    Returns:
        The function. Only the file that is named is loaded.

    Raises:
        PartError: For a name that is not known, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    if callable(reference):
        return reference
    if is_file(reference):
        path, _, name = reference.rpartition(":")
        return _function(getattr(load_file(path), name, None), name, path)
    package = importlib.import_module(KINDS[kind].package)
    check_plugin_folders()
    places = [Path(folder, f"{reference}.py") for folder in package.__path__]
    # a name such as ../x is no file of the folder; one that is too long for a file is none either
    found: list[Any] = [place for place in places if reference.isidentifier() and os.path.isfile(place)]
    found += [point for point in _entry_points(KINDS[kind].folder) if point.name == reference]
    if reference.startswith("<"):
        raise PartError(
            f"{reference} was a function of the program that ran it: put it into a file and name it file.py:function"
        )
    if not found or reference == "base" or reference.startswith("_"):
        raise PartError(f"unknown {KINDS[kind].word} {_short.repr(reference)}; {nearest(reference, available(kind))}")
    _once(found)
    _helpers_once(package)
    if not isinstance(found[0], Path):
        point = found[0]
        with named(f"entry point {reference} = {point.value}"):
            return _function(point.load(), reference, f"entry point {reference} = {point.value}")
    with named(str(found[0])):
        module = importlib.import_module(f"{package.__name__}.{reference}")
    return _function(getattr(module, reference, None), reference, str(found[0]))


def _function(found: Any, name: str, place: str) -> Callable[..., Any]:
    if found is None:
        raise PluginError(f"{place}: must hold a function {name}")
    if not callable(found):
        raise PluginError(f"{place}: {name} must be a function, and is {type(found).__name__}")
    return found


def _once(found: list[Any]) -> None:
    """Raises PluginError where a name has several meanings."""
    if len(found) > 1:
        last = found[-1] if isinstance(found[-1], Path) else f"entry point {found[-1].name} = {found[-1].value}"
        raise PluginError(f"{last}: there is {found[0]} too: rename one of the two")


def _helpers_once(package: ModuleType) -> None:
    """Raises PluginError where a plug-in folder hides a file that others of the folder may import."""
    first, *others = map(Path, package.__path__)
    for folder in others:
        for file in folder.glob("*.py"):
            if (file.stem == "base" or file.stem.startswith("_")) and file.stem != "__init__":
                _once([place for each in (first, folder) if (place := each / file.name).is_file()])


@functools.cache
def _entry_points(folder: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=f"byzax.{folder}"))


def is_file(reference: str) -> bool:
    """Tells whether a reference is of the form `path/to/file.py:name`."""
    path, colon, name = reference.rpartition(":")
    return bool(colon) and path.endswith(".py") and name.isidentifier()


def place_of(path: str) -> Path:
    """The absolute path of a file that a user names, from the working directory on; ~ is the home folder."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def load_file(path: str) -> ModuleType:
    """A Python file as a module, run once for each content that it has had.

    Args:
        path: Of the file; a relative one begins at the working directory, ~ is the home folder.

    Raises:
        PluginError: Where there is no such file, or running it fails.
    """
    place = place_of(path)
    if not os.path.isfile(place):
        shown = path if path.isprintable() and len(path) < 256 else _short.repr(path)
        raise PluginError(f"there is no file {shown}: a relative path begins at the working directory, {Path.cwd()}")
    name = f"byzax_file_{hashlib.sha256(str(place).encode() + place.read_bytes()).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is no Python file: its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    # dataclasses, and with them Linen, look for the module of a class there
    sys.modules[name] = module
    try:
        with named(path):
            spec.loader.exec_module(module)
    except PluginError:
        del sys.modules[name]
        raise
    return module


def reference_of(function: Callable[..., Any]) -> str:
    """The reference of a function in records: its name where it is byzax's, `file.py:name` where that finds it again.

    A function of the program that was started is not found again by its file, for loading it would start the program:
    of it only the name is told, as `<name>`.
    """
    partial = isinstance(function, functools.partial)
    while isinstance(function, functools.partial):
        function = function.func
    # the name of a lambda has brackets already
    name = getattr(function, "__name__", type(function).__name__).strip("<>")
    if partial:
        return f"<{name}>"
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if function.__module__ in {f"{kind.package}.{name}" for kind in KINDS.values()}:
        return name
    if file and module is not None and module.__name__ != "__main__" and getattr(module, name, None) is function:
        return f"{file}:{name}"
    return f"<{name}>"


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` for a near match, else nothing; then all that is known."""
    known = list(known)
    near = difflib.get_close_matches(word[:60], known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(known)}"


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
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return inspect.getsourcefile(inspect.unwrap(function)) or str(function.__module__)
    except (TypeError, OSError):
        # a class of a notebook has no file
        return str(getattr(function, "__module__", ""))


def said(error: BaseException, file: str) -> str:
    """An error in one line: its type, what it says, and the last line of `file` that it passed through."""
    text = textwrap.shorten(str(error), 300, placeholder=" ...")
    file = str(place_of(file))
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{type(error).__name__}: {text}" + (f" ({file}:{lines[-1]})" if lines else "")
