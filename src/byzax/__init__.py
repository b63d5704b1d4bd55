"""Byzantine-robust federated learning simulator: exact rules, Ray actors, reproducible numbers.

`run` executes a scenario, `load` reads its results, `breakdown` finds from where rules no longer hold, `simulate`
gives a run update by update; `Run` and `Study` describe
what is run, `validate` checks it. `aggregators`, `attacks` and `models` hold the functions of each rule, attack and
model.

Example:
    >>> import byzax
    >>> rule = byzax.aggregators.krum(n=15, f=3)

Everything is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from byzax import aggregators, attacks, experiments, models, simulator
    from byzax.experiments.api import describe, load, run, simulate, validate
    from byzax.experiments.breakdown.finding import breakdown
    from byzax.experiments.result import Result
    from byzax.members import PluginError
    from byzax.options import OptionError, PartError
    from byzax.simulator.config.run import Run
    from byzax.simulator.config.study import Study
    from byzax.simulator.executors.base import RunError
    from byzax.simulator.mistakes import ScenarioError

__all__ = [
    "OptionError",
    "PartError",
    "PluginError",
    "Result",
    "Run",
    "RunError",
    "ScenarioError",
    "Study",
    "aggregators",
    "attacks",
    "breakdown",
    "describe",
    "experiments",
    "load",
    "models",
    "run",
    "simulate",
    "simulator",
    "validate",
]
_PACKAGES = ("aggregators", "attacks", "experiments", "models", "simulator")
_HOMES = {
    "OptionError": "options",
    "PartError": "options",
    "PluginError": "members",
    "Result": "experiments.result",
    "Run": "simulator.config.run",
    "RunError": "simulator.executors.base",
    "ScenarioError": "simulator.mistakes",
    "Study": "simulator.config.study",
    "breakdown": "experiments.breakdown.finding",
    "describe": "experiments.api",
    "load": "experiments.api",
    "run": "experiments.api",
    "simulate": "experiments.api",
    "validate": "experiments.api",
}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"byzax.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"byzax.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'byzax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
