"""The attacks of the folder `attacks/` as functions over a batch of updates."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.attacks import Answer, View
from byzax.experiments.certify.subject import Subject, numbered_keys
from byzax.simulator.config.part import Part
from byzax.simulator.contracts import build, failure
from byzax.simulator.mistakes import ScenarioError

Array = jax.Array


class BatchedAttack(NamedTuple):
    """An attack over a batch of draws.

    Attributes:
        label: Label of the attack.
        forge: From rows `[m, n, d]`, numbers of the draws `[m]` and a key to the rows with the first f replaced; `none`
            leaves them as they are.
    """

    label: str
    forge: Callable[[np.ndarray, np.ndarray, Array], np.ndarray]


def build_batched_attacks(
    attacks: Sequence[Part], labels: dict[Part, str], subject: Subject, named: bool
) -> tuple[list[BatchedAttack], list[str]]:
    """Builds the attacks that make rows of their own.

    Args:
        attacks: The attacks.
        labels: The label of each.
        subject: The rule.
        named: Whether the attacks were named one by one.

    Returns:
        The attacks, and a line for each that cannot be used here.

    Raises:
        ScenarioError: For a named attack that cannot be used, or one that fails.
    """
    built, skipped = [], []
    for part in attacks:
        label, why = labels[part], None
        try:
            attack = build(part, subject.n, subject.f)
            if attack.forge is not None:
                built.append(BatchedAttack(label, _batched(attack.forge, attack.init, subject)))
            elif attack.corrupt is not None:
                why = f"{label}: changes data and makes no rows: left out"
            else:
                built.append(BatchedAttack(label, lambda rows, numbers, key: rows))
        except ValueError as error:
            why = f"{' '.join(str(error).split())}: left out"
        except Exception as error:
            raise ScenarioError(f"attacks: {part.label} fails: {failure(error, part)}") from error
        if why and named:
            raise ScenarioError(f"attacks: {why.removesuffix(': left out')}")
        if why:
            skipped.append(why)
    return built, skipped


def _batched(
    forge: Callable, init: Callable, subject: Subject
) -> Callable[[np.ndarray, np.ndarray, Array], np.ndarray]:
    byzantine = jnp.arange(subject.n) < subject.f

    @jax.jit
    def all_of(rows: Array, keys: Array) -> Array:
        def one(update: tuple[Array, Array]) -> Array:
            own, key = update
            known = own[-1]
            params = jnp.zeros(own.shape[1], own.dtype)

            def ask_rule(attempt: Array) -> Answer:
                # the adversary can only guess the rule's draws and the server's own row
                guess = jax.random.fold_in(key, 1)
                aggregate, weights = subject.ask(attempt[None], known[None], guess[None])
                return Answer(aggregate[0], None if weights is None else weights[0], attempt)

            view = View(
                own,
                byzantine,
                known=~byzantine,
                workers=jnp.arange(subject.n),
                params=params,
                ask_rule=ask_rule,
                loss=lambda w: known @ w + w @ w / 2,
                step=jnp.asarray(0),
                after=lambda aggregate: params - 0.1 * aggregate,
            )
            forged, _ = forge(key, view, init(own.shape[1]))
            return jnp.where(byzantine[:, None], forged, own)

        return jax.lax.map(one, (rows, keys))

    return lambda rows, numbers, key: np.asarray(all_of(jnp.asarray(rows), numbered_keys(key, jnp.asarray(numbers))))
