"""Loggers of a study."""

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Strict

from byzax.simulator.config.base import is_list
from byzax.simulator.config.part import Choice, Part

# One logger, or a list of them.
LogField: TypeAlias = Annotated[
    tuple[Annotated[Part, Choice("logger")], ...],
    Strict(False),
    BeforeValidator(lambda given: given if is_list(given) else (given,)),
]
