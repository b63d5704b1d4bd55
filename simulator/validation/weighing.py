"""The weight of Byzantine workers where rows weigh by samples."""

import bisect
from collections.abc import Iterator
from functools import cache

import numpy as np

from byzax.simulator.config.part import Part
from byzax.simulator.config.study import Task
from byzax.simulator.contracts import build_rule
from byzax.simulator.world import share_out


def weight_notes(task: Task) -> Iterator[str]:
    """Yields a note where Byzantine workers may weigh more, by their samples, than the f that is declared.

    Args:
        task: A task that passed the checks.

    Yields:
        At most one line, which begins with the key `weights`; none where no Byzantine worker is declared or the rule
        accepts any f.
    """
    run = task.run
    n, declared = run.workers.total, run.workers.declared
    if run.weights == "equal" or not declared or _largest_f(run.rule, run.pre, n) == n:
        return
    shares = []
    for seed in task.seeds:
        sizes = np.sort([len(share) for share in share_out(run.data, n, seed)[1]])
        shares.append(sizes[n - declared :].sum() / sizes.sum())
    share = max(shares)
    heads = int(share * n + 1e-9)
    if heads <= declared:
        return
    most = _largest_f(run.rule, run.pre, n)
    way_out = (
        f"declare {heads}, or take weights equal"
        if heads <= most
        else f"it bears at most {most} of {n}: take weights equal, or another partition"
    )
    yield (
        f"weights: by samples {declared} declared Byzantine {'worker' if declared == 1 else 'workers'} may weigh "
        f"{share:.0%}, as much as {heads} of {n} workers that hold equally many, and {run.rule.label} is told "
        f"{declared}: {way_out}"
    )


@cache
def _largest_f(part: Part, before: tuple[Part, ...], n: int) -> int:
    """The largest f that a rule accepts for n rows."""
    # what a rule declares does not depend on the f that it is made for, and 0 is no limit of any
    return bisect.bisect_right(range(n + 1), n, key=build_rule(part, before, n, 0).least_rows) - 1
