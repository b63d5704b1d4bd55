"""Options of parts: read from a function's signature, checked in one way for Python, YAML and the command line."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, InstanceOf, Strict, ValidationError, create_model

from byzax.numbers import value_of

P = ParamSpec("P")
R = TypeVar("R")
# The type of an option that is another part of the same kind: its name, `"file.py:name"`, its function, or a mapping
# whose `name` is one of these and whose other keys are options. A scenario, its JSON Schema and its refusals know it by
# this type.
Nested = str | Callable[..., Any] | Mapping[str, Any]


class OfKind(NamedTuple):
    """The kind of a nested part that is of another kind than the part around it: a key of `byzax.members.KINDS`."""

    kind: str


NestedAttack = Annotated[Nested, OfKind("attack")]
NestedRule = Annotated[Nested, OfKind("rule")]
NestedPre = Annotated[Nested, OfKind("pre")]
NestedGraph = Annotated[Nested, OfKind("graph")]
NestedMixing = Annotated[Nested, OfKind("mixing")]


class PartError(ValueError):
    """A part that cannot do what is asked of it; the message says what is needed, what came and what would work."""


class OptionError(PartError):
    """An option of a part that cannot have this value.

    Args:
        option: Name of the option.
        message: The values allowed and the one given, such as "must be at least 1, got 0".
        part: Name of the part; `checked` adds it.
    """

    def __init__(self, option: str, message: str, part: str = ""):
        super().__init__(option, message, part)
        self.option, self.message, self.part = option, message, part

    def __str__(self) -> str:
        return f"{self.part}: {self.option} {self.message}" if self.part else f"{self.option} {self.message}"


class Option:
    """An option of a part: its name, its type for a strict pydantic model, and its default."""

    def __init__(self, name: str, annotation: Any, default: Any):
        self.name, self.annotation, self.default = name, annotation, default


def options_of(function: Callable[..., Any]) -> list[Option]:
    """The options of a part: the keyword-only parameters of its function.

    Args:
        function: Such as `krum(n, f, *, distance: Literal["squared", "plain"] = "squared")`. Ranges stand in
            `Annotated[float, Field(ge=0)]`.

    Returns:
        One entry per option. Tuples may be given as lists, since YAML has no tuples.

    Raises:
        TypeError: For an option without a type.
        NameError: For a type that does not exist.
    """
    found = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if parameter.annotation is parameter.empty:
            raise TypeError(f"the option {parameter.name} needs a type, such as {parameter.name}: float = 1.0")
        default = ... if parameter.default is parameter.empty else parameter.default
        found.append(Option(parameter.name, _with_lists(parameter.annotation), default))
    return found


def _with_lists(annotation: Any) -> Any:
    """The same type, which takes lists for tuples."""
    if get_origin(annotation) in (Union, UnionType):
        return Union[tuple(map(_with_lists, get_args(annotation)))]  # noqa: UP007
    return Annotated[annotation, Strict(False)] if get_origin(annotation) is tuple else annotation


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Checks the options of a part against its signature at every call.

    Args:
        function: The function of a part. Its keyword-only parameters have types, with ranges in
            `Annotated[float, Field(ge=0)]`.

    Returns:
        The same function, which raises `OptionError` for an option of another type or out of its range, and adds the
        name of the part to the `OptionError` that it raises itself.
    """
    name = getattr(function, "__name__", "part")
    model = functools.cache(lambda: _model(function))

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        _check(name, model(), options)
        try:
            return function(*args, **options)
        except OptionError as error:
            if error.part:
                raise
            raise OptionError(error.option, error.message, name) from error.__cause__

    return call


