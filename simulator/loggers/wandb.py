"""Weights & Biases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from byzax.options import checked
from byzax.simulator.loggers.base import LoggedRun, Logger, needed


@checked
def wandb(*, project: str | None = None, folder: str = "logs", online: bool = False) -> Logger:
    """Runs of Weights & Biases: offline ones, which `wandb sync` sends later.

    Args:
        project: The project. None: the name of the study.
        folder: The folder of its files; ~ is the home folder.
        online: Whether measurements are sent at once.

    Returns:
        The logger.

    Raises:
        PartError: Where wandb is not installed.

    References:
        https://docs.wandb.ai
    """
    package = needed("wandb", "wandb")

    def start(run: LoggedRun) -> Any:
        place = Path(folder).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        mode = "online" if online else "offline"
        return package.init(
            project=project or run.study, name=run.name, group=run.study, dir=str(place), mode=mode,
            config=dict(run.settings), reinit="create_new", settings=package.Settings(silent=True, console="off"),
        )  # fmt: skip

    def values(log: Any, step: int, measured: Mapping[str, float]) -> None:
        log.log(dict(measured), step=step)

    def end(log: Any, status: str) -> None:
        log.summary["status"] = status
        log.finish(exit_code=0 if status in ("complete", "degraded") else 1)

    return Logger(start, values, end)
