"""Ray actors: workers, adversary and parameter server. The only file that imports ray."""

import logging
import os
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

# Read when ray is imported. What failed is said once, by the run that needed it: not again for each update that depends
# on it, and not with a screenful on standard output for each process that ended.
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "worker died or was killed|killed due to memory pressure")

import ray
from ray.dag import InputNode
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayError, RayTaskError

import aggregators
import attacks
import models
import simulator
from simulator import arrivals
from simulator.core import Arrived, Core, Evaluation, Update
from simulator.executors.actors import Adversary, New, ParameterServer, Post, Public, Workers, asked, posted
from simulator.executors.base import (
    Checkpoint,
    RunError,
    delivered,
    ended,
    evaluation_steps,
    first_core,
    per_job,
    prepare,
    stacked,
)
from simulator.executors.racing import Crew, Done, race
from simulator.parts import Ray
from simulator.scenario import Scenario
from simulator.timeline import UNPLANNED, Timeline

# Updates submitted before the oldest of them is waited for: enough to keep every actor busy, and bounded.
AHEAD = 16
# The same for executions of a compiled graph.
IN_FLIGHT = 4
# How often Ray tries to reach a cluster.
ATTEMPTS = "RAY_gcs_server_port_wait_time_s"
# Part of a CPU that an actor asks for: those that ask for none are placed at random and not on one node after another.
TRACE = 0.001
# Seconds in which the actors must have found a place on the cluster and started.
START_S = 120
# The rows of one update that a compiled graph carries, in bytes: it holds up to IN_FLIGHT buffers of that size for each
# of its messages. Larger rows go through the object store.
LARGEST_MESSAGE = 64 * 2**20


SERVER, ADVERSARY = "the parameter-server actor", "the adversary actor"


class Actor(NamedTuple):
    """An actor's handle, and the part of a GPU that it holds."""

    handle: Any
    gpu: float


class Cast(NamedTuple):
    """Who takes part in a session: actors by what they are called, and compiled graphs by what they connect."""

    actors: dict[str, Actor]
    graphs: dict[tuple[Any, ...], Any]


class Run(NamedTuple):
    """One repeat, ready to go: its actors are configured. `hosts` `[n]`: the worker actor of each worker."""

    workers: list[Any]
    adversary: Any
    server: Any
    scenario: Scenario
    seed: int
    hosts: np.ndarray
    timeline: Timeline
    gradients: np.ndarray
    post: Post
    core: Core
    d: int
    begin: float


@contextmanager
def session(executor: Ray, address: str | None = None) -> Iterator[Any]:
    """Starts Ray (or joins the cluster at `address`, if given) and ends at the close what was started here.

    The actors live across the runs of a grid; one that died is replaced before the next run. Raises RunError where Ray
    does not start or no cluster answers.
    """
    started = not ray.is_initialized()
    if started:
        _connect(address)
    cast = Cast({}, {})
    try:
        yield lambda scenario: _run(cast, scenario)
    finally:
        _dismiss(cast, list(cast.actors))
        if started:
            ray.shutdown()


