"""Pulls of models: a worker asks one server after the other for its model, until one passes two filters (ByzSGD)."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from byzax.options import PartError
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.latency import Link
from byzax.simulator.config.part import Part
from byzax.simulator.config.run import Run
from byzax.simulator.jobs import Work
from byzax.simulator.keys import Purpose, generator
from byzax.simulator.periodic import check_in_step
from byzax.simulator.training import build_rate
from byzax.simulator.world import World

Array = jax.Array


class Pulling(NamedTuple):
    """The settings of pulls.

    Attributes:
        servers: Number of servers.
        byzantine: Number of Byzantine ones among them.
        n: Number of workers.
        f: Number of Byzantine ones among them.
        every: Rounds from one after which workers hear all servers, and pull nothing, to the next.
        window: Number of Lipschitz coefficients that a worker remembers.
    """

    servers: int
    byzantine: int
    n: int
    f: int
    every: int
    window: int


class PullMemory(NamedTuple):
    """The memory of a worker that pulls models.

    Attributes:
        gradient: `[d]`, the gradient of its last job, or of the next one where it has that already: by it a model that
            was pulled was accepted.
        reach: Length of its first step after servers last exchanged models: learning rate times norm of the gradient.
        coefficients: `[window]`, the Lipschitz coefficients of the models that it tried last, infinity for none.
        tried: Number of models that it tried so far.
        first: The server that it asks first in round 0; in round t it is the t-th one after that.
        pulled: `[servers]`, the number of models that it pulled from each server so far.
    """

    gradient: Any
    reach: Any
    coefficients: Any
    tried: Any
    first: Any
    pulled: Any


class PullModel(Protocol):
    """Pulls the model of the next job."""

    def __call__(
        self, world: World, worker: Any, t: Any, params: Array, memory: PullMemory, models: Array, /
    ) -> tuple[Array, PullMemory]:
        """The model that a worker goes on with after round t.

        Args:
            world: Arrays of the run.
            worker: The worker.
            t: The round.
            params: `[d]`, the model of its job of the round.
            memory: Its memory, with the gradient of that job.
            models: `[servers, d]`, the models that servers send it if it asks.

        Returns:
            The model, and the memory with the gradient of the next job at it.
        """
        ...


class BeginJob(Protocol):
    """Makes the gradient of a job that was not made by a pull."""

    def __call__(self, world: World, worker: Any, t: Any, params: Array, memory: PullMemory, /) -> PullMemory:
        """The memory of a worker with the gradient of its job of round t.

        Args:
            world: Arrays of the run.
            worker: The worker.
            t: The round.
            params: `[d]`, the model of the job.
            memory: Its memory.

        Returns:
            The memory.
        """
        ...


class Pulls(NamedTuple):
    """The functions of a worker that pulls models, compiled.

    Attributes:
        begin: Makes the gradient of a job that was not made by a pull.
        pull: Pulls the model of the next job.
    """

    begin: BeginJob
    pull: PullModel


def check_pulls(run: Run) -> None:
    """Checks that all of a run is in step, and that its steps are those of which the filters know.

    Args:
        run: The run.

    Raises:
        PartError: Says which key to change, and how.
    """
    label = f"{run.topology.label} with variant synchronous"
    check_in_step(run, label=label)
    refused = [
        (run.optimizer.name != "sgd", "a worker foresees its next model by its own gradient: take optimizer sgd"),
        (run.local is not None, "a row is one gradient: leave local out"),
        (run.variance_reduction is not None, "filters compare gradients as they are: leave variance_reduction out"),
        (run.privacy is not None, "a worker chooses its row by gradients without noise: leave privacy out"),
        (run.latency.peer != Link(), "exchanges of servers take no time: leave latency.peer out"),
    ]
    for wrong, words in refused:
        if wrong:
            raise PartError(f"{label}: {words}, or take variant asynchronous")


def start_pulls(how: Pulling, d: int, seed: int) -> list[PullMemory]:
    """The memories of all workers before the first round.

    Args:
        how: The settings.
        d: Number of parameters.
        seed: Seed of the run.

    Returns:
        The memories, n of them, each with a server drawn to begin with.
    """
    first = generator(seed, Purpose.PULL).integers(how.servers, size=how.n).astype(np.int32)
    return [
        PullMemory(
            gradient=jnp.zeros(d),
            reach=jnp.zeros(()),
            coefficients=jnp.full(how.window, jnp.inf),
            tried=jnp.int32(0),
            first=jnp.asarray(first[worker]),
            pulled=jnp.zeros(how.servers, jnp.int32),
        )
        for worker in range(how.n)
    ]


def largest_coefficient(coefficients: Array, tried: Array, how: Pulling) -> Array:
    """The largest Lipschitz coefficient of a model that passes: a quantile of those of the models tried before.

    Args:
        coefficients: `[window]`, the last ones, infinity for none.
        tried: Number of models tried so far.
        how: The settings.

    Returns:
        The smallest of them that is as large as a share of (servers - byzantine) / servers of them at least; infinity
        where no model was tried.
    """
    known = jnp.minimum(tried, how.window)
    rank = -(-known * (how.servers - how.byzantine) // how.servers)
    return jnp.where(known > 0, jnp.sort(coefficients)[jnp.maximum(rank - 1, 0)], jnp.inf)


def largest_distance(reach: Array, t: Array, how: Pulling) -> Array:
    """The distance from a worker's own guess of its next model within which a model passes.

    Args:
        reach: See `PullMemory.reach`.
        t: The round.
        how: The settings.

    Returns:
        reach ((3T + 2) (n - f) / (4f) + 2 ((t - 1) mod T)), T being `every`; infinity for f = 0.
    """
    if not how.f:
        return jnp.full_like(reach, jnp.inf)
    spread = (3 * how.every + 2) * (how.n - how.f) / (4 * how.f)
    return reach * (spread + 2 * ((t - 1) % how.every))


@compiled_once
def build_pulls(work: Work, optimizer: Part, updates: int, how: Pulling) -> Pulls:
    """Builds the functions of a worker that pulls models.

    Args:
        work: Does a worker's job.
        optimizer: The optimizer of the servers, of which the learning rate is known.
        updates: Number of updates of the run where the learning rate depends on it, else 0.
        how: The settings.

    Returns:
        The functions.
    """
    speed = build_rate(optimizer.options()["learning_rate"], updates)

    def rate(t: Any) -> Any:
        return speed(t) if callable(speed) else speed

    @jax.jit
    def begin(here: World, worker: Array, t: Array, params: Array, memory: PullMemory) -> PullMemory:
        def made() -> PullMemory:
            gradient = work(here, params, worker, t, t)
            return memory._replace(gradient=gradient, reach=rate(t) * jnp.linalg.norm(gradient))

        return jax.lax.cond(t % how.every == 0, made, lambda: memory)

    @jax.jit
    def pull(
        here: World, worker: Array, t: Array, params: Array, memory: PullMemory, models: Array
    ) -> tuple[Array, PullMemory]:
        last = memory.gradient
        guess, step = params - rate(t) * last, rate(t) * jnp.linalg.norm(last)
        within = largest_distance(memory.reach, t, how)

        def ask(carry: tuple[Array, Array, Array, PullMemory]) -> tuple[Array, Array, Array, PullMemory]:
            asked, _, _, own = carry
            # the worker's own guess once all servers were asked
            theirs = asked < how.servers
            server = (own.first + t + asked) % how.servers
            model = jnp.where(theirs, models[server], guess)
            gradient = work(here, model, worker, t + 1, t + 1)
            change = jnp.linalg.norm(gradient - last)
            coefficient = jnp.where(change > 0, change / step, 0)
            # of what is no number too
            coefficient = jnp.where(jnp.isfinite(change), coefficient, jnp.inf)
            smooth = (coefficient < jnp.inf) & (coefficient <= largest_coefficient(own.coefficients, own.tried, how))
            near = jnp.linalg.norm(model - guess) < within
            known = own.coefficients.at[own.tried % how.window].set(coefficient)
            own = own._replace(
                gradient=gradient,
                coefficients=jnp.where(theirs, known, own.coefficients),
                tried=own.tried + theirs,
                pulled=own.pulled.at[server].add(theirs),
            )
            return asked + 1, (smooth & near) | ~theirs, model, own

        def refused(carry: tuple[Array, Array, Array, PullMemory]) -> Array:
            return ~carry[1]

        *_, params, memory = jax.lax.while_loop(refused, ask, (jnp.int32(0), jnp.array(False), params, memory))
        return params, memory

    return Pulls(begin, pull)
