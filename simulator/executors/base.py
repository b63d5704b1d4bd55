"""Checkpoints, plans and preparations, which all executors share."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator import timeline
from byzax.simulator.adversary import build_byzantine_ranks
from byzax.simulator.book import ByzantineSenders, open_book
from byzax.simulator.byzantine_timing import timing
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import location, require, type_name
from byzax.simulator.core import Core, CoreOf
from byzax.simulator.diagnostics import Diagnostics, Evaluation, Traffic, Update
from byzax.simulator.durations import Draw, Durations, build_draws
from byzax.simulator.events import Network, States
from byzax.simulator.exchange_plan import plan_exchanges
from byzax.simulator.file_cache import file_cache
from byzax.simulator.keys import Purpose, generator
from byzax.simulator.mesh import ONE_DEVICE, MeshShape
from byzax.simulator.mistakes import Impossible
from byzax.simulator.pairings import plan_pairs
from byzax.simulator.parts import least_rows, schedule, topology
from byzax.simulator.planning import in_step, planned
from byzax.simulator.rounds import Rounds, plan_rounds
from byzax.simulator.schedules import Situation
from byzax.simulator.timeline import ROWS_AT_ONCE, Outcome, Timeline
from byzax.simulator.timings import Timing
from byzax.simulator.topologies import NetworkParts
from byzax.simulator.training import num_batches
from byzax.simulator.wire import wire_bits
from byzax.simulator.wired import wired
from byzax.simulator.world import World, byzantine_ranks, share_out, world

# What computing takes where a race is planned to see whether it can be run.
COMPUTING_S = 1e-3


class Checkpoint(NamedTuple):
    """The run of one seed, after `step` updates.

    `time_s`: seconds of the timeline. `gradients`: how many had been delivered by then, used or not. `wall_s`:
    real seconds since the run began; of repeats that are computed together each one's share. `evaluation`: floats.
    `updates`: arrays, one entry for each update since the last checkpoint. `params` `[d]`: the model, NumPy.
    `timeline`: the order of events of the run, as far as it is known. `stopped`: why this is the last one though more
    updates were planned; empty where it is not. `weights` `[updates, n]`: the share that the rule gave to each worker's
    row in each of `updates`, where they are recorded. `recorded`: those of these updates that are recorded whole.
    `traffic`: the messages sent by then. `epsilon`: the privacy spent by then, NaN without `privacy`.
    """

    seed: int
    step: int
    time_s: float
    gradients: int
    wall_s: float
    evaluation: Evaluation
    updates: Diagnostics
    params: np.ndarray
    timeline: Timeline | None = None
    stopped: str = ""
    weights: np.ndarray | None = None
    recorded: tuple[Update, ...] = ()
    traffic: Traffic | None = None
    epsilon: float = math.nan


class RunError(RuntimeError):
    """A run that could not go on; the message names the stage, and worker and job where there is one."""


class SessionLost(RunError):
    """The cluster that a session had joined is gone: no later run of the session can be carried out either."""


@contextmanager
def stage(name: str, **place: int) -> Iterator[None]:
    """Errors from inside become a RunError that names this stage and place, such as worker and job."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        where = ", ".join(f"{key} {value}" for key, value in place.items())
        raise RunError(f"{name} failed ({where}): {type(error).__name__}: {error}") from error


# the last one is kept: runs, and checks before them, ask for it several times
@file_cache(maxsize=1)
def plan(run: Run, steps: int | None = None, smooth: bool = False) -> Timeline:
    """The timeline of a run, which depends on nothing else.

    Args:
        run: The run.
        steps: Updates to be planned; None for all.
        smooth: Whether it is planned without mishaps: nothing is lost, nobody dies, and all send in time.

    Raises:
        ValueError: Where a part of schedule or latency cannot be made, or where no update ever happens.
    """
    n, source, decides = run.workers.total, run.latency, schedule(run)
    steps = run.steps if steps is None else min(steps, run.steps)
    about = situation(run)._replace(steps=steps)
    if decides.plan is not None:
        return timeline.check(decides.plan(about), n)
    if smooth:
        source = source.replace(loss=0.0, crashes=(), outages=())
    rounds = topology(run).rounds
    if rounds is not None:
        described = rounds(run)
        make = plan_pairs if described.pairs else plan_exchanges if described.exchanges else plan_rounds
        made = make(described, steps, source, run.seed, wire_bits(run))
        if not made.steps:
            raise Impossible(f"{_key_of_stop(run, described, made.stopped)}: {made.stopped}")
        return made
    bits = wire_bits(run)
    if topology(run).mixes:
        # a node's model goes to its neighbours by `latency.up`
        bits = bits._replace(up=bits.peer)
    draws = build_draws(source, n, run.seed, bits)
    if run.clock == "wall":
        # what computing really takes is not known before, but it is not nothing
        draws = [_with_computing(draw) for draw in draws]
    if all_together(run, smooth):
        made = in_step(steps, draws)
        return made._replace(seen=np.full(steps, decides.buckets)) if decides.sees == "buckets" else made
    senders = byzantine_senders(run)
    if smooth:
        senders = senders._replace(timing=Timing())
    made = planned(open_book(decides, senders, least_rows(run), about), draws, source.crashes, source.outages)
    if not made.steps:
        raise ValueError(made.stopped)
    return made


