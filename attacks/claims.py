"""False sample counts: workers that say they hold more samples than they do."""

from byzax.attacks.base import Attack, Positive, check
from byzax.options import OptionError, checked


@checked
def claims(n: int, f: int, *, factor: Positive = 10.0, attack: str = "none") -> Attack:
    """Byzantine workers say that they hold many more samples than they do, so that their rows weigh more.

    Only where rows weigh by samples (`weights: samples`); it is refused elsewhere. What they send is up to another
    attack. Where participants are drawn by samples (`schedule.by`) they are drawn by what workers really hold.

    Formula: factor * number of samples; the row is that of the other attack
    Knows: own row

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        factor: Of the true number of samples; below 1 it is understated.
        attack: The name of the attack that forges rows or poisons batches, with its default options.

    Returns:
        The other attack, with claims.

    Raises:
        PartError: Unless 0 <= f <= n, or for an unknown attack.
        OptionError: For an option out of its range, or this attack itself as the other.

    References:
        None known to us; that FedAvg trusts the numbers that clients report follows from McMahan et al. 2017
    """
    # only here: the package finds this file by name
    from byzax.attacks import factory

    check("claims", n, f)
    if attack == "claims":
        raise OptionError("attack", "must be another attack than claims itself, such as sign_flip or none")
    return factory(attack)(n, f)._replace(claim=lambda samples: factor * samples)
