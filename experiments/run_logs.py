"""Measurements of runs on their way to the loggers of a study (`log`)."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from byzax.experiments.entries import Entry
from byzax.experiments.names import one_line
from byzax.experiments.settings import settings
from byzax.simulator import interrupts
from byzax.simulator.contracts import build
from byzax.simulator.loggers import LoggedRun, Logger


class RunLogs:
    """The logs of runs that are under way. A logger that fails is told nothing more of the run, which goes on.

    Args:
        folder: The folder of the study.
        notice: Called with a line for each logger that failed.
    """

    def __init__(self, folder: Path, notice: Callable[[str], None]):
        self._folder = folder.absolute()
        self._notice = notice
        # of each run the loggers that work, each with its log
        self._open: dict[str, list[tuple[str, Logger, Any]]] = {}

    def begin(self, run: Entry, resumed: bool) -> None:
        """Opens the logs of a run.

        Args:
            run: The run.
            resumed: Whether it goes on from a snapshot.
        """
        about = LoggedRun(
            run.scenario.name, run.slug, self._folder / "runs" / run.slug, settings(run.scenario), resumed
        )
        self._open[run.slug] = []
        for part in run.scenario.log:

            def start(part: Any = part) -> None:
                logger = build(part)
                self._open[run.slug].append((part.label, logger, logger.start(about)))

            self._try(part.label, start)

    def record(self, run: Entry, step: int, measured: Mapping[str, float]) -> None:
        """Logs an evaluation of a run.

        Args:
            run: The run.
            step: Number of updates made.
            measured: The measurements by column.
        """
        values = {name: value for name, value in measured.items() if name != "step" and math.isfinite(value)}
        self._each(run, lambda logger, log: logger.values(log, step, values))

    def end(self, run: Entry, status: str) -> None:
        """Closes the logs of a run.

        Args:
            run: The run.
            status: Its status.
        """
        self._each(run, lambda logger, log: logger.end(log, status))
        self._open.pop(run.slug, None)

    def _each(self, run: Entry, call: Callable[[Logger, Any], None]) -> None:
        for label, logger, log in list(self._open.get(run.slug, [])):
            if not self._try(label, lambda logger=logger, log=log: call(logger, log)):
                self._open[run.slug] = [each for each in self._open[run.slug] if each[1] is not logger]

    def _try(self, label: str, call: Callable[[], None]) -> bool:
        try:
            call()
        except Exception as error:
            interrupts.check()
            why = one_line(str(error) or type(error).__name__)
            self._notice(f"log: {label} failed ({why}): the run goes on without it")
            return False
        return True