def _connect(address: str | None) -> None:
    # an actor must see as many threads as this process: they change the last bits of some sums
    environment: dict[str, Any] = {"env_vars": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "NPROC": os.environ["NPROC"]}}
    if address:
        # a node of a cluster may have other code than this one: it gets these packages; plug-ins it must have itself
        packages = (aggregators, attacks, models, simulator)
        environment["py_modules"] = [os.path.dirname(str(package.__file__)) for package in packages]
        folders = filter(None, os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep))
        environment["env_vars"]["BYZAX_PLUGINS"] = os.pathsep.join(map(os.path.abspath, folders))
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address and address.startswith("ray://"):
        raise RunError(
            f"Ray at {address}: Ray Client carries no compiled graphs: run byzax on a node of the cluster, with the "
            "address that `ray start` printed there, or auto"
        )
    # Ray would make 20 attempts of 40 s each to reach what is not a cluster
    if impatient := bool(address) and ATTEMPTS not in os.environ:
        os.environ[ATTEMPTS] = "1"
    logging.getLogger("ray.dag.compiled_dag_node").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        # Ray forks and at once replaces the new process: none of JAX's threads is missed in between
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        try:
            ray.init(
                # without an address Ray would join whatever cluster the environment names
                address=address or "local",
                include_dashboard=False if address is None else None,
                runtime_env=environment,
                # Ray's default of 15 starves the actors of an embedded Ray beside any other process
                _system_config=None if address else {"worker_niceness": 0},
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (OSError, RuntimeError, ValueError) as error:
            where = f"Ray at {address} (with RAY_AUTH_MODE=token if it asks for one)" if address else "Ray"
            raise RunError(f"{where}: {_line(error)}") from None
        finally:
            # an embedded Ray, started later, needs more than that
            if impatient:
                del os.environ[ATTEMPTS]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _worker(number: int) -> str:
    return f"worker actor {number}"


def _count(scenario: Scenario) -> int:
    """How many worker actors host the workers of a scenario."""
    executor, n = scenario.executor, scenario.workers.total
    assert isinstance(executor, Ray)
    if executor.workers_per_actor is not None:
        return -(-n // executor.workers_per_actor)
    if executor.actors != "auto":
        return min(executor.actors, n)
    resources = ray.cluster_resources()
    return min(n, max(1, int(resources.get("GPU", 0) or resources.get("CPU", 1))))


def _hire(cast: Cast, count: int) -> None:
    """Fills the cast: `count` worker actors, adversary and server, those that are not there yet or died."""
    _dismiss(cast, _missing(cast))
    roles = {SERVER: ParameterServer, ADVERSARY: Adversary} | {_worker(i): Workers for i in range(count)}
    gpus = int(ray.cluster_resources().get("GPU", 0))
    # the workers of a GPU share nine tenths of it; server and adversary fit into what is left
    small, hosting = min(gpus, 0.05), len({*cast.actors, *roles} - {SERVER, ADVERSARY})
    share = 0.9 / -(-hosting // gpus) if gpus else 0.0
    # who was hired when there were fewer holds more than that
    hosts = cast.actors.keys() - {SERVER, ADVERSARY}
    _dismiss(cast, [name for name in hosts if cast.actors[name].gpu > share])
    for name, role in roles.items():
        if name not in cast.actors:
            gpu = share if role is Workers else small
            options = {"num_cpus": TRACE, "num_gpus": gpu, "scheduling_strategy": "SPREAD"}
            cast.actors[name] = Actor(ray.remote(role).options(**options).remote(), gpu)
    if missing := _missing(cast):
        who = " and ".join(f"{name} (asks for {cast.actors[name].gpu:.3g} GPU, {TRACE} CPU)" for name in missing)
        free, whole = ray.available_resources(), ray.cluster_resources()
        offer = " and ".join(f"{free.get(kind, 0):.4g} of {whole.get(kind, 0):g} {kind}" for kind in ("GPU", "CPU"))
        _dismiss(cast, missing)
        raise RunError(f"{who} did not start: {_causes(missing)}; free in the cluster: {offer}")


def _dismiss(cast: Cast, names: Iterable[str]) -> None:
    """Ends these actors, and the compiled graphs they may be part of."""
    for name in names:
        _forget_graphs(cast)
        ray.kill(cast.actors.pop(name).handle)


def _missing(cast: Cast) -> dict[str, RayError]:
    """Those of the cast that do not answer, and what Ray says of them."""
    answers = {name: actor.handle.__ray_ready__.remote() for name, actor in cast.actors.items()}
    if answers:
        ray.wait(list(answers.values()), num_returns=len(answers), timeout=START_S)
    missing = {}
    for name, answer in answers.items():
        try:
            ray.get(answer, timeout=0)
        except RayError as error:
            missing[name] = error
    return missing


def _causes(missing: dict[str, RayError]) -> str:
    return " and ".join(sorted({_cause(error) for error in missing.values()}))


def _cause(error: RayError) -> str:
    """Why an actor is gone, in a few words: Ray's own text fills a screen."""
    text = str(error)
    if isinstance(error, OutOfMemoryError):
        return "Ray ended it because its node ran out of memory: try fewer actors or a smaller batch_size"
    if isinstance(error, GetTimeoutError):
        return f"no answer within {START_S} s"
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        lost = "node has died" in text or "node was terminated" in text
        return (
            "its node was lost" if lost else "its process was killed (from outside, or for want of memory) or crashed"
        )
    # the last line names the error, those above it are a traceback
    return text.strip().splitlines()[-1][:300]


def _run(cast: Cast, scenario: Scenario) -> Iterator[Checkpoint]:
    count = _count(scenario)
    _hire(cast, count)
    for seed in scenario.seeds:
        finished = False
        try:
            run = _configure(cast, count, scenario, seed)
            if scenario.clock == "wall":
                yield from _raced(cast, run)
                finished = True
                continue
            yield from (_streamed(run, _graph(cast, run)) if _can_stream(run) else _submitted(run))
            finished = True
            ended(run.timeline)
        except RayTaskError as error:
            if isinstance(error.cause, RayError):
                raise RunError(_obituary(cast, error.cause)) from None
            if isinstance(error.cause, RunError):
                raise error.cause from None
            raise RunError(f"{type(error.cause).__name__}: {_line(error.cause)}") from None
        except RayError as error:
            raise RunError(_obituary(cast, error)) from None
        finally:
            if not finished:
                # what is still under way in a graph would come out in the next run
                _forget_graphs(cast)


def _obituary(cast: Cast, error: RayError) -> str:
    missing = _missing(cast)
    if not missing:
        return f"Ray: {type(error).__name__}: {_line(error)}"
    return (
        f"{' and '.join(missing)} died in the middle of the run: {_causes(missing)}; the next run starts with a new one"
    )


def _forget_graphs(cast: Cast) -> None:
    for graph in cast.graphs.values():
        try:
            graph.teardown()
        except RayError:
            # an actor of the graph is dead: the others have left it all the same
            continue
    cast.graphs.clear()


def _configure(cast: Cast, count: int, scenario: Scenario, seed: int) -> Run:
    begin = time.perf_counter()
    n = scenario.workers.total
    hosts = np.arange(n) * count // n
    adversary, server, *workers = (
        cast.actors[each].handle for each in (ADVERSARY, SERVER, *map(_worker, range(count)))
    )
    described = scenario.model_dump(mode="json")
    d = server.configure.remote(described, seed, hosts)
    ready = [handle.configure.remote(described, seed, hosts, d) for handle in (*workers, adversary)]
    mine = prepare(scenario, seed, UNPLANNED if scenario.clock == "wall" else None)
    post, core = posted(mine.timeline, hosts), first_core(scenario, seed)
    d, *_ = ray.get([d, *ready])
    return Run(workers, adversary, server, scenario, seed, hosts, mine.timeline, mine.gradients, post, core, d, begin)


def _checkpoint(run: Run, step: int, evaluation: Evaluation, public: Public, seen: list[Update]) -> Checkpoint:
    return Checkpoint(
        seed=run.seed,
        step=step,
        time_s=float(run.timeline.time_s[step - 1]) if step else 0.0,
        gradients=int(run.gradients[step]),
        wall_s=time.perf_counter() - run.begin,
        evaluation=evaluation,
        updates=stacked(seen),
        params=public.params,
        timeline=run.timeline,
    )


def _submitted(run: Run) -> Iterator[Checkpoint]:
    """Any timeline: a row is asked for as soon as the version it needs is promised; tasks hand on references."""
    scenario, timeline, post, server = run.scenario, run.timeline, run.post, run.server
    evaluated = set(evaluation_steps(scenario, timeline.steps))
    last = np.zeros(len(post.hosts), int)
    np.maximum.at(last, post.message, timeline.updates)
    parts: dict[int, Any] = {}
    updates: list[Any] = []
    checkpoints: deque[tuple[int, Any, Any, list[Any]]] = deque()
    for step in range(timeline.steps + 1):
        public = server.publish.remote(step)
        if step in evaluated:
            checkpoints.append((step, server.evaluate.remote(step), public, updates))
            updates = []
        while checkpoints and (step - checkpoints[0][0] >= AHEAD or step == timeline.steps):
            at, *results, seen = checkpoints.popleft()
            evaluation, model, *seen = ray.get([*results, *seen])
            yield _checkpoint(run, at, evaluation, model, seen)
        if step == timeline.steps:
            return

        if len(updates) >= AHEAD:
            ray.wait([updates[-AHEAD]], fetch_local=False)
        begin, end = post.of_version[step : step + 2].tolist()
        for message in range(begin, end):
            parts[message] = run.workers[post.hosts[message]].work.remote(step, message - begin, public)
        needed = asked(timeline, post, step).tolist()
        rows = [parts[message] for message in needed]
        forged = run.adversary.forge.remote(step, public, *rows) if run.core.forge else None
        updates.append(server.update.remote(step, forged, *rows))
        for message in needed:
            if last[message] == step:
                del parts[message]


def _can_stream(run: Run) -> bool:
    """Whether every update is made of the same messages, all from the newest model, which fit the buffers of a node."""
    timeline, post = run.timeline, run.post
    size = int(timeline.sizes[0])
    fresh = bool((timeline.rows.versions == timeline.updates).all() and (timeline.sizes == size).all())
    return (
        # between nodes Ray 2.60 hands messages on one after the other: a graph with several under way comes to a halt
        len([node for node in ray.nodes() if node["Alive"]]) == 1
        and fresh
        and bool((timeline.rows.workers.reshape(-1, size) == timeline.rows.workers[:size]).all())
        and bool((timeline.seen == timeline.seen[0]).all())
        and bool((np.diff(post.of_version[:-1]) == post.of_version[1]).all())
        and size * run.d * 4 <= LARGEST_MESSAGE
    )


def _graph(cast: Cast, run: Run) -> Any:
    """One update as a compiled graph: actors hand messages on through shared memory, without the driver in between."""
    hosts = run.post.hosts[: run.post.of_version[1]].tolist()
    size = int(run.timeline.sizes[0]) * run.d * 4 + 2**20
    # whatever a graph is made of: another schedule or seed may ask other hosts
    key = (size, run.core.forge is None, *hosts)
    if key not in cast.graphs:
        # an actor serves one graph at a time
        _forget_graphs(cast)
        with InputNode() as step:
            public = run.server.publish.bind(step)
            parts = [run.workers[host].work.bind(step, turn, public) for turn, host in enumerate(hosts)]
            forged = None if run.core.forge is None else run.adversary.forge.bind(step, public, *parts)
            update = run.server.update.bind(step, forged, *parts)
        cast.graphs[key] = update.experimental_compile(_buffer_size_bytes=size, _max_inflight_executions=IN_FLIGHT)
    return cast.graphs[key]


def _streamed(run: Run, graph: Any) -> Iterator[Checkpoint]:
    """A timeline whose updates all look the same: one execution of the graph each."""
    evaluated = set(evaluation_steps(run.scenario, run.timeline.steps))
    under_way: deque[Any] = deque()
    seen: list[Any] = []
    for step in range(run.timeline.steps + 1):
        if step in evaluated:
            seen += [ray.get(update, timeout=-1) for update in under_way]
            under_way.clear()
            evaluation, public = ray.get([run.server.evaluate.remote(step), run.server.publish.remote(step)])
            yield _checkpoint(run, step, evaluation, public, seen)
            seen = []
        if step == run.timeline.steps:
            return
        under_way.append(graph.execute(step))
        if len(under_way) >= IN_FLIGHT:
            seen.append(ray.get(under_way.popleft(), timeout=-1))


class Handle(NamedTuple):
    """A job of a race: the references of when it was done, and of its row."""

    done: Any
    row: Any


def _raced(cast: Cast, run: Run) -> Iterator[Checkpoint]:
    """A run on the clock: the driver keeps the book, actors hand on references."""
    scenario, server = run.scenario, run.server
    evaluated = set(evaluation_steps(scenario, scenario.steps))
    versions = {0: server.publish.remote(0)}
    updates: list[Any] = []
    checkpoints: deque[tuple[int, Any, Any, list[Any]]] = deque()

    def look(step: int) -> None:
        checkpoints.append((step, server.evaluate.remote(step), versions[step], [*updates]))
        updates.clear()

    def begin(worker: int, job: int, version: int) -> Handle:
        actor = run.workers[run.hosts[worker]]
        row, done = actor.race.options(num_returns=2).remote(worker, job, versions[version])
        return Handle(done, row)

    def over(handles: Sequence[Handle], timeout_s: float) -> list[Done]:
        by_done = {handle.done: handle for handle in handles}
        ready, _ = ray.wait(list(by_done), num_returns=1, timeout=timeout_s)
        if ready:
            # who else is done by now: the clock of their machine says who was first
            ready, _ = ray.wait(list(by_done), num_returns=len(by_done), timeout=0)
        return [_over(cast, by_done[done]) for done in ready]

    def update(step: int, seen: int, new: Arrived, handles: list[Handle]) -> None:
        sent = [handle.row for handle in handles]
        places = tuple(np.array([i]) for i in range(len(sent)))
        if run.core.remember is not None:
            hosts = run.hosts[new.workers]
            places = tuple(np.flatnonzero(hosts == host) for host in np.unique(hosts))
            sent = [
                run.workers[hosts[here[0]]].remember.remote(new.workers[here].tolist(), *(sent[i] for i in here))
                for here in places
            ]
        told = New(new, seen, places)
        forged = run.adversary.forge_now.remote(step, told, versions[step], *sent) if run.core.forge else None
        updates.append(server.update_now.remote(step, told, forged, *sent))
        versions[step + 1] = server.publish.remote(step + 1)
        if step + 1 in evaluated:
            look(step + 1)

    def taken(timeline: Timeline) -> Checkpoint:
        at, *results, seen = checkpoints.popleft()
        evaluation, public, *seen = ray.get([*results, *seen])
        gradients = delivered(timeline, per_job(scenario, run.seed))
        return _checkpoint(run._replace(timeline=timeline, gradients=gradients), at, evaluation, public, seen)

    look(0)
    events = race(scenario, run.seed, Crew(begin, over, update, lambda version: versions.pop(version, None)))
    while True:
        try:
            book, now = next(events)
        except StopIteration as end:
            timeline = end.value
            break
        if checkpoints and ray.wait([checkpoints[0][1]], timeout=0)[0]:
            yield taken(arrivals.closed(book, "", now))
    if timeline.steps not in evaluated:
        look(timeline.steps)
    while checkpoints:
        yield taken(timeline)
    ended(timeline)


def _over(cast: Cast, handle: Handle) -> Done:
    try:
        return Done(handle, ray.get(handle.done))
    except RayActorError:
        if {SERVER, ADVERSARY} & _missing(cast).keys():
            raise
        return Done(handle, None)
