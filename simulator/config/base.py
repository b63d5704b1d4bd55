"""Descriptions: frozen and strict mappings, and the messages about mistakes in them."""

import contextlib
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Self, TypeVar, Union, get_args, get_origin

import numpy as np
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from byzax.members import check_plugin_folders, nearest
from byzax.numbers import Number
from byzax.options import UNKNOWN, alternatives, needed
from byzax.simulator.mistakes import (
    LONGEST_VALUE,
    MOST_LINES,
    Impossible,
    ScenarioError,
    join_lines,
    label_of,
    quote,
    shorten,
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", max_length=100)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
# seeds are below this
SEEDS = 2**31
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Seconds = Annotated[float, Field(ge=0)]

# The beginning of messages about an assignment.
FIXED = "a description cannot be changed in place: make a copy"
# The types of mistakes that are byzax's and not pydantic's, with their messages in the form that pydantic takes.
_TEMPLATES: Any = {"part": "{message}", "unknown_key": "unknown key"}


class FrozenDict(dict[str, Any]):
    """A mapping that cannot be changed in place, and is hashable where its values are. A dict wherever one is read."""

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> Any:
        # pickle would set the items of an empty one
        return type(self), (dict(self),)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"{FIXED}, with replace")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore


def freeze(value: Any) -> Any:
    """Makes mappings and lists immutable, inner ones too.

    Args:
        value: Mappings, lists and scalars as in YAML, or functions.

    Returns:
        The same value of `FrozenDict` and tuples.

    Example:
        >>> freeze({"rule": ["krum", {"name": "multi_krum"}]})
        {'rule': ('krum', {'name': 'multi_krum'})}
    """
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(each) for key, each in value.items()})
    return tuple(map(freeze, value)) if is_list(value) else value


def is_list(value: Any) -> bool:
    """Tells whether a value is a list of a scenario; a named tuple is none, but what the function of a part gave."""
    return isinstance(value, list) or type(value) is tuple


def thaw(value: Any) -> Any:
    """The plain dicts and lists of what `freeze` made, as YAML has them.

    Args:
        value: The frozen value.

    Returns:
        The same value of dicts and lists.

    Example:
        >>> thaw(freeze({"workers.byzantine": [1, 2]}))
        {'workers.byzantine': [1, 2]}
    """
    if isinstance(value, dict):
        return {key: thaw(each) for key, each in value.items()}
    return [thaw(each) for each in value] if is_list(value) else value


def mistake(message: str) -> PydanticCustomError:
    """An error about a part, to which pydantic adds the key.

    Args:
        message: The message, without the key.

    Returns:
        The error, to be raised in a validator.
    """
    return PydanticCustomError("part", _TEMPLATES["part"], {"message": message})


class Description(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """Frozen and strict: an unknown key, a wrong type, NaN and infinity are errors. Copies are checked too."""

    # the key whose bare value can be written for the description
    _short: ClassVar[str] = "name"
    # what a part's function takes by place, so that it is no key
    _by_place: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *by_place: Any, **given: Any):
        if by_place:
            name = type(self).__name__
            raise ScenarioError(
                f"{name}: keys are given as keywords, {name}(key=value), got {quote(by_place[0])}: byzax.describe "
                "gives the Study of a file or mapping, and its run is the first Run"
            )
        # not a mistake of any key
        check_plugin_folders()
        try:
            self.__pydantic_validator__.validate_python(given, self_instance=self)
        except ValidationError as error:
            raise _scenario_error(type(self), error) from None

    # pydantic may validate a mapping without calling this
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]

    @model_validator(mode="wrap")
    @classmethod
    def _with_places(cls, values: Any, handler: ValidatorFunctionWrapHandler) -> Self:
        """Reduces the locations of mistakes to keys, without pydantic's names for the members of a union."""
        if isinstance(values, dict):
            values = {key: _from_numpy(value) for key, value in values.items()}
            numbers = {key: value for key, value in values.items() if isinstance(value, Number)}
            values |= {key: number.value for key, number in numbers.items()}
        else:
            numbers = {}
        try:
            made = handler(values)
            # checked by their values
            made.__dict__.update(numbers)
            return made
        except ValidationError as error:
            mistakes = [_with_key(cls, mistake) for mistake in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(cls.__name__, mistakes) from None

    @field_validator("*")
    @classmethod
    def _frozen(cls, value: Any) -> Any:
        return freeze(value)

    def replace(self, **changes: Any) -> Self:
        """A copy with other values of some fields, checked like any description.

        Args:
            changes: Fields and their whole values: `rule={"name": "multi_krum", "m": 5}`, and no dotted keys. Defaults
                that depend on them follow.

        Returns:
            The copy.

        Raises:
            ScenarioError: For a value that does not fit; one line for each mistake.
        """
        return parse_as(type(self), {name: getattr(self, name) for name in self.model_fields_set} | changes)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The same as `replace`: pydantic's own method would not check the new values."""
        return self.replace(**update or {})

    __replace__ = replace

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(
            f"{name}: {FIXED}, replace({name}={quote(value)}); of an inner one such as "
            "run.replace(workers=run.workers.replace(total=9))"
        )

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name}: {FIXED}, with replace")

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        yield from _differing(self).items()

    def given(self) -> dict[str, Any]:
        """The values that were given, without defaults, as mappings, lists and scalars; of a part its reference."""
        return {name: _given(getattr(self, name)) for name in type(self).model_fields if name in self.model_fields_set}


