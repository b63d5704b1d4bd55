"""The privacy that a run has spent: epsilon after each update, by the library dp-accounting."""

import importlib.util
import logging
import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from byzax.simulator.config.run import Run
from byzax.simulator.timeline import Rows, Timeline
from byzax.simulator.world import byzantine_ranks, share_out

LIBRARY = "dp_accounting"


class Release(NamedTuple):
    """One use of a worker's samples: normal noise on a sum of vectors.

    Attributes:
        noise: Deviation of the noise over the most that the sum may change between neighbours, where the sample or
            worker in question counts once.
        batches: The draw of the batch that the sample may be in; None where it is in every one.
        batch_size: Samples of a batch.
        held: Samples of the worker.
    """

    noise: float
    batches: str | None = None
    batch_size: int = 1
    held: int = 1


def has_library() -> bool:
    """Tells whether the library is installed."""
    return importlib.util.find_spec(LIBRARY) is not None


def build_epsilon(run: Run, timeline: Timeline) -> Callable[[int], float]:
    """Builds the measure of the privacy that a run has spent.

    It is the worst over the workers that are honest in every update, each with its own samples and the rows that it
    sent until then, also those that were lost or not used; with level server the rows that went into updates.

    Args:
        run: The run.
        timeline: Its timeline.

    Returns:
        The function that gives epsilon after so many updates: 0 before the first row, infinite without noise, NaN
        without `privacy` or where no worker is honest in every update.
    """
    private = run.privacy
    if private is None:
        return lambda step: math.nan
    honest = np.flatnonzero(byzantine_ranks(run) < 0).tolist()
    sent = _sent(run, timeline, honest)
    uses, sizes = 1, [1] * len(honest)
    batches = None
    # of two rows of any kind the distance is twice the bound
    noise = private.noise / 2 if private.level == "worker" else private.noise
    if private.level == "sample":
        uses = 1 if run.local is None else run.local.steps or run.local.epochs or 1
        if run.local is None or run.local.steps is not None:
            # a pass has every sample in one of its batches
            batches = run.data.batches
            _, shares = share_out(run.data, run.workers.total, run.seed)
            sizes = [len(shares[worker]) for worker in honest]
        if batches == "without_replacement":
            # of neighbours one sample is another: its gradient may turn round
            noise = private.noise / 2

    def epsilon(step: int) -> float:
        spent, most = math.nan, -1
        counts = [int(np.searchsorted(versions, step, side="right")) for versions in sent]
        for held, count in sorted(zip(sizes, counts, strict=True), key=lambda each: (each[0], -each[1])):
            if count <= most:
                # those with fewer samples have spent more, unless they sent less
                continue
            most = count
            release = Release(noise, batches, run.data.batch_size, held)
            spent = max(0.0 if math.isnan(spent) else spent, epsilon_of(release, count * uses, private.delta))
        return spent

    return epsilon


def _sent(run: Run, timeline: Timeline, workers: list[int]) -> list[np.ndarray]:
    """The versions of the model before which each of some workers sent its rows, rising."""
    assert run.privacy is not None
    rows = timeline.rows
    if run.privacy.level == "server":
        senders, versions = rows.workers, timeline.updates + 1
    else:
        found = [_versions(part, timeline) for part in (rows, timeline.unused)]
        senders, versions = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.lexsort((versions, senders))
    senders, versions = senders[order], versions[order]
    return [versions[slice(*np.searchsorted(senders, [worker, worker + 1]))] for worker in workers]


def _versions(rows: Rows, timeline: Timeline) -> tuple[np.ndarray, np.ndarray]:
    """Workers of the rows that were computed, and the versions before which they were sent."""
    there = ~np.isnan(rows.computed_s)
    version = np.searchsorted(timeline.time_s, rows.computed_s[there])
    # where no time passes a row is sent after its model all the same
    return rows.workers[there], np.maximum(version, rows.handed[there]) + 1


@lru_cache(maxsize=4096)
def epsilon_of(release: Release, count: int, delta: float) -> float:
    """The epsilon of some releases, each of which may depend on those before.

    With replacement a sample may be in a batch several times, and no amplification is claimed: it counts as in every
    batch, and so often as is exceeded in any of them with probability delta / 2 at most; the epsilon is that of the
    other half of delta.

    Args:
        release: One of them.
        count: Their number.
        delta: The delta.

    Returns:
        The epsilon.

    References:
        Mironov 2017 (RDP); Mironov, Talwar and Zhang 2019 (Poisson); Wang, Balle and Kasiviswanathan, AISTATS 2019,
        theorem 27 (without replacement)
    """
    if not count:
        return 0.0
    if not release.noise:
        return math.inf
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    relation = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    if release.batches == "replacement":
        times = _most_times(release.batch_size, release.held, delta / 2 / count)
        event, delta = dp_accounting.GaussianDpEvent(release.noise / times), delta / 2
    elif release.batches == "without_replacement":
        relation = dp_accounting.NeighboringRelation.REPLACE_ONE
        event = dp_accounting.SampledWithoutReplacementDpEvent(
            release.held, release.batch_size, dp_accounting.GaussianDpEvent(release.noise)
        )
    elif release.batches == "poisson":
        event = dp_accounting.PoissonSampledDpEvent(
            release.batch_size / release.held, dp_accounting.GaussianDpEvent(release.noise)
        )
    else:
        event = dp_accounting.GaussianDpEvent(release.noise)
    logger = logging.getLogger("absl")
    level = logger.level
    # an order at which its series does not converge is left out, which makes epsilon larger if anything
    logger.setLevel(logging.ERROR)
    try:
        return float(RdpAccountant(neighboring_relation=relation).compose(event, count).get_epsilon(delta))
    finally:
        logger.setLevel(level)


def _most_times(draws: int, held: int, probability: float) -> int:
    """The number of times that one of `held` samples is exceeded in so many draws with this probability at most."""
    rate, times = 1 / held, 0
    if held == 1:
        return draws
    # the binomial probabilities from 0 on, and what is left, summed up from the small ones
    logs = [
        math.lgamma(draws + 1)
        - math.lgamma(k + 1)
        - math.lgamma(draws - k + 1)
        + k * math.log(rate)
        + (draws - k) * math.log1p(-rate)
        for k in range(draws + 1)
    ]
    above = np.cumsum(np.exp(logs)[::-1])[::-1]
    while times < draws and above[times + 1] > probability:
        times += 1
    return max(times, 1)