def _key_of_stop(run: Run, rounds: Rounds, stopped: str) -> str:
    """The key of the setting because of which no update happens: a quorum that was given, or else what fails."""
    waits_for = [step.kind for step in rounds.steps if f"messages of the step {step.name}," in stopped]
    for kind in waits_for:
        for option in ("quorum", f"quorum_{kind}s"):
            if option in run.topology.model_fields_set:
                return f"topology.{option}"
    failing = [f"latency.{key}" for key in ("crashes", "outages", "loss") if getattr(run.latency, key)]
    return failing[0] if failing else "topology"


def all_together(run: Run, smooth: bool = False) -> bool:
    """Tells whether every update has a row of every worker: all wait for all, in time, and nothing is lost.

    Args:
        run: The run.
        smooth: Whether it is without mishaps, as in `plan`.
    """
    decides = schedule(run)
    if decides.plan is not None or not decides.together or topology(run).rounds is not None:
        return False
    return smooth or (timing(run).in_time and not run.latency.mishaps)


def byzantine_senders(run: Run) -> ByzantineSenders:
    """The Byzantine workers of a run, where they are always the same, and when they send."""
    byzantine = frozenset(fixed_byzantine_workers(run))
    return ByzantineSenders(byzantine, timing(run), run.attack.timing.label, run.workers.byzantine.participating)


def situation(run: Run) -> Situation:
    """For what the schedule of a repeat decides."""
    n, seed = run.workers.total, run.seed

    def sizes() -> np.ndarray:
        return np.array([len(share) for share in share_out(run.data, n, seed)[1]])

    return Situation(n, run.steps, generator(seed, Purpose.SCHEDULE), partial(generator, seed, Purpose.SCHEDULE), sizes)


def fixed_byzantine_workers(run: Run) -> list[int]:
    """The Byzantine workers, where they are always the same."""
    return np.flatnonzero(byzantine_ranks(run) >= 0).tolist()


def byzantine_updates(run: Run, steps: int) -> np.ndarray:
    """In how many of the first `steps` updates each worker is Byzantine, `[n]`."""
    byzantine = run.workers.byzantine
    if byzantine.per_round == "fixed":
        return np.where(byzantine_ranks(run) >= 0, steps, 0)
    return np.asarray(_sampled_updates(world(run), jnp.arange(steps), byzantine.count))


@partial(jax.jit, static_argnums=2)
def _sampled_updates(here: World, steps: jax.Array, count: int) -> jax.Array:
    ranks = build_byzantine_ranks(count)
    nobody = jnp.zeros(len(here.sizes), jnp.int32)
    return jax.lax.scan(lambda often, step: (often + (ranks(here, step) >= 0), None), nobody, steps)[0]


def _with_computing(draw: Draw) -> Draw:
    def longer(first: int, count: int) -> Durations:
        spans = draw(first, count)
        return spans._replace(compute=spans.compute + COMPUTING_S)

    return longer


class Prepared(NamedTuple):
    """A run that is ready: the timeline of one repeat, and the core for updates in which the rule sees k rows.

    `gradients` `[T + 1]`: how many had been delivered when each version was made.
    """

    timeline: Timeline
    core_of: Callable[[int], Core]
    gradients: np.ndarray

    @property
    def first(self) -> Core:
        """The core of the first update; all but `update` and `forge` is the same in every one."""
        return self.core_of(int(self.timeline.seen[0]))


def prepare(run: Run, observed: Timeline | None = None, mesh: MeshShape = ONE_DEVICE) -> Prepared:
    """The timeline of one repeat, planned or `observed`, and the cores for its updates.

    On a `mesh` of several devices a single server's rule is one over columns; of nodes that are several each part of
    the workers' axis carries out some.
    """
    planned = observed or plan(run)
    core_of = CoreOf(run, mesh if topology(run).one_server else ONE_DEVICE)
    return Prepared(planned, core_of, delivered(planned, per_job(run)))


