"""The rule that is measured, as one compiled function over a batch of updates."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.aggregators import Aggregator, Context
from byzax.aggregators.pre import chained
from byzax.members import file_of, said
from byzax.simulator import interrupts
from byzax.simulator.config.part import Part, function_of
from byzax.simulator.mistakes import ScenarioError

Array = jax.Array
# Rows of one batch, in bytes: less than what the C library asks the system for anew each time (32 MiB), since to get
# the pages takes longer than most rules. A batch is a whole number of updates, and at most so many.
BATCH_BYTES, BATCH_UPDATES = 2**24, 64
DRAWS_BYTES = 2**28  # of draws that are held at once


class Subject(NamedTuple):
    """A rule for n rows of which f are declared Byzantine.

    `ask(rows [b, n, d], own [b, d], keys [b])` gives the answers `[b, d]`, each from the rule's state before its first
    update (centered_clipping: the last aggregate is 0), and the weights `[b, n]` of the rows, None where the rule gives
    none. `own` is the server's own row where a rule asks for one; the
    loss of the server's data is then <own, w> + |w|²/2, whose gradient at the model, w = 0, is `own`. `trusting`:
    whether the rule asks for it.
    """

    label: str
    part: Part
    pre: tuple[Part, ...]
    n: int
    f: int
    ask: Callable[[Array, Array, Array], tuple[Array, Array | None]]
    trusting: bool


def build_subject(label: str, part: Part, pre: Sequence[Part], n: int, f: int, d: int) -> Subject:
    """The rule of a description, traced at its sizes.

    Raises ScenarioError, one line, for an impossible (n, f), an option out of range, or a rule that cannot be computed.
    """
    try:
        rule = chained(part.make, n, f, [each.make for each in pre])
    except ValueError as error:
        raise ScenarioError(f"rule: {' '.join(str(error).split())}") from error
    ask = build_batched_rule(rule)
    try:
        shapes = (jax.ShapeDtypeStruct((1, n, d), jnp.float32), jax.ShapeDtypeStruct((1, d), jnp.float32))
        answer: Any = jax.eval_shape(ask, *shapes, jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1)))[0]
        if answer.shape != (1, d):
            raise ValueError(f"apply must give an aggregate [d={d}], got {list(answer.shape[1:])}")
    except Exception as error:
        raise ScenarioError(f"rule: {part.label} fails: {said(error, file_of(function_of(part)))}") from error
    return Subject(label, part, tuple(pre), n, f, ask, bool(rule.needs & {"gradient", "loss"}))


def build_batched_rule(rule: Aggregator) -> Callable[[Array, Array, Array], tuple[Array, Array | None]]:
    """`Subject.ask` of a rule."""

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
    """Updates of one batch: fixed for n and d, so that a rule is compiled once for them."""
    return int(np.clip(BATCH_BYTES // (4 * n * d), 1, BATCH_UPDATES))


def draws_within_memory(draws: int, n: int, d: int) -> int:
    """So many draws, or as many (at least 8) as have room at once."""
    return int(np.clip(DRAWS_BYTES // (4 * n * d), 8, draws))


def answers(subject: Subject, rows: np.ndarray, own: np.ndarray, key: Array) -> np.ndarray:
    """The answers `[m, d]` for rows `[m, n, d]` on the host and the server's own rows `[m, d]`, batch by batch.

    The last batch is filled up with its last update. What the rule draws for update i depends on `key` and i alone.
    """
    count, n, d = rows.shape
    size = batch_size(n, d)
    found = []
    for start in range(0, count, size):
        interrupts.check()
        chosen = np.minimum(np.arange(start, start + size), count - 1)
        some = slice(start, start + size) if start + size <= count else chosen  # a slice is no copy
        answer, _ = subject.ask(jnp.asarray(rows[some]), jnp.asarray(own[some]), numbered_keys(key, chosen))
        found.append(np.asarray(answer))
    return np.concatenate(found)[:count]


@jax.jit
def numbered_keys(key: Array, numbers: Array) -> Array:
    """A key for each number."""
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
