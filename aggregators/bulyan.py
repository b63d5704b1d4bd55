"""Bulyan: a selection by another rule, then an average around the median of each coordinate."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jax import lax

from byzax import aggregators
from byzax.aggregators.base import Aggregator, Array, Info, Nested, choice, eligible, limited, require, stateless
from byzax.aggregators.kernels.columns import Median, mean_around_median
from byzax.aggregators.kernels.distances import (
    Nearest,
    distances_to,
    first_least,
    first_smallest,
    nearest,
    pairwise,
    sums,
    without,
)
from byzax.aggregators.kernels.scores import Distance, Neighbours, neighbours_of, powered

Theta = Literal["n-2f", "n-2f-2"]
# From what a selection keeps, the rows alive `[n]` and how many were taken before: the row to take, whether the base
# rule gave no answer, and what it keeps from then on.
NextRow = Callable[[Any, Array, Array], tuple[Array, Array, Any]]


def bulyan(
    n: int,
    f: int,
    *,
    base: Nested = "krum",
    median: Median = "lower",
    theta: Theta = "n-2f",
    unproven: bool = False,
) -> Aggregator:
    """The mean of the selected values closest to their median, coordinate by coordinate, `[n, d] -> [d]`.

        selection: theta = n-2f times, the remaining row closest to A(remaining rows), which is then removed
        F[c] = mean of the beta = theta-2f values of coordinate c of the selection that are closest to their median

    Condition: n >= 4f + 3
    Cost: O(n² d) with Krum, else theta times the cost of the base rule
    Source: El Mhamdi et al., ICML 2018, "The Hidden Vulnerability of Distributed Learning in Byzantium"

    Args:
        base: the rule A, by name or as a mapping of its name and options, such as {name: krum, distance: plain}; any
            but bulyan. Its f stays the same while the pool shrinks from n to 2f + 1 rows. Krum is computed again on
            each pool; where it would have less than one neighbour, it uses one.
        median: which median of an even number of values is meant. The paper's is one of the values (`lower`); `mid` is
            the mean of the two middle ones.
        theta: how many rows are selected. `n-2f` is the paper's; with `n-2f-2` beta = n-4f-2, at least 1 under the same
            condition, and the last pool holds 2f + 3 rows, enough for Krum.
        unproven: whether n >= 4f + 1 suffices, from which on a value is left to average (codes that check nothing, such
            as FLPoison's); with theta n-2f-2 it changes nothing.

    Raises:
        ValueError: n < 1, f < 0, n < 4f + 3 (4f + 1 with unproven), an unknown base, `bulyan` itself, a base that
            refuses its options or one of the pools, or a median or theta that is none of those named.
        RuntimeError: by apply, where the base is brute and its effort does not suffice.

    Ties: of rows equally close to A's output the lowest index is selected (with Krum and f <= 2 the last pools leave
    one neighbour, and two mutual neighbours tie); of values equally far from the median the smaller is kept. Rows with
    a NaN or infinite entry are selected after all finite ones. Variants in circulation: LPD's native code (AggregaThor,
    Garfield) has theta = n-2f-2, but what it selects in step k is the mean of the n-f-2-k best rows, and neighbours are
    never refreshed: neither is an option here. CRYPTO-KU's selects once instead of recursively, and takes a trimmed
    mean. Weights: 1/theta for each selected row, its share of the selection.

    >>> import numpy as np
    >>> rule = bulyan(n=7, f=1)
    >>> rows = np.array([[0], [1], [2], [3], [4], [5], [1e30]], np.float32)
    >>> aggregate, _, info = rule.apply(rows, rule.init(1))
    >>> aggregate.tolist(), (info.weights > 0).tolist()
    ([2.0], [True, True, True, True, True, False, False])
    """
    choice("bulyan", "theta", theta, get_args(Theta))
    require("bulyan", n, f, factor=4, offset=3, unproven=unproven, least=1 if theta == "n-2f" else 3)
    choice("bulyan", "median", median, get_args(Median))
    chosen = {"name": base} if isinstance(base, str) else dict(base)
    name = chosen.pop("name", None)
    if name is None:
        raise ValueError(f"bulyan needs the name of its base, such as base={{'name': 'krum'}}, got {base!r}")
    if name == "bulyan":
        raise ValueError("bulyan cannot be its own base; choose one of the other rules, for instance base='krum'")
    rule_for = partial(aggregators.build, name, f=f, **chosen)
    count = n - 2 * f if theta == "n-2f" else n - 2 * f - 2
    if name == "krum":
        # the options are checked; without Byzantine rows n may be below what krum asks for
        rule_for(max(n, 2 * f + 3))
        options: dict[str, Any] = {key: value for key, value in chosen.items() if key != "unproven"}
        select, may_give_up = krum_selection(n, f, **options), False
    else:
        may_give_up = rule_for(n).limited
        select = selection_by(name, rule_for, n, f, count)

    def aggregate(rows: Array) -> tuple[Array, Info]:
        begin, next_row = select(rows)

        def move(k: Array, state: tuple[Array, Array, Array, Any]) -> tuple[Array, Array, Array, Any]:
            order, alive, undecided, own = state
            row, no_answer, own = next_row(own, alive, k)
            return order.at[k].set(row), alive.at[row].set(False), undecided | no_answer, own

        start = jnp.zeros(count, jnp.int32), jnp.ones(n, bool), jnp.asarray(False), begin
        order, alive, undecided, _ = lax.fori_loop(0, count, move, start)
        weights = (~alive).astype(rows.dtype) / count
        result = mean_around_median(rows[order], 2 * f, median)
        if not may_give_up:
            return result, Info(weights)
        return jnp.where(undecided, jnp.nan, result), Info(weights, undecided=undecided)

    rule = stateless(n, aggregate)
    return limited("bulyan", rule) if may_give_up else rule


def krum_selection(n: int, f: int, distance: Distance = "squared", neighbours: Neighbours = "n-f-2"):
    """Krum as the base: the winner itself, from distances that are computed and sorted once. O(n² d + n³)."""

    def prepare(rows: Array) -> tuple[Nearest, NextRow]:
        squared, finite, _ = pairwise(rows)

        def next_row(near: Nearest, alive: Array, k: Array) -> tuple[Array, Array, Nearest]:
            row = first_least(sums(near), eligible(alive, finite)).astype(jnp.int32)
            return row, jnp.asarray(False), without(near, row, neighbours_of(n - k - 1, f, neighbours))

        return nearest(powered(squared, distance), neighbours_of(n, f, neighbours)), next_row

    return prepare


def selection_by(base: str, rule_for: Callable[[int], Aggregator], n: int, f: int, count: int):
    """Any rule as the base: the remaining row closest to what the rule makes of the remaining rows."""
    rules = [rule_for(n)]
    among = rules[0].among
    if among is None:
        rules = [pool_rule(base, rule_for, n, n - k, n - count + 1) for k in range(count)]

    def prepare(rows: Array) -> tuple[tuple[()], NextRow]:
        finite = jnp.all(jnp.isfinite(rows), axis=1)
        aggregate_alive = among(rows) if among is not None else None

        def gathered(size: int, rule: Aggregator) -> Callable[[Array], Array]:
            def aggregate(alive: Array) -> Array:
                pool = rows[jnp.flatnonzero(alive, size=size)]
                return rule.apply(pool, rule.init(rows.shape[1]))[0]

            return aggregate

        pools = [gathered(n - k, rule) for k, rule in enumerate(rules)]

        def next_row(own: tuple[()], alive: Array, k: Array) -> tuple[Array, Array, tuple[()]]:
            output = lax.switch(k, pools, alive) if aggregate_alive is None else aggregate_alive(alive)
            row = first_smallest(distances_to(rows, output), eligible(alive, finite)).astype(jnp.int32)
            # more than f rows of NaN are no fault of the search
            return row, jnp.isnan(output).any() & (jnp.sum(alive & ~finite) <= f), own

        return (), next_row

    return prepare


def pool_rule(base: str, rule_for: Callable[[int], Aggregator], n: int, size: int, last: int) -> Aggregator:
    """The base rule for a pool of `size` of n rows, `last` being the fewest; a refusal is one of Bulyan's condition."""
    try:
        return rule_for(size)
    except ValueError as error:
        raise ValueError(
            f"bulyan with n={n} asks its base for pools of {n} down to {last} rows; {base} refuses one of {size} rows: "
            f"{error}. Give {base} an `among` that accepts them, or choose another base"
        ) from error
