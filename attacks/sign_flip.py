"""Sign flipping (Karimireddy et al. 2022, "bit flipping"): the own row, reversed."""

from byzax.attacks.base import Attack, Finite, check, stateless
from byzax.options import checked


@checked
def sign_flip(n: int, f: int, *, scale: Finite = 1.0) -> Attack:
    """Each Byzantine worker sends its own row with the opposite sign.

    Formula: -scale * own row
    Knows: own row

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        scale: 1 keeps the length of the row; a large one overpowers the average.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Karimireddy et al. 2022 (bucketing), "bit flipping"
        In Xie et al. 2019 (Zeno) all Byzantine workers send one such row
    """
    check("sign_flip", n, f)
    return stateless(lambda key, view: -scale * view.rows)
