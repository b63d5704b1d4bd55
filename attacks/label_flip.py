"""Poisoned labels."""

from attacks.base import Array, Attack, Batch, check


def label_flip(n: int, f: int) -> Attack:
    """Byzantine workers train honestly, on samples whose labels are turned round.

    Formula: y -> classes - 1 - y in every batch; the row is then computed by the protocol
    Knows: own row
    Source: Fang et al. 2020 ("label flipping"); Karimireddy et al. 2022 (bucketing)

    Raises:
        ValueError: unless 0 <= f <= n.
    """
    check("label_flip", n, f)

    def corrupt(key: Array, batch: Batch) -> Batch:
        return batch._replace(y=(batch.classes - 1 - batch.y).astype(batch.y.dtype))

    return Attack(corrupt=corrupt)
