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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple, TypeVar

from byzax.options import Nested, OptionError, PartError, checked_fields

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
        arguments: The arguments that byzax calls the function of one with, by place, beside its options.
        gives: The value of that function, in words.
        inner: Where that is a function, what it is called with.
    """

    word: str
    package: str
    folder: str
    arguments: tuple[str, ...]
    gives: str
    inner: tuple[str, ...] = ()


KINDS = {
    "rule": Kind("rule", "byzax.aggregators", "aggregators", ("n", "f"), "an Aggregator"),
    "pre": Kind("pre-aggregation", "byzax.aggregators.pre", "pre", ("n", "f"), "a Mixer"),
    "filter": Kind("filter", "byzax.aggregators.filters", "filters", ("n", "f"), "a Filter"),
    "attack": Kind("attack", "byzax.attacks", "attacks", ("n", "f"), "an Attack"),
    "model": Kind("model", "byzax.models", "models", ("shape", "classes"), "a Model"),
    "data": Kind("data set", "byzax.simulator.data", "data", (), "a Dataset"),
    "partition": Kind(
        "partition",
        "byzax.simulator.partitions",
        "partitions",
        (),
        "a function (samples, workers, rng) of the positions of each worker's samples",
        ("samples", "workers", "rng"),
    ),
    "augmentation": Kind(
        "augmentation",
        "byzax.simulator.augmentations",
        "augmentations",
        (),
        "a function (key, x) of the changed images",
        ("key", "x"),
    ),
    "schedule": Kind("schedule", "byzax.simulator.schedules", "schedules", ("n", "f"), "a Schedule"),
    "timing": Kind("timing", "byzax.simulator.timings", "timings", (), "a Timing"),
    "topology": Kind("topology", "byzax.simulator.topologies", "topologies", ("n", "f"), "a Topology"),
    "transform": Kind("transform", "byzax.simulator.transforms", "transforms", ("shapes",), "a Transform"),
    "graph": Kind("graph", "byzax.simulator.graphs", "graphs", ("n",), "a NodeGraph"),
    "mixing": Kind("mixing", "byzax.aggregators.mixing", "mixing", ("n", "f"), "an Aggregator"),
    "latency": Kind(
        "latency model",
        "byzax.simulator.latency",
        "latency",
        (),
        "a function (rng, worker, first, count) of the seconds of each job",
        ("rng", "worker", "first", "count"),
    ),
    "rate": Kind(
        "learning rate schedule",
        "byzax.simulator.rates",
        "rates",
        ("updates",),
        "a function (step) of the learning rate, as lambda updates: lambda step: 0.1 / (1 + step) does",
        ("step",),
    ),
    "logger": Kind("logger", "byzax.simulator.loggers", "loggers", (), "a Logger"),
    "optimizer": Kind("optimizer", "byzax.simulator.optimizers", "optimizers", (), "a GradientTransformation of optax"),
}
# the folders of byzax that hold parts; beside the scenarios that are shipped may lie a function of the user's own
_OWN = tuple(Path(__file__).with_name(name).resolve() for name in ("aggregators", "attacks", "models", "simulator"))


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
    return [os.path.expanduser(folder) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder]


def check_plugin_folders() -> None:
    """Raises PluginError for a folder of `$BYZAX_PLUGINS` that is not there, or holds none of the folders of parts."""
    for folder in plugin_folders():
        if not any(Path(folder, kind.folder).is_dir() for kind in KINDS.values()):
            names = ", ".join(kind.folder for kind in KINDS.values())
            lacks = f"holds none of the folders {names}" if Path(folder).is_dir() else "is no folder"
            raise PluginError(f"$BYZAX_PLUGINS: {folder} {lacks}")
        for kind in KINDS.values():
            inside = kind.package.removeprefix("byzax.").replace(".", "/")
            if inside != kind.folder and Path(folder, inside).is_dir():
                raise PluginError(f"$BYZAX_PLUGINS: {folder}/{inside} is not read: name it {folder}/{kind.folder}")


def available(kind: str) -> tuple[str, ...]:
    """The names of all parts of a kind, without loading any: those of files, `base` and `_*` aside, and entry points.

    Args:
        kind: A key of `KINDS`.
    """
    package = importlib.import_module(KINDS[kind].package)
    files = {each.name for each in pkgutil.iter_modules(package.__path__) if not each.ispkg}
    files = {name for name in files if name != "base" and not name.startswith("_")}
    return tuple(sorted(files | {point.name for point in _entry_points(KINDS[kind].folder)}))


def attribute(kind: str, name: str) -> Any:
    """The function behind a name, or a folder of parts inside, as an attribute of the package of a kind.

    Raises AttributeError without one.
    """
    inner = f"{KINDS[kind].package}.{name}"
    if any(other.package == inner for other in KINDS.values()):
        return importlib.import_module(inner)
    # what Python, IPython and pickle look for in any module
    if name.startswith("_") or name not in available(kind):
        near = "" if name.startswith("_") else closest(name, available(kind))
        raise AttributeError(f"module {KINDS[kind].package!r} has no attribute {name!r}{near and f'; {near.strip()}'}")
    return find(kind, name)


def find(kind: str, reference: str | Callable[..., Any]) -> Callable[..., Any]:
    """The function of a part.

    Args:
        kind: A key of `KINDS`.
        reference: A name; or `"path/to/file.py:name"`, where a relative path begins at the working directory and ~ is
            the home folder; or the function itself.

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
        module = load_file(path)
        near = closest(name, [each for each, value in vars(module).items() if callable(value) and each[0] != "_"])
        return _function(getattr(module, name, None), name, path, near)
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
        hint = _own_form(reference) or nearest(reference, available(kind))
        raise PartError(f"unknown {KINDS[kind].word} {_short.repr(reference)}; {hint}")
    _once(found)
    if not isinstance(found[0], Path):
        point = found[0]
        with named(f"entry point {reference} = {point.value}"):
            return _function(point.load(), reference, f"entry point {reference} = {point.value}")
    plug_in = found[0].parent != Path(package.__path__[0])
    origin = " (of $BYZAX_PLUGINS)" if plug_in else ""
    if plug_in:
        _helpers_once(package, found[0].parent)
    with named(str(found[0]), origin):
        module = importlib.import_module(f"{package.__name__}.{reference}")
    return _function(getattr(module, reference, None), reference, f"{found[0]}{origin}")


