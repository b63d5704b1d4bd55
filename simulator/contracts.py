"""The contract of each kind of part, and messages about parts that break it: the key, what is wrong, file and line."""

import inspect
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import CodeType
from typing import Any, get_args, get_type_hints

import jax
import numpy as np
import optax

from byzax.aggregators import Aggregator
from byzax.aggregators.filters import Filter
from byzax.aggregators.pre import Mixer, chained
from byzax.attacks import Attack
from byzax.members import KINDS, check_call, code_of, file_of, is_builtin, place_of
from byzax.models import Model
from byzax.options import OptionError, PartError, checked_fields
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.part import Part, function_of, kind_of, parts_of
from byzax.simulator.data.base import DataError, Dataset
from byzax.simulator.graphs import NodeGraph
from byzax.simulator.loggers import Logger
from byzax.simulator.mistakes import LONGEST_VALUE, Impossible, ScenarioError, shorten
from byzax.simulator.schedules import Schedule
from byzax.simulator.timings import Timing
from byzax.simulator.topologies import Topology
from byzax.simulator.transforms import Transform

# what the function of a part gives; that of any other kind gives a function
TYPES: dict[str, type[Any]] = {
    "rule": Aggregator,
    "pre": Mixer,
    "filter": Filter,
    "attack": Attack,
    "model": Model,
    "data": Dataset,
    "schedule": Schedule,
    "timing": Timing,
    "topology": Topology,
    "graph": NodeGraph,
    "logger": Logger,
    "mixing": Aggregator,
    "optimizer": optax.GradientTransformation,
    "transform": Transform,
}


class ContractError(ValueError):
    """A part that breaks the contract of its kind, such as a rule without an aggregate."""


def build(part: Part, *args: Any) -> Any:
    """Calls the function of a part, and checks what it gives.

    Args:
        part: The part.
        args: The arguments that byzax calls functions of its kind with.

    Returns:
        What the function gives; fields that are sets of words as a frozenset, whatever they were given as.

    Raises:
        ContractError: Where that is nothing of the part's kind, or has a field of another type than its class says.
    """
    made = part.make(*args)
    check_type(part, made)
    if not hasattr(made, "_fields"):
        return made
    try:
        checked = checked_fields(made)
    except PartError as error:
        raise ContractError(f"{part.label}: {error}{location(part)}") from None
    _check_calls(part, checked)
    return checked


@compiled_once
def build_rule(part: Part, before: tuple[Part, ...], n: int, f: int) -> Aggregator:
    """Builds a rule with the pre-aggregations before it, the same for equal arguments.

    Args:
        part: The rule.
        before: The pre-aggregations.
        n: Number of rows that the first of them sees.
        f: Number of rows that may be Byzantine.

    Returns:
        The rule of n rows.

    Raises:
        ValueError: Where one of them does not accept these numbers.
    """
    return chained(partial(build, part), n, f, [partial(build, each) for each in before])


def _check_calls(part: Part, made: Any) -> None:
    """Raises ContractError for a field whose function cannot be called with what the Protocol of its type has."""
    for name, annotation in get_type_hints(type(made)).items():
        value = getattr(made, name)
        if hasattr(value, "_fields"):
            _check_calls(part, value)
        for each in (annotation, *get_args(annotation)):
            if not callable(value) or not getattr(each, "_is_protocol", False):
                continue
            _, *parameters = inspect.signature(each.__call__).parameters.values()
            by_place = [parameter for parameter in parameters if parameter.kind is parameter.POSITIONAL_ONLY]
            # a model with statistics predicts by them too
            more = ["statistics"] * (name == "predict" and made.statistics is not None)
            written = [str(parameter.replace(annotation=parameter.empty)) for parameter in by_place]
            try:
                check_call(
                    value,
                    f"{part.label}: {name}",
                    [*(parameter.name for parameter in by_place), *more],
                    f"it must be {name}({', '.join([*written, *more])})",
                    location(part, value),
                )
            except PartError as error:
                raise ContractError(str(error)) from None


def check_type(part: Part, made: Any) -> None:
    """Raises ContractError unless the function of a part has given what is of the part's kind.

    Args:
        part: The part.
        made: The value that its function gave.
    """
    kind = KINDS[kind_of(part)]
    wanted = TYPES.get(kind_of(part))
    fits = callable(made) if wanted is None else isinstance(made, wanted)
    if not fits:
        hint = ": dataset(x, y, classes=10) makes one" if wanted is Dataset else ""
        raise ContractError(f"{part.label} must give {kind.gives}, got {type_name(made)}{hint}{location(part)}")
    if wanted is None:
        place = location(part, made)
        try:
            check_call(made, f"what {part.label} gives", kind.inner, f"it must give {kind.gives}", place)
        except PartError as error:
            raise ContractError(str(error)) from None


