"""TensorBoard: event files, by tensorboardX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from byzax.options import checked
from byzax.simulator.loggers.base import LoggedRun, Logger, needed


@checked
def tensorboard(*, folder: str = "logs/tensorboard") -> Logger:
    """Event files for `tensorboard --logdir FOLDER`, a folder for each run.

    Args:
        folder: The folder of all studies; ~ is the home folder.

    Returns:
        The logger.

    Raises:
        PartError: Where tensorboardX is not installed.

    References:
        https://github.com/lanpa/tensorboardX
    """
    package = needed("tensorboardX", "tensorboard")

    def start(run: LoggedRun) -> Any:
        place = Path(folder).expanduser() / run.study / run.name
        writer = package.SummaryWriter(str(place), flush_secs=5)
        lines = "\n".join(f"    {key}: {value}" for key, value in run.settings.items())
        writer.add_text("settings", lines, 0)
        return writer

    def values(log: Any, step: int, measured: Mapping[str, float]) -> None:
        for name, value in measured.items():
            log.add_scalar(name, value, step)

    def end(log: Any, status: str) -> None:
        log.add_text("status", status)
        log.close()

    return Logger(start, values, end)
