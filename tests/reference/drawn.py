"""The draws of byzax for a run: samples, shards, batches, first parameters and seconds, as the reference takes them."""

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.config.study import Study
from byzax.simulator.core import build
from byzax.simulator.durations import build_draws, iterate_jobs
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.wire import wire_bits
from byzax.simulator.world import load, world
from tests.reference.training import Drawn


@partial(jax.jit, static_argnames=("count", "size"))
def _drawn(key: Any, held: Any, count: int | None, size: int) -> Any:
    """Places among `held` samples: those of `count` local steps `[count, size]`, or of one gradient `[size]`."""
    if count is None:
        return jax.random.randint(key, (size,), 0, held)
    return jax.vmap(lambda step: jax.random.randint(jax.random.fold_in(key, step), (size,), 0, held))(jnp.arange(count))


@partial(jax.jit, static_argnames="longest")
def _order(key: Any, epoch: Any, held: Any, longest: int) -> Any:
    """The order in which a pass over a shard takes its samples: those that count, shuffled, then what fills it up."""
    numbers = jax.random.uniform(jax.random.fold_in(key, epoch), (longest,))
    return jnp.argsort(jnp.where(jnp.arange(longest) < held, numbers, jnp.inf))


_job_key = jax.jit(lambda root, worker, job: derive(root, Purpose.WORK, worker, job))
_own_key = jax.jit(lambda root, step: jax.random.fold_in(derive(root, Purpose.RULE, step), int(Purpose.SERVER_BATCH)))


def drawn(scenario: Study) -> Drawn:
    """All that is drawn for the first repeat of a scenario."""
    data, here = load(scenario.data), world(scenario.run)
    size, n, local = scenario.data.batch_size, scenario.workers.total, scenario.local
    sizes, own = np.asarray(here.sizes), np.asarray(here.validation)
    shards = [np.asarray(shard)[:held] for shard, held in zip(here.shards, sizes, strict=True)]

    def places(key: Any, shard: np.ndarray, longest: int, steps: int | None = None) -> list[np.ndarray]:
        """The batches of a job on these samples, of `longest` at most; with epochs so many `steps`, if given."""
        held = len(shard)
        if local is None or local.steps is not None:
            each = np.asarray(_drawn(key, held, local and local.steps, size)).reshape(-1, size)
        else:
            assert local.epochs is not None
            epochs = local.epochs if steps is None else -(-steps // -(-held // size))
            orders = [np.asarray(_order(key, e, held, longest))[:held] for e in range(epochs)]
            each = [order[begin : begin + size] for order in orders for begin in range(0, held, size)][:steps]
        return [shard[place] for place in each]

    # in epochs the server takes as many steps as a worker does on average
    average = None if local is None or local.epochs is None else round(local.epochs * np.mean(-(-sizes // size)))

    @cache
    def batches(worker: int, job: int) -> list[np.ndarray]:
        return places(_job_key(here.key, worker, job), shards[worker], here.shards.shape[1])

    @cache
    def fixed(worker: int, job: int) -> tuple[int, int, np.ndarray]:
        count = -(-len(shards[worker]) // size)
        batch = int(_drawn(_job_key(here.key, worker, job), count, None, 1)[0])
        # samples are dealt to the batches in turn
        return batch, count, shards[worker][batch::count]

    @cache
    def server(step: int) -> tuple[list[np.ndarray], np.ndarray]:
        key = _own_key(here.key, step)
        return places(key, own, len(own), average), own[np.asarray(_drawn(key, len(own), None, size))]

    def seconds(worker: int) -> Iterator[float]:
        # drawn anew each time: what draws is a stream, and a case is asked for again with other formulas
        span = build_draws(scenario.latency, n, scenario.seed, wire_bits(scenario.run))[worker]
        return (down + compute + up for down, compute, up, _ in iterate_jobs(span))

    return Drawn(
        x=np.asarray(data.values(), np.float64).reshape(len(data.x), -1),
        y=np.asarray(data.y, np.int64 if data.classes else np.float64),
        classes=data.classes,
        shards=shards,
        first=np.asarray(build(scenario.run, n).start(here).params, np.float64),
        batches=batches,
        fixed=fixed,
        own=server,
        seconds=seconds,
    )
