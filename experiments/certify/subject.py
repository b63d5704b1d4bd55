"""The rule that is measured, as one compiled function over a batch of updates."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.aggregators import Aggregator, Context
from byzax.simulator import interrupts
from byzax.simulator.config.part import Part
from byzax.simulator.contracts import build_rule, errors_of, location, require

Array = jax.Array
# Rows of one batch, in bytes: less than the size that the C library maps anew each time (32 MiB), since to get
# the pages takes longer than most rules. A batch is a whole number of updates, and at most so many.
BATCH_BYTES, BATCH_UPDATES = 2**24, 64
DRAWS_BYTES = 2**28  # of draws that are held at once


class Subject(NamedTuple):
    """A rule for n rows of which f are declared Byzantine.

    Attributes:
        label: Label of the rule.
        part: Its description.
        pre: Descriptions of what stands before it.
        n: Number of rows.
        f: Number of declared rows.
        ask: From rows `[b, n, d]`, the server's own rows `[b, d]` and keys `[b]` to the aggregates `[b, d]`, each from
            the state before the first update (centered_clipping: the last aggregate is 0), and the weights `[b, n]` of
            the rows, None for rules without. The loss of the server's data is <own, w> + |w|²/2, with gradient `own` at
            the model w = 0.
        trusting: Whether the rule uses a row or loss of the server's own.
    """

    label: str
    part: Part
    pre: tuple[Part, ...]
    n: int
    f: int
    ask: Callable[[Array, Array, Array], tuple[Array, Array | None]]
    trusting: bool


def build_subject(label: str, part: Part, pre: Sequence[Part], n: int, f: int, d: int) -> Subject:
    """Builds the rule of a description and traces it at its sizes.

    Args:
        label: Label of the rule.
        part: Its description.
        pre: Descriptions of what stands before it.
        n: Number of rows.
        f: Number of declared rows.
        d: Number of parameters.

    Returns:
        The rule.

    Raises:
        ScenarioError: One line for an impossible (n, f), an option out of range, or a rule that fails.
    """
    with errors_of("rule", part):
        rule = build_rule(part, tuple(pre), n, f)
    ask = build_batched_rule(rule)
    with errors_of("rule", part):
        shapes = (jax.ShapeDtypeStruct((1, n, d), jnp.float32), jax.ShapeDtypeStruct((1, d), jnp.float32))
        answer: Any = jax.eval_shape(ask, *shapes, jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1)))[0]
        wanted = f"{part.label}: apply must give an aggregate [d={d}]"
        require(answer.shape == (1, d), f"{wanted}, got {list(answer.shape[1:])}{location(part, rule.apply)}")
    return Subject(label, part, tuple(pre), n, f, ask, bool(rule.needs & {"gradient", "loss"}))


def build_batched_rule(rule: Aggregator) -> Callable[[Array, Array, Array], tuple[Array, Array | None]]:
    """Compiles a rule over a batch of updates.

    Args:
        rule: The rule.

    Returns:
        The function `Subject.ask`.
    """

    def one(update: tuple[Array, Array, Array]) -> tuple[Array, Array | None]:
        rows, own, key = update

        def loss(params: Array) -> Array:
            return own @ params + 0.5 * params @ params

        context = Context(key, jnp.zeros_like(own), gradient=lambda: own, loss=loss)
        aggregate, _, info = rule.apply(rows, rule.init(rows.shape[1]), context)
        return aggregate, info.weights

    # a loop and no vmap: rules with loops of their own would run them in step, and it compiles once per shape
    return jax.jit(lambda rows, own, keys: jax.lax.map(one, (rows, own, keys)))


def batch_size(n: int, d: int) -> int:
    """The number of updates of one batch: fixed for n and d, so that a rule is compiled once for them.

    Args:
        n: Number of rows.
        d: Number of parameters.

    Returns:
        The number.
    """
    return int(np.clip(BATCH_BYTES // (4 * n * d), 1, BATCH_UPDATES))


def draws_within_memory(draws: int, n: int, d: int) -> int:
    """The number of draws that fit into memory at once.

    Args:
        draws: The number wanted.
        n: Number of rows.
        d: Number of parameters.

    Returns:
        At most `draws`, and at least 8 of them.
    """
    return int(np.clip(DRAWS_BYTES // (4 * n * d), 8, draws))


def answers(subject: Subject, rows: np.ndarray, own: np.ndarray, key: Array) -> np.ndarray:
    """The aggregates of a rule, batch by batch; the last batch is filled up with its last update.

    Args:
        subject: The rule.
        rows: `[m, n, d]`, on the host.
        own: `[m, d]`, the server's own rows.
        key: A key; the draws of update i depend on it and on i alone.

    Returns:
        `[m, d]`, on the host.
    """
    count, n, d = rows.shape
    size = batch_size(n, d)
    batches = []
    for start in range(0, count, size):
        interrupts.check()
        chosen = np.minimum(np.arange(start, start + size), count - 1)
        some = slice(start, start + size) if start + size <= count else chosen  # a slice is no copy
        answer, _ = subject.ask(jnp.asarray(rows[some]), jnp.asarray(own[some]), numbered_keys(key, chosen))
        batches.append(np.asarray(answer))
    return np.concatenate(batches)[:count]


@jax.jit
def numbered_keys(key: Array, numbers: Array) -> Array:
    """A key for each number.

    Args:
        key: The key.
        numbers: `[m]`.

    Returns:
        `[m]` keys.
    """
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
