"""Processes that train together without a server: each has the model and the optimizer, and all take the same step."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from byzax.options import PartError
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import build
from byzax.simulator.events import States
from byzax.simulator.exchanges import AllReduce
from byzax.simulator.periodic import check_in_step
from byzax.simulator.round_table import WORK
from byzax.simulator.rounds import Rounds, RoundStep
from byzax.simulator.wire import part_shares
from byzax.simulator.world import byzantine_ranks

# The steps of a round beside the job and the exchanges: a process contributes its row, and in the end it makes the step
# of the optimizer.
CONTRIBUTE, UPDATE = "contribute", "update"


def exchange_name(number: int) -> str:
    """The step with which an exchange ends, counted from 1; number 0 is the step before the first one."""
    return f"exchange {number}" if number else CONTRIBUTE


def check_processes(run: Run) -> None:
    """Checks that a run can be one of processes that all wait for each other.

    Args:
        run: The run.

    Raises:
        PartError: Says which key to change, and how.
    """
    refused = [
        (run.latency.mishaps, "waits for everybody, and a lost message or a dead process would stop it: leave "
         "latency.loss, latency.crashes and latency.outages out, or take topology guanyu or gossip"),
        (run.workers.byzantine.count == run.workers.total, "what is measured are the honest processes: leave one of "
         "them honest"),
    ]  # fmt: skip
    for wrong, words in refused:
        if wrong:
            raise PartError(f"{run.topology.label}: {words}")
    check_in_step(run)


def check_one_row(run: Run) -> None:
    """Checks that no attack of a run makes rows for receivers apart.

    Args:
        run: The run.

    Raises:
        PartError: Names the attack, and the way out.
    """
    for _, part, first, end in run.attacks:
        if build(part, run.workers.total, end - first).by_receiver:
            raise PartError(
                f"{run.topology.label}: {part.label} tells receivers apart, and a process has one row for all: take "
                "topology all_gather, or an attack that makes one row for all, such as little"
            )


def rounds_of(run: Run, made: AllReduce) -> Rounds:
    """The rounds of a run in which an all-reduce is carried out.

    Args:
        run: The run.
        made: The all-reduce.

    Returns:
        The steps: the job, the contribution, the end of each exchange, and the step of the optimizer.
    """
    n = run.workers.total
    sizes, nobody = part_shares(run, "peer") or (1.0,), ((),) * n

    def step(number: int) -> RoundStep:
        exchange = made.exchanges[number - 1]
        senders = {each.receiver: each.sender for each in exchange}
        size = {each.sender: float(sizes[each.chunk]) for each in exchange}
        return RoundStep(
            exchange_name(number),
            "worker",
            tuple((senders[p],) if p in senders else () for p in range(n)),
            # who gathers sends on nothing that came from others
            CONTRIBUTE if made.gathers else exchange_name(number - 1),
            size=tuple(size.get(p, 0.0) for p in range(n)),
        )

    return Rounds(
        (
            RoundStep(WORK, "worker", nobody, works=True),
            RoundStep(CONTRIBUTE, "worker", nobody),
            *map(step, range(1, len(made.exchanges) + 1)),
            RoundStep(UPDATE, "worker", nobody),
        ),
        UPDATE,
        tuple(np.flatnonzero(byzantine_ranks(run) < 0).tolist()),
        exchanges=True,
    )


def models_of(states: States, processes: Sequence[int]) -> jax.Array:
    """The models of processes.

    Args:
        states: The states of all nodes.
        processes: Some of the workers, whose states have a `server`.

    Returns:
        `[k, d]`.
    """
    return jnp.stack([states["worker", p].server.params for p in processes])


def public_of(process: Any) -> Any:
    """The public part of the state of a process: its model, optimizer and step."""
    return process.server._replace(filter=None)
