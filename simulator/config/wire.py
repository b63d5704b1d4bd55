"""The compressors of the messages of a run."""

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, Strict

from byzax.simulator.config.base import Description, is_list
from byzax.simulator.config.part import Choice, Part

TransformField: TypeAlias = Annotated[Part, Choice("transform")]


def _listed(value: Any) -> Any:
    return value if is_list(value) else (value,)


TransformsField: TypeAlias = Annotated[
    tuple[TransformField, ...],
    Strict(False),
    BeforeValidator(_listed, json_schema_input_type=TransformField | tuple[TransformField, ...]),
]


class Wire(Description, frozen=True):
    """The compressors of messages: a transform, or a list in which each compresses the numbers of the one before."""

    up: TransformsField = Field(default=(), description="Rows of workers to servers.")
    down: TransformsField = Field(
        default=(), description="Models of servers to workers, as their change since the first model of the run."
    )
    peer: TransformsField = Field(
        default=(), description="Models between servers or between nodes, as their change since the first model."
    )

    @property
    def is_plain(self) -> bool:
        """True where nothing is compressed."""
        return not (self.up or self.down or self.peer)
