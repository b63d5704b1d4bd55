"""MLflow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from byzax.options import checked
from byzax.simulator.loggers.base import LoggedRun, Logger, needed

# Values of a parameter that MLflow takes.
LONGEST = 500
STORE = Path("logs/mlflow.db")


@checked
def mlflow(*, tracking_uri: str | None = None, experiment: str | None = None) -> Logger:
    """Runs of MLflow, in a database on this machine by default: `mlflow ui --backend-store-uri sqlite:///logs/mlflow.db`.

    Args:
        tracking_uri: The store or server. None: the database logs/mlflow.db.
        experiment: The experiment. None: the name of the study.

    Returns:
        The logger.

    Raises:
        PartError: Where mlflow is not installed.

    References:
        https://mlflow.org/docs/latest/tracking.html
    """
    package = needed("mlflow", "mlflow")

    def start(run: LoggedRun) -> Any:
        if tracking_uri is None:
            STORE.parent.mkdir(parents=True, exist_ok=True)
        client = package.MlflowClient(tracking_uri or f"sqlite:///{STORE.absolute()}")
        name = experiment or run.study
        found = client.get_experiment_by_name(name)
        number = found.experiment_id if found else client.create_experiment(name)
        made = client.create_run(number, run_name=run.name).info.run_id
        for key, value in run.settings.items():
            client.log_param(made, key, value[:LONGEST])
        return client, made

    def values(log: Any, step: int, measured: Mapping[str, float]) -> None:
        client, run = log
        for name, value in measured.items():
            client.log_metric(run, name, value, step=step)

    def end(log: Any, status: str) -> None:
        client, run = log
        client.set_tag(run, "status", status)
        ended = {"failed": "FAILED", "interrupted": "KILLED"}.get(status, "FINISHED")
        client.set_terminated(run, ended)

    return Logger(start, values, end)
