"""The type of a topology, and the parts that its network is built of."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Protocol

from pydantic import Field

from byzax.options import Nested

if TYPE_CHECKING:
    import numpy as np

    from byzax.simulator.config.run import Run
    from byzax.simulator.core import Core
    from byzax.simulator.events import Network
    from byzax.simulator.rounds import Rounds
    from byzax.simulator.timeline import Timeline
    from byzax.simulator.world import World


class NetworkParts(NamedTuple):
    """The parts that a network is built of.

    Attributes:
        run: The run.
        core_of: The functions of the run, for inboxes of so many rows.
        timeline: The timeline: when each worker does each job.
        world: Arrays of the run.
    """

    run: "Run"
    core_of: "Callable[[int], Core]"
    timeline: "Timeline"
    world: "World"


class BuildNetwork(Protocol):
    """Builds the network of a run."""

    def __call__(self, parts: NetworkParts, /) -> "Network":
        """The nodes, steps and events of a run.

        Args:
            parts: The parts of the run.

        Returns:
            The network.
        """
        ...


class CheckRun(Protocol):
    """Checks that a run can have a topology."""

    def __call__(self, run: "Run", /) -> None:
        """Raises ValueError, with the way out, for a run that cannot.

        Args:
            run: The run.
        """
        ...


class DescribeRounds(Protocol):
    """Describes a round of a run."""

    def __call__(self, run: "Run", /) -> "Rounds":
        """The steps of a round.

        Args:
            run: The run.

        Returns:
            The steps, and what ends the round.
        """
        ...


class CountAsked(Protocol):
    """Counts the models that workers ask single servers for at least."""

    def __call__(self, updates: int, /) -> int:
        """The number of models that all workers ask for in so many updates, one in each round in which they ask.

        Args:
            updates: Number of updates.

        Returns:
            The number.
        """
        ...


class CountNeighbours(Protocol):
    """Counts the neighbours of nodes where these change."""

    def __call__(self, run: "Run", /) -> "np.ndarray":
        """The number of neighbours of each node in each round, `[T, n]`.

        Args:
            run: The run.

        Returns:
            The numbers.
        """
        ...


class Topology(NamedTuple):
    """The nodes of a run and their steps.

    Attributes:
        build: Builds the network.
        check: Checks that a run can have the topology.
        inboxes: The numbers of rows that rules see, rising; None where the schedule decides it.
        declared: The f of these rules, by the number of rows; None where the schedule decides it.
        one_server: Whether all rows go to one server, so that attacks tell no receivers apart, and workers race for it.
        mixes: Whether what rules see are models that nodes made by steps of their own, and the aggregate is the next
            model of the node; else there is a server, whose optimizer makes the step.
        mixing: The mixing in place of the rule of the scenario, as options name parts; None for that rule.
        explain: Says in words which receiver sees so many rows, for messages about rules that refuse the number; None
            for nothing to say.
        rounds: Gives the steps of a round of a run, in which each node goes on by the messages that it got; None where
            the schedule decides when updates are made. With rounds nodes may race.
        degrees: Gives the number of neighbours of each node in each round, for the weights of edges (`World.degrees`);
            None where neighbours stay the same.
        pulls: Counts the models that workers ask single servers for at least, where states say how many more
            (`Network.count_pulls`); None where nobody asks.
        wire: The directions of messages that steps compress (`NodeStep.sends` and `receives`), the keys that `wire` may
            have.
        parts: Gives of the number of parameters the numbers in the parts of a row or model, each a message of its own;
            None where it is one message.
        remembers: Whether the ends of messages on the wire may remember earlier ones, as each message of a node is the
            next one to the same receivers.
    """

    build: BuildNetwork
    check: CheckRun = lambda run: None
    inboxes: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    declared: Callable[[int], int] | None = None
    one_server: bool = False
    mixes: bool = False
    mixing: Nested | None = None
    explain: Callable[[int], str] | None = None
    rounds: DescribeRounds | None = None
    degrees: CountNeighbours | None = None
    pulls: CountAsked | None = None
    wire: tuple[Literal["up", "down", "peer"], ...] = ()
    parts: Callable[[int], tuple[int, ...]] | None = None
    remembers: bool = True
