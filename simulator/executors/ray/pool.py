"""The actors of a session: they are started, found dead and ended."""

import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import ray
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayError

import byzax
from byzax.simulator.config.executors import Ray
from byzax.simulator.config.part import parts_of, source_of
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Task
from byzax.simulator.executors.base import RunError
from byzax.simulator.executors.lines import Line
from byzax.simulator.executors.racing_host import RacingHost
from byzax.simulator.executors.ray.head import LOOK_S, Head, check_head, clean_up, connect, lost_head

# Part of a CPU that an actor asks for: those that ask for none are placed at random and not on one node after another.
TRACE = 0.001
# Seconds in which the actors must have found a place on the cluster and started.
START_S = 120
# What more each of them may need where many share a core: imports take about 3 s of one.
MORE_S = 6

SERVER, ADVERSARY = "the parameter-server actor", "the adversary actor"


class WorkerActor(RacingHost):
    """Hosts workers, honest and Byzantine alike, and other nodes of which there are several."""


class AdversaryActor(RacingHost):
    """Hosts the adversary, which forges the rows of Byzantine workers."""


class ServerActor(RacingHost):
    """Hosts the server, and evaluates."""


class Actor(NamedTuple):
    """An actor's handle, and the part of a GPU that it holds."""

    handle: Any
    gpu: float


class ActorPool(NamedTuple):
    """The actors of a session.

    Attributes:
        actors: By their names.
        lines: Lines to actors that carry out updates by themselves, by their handles.
        dead: Causes of the deaths of actors; Ray's logs say more.
        head: The Ray that they live in.
        numbers: A new number for each run that goes over lines.
    """

    actors: dict[str, Actor]
    lines: dict[tuple[Any, ...], tuple[Line, ...]]
    dead: list[str]
    head: Head
    numbers: Iterator[int]


def carry_functions(run: Run) -> None:
    """Lets Ray carry the functions of the user's own whole: a process of its own may not find their module.

    Those of this program and of files that are named are carried and found anyway; what is installed is everywhere.
    """
    for _, part in parts_of(run):
        for function in (source_of(part), *part.options().values()):
            module = sys.modules.get(getattr(function, "__module__", None) or "")
            file = getattr(module, "__file__", None)
            if callable(function) and module is not None and file and not _installed(file):
                cloudpickle.register_pickle_by_value(module)


def _installed(file: str) -> bool:
    places = [os.path.dirname(str(byzax.__file__)), *(sysconfig.get_path(name) for name in ("purelib", "stdlib"))]
    return any(os.path.abspath(file).startswith(place + os.sep) for place in places)


def revive(pool: ActorPool) -> None:
    """Starts Ray anew where one that was started here has died."""
    if pool.head.embedded is None:
        check_head(pool.head)
    elif lost := lost_head(pool.head):
        pool.dead.append(f"{lost} died")
        pool.actors.clear()
        _close(pool)
        ray.shutdown()
        clean_up(pool.head.embedded, keep_logs=True)
        pool.head.embedded = connect(None)


def worker_name(number: int) -> str:
    """The name of a worker actor in messages."""
    return f"worker actor {number}"


def others(task: Task) -> list[str]:
    """The names of the actors of a task that are none of workers, that of the server last."""
    assert isinstance(task.executor, Ray)
    return [ADVERSARY, SERVER] if task.executor.adversary_actor else [SERVER]


