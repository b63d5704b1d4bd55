"""Descriptions: `Run`, all that decides the numbers of one run, and `Study`, a grid of runs."""

from byzax.simulator.config.base import Description, parse_as
from byzax.simulator.config.part import Part
from byzax.simulator.config.run import Run, Settings
from byzax.simulator.config.study import Study, Task

__all__ = ["Description", "Part", "Run", "Settings", "Study", "Task", "parse_as"]
