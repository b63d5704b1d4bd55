"""The minimum-diameter subset of rows, found through vertex covers instead of enumeration.

Keeping all but f rows with diameter <= t is covering, with f vertices, the graph that joins rows farther apart than t.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.kernels.distances import Distances

Array = jax.Array

EFFORT = 300_000  # steps of the searches of one subset, each O(n²): the rows of a training take some hundreds


class CoverSearch(NamedTuple):
    """A stack of sets of vertices that may still have to be covered.

    Attributes:
        masks: `[depth, n]`, the sets.
        budgets: `[depth]`, how many vertices may be spent on each.
        top: Index of the top of the stack.
        covered: Whether the last set has no edge left.
        effort: Number of steps left.
    """

    masks: Array
    budgets: Array
    top: Array
    covered: Array
    effort: Array


def has_cover(
    graph: Array, left: Array, budget: Array | int, depth: int, effort: Array | int = EFFORT
) -> tuple[Array, Array]:
    """Tells whether few vertices touch every edge of a graph.

    Branch and bound on an explicit stack: take the vertex v of largest degree, or else all its neighbours. No branch is
    needed where - a vertex has one neighbour: the neighbour covers at least as much; - v has more neighbours than the
    budget: v must be taken; - no vertex has more than two neighbours: cycles, of which any vertex will do. A branch
    ends where the budget, spent on the largest degrees, cannot reach all edges. Cost: O(1.47^budget n²) at worst, in
    practice a few steps.

    Args:
        graph: `[n, n]`, symmetric.
        left: `[n]`, the vertices between which edges count.
        budget: Largest number of vertices.
        depth: Static bound of the budget.
        effort: Number of steps that may be taken.

    Returns:
        The answer `[]`, and what is left of the effort; the answer has no meaning where that is 0.
    """
    n = graph.shape[0]

    def step(state: CoverSearch) -> CoverSearch:
        masks, budgets, top, _, effort = state
        left, budget = masks[top], budgets[top]
        degrees = jnp.where(left, jnp.sum(graph & left, axis=1, dtype=jnp.int32), 0)
        largest, vertex = jnp.max(degrees), jnp.argmax(degrees)
        within_budget = jnp.arange(n) < budget
        reachable = jnp.sum(jnp.where(within_budget, jnp.sort(degrees, descending=True), 0))
        covered = largest == 0
        hopeless = reachable < jnp.sum(degrees) // 2

        leaves = degrees == 1
        only_neighbour = jnp.argmax(graph[jnp.argmax(leaves)] & left)
        taken = jnp.where(leaves.any(), only_neighbour, vertex)
        branches = ~leaves.any() & (largest > 2) & (largest <= budget) & ~hopeless

        without_neighbours = left & ~graph[vertex] & (jnp.arange(n) != vertex)
        masks = masks.at[top].set(without_neighbours)
        budgets = budgets.at[top].set(budget - largest)
        top = jnp.where(branches, top + 1, top)
        masks = masks.at[top].set(left & (jnp.arange(n) != taken))
        budgets = budgets.at[top].set(budget - 1)
        return CoverSearch(masks, budgets, jnp.where(hopeless, top - 1, top), covered, effort - 1)

    def unfinished(state: CoverSearch) -> Array:
        return (state.top >= 0) & ~state.covered & (state.effort > 0)

    budget = jnp.asarray(budget, jnp.int32)
    # every branch leaves one alternative on the stack and spends at least one of the budget
    masks = jnp.zeros((depth + 2, n), bool).at[0].set(left)
    budgets = jnp.zeros(depth + 2, jnp.int32).at[0].set(budget)
    top = jnp.where(budget >= 0, 0, -1)
    start = CoverSearch(masks, budgets, top, jnp.asarray(False), jnp.asarray(effort, jnp.int32))
    end = lax.while_loop(unfinished, step, start)
    return end.covered, end.effort


def closest_subset(apart: Distances, alive: Array, f: int, effort: int = EFFORT) -> tuple[Array, Array]:
    """All but f rows with the smallest diameter; of equal ones the lexicographically first subset.

    Args:
        apart: The distances between the n rows; a row that is not finite is left out first, and counts against f.
        alive: `[n]`, the rows to choose from.
        f: Number of rows left out.
        effort: Number of steps that the searches may take.

    Returns:
        The subset `[n]`, and whether it is undecided, since the effort did not suffice: then it is no answer.
    """
    squared, n = apart.squared, apart.squared.shape[0]
    size = jnp.sum(alive) - f
    finite = alive & apart.finite
    budget = f - jnp.sum(alive & ~finite, dtype=jnp.int32)

    between = finite[:, None] & finite[None, :]
    diameters = jnp.sort(jnp.where(between, squared, jnp.inf), axis=None)

    def bisect(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, effort = state  # the smallest diameter is in diameters[low : high + 1]
        centre = (low + high) // 2
        wide_enough, effort = has_cover(squared > diameters[centre], finite, budget, f, effort)
        return jnp.where(wide_enough, low, centre + 1), jnp.where(wide_enough, centre, high), effort

    # the last step of a bisection that has ended asks the same question again and keeps the bounds
    last = jnp.asarray(n * n - 1, jnp.int32)
    start = jnp.zeros_like(last), last, jnp.asarray(effort, jnp.int32)
    _, smallest, left_over = lax.fori_loop(0, (n * n - 1).bit_length(), bisect, start)
    graph = (squared > diameters[smallest]) & between

    def keep_if_possible(i: int, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        kept, left, budget, effort = state
        neighbours = graph[i] & left
        rest = left & ~neighbours & (jnp.arange(n) != i)
        rest_budget = budget - jnp.sum(neighbours, dtype=jnp.int32)
        covered, effort = has_cover(graph, rest, jnp.where(left[i], rest_budget, -1), f, effort)
        possible = left[i] & covered
        dropped = left[i] & ~possible
        left = jnp.where(possible, rest, left & (jnp.arange(n) != i))
        budget = jnp.where(possible, rest_budget, budget - dropped)
        return kept.at[i].set(possible), left, budget, effort

    kept, _, _, left_over = lax.fori_loop(0, n, keep_if_possible, (jnp.zeros(n, bool), finite, budget, left_over))
    return kept & (jnp.cumsum(kept) <= size), left_over <= 0
