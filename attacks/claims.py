"""False sample counts: workers that say they hold more samples than they do."""

from byzax.attacks.base import Attack, Positive, check, nested
from byzax.options import Nested, OptionError, checked


@checked
def claims(n: int, f: int, *, factor: Positive = 10.0, attack: Nested = "none") -> Attack:
    """Byzantine workers say that they hold many more samples than they do, so that their rows weigh more.

    Only where rows weigh by samples (`weights: samples`); it is refused elsewhere. What they send is up to another
    attack. Where participants are drawn by samples (`schedule.by`) they are drawn by what workers really hold.

    Formula: factor * number of samples; the row is that of the other attack
    Knows: own row

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        factor: Of the true number of samples; below 1 it is understated.
        attack: The attack that forges rows or poisons batches: a name, `"file.py:name"`, its function, or a mapping
            whose `name` is one of these and whose other keys are options.

    Returns:
        The other attack, with claims.

    Raises:
        PartError: Unless 0 <= f <= n, or for an unknown attack.
        OptionError: For an option out of its range, or this attack itself as the other.

    References:
        None known to us; that FedAvg trusts the numbers that clients report follows from McMahan et al. 2017
    """
    check("claims", n, f)
    _, make = nested("attack", attack)
    other = make(n, f)
    if other.claim is not None:
        raise OptionError("attack", "must be another attack than claims itself, such as sign_flip or none")
    return other._replace(claim=lambda samples: factor * samples)
