"""Trackio."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from byzax.options import checked
from byzax.simulator.loggers.base import LoggedRun, Logger, needed


@checked
def trackio(*, project: str | None = None) -> Logger:
    """Runs of Trackio, in its files on this machine: `trackio show`.

    Args:
        project: The project. None: the name of the study.

    Returns:
        The logger.

    Raises:
        PartError: Where trackio is not installed.

    References:
        https://github.com/gradio-app/trackio
    """
    package = needed("trackio", "trackio")

    def start(run: LoggedRun) -> Any:
        with redirect_stdout(StringIO()):
            return package.init(project=project or run.study, name=run.name, config=dict(run.settings), embed=False)

    def values(log: Any, step: int, measured: Mapping[str, float]) -> None:
        log.log(dict(measured), step=step)

    def end(log: Any, status: str) -> None:
        # it prints that it sends them, also where it writes files
        with redirect_stdout(StringIO()):
            log.finish()

    return Logger(start, values, end)
