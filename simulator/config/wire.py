"""The compressors of the messages of a run."""

from typing import Annotated, Any, TypeAlias

from pydantic import Field, Strict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from byzax.simulator.config.base import Description, is_list, without_place
from byzax.simulator.config.part import Choice, Part

TransformField: TypeAlias = Annotated[Part, Choice("transform")]


def _listed(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """A list, also where a transform stands alone, whose mistakes are named without a place in a list."""
    listed = value if is_list(value) else (value,)
    if len(listed) != 1:
        return handler(listed)
    try:
        return handler(listed)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        raise ValidationError.from_exception_data("Wire", [without_place(each) for each in mistakes]) from None


TransformsField: TypeAlias = Annotated[
    tuple[TransformField, ...],
    Strict(False),
    WrapValidator(_listed, json_schema_input_type=TransformField | tuple[TransformField, ...]),
]


class Wire(Description, frozen=True):
    """The compressors of messages: a transform, or a list in which each compresses the numbers of the one before."""

    up: TransformsField = Field(default=(), description="Rows of workers to servers.")
    down: TransformsField = Field(
        default=(), description="Models of servers to workers, as their change since the first model of the run."
    )
    peer: TransformsField = Field(
        default=(),
        description="Messages between servers, nodes or processes: rows, chunks of sums, models as their change since "
        "the first.",
    )

    @property
    def is_plain(self) -> bool:
        """True where nothing is compressed."""
        return not (self.up or self.down or self.peer)
