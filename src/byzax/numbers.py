"""Numbers that compiled code takes as arguments: runs that differ in such numbers alone share what is compiled."""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# descriptions and options know of these numbers, and do not load JAX
import numpy as np

# Most numbers that one compiled function takes.
MOST = 32


class TooMany(ValueError):
    """More numbers than a compiled function takes."""


class Numbers:
    """The numbers of a run, with all that was computed of them and decided by them.

    A `Number` stands for one of them. Python computes with it as with a float, in double precision, and what it gives
    is a Number again; where compiled code reads it, it is an argument. What Python decides by its value, such as in an
    `if`, is remembered: other values can take its place where they decide the same.
    """

    def __init__(self, values: Sequence[float]) -> None:
        """Takes the values."""
        self._steps: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._places: dict[Any, int] = {}
        self._decided: dict[Any, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {}
        self._slots: dict[int, int] = {}
        self._given, self._found = tuple(values), list(values)
        # of the decisions those that hold for the present values
        self._checked, self._holds = 0, True
        self._open = False
        self._arguments: Any = None
        self.given = tuple(Number(self, place) for place in range(len(values)))

    def take(self, values: Sequence[float]) -> bool:
        """Takes other values in place of these.

        Args:
            values: As many as before.

        Returns:
            Whether they decide all that was decided as the values did by which it was.
        """
        # -0.0 is not 0.0
        if [*map(_itself, self._given)] != [*map(_itself, values)]:
            self._given, self._found = tuple(values), list(values)
            self._checked, self._holds = 0, True
        try:
            for function, operands in self._steps[len(self._found) - len(self._given) :]:
                self._found.append(function(*map(self._value, operands)))
            decided = [*self._decided.values()][self._checked :]
            self._holds = self._holds and all(
                function(*map(self._value, operands)) == outcome for function, operands, outcome in decided
            )
        except ArithmeticError:
            self._holds = False
        self._checked = len(self._decided)
        return self._holds

    def arguments(self) -> list[float]:
        """The present values of the numbers that compiled code reads, filled up to `MOST`."""
        read = [self._found[place] for place in self._slots]
        return [*read, *[0.0] * (MOST - len(read))]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Remembers what is decided by the numbers, which may be read inside alone."""
        before, self._open = self._open, True
        try:
            yield
        finally:
            self._open = before

    @contextmanager
    def read_from(self, arguments: Sequence[Any]) -> Iterator[None]:
        """Lets code that is being traced read the numbers from its arguments, scalars. See `arguments`."""
        before, self._arguments = self._arguments, arguments
        try:
            with self.watched():
                yield
        finally:
            self._arguments = before

    def compute(self, function: Callable[..., Any], *operands: Any) -> "Number":
        """The number that a function of Python gives for numbers and floats."""
        kept = tuple(map(_kept, operands))
        key = function, tuple((type(each), each, str(each)) for each in kept)
        if key not in self._places:
            # before it is remembered: it may fail
            found = function(*map(self._value, kept))
            self._places[key] = len(self._found)
            self._steps.append((function, kept))
            self._found.append(found)
        return Number(self, self._places[key])

    def decide(self, function: Callable[..., Any], *operands: Any) -> Any:
        """The result of a function of Python for numbers and floats, which decides something."""
        if not self._open:
            raise RuntimeError("a number that compiled code takes as an argument is read outside of it")
        kept = tuple(map(_kept, operands))
        key = function, tuple((type(each), each, str(each)) for each in kept)
        if key not in self._decided:
            self._decided[key] = function, kept, function(*map(self._value, kept))
        return self._decided[key][2]

    def value(self, place: int) -> float:
        """The present value of a number."""
        return self._found[place]

    def argument(self, place: int) -> Any:
        """A number as code that is being traced reads it; outside of such code a constant."""
        if self._arguments is None:
            import jax.numpy as jnp

            return jnp.asarray(self.decide(_itself, Number(self, place))[0])
        if len(self._slots) == MOST and place not in self._slots:
            raise TooMany(f"compiled code takes at most {MOST} numbers")
        slot = self._slots.setdefault(place, len(self._slots))
        return self._arguments[slot]

    def _value(self, operand: Any) -> Any:
        return self._found[operand.place] if isinstance(operand, _Place) else operand


class _Place:
    """The place of an operand among the numbers."""

    __slots__ = ("place",)

    def __init__(self, place: int) -> None:
        self.place = place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Place) and self.place == other.place

    def __hash__(self) -> int:
        return hash(self.place)

    def __str__(self) -> str:
        return str(self.place)


def _kept(operand: Any) -> Any:
    return _Place(operand.place) if isinstance(operand, Number) else operand


def _itself(value: float) -> tuple[float, float]:
    """The value, and its sign, which -0.0 has too."""
    return value, math.copysign(1, value)


class Number:
    """A number of a run, or what Python computed of some. See `Numbers`.

    Two are equal where they stand for the same, whatever their present values are; a float is equal to one whose value
    it has.
    """

    __slots__ = ("place", "source")

    def __init__(self, source: Numbers, place: int) -> None:
        """Takes the numbers that it is one of, and its place among them."""
        self.source, self.place = source, place

    @property
    def value(self) -> float:
        """The present value, by which nothing may be decided."""
        return self.source.value(self.place)

    def __hash__(self) -> int:
        """A hash that does not depend on the value."""
        return hash((id(self.source), self.place))

    def __eq__(self, other: object) -> bool:
        """True where both stand for the same; of a float, where it is the value."""
        if isinstance(other, Number):
            return self.source is other.source and self.place == other.place
        return self.source.decide(operator.eq, self, other) if isinstance(other, (int, float)) else False

    def __jax_array__(self) -> Any:
        """The argument of compiled code."""
        return self.source.argument(self.place)

    def __float__(self) -> float:
        """The value, which is a constant of what is compiled then."""
        return self.source.decide(_itself, self)[0]

    def __bool__(self) -> bool:
        """True where it is not 0."""
        return self.source.decide(bool, self)

    def __int__(self) -> int:
        return int(float(self))

    def __trunc__(self) -> int:
        return math.trunc(float(self))

    def __floor__(self) -> int:
        return math.floor(float(self))

    def __ceil__(self) -> int:
        return math.ceil(float(self))

    def __round__(self, digits: int | None = None) -> Any:
        return round(float(self), digits)

    def __format__(self, form: str) -> str:
        return format(float(self), form)

    def __str__(self) -> str:
        return str(float(self))

    def __repr__(self) -> str:
        return repr(self.value)

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        return np.asarray(float(self), *args, **options)

    def __array_ufunc__(self, function: Any, method: str, *operands: Any, **options: Any) -> Any:
        values = (float(each) if isinstance(each, Number) else each for each in operands)
        return getattr(function, method)(*values, **options)


def _operation(function: Callable[..., Any], swapped: bool = False, decides: bool = False) -> Callable[..., Any]:
    """An operator of Number: with floats Python's own, with arrays that of JAX or NumPy."""

    def operate(self: Number, *others: Any) -> Any:
        operands = (*others, self) if swapped else (self, *others)
        if all(isinstance(each, (int, float)) or _is_like(each, self) for each in others):
            return (self.source.decide if decides else self.source.compute)(function, *operands)
        on_host = any(isinstance(each, (np.generic, np.ndarray)) for each in others)
        mine = float(self) if on_host else self.__jax_array__()
        return function(*(mine if each is self else each for each in operands))

    return operate


def _is_like(value: Any, number: Number) -> bool:
    return isinstance(value, Number) and value.source is number.source


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Number, f"__{_name}__", _operation(getattr(operator, _name)))
    setattr(Number, f"__r{_name}__", _operation(getattr(operator, _name), swapped=True))
for _name in ("neg", "pos", "abs"):
    setattr(Number, f"__{_name}__", _operation(getattr(operator, _name)))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Number, f"__{_name}__", _operation(getattr(operator, _name), decides=True))


def value_of(number: Any) -> Any:
    """The present value of a Number; anything else as it is.

    Args:
        number: The number.

    Returns:
        The value, for checks by which nothing is decided but whether there is an error.
    """
    return number.value if isinstance(number, Number) else number
