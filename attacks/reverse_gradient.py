"""The omniscient attack (Blanchard et al. 2017): the sum of the honest rows, reversed and scaled."""

from byzax.attacks.base import Attack, Finite, check, honest_mean, stateless
from byzax.options import checked


@checked
def reverse_gradient(n: int, f: int, *, scale: Finite = 2.0) -> Attack:
    """All Byzantine rows are the sum of the honest rows, reversed and scaled.

    With scale > 1 / f the average of all rows points uphill, however many workers are honest.

    Formula: -scale * sum of the honest rows
    Knows: all honest rows

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        scale: Length of the Byzantine rows in lengths of the honest sum.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Blanchard et al. 2017, experiments ("omniscient": opposite to the gradient, and large)
    """
    check("reverse_gradient", n, f)
    return stateless(lambda key, view: -scale * (~view.byzantine).sum() * honest_mean(view), reads_own=False)
