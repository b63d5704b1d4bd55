"""Networks whose updates are all made of the same events: one update is listed, and the table of a run made of it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from byzax.options import PartError
from byzax.simulator.byzantine_timing import timing
from byzax.simulator.config.run import Run
from byzax.simulator.diagnostics import Diagnostics, Evaluation
from byzax.simulator.events import (
    MeasureUpdate,
    Network,
    NewStates,
    NodeStep,
    OfEvents,
    PutTogether,
    States,
)
from byzax.simulator.graphs.base import NodeGraph
from byzax.simulator.parts import schedule
from byzax.simulator.round_table import RoundEvent, round_table
from byzax.simulator.timeline import Timeline
from byzax.simulator.world import World


def check_in_step(run: Run, may_lose: bool = False, may_race: bool = True) -> None:
    """Checks that every update of a run has one row of every worker that can send one.

    Args:
        run: The run.
        may_lose: Whether messages may be lost, workers may die, and all nodes may race.
        may_race: With `may_lose` whether they may race.

    Raises:
        PartError: Says which key to change, and how.
    """
    waits = "all nodes wait for all others"
    refused = [
        (not schedule(run).together, f"{'quorums are options of the topology' if may_lose else waits}: take schedule "
         "synchronous with quorum all"),
        (run.clock == "wall" and not (may_lose and may_race), "has virtual time alone: take clock virtual"),
        (run.latency.mishaps and not may_lose, "nothing is lost and no node dies: leave latency.loss, latency.crashes "
         "and latency.outages out"),
        (not timing(run).in_time, "Byzantine nodes send in time: take attack.timing honest"),
        (run.workers.byzantine.per_round != "fixed", "the Byzantine nodes stay the same: leave "
         "workers.byzantine.per_round out"),
        (run.filter is not None, "has no server that judges single rows: leave filter out"),
        (run.weights != "equal", "counts rows and no samples: leave weights out"),
        (run.local is not None and run.local.control_variates, "has no server for common control variates: leave "
         "local.control_variates out"),
    ]  # fmt: skip
    for wrong, words in refused:
        if wrong:
            raise PartError(f"{run.topology.label}: {words}")


def check_peers(run: Run, name: str, graph: NodeGraph, mixes: bool) -> None:
    """Checks that a run can do without a server, on its graph.

    Args:
        run: The run.
        name: Name of the graph.
        graph: The graph.
        mixes: Whether a mixing is in the place of the rule.

    Raises:
        PartError: Says which key to change, and how.
    """
    byzantine = run.workers.byzantine
    refused = [
        (byzantine.count == run.workers.total, "what is measured are the honest nodes: leave one of them honest"),
        (graph.byzantine not in (None, byzantine.count) or (graph.byzantine is not None and byzantine.which != "first"),
         f"in the graph {name} the first {graph.byzantine} nodes are Byzantine: take workers.byzantine "
         f"{graph.byzantine}, and which first"),
        (run.weights != "equal", "weighs by the graph: leave weights out, or take topology.mixing weighted_average"),
        (run.regularisation.max_norm is not None, "has no server that bounds the model: leave "
         "regularisation.max_norm out"),
        (graph.weights is not None and not mixes, "a rule does not read the weights of edges: take topology.mixing "
         "weighted_average, or leave them out"),
        (mixes and (run.rule.name != "average" or bool(run.pre)),
         "mixing takes the place of the rule: leave rule and pre out, or mixing"),
    ]  # fmt: skip
    for wrong, words in refused:
        if wrong:
            raise PartError(f"{run.topology.label}: {words}")


def periodic_network(
    steps: Sequence[NodeStep],
    events: Sequence[RoundEvent],
    timeline: Timeline,
    *,
    start: Callable[[World], NewStates],
    show: Callable[[Any], Any],
    measure: MeasureUpdate,
    arrays: PutTogether,
    evaluate: Callable[[World, States], Evaluation],
    params: Callable[[States], jax.Array],
    judged: tuple[str, ...] = (),
    byzantine: Mapping[str, Collection[int]] = MappingProxyType({}),
) -> Network:
    """A network whose updates are all made of the same events.

    Args:
        steps: The steps.
        events: The events of one update, in an order in which they can be carried out.
        timeline: The timeline of the run.
        start: Makes the states before the first update.
        show: Makes the message that a node sent last out of its state.
        measure: Puts the measurements of an update together.
        arrays: Puts the arrays of an update together.
        evaluate: Evaluates the model, or the models.
        params: `[d]`, the model that a checkpoint keeps.
        judged: Kinds of the nodes whose states `evaluate`, `params` and `arrays` read; none for all kinds.
        byzantine: The Byzantine nodes of kinds other than "worker".

    Returns:
        The network, with the nodes that have events.

    Raises:
        ValueError: As `round_table`.
    """
    table = round_table(steps, events, timeline)
    kinds = {step.name: step.kind for step in steps}
    nodes: dict[str, int] = {}
    for event in events:
        nodes[kinds[event.step]] = max(nodes.get(kinds[event.step], 0), event.node + 1)
    return Network(tuple(steps), nodes, table, start, show, measure, arrays, evaluate, params, judged, byzantine)


def by_step(results: OfEvents) -> dict[str, list[Any]]:
    """The results of the events of an update by their steps.

    Args:
        results: As `Network.measure` and `Network.arrays` get them.

    Returns:
        For each step the results of its events, in their order.
    """
    found: dict[str, list[Any]] = {}
    for name, result in results:
        found.setdefault(name, []).append(result)
    return found


@jax.jit
def mean_measurements(seen: Sequence[tuple[Diagnostics, jax.Array]]) -> tuple[Diagnostics, jax.Array]:
    """The means of what several nodes measured in an update.

    Args:
        seen: The diagnostics of each, and the weights `[n]` that it gave to rows.

    Returns:
        The means of both.
    """
    return jax.tree.map(lambda *each: jnp.stack(each).mean(axis=0), *seen)


def mean_of_counted(seen: OfEvents, step: str, happened: jax.Array | None) -> tuple[Diagnostics, jax.Array]:
    """The means of what some of the events of a step measured in an update.

    Args:
        seen: As `Network.measure` gets it; of the events of the step the diagnostics, the weights `[n]` that its node
            gave to rows, and whether it counts.
        step: The step.
        happened: As `Network.measure` gets it.

    Returns:
        The means of both over those that count; NaN where none does, of which nothing is undecided.
    """
    mine = [i for i, (name, _) in enumerate(seen) if name == step]
    return _mean_of_counted([seen[i][1] for i in mine], None if happened is None else happened[np.array(mine)])


@jax.jit
def _mean_of_counted(
    seen: Sequence[tuple[Diagnostics, jax.Array, jax.Array]], happened: jax.Array | None
) -> tuple[Diagnostics, jax.Array]:
    counts = jnp.stack([jnp.asarray(each) for *_, each in seen])
    if happened is not None:
        counts &= happened

    def mean(*each: jax.Array) -> jax.Array:
        values = jnp.stack(each)
        which = counts.reshape(-1, *[1] * (values.ndim - 1))
        return jnp.where(which, values, 0).sum(axis=0) / counts.sum()

    diagnostics, weights = jax.tree.map(mean, *(tuple(each[:2]) for each in seen))
    return diagnostics._replace(undecided=jnp.where(counts.any(), diagnostics.undecided, 0)), weights
