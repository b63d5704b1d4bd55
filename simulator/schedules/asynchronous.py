"""Asynchronous SGD (Agarwal and Duchi 2011; FedBuff; FedAsync): no worker waits for another."""

from byzax.options import checked
from byzax.simulator.schedules.base import (
    Apply,
    Count,
    CountOrZero,
    DeadRows,
    NotNegative,
    Schedule,
    Staleness,
    WarmUp,
    build_asynchronous,
    check_workers,
)


@checked
def asynchronous(
    n: int,
    f: int,
    *,
    apply: Apply = "table",
    rows: Count = 10,
    warm_up: WarmUp = "all",
    max_age: CountOrZero | None = None,
    dead_rows: DeadRows = "leave",
    staleness: Staleness = "constant",
    exponent: NotNegative = 0.5,
) -> Schedule:
    """Lets every worker go on with the newest model as soon as its row has arrived; no worker waits.

    Waits: for no worker, after the first update
    Ages: not bounded, unless by `max_age`

    `apply` decides which rows an update gives the rule, and with that what is guaranteed. An update never has two rows
    of one worker.

    * `table`: the rule gets the last row of every worker at every arrival, w_{t+1} = w_t - eta F(G_{1, t - tau_1}, ...,
      G_{n, t - tau_n}): exactly f of n rows are of Byzantine workers, however fast these are, which is what rules are
      proven for. Rows stay in the table until their worker's next one; those of a worker that died leave it
      (`dead_rows`).
    * `buffer`: the rule gets the rows of the first `rows` different workers since the last update. Up to f of these are
      Byzantine, however fast they are: declare f and take more than 2f rows. A second row of a worker in one buffer is
      dropped.
    * `each`: the rule gets every row alone. No rule helps then: this is for `average`, and for filters of single rows.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        apply: "table", "buffer" or "each", as above.
        rows: Number of rows of an update, with "buffer"; at most n.
        warm_up: With "table", whether the first update waits for a row of all workers ("all"), or of as many as the
            rule accepts ("partial").
        max_age: Largest age of a row in updates; a row from an older model is dropped when it arrives. None: every
            age is accepted.
        dead_rows: With "table", what becomes of the last row of a worker that is known to be dead, by `latency.crashes`
            or because in a race its process died. "leave": the rule no longer gets it from the next update on, or with
            `max_age` once it is older than that; f stays what is declared, and where fewer rows are left than the rule
            accepts the run ends and says so. "stay": the rule gets it to the end, an old gradient in every update.
        staleness: Weight of a row that is a updates old: "constant" 1, "polynomial" (1 + a)^-exponent, "exponential"
            exp(-exponent a). In a table rows grow older and lighter until their worker's next one.
        exponent: Exponent of the weights.

    Returns:
        The schedule.

    Raises:
        OptionError: For an option out of its range.
        PartError: For an impossible n and f.

    References:
        Agarwal and Duchi, NeurIPS 2011; Nguyen et al., AISTATS 2022, "FedBuff"; Xie et al. 2019, "FedAsync"
    """
    check_workers("asynchronous", n, f)
    return build_asynchronous(n, apply, rows, warm_up, max_age, dead_rows, staleness, exponent)
