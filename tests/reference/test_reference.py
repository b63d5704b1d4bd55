"""Whole runs of byzax against a reference in float64 and NumPy that shares no code with it."""

import numpy as np
import pytest

from simulator.scenario import parse
from tests.reference.drawn import drawn
from tests.reference.training import FORMULAS, train
from tests.simulator.conftest import run

N, F = 7, 2
SKEWED = {
    "name": "gaussian_mixture", "samples": 240, "shape": [5], "classes": 3, "separation": 2.0, "batch_size": 8,
    "partition": {"name": "dirichlet", "alpha": 0.5}, "validation": 0.2,
}  # fmt: skip
VALUES = {"name": "linear_regression", "samples": 200, "features": 5, "batch_size": 8, "validation": 0.2}
RANDOM = {"name": "lognormal", "sigma": 1.0}
LOCAL = {"steps": 3, "learning_rate": 0.3}
# as a scenario says it; what differs between a case and the plain one
CASES = {
    "gradients": {},
    "FedAvg by samples": {"local": LOCAL, "weights": "samples"},
    "FedAvg of models": {"local": LOCAL | {"send": "model"}, "weights": "samples", "data": VALUES, "model": "linear"},
    "FedAvg with epochs": {"local": {"epochs": 2, "learning_rate": 0.3}, "weights": "samples"},
    "FedProx": {"local": LOCAL | {"proximal": 0.7}},
    "SCAFFOLD": {
        "local": LOCAL | {"control_variates": True},
        "optimizer": {"name": "sgd", "learning_rate": 0.7},
    },
    "SAGA": {"variance_reduction": "saga", "worker_momentum": {"beta": 0.5}},
    "exponential momentum": {"worker_momentum": {"beta": 0.9}, "attack": "sign_flip", "rule": {"name": "median"}},
    "heavy ball": {"worker_momentum": {"beta": 0.9, "kind": "heavy_ball"}, "data": VALUES, "model": "linear",
                   "optimizer": {"name": "sgd", "learning_rate": 0.02}},
    "server momentum": {"optimizer": {"name": "sgd", "learning_rate": 0.2, "momentum": 0.9}},
    "Nesterov": {"optimizer": {"name": "sgd", "learning_rate": 0.2, "momentum": 0.9, "nesterov": True}},
    "penalties": {"regularisation": {"l1": 0.01, "l2": 0.1, "max_norm": 1.5}},
    "clipping": {"clipping": {"norm": 0.4, "value": 0.2}, "local": LOCAL},
    "quorum": {
        "latency": RANDOM, "schedule": {"name": "synchronous", "quorum": "n-f"}, "worker_momentum": {"beta": 0.5},
        "rule": {"name": "trimmed_mean"}, "attack": "sign_flip",
    },
    "FedBuff": {
        "latency": RANDOM,
        "schedule": {"name": "asynchronous", "apply": "buffer", "rows": 4, "staleness": "polynomial", "exponent": 0.5},
        "local": {"steps": 3, "learning_rate": {"name": "inverse_time", "start": 0.3, "half_at": 5.0}},
        "weights": "samples",
    },
    "asynchronous": {
        "latency": RANDOM,
        "schedule": {"name": "asynchronous", "apply": "each", "max_age": 6, "staleness": "exponential"},
    },
    "table": {
        "latency": RANDOM, "schedule": {"name": "asynchronous", "staleness": "polynomial"}, "rule": {"name": "median"},
    },
    "SSP": {"latency": RANDOM, "schedule": {"name": "stale_synchronous", "bound": 1, "apply": "each"}},
    "SSP table": {
        "latency": RANDOM, "schedule": {"name": "stale_synchronous", "bound": 2}, "rule": {"name": "trimmed_mean"},
        "worker_momentum": {"beta": 0.5},
    },
    "BASGD": {"latency": RANDOM, "schedule": {"name": "basgd"}, "rule": {"name": "median"}, "attack": "sign_flip"},
    "FLTrust": {"rule": {"name": "fltrust"}, "attack": "sign_flip"},
    "Zeno": {"rule": {"name": "zeno", "learning_rate": 0.1, "rho": 5e-4}, "attack": "sign_flip"},
}  # fmt: skip


def scenario_of(changes, executor="loop"):
    return parse(
        {
            "name": "reference", "steps": 20, "evaluate_every": 1, "workers": {"total": N, "byzantine": F},
            "data": SKEWED, "model": "softmax", "rule": "average", "attack": "none", "executor": executor, **changes,
        }
    )  # fmt: skip


def given(changes):
    return {"workers": {"total": N, "byzantine": F}, "steps": 20, "rule": {"name": "average"}, **changes}


def apart(changes, models, formulas=FORMULAS):
    """How far the models of byzax are from those of the reference, in lengths of the longest."""
    expected = train(given(changes), drawn(scenario_of(changes)), formulas)
    return np.linalg.norm(models - expected, axis=1) / np.linalg.norm(expected, axis=1).max()


@pytest.mark.parametrize("name", CASES)
def test_a_whole_run_is_that_of_the_reference(name):
    models = np.stack([checkpoint.params for checkpoint in run(scenario_of(CASES[name]))])
    assert apart(CASES[name], models).max() < 1e-5
