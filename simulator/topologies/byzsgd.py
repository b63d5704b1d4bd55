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

    Sends: every server its model to all workers (with `variant: synchronous` to those that ask for it, between two
        exchanges), and every `gather_every` updates to all servers; every worker a row to all servers
    Rule: over the first rows at each server; the median over the first models at each node

    As `guanyu`, but that servers exchange models, and take the median of the first that arrive, in every
    `gather_every`-th round alone; in all others each goes on with its own. With `gather_every: 1` it is GuanYu, with
    weaker conditions. The paper's rule over rows is MDA, which is `brute` here.

    In the synchronous variant all nodes hear all others, and wait for them: the rule sees n rows, and medians are over
    the models of all servers. After a round in which servers exchange none, a worker pulls the model of one server
    alone and computes its next gradient g' at it. It first asks server (r + t) mod n_s, r being drawn for each worker,
    and then one after the other, until a model w' passes two filters. With w the worker's model in the round, g its
    gradient, gamma the learning rate, and w - gamma g its own guess of the next model, which leaves momentum out,

        Lipschitz filter: |g' - g| / |gamma g| <= K, the quantile (n_s - f_s) / n_s of this number over the last
            `window` models that the worker tried
        models filter: |w' - (w - gamma g)| < |gamma g|_last ((3T + 2) (n - f) / (4f) + 2 ((t - 1) mod T)), where
            |gamma g|_last is of the first round after servers exchanged models last, and T is `gather_every`

    The first model that a worker tries passes the first filter, and without Byzantine workers (f = 0) every model
    passes the second. Numbers that are not finite never pass. All models that a worker tries in a round are tried on
    one batch, that of its next job. Where none passes the worker goes on with its own guess, and computes its next
    gradient there. A model that is refused is a message like others, and so is asking for one, without bits.

    The synchronous variant is written down from memory of the paper, and could not be checked against it: the two
    formulas, and that the first server is drawn. We chose what the paper, as we remember it, leaves open: that refused
    models count in the quantile, and count at once; that this is over a window, and not over the whole run; that the
    quantile is a value and not between two; the guess where none passes; and the round of the last exchange in the
    models filter, where we remember an index that makes no sense. In our rounds t counts from 0, and servers exchange
    models at the end of rounds T - 1, 2T - 1, ..., and not in round 0, before which they are equal. By the formula as
    we remember it the models filter is widest in the first round after an exchange, narrowest in the second, and grows
    from there.

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
        variant: `asynchronous`, in which nodes go on by quorums of the first messages, or `synchronous`, without
            quorums, in which workers pull and filter single models.
        window: Number of models that the Lipschitz filter of the synchronous variant compares with. None: 100.
        unproven: Whether any numbers of servers and workers, and any quorums, are allowed. Without an honest server
            evaluations are means over the models of honest workers.

    Returns:
        The topology.

    Raises:
        OptionError: For a number of servers or a quorum that does not fit, or one with the synchronous variant.
        PartError: For an impossible n and f.

    References:
        El Mhamdi, Guerraoui, Guirguis 2019, "Fast Machine Learning with Byzantine Workers and Servers" (LiuBei)
        El Mhamdi, Guerraoui, Guirguis, Hoang, Rouault, PODC 2020 and Distributed Computing 2022 (ByzSGD)
    """
    check_workers("byzsgd", n, f)
    if variant == "synchronous" and (quorum_servers is not None or quorum_workers is not None):
        given = "quorum_servers" if quorum_servers is not None else "quorum_workers"
        raise OptionError(given, "is for the asynchronous variant: with variant synchronous all wait for all")
    models = check_quorum("servers", servers, byzantine_servers, quorum_servers, unproven=unproven, more=2)
    rows = check_quorum("workers", n, f, quorum_workers, unproven=unproven, more=1)
    replicas = Replicas(servers, byzantine_servers, models, rows, gather_every)
    if variant == "synchronous":
        pulling = Pulling(servers, byzantine_servers, n, f, gather_every, 100 if window is None else window)
        replicas = replicas._replace(models=servers, rows=n, pulling=pulling)
    elif window is not None:
        raise OptionError("window", "is of the filters of the synchronous variant: take variant synchronous")
    return build_replicated(n, f, replicas, server_attack)
