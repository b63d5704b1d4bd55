"""The durations of computing and messages, lost messages and crashes."""

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, Strict, create_model, model_validator

from byzax.simulator.config.base import Description, Seconds, Share, is_list, mistake
from byzax.simulator.config.choices import Either
from byzax.simulator.config.part import Choice, Part
from byzax.simulator.mistakes import quote

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
    """A node that dies, with the job that it was doing."""

    worker: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Number of the worker that dies, from 0; the first ones are the Byzantine."
    )
    server: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Number of the server that dies, from 0, where there are several."
    )
    at: Seconds = Field(description="Second at which it dies.")
    back: Seconds | None = Field(default=None, description="Second at which it comes back; null: never.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.worker is None) == (self.server is None):
            raise ValueError("must name one node: give either worker or server")
        if self.back is not None and self.back <= self.at:
            raise ValueError(f"{name_of(self.node)} is back at {self.back} and must die before that, not at {self.at}")
        return self

    @property
    def node(self) -> tuple[str, int]:
        """Kind and number of the node."""
        return ("server", self.server) if self.server is not None else ("worker", self.worker or 0)


def name_of(node: tuple[str, int]) -> str:
    """The name of a node in scenarios and messages."""
    return f"{node[0]} {node[1]}"


def _check_groups(value: Any) -> Any:
    """Refuses what are no groups of nodes, in one line: errors of a union would name each of its types."""
    if not is_list(value) or not all(is_list(group) for group in value):
        raise mistake(
            f'must be a list of groups, each a list of nodes, such as [[0, 1], [2, "server 0"]], got {quote(value)}'
        )
    for node in (node for group in value for node in group):
        number = type(node) is int and node >= 0
        if not number and not (isinstance(node, str) and re.fullmatch(r"server \d{1,9}", node)):
            raise mistake(f'names {quote(node)}: a node is the number of a worker, or a server by a name as "server 1"')
    return value


# A node of an outage: a worker by its number, or a server.
NodeField: TypeAlias = Annotated[int, Field(ge=0)] | str
GroupField: TypeAlias = Annotated[tuple[NodeField, ...], Strict(False), Field(min_length=1)]
GroupsField: TypeAlias = Annotated[
    tuple[GroupField, ...], Strict(False), Field(min_length=2), BeforeValidator(_check_groups)
]

if TYPE_CHECKING:
    _Beginning: TypeAlias = Description
else:
    # a class body can have no field of this name
    _Beginning = create_model(
        "_Beginning", __base__=Description, **{"from": (Seconds, Field(description="Second at which the links fail."))}
    )


class Outage(_Beginning, frozen=True):
    """Links between groups of nodes that are down for a while: with all nodes in groups, a partition of the network."""

    until: Seconds = Field(description="Second at which they work again.")
    between: GroupsField = Field(
        description='Groups of nodes: numbers of workers, and names as "server 1". Links between nodes of two groups '
        "are down; nodes in no group reach all.",
    )
    messages: Literal["lost", "delayed"] = Field(
        default="lost", description="Messages that are sent meanwhile are lost, or leave when the links work again."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.until <= self.begin_s:
            raise ValueError(f"until is {self.until:g} and must be above from, which is {self.begin_s:g}")
        nodes = [node for group in self.groups for node in group]
        if twice := [node for node in nodes if nodes.count(node) > 1]:
            raise ValueError(f"between names {name_of(twice[0])} twice: put every node into one group")
        return self

    @property
    def begin_s(self) -> float:
        """The second at which the links fail."""
        return getattr(self, "from")

    @property
    def groups(self) -> tuple[tuple[tuple[str, int], ...], ...]:
        """The groups, each node with its kind."""
        return tuple(
            tuple(("worker", node) if isinstance(node, int) else ("server", int(node.split()[1])) for node in group)
            for group in self.between
        )


class LatencyPart(Part, frozen=True):
    """The duration of a job's computing, and of messages between server and workers."""

    factors: FactorsField | None = Field(
        default=None,
        description="Factors of the workers' times: a number for each, or a latency model to draw them from.",
    )
    stragglers: Stragglers | None = Field(default=None, description="Workers that are slow always or in spells.")
    up: Link = Field(default_factory=lambda: Link(), description="Worker to server.")
    down: Link = Field(default_factory=lambda: Link(), description="Server to worker.")
    peer: Link = Field(default_factory=lambda: Link(), description="Server to server, or process to process.")
    loss: Share = Field(default=0.0, description="Probability that a worker's message is lost; it then computes again.")
    crashes: Annotated[tuple[Crash, ...], Strict(False)] = Field(default=(), description="Nodes that die, and when.")
    outages: Annotated[tuple[Outage, ...], Strict(False)] = Field(
        default=(), description="Links that are down for a while."
    )

    @property
    def mishaps(self) -> bool:
        """True where messages may be lost or late, or nodes may die."""
        return bool(self.loss or self.crashes or self.outages)


LatencyField: TypeAlias = Annotated[LatencyPart, Choice("latency", LatencyPart)]
