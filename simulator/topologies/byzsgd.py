"""ByzSGD: servers of which some are Byzantine exchange their models every so many updates."""

from typing import Annotated, Literal

from pydantic import Field

from byzax.options import NestedAttack, OptionError, checked
from byzax.simulator.pulls import Pulling
from byzax.simulator.replica_steps import Replicas
from byzax.simulator.replicas import build_replicated, check_quorum
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.topologies.base import Topology


@checked
def byzsgd(
    n: int,
    f: int,
    *,
    servers: Annotated[int, Field(ge=1)] = 5,
    byzantine_servers: Annotated[int, Field(ge=0)] = 1,
    server_attack: NestedAttack = "random_model",
    quorum_servers: Annotated[int, Field(ge=1)] | None = None,
    quorum_workers: Annotated[int, Field(ge=1)] | None = None,
    gather_every: Annotated[int, Field(ge=1)] = 10,
    variant: Literal["asynchronous", "synchronous"] = "asynchronous",
    window: Annotated[int, Field(ge=1)] | None = None,
    unproven: bool = False,
) -> Topology:
    """Several servers, some Byzantine, that go on by themselves (scatter) and exchange models now and then (gather).

    Sends: every server its model to all workers, and every `gather_every` updates to all servers; every worker a row to
        all servers
    Rule: over the first rows at each server; the median over the first models at each node

    As `guanyu`, but that servers exchange models, and take the median of the first that arrive, in every
    `gather_every`-th round alone; in all others each goes on with its own. With `gather_every: 1` it is GuanYu, with
    weaker conditions. The paper's rule over rows is MDA, which is `brute` here.

    This is the asynchronous variant. Of the synchronous one, in which workers ask one server and filter its model, we
    have seen no definition complete enough to implement.

    Evaluations are means over the honest servers, with the accuracy of the worst of them, and their consensus distance.

    Args:
        n: Number of workers; at least 3f + 1.
        f: Number of Byzantine workers among them.
        servers: Number of servers; at least 3 byzantine_servers + 2.
        byzantine_servers: Number of Byzantine servers among them, the first ones.
        server_attack: Their attack, which sees the models that a receiver gets as their ways from its own.
        quorum_servers: Number of models that a node waits for, 2 byzantine_servers + 2 to servers -
            byzantine_servers. None: servers - byzantine_servers.
        quorum_workers: Number of rows that a server waits for, 2f + 1 to n - f. None: n - f.
        gather_every: Rounds from one in which servers exchange models to the next.
        unproven: Whether any numbers of servers and workers, and any quorums, are allowed. Without an honest server
            evaluations are means over the models of honest workers.

    Returns:
        The topology.

    Raises:
        OptionError: For a number of servers or a quorum that does not fit.
        PartError: For an impossible n and f.

    References:
        El Mhamdi, Guerraoui, Guirguis, Hoang, Rouault, PODC 2020 and Distributed Computing 2022 (ByzSGD)
    """
    check_workers("byzsgd", n, f)
    models = check_quorum("servers", servers, byzantine_servers, quorum_servers, unproven=unproven, more=2)
    rows = check_quorum("workers", n, f, quorum_workers, unproven=unproven, more=1)
    replicas = Replicas(servers, byzantine_servers, models, rows, gather_every)
    if variant == "synchronous":
        if quorum_servers is not None or quorum_workers is not None:
            given = "quorum_servers" if quorum_servers is not None else "quorum_workers"
            raise OptionError(given, "is for the asynchronous variant: with variant synchronous all wait for all")
        pulling = Pulling(servers, byzantine_servers, n, f, gather_every, 100 if window is None else window)
        replicas = replicas._replace(models=servers, rows=n, pulling=pulling)
    elif window is not None:
        raise OptionError("window", "is of the filters of the synchronous variant: take variant synchronous")
    return build_replicated(n, f, replicas, server_attack)