Made = TypeVar("Made", bound=tuple[Any, ...])


def nested(kind: str, option: str, other: Nested, gives: type[Made]) -> tuple[str, Callable[..., Made]]:
    """The part that is an option of another one.

    Args:
        kind: Its kind, a key of `KINDS`.
        option: Name of the option, for messages.
        other: Its value: a name, `"file.py:name"`, a function, or a mapping of `name` and options.
        gives: The type of what its function must give.

    Returns:
        The name of the part, for messages, and the function that builds it from the arguments of its kind and options,
        which stand over those of the mapping.

    Raises:
        OptionError: For a mapping without a name; the function that is given, where the part's gives something else.
        PartError: For an unknown part.
    """
    chosen = dict(other) if isinstance(other, Mapping) else {"name": other}
    reference = chosen.pop("name", None)
    if reference is None:
        example = available(kind)[0]
        raise OptionError(option, f"must have a name, such as {option}={{'name': {example!r}}}, got {other!r}")
    function = find(kind, reference)

    def make(*args: Any, **options: Any) -> Made:
        made = function(*args, **{**chosen, **options})
        if not isinstance(made, gives):
            got = f"{type(made).__name__}{place_of(function)}"
            raise OptionError(option, f"must give {KINDS[kind].gives}, got {got}")
        return checked_fields(made)

    return reference_of(function).rpartition(":")[2].strip("<>"), make


def _own_form(reference: str) -> str:
    """The right form of a reference that looks like a file or module; empty for any other.

    >>> _own_form("my/rules.py")
    'a function of your own is written file.py:function, such as my/rules.py:mine'
    >>> [_own_form(each).split()[-1:] for each in ("rules:median", "my.rules.median", "krun")]
    [['rules.py:median'], ['my/rules.py:median'], []]
    """
    if not set(reference) & {".", ":", "/"} or not reference.isprintable() or len(reference) > _short.maxstring:
        return ""
    file, colon, name = reference.rpartition(":")
    if not colon:
        file, name = (reference, "") if "/" in reference or reference.endswith(".py") else reference.rsplit(".", 1)
    file = file.removesuffix(".py")
    file = file if "/" in file else file.replace(".", "/")
    written = f"{file or 'rules'}.py:{name if name.isidentifier() else 'mine'}"
    return f"a function of your own is written file.py:function, such as {written}"


def check_call(
    function: Callable[..., Any], name: str, arguments: Collection[str], way_out: str, place: str | None = None
) -> None:
    """Checks that a function can be called with so many arguments, beside its options.

    Args:
        function: The function.
        name: Its name, for the message.
        arguments: The arguments that byzax calls it with, by place.
        way_out: The form that is needed, for the message.
        place: File and line, for the message; None: those of the function.

    Raises:
        PartError: Where it cannot.
    """
    try:
        signature = inspect.signature(function)
        options = [each for each in signature.parameters.values() if each.kind is each.KEYWORD_ONLY]
        signature.bind(*arguments, **{each.name: None for each in options if each.default is each.empty})
    except (TypeError, ValueError) as error:
        # a ValueError for what is written in C and has no signature
        called = f"is called with ({', '.join(arguments)})" if arguments else "is called with its options alone"
        raise PartError(
            f"{name} {called}, and cannot be ({error}): {way_out}{place_of(function) if place is None else place}"
        ) from None


