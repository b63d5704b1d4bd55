"""The majority vote of signSGD (Bernstein et al. 2019)."""

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import AggregateAlive, Aggregator, Array, Info, require, stateless
from byzax.aggregators.kernels.blocks import Part, block_width, map_blocks
from byzax.aggregators.kernels.means import UNROLLED
from byzax.options import checked


@checked
def sign_majority(n: int, f: int) -> Aggregator:
    """The sign that most rows have in a coordinate, -1, 0 or 1, `[n, d] -> [d]`.

        F[c] = sign(sign(x_1[c]) + ... + sign(x_n[c])),  sign(0) = 0

    Condition: n >= 2f + 1
    Cost: O(n d)

    The length of the rows is lost: the step of the model in each coordinate is the learning rate. Byzantine rows that
    do not know the others' are outvoted; those that do decide wherever honest votes are close.

    NaN and 0 are no vote, an infinity is one like any other. Ties: as many votes for as against give 0, no move.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.

    Returns:
        The rule. No weights: rows have no share in a vote.

    Raises:
        PartError: For f < 0, or n < 2f + 1.

    Example:
        >>> import numpy as np
        >>> rule = sign_majority(n=3, f=1)
        >>> rows = np.array([[1e-9, 2, np.nan], [3, -5, 1], [-1e30, 0, -1]], np.float32)
        >>> rule.apply(rows, rule.init(3))[0].tolist()
        [1.0, 0.0, 0.0]

    References:
        Bernstein et al., ICLR 2019, "signSGD with majority vote is communication efficient and fault tolerant"
    """
    least_rows = require("sign_majority", n, f, factor=2, offset=1)

    def vote(rows: Array, alive: Array) -> Array:
        def signs(values: Array) -> Array:
            return (values > 0).astype(rows.dtype) - (values < 0).astype(rows.dtype)

        if n <= UNROLLED:
            total = jnp.zeros_like(rows[0])
            for i in range(n):
                total = total + jnp.where(alive[i], signs(rows[i]), 0)
        else:
            votes = alive.astype(rows.dtype)

            def counted(part: Part) -> Array:
                return jnp.matmul(votes, signs(part(rows)), precision=lax.Precision.HIGHEST)

            total = map_blocks(rows.shape[1], block_width(rows), counted)
        return signs(total)

    def among(rows: Array) -> AggregateAlive:
        return lambda alive: vote(rows, alive)

    def aggregate(rows: Array) -> tuple[Array, Info]:
        return vote(rows, jnp.ones(n, bool)), Info()

    return stateless(n, aggregate, among, least_rows=least_rows, by_coordinate=True)
