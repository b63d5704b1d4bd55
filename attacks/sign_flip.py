"""The own row, turned round."""

from byzax.attacks.base import Attack, check, stateless


def sign_flip(n: int, f: int, *, scale: float = 1.0) -> Attack:
    """Each Byzantine worker sends its own row with the sign turned.

    Formula: -scale * own row
    Knows: own row
    Source: Karimireddy et al. 2022 (bucketing), "bit flipping"; in Xie et al. 2019 (Zeno) all liars send one such row

    Args:
        scale: 1 keeps the length of the row; a large one overpowers the average.

    Raises:
        ValueError: unless 0 <= f <= n.
    """
    check("sign_flip", n, f)
    return stateless(lambda key, view: -scale * view.rows)