def network_of(run: Run, prepared: Prepared, here: World | None = None) -> tuple[Network, World]:
    """The network of a run.

    Args:
        run: The run.
        prepared: The same run, as `prepare` gives it.
        here: The arrays of the run; None where they are not there yet.

    Returns:
        The network, and the arrays of the run.

    Raises:
        ContractError: Where the topology builds no network.
    """
    structure = topology(run)
    if here is None:
        here = world(run)
    if structure.degrees is not None:
        here = here._replace(degrees=jnp.asarray(structure.degrees(run), jnp.int32))
    network, part = structure.build(NetworkParts(run, prepared.core_of, prepared.timeline, here)), run.topology
    require(
        isinstance(network, Network),
        f"{part.label}: build must give a Network, got {type_name(network)}{location(part, structure.build)}",
    )
    return wired(network, run, prepared.core_of((structure.inboxes or prepared.timeline.seen.tolist())[0])), here


def bits_so_far(network: Network, states: States) -> Mapping[str, np.ndarray]:
    """The messages so far that only states tell. See `Look.bits`."""
    found: dict[str, np.ndarray] = {} if network.measure_bits is None else {**network.measure_bits(states)}
    return found if network.count_pulls is None else found | {"pulls": network.count_pulls(states)}


def per_job(run: Run) -> np.ndarray:
    """The gradients of one job of each worker, `[n]`: 1, or those of its local steps."""
    local, n = run.local, run.workers.total
    if local is None or local.steps is not None:
        return np.full(n, 1 if local is None else local.steps)
    _, shares = share_out(run.data, n, run.seed)
    return num_batches(local, np.array([len(share) for share in shares]), run.data.batch_size) * local.epochs


def delivered(timeline: Timeline, each: np.ndarray) -> np.ndarray:
    """`[T + 1]`: the gradients in the rows delivered until each version was made, `each` `[n]` of them in a row."""
    rows, unused, dropped = timeline.rows, timeline.unused, timeline.outcomes == Outcome.DROPPED
    # counted at the first update that is not before the arrival, and so for the version after it
    counts = np.zeros(timeline.steps + 2)
    for workers, arrived_s in ((rows.workers, rows.arrived_s), (unused.workers[dropped], unused.arrived_s[dropped])):
        for begin in range(0, len(workers), ROWS_AT_ONCE):
            part = slice(begin, begin + ROWS_AT_ONCE)
            update = np.searchsorted(timeline.time_s, arrived_s[part])
            first = update.min()
            some = np.bincount(update - first, each[workers[part]])
            counts[first + 1 : first + 1 + len(some)] += some
    return np.cumsum(counts[:-1], dtype=int)


def evaluation_steps(every: int, steps: int) -> list[int]:
    """The steps after which a model is evaluated: 0, every so many, and the last of `steps`."""
    return sorted({*range(0, steps, every), steps})


def ended(timeline: Timeline) -> None:
    """To be called after the last checkpoint. Raises RunError where the timeline has fewer updates than asked for."""
    if timeline.stopped:
        raise RunError(timeline.stopped)


def floats(evaluation: Evaluation) -> Evaluation:
    """The same evaluation as Python floats."""
    return Evaluation(*map(float, evaluation))


def in_numpy(update: Update) -> Update:
    """The same update with its arrays on the host and its diagnostics as floats."""
    arrays = (name for name in Update._fields if name not in ("step", "time_s", "diagnostics"))
    return update._replace(
        **{name: np.asarray(getattr(update, name)) for name in arrays},
        diagnostics=Diagnostics(*map(float, update.diagnostics)),
    )


def digest(checkpoints: list[Checkpoint]) -> str:
    """SHA-256 over everything a seed's checkpoints say that the clock on the wall does not decide."""
    sha = hashlib.sha256()

    def add(values: Any) -> None:
        numbers = np.asarray(values, np.float64)
        # NaN, which has many forms, is NaN
        sha.update(np.where(np.isnan(numbers), np.nan, numbers).tobytes())

    for each in checkpoints:
        *measured, worst, distance = each.evaluation
        add([each.seed, each.step, each.time_s, each.gradients, *measured])
        if not np.isnan(distance):
            # only several models have these
            add([worst, distance])
        for series in each.updates:
            add(series)
    sha.update(checkpoints[-1].params.tobytes())
    return sha.hexdigest()
