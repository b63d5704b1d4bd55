"""Bulyan (El Mhamdi et al. 2018): a selection by another rule, then a mean around the median of each coordinate."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, Protocol

import jax.numpy as jnp
from jax import lax

from byzax import aggregators
from byzax.aggregators.base import (
    NEVER,
    Aggregator,
    Array,
    Info,
    check_array,
    in_exchanges,
    limited,
    require,
)
from byzax.aggregators.kernels.choosing import eligible, first_of_least_sum, first_smallest
from byzax.aggregators.kernels.columns import Median, mean_around_median
from byzax.aggregators.kernels.distances import (
    SortedNeighbours,
    neighbour_sums,
    remove_row,
    sort_neighbours,
    squared_distances_to,
)
from byzax.aggregators.kernels.measures import distances_between
from byzax.aggregators.kernels.scores import Distance, Neighbours, neighbour_count, score_summands
from byzax.aggregators.kernels.sharding import Steps
from byzax.aggregators.krum import krum
from byzax.options import Nested, OptionError, PartError, checked


class NextRow(Protocol):
    """One step of a selection.

    Args:
        state: State of the selection.
        alive: `[n]`, the rows that remain.
        k: Number of rows selected before.

    Returns:
        The index of the row selected, whether the base rule gave no answer, and the new state.
    """

    def __call__(self, state: Any, alive: Array, k: Array, /) -> tuple[Array, Array, Any]: ...


# from the rows [n, d] the state before the first step, and the step
Selection = Callable[[Array], Steps[tuple[Any, NextRow]]]


@checked
def bulyan(
    n: int,
    f: int,
    *,
    base: Nested = "krum",
    median: Median = "lower",
    theta: Literal["n-2f", "n-2f-2"] = "n-2f",
    unproven: bool = False,
) -> Aggregator:
    """The mean of the selected values closest to their median, coordinate by coordinate, `[n, d] -> [d]`.

        selection: theta = n-2f times, the remaining row closest to A(remaining rows), which is then removed
        F[c] = mean of the beta = theta-2f values of coordinate c of the selection that are closest to their median

    Condition: n >= 4f + 3
    Cost: O(n² d) with Krum, else theta times the cost of the base rule

    Rows with a NaN or infinite entry are selected after all finite ones. Ties: of rows equally close to A's output the
    lowest index is selected (with Krum and f <= 2 the last pools leave one neighbour, and two mutual neighbours tie);
    of values equally far from the median the smaller is kept.

    Variants in circulation: LPD's native code (AggregaThor, Garfield) has theta = n-2f-2, but what it selects in step k
    is the mean of the n-f-2-k best rows, and neighbours are never refreshed: neither is an option here. CRYPTO-KU's
    selects once instead of recursively, and takes a trimmed mean.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        base: The rule A: a name, `"file.py:name"`, the function of a rule, or a mapping whose `name` is one of these
            and whose other keys are options, such as {"name": "krum", "distance": "plain"}; any but bulyan. Its f stays
            the same while the pool shrinks from n to 2f + 1 rows. Krum is computed again on each pool; where it would
            have less than one neighbour, it uses one.
        median: The median of an even number of values. The paper's is one of the values (`lower`); `mid` is the mean of
            the two middle ones.
        theta: Number of rows selected. `n-2f` is the paper's; with `n-2f-2` beta = n-4f-2, at least 1 under the same
            condition, and the last pool holds 2f + 3 rows, enough for Krum.
        unproven: Whether n >= 4f + 1 suffices, from which on a value is left to average (codes that check nothing, such
            as FLPoison's); with theta n-2f-2 it changes nothing.

    Returns:
        The rule. Weights: 1/theta for each selected row, its share of the selection. Its `apply` raises RuntimeError
        where the base is brute and its effort does not suffice.

    Raises:
        PartError: For f < 0, n < 4f + 3 (4f + 1 with unproven), an unknown base, or a base that refuses one of the
            pools.
        OptionError: For a base that is bulyan, has no name or refuses its options, or a median or theta that is none of
            those named.

    Example:
        >>> import numpy as np
        >>> rule = bulyan(n=7, f=1)
        >>> rows = np.array([[0], [1], [2], [3], [4], [5], [1e30]], np.float32)
        >>> aggregate, _, info = rule.apply(rows, rule.init(1))
        >>> aggregate.tolist(), (info.weights > 0).tolist()
        ([2.0], [True, True, True, True, True, False, False])

    References:
        El Mhamdi et al., ICML 2018, "The Hidden Vulnerability of Distributed Learning in Byzantium"
    """
    required = require("bulyan", n, f, factor=4, offset=3, unproven=unproven, least=1 if theta == "n-2f" else 3)
    chosen = dict(base) if isinstance(base, Mapping) else {"name": base}
    reference = chosen.pop("name", None)
    if reference is None:
        raise OptionError("base", f"must have a name, such as base={{'name': 'krum'}}, got {base!r}")
    function = aggregators.factory(reference)
    if function is bulyan:
        raise OptionError("base", "must be another rule: bulyan cannot be its own base, take for instance krum")
    build_rule = partial(aggregators.build, reference, f=f, **chosen)
    fewer = 0 if theta == "n-2f" else 2
    count = n - 2 * f - fewer
    if function is krum and "pre" not in chosen:
        # the options are checked; without Byzantine rows n may be below what krum asks for
        build_rule(max(n, 2 * f + 3))
        options: dict[str, Any] = {key: value for key, value in chosen.items() if key != "unproven"}
        select, least_rows, may_give_up = _build_krum_selection(n, f, **options), required, False
    else:
        name = reference if isinstance(reference, str) else getattr(reference, "__name__", repr(reference))
        whole = build_rule(n)
        select, may_give_up = _build_rule_selection(name, build_rule, n, f, count), whole.limited

        def least_rows_of_pools(f: int) -> int:
            needed = whole.least_rows(f)
            if whole.among is not None:
                return max(required(f), needed)
            # the base is built for the last pool too, whatever n is
            return required(f) if needed <= 2 * f + fewer + 1 else NEVER

        least_rows = least_rows_of_pools

    def steps(rows: Array) -> Steps[tuple[Array, Info]]:
        begin, next_row = yield from select(rows)

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

    rule = in_exchanges(n, steps, 1, least_rows=least_rows)
    if function is not krum or "pre" in chosen:
        # an exchange for each row selected, and those of the base for each pool
        rule = rule._replace(sharded=None)
    return limited("bulyan", rule) if may_give_up else rule


def _build_krum_selection(
    n: int, f: int, distance: Distance = "squared", neighbours: Neighbours = "n-f-2"
) -> Selection:
    """Krum as the base: the winner itself, from distances that are computed and sorted once. O(n² d + n³).

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        distance: As in `krum`.
        neighbours: As in `krum`.

    Returns:
        The selection.
    """

    def prepare(rows: Array) -> Steps[tuple[SortedNeighbours, NextRow]]:
        squared, finite, _ = yield distances_between(rows)

        def next_row(near: SortedNeighbours, alive: Array, k: Array) -> tuple[Array, Array, SortedNeighbours]:
            row = first_of_least_sum(neighbour_sums(near), eligible(alive, finite)).astype(jnp.int32)
            return row, jnp.asarray(False), remove_row(near, row, neighbour_count(n - k - 1, f, neighbours))

        return sort_neighbours(score_summands(squared, distance), neighbour_count(n, f, neighbours)), next_row

    return prepare


def _build_rule_selection(name: str, build_rule: Callable[[int], Aggregator], n: int, f: int, count: int) -> Selection:
    """Any rule as the base: the remaining row closest to what the rule makes of the remaining rows.

    Args:
        name: Name of the base, for messages.
        build_rule: Builds the base for a number of rows.
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        count: Number of rows selected.

    Returns:
        The selection.

    Raises:
        PartError: Where the base refuses one of the pools.
    """
    rules = [build_rule(n)]
    among = rules[0].among
    if among is None:
        rules = [_build_for_pool(name, build_rule, n, n - k, n - count + 1) for k in range(count)]

    def prepare(rows: Array) -> Steps[tuple[tuple[()], NextRow]]:
        yield from ()
        finite = jnp.all(jnp.isfinite(rows), axis=1)
        aggregate_alive = among(rows) if among is not None else None

        def build_aggregate(size: int, rule: Aggregator) -> Callable[[Array], Array]:
            def aggregate(alive: Array) -> Array:
                pool = rows[jnp.flatnonzero(alive, size=size)]
                return rule.apply(pool, rule.init(rows.shape[1]))[0]

            return aggregate

        pools = [build_aggregate(n - k, rule) for k, rule in enumerate(rules)]

        def next_row(own: tuple[()], alive: Array, k: Array) -> tuple[Array, Array, tuple[()]]:
            output = lax.switch(k, pools, alive) if aggregate_alive is None else aggregate_alive(alive)
            check_array("an aggregate [d]", output, rows.shape[1:], among or rules[0].apply)
            row = first_smallest(squared_distances_to(rows, output), eligible(alive, finite)).astype(jnp.int32)
            # with more than f rows of NaN it is not the search that failed
            return row, jnp.isnan(output).any() & (jnp.sum(alive & ~finite) <= f), own

        return (), next_row

    return prepare


def _build_for_pool(name: str, build_rule: Callable[[int], Aggregator], n: int, size: int, last: int) -> Aggregator:
    """The base rule for one of the pools.

    Args:
        name: Name of the base, for messages.
        build_rule: Builds the base for a number of rows.
        n: Number of rows of the first pool.
        size: Number of rows of this one.
        last: Number of rows of the last one.

    Raises:
        PartError: Where the base refuses it.
    """
    try:
        return build_rule(size)
    except ValueError as error:
        raise PartError(
            f"bulyan with n={n} asks its base for pools of {n} down to {last} rows; {name} refuses one of {size} rows: "
            f"{error}. Give {name} an `among` that accepts them, or choose another base"
        ) from error
