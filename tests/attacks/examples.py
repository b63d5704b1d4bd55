"""Updates to forge, what an attack makes of them, and honest statistics in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from byzax import aggregators, attacks
from byzax.aggregators import Context
from byzax.attacks import Answer

N, F, D = 9, 3, 6
MASKS = {"first": [0, 1, 2], "last": [6, 7, 8], "scattered": [1, 4, 8]}


def rule_of(name, n=N, f=F, **options):
    """A rule as an adversary asks it, in its first state: `[n, d]` -> `Answer`."""
    rule = aggregators.build(name, n=n, f=f, **options)

    def ask(rows):
        aggregate, _, info = rule.apply(rows, rule.init(rows.shape[1]), Context(jax.random.key(7)))
        return Answer(aggregate, info.weights, rows)

    return ask


def unweighted(aggregate):
    """A rule that gives its rows no weights, from a function `[n, d] -> [d]`."""
    return lambda rows: Answer(aggregate(rows), None, rows)


def view_of(rows, byzantine, **changes):
    view = attacks.view_of(rows, byzantine, loss=lambda params: jnp.sum(params**2))
    usual = {"ask_rule": unweighted(lambda r: r.mean(0)), "after": lambda aggregate: -0.1 * aggregate}
    return view._replace(**usual | changes)


def example(positions, d=D, seed=0):
    """Rows far from the origin, so that the mean over all rows, ddof and the sign each change the answer."""
    rng = np.random.default_rng(seed)
    byzantine = np.isin(np.arange(N), positions)
    rows = rng.normal(size=(N, d)).astype(np.float32) + 3
    rows[byzantine] += 40  # what the Byzantine workers computed must not enter the honest statistics
    return rows, byzantine


def forged(name, rows, byzantine, f=F, seed=0, changes=(), **options):
    """The rows of an update after an attack; `changes` are fields of its view."""
    attack = attacks.build(name, len(rows), f, **options)
    assert attack.forge is not None
    view = view_of(rows, byzantine, **dict(changes))
    out, _ = attack.forge(jax.random.key(seed), view, attack.init(rows.shape[1]))
    return np.asarray(out)


def honest_statistics(rows, byzantine):
    """Loops over the honest rows, two passes, ddof 0."""
    honest = list(rows[~np.asarray(byzantine)].astype(np.float64))
    mean = sum(honest) / len(honest)
    return mean, (sum((row - mean) ** 2 for row in honest) / len(honest)) ** 0.5
