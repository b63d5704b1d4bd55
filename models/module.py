"""A flax module of the user's own, out of a file of theirs."""

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from byzax.models.base import Array, Model, check, flat, from_module

# what the call of a Linen module may ask for beside samples: whether units are to be dropped
MODES = ("train", "deterministic")
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def module(shape: tuple[int, ...], classes: int | None, *, path: str, characters: bool = False) -> Model:
    """A flax module of your own, NNX or Linen: the class that `path` names, `file.py:Class`.

    The class is given what it asks for by name, among `shape` (of one sample), `classes` (None where the data has
    values) and, of NNX, `rngs`. Called with samples `[b, *shape]` it gives logits `[b, classes]`, or values `[b]` or
    `[b, 1]`. A Linen module whose call has `train` or `deterministic` is told whether units are to be dropped, an NNX
    module by its modes; the random numbers of dropout are the job's own. A module holds parameters and dropout, and no
    batch statistics. Convolutions take long on a CPU: `convolved` in `models/_layers.py` makes faster ones.

    Parameters: those of the module
    Source: your file; a relative path begins at the folder where byzax was started

    Args:
        path: of the file, a colon, and the name of the class in it.
        characters: samples are whole numbers; a Linen module is then made with such ones.

    Raises:
        ValueError: for a file or class that is not there or fails, and for a class that is no module, asks for
            something else, cannot be called with samples, or holds no parameters or more than these; when used, where
            it gives something else.
    """
    check(shape, classes)
    file, _, name = path.rpartition(":")
    if not file or not name.isidentifier():
        raise ValueError(f"module needs path: file.py:Class, such as net.py:Net, got {path!r}")
    found = getattr(_loaded(file), name, None)
    if found is None:
        raise ValueError(f"module: {file} holds no {name}")
    is_linen = inspect.isclass(found) and issubclass(found, linen.Module)
    if not is_linen and not (inspect.isclass(found) and issubclass(found, nnx.Module)):
        raise ValueError(
            f"module: {name} in {file} is no flax module: a class under nnx.Module or linen.Module is needed"
        )
    called, own = f"module {name} in {file}", {"shape": tuple(shape), "classes": classes}
    _callable(called, found, MODES if is_linen else ())
    if is_linen:
        sample = jnp.zeros((1, *shape), jnp.int32 if characters else jnp.float32)
        return _from_linen(called, file, found, own, sample)

    def create(rngs: nnx.Rngs) -> Any:
        options = _asked(found, {**own, "rngs": rngs})
        with _making(called, file, classes):
            return found(**options)

    return from_module(create, classes, name=called)


def _loaded(file: str) -> ModuleType:
    """The file as a Python module, run once for each content that it has had."""
    where = Path(file).absolute()
    if not where.is_file():
        raise ValueError(
            f"module: there is no file {file}: a relative path begins at the working directory, {Path.cwd()}"
        )
    name = f"byzax_module_{hashlib.sha256(str(where).encode() + where.read_bytes()).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, where)
    if spec is None or spec.loader is None:
        raise ValueError(f"module: {file} is no Python file: its name must end with .py")
    made = importlib.util.module_from_spec(spec)
    # dataclasses, and with them Linen, look for the module of a class there
    sys.modules[name] = made
    try:
        spec.loader.exec_module(made)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"module: {file} cannot be loaded: {_reason(error, file)}") from error
    return made


def _reason(error: BaseException, file: str) -> str:
    """What an error says, and the last line of the user's file that it passed through."""
    where = str(Path(file).absolute())
    lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == where]
    return f"{type(error).__name__}: {error}" + (f", line {lines[-1]}" if lines else "")


@contextmanager
def _making(called: str, file: str, classes: int | None) -> Iterator[None]:
    """Whatever a class of the user raises when it is made becomes a ValueError that says where."""
    try:
        yield
    except Exception as error:
        hint = "; this data has values, and for those classes is None" if classes is None else ""
        raise ValueError(f"{called} cannot be made: {_reason(error, file)}{hint}") from error


def _callable(called: str, made: type, modes: Collection[str]) -> None:
    """Raises ValueError unless a module can be called with samples, and with nothing else but `modes`."""
    # not of the class: every class can be called, to make a module
    call = next((vars(each)["__call__"] for each in made.__mro__ if "__call__" in vars(each)), None)
    if call is None:
        raise ValueError(
            f"{called} needs a method __call__(self, x) that gives the outputs for samples x, and has none"
        )
    _, *options = inspect.signature(call).parameters.values()
    needed = [each.name for each in options if each.default is each.empty and each.kind not in VARIABLE]
    if missing := [name for name in needed[1:] if name not in modes]:
        raise ValueError(f"{called} is called with samples alone, and its __call__ needs {', '.join(missing)} too")


def _asked(made: type, have: Mapping[str, Any]) -> dict[str, Any]:
    """What a class asks for by name, out of what there is. Raises ValueError where it needs something else."""
    # not of the class: flax's metaclass hides what it takes
    _, *options = inspect.signature(made.__init__).parameters.values()
    named = [each for each in options if each.kind not in VARIABLE]
    missing = [each.name for each in named if each.default is each.empty and each.name not in have]
    if missing:
        raise ValueError(f"module: {made.__name__} asks for {', '.join(missing)}: it is given {', '.join(have)}")
    return {each.name: have[each.name] for each in named if each.name in have}


def _from_linen(called: str, file: str, found: Any, own: Mapping[str, Any], sample: Array) -> Model:
    options, classes = inspect.signature(found.__call__).parameters, own["classes"]
    given = _asked(found, own)
    with _making(called, file, classes):
        made = found(**given)

    def modes(dropping: bool) -> dict[str, bool]:
        said = dict(zip(MODES, (dropping, not dropping), strict=True))
        return {name: value for name, value in said.items() if name in options}

    def start(key: Array) -> Any:
        return made.init({"params": key}, sample, **modes(False))

    with _making(called, file, classes):
        shapes = jax.eval_shape(start, jax.random.key(0))
    if beside := sorted(set(shapes) - {"params"}):
        raise ValueError(
            f"a model may hold parameters only, this one also holds {', '.join(beside)}: what stands beside the "
            "parameters would reach neither the server nor the other workers; of norms take LayerNorm or GroupNorm"
        )

    def outputs(tree: Any, x: Array, key: Array | None, shares: Array | None) -> Array:
        return made.apply(tree, x, **modes(key is not None), rngs=None if key is None else {"dropout": key})

    return flat(start, shapes, outputs, classes, name=called)