def hosting(task: Task) -> int:
    """The number of worker actors that host the workers of a task."""
    executor, n = task.executor, task.run.workers.total
    assert isinstance(executor, Ray)
    if executor.workers_per_actor is not None:
        return -(-n // executor.workers_per_actor)
    if executor.actors != "auto":
        return min(executor.actors, n)
    resources = ray.cluster_resources()
    return min(n, max(1, int(resources.get("GPU", 0) or resources.get("CPU", 1))))


def fill(pool: ActorPool, names: Sequence[str]) -> None:
    """Starts those of these actors that are not there yet or died."""
    revive(pool)
    dismiss(pool, not_answering(pool))
    roles = {name: {SERVER: ServerActor, ADVERSARY: AdversaryActor}.get(name, WorkerActor) for name in names}
    gpus = int(ray.cluster_resources().get("GPU", 0))
    # the workers of a GPU share nine tenths of it; server and adversary fit into what is left
    small, workers = min(gpus, 0.05), len({*pool.actors, *roles} - {SERVER, ADVERSARY})
    share = 0.9 / -(-workers // gpus) if gpus else 0.0
    # an actor that was started when there were fewer holds more than that
    hosts = pool.actors.keys() - {SERVER, ADVERSARY}
    dismiss(pool, [name for name in hosts if pool.actors[name].gpu > share])
    hired = [name for name in roles if name not in pool.actors]
    for name in hired:
        gpu = share if roles[name] is WorkerActor else small
        options = {"num_cpus": TRACE, "num_gpus": gpu, "scheduling_strategy": "SPREAD"}
        pool.actors[name] = Actor(ray.remote(roles[name]).options(**options).remote(), gpu)
    if hired and (missing := not_answering(pool)):
        who = " and ".join(f"{name} (asks for {pool.actors[name].gpu:.3g} GPU, {TRACE} CPU)" for name in missing)
        free, whole = ray.available_resources(), ray.cluster_resources()
        offer = " and ".join(f"{free.get(kind, 0):.4g} of {whole.get(kind, 0):g} {kind}" for kind in ("GPU", "CPU"))
        dismiss(pool, missing)
        raise RunError(f"{who} did not start: {causes(missing)}; free in the cluster: {offer}")


def dismiss(pool: ActorPool, names: Iterable[str]) -> None:
    """Ends these actors, and the lines to them."""
    for name in names:
        forget_lines(pool)
        ray.kill(pool.actors.pop(name).handle)


def not_answering(pool: ActorPool) -> dict[str, RayError]:
    """The actors that do not answer, and what Ray says of them."""
    answers = {name: actor.handle.__ray_ready__.remote() for name, actor in pool.actors.items()}
    if answers:
        cores = max(1.0, ray.cluster_resources().get("CPU", 1.0))
        end = time.monotonic() + START_S + MORE_S * len(answers) / cores
        waiting = list(answers.values())
        while waiting and time.monotonic() < end:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=LOOK_S)
            check_head(pool.head)
    missing = {}
    for name, answer in answers.items():
        try:
            ray.get(answer, timeout=0)
        except RayError as error:
            missing[name] = error
    return missing


def causes(missing: dict[str, RayError]) -> str:
    """The causes of the deaths of actors, each once."""
    return " and ".join(sorted({cause(error) for error in missing.values()}))


def cause(error: RayError) -> str:
    """The cause of the death of an actor, in a few words: Ray's own text fills a screen."""
    text = str(error)
    if isinstance(error, OutOfMemoryError):
        return "Ray ended it because its node ran out of memory: try fewer actors or a smaller batch_size"
    if isinstance(error, GetTimeoutError):
        return f"no answer within {START_S} s or more"
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        lost = "node has died" in text or "node was terminated" in text
        return (
            "its node was lost" if lost else "its process was killed (from outside, or for want of memory) or crashed"
        )
    # the last line names the error, those above it are a traceback
    return text.strip().splitlines()[-1][:300]


def forget_lines(pool: ActorPool) -> None:
    """Ends the lines of a pool: its actors leave what they carry out by themselves."""
    for actors in pool.lines:
        for actor in actors:
            # not waited for: what is asked next comes after it, and an actor may be dead
            actor.leave.remote()
    _close(pool)


def _close(pool: ActorPool) -> None:
    for line in (line for lines in pool.lines.values() for line in lines):
        line.close()
    pool.lines.clear()
