"""Byzantine-robust federated learning simulator: exact rules, Ray actors, reproducible numbers.

The subpackages are loaded when they are first used: `byzax.aggregators`, `byzax.attacks` and `byzax.models` hold a file
for each rule, attack and model, `byzax.simulator` the data, schedules and executors, `byzax.experiments` the command
line, studies, tables and plots.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from byzax import aggregators, attacks, experiments, models, simulator

__all__ = ["aggregators", "attacks", "experiments", "models", "simulator"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"byzax.{name}")
    raise AttributeError(f"module 'byzax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
