"""The durations of computing and messages, lost messages and crashes."""

from typing import Annotated, Self, TypeAlias

from pydantic import Field, Strict, model_validator

from byzax.simulator.config.base import Description, Seconds, Share
from byzax.simulator.config.choices import Either
from byzax.simulator.config.part import Choice, Part

_MODEL = Choice("latency", number=("constant", "seconds"))
DelayField: TypeAlias = Annotated[Part, _MODEL]
FactorsField: TypeAlias = Annotated[tuple[float, ...] | Part, Either(tuple[Annotated[float, Field(gt=0)], ...], _MODEL)]


class Stragglers(Description, frozen=True):
    """Slow workers, drawn by the seed from all workers."""

    share: Annotated[float, Field(ge=0, le=1)] = Field(default=0.2, description="Share of the workers.")
    factor: Annotated[float, Field(ge=1)] = Field(
        default=10.0, description="Their computing takes so many times longer."
    )
    burst: Annotated[float, Field(ge=1)] | None = Field(
        default=None, description="Mean number of jobs that a slow spell lasts; null: they are slow always."
    )
    pause: Annotated[float, Field(ge=1)] = Field(default=20.0, description="Mean number of jobs between two spells.")


class Link(Description, frozen=True):
    """One direction between nodes: a message takes its delay and bits / bandwidth."""

    delay: DelayField = Field(default=0.0, validate_default=True, description="Seconds: a number, or a latency model.")
    bandwidth: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Bits a second; null: any number."
    )


class Crash(Description, frozen=True):
    """A worker that dies, with the job that it was doing."""

    worker: int = Field(ge=0, description="Its number, from 0; the first ones are the Byzantine.")
    at: Seconds = Field(description="Second at which it dies.")
    back: Seconds | None = Field(default=None, description="Second at which it comes back; null: never.")

    @model_validator(mode="after")
    def _later(self) -> Self:
        if self.back is not None and self.back <= self.at:
            raise ValueError(f"worker {self.worker} is back at {self.back} and must die before that, not at {self.at}")
        return self


class LatencyPart(Part, frozen=True):
    """The duration of a job's computing, and of messages between server and workers."""

    factors: FactorsField | None = Field(
        default=None,
        description="Factors of the workers' times: a number for each, or a latency model to draw them from.",
    )
    stragglers: Stragglers | None = Field(default=None, description="Workers that are slow always or in spells.")
    up: Link = Field(default_factory=lambda: Link(), description="Worker to server.")
    down: Link = Field(default_factory=lambda: Link(), description="Server to worker.")
    peer: Link = Field(default_factory=lambda: Link(), description="Server to server.")
    loss: Share = Field(default=0.0, description="Probability that a worker's message is lost; it then computes again.")
    crashes: Annotated[tuple[Crash, ...], Strict(False)] = Field(default=(), description="Workers that die, and when.")


LatencyField: TypeAlias = Annotated[LatencyPart, Choice("latency", LatencyPart)]
