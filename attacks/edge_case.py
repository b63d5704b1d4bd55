"""Edge-case backdoor (Wang et al. 2020): a wrong label for the rarest samples."""

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Batch, Label, Share, check, classes_of
from byzax.options import OptionError, checked


@checked
def edge_case(n: int, f: int, *, share: Share = 0.1, target: Label = 0, source: Label | None = None) -> Attack:
    """Byzantine workers train honestly, but for a wrong label on the samples that are least like the others.

    No honest worker has many samples of that kind to unlearn it with.

    Formula: y -> target for the share of a batch's samples (of label source) that is farthest from their mean; the row
        is then computed by the protocol
    Knows: own row

    The paper takes rare samples from elsewhere (another collection of digits, aeroplanes of one company); here the
    Byzantine workers find them in their own batches, where the distance to the mean stands for how unlikely a sample
    is: in shares of the range of all pixels of images, or of each feature of a table.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        share: Of those samples, rounded up.
        target: The label that they get; where the data has no such label nothing is replaced.
        source: The label of the samples to choose from. None: those of any label.

    Returns:
        The attack, which poisons batches. When used it raises PartError for data without labels.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range, or source = target.

    References:
        Wang et al., NeurIPS 2020, "Attack of the Tails: Yes, You Really Can Backdoor Federated Learning"
    """
    check("edge_case", n, f)
    if source == target:
        raise OptionError("target", f"must be another label than the source, got {target} for both")

    def corrupt(key: Array, batch: Batch) -> Batch:
        y, classes = batch.y, classes_of("edge_case", batch)
        chosen = jnp.ones(y.shape, bool) if source is None else y == source
        if batch.real is not None:
            chosen &= jnp.arange(len(y)) < batch.real
        x = batch.x.reshape(len(y), -1).astype(jnp.float32)
        mean = jnp.where(chosen[:, None], x, 0).sum(axis=0) / jnp.maximum(chosen.sum(), 1)
        distance = jnp.where(chosen, jnp.square(x - mean).sum(axis=1), -1)
        # how many of them are farther out, ties by place
        place = jnp.argsort(jnp.argsort(-distance, stable=True), stable=True)
        rare = chosen & (place < jnp.ceil(share * chosen.sum())) & (target < classes)
        return batch._replace(y=jnp.where(rare, target, y).astype(y.dtype))

    return Attack(corrupt=corrupt, reads_labels=True)
