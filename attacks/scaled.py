"""Model replacement."""

from attacks.base import Attack, check, stateless


def scaled(n: int, f: int, *, boost: float | None = None) -> Attack:
    """Byzantine workers follow the protocol and send more of it, so that of an average only theirs is left.

    By itself it is too large a step in a right direction; together with poisoned data it puts the poisoned model in the
    place of the shared one.

    Formula: boost * own row; by default boost = n / f: an average then holds their mean in full
    Knows: own row
    Source: Bagdasaryan et al., AISTATS 2020, "How to backdoor federated learning" (model replacement)

    Args:
        boost: factor; None takes n / f.

    Raises:
        ValueError: unless 0 <= f <= n.
    """
    check("scaled", n, f)
    factor = boost if boost is not None else n / max(f, 1)
    return stateless(lambda key, view: factor * view.rows)
