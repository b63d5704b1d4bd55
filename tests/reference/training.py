"""Worker and server: the parameters after every update, from what was drawn. NumPy, float64, from the papers."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tests.reference.schedule import Policy, Row, policy, updates

Vector = np.ndarray


class Drawn(NamedTuple):
    """The draws of byzax for a run; nothing else is taken from it.

    `x` `[N, features]`, `y` `[N]`: the samples; `classes`: None for regression. `shards`: positions of the samples of
    each worker, n arrays. `first` `[d]`: the parameters at the start: biases, then the matrix `[features, outputs]`.
    `batches(worker, job)`: the positions of the batch of each local step, in order. `fixed(worker, job)`: with SAGA the
    number of the batch that a job takes, of how many, and the positions in it. `own(step)`: the same as `batches` for
    the server's own samples, and with them one more batch, on which losses are measured. `seconds(worker)`: how long
    each of its jobs takes.
    """

    x: np.ndarray
    y: np.ndarray
    classes: int | None
    shards: list[np.ndarray]
    first: Vector
    batches: Callable[[int, int], list[np.ndarray]]
    fixed: Callable[[int, int], tuple[int, int, np.ndarray]]
    own: Callable[[int], tuple[list[np.ndarray], np.ndarray]]
    seconds: Callable[[int], Iterator[float]]


class Formulas(NamedTuple):
    """The formulas in which codes are known to differ; a mutant has another one in the place of one of them."""

    # share of a row in FedAvg, from the numbers of samples [k] -> [k]
    shares: Callable[[np.ndarray], np.ndarray] = lambda samples: samples / samples.sum()
    # (velocity, gradient, beta) -> velocity
    momentum: Mapping[str, Callable[[Vector, Vector, float], Vector]] = MappingProxyType(
        {
            "exponential": lambda m, g, beta: beta * m + (1 - beta) * g,
            "heavy_ball": lambda m, g, beta: beta * m + g,
        }
    )
    # (age, exponent) -> weight of a row
    staleness: Mapping[str, Callable[[int, float], float]] = MappingProxyType(
        {
            "constant": lambda age, exponent: 1.0,
            "polynomial": lambda age, exponent: (1 + age) ** -exponent,
            "exponential": lambda age, exponent: float(np.exp(-exponent * age)),
        }
    )
    # SCAFFOLD: (own, common, before, after, steps * rate, gradient at before on the first batch) -> own variate
    variate: Callable[..., Vector] = lambda own, common, before, after, whole, gradient: (
        own - common + (before - after) / whole
    )
    # FedProx: (parameters, those the job began with) -> direction of the pull
    pull: Callable[[Vector, Vector], Vector] = lambda at, start: at - start
    # SAGA: (gradient, last one of this batch, sum of the last ones, batches) -> row
    saga: Callable[[Vector, Vector, Vector, int], Vector] = lambda g, last, total, count: g - last + total / count
    # (vector, bound) -> vector of that length at most
    clip: Callable[[Vector, float], Vector] = lambda v, bound: v * min(1, bound / max(np.linalg.norm(v), 1e-300))
    # penalties: (parameters) -> gradient of |w|_1 and of |w|²/2
    l1: Callable[[Vector], Vector] = np.sign
    l2: Callable[[Vector], Vector] = lambda w: w
    # the server's own row of fltrust, made as the workers make theirs
    own: Callable[..., Vector] = lambda given, drawn, formulas, w, batches, step: trained(
        given, drawn, formulas, w, batches, step
    )
    # SAGA: the share of each sample in a batch of so many, of so many batches, of so many samples
    equal: Callable[[int, int, int], float] = lambda size, count, held: count / held
    # zeno: (loss before, loss after, row, rho) -> score
    score: Callable[[float, float, Vector, float], float] = lambda before, after, row, rho: (
        before - after - rho * (row @ row)
    )
    # what the server waits for, and which rows it drops
    policy: Callable[..., Policy] = policy
    # the mean of the rows in a bucket of BASGD
    bucket: Callable[[np.ndarray], Vector] = lambda rows: rows.mean(axis=0)


FORMULAS = Formulas()


def loss(drawn: Drawn, w: Vector, places: np.ndarray, share: float | None = None) -> tuple[float, Vector]:
    """The mean loss over these samples, and its gradient `[d]`: softmax cross-entropy, or squared error.

    Where a `share` is given each sample counts so much.
    """
    share = 1 / len(places) if share is None else share
    x, y = drawn.x[places], drawn.y[places]
    outputs = drawn.classes or 1
    scores = x @ w[outputs:].reshape(-1, outputs) + w[:outputs]
    if drawn.classes is None:
        slope = 2 * (scores - y[:, None])
        losses = (scores[:, 0] - y) ** 2
    else:
        scores = scores - scores.max(axis=1, keepdims=True)
        chance = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        losses = -np.log(chance[np.arange(len(y)), y])
        slope = chance - np.eye(outputs)[y]
    slope = share * slope
    return share * losses.sum(), np.concatenate([slope.sum(axis=0), (x.T @ slope).ravel()])


def train(given: dict[str, Any], drawn: Drawn, formulas: Formulas = FORMULAS) -> np.ndarray:
    """The parameters before the first update and after each, `[T + 1, d]`.

    `given` says what a scenario says, in the same words, without defaults other than those of the papers.
    """
    n, f, local = given["workers"]["total"], given["workers"]["byzantine"], given.get("local", {})
    schedule = given.get("schedule", {"name": "synchronous"})
    keeps = schedule["name"] in ("asynchronous", "stale_synchronous") and schedule.get("apply", "table") == "table"
    optimizer = {"learning_rate": 1.0 if local else 0.1, "momentum": 0.0} | given.get("optimizer", {})
    models, velocity = [drawn.first], np.zeros_like(drawn.first)
    memory, last = Memory(drawn), {}

    for step, arrived in enumerate(updates(formulas.policy(schedule, n, f), n, given["steps"], drawn.seconds)):
        here = models[-1]
        rows = {each.worker: (row_of(given, drawn, formulas, memory, each, models), each.version) for each in arrived}
        if given.get("attack") == "sign_flip":
            rows = {i: (-row if i < f else row, version) for i, (row, version) in rows.items()}
        if local.get("control_variates"):
            # all workers are in every round: the server's c + sum of the changes / n is the mean of what they hold
            memory.common = memory.variates.mean(axis=0)
        if keeps:
            last |= rows
            rows = {i: last[i] for i in sorted(last)}
        who = np.array([*rows])
        lighter, exponent = formulas.staleness[schedule.get("staleness", "constant")], schedule.get("exponent", 0.5)
        seen = np.stack([row * lighter(step - version, exponent) for row, version in rows.values()])
        samples = np.array([len(drawn.shards[i]) for i in who])
        if schedule["name"] == "basgd":
            bucket = who % (schedule.get("buckets") or 2 * f + 1)
            seen = np.stack([formulas.bucket(seen[bucket == b]) for b in np.unique(bucket)])

        def moved(aggregate: Vector, w: Vector = here, v: Vector = velocity) -> tuple[Vector, Vector]:
            descent = w - aggregate if local.get("send") == "model" else aggregate
            v = optimizer["momentum"] * v + descent
            change = optimizer["momentum"] * v + descent if optimizer.get("nesterov") else v
            after, bound = w - optimizer["learning_rate"] * change, given.get("regularisation", {}).get("max_norm")
            return after if bound is None else formulas.clip(after, bound), v

        after, velocity = moved(aggregated(given, drawn, formulas, seen, samples, here, step, moved))
        models.append(after)
    return np.stack(models)


class Memory:
    """The memory of workers, of their rows that were used: nothing at the start."""

    def __init__(self, drawn: Drawn):
        n, d = len(drawn.shards), len(drawn.first)
        self.velocity, self.variates, self.common = np.zeros((n, d)), np.zeros((n, d)), np.zeros(d)
        self.gradients: dict[tuple[int, int], Vector] = {}


def gradient(
    given: dict[str, Any], drawn: Drawn, formulas: Formulas, w: Vector, places: np.ndarray, share: float | None = None
) -> Vector:
    """One gradient of a worker: with the penalties, then clipped by value, then by length."""
    penalties, clipping = given.get("regularisation", {}), given.get("clipping", {})
    found = loss(drawn, w, places, share)[1]
    found = found + penalties.get("l1", 0) * formulas.l1(w) + penalties.get("l2", 0) * formulas.l2(w)
    if "value" in clipping:
        found = np.clip(found, -clipping["value"], clipping["value"])
    return formulas.clip(found, clipping["norm"]) if "norm" in clipping else found


def trained(
    given: dict[str, Any],
    drawn: Drawn,
    formulas: Formulas,
    w: Vector,
    batches: list[np.ndarray],
    version: int,
    control: Any = 0.0,
) -> Vector:
    """Local steps on these batches from `w`, as sent; without local steps the gradient on the only one.

    The model that the job began with is the one after `version` updates; `control` is added to every gradient.
    """
    local = given.get("local")
    if local is None:
        return gradient(given, drawn, formulas, w, batches[0])
    at, rate = w, local.get("learning_rate", 0.1)
    if isinstance(rate, dict):
        rate = rate["start"] * rate["half_at"] / (version + rate["half_at"])
    for places in batches:
        slope = gradient(given, drawn, formulas, at, places) + local.get("proximal", 0) * formulas.pull(at, w) + control
        at = at - rate * slope
    return at if local.get("send") == "model" else w - at


def row_of(
    given: dict[str, Any], drawn: Drawn, formulas: Formulas, memory: Memory, row: Row, models: list[Vector]
) -> Vector:
    """The row of a job that is in an update; what its worker remembers goes on."""
    i, w, local = row.worker, models[row.version], given.get("local", {})
    if given.get("variance_reduction") == "saga":
        number, count, places = drawn.fixed(i, row.job)
        share, nothing = formulas.equal(len(places), count, len(drawn.shards[i])), np.zeros_like(w)
        found = gradient(given, drawn, formulas, w, places, share)
        before = [memory.gradients.get((i, b), nothing) for b in range(count)]
        memory.gradients[i, number] = found
        sent = formulas.saga(found, before[number], sum(before, nothing), count)
    elif local.get("control_variates"):
        batches, own, common = drawn.batches(i, row.job), memory.variates[i].copy(), memory.common
        sent = trained(given, drawn, formulas, w, batches, row.version, common - own)
        first = gradient(given, drawn, formulas, w, batches[0])
        whole = len(batches) * local["learning_rate"]
        memory.variates[i] = formulas.variate(own, common, w, w - sent, whole, first)
    else:
        sent = trained(given, drawn, formulas, w, drawn.batches(i, row.job), row.version)
    momentum = given.get("worker_momentum")
    if momentum is None:
        return sent
    move = formulas.momentum[momentum.get("kind", "exponential")]
    memory.velocity[i] = move(memory.velocity[i], sent, momentum["beta"])
    return memory.velocity[i].copy()


def aggregated(
    given: dict[str, Any],
    drawn: Drawn,
    formulas: Formulas,
    rows: np.ndarray,
    samples: np.ndarray,
    w: Vector,
    step: int,
    moved: Callable[[Vector], tuple[Vector, Vector]],
) -> Vector:
    """The aggregate of the rows `[k, d]`, behind which are `samples` `[k]`, at the model `w`.

    `moved(aggregate)` gives the model that the server would make of it.
    """
    rule, f, k = given["rule"], given["workers"]["byzantine"], len(rows)
    if rule["name"] == "average":
        return (formulas.shares(samples) if given.get("weights") == "samples" else np.full(k, 1 / k)) @ rows
    if rule["name"] == "median":
        return np.median(rows, axis=0)
    if rule["name"] == "trimmed_mean":
        return np.sort(rows, axis=0)[f : k - f].mean(axis=0)
    batches, measured = drawn.own(step)
    if rule["name"] == "fltrust":
        own = formulas.own(given, drawn, formulas, w, batches, step)
        units, length = rows / np.linalg.norm(rows, axis=1)[:, None], np.linalg.norm(own)
        trust = np.maximum(units @ own / length, 0)
        return trust / trust.sum() @ units * length
    assert rule["name"] == "zeno"
    before = loss(drawn, w, measured)[0]
    scores = [formulas.score(before, loss(drawn, moved(row)[0], measured)[0], row, rule["rho"]) for row in rows]
    return rows[np.argsort(-np.array(scores), kind="stable")[: k - f]].mean(axis=0)
