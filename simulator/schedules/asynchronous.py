"""The asynchronous schedule."""

from typing import Annotated, Literal

from pydantic import Field

from byzax.simulator.schedules.base import DeadRows, Schedule, Staleness, asynchrony


def asynchronous(
    n: int,
    f: int,
    *,
    apply: Literal["table", "buffer", "each"] = "table",
    rows: Annotated[int, Field(ge=1)] = 10,
    warm_up: Literal["all", "partial"] = "all",
    max_age: Annotated[int, Field(ge=0)] | None = None,
    dead_rows: DeadRows = "leave",
    staleness: Staleness = "constant",
    exponent: Annotated[float, Field(ge=0)] = 0.5,
) -> Schedule:
    """No worker waits: it goes on with the newest model as soon as its row is there.

    Waits: for nobody, after the first update
    Ages: not bounded, unless by `max_age`
    Source: Agarwal and Duchi, NeurIPS 2011; Nguyen et al., AISTATS 2022, "FedBuff"; Xie et al. 2019, "FedAsync"

    `apply` says how rows meet the rule, and what is then guaranteed. An update never has two rows of one worker.

    * `table`: the rule sees the last row of every worker at every arrival, w_{t+1} = w_t - eta F(G_{1, t - tau_1}, ...,
      G_{n, t - tau_n}): exactly f of n rows are liars' whoever is fast, which is what rules are proven for. Rows stay
      in the table until their worker's next one; those of a worker that died leave it (`dead_rows`).
    * `buffer`: the rule sees the first `rows` different workers since the last update. Among them up to f are liars,
      however fast: declare f and take more than 2f rows. A second row of a worker in one buffer is dropped.
    * `each`: the rule sees every row alone. No rule helps then: this is for `average`, and for filters of single rows.

    Args:
        apply: table, buffer or each.
        rows: of an update with `buffer`.
        warm_up: with `table`, whether the first update waits for a row of all workers, or (partial) of as many as the
            rule accepts.
        max_age: rows from a model more than so many updates old are dropped when they arrive.
        dead_rows: with `table`, what becomes of the last row of a worker that is known to be dead, by `latency.crashes`
            or because in a race its process died. leave: the rule no longer sees it from the next update on, or with
            `max_age` once it is older than that; f stays what is declared, and where fewer rows are left than the rule
            accepts the run ends and says so. stay: the rule sees it to the end, an old gradient in every update.
        staleness: weight of a row that is a updates old: constant 1, polynomial (1 + a)^-exponent, exponential
            exp(-exponent a). In a table rows grow older and lighter until their worker's next one.
        exponent: of the weights.

    Raises:
        ValueError: rows < 1 or > n with `buffer`, max_age < 0, exponent < 0, or for an unknown word.
    """
    return asynchrony("asynchronous", n, apply, rows, warm_up, max_age, dead_rows, staleness, exponent)
