"""Sharded servers: each holds a slice of the model, and they exchange what a rule measures on all coordinates."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from byzax.aggregators import Context
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.kernels.sharding import Slice, part_of_next, result_of
from byzax.options import PartError, checked
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import build, build_rule
from byzax.simulator.core import Core, SlicedUpdate, build_sliced_update
from byzax.simulator.diagnostics import Diagnostics, compare_with_honest
from byzax.simulator.events import EventResult, Network, NewStates, NodeEvent, NodeStep, OfEvents, Sending, States
from byzax.simulator.jobs import build_worker_step
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.messages import RowOf, stack_rows
from byzax.simulator.parts import f_of_rule, message_bits, rule_of
from byzax.simulator.periodic import by_step, check_in_step, periodic_network
from byzax.simulator.replica_steps import Trainee
from byzax.simulator.round_table import WORK, Message, RoundEvent, before
from byzax.simulator.rounds import Rounds, RoundStep
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.senders import Arrivals
from byzax.simulator.server import Server, public_state
from byzax.simulator.server_table import ADVERSARY
from byzax.simulator.slices import (
    Cuts,
    SeenSlice,
    cut_server,
    flatten,
    join_measurements,
    join_servers,
    takes_coordinates_alone,
    unflatten,
)
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.wire import part_shares
from byzax.simulator.world import World

Array = jax.Array

# The steps of a round after the job and the slices of its row; and the one that puts the model together, to be
# evaluated, and for attackers the states of all servers.
UPDATE, PULL, FORGE, SHOW, VIEW = "update", "pull", "forge", "show", "view"


class Shard(NamedTuple):
    """The state of a server.

    Attributes:
        server: Its slice of the model, and of the states of optimizer and rule.
        rows: `[n, width]`, its slices of the rows of an update in which servers exchange something; None without.
        heard: `[S, m]` each, the numbers of all servers in the exchanges of an update but the last.
    """

    server: Server
    rows: Any
    heard: tuple[Any, ...]


@checked
def sharded(n: int, f: int, *, servers: Annotated[int, Field(ge=1)] = 2) -> Topology:
    """Several servers, each with a slice of the model: workers send each its slice of the row, and get slices from all.

    Sends: every worker a slice of its row to each server, every server its slice of the model to all workers
    Rule: over the slices of all rows at each server; servers exchange what it measures on whole rows, such as distances

    The result is that of one server, but for rounding: servers hold consecutive coordinates, equally many or one more,
    with their slices of the states of optimizer and rule. A rule that takes every coordinate by itself runs slice by
    slice. Others need sums over all coordinates, n x n for distances: each server sends those of its slice to all
    others, once or several times in an update. Rules without such a form are refused (`byzax.aggregators`: `sharded`),
    as are optimizers that need the whole model. All servers are honest; attackers know whole rows and models. On a wire
    each slice is a message of its own, with a state of its own at both ends.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        servers: Number of servers, at most the number of parameters.

    Returns:
        The topology.

    Raises:
        PartError: For an impossible n and f.

    References:
        Li et al., OSDI 2014, "Scaling Distributed Machine Learning with the Parameter Server"
    """
    check_workers("sharded", n, f)
    return Topology(
        build=lambda parts: _network(parts, servers),
        check=lambda run: _check(run, servers),
        inboxes=(n,),
        declared=lambda rows: f,
        rounds=lambda run: _rounds(run, servers),
        wire=("up", "down"),
        parts=lambda d: tuple(np.diff(Cuts(d, servers).bounds).tolist()),
    )


def _check(run: Run, servers: int) -> None:
    check_in_step(run)
    try:
        rule = build_rule(rule_of(run)[1], run.pre, run.workers.total, f_of_rule(run, run.workers.total))
    except ValueError:
        # said at its own key
        return
    if rule.sharded is None:
        raise PartError(_why_refused(run))
    if run.privacy is not None and run.privacy.level == "server":
        raise PartError("sharded: no server knows the length of a whole row: take privacy.level worker or sample")
    if run.regularisation.max_norm is not None:
        raise PartError("sharded: no server knows the norm of the whole model: leave regularisation.max_norm out")
    if not takes_coordinates_alone(build_sliced_update(run.replace(seed=0), run.workers.total).optimizer):
        raise PartError(
            f"sharded: optimizer {run.optimizer.label} needs the whole model, of which each server has a slice: take "
            "sgd, adam or another one that takes every coordinate by itself"
        )
    if servers > (d := message_bits(run) // 32):
        raise PartError(f"sharded: servers is {servers}, and the model has {d} parameters: take at most as many")


def _why_refused(run: Run) -> str:
    n, f = run.workers.total, f_of_rule(run, run.workers.total)
    for part in run.pre:
        if build(part, n, f).sharded is None:
            return f"sharded: pre {part.label} has no sharded form: leave it out, or take topology parameter_server"
    rule = build_rule(run.rule, (), n, f) if not run.pre else None
    asks = rule is not None and rule.needs
    why = (
        "measures whole models on data of the server's own, and no server has a whole one"
        if asks
        else ("has no sharded form with these options")
    )
    return f"sharded: rule {run.rule.label} {why}: take another rule, such as multi_krum, or topology parameter_server"


def _exchanges(count: int) -> list[str]:
    return [f"exchange {k + 1}" for k in range(count)]


def _slicing(server: int) -> str:
    return f"slice {server}"


def _rounds(run: Run, servers: int) -> Rounds:
    n, cuts = run.workers.total, Cuts(message_bits(run) // 32, servers)
    everyone, of_servers = tuple(range(n)), tuple(range(servers))
    up, down = (part_shares(run, way) for way in ("up", "down"))
    sizes = _exchange_sizes(build_sliced_update(run.replace(seed=0), n), n, cuts)
    names = [*_exchanges(len(sizes)), UPDATE]
    steps = [RoundStep(WORK, "worker", ((),) * n, works=True)]
    # the first of them reads slices of rows, each other one the numbers of the exchange before
    steps.append(RoundStep(names[0], "server", (everyone,) * servers, WORK, size=up, sized_by="receiver"))
    for read, name, size in zip(names, names[1:], sizes, strict=False):
        steps.append(RoundStep(name, "server", (of_servers,) * servers, read, size=size / cuts.d))
    steps.append(RoundStep(PULL, "worker", (of_servers,) * n, UPDATE, size=down))
    return Rounds(tuple(steps), UPDATE, of_servers)


def _exchange_sizes(sliced: SlicedUpdate, n: int, cuts: Cuts) -> list[int]:
    """The number of numbers that a server sends in each exchange."""
    form, where = sliced.form, cuts.slice(0)
    heard: list[Any] = []

    def part(heard: Sequence[Array]) -> Array:
        rows, context = jnp.zeros((n, cuts.width)), Context(jax.random.key(0))
        return part_of_next(form.steps(rows, form.init(where, cuts.width), context, where), heard)

    for _ in range(form.exchanges):
        size = jax.eval_shape(part, heard).shape[0]
        heard.append(jax.ShapeDtypeStruct((cuts.servers, size), jnp.float32))
    return [each.shape[1] for each in heard]


def _network(parts: NetworkParts, servers: int) -> Network:
    n, here = len(parts.world.sizes), parts.world
    core, sliced = parts.core_of(n), build_sliced_update(parts.run.replace(seed=0), n)
    cuts, byzantine = Cuts(message_bits(parts.run) // 32, servers), np.asarray(here.byzantine_rank) >= 0
    forged = byzantine if core.forge is not None else np.zeros(n, bool)
    names = _exchanges(sliced.form.exchanges)
    sizes = tuple(_exchange_sizes(sliced, n, cuts))
    whole = jax.eval_shape(lambda here: public_state(core.start(here)), here)
    workers, of_servers = range(n), range(servers)

    def start(here: World) -> NewStates:
        server = core.start(here)
        memory = None if core.memory is None else core.memory.start(here, cuts.d)
        states: NewStates = {("worker", i): Trainee(server.params, memory) for i in workers}
        rows = jnp.zeros((n, cuts.width)) if names else None
        heard = tuple(jnp.zeros((servers, size)) for size in sizes[:-1])
        for s in of_servers:
            states["server", s] = Shard(cut_server(cuts, server, sliced.form, s), rows, heard)
        if forged.any():
            states[ADVERSARY] = core.init_adversary(cuts.d)
        return states | {("view", 0): public_state(server) if forged.any() else server.params}

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        made = by_step(arrays)
        aggregates, rows = zip(*made[UPDATE], strict=True)
        return {
            "workers": np.arange(n),
            "rows": jnp.stack(made[WORK]),
            "byzantine": byzantine,
            "forged": cuts.join(rows),
            "aggregate": cuts.join(aggregates),
            "params": _model_of(states["view", 0]),
        }

    def rows_for(server: int) -> list[Message]:
        return [Message(_slicing(server), i) for i in workers]

    events = [RoundEvent(WORK, i) for i in workers]
    if forged.any():
        events.append(RoundEvent(FORGE, 0, [*(Message(WORK, i) for i in workers), before(VIEW, 0)]))
    for s in of_servers:
        events += [
            RoundEvent(_slicing(s), i, [Message(FORGE, 0, i) if forged[i] else Message(WORK, i)]) for i in workers
        ]
    for k, name in enumerate([*names, UPDATE]):
        events += [
            RoundEvent(name, s, rows_for(s) if k == 0 else [Message(names[k - 1], t) for t in of_servers])
            for s in of_servers
        ]
    events += [RoundEvent(PULL, i, [Message(UPDATE, s) for s in of_servers]) for i in workers]
    if forged.any():
        events += [RoundEvent(SHOW, s) for s in of_servers]
    seen = SHOW if forged.any() else UPDATE
    events.append(RoundEvent(VIEW, 0, [Message(seen, s) for s in of_servers]))
    evaluate = core.evaluate
    structure = jax.tree.structure(whole)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(whole))
    return periodic_network(
        _build_steps(core, sliced, cuts, bool(forged.any()), structure, shapes),
        events,
        parts.timeline,
        start=start,
        show=_show,
        measure=_measure,
        arrays=put_together,
        evaluate=lambda here, states: evaluate(here, _model_of(states["view", 0])),
        params=lambda states: _model_of(states["view", 0]),
        judged=("view",),
    )


def _model_of(view: Any) -> Any:
    return view.params if isinstance(view, Server) else view


def _show(state: Any) -> Any:
    return state


def _measure(seen: OfEvents, happened: Any = None) -> tuple[Diagnostics, Any]:
    return join_measurements(by_step(seen)[UPDATE])


@compiled_once
def _build_steps(
    core: Core, sliced: SlicedUpdate, cuts: Cuts, forges: bool, structure: Any, shapes: tuple[Any, ...]
) -> tuple[NodeStep, ...]:
    """The steps; `structure` and `shapes` are those of the public state of one server."""
    worker, form, of_servers = (
        build_worker_step(core.work, core.memory, core.batch, core.even),
        sliced.form,
        range(cuts.servers),
    )
    whole = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*each) for each in shapes])

    def steps_of(here: World, server: Server, rows: Array, where: Slice) -> Any:
        # the key of one server, at all of them
        context = Context(derive(here.key, Purpose.RULE, server.step))
        return form.steps(rows, server.rule, context, where)

    @jax.jit
    def measure(here: World, server: Server, rows: Array, node: Any, heard: Sequence[Array]) -> Array:
        return part_of_next(steps_of(here, server, rows, cuts.slice_of(node)), heard)

    @jax.jit
    def move(here: World, server: Server, arrived: Arrivals, rows: Array, node: Any, heard: Sequence[Array]) -> Any:
        def aggregate(given: Array, workers: Any, ages: Any, samples: Any, state: Any, known: Any) -> Any:
            return result_of(steps_of(here, server, given, cuts.slice_of(node)), heard)

        after, diagnostics, decision = sliced.make_update(aggregate)(here, server, arrived, rows)
        honest, _ = mean_of(rows, ~sliced.is_byzantine(here, server.step, arrived))
        return after, SeenSlice(diagnostics, compare_with_honest(honest, honest)[0], decision.weights), decision

    def work(here: World, event: NodeEvent, trainee: Trainee, messages: Sequence[Any]) -> EventResult:
        memory, row, *_ = worker.run(here, event._replace(versions=(event.turn,)), trainee.memory, (trainee,))
        return EventResult(trainee._replace(memory=memory), row, arrays=row)

    def forge(here: World, event: NodeEvent, state: Any, messages: Sequence[Any]) -> EventResult:
        assert core.forge is not None
        *rows, public = messages
        arrived = Arrivals(event.senders[: len(rows)], event.versions[: len(rows)])
        sent, state = core.forge(here, event.turn, arrived, stack_rows(messages[: len(rows)]), public, state)
        return EventResult(state, sent)

    def build_slicing(server: int) -> Callable[..., EventResult]:
        cut = jax.jit(lambda row: cuts.cut(row, server))
        of_first = jax.jit(lambda rows: cuts.cut(rows[0], server))

        def send(here: World, event: NodeEvent, trainee: Trainee, messages: Sequence[Any]) -> EventResult:
            # one compiled call for a row that is there alone
            given = messages[0]
            return EventResult(trainee, of_first(stack_rows(messages)) if isinstance(given, RowOf) else cut(given))

        return send

    def build_exchange(number: int) -> Callable[..., EventResult]:
        def exchange(here: World, event: NodeEvent, shard: Shard, messages: Sequence[Any]) -> EventResult:
            read, heard = stack_rows(messages), shard.heard
            if number:
                heard = (*heard[: number - 1], read, *heard[number:])
            else:
                shard = shard._replace(rows=read)
            sent = measure(here, shard.server, shard.rows, event.node, heard[:number])
            return EventResult(shard._replace(heard=heard), sent)

        return exchange

    def update(here: World, event: NodeEvent, shard: Shard, messages: Sequence[Any]) -> EventResult:
        read = stack_rows(messages)
        rows, heard = (shard.rows, (*shard.heard, read)) if form.exchanges else (read, ())
        n = len(rows)
        arrived = Arrivals(jnp.arange(n, dtype=jnp.int32), jnp.full(n, event.turn, jnp.int32))
        server, seen, decision = move(here, shard.server, arrived, rows, event.node, heard)
        return EventResult(shard._replace(server=server), server.params, seen, (decision.aggregate, rows))

    def pull(here: World, event: NodeEvent, trainee: Trainee, messages: Sequence[Any]) -> EventResult:
        params = joined([messages[s] for s in of_servers])
        return EventResult(trainee._replace(params=params), params)

    joined = jax.jit(cuts.join)

    @jax.jit
    def flat(server: Server) -> Array:
        return flatten(public_state(server))

    @jax.jit
    def unflat(slices: Array) -> Server:
        shape = jax.eval_shape(lambda: public_state(cut_server(cuts, jax.tree.map(_zeros, whole), form, 0)))
        return join_servers(cuts, whole, [unflatten(shape, slices[s]) for s in of_servers])

    def show(here: World, event: NodeEvent, shard: Shard, messages: Sequence[Any]) -> EventResult:
        return EventResult(shard, flat(shard.server))

    def view(here: World, event: NodeEvent, state: Any, messages: Sequence[Any]) -> EventResult:
        state = unflat(stack_rows(messages)) if forges else joined([messages[s] for s in of_servers])
        return EventResult(state, state)

    exchanges = [
        NodeStep(name, "server", build_exchange(k), "server", together="map")
        for k, name in enumerate(_exchanges(form.exchanges))
    ]
    return (
        worker._replace(carry_out=work, transform=None),
        NodeStep(FORGE, "adversary", forge, together="map", forges=True, sends=Sending("up") if core.forge else None),
        *(NodeStep(_slicing(s), "worker", build_slicing(s), "worker", together="batch") for s in of_servers),
        *exchanges,
        NodeStep(UPDATE, "server", update, "server", together="map"),
        NodeStep(PULL, "worker", pull, "worker", together="batch"),
        NodeStep(SHOW, "server", show, "server", together="map"),
        NodeStep(VIEW, "view", view, together="map"),
    )


def _zeros(shape: Any) -> Any:
    return jnp.zeros(shape.shape, shape.dtype)
