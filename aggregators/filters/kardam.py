"""Kardam (Damaskinos et al. 2018): rows that change no more than those of most workers, in turns."""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from byzax.aggregators.base import Array, Context, NotNegative, require
from byzax.aggregators.filters.base import Filter, Sent
from byzax.aggregators.kernels.clipping import norms
from byzax.options import checked


class KardamState(NamedTuple):
    """Kardam's state.

    Attributes:
        last: `[d]`, the last accepted row as it was sent, 0 before the first.
        before: `[d]`, the model that it changed.
        weight: The weight of that row in the change.
        moved: Distance by which an accepted row moved the model last, at full weight; 1 before the first.
        coefficients: `[n]`, of each worker's last row; -inf where none is known.
        clock: Number of rows accepted so far, and of turns given up.
        turns: `[n]`, the clock when a row of the worker was last accepted.
        refused: `[n]`, the workers that were refused since the clock moved.
        rows: `[n, d]`, the last row of each worker; `[0, d]` where the coefficients are kept.
    """

    last: Array
    before: Array
    weight: Array
    moved: Array
    coefficients: Array
    clock: Array
    turns: Array
    refused: Array
    rows: Array


@checked
def kardam(
    n: int,
    f: int,
    *,
    dampening: Literal["exponential", "inverse", "constant"] = "exponential",
    alpha: NotNegative = 0.2,
    coefficients: Literal["kept", "renewed"] = "kept",
) -> Filter:
    """Accepts rows that change no faster than those of n-f workers, 2f+1 in succession from as many workers.

        K_p = |x_p - last| / |w_t - w_{t-1}|,  accepted if K_p <= the (n-f)-th smallest K and p is none of the workers
        of the 2f rows accepted before; the rule sees L(age) x_p,  L = exp(-alpha age), 1 / (1 + age) or 1

    Condition: n >= 3f + 1
    Cost: O(d + n log n) for each row and the memory of two rows; O(n d), and of n + 2 rows, where K are renewed

    `last` is the last accepted row, w_t the model and w_{t-1} the one that this row changed. Each worker counts with
    the K of its last row, refused ones too, and with -infinity before its first: so the bound is never above the
    largest K of an honest worker, and the first f rows are refused. Before the first accepted row K is the length of a
    row, and afterwards all K are forgotten once, since they are in another unit. Rows that are not finite are refused.

    The paper asks that of any 2f+1 rows accepted in succession at least f+1 are honest, whichever f workers are
    Byzantine. So the 2f+1 rows must be of 2f+1 different workers: if two were of one worker, this one and f-1 others
    could be the Byzantine ones, with f+1 rows. A worker has its turn again when 2f rows of others were accepted after
    its last. With n > 3f there is always an honest worker that has its turn. If its K were always the largest no row
    would be accepted any more, so whenever n-f different workers were refused since the last accepted row, the worker
    of the oldest of the 2f rows has its turn too. Thus rows are accepted as long as n-f workers send; where more have
    died the model may stand still. Beside the rows of workers that do not have their turn, f/n of the honest rows are
    refused without Byzantine workers, and up to f/(n-f) with them.

    Differences: |w_t - w_{t-1}| is divided by the L of the row behind it, else a light row would make every K large and
    the next bound too wide. Where a row left the model as it was, the move before stands. Ages count refused rows as
    well. The authors' code bounds by the 2/3 quantile of the largest of 25 coefficients of each worker, these between
    rows and models of its own, and interpolates, which lets through a share of a Byzantine worker's coefficient; it has
    no turns, and accepts anything after n refused rows.

    A weakness of the definition: after an accepted row close to 0, of a Byzantine worker or of a batch that the model
    has learnt, the model moves little and every K is large. Once f+1 workers have sent rows then, the bound is wide,
    and it stays wide until they send again. With `coefficients: renewed` all K are divided by the same move, which then
    makes no difference.

    Args:
        n: Number of workers.
        f: Number of workers that may be Byzantine.
        dampening: Way in which rows become lighter with age; the schedule's own staleness weights come on top. Yang and
            Li, who compare BASGD with Kardam, take inverse and say that its paper suggests it.
        alpha: Rate of the exponential dampening, for each update of age.
        coefficients: `kept` are those of the time when each row came; `renewed`, all K are made anew for every row from
            the last rows of all workers.

    Returns:
        The filter.

    Raises:
        PartError: For f < 0, or n < 3f + 1.
        OptionError: For alpha < 0, or an option that is none of those named.

    References:
        Damaskinos, El Mhamdi, Guerraoui, Patra and Taziki, ICML 2018, "Asynchronous Byzantine Machine Learning"
    """
    require("kardam", n, f, factor=3, offset=1)

    def init(params: Array) -> KardamState:
        return KardamState(
            last=jnp.zeros_like(params),
            before=params,
            weight=jnp.ones((), params.dtype),
            moved=jnp.ones((), params.dtype),
            coefficients=jnp.full(n, -jnp.inf, params.dtype),
            clock=jnp.zeros((), jnp.int32),
            turns=jnp.full(n, -2 * f - 1, jnp.int32),
            refused=jnp.zeros(n, bool),
            rows=jnp.zeros((n if coefficients == "renewed" else 0, len(params)), params.dtype),
        )

    def judge(row: Array, sent: Sent, context: Context, state: KardamState) -> tuple[Array, Array, KardamState]:
        assert context.params is not None
        moved = norms((context.params - state.before)[None])[0] / state.weight
        moved = jnp.where(moved > 0, moved, state.moved)
        if coefficients == "renewed":
            rows = state.rows.at[sent.worker].set(row)
            heard = (state.coefficients > -jnp.inf).at[sent.worker].set(True)
            known = jnp.where(heard, _growth(rows - state.last, moved), -jnp.inf)
        else:
            rows = state.rows
            known = state.coefficients.at[sent.worker].set(_growth((row - state.last)[None], moved)[0])
        own = known[sent.worker]
        accepted = jnp.isfinite(own) & (own <= jnp.sort(known)[n - f - 1])
        accepted &= state.clock - state.turns[sent.worker] > 2 * f

        age = sent.age.astype(row.dtype)
        weight = {"exponential": jnp.exp(-alpha * age), "inverse": 1 / (1 + age), "constant": jnp.ones_like(age)}[
            dampening
        ]
        unit = accepted & (state.turns < 0).all() if coefficients == "kept" else False
        refused = state.refused.at[sent.worker].set(True)
        onward = accepted | (refused.sum() >= n - f)
        return (
            weight * row,
            accepted,
            KardamState(
                last=jnp.where(accepted, row, state.last),
                before=jnp.where(accepted, context.params, state.before),
                weight=jnp.where(accepted, weight, state.weight),
                moved=moved,
                coefficients=jnp.where(unit, -jnp.inf, known),
                clock=state.clock + onward,
                turns=jnp.where(accepted, state.turns.at[sent.worker].set(state.clock), state.turns),
                refused=refused & ~onward,
                rows=rows,
            ),
        )

    return Filter(init, judge)


def _growth(differences: Array, moved: Array) -> Array:
    """`[m]`: lengths of `differences` `[m, d]` for each unit of the move, +inf where not finite."""
    gaps = norms(differences)
    return jnp.where(jnp.isfinite(gaps), gaps / moved, jnp.inf)
