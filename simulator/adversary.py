"""The Byzantine workers of a run as one adversary: who carries out which attack, knowing what, and when."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from byzax.attacks import Answer, Attack, Batch, Goal, View
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.attack import AttackShare, Knowledge
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.world import World

Array = jax.Array
# (world, step) -> which of the Byzantine workers each worker is, [n]; -1 for the honest
Lying = Callable[[World, Array], Array]


class Attackers(NamedTuple):
    """An attack and who carries it out: the Byzantine workers number `first` to `end` - 1.

    `active(round)`: whether it is carried out, None for always.
    """

    attack: Attack
    first: int
    end: int
    knowledge: Knowledge
    active: Callable[[Array], Array] | None


class Hidden(NamedTuple):
    """The parts of a `View` that differ between attackers.

    `asking(rows [m, d])` gives the view's `ask_rule` where these rows stand for those that are not its own,
    `losing(first, end)` its `loss` on the samples of the Byzantine workers number `first` to `end` - 1.
    """

    asking: Callable[[Array], Callable[[Array], Answer]]
    losing: Callable[[Any, Any], Callable[[Array], Array]]


class Adversary(NamedTuple):
    """All attacks of a run.

    `init(d)` gives the state before the first update. `forge(key, view, ranks [m], own [m, d], hidden, state)` gives
    `(rows [m, d], state)`: `view` is that of an omniscient adversary, row i is that of Byzantine worker `ranks[i]` (-1:
    of none), `own` are the rows as the Byzantine workers computed them. `corrupt(key, batch, rank, handed)` gives what
    a worker trains on that was handed the model after `handed` updates. `goal` is that of the first attack that has
    one. `claim(samples [m], ranks [m], step)` gives the numbers of samples that workers say they hold. Each of the four
    is None where no attack has it. `curious`: whether some attack does not see everything.
    `poisons(ranks)` and `sends(ranks)`: which of these Byzantine workers, -1 for none, lie when they train, and which
    when they send.
    """

    init: Callable[[int], Any]
    forge: Callable[..., tuple[Array, Any]] | None
    corrupt: Callable[[Array, Batch, Array, Array], Batch] | None
    goal: Goal | None
    claim: Callable[[Array, Array, Array], Array] | None
    curious: bool
    poisons: Callable[[Array], Array]
    sends: Callable[[Array], Array]


@compiled_once
def lying(sampled: int | None) -> Lying:
    """Who lies: the same workers always, or so many drawn anew for every update."""

    def drawn(world: World, step: Array) -> Array:
        n = len(world.sizes)
        order = jax.random.permutation(derive(world.liars_key, Purpose.BYZANTINE, step), n)
        return jnp.full(n, -1, jnp.int32).at[order[:sampled]].set(jnp.arange(sampled, dtype=jnp.int32))

    return (lambda world, step: world.liars) if sampled is None else drawn


@compiled_once
def window(part: AttackShare) -> Callable[[Array], Array] | None:
    """Whether an attack is carried out in a round, None where it always is."""
    begin, until, every = getattr(part, "from"), part.until, part.every
    if (begin, until, every) == (0, None, 1):
        return None

    def active(now: Array) -> Array:
        started = (now >= begin) & ((now - begin) % every == 0)
        return started if until is None else started & (now < until)

    return active


@compiled_once
def joined(parts: tuple[Attackers, ...]) -> Adversary:
    """The adversary that carries out all these attacks, each by its own workers."""
    forging = [part for part in parts if part.attack.forge is not None and part.end > part.first]

    def init(d: int) -> Any:
        return tuple(_state(part, d) for part in forging)

    def forge(key: Array, view: View, ranks: Array, own: Array, hidden: Hidden, states: Any) -> tuple[Array, Any]:
        rows, after = view.rows, []
        for number, (part, state) in enumerate(zip(forging, states, strict=True)):
            lies = (ranks >= part.first) & (ranks < part.end)
            key_of = key if len(forging) == 1 else jax.random.fold_in(key, number)

            def carry_out(
                state: Any, part: Attackers = part, lies: Array = lies, key_of: Array = key_of
            ) -> tuple[Array, Any]:
                return _KNOWING[part.knowledge](part, key_of, view, lies, ranks, own, hidden, state)

            if part.active is None:
                forged, state = carry_out(state)
            else:
                forged, state = jax.lax.cond(part.active(view.step), carry_out, lambda state: (view.rows, state), state)
            rows = jnp.where(lies[:, None], forged, rows)
            after.append(state)
        return rows, tuple(after)

    poisoning = [part for part in parts if part.attack.corrupt is not None]

    def corrupt(key: Array, batch: Batch, rank: Array, handed: Array) -> Batch:
        made = batch
        for part in poisoning:
            lies = (rank >= part.first) & (rank < part.end)
            if part.active is not None:
                lies &= part.active(handed)
            assert part.attack.corrupt is not None
            bad = part.attack.corrupt(key, batch._replace(rank=rank - part.first))
            made = made._replace(
                x=jnp.where(lies, bad.x.astype(batch.x.dtype), made.x),
                y=jnp.where(lies, bad.y.astype(batch.y.dtype), made.y),
            )
        return made

    claiming = [part for part in parts if part.attack.claim is not None]

    def claim(samples: Array, ranks: Array, step: Array) -> Array:
        said = samples
        for part in claiming:
            lies = (ranks >= part.first) & (ranks < part.end)
            if part.active is not None:
                lies &= part.active(step)
            assert part.attack.claim is not None
            said = jnp.where(lies, part.attack.claim(samples), said)
        return said

    goals = [part.attack.goal for part in parts if part.attack.goal is not None]
    return Adversary(
        init=init,
        forge=forge if forging else None,
        corrupt=corrupt if poisoning else None,
        goal=goals[0] if goals else None,
        claim=claim if claiming else None,
        curious=any(part.knowledge != "omniscient" for part in forging),
        poisons=_among(poisoning),
        # those that do as they should, too, are Byzantine in the update
        sends=_among([part for part in parts if part.attack.corrupt is None or part.attack.forge is not None]),
    )


def _among(parts: list[Attackers]) -> Callable[[Array], Array]:
    def among(ranks: Array) -> Array:
        found = jnp.zeros(ranks.shape, bool)
        for part in parts:
            found |= (ranks >= part.first) & (ranks < part.end)
        return found

    return among


def _state(part: Attackers, d: int) -> Any:
    state = part.attack.init(d)
    if part.knowledge != "own":
        return state
    # each of its workers has one of its own
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (part.end - part.first, *jnp.shape(leaf))), state)


def _omniscient(
    part: Attackers, key: Array, view: View, lies: Array, ranks: Array, own: Array, hidden: Hidden, state: Any
) -> tuple[Array, Any]:
    assert part.attack.forge is not None
    others = (ranks >= 0) & ~lies
    return part.attack.forge(key, view._replace(byzantine=view.byzantine & ~others), state)


def _colluding(
    part: Attackers, key: Array, view: View, lies: Array, ranks: Array, own: Array, hidden: Hidden, state: Any
) -> tuple[Array, Any]:
    """Only what the workers of this part computed: it stands for the rows of all others, in turn."""
    assert part.attack.forge is not None
    places = jnp.nonzero(lies, size=len(lies))[0]
    stand_in = places[jnp.arange(len(lies)) % jnp.maximum(lies.sum(), 1)]
    rows = jnp.where(lies[:, None], own, own[stand_in])
    rows = jnp.where(lies.any(), rows, jnp.zeros_like(rows))
    # what the server keeps of its own workers is what they sent
    kept = jnp.where(lies[:, None], view.rows, rows)
    asked = {"ask_rule": hidden.asking(kept), "loss": hidden.losing(part.first, part.end)}
    mine = view._replace(rows=rows, byzantine=lies, known=lies, new=view.new & lies, **asked)
    forged, after = part.attack.forge(key, mine, state)
    # of an update without its workers it learns nothing
    return forged, jax.tree.map(lambda new, old: jnp.where(lies.any(), new, old), after, state)


def _alone(
    part: Attackers, key: Array, view: View, lies: Array, ranks: Array, own: Array, hidden: Hidden, states: Any
) -> tuple[Array, Any]:
    """Each worker of this part knows its own row only, and keeps a state of its own."""
    assert part.attack.forge is not None
    forge = part.attack.forge

    def one(worker: tuple[Array, Any]) -> tuple[Array, Any]:
        rank, state = worker
        me = ranks == rank
        place = jnp.argmax(me)
        rows = jnp.broadcast_to(jnp.where(me.any(), own[place], 0), own.shape)
        asked = {"ask_rule": hidden.asking(rows), "loss": hidden.losing(rank, rank + 1)}
        alone = view._replace(rows=rows, byzantine=me, known=me, new=view.new & me, **asked)
        forged, after = forge(jax.random.fold_in(key, rank), alone, state)
        # who is not in this update learns nothing from it
        return forged[place], jax.tree.map(lambda new, old: jnp.where(me.any(), new, old), after, state)

    forged, states = jax.lax.map(one, (jnp.arange(part.first, part.end), states))
    return forged[jnp.clip(ranks - part.first, 0, part.end - part.first - 1)], states


_KNOWING = {"omniscient": _omniscient, "colluding": _colluding, "own": _alone}
