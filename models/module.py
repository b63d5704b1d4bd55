"""A flax module of the user's own, out of a file of theirs."""

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from models.base import Array, Model, check, flat, from_module


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
            something else or holds more than parameters.
    """
    check(shape, classes)
    file, _, name = path.rpartition(":")
    if not file or not name.isidentifier():
        raise ValueError(f"module needs path: file.py:Class, such as net.py:Net, got {path!r}")
    found = getattr(_loaded(file), name, None)
    if found is None:
        raise ValueError(f"module: {file} holds no {name}")
    own = {"shape": tuple(shape), "classes": classes}
    if inspect.isclass(found) and issubclass(found, nnx.Module):
        return from_module(lambda rngs: found(**_asked(found, {**own, "rngs": rngs})), classes)
    if inspect.isclass(found) and issubclass(found, linen.Module):
        sample = jnp.zeros((1, *shape), jnp.int32 if characters else jnp.float32)
        return _from_linen(found(**_asked(found, own)), sample, classes)
    raise ValueError(f"module: {name} in {file} is no flax module: a class under nnx.Module or linen.Module is needed")


def sha256(path: str) -> tuple[str, str]:
    """The absolute path of the file in `file.py:Class`, and the SHA-256 of what it holds."""
    file = Path(path.rpartition(":")[0]).absolute()
    return str(file), hashlib.sha256(file.read_bytes()).hexdigest()


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
        lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == str(where)]
        line = f", line {lines[-1]}" if lines else ""
        raise ValueError(f"module: {file} cannot be loaded: {type(error).__name__}: {error}{line}") from error
    return made


def _asked(made: type, have: Mapping[str, Any]) -> dict[str, Any]:
    """What a class asks for by name, out of what there is. Raises ValueError where it needs something else."""
    # not of the class: flax's metaclass hides what it takes
    _, *options = inspect.signature(made.__init__).parameters.values()
    named = [each for each in options if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    missing = [each.name for each in named if each.default is each.empty and each.name not in have]
    if missing:
        raise ValueError(f"module: {made.__name__} asks for {', '.join(missing)}: it is given {', '.join(have)}")
    return {each.name: have[each.name] for each in named if each.name in have}


def _from_linen(made: Any, sample: Array, classes: int | None) -> Model:
    options = inspect.signature(type(made).__call__).parameters

    def modes(dropping: bool) -> dict[str, bool]:
        said = {"train": dropping, "deterministic": not dropping}
        return {name: value for name, value in said.items() if name in options}

    def start(key: Array) -> Any:
        return made.init({"params": key}, sample, **modes(False))

    shapes = jax.eval_shape(start, jax.random.key(0))
    if beside := sorted(set(shapes) - {"params"}):
        raise ValueError(
            f"a model may hold parameters only, this one also holds {', '.join(beside)}: what stands beside the "
            "parameters would reach neither the server nor the other workers; of norms take LayerNorm or GroupNorm"
        )

    def outputs(tree: Any, x: Array, key: Array | None) -> Array:
        return made.apply(tree, x, **modes(key is not None), rngs=None if key is None else {"dropout": key})

    return flat(start, shapes, outputs, classes)
