"""Servers with slices of a model, each an actor: memory and time without models, data and attackers."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import ray

from byzax import aggregators
from byzax.aggregators.kernels.sharding import part_of_next, result_of
from byzax.simulator.slices import Cuts


class SliceServer:
    """A server: its slices of the model, of the rows of an update, and of the states of rule and optimizer."""

    def __init__(self, cuts: Cuts, server: int, rule: str, n: int, f: int) -> None:
        """Begins with a model of zeros.

        Args:
            cuts: The slices.
            server: Number of the server.
            rule: Name of the rule.
            n: Number of rows.
            f: Number of rows that may be Byzantine.
        """
        form, where = aggregators.build(rule, n, f).sharded, cuts.slice(server)
        assert form is not None
        optimizer, context = optax.sgd(0.1, momentum=0.9), aggregators.Context(jax.random.key(0))

        @jax.jit
        def part(rows: Any, state: Any, heard: Any) -> Any:
            return part_of_next(form.steps(rows, state, context, where), heard)

        @partial(jax.jit, donate_argnums=(0, 1, 2))
        def move(model: Any, optimizer_state: Any, state: Any, rows: Any, heard: Any) -> Any:
            aggregate, state, _ = result_of(form.steps(rows, state, context, where), heard)
            change, optimizer_state = optimizer.update(aggregate, optimizer_state, model)
            return optax.apply_updates(model, change), optimizer_state, state

        self.part, self.move = part, move
        self.rows = np.zeros((n, cuts.width), np.float32)
        model = jnp.zeros(cuts.width)
        self.states = model, optimizer.init(model), form.init(where, cuts.width)

    def take(self, i: int, row: np.ndarray) -> None:
        """Takes the slice of a row."""
        self.rows[i, : len(row)] = row

    def measure(self, *heard: np.ndarray) -> np.ndarray:
        """The numbers of the next exchange, after those of all servers in the exchanges before."""
        return np.asarray(self.part(self.rows, self.states[2], list(heard)))

    def update(self, *heard: np.ndarray) -> float:
        """Makes the step of the optimizer. Gives the peak of the memory of this process, in bytes."""
        self.states = jax.block_until_ready(self.move(*self.states, self.rows, list(heard)))
        # in KiB on Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


class RowMaker:
    """All workers: makes their rows."""

    def make(self, seed: int, worker: int, server: int, size: int) -> np.ndarray:
        """The slice of a row: random numbers `[size]`."""
        return np.random.default_rng([seed, worker, server]).random(size, np.float32)


class SliceServers(NamedTuple):
    """Servers that are actors.

    Attributes:
        fill: Gives every server its slices of n new rows, from the number of the update.
        update: Carries out an update; gives the bytes that a server sent to each other one, and the peaks of memory of
            all, in bytes.
    """

    fill: Callable[[int], None]
    update: Callable[[], tuple[int, list[float]]]


@contextmanager
def slice_servers(cuts: Cuts, rule: str, n: int, f: int) -> Iterator[SliceServers]:
    """Starts servers, in a Ray of their own.

    Args:
        cuts: The slices.
        rule: Name of the rule.
        n: Number of rows.
        f: Number of rows that may be Byzantine.

    Yields:
        The servers.
    """
    # the slices of one row are on their way at a time, and those of the next are made
    store = max(3 * cuts.servers * cuts.width * 4, 100 * 2**20)
    ray.init(address="local", include_dashboard=False, object_store_memory=store, log_to_driver=False)
    try:
        workers: Any = ray.remote(num_cpus=0)(RowMaker).remote()
        actor: Any = ray.remote(num_cpus=0)(SliceServer)
        actors = [actor.remote(cuts, s, rule, n, f) for s in range(cuts.servers)]
        form = aggregators.build(rule, n, f).sharded
        assert form is not None

        def fill(step: int) -> None:
            for i in range(n):
                slices = [workers.make.remote(step, i, s, cuts.slice(s).size) for s in range(cuts.servers)]
                ray.get([each.take.remote(i, row) for each, row in zip(actors, slices, strict=True)])

        def update() -> tuple[int, list[float]]:
            heard: list[np.ndarray] = []
            for _ in range(form.exchanges):
                heard.append(np.stack(ray.get([each.measure.remote(*heard) for each in actors])))
            return sum(each[0].nbytes for each in heard), ray.get([each.update.remote(*heard) for each in actors])

        yield SliceServers(fill, update)
    finally:
        ray.shutdown()
