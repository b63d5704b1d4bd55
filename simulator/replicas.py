"""Servers with models of their own, of which some may be Byzantine, and workers that hear several of them."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from byzax.attacks.base import nested
from byzax.options import Nested, OptionError, PartError
from byzax.simulator.config.part import Choice, Part
from byzax.simulator.config.rates import RatePart
from byzax.simulator.config.run import Run
from byzax.simulator.core import build_agreement
from byzax.simulator.diagnostics import Diagnostics, build_evaluate_models
from byzax.simulator.events import Network, NewStates, OfEvents, States
from byzax.simulator.outages import check_servers
from byzax.simulator.periodic import by_step, check_in_step, mean_of_counted, periodic_network
from byzax.simulator.pulls import build_pulls, check_pulls, start_pulls
from byzax.simulator.receivers import build_receivers, nodes_arrays, received_rows
from byzax.simulator.replica_steps import GATHER, PULL, SHOW, UPDATE, Replicas, Trainee, build_steps, forging_step
from byzax.simulator.round_table import WORK, Message, RoundEvent, before
from byzax.simulator.rounds import Rounds, RoundStep
from byzax.simulator.server import Server, public_state
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.world import World

# The rule by which nodes agree.
MEDIAN: Part = Choice("rule").validate("median")


def check_quorum(what: str, n: int, f: int, quorum: int | None, more: int, unproven: bool = False) -> int:
    """The number of messages that a node waits for, of n senders of which f may be Byzantine.

    Args:
        what: The senders, "servers" or "workers", for messages.
        n: Their number.
        f: Number of Byzantine ones among them.
        quorum: The number asked for; None for n - f.
        more: n must be at least 3f + more, and the number at least 2f + more.
        unproven: Whether any n and any number from 1 to n will do.

    Returns:
        The number.

    Raises:
        OptionError: For servers, or a number, that do not fit.
        PartError: For workers that do not fit.
    """
    if unproven:
        if f > n:
            raise OptionError(f"byzantine_{what}", f"is {f}, and there are {n} {what}")
        if quorum is not None and quorum > n:
            raise OptionError(f"quorum_{what}", f"is {quorum}, and there are {n} {what}")
        return max(n - f, 1) if quorum is None else quorum
    if n < 3 * f + more:
        byzantine = "byzantine_servers" if what == "servers" else "f"
        needed = f"must be at least 3 {byzantine} + {more} = {3 * f + more} with {byzantine}={f}, got {n}"
        if what == "servers":
            raise OptionError("servers", f"{needed}: take more servers, fewer Byzantine ones, or unproven true")
        raise PartError(f"n {needed}: take more workers, fewer Byzantine ones, or topology.unproven true")
    if quorum is None:
        return n - f
    if not 2 * f + more <= quorum <= n - f:
        raise OptionError(f"quorum_{what}", f"must be {2 * f + more} to {n - f} with {n} {what}, got {quorum}")
    return quorum


def build_replicated(n: int, f: int, replicas: Replicas, attack: Nested) -> Topology:
    """Builds a topology of servers with models of their own.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        replicas: The servers.
        attack: The attack of Byzantine servers.

    Returns:
        The topology.

    Raises:
        OptionError: For an attack that forges no models.
    """
    _check_attack(attack, replicas)
    everyone, all_servers = (tuple(range(count)) for count in (n, replicas.servers))
    of_servers = (all_servers,) * replicas.servers
    steps = (
        RoundStep(WORK, "worker", ((),) * n, works=True),
        RoundStep(UPDATE, "server", (everyone,) * replicas.servers, WORK, replicas.rows),
        RoundStep(GATHER, "server", of_servers, UPDATE, replicas.models, every=replicas.every),
        RoundStep(PULL, "worker", (all_servers,) * n, GATHER, replicas.models),
    )
    return Topology(
        build=lambda parts: _network(parts, replicas),
        check=lambda run: _check(run, replicas),
        inboxes=(replicas.rows,),
        declared=lambda rows: f,
        rounds=None if replicas.pulling else lambda run: Rounds(steps, GATHER, replicas.measured),
        pulls=None if replicas.pulling is None else lambda updates: n * (updates - updates // replicas.every),
        wire=() if replicas.pulling else ("up", "down", "peer"),
    )


def _check_attack(attack: Nested, replicas: Replicas) -> None:
    if not replicas.byzantine:
        return
    label, make = nested("server_attack", attack)
    made = make(replicas.servers, replicas.byzantine)
    if made.forge is None and label != "none":
        raise OptionError("server_attack", f"{label} forges no models: take random_model")
    if "loss" in made.needs:
        raise OptionError("server_attack", f"{label} measures losses on data, and servers have none: take little")


def _check(run: Run, replicas: Replicas) -> None:
    check_servers(run, replicas.servers)
    if run.regularisation.max_norm is not None:
        # medians of bounded models are not bounded
        raise PartError(f"{run.topology.label}: bounds no model: leave regularisation.max_norm out")
    if not replicas.honest and run.workers.byzantine.count == run.workers.total:
        raise PartError(
            f"{run.topology.label}: without an honest server the models of the honest workers are measured: leave one "
            "of them honest"
        )
    if not replicas.honest and run.clock == "wall":
        raise PartError(
            f"{run.topology.label}: without an honest server the models of workers are measured, which are not all in "
            "the same round of a race: take clock virtual, or leave one server honest"
        )
    if replicas.pulling is None:
        check_in_step(run, may_lose=True)
    else:
        check_pulls(run)


def _network(parts: NetworkParts, replicas: Replicas) -> Network:
    n, here = len(parts.world.sizes), parts.world
    core, honest, how, run = parts.core_of(replicas.rows), replicas.honest, replicas.pulling, parts.run
    byzantine_workers = np.asarray(here.byzantine_rank) >= 0
    everyone, servers = np.arange(n), range(replicas.servers)
    # Byzantine nodes compute by the protocol
    receivers = build_receivers(
        parts, [everyone] * replicas.servers, quorum=replicas.rows, spared=range(replicas.byzantine)
    )
    attack: Part = getattr(run.topology, "server_attack")  # noqa: B009
    agreement = build_agreement(
        run.replace(seed=0), MEDIAN, attack, replicas.servers, replicas.byzantine, replicas.models
    )
    forges = agreement.forge is not None
    misled = {
        GATHER: honest if forges else (),
        PULL: tuple(np.flatnonzero(~byzantine_workers).tolist()) if forges else (),
    }

    def models_for(step: str, receiver: int) -> list[Message]:
        sent = UPDATE if step == GATHER else GATHER
        return [
            Message(forging_step(step), receiver, server)
            if receiver in misled[step] and server < replicas.byzantine
            else Message(sent, server)
            for server in servers
        ]

    def forgeries(step: str) -> list[RoundEvent]:
        sent, shown = (UPDATE, SHOW) if step == GATHER else (GATHER, PULL)
        return [
            RoundEvent(
                forging_step(step), receiver, [*(Message(sent, server) for server in servers), before(shown, receiver)]
            )
            for receiver in misled[step]
        ]

    def start(here: World) -> NewStates:
        server = core.start(here)
        states = receivers.start(here, len(server.params))
        memories = [None] * n if how is None else start_pulls(how, len(server.params), run.seed)
        states |= {("worker", i): Trainee(server.params, states["worker", i], memories[i]) for i in range(n)}
        states |= {("server", i): server for i in servers}
        liar = agreement.init_adversary(len(server.params))
        return states | {
            (forging_step(step), i): liar for step, those in misled.items() for i in range(max(those, default=-1) + 1)
        }

    # without an honest server what honest workers have of them
    measured = [("server", i) for i in honest] or [("worker", i) for i in np.flatnonzero(~byzantine_workers).tolist()]

    def models(states: States) -> jax.Array:
        return jnp.stack([states[node].params for node in measured])

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        made = by_step(arrays)
        computed, d = nodes_arrays(made[WORK], n), made[WORK][0][1].shape[0]
        aggregates = nodes_arrays([each[:2] for each in made[UPDATE]], replicas.servers)
        received = received_rows([(each[0], *each[2:]) for each in made[UPDATE]], replicas.servers, n, d)
        return {
            "workers": everyone,
            "rows": computed,
            "byzantine": byzantine_workers,
            "forged": received,
            "aggregate": aggregates,
            "params": jnp.stack([states["server", i].params for i in servers]),
        }

    # a constant rate does not depend on the length of the run
    updates = run.steps if isinstance(run.optimizer.options().get("learning_rate"), RatePart) else 0
    pulls = None if how is None else build_pulls(core.work, run.optimizer, updates, how)
    steps = build_steps(core, receivers.update, agreement, replicas, pulls)
    network = periodic_network(
        (steps[0], receivers.forge, *steps[1:]),
        [
            *(RoundEvent(WORK, i) for i in range(n)),
            *receivers.forgeries(lambda server: before(SHOW, server)),
            *(RoundEvent(UPDATE, i, receivers.rows(i)) for i in servers),
            *forgeries(GATHER),
            *(RoundEvent(GATHER, i, models_for(GATHER, i)) for i in servers),
            *forgeries(PULL),
            *(RoundEvent(PULL, i, models_for(PULL, i)) for i in range(n)),
            *(RoundEvent(SHOW, i) for i in servers),
        ],
        parts.timeline,
        start=start,
        show=_show,
        measure=_measure,
        arrays=put_together,
        evaluate=lambda here, states: build_evaluate_models(core.evaluate)(here, models(states)),
        params=lambda states: models(states).mean(axis=0),
        judged=("server",) if honest and pulls is None else ("server", "worker"),
        byzantine={"server": range(replicas.byzantine)},
    )
    return network if pulls is None else network._replace(count_pulls=partial(_count_pulls, n))


def _count_pulls(n: int, states: States) -> np.ndarray:
    return np.stack([np.asarray(states["worker", i].pulls.pulled) for i in range(n)], axis=1)


def _show(state: Server | Trainee) -> Any:
    return state.params if isinstance(state, Trainee) else public_state(state)


def _measure(seen: OfEvents, happened: jax.Array | None = None) -> tuple[Diagnostics, Any]:
    return mean_of_counted(seen, UPDATE, happened)