def _model(function: Callable[..., Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {option.name: (option.annotation, None) for option in options_of(function)}
    # unknown options are refused by the function itself, in Python's words
    settings = ConfigDict(strict=True, arbitrary_types_allowed=True, protected_namespaces=())
    return create_model("Options", __config__=settings, **fields)


def _of_python(value: Any) -> Any:
    """A number of NumPy, or one that compiled code takes as an argument, as one of Python, as good as which it is."""
    value = value_of(value)
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _check(part: str, model: type[BaseModel], options: Mapping[str, Any]) -> None:
    """Raises OptionError for the first option that does not fit. Values that are traced are not looked at."""
    given = {
        key: _of_python(value)
        for key, value in options.items()
        if key in model.model_fields and not hasattr(value, "aval")
    }
    if not given:
        return
    try:
        model.model_validate(given)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        option = str(mistakes[0]["loc"][0])
        raise OptionError(option, said(error, option, given[option]), part) from None


Made = TypeVar("Made", bound=tuple[Any, ...])


def checked_fields(made: Made) -> Made:
    """Checks the fields of what the function of a part gave by the types that its class says.

    Args:
        made: A NamedTuple such as an `Aggregator`.

    Returns:
        The same, with the fields that are sets of words as a frozenset, whatever they were given as.

    Raises:
        PartError: For the first field of another type, out of its range, or with a word that is not known.
    """
    fields: dict[str, Any] = made._asdict()  # pyright: ignore[reportAttributeAccessIssue]
    model = _fields_model(type(made))
    try:
        taken = model.model_validate({key: _of_python(value) for key, value in fields.items()})
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        field = mistake["loc"][0]
        value, annotation = fields[str(field)], get_type_hints(type(made))[str(field)]
        if get_origin(annotation) is frozenset:
            words = ", ".join(map(repr, get_args(get_args(annotation)[0])))
            raise PartError(f"{field} must be a set of words, of {words}, got {mistake['input']!r}") from None
        raise PartError(f"{field} {said(error, str(field), value)}") from None
    sets = {key: getattr(taken, key) for key in fields if isinstance(getattr(taken, key), frozenset)}
    return made._replace(**sets)  # pyright: ignore[reportAttributeAccessIssue]


@functools.cache
def _fields_model(kind: type[Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        key: (_field(hint), ...) for key, hint in get_type_hints(kind, include_extras=True).items()
    }
    return create_model(kind.__name__, __config__=ConfigDict(strict=True, protected_namespaces=()), **fields)


def _field(annotation: Any) -> Any:
    """The type by which a field is checked: functions and NamedTuples by their kind alone, arrays not at all."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return Union[tuple(map(_field, get_args(annotation)))]  # noqa: UP007
    if origin is frozenset:
        return Annotated[annotation, Strict(False)]
    if origin in (Annotated, Literal, tuple) or annotation in (bool, int, float, str, type(None)):
        return annotation
    if getattr(annotation, "_is_protocol", False) or origin is Callable:
        return Callable[..., Any]
    if origin is Mapping:
        return InstanceOf[Mapping]
    return InstanceOf[annotation] if hasattr(annotation, "_fields") else Any


def said(error: ValidationError, option: str, value: Any) -> str:
    """The mistakes about one option in words, such as "must be at least 1, got 0"."""
    words: list[str] = []
    for mistake in error.errors(include_url=False):
        if mistake["loc"][0] == option:
            need = needed(mistake["type"], mistake.get("ctx", {}))
            if need not in words and need != UNKNOWN:
                words.append(need)
    return f"{alternatives(words)}, got {value!r}"


def alternatives(words: Collection[str]) -> str:
    """Several needs of which one has to be met, as one: a union of types gives one mistake for each of them.

    >>> alternatives(["must be a number", "must be 'search'"])
    "must be a number or 'search'"
    """
    first, *others = words or [UNKNOWN]
    return " or ".join([first, *(other.removeprefix("must be ") for other in others)])


UNKNOWN = "cannot be used here"


def needed(kind: str, context: Mapping[str, Any]) -> str:
    """The words for what a value must be, by pydantic's type of mistake."""
    words = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in context.items()}
    match kind:
        case "int_type" | "int_from_float" | "int_parsing" | "int_parsing_size":
            return "must be a whole number"
        case "float_type" | "float_parsing":
            return "must be a number"
        case "finite_number":
            return "must be a finite number"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "string_type" | "string_unicode":
            return "must be text"
        case "string_pattern_mismatch":
            return "must be letters, digits, spaces and . _ -, a letter or digit first"
        case "string_too_long":
            return f"must have at most {words['max_length']} characters"
        case "string_too_short":
            return f"must have at least {words['min_length']} characters"
        case "greater_than":
            return f"must be greater than {words['gt']}"
        case "greater_than_equal":
            return f"must be at least {words['ge']}"
        case "less_than":
            return f"must be less than {words['lt']}"
        case "less_than_equal":
            return f"must be at most {words['le']}"
        case "literal_error":
            return f"must be {words['expected']}"
        case "tuple_type" | "list_type":
            return "must be a list"
        case "too_short":
            least = words["min_length"]
            return f"must have at least {'one value' if least == '1' else f'{least} values'}"
        case "too_long":
            return f"must have at most {words['max_length']} values"
        case "missing_argument" | "unexpected_positional_argument":
            return "must be a list with as many values as there are options"
        case "model_type" | "dict_type" | "mapping_type" | "model_attributes_type":
            return "must be a mapping"
        case "none_required":
            return "must be null"
        case "is_instance_of":
            return f"must be a {words['class']}"
        case "callable_type":
            return "must be a function"
        case "value_error":
            return str(context["error"])
        case _:
            return UNKNOWN
