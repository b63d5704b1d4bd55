"""The type of a logger, and what byzax tells it."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from byzax.options import PartError


class LoggedRun(NamedTuple):
    """A run that is logged.

    Attributes:
        study: Name of the study.
        name: Name of the run: that of its folder.
        folder: Its folder, absolute, in which byzax keeps its own files; a logger writes elsewhere.
        settings: Its settings by dotted key.
        resumed: Whether the run goes on from a snapshot: its evaluations until then were logged before.
    """

    study: str
    name: str
    folder: Path
    settings: Mapping[str, str]
    resumed: bool


class StartLog(Protocol):
    """The beginning of a run."""

    def __call__(self, run: LoggedRun, /) -> Any:
        """Opens the log of a run.

        Args:
            run: The run.

        Returns:
            Whatever the other functions need.
        """
        ...


class LogValues(Protocol):
    """An evaluation of a run."""

    def __call__(self, log: Any, step: int, values: Mapping[str, float], /) -> None:
        """Logs the measurements of a model.

        Args:
            log: The value that `start` gave.
            step: Number of updates made.
            values: The measurements by their columns in `metrics.csv`, without those that are not finite.
        """
        ...


class EndLog(Protocol):
    """The end of a run."""

    def __call__(self, log: Any, status: str, /) -> None:
        """Closes the log of a run.

        Args:
            log: The value that `start` gave.
            status: complete, degraded, failed or interrupted.
        """
        ...


class Logger(NamedTuple):
    """A place to which the measurements of runs go. It changes no number of a run; where it fails the run goes on.

    Attributes:
        start: Called when a run begins or goes on.
        values: Called at every evaluation.
        end: Called when the run has ended.
    """

    start: StartLog
    values: LogValues
    end: EndLog


def needed(package: str, extra: str) -> Any:
    """Imports the package of a logger.

    Args:
        package: Its name.
        extra: The extra of byzax that installs it.

    Returns:
        The module.

    Raises:
        PartError: Where it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise PartError(f"{extra} needs the package {package}: pip install 'byzax[{extra}]'") from None