@contextmanager
def errors_of(key: str, part: Part) -> Iterator[None]:
    """Turns errors of a part from inside into a ScenarioError that begins with its key.

    A part inside of it, such as the base of bulyan or the schedule of a learning rate, is named by its own key where
    the error came out of its function.

    Args:
        key: Key of the part in the scenario.
        part: The part.

    Raises:
        ScenarioError: One line that begins with the key; Impossible for numbers that do not go together.
    """
    try:
        yield
    except ScenarioError:
        # it has its key
        raise
    except OptionError as error:
        for owner_key, owner in parts_of(part, key):
            if error.option in owner.options() and error.part in ("", owner.label):
                text = f"{owner_key}.{error.option}: {_shortened(part, error.message)}"
                if error.option not in owner.model_fields_set:
                    text += f", which is the default: write {owner_key}.{error.option}"
                raise Impossible(text) from error
        raise Impossible(f"{key}: {_shortened(part, str(error))}") from error
    except ValueError as error:
        # missing data and a broken contract have nothing to do with numbers such as n and f
        kind = ScenarioError if isinstance(error, (ContractError, DataError)) else Impossible
        blamed, line = _origin(error, key, part)
        # a message of the part itself, or one that names the line already
        owner = dict(parts_of(part, key))[blamed]
        meant = isinstance(error, (PartError, ContractError)) or is_builtin(function_of(owner))
        raise kind(_placed(f"{blamed}: {_shortened(part, str(error))}", "" if meant else line)) from error
    except MemoryError as error:
        raise ScenarioError(f"{key}: {part.label} needs more memory than there is: {error}") from error
    except Exception as error:
        blamed, line = _origin(error, key, part)
        name = dict(parts_of(part, key))[blamed].label
        raise ScenarioError(
            _placed(f"{blamed}: {name} fails: {_in_one_line(error)}", line or location(part))
        ) from error


def failure(error: BaseException, part: Part) -> str:
    """An error in one line: its type, what it says, and the last line of the part's file that it passed through.

    Args:
        error: The error.
        part: The part whose function, or what it gave, was called.

    Returns:
        Such as `KeyError: 'x' (rules.py:12)`.
    """
    return _placed(_in_one_line(error), _origin(error, "", part)[1] or location(part))


def _placed(text: str, place: str) -> str:
    """A message with file and line, unless it ends with some already."""
    return text if re.search(r" \([^()]+\.py:\d+\)$", text) else f"{text}{place}"


def location(part: Part, called: Any = None) -> str:
    """File and line of a function of the user's own, in brackets.

    Args:
        part: The part.
        called: The value that the part gave; where it holds no function of the part's file, the line is that of the
            part's own.

    Returns:
        Such as ` (rules.py:12)`; empty for a part of byzax.
    """
    function = function_of(part)
    if is_builtin(function):
        return ""
    files = {os.path.abspath(file_of(function_of(each))) for _, each in parts_of(part)}
    waiting, seen = [called], set()
    while waiting:
        each = waiting.pop(0)
        if not callable(each) or id(each) in seen:
            continue
        seen.add(id(each))
        each = inspect.unwrap(each)
        code = code_of(each)
        if code is not None and os.path.abspath(code.co_filename) in files:
            return place_of(each)
        # a rule may have come out of `stateless`, and an attack out of a helper
        inner = [cell.cell_contents for cell in getattr(each, "__closure__", None) or ()]
        waiting += [*inner, getattr(each, "func", None)]
    return place_of(function)


def require(fits: bool, message: str, kind: type[ValueError] = ContractError) -> None:
    """Raises an error unless a condition holds.

    Args:
        fits: The condition.
        message: The message of the error.
        kind: Class of the error.
    """
    if not fits:
        raise kind(message)


def type_name(value: Any) -> str:
    """The type of a value in words.

    Args:
        value: The value, traced or not.

    Returns:
        Such as `float32[7, 650]` for an array, or `(float32[7], ())` for a tuple.

    Example:
        >>> type_name((np.zeros(3), None)), type_name([])
        ('(float64[3], None)', '()')
    """
    if isinstance(value, (jax.ShapeDtypeStruct, jax.Array, np.ndarray)):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return f"({', '.join(map(type_name, value[:8]))}{', ...' if len(value) > 8 else ''})"
    leaves = jax.tree.leaves(value)
    if leaves and all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        return f"{type(value).__name__}({', '.join(map(type_name, leaves))})"
    return "None" if value is None else type(value).__name__


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "NumPy cannot compute with arrays that are compiled: take jax.numpy in place of numpy"
    if isinstance(error, jax.errors.TracerIntegerConversionError):
        return (
            "a Python list or range cannot be indexed by a value that is known only when it is computed: take "
            "jnp.asarray(list)[value]"
        )
    if isinstance(error, jax.errors.ConcretizationTypeError):
        return (
            "Python's if, while, bool, int or float of a value that is known only when it is computed: take jnp.where "
            "or jax.lax.cond"
        )
    return f"{type(error).__name__}: {textwrap.shorten(str(error), 300, placeholder=' ...')}"


def _origin(error: BaseException | None, key: str, part: Part) -> tuple[str, str]:
    """The key of the part that an error came out of, and the last line of that part's file, in brackets."""
    owners = [(each_key, function_of(each)) for each_key, each in parts_of(part, key)]
    while error is not None:
        frames: list[tuple[CodeType, int]] = []
        step = error.__traceback__
        while step is not None:
            frames.append((step.tb_frame.f_code, step.tb_lineno))
            step = step.tb_next
        for code, line in reversed(frames):
            # the innermost part first; two parts may be of one file
            inside = [owner for owner in reversed(owners) if _is_inside(code, owner[1])]
            same = [
                owner for owner in owners if os.path.abspath(code.co_filename) == os.path.abspath(file_of(owner[1]))
            ]
            if inside or same:
                return (inside or same)[0][0], f" ({code.co_filename}:{line})"
        error = error.__cause__
    return key, ""


def _is_inside(code: CodeType, function: Callable[..., Any]) -> bool:
    """Tells whether code is that of a function, or of a function that is made in it."""
    own = code_of(function)
    if own is None or own.co_filename != code.co_filename:
        return False
    return code is own or code.co_qualname.startswith(f"{own.co_qualname}.")


def _shortened(part: Part, text: str) -> str:
    """A message of a part in which long texts that were given as options are shortened, except for paths."""
    text = " ".join(text.split())
    for value in part.options().values():
        if isinstance(value, str) and len(value) > LONGEST_VALUE and os.sep not in value:
            text = text.replace(value, shorten(value))
    return text
