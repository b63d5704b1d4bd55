"""Optimised strength: another attack at the strength that does the most harm to the rule in use."""

import jax
import jax.numpy as jnp

from byzax.attacks._search import MEASURE_NEEDS, Evaluations, Measure, build_harm, find_strongest
from byzax.attacks.base import Array, Attack, State, View, check, nested
from byzax.options import Nested, OptionError, checked

# the option of an attack that is its strength
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


@checked
def optimised(
    n: int,
    f: int,
    *,
    attack: Nested = "little",
    strength: str | None = None,
    measure: Measure = "distance",
    evaluations: Evaluations = 20,
) -> Attack:
    """The rows of another attack, at every update with the strength that does the most harm to the rule in use.

    The first half of the evaluations are doublings of the strength, from 1 / 2^(evaluations / 4) upwards, the others
    golden section around the best of them; what gives no finite answer is never chosen.

    Formula: the rows of the attack with strength s, s = argmax of the harm that the rule's answer does
    Knows: all honest rows, the rule

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        attack: The attack: a name, `"file.py:name"`, its function, or a mapping whose `name` is one of these and whose
            other keys are options.
        strength: Its option that is searched. None: epsilon of empire, z of little, and so on.
        measure: The harm. distance: of the aggregate to the honest mean; cosine: minus that of their angle; loss: of
            the model that the server has after the update, on samples of the Byzantine workers.
        evaluations: Number of times that the rule is asked in one update.

    Returns:
        The attack, which forges rows, and poisons batches where the other one does.

    Raises:
        PartError: Unless 0 <= f <= n, or for an unknown attack.
        OptionError: For an option out of its range, an attack that forges no rows, or a strength that the attack does
            not have or cannot leave open until an update is there.

    References:
        Shejwalkar and Houmansadr, NDSS 2021 (attacks tailored to a rule)
        Allouah et al. 2023 (searched ALIE, IPM)
    """
    check("optimised", n, f)
    name, make = nested("attack", attack)
    option = strength or STRENGTHS.get(name)
    if option is None:
        known = ", ".join(STRENGTHS)
        raise OptionError(
            "strength", f"must name the option of {name} that is its strength; it is known for {known}, got None"
        )

    def make_attack(value: Array | float) -> Attack:
        try:
            return make(n, f, **{option: value})
        except jax.errors.ConcretizationTypeError as error:
            open_one = f"must be an option that {name} does not look at before an update is there, got {option!r}"
            raise OptionError("strength", open_one) from error
        except (TypeError, OptionError) as error:
            raise OptionError("strength", f"must be an option of {name} that takes any number: {error}") from error

    plain = make_attack(1.0)
    if plain.forge is None:
        raise OptionError("attack", f"must be an attack that makes rows, such as little, got {name}, which makes none")
    # raises unless the attack leaves its strength open until an update is there
    jax.eval_shape(lambda value: (make_attack(value), value)[1], jax.ShapeDtypeStruct((), jnp.float32))

    def forge(key: Array, view: View, state: State) -> tuple[Array, State]:
        def rows(value: Array) -> tuple[Array, State]:
            forge_one = make_attack(value).forge
            assert forge_one is not None
            return forge_one(key, view, state)

        harm = build_harm(view, measure)
        return rows(find_strongest(lambda value: harm(rows(value)[0]), evaluations))

    questions = evaluations + plain.questions * (evaluations + 1)
    return plain._replace(forge=forge, questions=questions, needs=MEASURE_NEEDS[measure] | plain.needs)
