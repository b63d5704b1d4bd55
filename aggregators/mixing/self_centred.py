"""A rule over the differences to the own model."""

from typing import Any

from byzax import members
from byzax.aggregators.base import Aggregator, Array, Context, Info, State, check_rows
from byzax.aggregators.mixing.base import models_of, require_neighbourhood
from byzax.aggregators.pre import Mixer, chained
from byzax.options import NestedPre, NestedRule, OptionError, checked


@checked
def self_centred(n: int, f: int, *, rule: NestedRule = "average", pre: NestedPre | None = None) -> Aggregator:
    """The own model, moved by a rule over the differences of all models to it, `[n, d] -> [d]`.

        x_i <- x_i + F(x_1 - x_i, ..., x_n - x_i)

    Condition: that of the rule
    Cost: that of the rule

    A rule that moves with its rows (median, trimmed_mean, krum) gives what it gives over the models themselves. One
    that measures rows from the origin means something else: `pre: clip` and `rule: norm_clipping` bound how far a
    neighbour moves the node, and `rule: cge` drops the models farthest from the own one.

    Args:
        n: Number of models, the node's own among them.
        f: Number of them that may be Byzantine.
        rule: The rule F.
        pre: A pre-aggregation of the differences before it. None: there is none.

    Returns:
        The mixing. Weights: those of the rule.

    Raises:
        PartError: Where rule or pre-aggregation do not accept n and f.
        OptionError: For a rule that needs samples or the row of a server.

    References:
        Gaucher, Dieuleveut and Hendrikx, ICML 2025, "Unified Breakdown Analysis for Byzantine Robust Gossip"
    """
    _, make = members.nested("rule", "rule", rule, Aggregator)
    before = [] if pre is None else [members.nested("pre", "pre", pre, Mixer)[1]]
    made = chained(make, n, f, before)
    if {"gradient", "loss"} & made.needs:
        raise OptionError("rule", "compares rows with the server's own, and there is no server: take median")

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        models = models_of(rows, require_neighbourhood("self_centred", context))
        moved, state, info = made.apply(models.rows - models.own, state, models.context)
        return (models.own + moved).astype(rows.dtype), state, info

    return made._replace(apply=apply, among=None, linear=False, needs=frozenset[Any](made.needs))
