"""Rows that weigh by samples: where a rule's weights allow it, and what Byzantine workers then weigh."""

from collections.abc import Callable, Iterator
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from byzax.aggregators import Aggregator, Context
from byzax.aggregators.pre import chained
from byzax.simulator.config.part import Part
from byzax.simulator.config.run import Run
from byzax.simulator.world import share_out

NO_WEIGHTS = "gives its rows no weights"


@cache
def unweighable(
    function: Callable[..., Aggregator], part: Part, before: tuple[Part, ...], k: int, f: int
) -> str | None:
    """Why a rule's weights cannot be multiplied by samples, by an example with a row far away at its end.

    Args:
        function: the rule's factory.
        part: the rule with its options.
        before: what stands before it.
        k: rows that it sees.
        f: how many of them it is told are Byzantine.

    Returns:
        What the aggregate is in place of the sum of rows times weights, in words; None where it is just that.
    """
    rule = chained(partial(function, **part.options()), k, f, [partial(PRE[m.name], **m.options()) for m in before])
    # more columns than rows: a sum of rows is then told from anything else
    d = 2 * k + 16
    rng, state = np.random.default_rng(0), rule.init(d)
    for size in (1.0, 1.0, 1000.0):
        rows = rng.normal(size=(k, d)).astype(np.float32)
        rows[-1] *= size
        own = {"gradient": lambda rows=rows: jnp.asarray(rows.mean(axis=0)), "loss": jnp.sum}
        aggregate, state, info = rule.apply(rows, state, Context(jax.random.key(0), jnp.zeros(d), **own))
        if info.weights is None:
            return NO_WEIGHTS
        weights, aggregate = np.asarray(info.weights, np.float64), np.asarray(aggregate, np.float64)
        used = weights[:, None] * rows
        scale = np.abs(used).max()
        if np.allclose(used.sum(axis=0), aggregate, rtol=1e-3, atol=1e-3 * scale):
            continue
        found, *_ = np.linalg.lstsq(rows.T.astype(np.float64), aggregate, rcond=None)
        if not np.allclose(found @ rows, aggregate, rtol=1e-2, atol=1e-2 * np.abs(aggregate).max()):
            return "chooses values coordinate by coordinate"
        ratios = found[weights > 1e-6] / weights[weights > 1e-6]
        if np.allclose(ratios, ratios[0], rtol=1e-2):
            return "gives a sum of rows that its weights, which add up to 1, say nothing of the size of"
        return "changes the length of rows"
    return None


def heavier(run: Run) -> Iterator[str]:
    """A note where Byzantine workers may weigh more, by their samples, than the rule is told.

    Args:
        scenario: one run, checked already.

    Yields:
        One line that begins with the key `weights`; none for a rule that is told of no Byzantine worker, or promises
        nothing.
    """
    n, declared = run.workers.total, run.workers.declared
    if run.weights == "equal" or not declared or _most(run.rule, run.pre, n) == n:
        return
    shares = []
    for seed in run.seeds:
        sizes = np.sort([len(share) for share in share_out(run.data, n, seed)[1]])
        shares.append(sizes[n - declared :].sum() / sizes.sum())
    share = max(shares)
    heads = int(share * n + 1e-9)
    if heads <= declared:
        return
    most = _most(run.rule, run.pre, n)
    way_out = (
        f"declare {heads}, or take weights equal"
        if heads <= most
        else f"it bears at most {most} of {n}: take weights equal, or another partition"
    )
    yield (
        f"weights: by samples {declared} declared Byzantine {'worker' if declared == 1 else 'workers'} may weigh "
        f"{share:.0%}, as much as {heads} of {n} workers that hold equally many, and {run.rule.name} is told "
        f"{declared}: {way_out}"
    )


@cache
def _most(part: Part, before: tuple[Part, ...], n: int) -> int:
    """The largest f that a rule accepts of n rows."""
    mixers = [partial(PRE[each.name], **each.options()) for each in before]

    def accepts(f: int) -> bool:
        try:
            chained(partial(RULES[part.name], **part.options()), n, f, mixers)
        except ValueError:
            return False
        return True

    low, high = 0, n + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if accepts(middle) else (low, middle)
    return low
