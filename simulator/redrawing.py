"""Graphs that are drawn anew every few rounds."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from byzax.options import Nested, OptionError
from byzax.simulator.graphs.base import NodeGraph
from byzax.simulator.keys import Purpose, generator

# Draws that are looked at to see whether all nodes have always as many neighbours.
PROBED = 8


class RedrawnGraph(NamedTuple):
    """A graph that is drawn anew.

    Attributes:
        joined: Gives of the seed of a run and a round the nodes that are joined in it, `[n, n]`, each to itself too.
        sizes: The numbers of neighbours of a node that occur, rising.
    """

    joined: Callable[[int, int], np.ndarray]
    sizes: tuple[int, ...]


def build_redrawn(n: int, graph: Nested, make_graph: Callable[..., NodeGraph], every: int) -> RedrawnGraph:
    """Builds a graph that is drawn anew every so many rounds, by its own seed and that of the run.

    Args:
        n: Number of nodes.
        graph: The graph, as options name parts.
        make_graph: Makes it, of the number of nodes and a seed.
        every: Rounds from one draw to the next.

    Returns:
        The graph. Single draws may leave nodes without a way to each other.

    Raises:
        OptionError: For a graph that is not drawn by a seed, says who is Byzantine, or gives weights of its edges.
    """
    own_seed = int(graph.get("seed", 0)) if isinstance(graph, Mapping) else 0

    def linked(seed: int) -> np.ndarray:
        found = np.eye(n, dtype=bool)
        edges = np.array(make_graph(n, seed=seed).edges, int).reshape(-1, 2)
        found[edges[:, 0], edges[:, 1]] = found[edges[:, 1], edges[:, 0]] = True
        return found

    try:
        first = make_graph(n, seed=0)
    except TypeError:
        raise OptionError(
            "redraw_every", "needs a graph that is drawn by a seed: take erdos_renyi, random_regular or barabasi_albert"
        ) from None
    if first.byzantine is not None or first.weights is not None:
        raise OptionError("redraw_every", "needs a graph that says neither who is Byzantine nor weights of edges")

    # of the last rounds of a few runs
    @lru_cache(maxsize=1024)
    def drawn(seed: int, number: int) -> np.ndarray:
        found = linked(int(generator(seed, Purpose.GRAPH, own_seed, number).integers(2**32)))
        found.setflags(write=False)
        return found

    degrees = {int(each) - 1 for seed in range(PROBED) for each in linked(seed).sum(axis=1)}
    sizes = tuple(degrees) if len(degrees) == 1 else tuple(range(n))
    return RedrawnGraph(lambda seed, t: drawn(seed, t // every), sizes)
