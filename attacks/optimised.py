"""Another attack at its worst strength."""

from typing import Literal

import jax
import jax.numpy as jnp

from byzax.attacks._search import check_evaluations, check_measure, harm, strongest
from byzax.attacks.base import Array, Attack, State, View, check

# the option of an attack that says how strong it is
STRENGTHS = {
    "constant": "value",
    "empire": "epsilon",
    "equivocate": "gamma",
    "hijack": "scale",
    "little": "z",
    "reverse_gradient": "scale",
    "rop": "z",
    "scaled": "boost",
    "sign_flip": "scale",
}


def optimised(
    n: int,
    f: int,
    *,
    attack: str = "little",
    strength: str | None = None,
    measure: Literal["distance", "cosine", "loss"] = "distance",
    evaluations: int = 20,
) -> Attack:
    """The rows of another attack, at every update with the strength that does the most harm to the rule in use.

    The first half of the evaluations are doublings of the strength, from 1 / 2^(evaluations / 4) upwards, the others
    golden section around the best of them; what gives no finite answer is never chosen. The other options of the
    attack keep their defaults.

    Formula: the rows of the attack with strength s, s = argmax of the harm that the rule's answer does
    Knows: all honest rows, the rule
    Source: Shejwalkar and Houmansadr, NDSS 2021 (attacks tailored to a rule); Allouah et al. 2023 (searched ALIE, IPM)

    Args:
        attack: the name of the attack.
        strength: its option that is searched; by default epsilon of empire, z of little, and so on.
        measure: the harm. distance: of the aggregate to the honest mean; cosine: minus that of their angle; loss: of
            the model that the server has after the update, on samples of the Byzantine workers.
        evaluations: how often the rule is asked in one update.

    Raises:
        ValueError: unless 0 <= f <= n, for an unknown attack, measure or option, an attack without a strength or
            without rows, fewer than 4 evaluations or more than 1000.
    """
    # only here: the package finds this file by name
    from byzax.attacks import factory

    check("optimised", n, f)
    check_measure("optimised", measure)
    check_evaluations("optimised", evaluations)
    make, option = factory(attack), strength or STRENGTHS.get(attack)
    if option is None:
        raise ValueError(
            f"optimised knows the strength of {', '.join(STRENGTHS)}; for {attack} name the option that is its strength"
        )

    def made(value: Array | float) -> Attack:
        try:
            return make(n, f, **{option: value})
        except jax.errors.ConcretizationTypeError as error:
            raise ValueError(
                f"optimised: {attack} looks at its {option} before it is known; take another attack"
            ) from error
        except TypeError as error:
            raise ValueError(f"optimised: {attack} has no option {option} that can be a number: {error}") from error

    plain = made(1.0)
    if plain.forge is None:
        raise ValueError(f"optimised needs an attack that makes rows, and {attack} makes none")
    # an attack has to leave open how strong it is until an update is there
    jax.eval_shape(lambda value: (made(value), value)[1], jax.ShapeDtypeStruct((), jnp.float32))

    def forge(key: Array, view: View, state: State) -> tuple[Array, State]:
        def rows(value: Array) -> tuple[Array, State]:
            forged = made(value).forge
            assert forged is not None
            return forged(key, view, state)

        harm_of = harm(view, measure)
        return rows(strongest(lambda value: harm_of(rows(value)[0]), evaluations))

    questions = evaluations + plain.questions * (evaluations + 1)
    return Attack(init=plain.init, forge=forge, corrupt=plain.corrupt, goal=plain.goal, questions=questions)
