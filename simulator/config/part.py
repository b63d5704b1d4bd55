"""Parts of a scenario: a name, or a function of the user's own, with the options of its signature."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, GetJsonSchemaHandler, ValidationError, create_model
from pydantic_core import core_schema

from byzax import members
from byzax.members import PluginError, named
from byzax.options import Nested, OfKind, PartError, options_of
from byzax.simulator.config.base import Description, freeze, mistake
from byzax.simulator.config.schema import schema_reference
from byzax.simulator.file_cache import depends_on
from byzax.simulator.mistakes import label_of, quote


class Part(Description, frozen=True):
    """A part that is chosen by `name`; its other fields are the options of the function of that name.

    Its class is made from the signature of the function: `kind_of`, `source_of` and `function_of` read the rest.
    """

    # no option has such a name
    _kind: ClassVar[str]
    _source: ClassVar[Any]
    _function: ClassVar[Callable[..., Any]]

    name: str

    def options(self) -> dict[str, Any]:
        """The options, as keyword arguments of the function."""
        # the fields of the base are settings of byzax, and no options of the function
        common = type(self).__mro__[1].model_fields  # pyright: ignore[reportAttributeAccessIssue]
        chosen = {field: getattr(self, field) for field in type(self).model_fields if field not in {"name", *common}}
        # functions of parts take mappings, not descriptions
        return {
            field: {"name": value._source, **value.options()} if isinstance(value, NestedPart) else value
            for field, value in chosen.items()
        }

    def make(self, *args: Any) -> Any:
        """Calls the function with these arguments and the options, and returns what it gives."""
        return self._function(*args, **self.options())

    @property
    def label(self) -> str:
        """The name in tables and messages: of `path/to/file.py:mine`, or a function, `mine`."""
        return label_of(self.name)

    def given(self) -> Any:
        """The part as it was written: a reference, or a mapping with the options that were given."""
        written = super().given() | {"name": self._source}
        return self._source if set(written) == {"name"} else written

    def reads_files(self) -> None:
        """Declares for `file_cache` that the part depends on the files that its options name, as FILE or FILE:NAME."""
        for value in self.options().values():
            if isinstance(value, str):
                for name in {value, value.rpartition(":")[0]} - {""}:
                    depends_on(members.absolute(name))

    def __reduce__(self) -> Any:
        # the class is made from the function, in each process
        base = type(self).__mro__[1]
        fields = {name: getattr(self, name) for name in self.model_fields_set if name != "name"}
        source = self._source
        if isinstance(source, str) and members.is_file(source):
            # a relative path begins at the working directory, and that of another process may be another
            source = f"{members.file_of(self._function)}:{source.rpartition(':')[2]}"
        return _restored, (self._kind, base, source, fields)


def kind_of(part: Part) -> str:
    """The kind of a part.

    Args:
        part: The part.

    Returns:
        A key of `byzax.members.KINDS`.
    """
    return part._kind


def source_of(part: Part) -> Any:
    """The reference that a part was chosen by.

    Args:
        part: The part.

    Returns:
        A name, `file.py:name`, or the function.
    """
    return part._source


def function_of(part: Part) -> Callable[..., Any]:
    """The function of a part, which builds it.

    Args:
        part: The part.

    Returns:
        The function.
    """
    return part._function


def parts_of(value: Any, key: str = "") -> Iterator[tuple[str, Part]]:
    """Finds all parts of a description.

    Args:
        value: The description.
        key: Its own key, dotted; empty for a whole scenario.

    Yields:
        The key and the part, for each.
    """
    if isinstance(value, Part):
        yield key, value
    if isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from parts_of(getattr(value, field), f"{key}.{field}".removeprefix("."))
    elif isinstance(value, tuple):
        for i, each in enumerate(value):
            yield from parts_of(each, f"{key}[{i}]")


def _restored(kind: str, base: type[Part], source: Any, fields: dict[str, Any]) -> Part:
    return Choice(kind, base).validate({**fields, "name": source})


class NestedPart(Part, frozen=True):
    """A part that is an option of another part."""


class Choice:
    """The type of a field that holds a part: a name, a function, or a mapping of `name` and options.

    Nothing but the part that is chosen is loaded; the JSON Schema has all of them.

    Args:
        kind: A key of `byzax.members.KINDS`.
        base: The class with the settings that byzax has for every part of the kind.
        aliases: Other names that may be written for some.
        number: Name and option that a bare number is the value of; None where no number can be written.
        outer: The function that the part is an option of, which is no option of itself; None where it is none.
    """

    def __init__(
        self,
        kind: str,
        base: type[Part] = Part,
        aliases: Mapping[str, str] = MappingProxyType({}),
        number: tuple[str, str] | None = None,
        outer: Callable[..., Any] | None = None,
    ):
        self.kind, self.base, self.aliases, self.number, self.outer = kind, base, aliases, number, outer

    def validate(self, value: Any) -> Any:
        """Parses a value of a scenario.

        Args:
            value: A part, a name, a function, or a mapping of `name` and options.

        Returns:
            The part.

        Raises:
            ValueError: An error of pydantic, for a value that describes no part.
        """
        if isinstance(value, Part):
            if value._kind == self.kind and type(value).__mro__[1] is self.base:
                return value
            value = value.given()
        self._check_unbuilt(value.get("name") if isinstance(value, Mapping) else value)
        if self.number and type(value) in (int, float):
            value = {"name": self.number[0], self.number[1]: value}
        given = {"name": value} if isinstance(value, str) or callable(value) else value
        if not isinstance(given, Mapping):
            raise mistake(f"a name, a function, or a mapping with name and options, is needed, got {quote(value)}")
        chosen = given.get("name")
        if not isinstance(chosen, str) and not callable(chosen):
            raise missing_name(given, f"must be a name or a function, got {quote(chosen)}")
        try:
            made = self.type_of(chosen)
        except (PartError, PluginError) as error:
            raise mistake(str(error)) from None
        return made.model_validate({**given, "name": made.model_fields["name"].default})

    def _check_unbuilt(self, value: Any) -> None:
        """Raises an error of pydantic for what the function of a part gave, in place of the function."""
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            arguments = ", ".join(members.KINDS[self.kind].arguments)
            raise mistake(
                f"a name or a function is needed, got {type(value).__name__}, which a function made: give the "
                f"function, {self.kind}=mine in place of {self.kind}=mine({arguments or '...'}): byzax calls it with "
                + (f"({arguments}) and its options" if arguments else "its options, {'name': mine, 'option': 1.0}")
            )

    def type_of(self, chosen: Any) -> type[Part]:
        """The type of a part.

        Args:
            chosen: A name, an alias, `file.py:name`, or a function.

        Returns:
            The type.

        Raises:
            PartError: For an unknown name.
            PluginError: Where the file cannot be used, or an option cannot be written in YAML.
        """
        # a file of the user's own may have the name of an alias
        alias = chosen in self.aliases and chosen not in members.available(self.kind)
        made = part_type(self.kind, self.base, self.aliases[chosen] if alias else chosen)
        if made._function is self.outer:
            name = label_of(made.model_fields["name"].default)
            raise PartError(f"{name} cannot be an option of itself: take another {members.KINDS[self.kind].word}")
        return made

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = []
        for name in members.available(self.kind):
            # a file that cannot be used is an error only where a scenario names it
            with contextlib.suppress(PartError, PluginError):
                found.append(self.type_of(name))
        names = [made.model_fields["name"].default for made in found]
        parts = [
            schema_reference(f"{self.kind}.{self.base.__name__}.{name}", made)
            for name, made in zip(names, found, strict=True)
        ]
        own = {"type": "string", "pattern": r"\.py:\w+$", "description": "A function of your own: path/to/file.py:name"}
        bare = [{"type": "number"}] if self.number else []
        return {"anyOf": [{"enum": [*names, *self.aliases]}, own, *bare, *parts]}


def missing_name(given: Mapping[str, Any], message: str = "") -> ValidationError:
    """The mistake at the key `name` of a mapping.

    Args:
        given: The mapping, which has no name, or a value there that is none.
        message: The mistake in the value.

    Returns:
        The error.
    """
    kind: Any = mistake(message) if given.get("name") is not None else "missing"
    return ValidationError.from_exception_data("part", [{"type": kind, "loc": ("name",), "input": given}])


def part_type(kind: str, base: type[Part], source: Any) -> type[Part]:
    """The type of a part, made from the signature of its function.

    Args:
        kind: A key of `byzax.members.KINDS`.
        base: Base class of the type.
        source: A name, `file.py:name` or a function.

    Returns:
        The type.

    Raises:
        PartError: For an unknown name.
        PluginError: Where the file cannot be used, or an option cannot be written in YAML.
    """
    function = members.find(kind, source)
    name = source if isinstance(source, str) else members.reference_of(function)
    # a function of byzax's own is referred to by its name
    return _part_type(kind, base, name if name.isidentifier() else source, name, function)


@cache
def _part_type(kind: str, base: type[Part], source: Any, name: str, function: Callable[..., Any]) -> type[Part]:
    members.check_function(kind, function)
    label, literal = label_of(name), Literal
    fields: dict[str, Any] = {"name": (literal[name], name)}
    code = members.code_of(function)
    with named(members.file_of(function), f":{code.co_firstlineno}" if code else ""):
        for option in options_of(function):
            if option.name in base.model_fields or option.name in vars(Part):
                raise TypeError(
                    f"the option {option.name} of {label} has a name that byzax uses for every {kind}: rename it"
                )
            kind_of, default = option.annotation, option.default
            among = get_args(kind_of) if type(None) in get_args(kind_of) else (kind_of,)
            others = [
                each.kind for one in among for each in getattr(one, "__metadata__", ()) if isinstance(each, OfKind)
            ]
            if others or kind_of == Nested:
                chosen = Annotated[Part, Choice(others[0] if others else kind, NestedPart, outer=function)]
                kind_of = chosen if len(among) == 1 else Union[chosen, None]  # noqa: UP007
                default = default if default is ... else Field(default=default, validate_default=True)
            elif found := _mutable(kind_of):
                raise TypeError(
                    f"the option {option.name} of {label} is a {found}, and a description cannot hold what can be "
                    "changed in place: give it a type such as tuple[int, ...]"
                )
            fields[option.name] = (kind_of, freeze(default))
        summary = (function.__doc__ or "").strip().split("\n")[0]
        made = create_model(f"{label}_{kind}", __base__=base, __doc__=summary, **fields)
    made._source = source if isinstance(source, str) else staticmethod(source)
    made._kind, made._function = kind, staticmethod(function)
    made._by_place = frozenset(inspect.signature(function).parameters) - {
        option.name for option in options_of(function)
    }
    return made


def _mutable(annotation: Any) -> str:
    """The name of a type in an annotation whose values can be changed in place; empty where there is none."""
    origin = get_origin(annotation) or annotation
    if origin in (list, set):
        return origin.__name__
    return next(filter(None, map(_mutable, get_args(annotation))), "") if origin is not Literal else ""
