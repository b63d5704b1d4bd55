"""A flax module of the user's own, as a class or out of a file."""

import inspect
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from pydantic.json_schema import SkipJsonSchema

from byzax.members import PluginError, load_file, said
from byzax.models.base import Array, Model, check, from_module, from_tree
from byzax.options import OptionError, PartError, checked

# what the call of a Linen module may ask for beside samples: whether units are to be dropped
MODES = ("train", "deterministic")
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
NNX_CONVOLUTIONS = (nnx.Conv, nnx.ConvTranspose)
LINEN_CONVOLUTIONS = (linen.Conv, linen.ConvLocal, linen.ConvTranspose)


@checked
def module(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    path: str | SkipJsonSchema[type],
    characters: bool = False,
    batch: bool | None = None,
) -> Model:
    """A flax module of your own, NNX or Linen: the class that `path` names, `file.py:Class`.

    The class is given what it asks for by name, among `shape` (of one sample), `classes` (None where the data has
    values) and, of NNX, `rngs`. Called with samples `[b, *shape]` it gives logits `[b, classes]`, or values `[b]` or
    `[b, 1]`. A Linen module whose call has `train` or `deterministic` is told whether units are to be dropped, an NNX
    module by its modes; the random numbers of dropout are the job's own. A module holds parameters and dropout, and no
    batch statistics. Convolutions take long on a CPU: `build_convolution` in `models/_layers.py` makes faster ones.

    Size: that of the module

    Args:
        shape: Of one sample.
        classes: The number of labels; None for a regression.
        path: The file, a colon, and the name of the class in it; in Python also the class itself.
        characters: Whether samples are whole numbers; a Linen module is then made with such ones.
        batch: Whether a CPU computes the gradients of several workers together, which is slower with convolutions and
            for sequences. None: true, unless the module has a convolution of flax.

    Returns:
        The model. When used it raises PartError for a module that gives something else than outputs.

    Raises:
        PluginError: For a file that is not there or fails, or a class that is not in it.
        PartError: For a class that is no module, fails, asks for something else, cannot be called with samples, or
            holds no parameters or more than these.
        OptionError: For an option out of its range.

    References:
        Your file; a relative path begins at the working directory
    """
    check(shape, classes)
    found, name, file = _find_class(path)
    if not inspect.isclass(found) or not issubclass(found, (nnx.Module, linen.Module)):
        raise PartError(
            f"module: {name} in {file} is no flax module: a class under nnx.Module or linen.Module is needed"
        )
    called, own = f"module {name} in {file}", {"shape": tuple(shape), "classes": classes}
    is_linen = issubclass(found, linen.Module)
    _check_call(called, found, MODES if is_linen else ())
    if is_linen:
        sample = jnp.zeros((1, *shape), jnp.int32 if characters else jnp.float32)
        return _from_linen(called, file, found, own, sample, batch)

    def create(rngs: nnx.Rngs) -> Any:
        arguments = _arguments(found, {**own, "rngs": rngs})
        with _named(called, file, classes):
            return found(**arguments)

    if batch is None:
        layers = nnx.iter_modules(nnx.eval_shape(lambda: create(nnx.Rngs(0))))
        batch = not any(isinstance(layer, NNX_CONVOLUTIONS) for _, layer in layers)
    return from_module(create, classes, name=called, batch=batch)


def _find_class(path: str | type) -> tuple[Any, str, str]:
    """The class that the path names, its name, and its file."""
    if not isinstance(path, str):
        # a class of a notebook has no file
        file = getattr(sys.modules.get(path.__module__), "__file__", None)
        return path, path.__name__, file or path.__module__
    file, _, name = os.path.expanduser(path).rpartition(":")
    if not file or not name.isidentifier():
        raise OptionError("path", f"must be file.py:Class, such as net.py:Net, got {path!r}")
    found = getattr(load_file(file), name, None)
    if found is None:
        raise PluginError(f"module: {file} holds no {name}")
    return found, name, file


@contextmanager
def _named(called: str, file: str, classes: int | None) -> Iterator[None]:
    """Whatever a class of the user raises when it is made becomes a PartError that says where."""
    try:
        yield
    except Exception as error:
        hint = "; this data has values, and for those classes is None" if classes is None else ""
        raise PartError(f"{called} cannot be made: {said(error, file)}{hint}") from error


def _check_call(called: str, made: type, modes: Collection[str]) -> None:
    """Raises PartError unless a module can be called with samples, and with nothing else but `modes`."""
    # not of the class: every class can be called, to make a module
    call = next((vars(each)["__call__"] for each in made.__mro__ if "__call__" in vars(each)), None)
    if call is None:
        raise PartError(f"{called} needs a method __call__(self, x) that gives the outputs for samples x, and has none")
    _, *parameters = inspect.signature(call).parameters.values()
    needed = [each.name for each in parameters if each.default is each.empty and each.kind not in VARIABLE]
    if missing := [name for name in needed[1:] if name not in modes]:
        raise PartError(f"{called} is called with samples alone, and its __call__ needs {', '.join(missing)} too")


def _arguments(made: type, available: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a class asks for by name, of those available. Raises PartError where it needs another."""
    # not of the class: flax's metaclass hides what it takes
    _, *parameters = inspect.signature(made.__init__).parameters.values()
    named = [each for each in parameters if each.kind not in VARIABLE]
    missing = [each.name for each in named if each.default is each.empty and each.name not in available]
    if missing:
        raise PartError(f"module: {made.__name__} asks for {', '.join(missing)}: it is given {', '.join(available)}")
    return {each.name: available[each.name] for each in named if each.name in available}


def _from_linen(called: str, file: str, found: Any, own: Mapping[str, Any], sample: Array, batch: bool | None) -> Model:
    parameters, classes = inspect.signature(found.__call__).parameters, own["classes"]
    arguments = _arguments(found, own)
    with _named(called, file, classes):
        made = found(**arguments)

    def modes(dropping: bool) -> dict[str, bool]:
        values = dict(zip(MODES, (dropping, not dropping), strict=True))
        return {name: value for name, value in values.items() if name in parameters}

    def start(key: Array) -> Any:
        return made.init({"params": key}, sample, **modes(False))

    layers: list[type] = []

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layers.append(type(context.module))
        return call(*args, **kwargs)

    # a Linen module has no layers before it is called
    with _named(called, file, classes), linen.intercept_methods(note):
        shapes = jax.eval_shape(start, jax.random.key(0))
    if beside := sorted(set(shapes) - {"params"}):
        raise PartError(
            f"a model may hold parameters only, this one also holds {', '.join(beside)}: what stands beside the "
            "parameters would reach neither the server nor the other workers; of norms take LayerNorm or GroupNorm"
        )

    def outputs(tree: Any, x: Array, key: Array | None, shares: Array | None) -> Array:
        return made.apply(tree, x, **modes(key is not None), rngs=None if key is None else {"dropout": key})

    if batch is None:
        batch = not any(issubclass(layer, LINEN_CONVOLUTIONS) for layer in layers)
    return from_tree(start, shapes, outputs, classes, name=called, batch=batch)
