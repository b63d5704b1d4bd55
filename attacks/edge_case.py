"""Rare samples, labelled wrongly."""

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Batch, check, classes_of


def edge_case(n: int, f: int, *, share: float = 0.1, target: int = 0, source: int | None = None) -> Attack:
    """Byzantine workers train honestly, but for a wrong label on the samples that are least like the others.

    No honest worker has many samples of that kind to unlearn it with.

    Formula: y -> target for the share of a batch's samples (of label source) that is farthest from their mean; the row
        is then computed by the protocol
    Knows: own row
    Source: Wang et al., NeurIPS 2020, "Attack of the Tails: Yes, You Really Can Backdoor Federated Learning"

    The paper takes rare samples from elsewhere (another collection of digits, aeroplanes of one company); here the
    Byzantine workers find them in their own batches, where the distance to the mean stands for how unlikely a sample
    is: in shares of the range of all pixels of images, or of each feature of a table.

    Args:
        share: of those samples, rounded up.
        target: the label they get; where the data has no such label nothing is replaced.
        source: only samples with this label; None: any.

    Raises:
        ValueError: unless 0 <= f <= n and 0 < share <= 1, for a negative label, or source = target.
    """
    check("edge_case", n, f)
    if not 0 < share <= 1:
        raise ValueError(f"edge_case needs 0 < share <= 1, got {share}")
    if target < 0 or (source is not None and source < 0):
        raise ValueError(f"edge_case needs labels from 0, got source={source}, target={target}")
    if source == target:
        raise ValueError(f"edge_case needs a target that is not the source, got {source} for both")

    def corrupt(key: Array, batch: Batch) -> Batch:
        y, classes = batch.y, classes_of("edge_case", batch)
        chosen = jnp.ones(y.shape, bool) if source is None else y == source
        if batch.real is not None:
            chosen &= jnp.arange(len(y)) < batch.real
        x = batch.x.reshape(len(y), -1).astype(jnp.float32)
        mean = jnp.where(chosen[:, None], x, 0).sum(axis=0) / jnp.maximum(chosen.sum(), 1)
        far = jnp.where(chosen, jnp.square(x - mean).sum(axis=1), -1)
        # how many of them are farther out, ties by place
        place = jnp.argsort(jnp.argsort(-far, stable=True), stable=True)
        rare = chosen & (place < jnp.ceil(share * chosen.sum())) & (target < classes)
        return batch._replace(y=jnp.where(rare, target, y).astype(y.dtype))

    return Attack(corrupt=corrupt)
