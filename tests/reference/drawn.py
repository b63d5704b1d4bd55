"""What byzax draws for a run, as the reference takes it: samples, shards, batches, first parameters, seconds of jobs."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.core import build, message_bits
from simulator.durations import drawing, one_by_one
from simulator.keys import Purpose, derive
from simulator.scenario import Scenario
from simulator.world import load, world
from tests.reference.training import Drawn


@partial(jax.jit, static_argnames=("count", "size"))
def _drawn(root: Any, worker: Any, job: Any, held: Any, count: int | None, size: int) -> Any:
    """Places in a shard of `held` samples: those of `count` local steps `[count, size]`, or of one gradient `[size]`."""
    key = derive(root, Purpose.WORK, worker, job)
    if count is None:
        return jax.random.randint(key, (size,), 0, held)
    return jax.vmap(lambda step: jax.random.randint(jax.random.fold_in(key, step), (size,), 0, held))(jnp.arange(count))


@partial(jax.jit, static_argnames="longest")
def _order(root: Any, worker: Any, job: Any, epoch: Any, held: Any, longest: int) -> Any:
    """The order in which a pass over a shard takes its samples: those that count, shuffled, then what fills it up."""
    key = jax.random.fold_in(derive(root, Purpose.WORK, worker, job), epoch)
    numbers = jax.random.uniform(key, (longest,))
    return jnp.argsort(jnp.where(jnp.arange(longest) < held, numbers, jnp.inf))


def drawn(scenario: Scenario) -> Drawn:
    """All that is drawn for the first repeat of a scenario."""
    data, here = load(scenario.data), world(scenario, scenario.seed)
    size, n, local = scenario.data.batch_size, scenario.workers.total, scenario.local
    sizes, own = np.asarray(here.sizes), np.asarray(here.own)
    shards = [np.asarray(shard)[:held] for shard, held in zip(here.shards, sizes, strict=True)]

    @cache
    def batches(worker: int, job: int) -> list[np.ndarray]:
        held, longest = sizes[worker], here.shards.shape[1]
        if local is None:
            places = [_drawn(here.key, worker, job, held, None, size)]
        elif local.steps is not None:
            places = list(np.asarray(_drawn(here.key, worker, job, held, local.steps, size)))
        else:
            assert local.epochs is not None
            orders = [np.asarray(_order(here.key, worker, job, e, held, longest))[:held] for e in range(local.epochs)]
            places = [order[begin : begin + size] for order in orders for begin in range(0, held, size)]
        return [shards[worker][np.asarray(each)] for each in places]

    @cache
    def fixed(worker: int, job: int) -> tuple[int, int, np.ndarray]:
        held = sizes[worker]
        count = -(-held // size)
        batch = int(_drawn(here.key, worker, job, count, None, 1)[0])
        # samples are dealt in turn, from the first again where they do not come out even
        return batch, count, shards[worker][(batch + np.arange(size) * count) % held]

    @cache
    def server(step: int) -> list[np.ndarray]:
        key = jax.random.fold_in(derive(here.key, Purpose.RULE, step), int(Purpose.SERVER_BATCH))
        return [own[np.asarray(jax.random.randint(key, (size,), 0, len(own)))]]

    spans = drawing(scenario.latency, n, scenario.seed, message_bits(scenario))
    return Drawn(
        x=np.asarray(data.x, np.float64).reshape(len(data.x), -1),
        y=np.asarray(data.y, np.int64 if data.classes else np.float64),
        classes=data.classes,
        shards=shards,
        first=np.asarray(build(scenario, n).start(here).params, np.float64),
        batches=batches,
        fixed=fixed,
        own=server,
        seconds=lambda worker: (down + compute + up for down, compute, up, _ in one_by_one(spans[worker])),
    )
