"""What an attack is: types and statistics shared by every file of this folder."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
State = Any


class Answer(NamedTuple):
    """The answer of the rule in use to rows that an attack tries.

    `aggregate` `[d]`. `weights` `[n]`: the share of each row in it, None where the rule gives its rows none. `rows`
    `[n, d]`: those that the rule was asked about; an old row that the server keeps is not replaced by one that is
    tried.
    """

    aggregate: Array
    weights: Array | None
    rows: Array


class View(NamedTuple):
    """What the adversary sees of one update.

    `rows` `[n, d]`: what each worker computed by the protocol, the Byzantine ones included: gradients, or changes of
    the model as a descent, also where workers send models; where a row is hidden from the adversary, one that it knows
    stands in its place. `byzantine` `[n]`: which rows the adversary may replace; an update of fewer than all workers
    may hold fewer than f of them. `known` `[n]`: the rows that tell it what honest workers send, from which all
    statistics are taken: those of the honest workers where it sees everything. `workers` `[n]`: whose rows these are.
    `params` `[d]`: the model the server holds. `ask_rule(rows [n, d])` gives the `Answer` of the rule in use in its
    present state, without the filter where there is one. `loss`: of a model `[d]`, on samples of the Byzantine workers.
    `step`: the server's count of updates so far. `receiver`: the number of the server that the rows go to, always 0
    where there is one server. `new` `[n]`: which rows came for this update; all others are the last ones that the
    server keeps, or that an adversary remembers to whom rows come one at a time. `counts` `[n]`: what each row weighs
    by itself, the number of samples that its worker says it holds where that counts, else 1. `rate`: by what the server
    multiplies the aggregate where rows are changes of the model and its optimizer is plain SGD, else 1. `after`: the
    model `[d]` that the server's optimizer makes of `params` where an aggregate `[d]` is the rule's answer, with its
    rate, momentum and bound; None where there is no server.
    """

    rows: Array
    byzantine: Array
    known: Array
    workers: Array
    params: Array
    ask_rule: Callable[[Array], Answer]
    loss: Callable[[Array], Array]
    step: Array
    receiver: Array | np.int32 = np.int32(0)
    new: Array | np.bool_ = np.bool_(True)
    counts: Array | np.float32 = np.float32(1)
    rate: Array | np.float32 = np.float32(1)
    after: Callable[[Array], Array] | None = None


def view_of(
    rows: Array,
    byzantine: Array,
    *,
    apply: Callable[[Array], tuple[Array, Any, Any]] | None = None,
    params: Array | None = None,
    loss: Callable[[Array], Array] | None = None,
    step: int | Array = 0,
) -> View:
    """The view of an adversary that sees everything, in a training loop of one's own.

    Args:
        rows: `[n, d]`, what each worker computed.
        byzantine: `[n]`, which of them are Byzantine.
        apply: the rule in use, for attacks that ask it: `lambda rows: rule.apply(rows, state)`.
        params: the model `[d]`; zeros without one.
        loss: of a model `[d]`, for attacks that measure harm by it.
        step: updates so far.

    Returns:
        The view that `Attack.forge(key, view, state)` takes. An attack that needs what was not given raises ValueError.

    Raises:
        ValueError: for rows that are not `[n, d]`, or a number of Byzantine marks that is not n.

    Example:
        >>> rows, byzantine = jnp.ones((3, 2)), jnp.array([True, False, False])
        >>> view_of(rows, byzantine).known.tolist()
        [False, True, True]
    """
    rows, byzantine = jnp.asarray(rows), jnp.asarray(byzantine, bool)
    if rows.ndim != 2 or byzantine.shape != rows.shape[:1]:
        raise ValueError(
            f"view_of needs rows [n, d] and n truth values, got rows {list(rows.shape)} and {list(byzantine.shape)}"
        )

    def ask_rule(tried: Array) -> Answer:
        if apply is None:
            raise ValueError("this attack asks the rule: give view_of apply=lambda rows: rule.apply(rows, state)")
        aggregate, _, info = apply(tried)
        return Answer(aggregate, info.weights, tried)

    def no_loss(params: Array) -> Array:
        raise ValueError("this attack measures the loss: give view_of loss=, a function of a model [d]")

    n, d = rows.shape
    return View(
        rows,
        byzantine,
        known=~byzantine,
        workers=jnp.arange(n),
        params=jnp.zeros(d, rows.dtype) if params is None else params,
        ask_rule=ask_rule,
        loss=loss or no_loss,
        step=jnp.asarray(step),
        new=jnp.ones(n, bool),
        counts=jnp.ones(n),
    )


class Batch(NamedTuple):
    """One batch of samples, in units of the data's range and before they are normalised: 0 is the background of images
    (black, or paper) and the lowest value of a table's feature, 1 the other end. Characters are as they are.

    `x` `[b, ...]`, labels `y` `[b]` in 0..`classes`-1; `classes` is a scalar, None for values.

    `rank`: which of the attack's Byzantine workers trains on it, 0..f-1. `real`: how many samples there are, where the
    others, at the end, only fill the batch up and count for nothing; None for all.
    """

    x: Array
    y: Array
    classes: Array | None
    rank: Array | int = 0
    real: Array | None = None


class Goal(NamedTuple):
    """What a backdoor wants: samples `trigger(x)` `[b, ...]` get the label `target`; `x` is in units of the range."""

    target: int
    trigger: Callable[[Array], Array]


class Attack(NamedTuple):
    """An attack by `f` of `n` workers, as pure functions.

    `init(d)` gives the state before the first update. `forge(key, view, state)` gives `(rows [n, d], state)`; only the
    Byzantine rows of it are used. `corrupt(key, batch)` gives the batch that a Byzantine worker trains on. `goal`: by
    what its success is measured. `claim(samples [n])` gives the numbers of samples that its workers say they hold, of
    those that they do. Each of the four is None where the attack does not use it. `questions`: how often `forge` asks
    the rule in one update. `needs`: which functions of the `View` `forge` calls, of "ask_rule", "loss" and "after".
    `reads_labels`: `corrupt` reads or changes labels, and data has to have them.
    """

    init: Callable[[int], State] = lambda d: ()
    forge: Callable[[Array, View, State], tuple[Array, State]] | None = None
    corrupt: Callable[[Array, Batch], Batch] | None = None
    goal: Goal | None = None
    claim: Callable[[Array], Array] | None = None
    questions: int = 0
    needs: frozenset[str] = frozenset()
    reads_labels: bool = False


def check(name: str, n: int, f: int) -> None:
    """Raises ValueError unless 0 <= f <= n and n >= 1; f = 0 is an attack that nobody carries out."""
    if n < 1 or not 0 <= f <= n:
        raise ValueError(f"{name} needs n >= 1 workers and 0 <= f <= n of them Byzantine, got n={n}, f={f}")


def classes_of(name: str, batch: Batch) -> Array:
    """The number of labels. Raises ValueError where the data has values in place of labels."""
    if batch.classes is None:
        raise ValueError(
            f"{name} changes labels, and this data has values: take feature_noise, or an attack that changes rows"
        )
    return batch.classes


def stateless(forged: Callable[[Array, View], Array]) -> Attack:
    """The attack whose Byzantine rows are `forged(key, view)`, `[d]` (the same for each) or `[n, d]`."""

    def forge(key: Array, view: View, state: State) -> tuple[Array, State]:
        rows = jnp.where(view.byzantine[:, None], forged(key, view).astype(view.rows.dtype), view.rows)
        return rows, state

    return Attack(forge=forge)


def count_of(view: View) -> Array:
    """The number of rows, without what only fills up an update."""
    return (view.workers >= 0).sum()


def rank(byzantine: Array) -> Array:
    """For each Byzantine row how many stand before it, `[n]`; at the other rows a number of no meaning, at least 0."""
    return jnp.maximum(jnp.cumsum(byzantine) - 1, 0)


def honest_mean(view: View, values: Array | None = None) -> Array:
    """Mean of the honest rows that are known (or of these rows of `values` `[n, d]`), `[d]`, in float32 or wider.

    Zeros where there is none.
    """
    values = view.rows if values is None else values
    wide = jnp.promote_types(values.dtype, jnp.float32)
    # a mask, not a product with 0: what Byzantine workers computed may be NaN or infinite
    kept = jnp.where(view.known[:, None], values.astype(wide), 0)
    weights = view.known / jnp.maximum(view.known.sum(), 1).astype(wide)
    # XLA on CPU takes several times as long for a sum over the leading axis
    return jnp.matmul(weights, kept, precision=jax.lax.Precision.HIGHEST)


def honest_deviation(view: View, ddof: int = 0) -> Array:
    """Standard deviation of the known honest rows at each coordinate, `[d]`, 0 where they are no more than `ddof`.

    Their squared differences are divided by their number less `ddof`.
    """
    mean = honest_mean(view)
    variance = honest_mean(view, jnp.square(view.rows.astype(mean.dtype) - mean))
    if ddof:
        count = view.known.sum()
        variance *= jnp.where(count > ddof, count / jnp.maximum(count - ddof, 1), 0).astype(mean.dtype)
    return jnp.sqrt(variance)
