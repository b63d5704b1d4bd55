"""The work of a worker: local steps, momentum, clipping, penalties, variance reduction."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from byzax.simulator.config.base import Count, Description
from byzax.simulator.config.choices import NamedOneOf, accept_bare
from byzax.simulator.config.rates import OptimizerField, RateField


class Local(Description, frozen=True):
    """Several steps at the worker for one row (Local SGD, FedAvg)."""

    steps: Count | None = Field(default=None, le=1_000_000, description="Steps, H.")
    epochs: Count | None = Field(
        default=None, le=10_000, description="In place of `steps`: passes over the worker's samples."
    )
    last_batch: Literal["keep", "drop"] = Field(
        default="keep",
        description="Of an epoch, where samples do not fill it: smaller, or left out (never all that a worker holds).",
    )
    optimizer: OptimizerField | None = Field(
        default=None,
        description="The worker's optimizer, which begins anew with every job; null: plain SGD.",
    )
    learning_rate: RateField | None = Field(
        default_factory=lambda given: 0.1 if given.get("optimizer") is None else None,
        description="Learning rate of plain SGD: a number, or a schedule by the version of the model handed.",
    )
    proximal: float = Field(
        default=0.0, ge=0, description="mu of FedProx: every step's loss has mu/2 |w - w_0|² more, w_0 as handed."
    )
    control_variates: bool = Field(
        default=False,
        description="SCAFFOLD: every step's gradient is corrected by the control variates of all workers and its own.",
    )
    send: Literal["delta", "model"] = Field(
        default="delta",
        description="The change from the model it was handed (as a descent, before minus after), or its model.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("steps or epochs must be given, and not both: such as steps: 5")
        if self.steps is not None and self.last_batch == "drop":
            raise ValueError("last_batch: is for epochs: batches of steps are drawn and always full")
        if (self.optimizer is None) == (self.learning_rate is None):
            raise ValueError(
                "learning_rate is that of plain SGD: with an optimizer leave it out, and write optimizer.learning_rate"
                if self.optimizer
                else "learning_rate must be given, such as 0.1"
            )
        return self


class Momentum(Description, frozen=True):
    """Momentum at each worker, which sends m."""

    _short = "beta"

    beta: float = Field(default=0.0, ge=0, lt=1, description="Share of m that stays.")
    kind: Literal["exponential", "heavy_ball"] = Field(
        default="exponential", description="m = beta m + (1 - beta) g, or m = beta m + g."
    )


class Clipping(Description, frozen=True):
    """Every gradient at a worker is cut to a size, after the penalties and before momentum: by value, then by norm."""

    norm: Annotated[float, Field(gt=0)] | None = Field(default=None, description="The largest length; null: any.")
    value: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="The largest absolute value of a coordinate; null: any."
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.norm is None and self.value is None:
            raise ValueError("norm or value must be given, or both: such as norm: 2")
        return self


class Regularisation(Description, frozen=True):
    """Penalties in every gradient at a worker (no reported loss holds them), and a bound on the model."""

    l1: float = Field(default=0.0, ge=0, description="l1 sign(w) is added to the gradient (penalty l1 |w|_1).")
    l2: float = Field(default=0.0, ge=0, description="l2 w is added to the gradient (penalty l2/2 |w|²).")
    max_norm: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="After every update all parameters together are projected to this length at most; null: any.",
    )


class VarianceReduction(Description, frozen=True):
    """SAGA: a job's gradient less the last one on the same batch plus the mean of the last ones on all batches.

    A worker's samples are fixed batches of data.batch_size, of which a job draws one.
    """

    name: Literal["saga"] = "saga"


MomentumField: TypeAlias = Annotated[Momentum, accept_bare(float, Momentum)]
ReductionField: TypeAlias = Annotated[VarianceReduction, NamedOneOf("variance reduction", VarianceReduction)]
