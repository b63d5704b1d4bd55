"""The values of the runs of one combination of settings, by seed."""

from typing import Any

from byzax.experiments.gathering import has_result
from byzax.experiments.result import Result
from byzax.experiments.scores import score_of


class Cells:
    """The results of a scenario, asked by setting."""

    def __init__(self, result: Result) -> None:
        """Keeps a result.

        Args:
            result: The result.
        """
        self.result = result

    def __call__(
        self,
        rule: str | None = None,
        attack: str | None = None,
        *,
        measure: str | None = None,
        report: str | int | None = None,
        step: int | None = None,
        **where: Any,
    ) -> dict[int, float]:
        """The value of each run of a combination.

        Args:
            rule: The rule as tables write it; None for any.
            attack: The attack as tables write it; None for any.
            measure: A column of `metrics`; by default the test accuracy.
            report: As for `Result.summary`; None for that of the scenario.
            step: Take the value after so many updates in place of `report`.
            where: Other keys and their values, with two underscores for a dot: `data__batch_size=3`.

        Returns:
            The value by seed. Runs that were not completed have none.

        Raises:
            ValueError: Where no run has these settings, or several combinations do.
        """
        wanted = {key.replace("__", "."): value for key, value in where.items()}
        wanted |= {key: value for key, value in {"rule": rule, "attack": attack}.items() if value is not None}
        if step is None:
            runs = self.result.runs.assign(value=self.result.values(measure, report))
        else:
            column = measure or score_of(self.result.runs).column
            metrics = self.result.metrics
            at = metrics.loc[metrics["step"] == step, ["run", column]].rename(columns={column: "value"})
            runs = self.result.runs.drop(columns="value", errors="ignore").merge(at, on="run")
        runs = runs.loc[has_result(runs)]
        for key, value in wanted.items():
            if key not in runs:
                raise ValueError(f"{key}: not among the settings {', '.join(self.result.runs.columns)}")
            runs = runs.loc[runs[key].astype(str) == str(value)]
        if runs.empty:
            raise ValueError(f"no run was completed with {wanted}")
        if runs["seed"].duplicated().any():
            raise ValueError(f"several combinations have {wanted}: name more keys")
        return dict(zip(runs["seed"].astype(int), runs["value"].astype(float), strict=True))
