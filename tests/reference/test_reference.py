"""Whole runs of byzax against a reference in float64 and NumPy that shares no code with it."""

from functools import cache

import numpy as np
import pytest

from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.executors import session
from tests.nightly import by_night
from tests.reference.drawn import drawn
from tests.reference.training import Formulas, loss, policy, train, trained

N, F, STEPS = 7, 2, 12
LABELS = {
    "name": "gaussian_mixture", "samples": 240, "shape": [5], "classes": 3, "separation": 2.0, "batch_size": 8,
    "partition": {"name": "dirichlet", "alpha": 0.5}, "validation": 0.2,
}  # fmt: skip
VALUES = {"name": "linear_regression", "samples": 200, "features": 5, "batch_size": 8, "validation": 0.2}
RANDOM = {"name": "lognormal", "sigma": 1.0}
LOCAL = {"steps": 3, "learning_rate": 0.3}
FALLING = {"name": "inverse_time", "start": 0.3, "half_at": 5.0}
FEDBUFF = {"name": "asynchronous", "apply": "buffer", "rows": 4, "staleness": "polynomial", "exponent": 0.5}
# what a scenario says beside the plain one; by day, each of several things at once
BY_DAY = {
    "FedAvg and FedProx": {
        "local": LOCAL | {"proximal": 0.7}, "weights": "samples", "clipping": {"norm": 0.5, "value": 0.3},
        "regularisation": {"l1": 0.02, "l2": 0.1, "max_norm": 1.3},
        "optimizer": {"name": "sgd", "learning_rate": 0.7, "momentum": 0.6, "nesterov": True},
    },
    "quorum and SAGA": {
        "latency": RANDOM, "schedule": {"name": "synchronous", "quorum": "n-f"}, "rule": {"name": "trimmed_mean"},
        "attack": "sign_flip", "variance_reduction": "saga", "worker_momentum": {"beta": 0.5, "kind": "heavy_ball"},
    },
    "FedBuff with epochs": {
        "latency": RANDOM, "schedule": FEDBUFF, "local": {"epochs": 1, "learning_rate": FALLING}, "weights": "samples",
    },
    "SCAFFOLD": {"local": LOCAL | {"control_variates": True}, "optimizer": {"name": "sgd", "learning_rate": 0.7}},
}  # fmt: skip
BY_NIGHT = {
    "FLTrust": {"rule": {"name": "fltrust"}, "attack": "sign_flip", "local": LOCAL},
    "gradients": {},
    "FedAvg": {"local": LOCAL, "weights": "samples"},
    "FedAvg of models": {"local": LOCAL | {"send": "model"}, "weights": "samples", "data": VALUES, "model": "linear"},
    "epochs": {"local": {"epochs": 2, "learning_rate": 0.3}, "weights": "samples"},
    "BASGD": {
        "latency": RANDOM, "schedule": {"name": "basgd"}, "rule": {"name": "median"}, "attack": "sign_flip",
        "variance_reduction": "saga",
    },
    "heavy ball": {
        "worker_momentum": {"beta": 0.9, "kind": "heavy_ball"}, "data": VALUES, "model": "linear",
        "optimizer": {"name": "sgd", "learning_rate": 0.02},
    },
    "SSP and momentum": {
        "latency": RANDOM, "schedule": {"name": "stale_synchronous", "bound": 1, "apply": "each"},
        "worker_momentum": {"beta": 0.5},
    },
    "server momentum": {"optimizer": {"name": "sgd", "learning_rate": 0.2, "momentum": 0.9}, "attack": "sign_flip"},
    "asynchronous": {
        "latency": RANDOM,
        "schedule": {"name": "asynchronous", "apply": "each", "max_age": 6, "staleness": "exponential"},
    },
    "table": {
        "latency": RANDOM, "schedule": {"name": "asynchronous", "staleness": "polynomial"}, "rule": {"name": "median"},
    },
    "SSP table": {
        "latency": RANDOM, "schedule": {"name": "stale_synchronous", "bound": 2}, "rule": {"name": "trimmed_mean"},
        "worker_momentum": {"beta": 0.5},
    },
    "FLTrust with epochs": {"rule": {"name": "fltrust"}, "attack": "sign_flip", "local": {"epochs": 2}},
    "Zeno": {
        "rule": {"name": "zeno", "rho": 1.0}, "attack": "sign_flip", "local": LOCAL,
        "optimizer": {"name": "sgd", "learning_rate": 0.7, "momentum": 0.5},
    },
}  # fmt: skip
CASES = BY_DAY | BY_NIGHT


def scenario_of(name, executor="loop"):
    plain = {
        "name": "reference", "steps": STEPS, "evaluate_every": 1, "workers": {"total": N, "byzantine": F},
        "data": LABELS, "model": "softmax", "rule": "average", "attack": "none", "executor": executor,
    }  # fmt: skip
    return parse_as(Study, plain | CASES[name])


@cache
def models_of(name, executor="loop"):
    """byzax's models, after each update."""
    study = scenario_of(name, executor)
    with session(study.executor) as execute:
        return np.stack([checkpoint.params for checkpoint in execute(study.task)])


@cache
def drawn_of(name):
    return drawn(scenario_of(name))