def _from_numpy(value: Any) -> Any:
    """Numbers and arrays of NumPy, and ranges, as Python has them, inside of lists too; anything else as it is."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _from_numpy(each) for key, each in value.items()}
    # no named tuple, nor any other type of the user's own
    return type(value)(map(_from_numpy, value)) if type(value) in (list, tuple) else _listed(value)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, range) else value


def _given(value: Any) -> Any:
    if isinstance(value, Description):
        written = value.given()
        return written[value._short] if isinstance(written, dict) and set(written) == {value._short} else written
    if isinstance(value, Mapping):
        return {key: _given(each) for key, each in value.items()}
    return [_given(each) for each in value] if is_list(value) else value


def _differing(description: Description) -> dict[str, Any]:
    """The values of `given` without those that the description has without them too; of a part always its name."""
    fields, written = type(description).model_fields, description.given()
    kept = {name: getattr(description, name) for name in fields if name in description.model_fields_set}
    for name in [*kept]:
        others = {key: value for key, value in kept.items() if key != name}
        # parsed, since some defaults follow from other fields
        with contextlib.suppress(ValidationError):
            kept = others if type(description).model_validate(others) == description else kept
    differing = {name: _brief(value) for name, value in kept.items()}
    if "name" not in fields or get_origin(fields["name"].annotation) is not Literal:
        return differing
    name = written.get("name", fields["name"].default) if isinstance(written, dict) else written
    return {"name": name} | differing


def _brief(value: Any) -> Any:
    """A value as it could be written, without what is the default."""
    if isinstance(value, Description):
        written = _differing(value)
        return written[value._short] if set(written) == {value._short} else written
    if isinstance(value, Mapping):
        return {key: _brief(each) for key, each in value.items()}
    return [_brief(each) for each in value] if is_list(value) else value


def without_place(mistake: Any) -> InitErrorDetails:
    """A mistake in a list of one entry that was written without the list, as pydantic takes it.

    Args:
        mistake: The mistake, whose location begins with the place in the list.

    Returns:
        The mistake without that place.
    """
    return _detailed(mistake["type"], mistake.get("ctx", {}), mistake["loc"][1:], mistake["input"])


def _detailed(kind: Any, context: Any, location: tuple[Any, ...], given: Any) -> InitErrorDetails:
    described: Any = PydanticCustomError(kind, _TEMPLATES[kind], context) if kind in _TEMPLATES else kind
    return {"type": described, "loc": location, "input": given, "ctx": context}


def _with_key(description: type[BaseModel], mistake: Any) -> InitErrorDetails:
    location, kind, context = mistake["loc"], mistake["type"], mistake.get("ctx", {})
    if kind == "extra_forbidden" and len(location) == 1:
        known, by_place = list(description.model_fields), getattr(description, "_by_place", ())
        kind, context = "unknown_key", {"known": known, "by_place": location[0] in by_place}
    field = description.model_fields.get(str(location[0])) if location else None
    # a type that validates by itself adds no such name
    own = field is not None and any(hasattr(each, "__get_pydantic_core_schema__") for each in field.metadata)
    union = field is not None and not own and _is_union(field.annotation)
    if union and len(location) > 1 and isinstance(location[1], str):
        location = (location[0], *location[2:])
    return _detailed(kind, context, location, mistake["input"])


def _is_union(annotation: Any) -> bool:
    """Tells whether a type is one of several, None aside: pydantic names the member in the location of a mistake."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_origin(annotation) in (Union, UnionType) and len(set(get_args(annotation)) - {type(None)}) > 1


