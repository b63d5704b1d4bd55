"""Types of fields that hold one of several things: numbers or a part, one of several descriptions, a number alone."""

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BeforeValidator, GetJsonSchemaHandler, Strict, TypeAdapter
from pydantic_core import core_schema

from byzax.members import nearest
from byzax.options import PartError
from byzax.simulator.config.base import Description, is_list, mistake, number_hint
from byzax.simulator.config.part import Choice, missing_name
from byzax.simulator.mistakes import quote


class Either:
    """The type of a field that holds numbers, or else a part.

    Args:
        numbers: The type of a number, or of a list of them.
        choice: The part.
    """

    def __init__(self, numbers: Any, choice: Choice):
        annotation: Any = Annotated[numbers, Strict()]
        self.numbers, self.choice = TypeAdapter(annotation), choice

    def validate(self, value: Any) -> Any:
        """Parses a value of a scenario.

        Args:
            value: A number, a list of numbers, or what stands for a part.

        Returns:
            The numbers or the part.

        Raises:
            ValueError: An error of pydantic, for a value that is neither.
        """
        if type(value) in (int, float) and not self.choice.number:
            return self.numbers.validate_python(value)
        if is_list(value):
            return self.numbers.validate_python(tuple(value))
        if hint := number_hint(value):
            raise mistake(f"must be a number, got {quote(value)}{hint}")
        return self.choice.validate(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        numbers = handler(self.numbers.core_schema)
        return {"anyOf": [numbers, self.choice.__get_pydantic_json_schema__(schema, handler)]}


class NamedOneOf:
    """The type of a field that holds one of several descriptions, told apart by `name`; or its bare name.

    Args:
        word: The word for one of them.
        descriptions: Each with a field `name` whose default is its name.
    """

    def __init__(self, word: str, *descriptions: type[Description]):
        self.word = word
        self.by_name = {each.model_fields["name"].default: each for each in descriptions}

    def type_of(self, name: Any) -> type[Description]:
        """The class of a description.

        Args:
            name: Its name.

        Returns:
            The class.

        Raises:
            PartError: For an unknown name.
        """
        if not isinstance(name, str) or name not in self.by_name:
            raise PartError(f"unknown {self.word} {quote(name)}; {nearest(str(name), self.by_name)}")
        return self.by_name[name]

    def validate(self, value: Any) -> Any:
        """Parses a value of a scenario.

        Args:
            value: A description, its name, or a mapping of `name` and its other fields.

        Returns:
            The description.

        Raises:
            ValueError: An error of pydantic, for a value that stands for none.
        """
        if isinstance(value, tuple(self.by_name.values())):
            return value
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            raise mistake(f"a name, or a mapping with name and options, is needed, got {quote(value)}")
        name = given.get("name")
        if name is None:
            raise missing_name(given)
        try:
            return self.type_of(name).model_validate(given)
        except PartError as error:
            raise mistake(str(error)) from None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        whole = [handler(each.__pydantic_core_schema__) for each in self.by_name.values()]
        return {"anyOf": [{"enum": [*self.by_name]}, *whole]}


def choice_of(annotation: Any, metadata: Sequence[Any] = ()) -> Choice | NamedOneOf | None:
    """The choice by name that a field offers.

    Args:
        annotation: Type of the field.
        metadata: The metadata of the type in `Annotated`.

    Returns:
        The choice; None where the field offers none.
    """
    for each in metadata:
        if isinstance(each, (Choice, NamedOneOf)):
            return each
        if isinstance(each, Either):
            return each.choice
    if get_origin(annotation) is Annotated:
        inner, *beside = get_args(annotation)
        return choice_of(inner, beside)
    if get_origin(annotation) in (Union, UnionType):
        return next(filter(None, map(choice_of, get_args(annotation))), None)
    return None


def accept_bare(kind: type[int] | type[float], description: type[Description]) -> BeforeValidator:
    """Lets a field with a description be written as a number, the value of one of its keys.

    Args:
        kind: Type of the number.
        description: Class of the description.

    Returns:
        A validator for `Annotated`.
    """

    def whole(value: Any) -> Any:
        if type(value) in (int, kind):
            return {description._short: value}
        if isinstance(value, (description, Mapping)):
            return value
        number = "a whole number" if kind is int else "a number"
        keys = ", ".join(description.model_fields)
        raise mistake(f"{number}, or a mapping of {keys}, is needed, got {quote(value)}")

    return BeforeValidator(whole, json_schema_input_type=kind | description)
