"""Traces of networks: their events are checked and carried out without numbers, where there is more than one server."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator import event_contract
from byzax.simulator.config.part import Part
from byzax.simulator.config.study import Task
from byzax.simulator.contracts import ContractError, location, require, type_name
from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Diagnostics, Evaluation
from byzax.simulator.events import EventResult, Network, Node, inbox_of, iterate_events
from byzax.simulator.executors.base import Prepared, network_of
from byzax.simulator.executors.programs import Program
from byzax.simulator.executors.waves import held_rows
from byzax.simulator.parts import topology
from byzax.simulator.validation.tracing import is_array, require_same_state, tracing
from byzax.simulator.world import World

# Updates whose events are looked at: the second one reads messages of the first.
LOOKED_AT = 2
States = dict[Node, Any]


def trace_network(task: Task, prepared: Prepared) -> None:
    """Checks the table of a network, and traces its steps, measurements and evaluation.

    Args:
        task: The task, of one seed.
        prepared: The run.

    Raises:
        ContractError: Names the event that cannot happen, or the function that fails, and its file and line.
        ValueError: Where the executor cannot carry the network out.
    """
    run, part, structure = task.run, task.run.topology, topology(task.run)
    sizes = structure.inboxes or (run.workers.total,)

    def core_of(rows: int) -> Core:
        message = f"{part.label}: core_of is asked for {rows} rows, and inboxes declares {sizes}: give Topology inboxes"
        require(rows in sizes, f"{message} with {rows}{location(part, structure.build)}")
        return prepared.core_of(rows)

    network, here = network_of(run, prepared._replace(core_of=core_of))
    byzantine, looked_at = np.asarray(here.byzantine_rank) >= 0, min(LOOKED_AT, prepared.timeline.steps)
    try:
        event_contract.check(network, looked_at, lambda update: byzantine)
    except ValueError as error:
        raise ContractError(f"{part.label}: {error}{location(part, structure.build)}") from error
    states = _started(part, network, here)
    d = _evaluated(part, network, here, states)
    for update in range(looked_at):
        seen = _carried_out(part, network, here, states, update, d)
        _measured(part, network, seen, run.workers.total)
    if task.executor.name == "vectorised":
        Program(network, prepared.timeline, held_rows(network.steps, prepared.timeline, run.workers.total))


def _started(part: Part, network: Network, here: World) -> States:
    with tracing(part, "start"):
        states = jax.eval_shape(network.start, here)
    for kind, count in network.nodes.items():
        for i in range(count):
            first, place = states.get((kind, 0)), location(part, network.start)
            missing = (
                f"{part.label}: start gives no state of {kind} {i}, of {count} nodes of this kind that have events"
            )
            require((kind, i) in states, f"{missing}{place}")
            unlike = f"{part.label}: start gives {kind} 0 and {kind} {i} states of unlike shapes"
            require(type_name(states[kind, i]) == type_name(first), f"{unlike}: take two kinds of node{place}")
    return states


def _carried_out(
    part: Part, network: Network, here: World, states: States, update: int, d: int
) -> list[tuple[str, Any]]:
    """The measurements of an update, traced: one event of each step and kind of inbox."""
    table = network.table.events(update, update + 1)
    shown = {number: node for number, (node, _) in network.table.kept(update).items()}
    with tracing(part, "show"):
        live = {number: jax.eval_shape(network.show, states[node]) for number, node in shown.items()}
    coming = network.table.kept(update + 1)
    events = [*iterate_events(table)]
    traced: dict[Any, EventResult] = {}
    found = []
    for e in range(len(table.step)):
        step, number = network.steps[table.step[e]], table.begin + e
        node = step.kind, int(table.node[e])
        messages = [
            live[source] if port < 0 else jax.ShapeDtypeStruct(live[source].shape[1:], live[source].dtype)
            for source, port in inbox_of(table, e)
        ]
        what = f"event {number}, {step.name} of {step.kind} {node[1]},"
        require(node in states, f"{part.label}: {what} is of a node that nodes does not count")
        kind = step.name, tuple(map(type_name, messages))
        if kind not in traced:

            def carry_out(here: World, turn: Any, state: Any, messages: list[Any], step: Any = step, e: int = e) -> Any:
                event = events[e]
                if step.together is not None:
                    # as compiled loops know them
                    event = event._replace(node=turn + (event.node - turn), turn=turn)
                return step.run(here, event, state, messages)

            with tracing(part, what):
                result = jax.eval_shape(carry_out, here, jnp.int32(update), states[node], messages)
            place = location(part, step.carry_out)
            require(
                isinstance(result, EventResult),
                f"{part.label}: {what} must give an EventResult, got {type_name(result)}{place}",
            )
            require_same_state(part, what, states[node], result.state, step.carry_out)
            traced[kind] = result
        message = live[number] = traced[kind].message
        if number in coming:
            with tracing(part, "show"):
                later = jax.eval_shape(network.show, states[node])
            wrong = f"sends {type_name(message)}, and show gives {type_name(later)} for it in the next update"
            require(
                type_name(message) == type_name(later), f"{part.label}: {what} {wrong}{location(part, network.show)}"
            )
        elif table.last[e] > number:
            shape = (None, d) if step.forges else (None,)
            wanted = f"rows [k, d] of d={d}" if step.forges else "a vector"
            wrong = f"must send {wanted}, got {type_name(message)}"
            require(is_array(message, shape), f"{part.label}: {what} {wrong}{location(part, step.carry_out)}")
        found.append((step.name, traced[kind].seen))
    return found


def _measured(part: Part, network: Network, seen: list[tuple[str, Any]], n: int) -> None:
    names = [name for name, _ in seen]
    with tracing(part, "measure"):
        given = jax.eval_shape(
            lambda found: network.measure([*zip(names, found, strict=True)]), [found for _, found in seen]
        )
    fits = (
        isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Diagnostics) and is_array(given[1], (n,))
    )
    wanted = f"measure must give Diagnostics and weights [{n}]"
    require(fits, f"{part.label}: {wanted}, got {type_name(given)}{location(part, network.measure)}")


def _evaluated(part: Part, network: Network, here: World, states: States) -> int:
    """The number of parameters."""
    with tracing(part, "evaluate"):
        evaluation = jax.eval_shape(network.evaluate, here, states)
    require(
        isinstance(evaluation, Evaluation),
        f"{part.label}: evaluate must give an Evaluation, got {type_name(evaluation)}"
        f"{location(part, network.evaluate)}",
    )
    with tracing(part, "params"):
        params = jax.eval_shape(network.params, states)
    require(
        is_array(params, (None,)),
        f"{part.label}: params must give one model [d], got {type_name(params)}{location(part, network.params)}",
    )
    return params.shape[0]
