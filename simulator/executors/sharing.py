"""Compiled functions of one run, shared by those that differ in their numbers alone, such as rates and strengths."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp

from byzax.members import is_builtin
from byzax.numbers import MOST, Number, Numbers
from byzax.simulator import interrupts
from byzax.simulator.compilation import MAX_COMPILED
from byzax.simulator.config.base import Description
from byzax.simulator.config.part import Part, function_of
from byzax.simulator.config.run import Run
from byzax.simulator.executors.compiled_updates import Functions, Watching, build_advance
from byzax.simulator.executors.waves import UpdateKind
from byzax.simulator.mesh import ONE_DEVICE, MeshShape

# The settings whose numbers are arguments: those that reach nothing but the updates. What is planned ahead, such as
# latencies, does not reach them.
SETTINGS = (
    "optimizer", "local", "worker_momentum", "clipping", "regularisation", "privacy", "rule", "pre", "filter", "attack",
    "schedule", "topology",
)  # fmt: skip

# a Number in the arguments of a function that is compiled inside of another one is what that one reads
jax.tree_util.register_pytree_node(
    Number, lambda number: ((number.__jax_array__(),), None), lambda _, children: children[0]
)


def split(run: Run) -> tuple[Any, tuple[float, ...]]:
    """Splits a run into what it has in common with others that may share compiled functions, and its numbers.

    Args:
        run: The run.

    Returns:
        All of the run but its seed and these numbers, hashable; and the numbers.
    """
    numbers: list[float] = []
    settings = tuple(_without(getattr(run, key), numbers) for key in SETTINGS)
    others = tuple(getattr(run, key) for key in type(run).model_fields if key not in (*SETTINGS, "seed"))
    return (settings, others), tuple(numbers)


class SharedProgram:
    """The compiled functions of runs that differ in their numbers alone, and decide the same by these.

    Attributes:
        numbers: The numbers.
        run: The run with these numbers.
        fails: Whether something cannot be computed with them.
    """

    def __init__(self, run: Run, values: tuple[float, ...]) -> None:
        """Takes the first of the runs, with the values of its numbers."""
        self.numbers, self.fails = Numbers(values), False
        given = iter(self.numbers.given)
        # checks of a run are by its numbers too
        with self.numbers.watched():
            self.run = run.replace(**{key: _with(getattr(run, key), given) for key in SETTINGS})
        # of functions that are let go nothing is left
        self._traced: WeakKeyDictionary[Any, set[Any]] = WeakKeyDictionary()

    def advance(
        self, functions: Functions, kind: UpdateKind, watching: Watching, arguments: tuple[Any, Any, Any]
    ) -> Any:
        """Carries updates out. See `build_advance`.

        Args:
            functions: The functions of the run with `numbers`, which have the present values.
            kind: The kind of update.
            watching: The results beside the diagnostics.
            arguments: Worlds, states and stretches of all seeds.

        Returns:
            The results; None where something cannot be computed with the numbers, and nothing was.
        """
        carry_out = build_advance(functions, kind, watching, self.numbers)
        shapes = tuple((each.shape, each.dtype) for each in jax.tree.leaves(arguments))
        traced = self._traced.setdefault(carry_out, set())
        if shapes not in traced:
            try:
                # before anything is computed it has to be known which numbers are read
                carry_out.eval_shape(_as_array(*[0.0] * MOST), *arguments)
            except Exception:  # whatever code says that takes nothing but floats
                interrupts.check()
                self.fails = True
                return None
            traced.add(shapes)
        return carry_out(_as_array(*self.numbers.arguments()), *arguments)


class Shared:
    """The compiled functions of a run, which others share."""

    def __init__(self, run: Run, mesh: MeshShape, build: Callable[[Run], Functions]) -> None:
        """Finds the numbers of a run.

        Args:
            run: The run.
            mesh: Shape of the mesh that it is compiled for.
            build: Builds the functions of the run with numbers.
        """
        self._run, self._build = run, build
        self._form, values = split(run)
        # on a mesh numbers are constants: XLA on one device alone has these arguments in one place
        self._values = values if mesh == ONE_DEVICE else ()
        self._found: tuple[SharedProgram, Functions] | None = None

    def advance(self, constant: Functions, kind: UpdateKind, watching: Watching, *arguments: Any) -> Any:
        """Carries updates out. See `build_advance`.

        Args:
            constant: The functions of the run, whose numbers are constants.
            kind: The kind of update.
            watching: The results beside the diagnostics.
            *arguments: Worlds, states and stretches of all seeds.

        Returns:
            The results.
        """
        while (found := self._program()) is not None:
            program, functions = found
            functions = functions._replace(d=constant.d)
            if (done := program.advance(functions, kind, watching, arguments)) is not None:  # pyright: ignore[reportArgumentType]
                return done
        return build_advance(constant, kind, watching)(*arguments)

    def _program(self) -> tuple[SharedProgram, Functions] | None:
        """The program of the run, with its functions there; None where its numbers are constants."""
        if not self._values:
            return None
        if self._found is not None and self._found[0].numbers.take(self._values) and not self._found[0].fails:
            return self._found
        programs = _PROGRAMS.setdefault(self._form, [])
        _PROGRAMS.move_to_end(self._form)
        while len(_PROGRAMS) > MAX_COMPILED:
            _PROGRAMS.popitem(last=False)
        program = next((each for each in programs if each.numbers.take(self._values)), None)
        if program is None:
            # oldest first: what decides by single values does not fill the memory
            del programs[: max(0, len(programs) + 1 - MAX_COMPILED)]
            try:
                program = SharedProgram(self._run.replace(seed=0), self._values)
            except ValueError:
                return None
            programs.append(program)
        if program.fails:
            return None
        try:
            with program.numbers.watched():
                self._found = program, self._build(program.run.replace(seed=self._run.seed))
        except Exception:  # whatever code says that takes nothing but floats
            interrupts.check()
            program.fails = True
            return None
        return self._found


_PROGRAMS: OrderedDict[Any, list[SharedProgram]] = OrderedDict()


@jax.jit
def _as_array(*values: Any) -> jax.Array:
    # as Python's floats it takes the type of what it is put together with
    return jnp.stack(values)


def _is_number(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)


def _fields(description: Description) -> Iterator[str]:
    # functions of the user's own get floats
    if not isinstance(description, Part) or is_builtin(function_of(description)):
        yield from type(description).model_fields


def _without(value: Any, numbers: list[float]) -> Any:
    """A setting without its numbers, which are added to a list."""
    if _is_number(value):
        numbers.append(value)
        return float
    if isinstance(value, Description) and (fields := [*_fields(value)]):
        return type(value), *(_without(getattr(value, field), numbers) for field in fields)
    return tuple(_without(each, numbers) for each in value) if type(value) is tuple else value


def _with(value: Any, numbers: Iterator[Number]) -> Any:
    """A setting with others in place of its numbers."""
    if _is_number(value):
        return next(numbers)
    if isinstance(value, Description):
        made = {field: _with(getattr(value, field), numbers) for field in _fields(value)}
        changed = {field: each for field, each in made.items() if each is not getattr(value, field)}
        return value.replace(**changed) if changed else value
    return tuple([_with(each, numbers) for each in value]) if type(value) is tuple else value