Described = TypeVar("Described", bound=BaseModel)


def parse_as(description: type[Described], mapping: Mapping[str, Any]) -> Described:
    """Parses a mapping as a description.

    Args:
        description: The class, such as `Study`.
        mapping: As read from YAML, or keyword arguments.

    Returns:
        The description.

    Raises:
        ScenarioError: One line for each mistake, each beginning with its key; `Impossible` where all of them are about
            numbers that do not go together.
        PluginError: Where a folder of `$BYZAX_PLUGINS` cannot be used.
    """
    check_plugin_folders()
    try:
        return description.model_validate(mapping)
    except ValidationError as error:
        raise _scenario_error(description, error) from None


def _scenario_error(description: type[BaseModel], error: ValidationError) -> ScenarioError:
    mistakes = error.errors(include_url=False)
    by_key: dict[str, list[Any]] = {}
    for mistake in mistakes:
        # a default that depends on a wrong field
        if mistake["type"] != "default_factory_not_called":
            by_key.setdefault(_key(mistake["loc"]), []).append(mistake)
    lines = [_line(key or description.__name__.lower(), each) for key, each in [*by_key.items()][:MOST_LINES]]
    kind = Impossible if all(mistake["type"] == "value_error" for mistake in mistakes) else ScenarioError
    return kind(join_lines(lines, len(by_key) - len(lines)))


def _key(location: tuple[Any, ...]) -> str:
    """A location as a dotted key.

    >>> _key(("attack", "beside", 0, "z"))
    'attack.beside[0].z'
    """
    return "".join(f"[{each}]" if isinstance(each, int) else f".{shorten(each)}" for each in location).removeprefix(".")


def number_hint(given: Any, whole: bool = False) -> str:
    """The way out where a number is written as another type; empty where it is none.

    Args:
        given: The value.
        whole: Whether a whole number is needed.

    Returns:
        Words that follow the message.

    Example:
        >>> number_hint(1e3, whole=True), number_hint("0.5"), number_hint("half")
        (': write 1000', ': write the number 0.5', '')
        >>> number_hint("1e-4")
        ': write the number 0.0001 (for PyYAML, to which 1e-4 is text, 1.0e-4)'
    """
    if whole and isinstance(given, float) and given.is_integer():
        return f": write {int(given)}"
    try:
        number = float(given) if isinstance(given, str) else None
    except ValueError:
        number = None
    if number is None:
        return ""
    mantissa, exponent, power = str(given).lower().partition("e")
    as_text = (
        f" (for PyYAML, to which {given} is text, {mantissa}.0e{power})" if exponent and "." not in mantissa else ""
    )
    return f": write the number {number:g}{as_text}"


def _line(key: str, mistakes: list[Any]) -> str:
    """One line for the mistakes at a key: pydantic finds one for each member of a union of types."""
    first = mistakes[0]
    context = first.get("ctx", {})
    match first["type"]:
        case "unknown_key" if (head := str(first["loc"][-1]).partition(".")[0]) in context["known"]:
            return (
                f"{key}: dotted keys are for byzax.run, simulate, --set and grids: give {head} whole here, such as "
                f"{head}={{...}}"
            )
        case "unknown_key" if context["by_place"]:
            name = first["loc"][-1]
            return f"{key}: is no option: the function takes {name} by place, and options stand behind a *: *, {name}"
        case "unknown_key":
            return f"{key}: unknown key; {nearest(str(first['loc'][-1])[:LONGEST_VALUE], context['known'])}"
        case "missing":
            return f"{key}: is missing"
        case "part" if not first["loc"]:
            return str(context["message"])
        case "part":
            return f"{key}: {context['message']}"
        case "value_error" if len(first["loc"]):
            return f"{key}: {context['error']}"
        case "value_error":
            return str(context["error"])
    words = dict.fromkeys(needed(each["type"], each.get("ctx", {})) for each in mistakes)
    words.pop(UNKNOWN, None)
    given = first["input"]
    # one part where several can stand
    single = [label_of(given)] if callable(given) else [given] if isinstance(given, (str, Mapping)) else None
    hint = f": write {quote(single).replace(chr(39), '')}" if single and first["type"] == "tuple_type" else ""
    whole = "must be a whole number" in words
    if whole or "must be a number" in words:
        hint = hint or number_hint(given, whole)
    return f"{key}: {alternatives(words)}, got {quote(given)}{hint}"
