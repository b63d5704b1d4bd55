"""Claims: workers that say they hold more samples than they do."""

from byzax.attacks.base import Attack, check


def claims(n: int, f: int, *, factor: float = 10.0, attack: str = "none") -> Attack:
    """Byzantine workers say that they hold many more samples than they do, so that their rows weigh more.

    Only where rows weigh by samples (`weights: samples`); it is refused elsewhere. What they send is up to another
    attack. Where participants are drawn by samples (`schedule.by`) they are drawn by what workers really hold.

    Formula: factor * number of samples; the row is that of the other attack
    Knows: own row
    Source: none known to us; that FedAvg trusts the numbers that clients report follows from McMahan et al. 2017

    Args:
        factor: what the true number is multiplied by; below 1 it is understated.
        attack: the name of the attack that makes rows or poisons data, with its default options.

    Raises:
        ValueError: unless 0 <= f <= n and factor > 0, or for an unknown attack.
    """
    # only here: the package finds this file by name
    from byzax.attacks import factory

    check("claims", n, f)
    if not factor > 0:
        raise ValueError(f"claims needs factor > 0, got {factor}")
    if attack == "claims":
        raise ValueError("claims needs another attack than itself: such as sign_flip, or none")
    return factory(attack)(n, f)._replace(claim=lambda samples: factor * samples)
