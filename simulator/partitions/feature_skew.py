"""Feature skew: the samples sorted along their first principal component."""

import numpy as np

from byzax.options import PartError, checked
from byzax.simulator.partitions.base import Partition, Samples, Share, check_samples, shuffle_pieces

# Of the search for the first principal component: directions looked at together, and steps.
DIRECTIONS, STEPS = 4, 30


@checked
def feature_skew(*, strictness: Share = 1.0) -> Partition:
    """Sorts samples along their first principal component, whatever their labels, and cuts a piece for each worker.

    With z the score on the first principal component of all training samples, scaled to deviation 1, samples are sorted
    by strictness z + (1 - strictness) e, e ~ N(0, 1), and the pieces dealt in random order. For labels that do not
    depend on that direction the workers differ in their features alone. Needs a copy of the training samples.

    Splits: all samples; the workers' numbers of samples differ by at most one

    Args:
        strictness: Weight of the scores in the order, in [0, 1]: 0 is iid, 1 follows the scores.

    Returns:
        The partition. It raises PartError for fewer samples than workers, or samples that are not real numbers.

    Raises:
        OptionError: For `strictness` out of its range.

    References:
        flwr-datasets ("ContinuousPartitioner", of a property of the samples; here it is their first component)
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check_samples(samples, workers)
        x = samples.x()
        if not np.issubdtype(x.dtype, np.floating):
            raise PartError("feature_skew sorts by features, and these samples are characters: take another partition")
        scores = strictness * _first_component(x.reshape(len(x), -1)) + (1 - strictness) * rng.normal(size=len(x))
        # equal samples in random order
        shuffled = rng.permutation(len(x))
        order = shuffled[np.argsort(scores[shuffled], kind="stable")]
        return [np.sort(piece) for piece in shuffle_pieces(np.array_split(order, workers), rng)]

    return partition


def _first_component(x: np.ndarray) -> np.ndarray:
    """Scores `[N]` of rows `[N, p]` on their first principal component, of deviation 1; writes into the rows."""
    x -= x.mean(axis=0, dtype=np.float64).astype(x.dtype)
    # a few directions at once converge where the first two components are nearly as large as each other
    basis = np.random.default_rng(0).normal(size=(x.shape[1], min(DIRECTIONS, x.shape[1]))).astype(x.dtype)
    for _ in range(STEPS):
        basis = np.linalg.qr(x.T @ (x @ basis))[0]
    projected = x @ basis
    direction = basis @ np.linalg.eigh(projected.T @ projected)[1][:, -1]
    # of the two signs the one that makes its largest entry positive
    scores = (x @ direction).astype(np.float64) * np.sign(direction[np.argmax(np.abs(direction))])
    return scores / (scores.std() or 1)