def check_function(kind: str, function: Callable[..., Any]) -> None:
    """Raises PartError unless a function can be called as that of a part of this kind is.

    Args:
        kind: A key of `KINDS`.
        function: The function.
    """
    part, name = KINDS[kind], getattr(function, "__name__", type(function).__name__).strip("<>")
    way_out = f"write def mine({', '.join([*part.arguments, '*, option: float = 1.0'])}), which gives {part.gives}"
    if kind == "model" and inspect.isclass(function):
        raise PartError(
            f"{name} is a class: a flax module is named by model: module with its option path, file.py:{name}, or in "
            f"Python model={{'name': 'module', 'path': {name}}}"
        )
    if kind == "rate" and str(unwrapped(function).__module__).partition(".")[0] == "optax":
        # some could be called with the number of updates, and would take it for a rate
        raise PartError(
            f"{name} is a function of optax: call it in one of your own, which gives a function (step), as lambda "
            "updates: optax.cosine_decay_schedule(0.1, updates) does"
        )
    if name in available(kind):
        way_out += f", or name byzax's own: {name}"
    check_call(function, name, part.arguments, way_out)


def _function(found: Any, name: str, place: str, near: str = "") -> Callable[..., Any]:
    if found is None:
        raise PluginError(f"{place}: must hold a function {name}{near and f'; {near.strip()}'}")
    if not callable(found):
        raise PluginError(f"{place}: {name} must be a function, and is {type(found).__name__}")
    return found


def _once(found: list[Any]) -> None:
    """Raises PluginError where a name has several meanings."""
    if len(found) > 1:
        last = found[-1] if isinstance(found[-1], Path) else f"entry point {found[-1].name} = {found[-1].value}"
        raise PluginError(f"{last}: there is {found[0]} too: rename one of the two")


def _helpers_once(package: ModuleType, folder: Path) -> None:
    """Raises PluginError where a helper of a plug-in folder has the name of one of byzax, which its parts would get."""
    for file in folder.glob("*.py"):
        if (file.stem == "base" or file.stem.startswith("_")) and file.stem != "__init__":
            _once([place for each in (package.__path__[0], folder) if (place := Path(each, file.name)).is_file()])


@functools.cache
def _entry_points(folder: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=f"byzax.{folder}"))


def is_file(reference: str) -> bool:
    """Tells whether a reference is of the form `path/to/file.py:name`."""
    path, colon, name = reference.rpartition(":")
    return bool(colon) and path.endswith(".py") and name.isidentifier()


def load_file(path: str) -> ModuleType:
    """A Python file as a module, run once for each content that it has had.

    Args:
        path: Of the file; a relative one begins at the working directory, and ~ is the home folder.

    Raises:
        PluginError: Where there is no such file, or running it fails.
    """
    place = absolute(path)
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
        with named(str(place) if path.startswith("~") else path):
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
    return f"{closest(word, known)}known: {', '.join(known)}"


def closest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` for a near match, else nothing."""
    near = difflib.get_close_matches(word[:60], known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def absolute(path: str) -> Path:
    """The absolute path of a file that a person names: a relative one begins at the working directory, ~ is home."""
    return Path(os.path.abspath(os.path.expanduser(path)))


@contextmanager
def named(file: str, origin: str = "") -> Iterator[None]:
    """Whatever goes wrong inside becomes a PluginError that names the file, and the line where it happened there.

    Args:
        file: The file.
        origin: Where it comes from, to follow its name.

    Raises:
        PluginError: In place of any other error.
    """
    try:
        yield
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        text = str(error)
        raise PluginError(text if text.startswith(file) else f"{file}{origin}: {said(error, file)}") from error


def file_of(function: Callable[..., Any]) -> str:
    """The file that a function comes from."""
    function = unwrapped(function)
    try:
        return inspect.getsourcefile(function) or str(function.__module__)
    except (TypeError, OSError):
        # a class of a notebook has no file
        return str(getattr(function, "__module__", ""))


def is_builtin(function: Callable[..., Any]) -> bool:
    """Tells whether a function is one of byzax's own."""
    return _is_own(file_of(function))


@functools.cache
def _is_own(file: str) -> bool:
    return any(folder in Path(file).resolve().parents for folder in _OWN)


def place_of(function: Callable[..., Any]) -> str:
    """File and line of a function, in brackets; empty where it has none."""
    code = code_of(function)
    return f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """The code of a function, inside of what wraps it; None where it has none, as what is written in C."""
    return getattr(unwrapped(function), "__code__", None)


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside of `functools.partial` and of what wraps it."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.unwrap(function)


def said(error: BaseException, file: str) -> str:
    """An error in one line: its type, what it says, and the last line of `file` that it passed through."""
    text = textwrap.shorten(str(error), 300, placeholder=" ...")
    file = str(absolute(file))
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{type(error).__name__}: {text}" + (f" ({file}:{lines[-1]})" if lines else "")
