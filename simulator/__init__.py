"""The simulator: scenarios, the pure core, and three executors that replay a timeline with it.

The folders of parts are loaded when they are first used: `byzax.simulator.partitions.dirichlet(alpha=0.5)`.
"""

import importlib
from types import ModuleType

_PACKAGES = (
    "augmentations", "data", "graphs", "latency", "optimizers", "partitions", "rates", "schedules", "timings",
    "topologies", "transforms",
)  # fmt: skip


def __getattr__(name: str) -> ModuleType:
    if name in _PACKAGES:
        return importlib.import_module(f"byzax.simulator.{name}")
    raise AttributeError(f"module 'byzax.simulator' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES})