def apart(name, models, changes=None, inputs=None):
    """The distance of the models from those of the reference, in lengths of the longest; `changes`: other formulas."""
    given = {"workers": {"total": N, "byzantine": F}, "steps": STEPS, "rule": {"name": "average"}} | CASES[name]
    expected = train(given, inputs or drawn_of(name), Formulas(**changes or {}))
    return np.linalg.norm(models - expected, axis=1).max() / np.linalg.norm(expected, axis=1).max()


def each(*cases):
    """These cases, of which those that begin with one of the night are slow."""
    return [(pytest.param if case[0] in BY_DAY else by_night)(*case) for case in cases]


@pytest.mark.parametrize("name", each(*((name,) for name in CASES)))
def test_a_whole_run_is_that_of_the_reference(name):
    assert apart(name, models_of(name)) < 1e-5
    # whatever was asked for before
    assert apart(name, models_of(name)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_whole_run_of_vectorised_is_that_of_the_reference(name):
    assert apart(name, models_of(name, "vectorised")) < 1e-5


def second_row_counts(schedule, n, f):
    return policy(schedule, n, f)._replace(newest=True)


def late_rows_count(schedule, n, f):
    return policy(schedule, n, f)._replace(oldest=float("inf"))


def one_ahead(schedule, n, f):
    return policy(schedule | {"bound": schedule["bound"] + 1}, n, f)


def gradient_variate(own, common, before, after, whole, gradient):
    """Option I of SCAFFOLD."""
    return gradient


def raw_gradient(given, drawn, formulas, w, batches, step):
    """One gradient of the server, whatever the workers do."""
    return loss(drawn, w, batches[0])[1]


def one_step(given, drawn, formulas, w, batches, step):
    return trained(given, drawn, formulas, w, batches[:1], step)


MUTANTS = {
    "FedAvg without weights": ("FedAvg and FedProx", {"shares": lambda s: np.full(len(s), 1 / len(s))}),
    "FedAvg by roots of samples": ("FedAvg and FedProx", {"shares": lambda s: s**0.5 / (s**0.5).sum()}),
    "mu for mu/2": ("FedAvg and FedProx", {"pull": lambda at, start: 2 * (at - start)}),
    "a pull away": ("FedAvg and FedProx", {"pull": lambda at, start: start - at}),
    "l2 |w|² for l2/2 |w|²": ("FedAvg and FedProx", {"l2": lambda w: 2 * w}),
    "l1 of the length": ("FedAvg and FedProx", {"l1": lambda w: w / np.linalg.norm(w)}),
    "short ones lengthened too": ("FedAvg and FedProx", {"clip": lambda v, bound: v * bound / np.linalg.norm(v)}),
    "momentum without 1 - beta": (
        "SSP and momentum", {"momentum": {"exponential": lambda m, g, beta: beta * m + g}},
    ),
    "momentum with 1 - beta on both": (
        "quorum and SAGA", {"momentum": {"heavy_ball": lambda m, g, beta: beta * m + (1 - beta) * g}},
    ),
    "late rows count": ("quorum and SAGA", {"policy": late_rows_count}),
    "a second row counts": ("FedBuff with epochs", {"policy": second_row_counts}),
    "1 / (1 + age)": ("FedBuff with epochs", {"staleness": {"polynomial": lambda age, exponent: 1 / (1 + age)}}),
    "age from 1": ("FedBuff with epochs", {"staleness": {"polynomial": lambda age, exponent: (2 + age) ** -exponent}}),
    "no staleness weights": ("FedBuff with epochs", {"staleness": {"polynomial": lambda age, exponent: 1.0}}),
    "option I": ("SCAFFOLD", {"variate": gradient_variate}),
    "a variate for a whole job": (
        "SCAFFOLD", {"variate": lambda own, common, before, after, whole, gradient: own - common + before - after},
    ),
    "SAGA's mean with the new gradient": (
        "quorum and SAGA", {"saga": lambda g, last, total, count: g - last + (total - last + g) / count},
    ),
    "SAG": ("quorum and SAGA", {"saga": lambda g, last, total, count: (g - last + total) / count}),
    "batches of SAGA count alike": ("quorum and SAGA", {"equal": lambda size, count, held: 1 / size}),
    "sums of buckets": ("BASGD", {"bucket": lambda rows: rows.sum(axis=0)}),
    "a bound of one more": ("SSP and momentum", {"policy": one_ahead}),
    "one gradient of the server": ("FLTrust", {"own": raw_gradient}),
    "one step of the server": ("FLTrust", {"own": one_step}),
    "rho of the mean of squares": ("Zeno", {"score": lambda a, b, row, rho: a - b - rho * np.mean(row**2)}),
    "the worst": ("Zeno", {"score": lambda a, b, row, rho: b - a - rho * (row @ row)}),
}  # fmt: skip


@pytest.mark.parametrize(("name", "mutant"), each(*((case, mutant) for mutant, (case, _) in MUTANTS.items())))
def test_a_wrong_formula_is_seen(name, mutant):
    assert apart(name, models_of(name), MUTANTS[mutant][1]) > 1e-3


def test_a_last_batch_that_is_left_out_is_seen():
    name = "FedBuff with epochs"
    inputs = drawn_of(name)
    shorter = inputs._replace(
        batches=lambda *job: [b for b in inputs.batches(*job) if len(b) == 8] or inputs.batches(*job)
    )
    assert apart(name, models_of(name), inputs=shorter) > 1e-3
