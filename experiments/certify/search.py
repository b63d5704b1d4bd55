"""An attack of our own: the worst direction, pattern and size that a search of fixed length finds.

Byzantine worker j sends m + size * spread * (w_j v + p_j): m is the mean of the honest rows of the update, spread the
root of their mean squared distance to m, v a direction, w a pattern of lengths, p `[f, d]` a fixed
perturbation. All directions with all patterns and a grid of sizes come first, then ever finer sizes around the best,
then normal perturbations, each kept where it makes things worse. The result is an attack that exists, so what it does
is a **lower bound** on the worst case. It is found on draws of its own and then measured on fresh ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.experiments.certify.draws import DrawPurpose, Scene, honest_rows, host_generator, key
from byzax.experiments.certify.subject import Subject, answers, draws_within_memory

Array = jax.Array
DRAWS, FRESH = 16, 64  # for every candidate, and for the last few
SMALLEST, LARGEST = 0.03, 100.0  # sizes of the grid
PLANS_BYTES = 2**28  # of rows that are made at once
FINER = 8  # sizes in one round of refinement
DIRECTIONS = (
    "against the gradient", "against the mean", "largest coordinate", "every coordinate", "principal", "farthest row",
    "random",
)  # fmt: skip


class SearchedAttack(NamedTuple):
    """One attack.

    Attributes:
        direction: Position in `DIRECTIONS`.
        pattern: Name of the pattern.
        weights: `[f]`, the pattern: length of each Byzantine row.
        size: Size, in spreads of the honest rows.
        perturbation: `[f, d]`; None for none.
    """

    direction: int
    pattern: str
    weights: np.ndarray
    size: float
    perturbation: np.ndarray | None = None


class WorstAttacks(NamedTuple):
    """The worst attacks that a search found.

    Attributes:
        angle: The attack with the largest angle.
        inner: The attack with the smallest inner product.
    """

    angle: SearchedAttack
    inner: SearchedAttack


def attack_text(plan: SearchedAttack) -> str:
    """An attack in words.

    Args:
        plan: The attack.

    Returns:
        Direction, pattern and size.
    """
    more = ", perturbed" if plan.perturbation is not None else ""
    return f"{DIRECTIONS[plan.direction]}, {plan.pattern}, size {plan.size:.3g}{more}"


def patterns(f: int) -> dict[str, np.ndarray]:
    """The lengths of Byzantine rows along a direction.

    Args:
        f: Number of Byzantine rows.

    Returns:
        `[f]` by name: all alike, half to the other side, a ladder, or one alone; different ones only.
    """
    patterns = {
        "all alike": np.ones(f),
        "split": np.where(np.arange(f) % 2, -1.0, 1.0),
        "ladder": np.arange(1, f + 1) / f,
        "one": np.eye(f)[0],
    }
    return {
        name: w
        for i, (name, w) in enumerate(patterns.items())
        if not any((w == o).all() for o in [*patterns.values()][:i])
    }


@jax.jit
def directions(rows: Array, gradient: Array) -> Array:
    """The directions of attacks.

    Args:
        rows: `[m, h, d]`, honest rows.
        gradient: `[d]`, the true gradient.

    Returns:
        `[m, D, d]`, unit vectors in the order of `DIRECTIONS`; the random one is 0.
    """

    def of(honest: Array) -> Array:
        mean = honest.mean(axis=0)
        deviations = honest - mean
        _, vectors = jnp.linalg.eigh(jnp.matmul(deviations, deviations.T, precision=jax.lax.Precision.HIGHEST))
        principal = vectors[:, -1] @ deviations
        principal = principal * jnp.where(principal @ gradient > 0, -1, 1)
        c = jnp.argmax(jnp.abs(gradient))
        coordinate = jnp.zeros_like(gradient).at[c].set(-jnp.sign(gradient[c]))
        farthest = deviations[jnp.argmin(deviations @ gradient)]
        every = -jnp.where(gradient >= 0, 1.0, -1.0).astype(gradient.dtype)
        vectors = jnp.stack([-gradient, -mean, coordinate, every, principal, farthest, jnp.zeros_like(mean)])
        lengths = jnp.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / jnp.where(lengths > 0, lengths, 1)

    return jax.lax.map(of, rows)


class SearchData(NamedTuple):
    """Draws on which attacks are tried.

    Attributes:
        rows: `[m, n, d]`, the rows.
        mean: `[m, d]`, means of the honest rows.
        spread: `[m]`, root of the mean squared distance of honest rows to their mean.
        directions: `[m, D, d]`, the directions.
    """

    rows: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    directions: np.ndarray


def search_data(scene: Scene, rows: np.ndarray) -> SearchData:
    """Prepares draws for the search.

    Args:
        scene: The honest rows.
        rows: `[m, n, d]`, of which the first f are Byzantine.

    Returns:
        The draws.
    """
    good = rows[:, scene.f :]
    mean = good.mean(axis=1)
    spread = np.sqrt(np.square(good - mean[:, None]).sum(axis=2).mean(axis=1))
    moved = np.array(directions(jnp.asarray(good), jnp.asarray(scene.gradient)))
    random = host_generator(scene.seed, DrawPurpose.SEARCH).normal(size=scene.d)
    moved[:, DIRECTIONS.index("random")] = random / np.linalg.norm(random)
    return SearchData(rows, mean, spread, moved)


def attack_rows(scene: Scene, where: SearchData, plan: SearchedAttack, into: np.ndarray | None = None) -> np.ndarray:
    """Carries out an attack.

    Args:
        scene: The honest rows.
        where: The draws that the attack is carried out on.
        plan: The attack.
        into: `[m, n, d]`, an array that holds the honest rows already and is written to; None for a new one.

    Returns:
        The rows `[m, n, d]` after the attack.
    """
    attacked = where.rows.copy() if into is None else into
    # one draw at a time: for many parameters the memory of all of them at once takes longer to get than to fill
    for i, rows in enumerate(attacked):
        offset = plan.weights[:, None] * where.directions[i, plan.direction]
        if plan.perturbation is not None:
            offset += plan.perturbation
        rows[: scene.f] = where.mean[i] + plan.size * where.spread[i] * offset
    return attacked


def search(subject: Subject, scene: Scene, budget: int, tell: Callable[[str], None]) -> WorstAttacks:
    """Searches the worst attacks.

    Args:
        subject: The rule.
        scene: The honest rows.
        budget: Approximate number of answers of the rule.
        tell: Receives a line about each stage.

    Returns:
        The attacks.
    """
    some, fresh = (
        _trial(subject, scene, DRAWS, 0),
        _trial(subject, scene, draws_within_memory(FRESH, scene.n, scene.d), 1),
    )
    ways = [(i, name, w) for i in range(len(DIRECTIONS)) for name, w in patterns(scene.f).items()]
    steps = int(np.clip(budget // 2 // (DRAWS * len(ways)), 3, 24))
    sizes = np.geomspace(SMALLEST, LARGEST, steps)
    plans = [SearchedAttack(i, name, w, float(size)) for i, name, w in ways for size in sizes]
    tell(f"search: {len(plans)} directions, patterns and sizes")
    scores = some(plans)
    best = []
    for aim in (0, 1):
        plan, score = plans[int(np.argmax(scores[aim]))], float(scores[aim].max())
        plan, score = _resized(plan, score, aim, (LARGEST / SMALLEST) ** (1 / (steps - 1)), some)
        rounds = budget // 4 // (DRAWS * FINER)
        tell(f"search: {rounds} rounds of perturbations of {attack_text(plan)}")
        perturbed = _perturbed(plan, score, aim, rounds, scene, some)
        # a size at the edge of acceptance fits the draws that it was found on: fresh ones decide
        last = [
            each._replace(size=each.size * float(scale))
            for each in (plan, perturbed)
            for scale in np.geomspace(0.7, 1, FINER)
        ]
        best.append(last[int(np.argmax(fresh(last)[aim]))])
    return WorstAttacks(*best)


def _trial(subject: Subject, scene: Scene, draws: int, turn: int) -> Callable[[list[SearchedAttack]], np.ndarray]:
    """A function that tries attacks on so many draws.

    It returns `[2, attacks]`, |E F - g|² and -<E F, g>; larger is worse.
    """
    rows = honest_rows(scene, (DrawPurpose.SEARCH_DRAWS, turn), np.arange(draws))
    own = honest_rows(scene, (DrawPurpose.OWN, 1, turn), np.arange(draws), rows=1)[:, 0]
    where = search_data(scene, rows)
    root = key(scene.seed, DrawPurpose.RULE, 1, turn)
    at_once = max(1, PLANS_BYTES // (4 * draws * scene.n * scene.d))

    def tried(plans: list[SearchedAttack]) -> np.ndarray:
        scores = []
        attacked = np.tile(rows, (min(at_once, len(plans)), 1, 1))
        for start in range(0, len(plans), at_once):
            few = plans[start : start + at_once]
            attacked = attacked[: len(few) * draws]
            for place, plan in enumerate(few):
                attack_rows(scene, where, plan, attacked[place * draws : (place + 1) * draws])
            aggregates = answers(subject, attacked, np.tile(own, (len(few), 1)), root).reshape(len(few), draws, -1)
            scores += [_scores(each.astype(np.float64), scene) for each in aggregates]
        return np.array(scores).T

    return tried


def _scores(answers: np.ndarray, scene: Scene) -> tuple[float, float]:
    if not np.isfinite(answers).all():
        return np.inf, np.inf
    gradient = scene.gradient.astype(np.float64)
    off = answers - gradient
    gram = off @ off.T
    unbiased = (gram.sum() - np.trace(gram)) / (len(off) * (len(off) - 1))
    return float(unbiased), float(-(answers @ gradient).mean())


def _resized(
    plan: SearchedAttack, score: float, aim: int, step: float, tried: Callable[[list[SearchedAttack]], np.ndarray]
) -> tuple[SearchedAttack, float]:
    # acceptance ends at a certain size: no smooth maximum, so a finer grid and no golden section
    for _ in range(3):
        finer = [plan._replace(size=float(size)) for size in plan.size * np.geomspace(1 / step, step, FINER)]
        scores = tried(finer)[aim]
        if scores.max() > score:
            plan, score = finer[int(np.argmax(scores))], float(scores.max())
        step = step ** (2 / (FINER - 1))
    return plan, score


def _perturbed(
    plan: SearchedAttack,
    score: float,
    aim: int,
    rounds: int,
    scene: Scene,
    tried: Callable[[list[SearchedAttack]], np.ndarray],
) -> SearchedAttack:
    generator, width = host_generator(scene.seed, DrawPurpose.SEARCH, aim), 0.3
    shape = (scene.f, scene.d)
    for _ in range(rounds):
        if not np.isfinite(score):
            break
        noise = generator.normal(size=(FINER, *shape)).astype(np.float32) / np.sqrt(scene.d)
        # Byzantine rows together or each on its own
        noise[::2] = noise[::2, :1]
        before = 0 if plan.perturbation is None else plan.perturbation
        options = [plan._replace(perturbation=before + np.float32(width) * each) for each in noise]
        scores = tried(options)[aim]
        if scores.max() > score:
            plan, score, width = options[int(np.argmax(scores))], float(scores.max()), width * 1.5
        else:
            width *= 0.7
    return plan
