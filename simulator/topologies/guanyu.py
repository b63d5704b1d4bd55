"""GuanYu: servers of which some are Byzantine, each with a model of its own, agree by medians."""

from typing import Annotated

from pydantic import Field

from byzax.options import NestedAttack, checked
from byzax.simulator.replica_steps import Replicas
from byzax.simulator.replicas import build_replicated, check_quorum
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.topologies.base import Topology


@checked
def guanyu(
    n: int,
    f: int,
    *,
    servers: Annotated[int, Field(ge=1)] = 6,
    byzantine_servers: Annotated[int, Field(ge=0)] = 1,
    server_attack: NestedAttack = "random_model",
    quorum_servers: Annotated[int, Field(ge=1)] | None = None,
    quorum_workers: Annotated[int, Field(ge=1)] | None = None,
    unproven: bool = False,
) -> Topology:
    """Several servers with models of their own, some Byzantine: all nodes go on by the first messages that they get.

    Sends: every server its model to all workers and servers, every worker a row to all servers
    Rule: over the first rows at each server; the median over the first models at each node

    In each round a worker takes the coordinate-wise median of the first models that arrive and computes a row there;
    a server takes the rule over the first rows that arrive and the step of its optimizer; then each server takes the
    median of the first models of servers that arrive, of which its own is one that it has at once. Who is first is
    another set at every node, by the latencies of all links. Byzantine servers compute by the protocol; what honest
    nodes receive of them is forged for each receiver apart.

    Evaluations are means over the honest servers, with the accuracy of the worst of them, and their consensus distance.

    Args:
        n: Number of workers; at least 3f + 3.
        f: Number of Byzantine workers among them.
        servers: Number of servers; at least 3 byzantine_servers + 3.
        byzantine_servers: Number of Byzantine servers among them, the first ones.
        server_attack: Their attack, which sees the models that a receiver gets as their ways from its own.
        quorum_servers: Number of models that a node waits for, 2 byzantine_servers + 3 to servers -
            byzantine_servers. None: servers - byzantine_servers.
        quorum_workers: Number of rows that a server waits for, 2f + 3 to n - f. None: n - f.
        unproven: Whether any numbers of servers and workers, and any quorums, are allowed. Without an honest server
            evaluations are means over the models of honest workers.

    Returns:
        The topology.

    Raises:
        OptionError: For a number of servers or a quorum that does not fit.
        PartError: For an impossible n and f.

    References:
        El Mhamdi, Guerraoui, Guirguis, Rouault 2019, "SGD: Decentralized Byzantine Resilience" (GuanYu)
    """
    check_workers("guanyu", n, f)
    models = check_quorum("servers", servers, byzantine_servers, quorum_servers, unproven=unproven, more=3)
    rows = check_quorum("workers", n, f, quorum_workers, unproven=unproven, more=3)
    return build_replicated(n, f, Replicas(servers, byzantine_servers, models, rows, every=1), server_attack)
