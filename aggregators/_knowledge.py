"""The knowledge of a rule beside the rows, and what it tells of an aggregation."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax

Array = jax.Array

# the functions of a `Context` that a rule or a filter may call, as its `needs` name them
Need = Literal["gradient", "loss", "after"]


class Info(NamedTuple):
    """Diagnostics of one aggregation, beside the aggregate.

    Attributes:
        weights: `[n]`, the share of each row in the aggregate (sums to 1); None where rows have no share of their own.
        iterations: Number of steps that an iterative rule took; None for all others.
        undecided: True where the search of a rule did not end within its limit of work, so that the aggregate is NaN
            and no answer; None for rules without a limit.
    """

    weights: Array | None = None
    iterations: Array | None = None
    undecided: Array | None = None


class Neighbourhood(NamedTuple):
    """The rows of a node that mixes models, its own among them.

    Attributes:
        own: `[n]`, true for the node's own row, which is one of them.
        weights: `[n]`, the weights of the edges to the senders, that of its own row what is left to 1.
        byzantine: `[n]`, true for the rows of Byzantine nodes, which no node knows: for oracles.
    """

    own: Array
    weights: Array
    byzantine: Array


class Context(NamedTuple):
    """The knowledge of a server or node beside the rows; most rules ignore it.

    Attributes:
        key: For what a rule draws, another one at every update.
        params: `[d]`, the model that the update changes.
        gradient: Gives the server's own row `[d]`, on the server's own data; None where it has none. The row is made
            the way workers make theirs: of the same gradients, local steps and momentum.
        loss: Gives the mean loss `[]` of a model `[d]` on the server's own data, of a node that mixes on a batch of its
            samples; None where it has none.
        after: Gives the model `[d]` that the update makes of `params` where its argument `[d]` is the aggregate; None
            where that is not known.
        neighbourhood: The rows of a node that mixes models; None where there is a server.
    """

    key: Array
    params: Array | None = None
    gradient: Callable[[], Array] | None = None
    loss: Callable[[Array], Array] | None = None
    after: Callable[[Array], Array] | None = None
    neighbourhood: Neighbourhood | None = None
