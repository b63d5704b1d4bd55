"""Every mistake a person can make gets one clear line and exit code 2, before anything starts."""

import gzip
import re
import socket
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from byzax.aggregators import Aggregator, Info
from byzax.aggregators.base import stateless
from byzax.aggregators.filters import Filter
from byzax.attacks import Attack
from byzax.models import softmax
from tests.experiments.command import ROOT, byzax, command, write


def refused(result, *expected):
    """Asserts one line on stderr that holds all of `expected`, exit code 2, no traceback and nothing on stdout."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in lines[0]
    for words in expected:
        assert words in lines[0]


OWN = ROOT / "tests" / "models" / "own.py"
EACH = {"name": "asynchronous", "apply": "each"}
MISTAKES = {
    "unknown key": ({"stesp": 3}, ["stesp: unknown key; did you mean 'steps'?"]),
    "unknown key of a part": ({"rule": {"name": "krum", "distanse": "plain"}}, ["rule.distanse", "'distance'"]),
    "unknown key of a part of a part": (
        {"data": {"name": "digits", "partition": {"name": "dirichlet", "alfa": 1}}},
        ["data.partition.alfa", "'alpha'"],
    ),
    "wrong type": ({"steps": "many"}, ["steps: must be a whole number, got 'many'"]),
    "a switch that is a word": ({"optimizer": {"name": "sgd", "nesterov": "yes"}}, ["optimizer.nesterov", "'yes'"]),
    "a number out of range": ({"worker_momentum": 1.5}, ["worker_momentum", "less than 1"]),
    "learning rate below 0": (
        {"optimizer": {"name": "sgd", "learning_rate": -0.1}},
        ["learning_rate", "than 0, got -0.1"],
    ),
    "learning rate of 0": ({"optimizer": {"name": "adam", "learning_rate": 0}}, ["optimizer.learning_rate", "than 0"]),
    "momentum below 0": ({"optimizer": {"name": "sgd", "momentum": -0.1}}, ["optimizer.momentum", "-0.1"]),
    "momentum of 1": ({"optimizer": {"name": "rmsprop", "momentum": 1}}, ["optimizer.momentum", "less than 1"]),
    "decay of 1": ({"optimizer": {"name": "adam", "b2": 1.0}}, ["optimizer.b2", "less than 1"]),
    "epsilon below 0": ({"optimizer": {"name": "yogi", "eps": -1e-3}}, ["optimizer.eps", "-0.001"]),
    "a rate that is no schedule": (
        {"optimizer": {"name": "sgd", "learning_rate": "cosin"}},
        ["optimizer.learning_rate: unknown learning rate schedule 'cosin'; did you mean 'cosine'?"],
    ),
    "a rate that rises": (
        {"optimizer": {"name": "sgd", "learning_rate": {"name": "cosine", "start": 0.1, "final": 0.2}}},
        ["optimizer.learning_rate.final: must be at most start = 0.1, got 0.2"],
    ),
    "a rate that rises at the worker": (
        {"local": {"steps": 1, "learning_rate": {"name": "linear", "start": 0.1, "final": 0.2}}},
        ["local.learning_rate.final: must be at most start = 0.1, got 0.2"],
    ),
    "a rate beside an optimizer": (
        {"local": {"steps": 1, "optimizer": "adam", "learning_rate": 0.1}},
        ["local: learning_rate is that of plain SGD: with an optimizer leave it out"],
    ),
    "a warm-up below 0": (
        {"optimizer": {"name": "sgd", "learning_rate": {"name": "constant", "warm_up": -1}}},
        ["optimizer.learning_rate.warm_up", "must be at least 0, got -1"],
    ),
    "an unknown kind of momentum": (
        {"worker_momentum": {"beta": 0.9, "kind": "nesterov"}},
        ["worker_momentum.kind", "'exponential' or 'heavy_ball'", "'nesterov'"],
    ),
    "momentum of models": (
        {"worker_momentum": 0.9, "local": {"steps": 2, "send": "model"}},
        ["worker_momentum: is for gradients and changes"],
    ),
    "clipping to nothing": ({"clipping": {"norm": 0}}, ["clipping.norm", "greater than 0, got 0"]),
    "clipping without a bound": ({"clipping": {}}, ["clipping: norm or value must be given"]),
    "a penalty below 0": ({"regularisation": {"l2": -1}}, ["regularisation.l2", "got -1"]),
    "saga of local steps": (
        {"variance_reduction": "saga", "local": {"steps": 2}},
        ["variance_reduction: saga is for single gradients"],
    ),
    "more gradients to remember than fit": (
        {
            "variance_reduction": "saga",
            "data": {"name": "digits", "batch_size": 1},
            "model": {"name": "mlp", "hidden": [3_000_000]},
        },
        ["model: 2250", "of 12", "or leave variance_reduction out"],
    ),
    "early stopping without samples": (
        {"early_stopping": {}, "data": {"name": "digits", "validation": 0.0}},
        ["early_stopping: needs validation samples, and data.validation is 0"],
    ),
    "too many steps": ({"steps": 10**9}, ["steps", "at most 10000000, got 1000000000"]),
    "too many workers": ({"workers": {"total": 10**6}}, ["workers.total", "at most 100000"]),
    "too many jobs": (
        {"steps": 10**6, "workers": {"total": 1000}},
        ["steps: 1000000 steps of 1000", "at most 100000 steps"],
    ),
    "too many repeats": ({"repeats": 10**6}, ["repeats", "at most 10000"]),
    "seeds too large": ({"seed": 2**31 - 2, "repeats": 3}, ["seed: ", "2147483646 to 2147483648", "smaller seed"]),
    "not finite": ({"optimizer": {"name": "sgd", "learning_rate": float("nan")}}, ["optimizer.learning_rate"]),
    "missing key": ({"rule": None}, ["rule: is missing"]),
    "unknown rule": ({"rule": "krun"}, ["rule", "'krun'", "did you mean 'krum'?", "median"]),
    "unknown attack": ({"attack": "litle"}, ["attack", "'litle'", "did you mean 'little'?"]),
    "unknown executor": ({"executor": "lop"}, ["executor", "'lop'", "did you mean 'loop'?"]),
    "impossible n and f": (
        {"rule": "krum", "workers": {"total": 8, "byzantine": 3}},
        ["rule: krum needs n >= 2f + 3", "n=8", "at most 2", "got f=3"],
    ),
    "a filter of many rows": ({"filter": "kardam"}, ["filter: kardam judges single rows", "synchronous", "apply each"]),
    "a filter with too many Byzantine workers": (
        {"filter": "kardam", "schedule": EACH, "workers": {"total": 6, "byzantine": 2}},
        ["filter: kardam needs n >= 3f + 1", "n=6", "at most 1", "got f=2"],
    ),
    "a filter without the data it needs": (
        {"filter": "zeno_plus_plus", "schedule": EACH, "data": {"name": "digits", "validation": 0.0}},
        ["filter: zeno_plus_plus", "data.validation above 0"],
    ),
    "a rule for changes of models": (
        {"rule": "fltrust", "data": {"name": "digits", "validation": 0.1}, "local": {"steps": 2, "send": "model"}},
        ["rule: fltrust takes rows for gradients or changes", "local.send model"],
    ),
    "a filter of models": (
        {"filter": "kardam", "schedule": EACH, "local": {"steps": 2, "send": "model"}},
        ["filter: kardam judges gradients and changes", "local.send model"],
    ),
    "neither steps nor epochs": ({"local": {}}, ["local: steps or epochs must be given"]),
    "more local steps than can be counted": ({"local": {"steps": 10**12}}, ["local.steps", "at most 1000000"]),
    "more local epochs than can be counted": ({"local": {"epochs": 10**9}}, ["local.epochs", "at most 10000"]),
    "a word for a quorum": (
        {"schedule": {"name": "synchronous", "quorum": "most"}},
        ["schedule.quorum: must be ", "a whole number", "'all' or 'n-f'", "got 'most'"],
    ),
    "a mapping for a list": (
        {"latency": {"name": "constant", "crashes": {"worker": 1}}},
        ["latency.crashes: must be a list"],
    ),
    "a worker that dies while it is dead": (
        {"latency": {"name": "constant", "crashes": [{"worker": 1, "at": 1, "back": 5}, {"worker": 1, "at": 2}]}},
        ["latency.crashes: worker 1 cannot die at 2 s: it is dead from 1 s on, until 5 s"],
    ),
    "a factor below 0": (
        {"latency": {"name": "constant", "factors": [1, 1, 1, -1, 1, 1, 1]}},
        ["latency.factors[3]: must be greater than 0, got -1"],
    ),
    "a factor that is a word": ({"latency": {"name": "constant", "factors": "fast"}}, ["latency.factors: unknown"]),
    "an unknown key of the factors": (
        {"latency": {"name": "constant", "factors": {"name": "lognormal", "sgma": 1}}},
        ["latency.factors.sgma: unknown key; did you mean 'sigma'?"],
    ),
    "a trace that is not there": (
        {"latency": {"name": "constant", "factors": {"name": "trace", "file": "/nowhere.csv"}}},
        ["latency.factors: trace /nowhere.csv: cannot be read"],
    ),
    "a delay that is not there": (
        {"latency": {"name": "constant", "up": {"delay": {"name": "trace", "file": "~nobody-at-all/trace.csv"}}}},
        ["latency.up.delay: trace ~nobody-at-all/trace.csv: cannot be read"],
    ),
    "a time that cannot be counted": (
        {"latency": {"name": "lognormal", "sigma": 1000}},
        ["latency: gives worker", "inf s", "1e-100 to 1e+100 s"],
    ),
    "a time so short that updates a second cannot be counted": (
        {"latency": {"name": "constant", "seconds": 1e-320}},
        ["latency: gives worker 0", "1e-100 to"],
    ),
    "a bandwidth that is nothing": (
        {"latency": {"name": "constant", "up": {"bandwidth": 1e-310}}},
        ["latency.up: gives worker 0 a time of inf s"],
    ),
    "time that stands still": (
        {
            "schedule": "asynchronous",
            "latency": {"name": "constant", "seconds": 0, "crashes": [{"worker": 6, "at": 0, "back": 1}]},
        },
        ["schedule: time stands still at 0 s", "a first row of 7 workers, and has those of 6", "latency above 0"],
    ),
    "unknown filter": ({"filter": "kardm", "schedule": EACH}, ["filter: unknown filter 'kardm'", "'kardam'"]),
    "declared above n": ({"workers": {"total": 7, "declared": 9}}, ["workers", "declared is 9", "only 7 workers"]),
    "declared below 0": ({"workers": {"total": 7, "byzantine": 0, "declared": -1}}, ["workers.declared", "-1"]),
    "more Byzantine workers than workers": ({"workers": {"total": 2, "byzantine": 3}}, ["workers", "byzantine is 3"]),
    "labels of data that has values": (
        {"data": "diabetes", "model": "linear", "attack": "label_flip"},
        ["attack: label_flip changes labels, and this data has values: take feature_noise"],
    ),
    "a module that classifies values": (
        {"data": "diabetes", "model": {"name": "module", "path": f"{OWN}:Outputs"}},
        ["model: module Outputs in ", "own.py must give values [32] or [32, 1] for samples [32, 10], got [32, 5]"],
    ),
    "a backdoor in values": (
        {"data": "diabetes", "model": "linear", "attack": "backdoor"},
        ["attack: backdoor"],
    ),
    "a target that is no label": (
        {"attack": {"name": "backdoor", "target": 10}},
        ["attack.target: ", "10", "labels are 0 to 9"],
    ),
    "a patch larger than the image": (
        {"attack": {"name": "backdoor", "size": 9}},
        ["attack: backdoor needs room: a patch of 9x9 pixels does not fit into images of 8x8"],
    ),
    "more participants than workers": (
        {"schedule": {"name": "sampled", "participants": 30}},
        ["schedule.participants: must be at most n = 7, got 30"],
    ),
    "samples that weigh where a rule gives no weights": (
        {"rule": "median", "weights": "samples"},
        ["rule: median gives its rows no weights"],
    ),
    "a label that is flipped and not there": (
        {"attack": {"name": "label_flip", "labels": "targeted", "target": 10}},
        ["attack.target: ", "10", "labels are 0 to 9"],
    ),
    "weights by samples of shortened rows": (
        {"rule": "average", "pre": [{"name": "clip", "bound": 1.0}], "weights": "samples"},
        ["rule: average with what stands before it is no sum of its rows", "so that weights cannot be multiplied"],
    ),
    "weights by samples of rows that a rule shortens later": (
        {"rule": "clipped_clustering", "weights": "samples"},
        ["rule: clipped_clustering is no sum of its rows times its weights"],
    ),
    "the accuracy of values": (
        {
            "data": {"name": "diabetes", "validation": 0.1},
            "model": "linear",
            "attack": "none",
            "early_stopping": {"patience": 2, "measure": "validation_accuracy"},
        },
        ["early_stopping.measure: values have no accuracy: take validation_loss"],
    ),
    "an attack after the last update": (
        {"steps": 4, "attack": {"name": "zero", "from": 4}},
        ["attack.from: zero begins in update 4, and there are 4"],
    ),
    "an option out of range of a partition": (
        {"data": {"name": "digits", "partition": {"name": "dirichlet", "alpha": -1}}},
        ["data.partition.alpha: ", "got -1"],
    ),
    "an option out of range of one of several augmentations": (
        {"data": {"name": "digits", "augment": ["flip", {"name": "cutout", "size": 0}]}},
        ["data.augment[1].size: ", "got 0"],
    ),
    "an option out of range of one of several attacks": (
        {
            "attack": {"name": "none", "workers": 1, "beside": [{"name": "neurotoxin", "share": 2}]},
            "workers": {"total": 7, "byzantine": 2},
        },
        ["attack.beside[0].share: ", "got 2"],
    ),
    "an option out of range of what stands before a rule": (
        {"pre": ["nnm", {"name": "clip", "bound": -1}]},
        ["pre[1].bound: ", "got -1"],
    ),
    "more labels than there are": (
        {"data": {"name": "digits", "partition": {"name": "by_label", "labels": 11}}},
        ["data.partition: by_label", "11 labels", "10"],
    ),
    "fewer samples than workers": ({"workers": {"total": 5000, "byzantine": 1}}, ["data", "samples", "5000 workers"]),
    "no training samples left": ({"data": {"name": "digits", "test": 0.95}}, ["data: validation=0.1 and test=0.95"]),
    "grid key that does not exist": (
        {"grid": {"ruel.name": ["krum"]}},
        ["grid.ruel.name: unknown key; did you mean 'rule.name'?"],
    ),
    "grid key without values": ({"grid": {"rule.name": []}}, ["grid.rule.name", "must have at least one value"]),
    "grid that is no mapping": ({"grid": ["krum"]}, ["grid", "mapping"]),
    "grid over the repeats": ({"grid": {"repeats": [1, 2]}}, ["grid.repeats: this key cannot be swept"]),
    "grid with the same run twice": (
        {"grid": {"rule.name": ["krum", "median", "krum"]}},
        ["grid: the same run twice: rule.name=krum, seed 0; remove one"],
    ),
    "grid over seeds that the repeats take": (
        {"repeats": 3, "grid": {"seed": [0, 2]}},
        ["grid: the same run twice: seed=0 and seed=2, seed 2; remove one"],
    ),
    "grid over a rule and its name": (
        {"grid": {"rule": ["krum", "average"], "rule.name": ["median", "bulyan"]}},
        ["grid.rule.name: grid.rule chooses rule.name too: sweep one of them"],
    ),
    "grid over a part and an option that one of its values sets": (
        {"grid": {"rule.distance": ["plain"], "rule": ["krum", {"name": "krum", "distance": "squared"}]}},
        ["grid.rule.distance: grid.rule chooses rule.distance too"],
    ),
    "grid too large": (
        {"grid": {"seed": list(range(1000)), "steps": list(range(1, 102))}},
        ["grid: 101000 combinations are too many: at most 100000"],
    ),
    "impossible cell of a grid": (
        {"grid": {"rule.name": ["average", "bulyan"], "workers.byzantine": [1, 2]}},
        ["rule: bulyan needs n >= 4f + 3", "in the run rule.name=bulyan, workers.byzantine=2"],
    ),
    "unknown name in a grid": (
        {"grid": {"rule.name": ["krum", "media"]}},
        ["rule: unknown rule 'media'; did you mean 'median'?", "(in the run rule.name=media)"],
    ),
    "rule that cannot be computed": (
        {"rule": "failing"},
        ["rule: failing: apply fails: ArithmeticError: this rule always fails", "failing.py:17)"],
    ),
    "attack that cannot be computed": (
        {"attack": "failing"},
        ["attack: failing: corrupt fails: ArithmeticError: this batch cannot be corrupted", "failing.py:17)"],
    ),
    "unknown base of a rule": (
        {"rule": {"name": "bulyan", "base": "krumm"}},
        ["rule.base: unknown rule 'krumm'", "did you mean 'krum'?"],
    ),
    "model larger than the memory": (
        {"model": {"name": "mlp", "hidden": [10**12]}},
        ["model: ", "GB", "smaller model"],
    ),
    "data larger than the memory": (
        {"data": {"name": "gaussian_mixture", "samples": 10**15}},
        ["data.samples: must be at most ", "got 1000000000000000"],
    ),
    "option of another rule": (
        {"grid": {"rule.name": ["median", "krum"], "rule.distance": ["plain"]}},
        ["rule.distance: unknown key", "in the run rule.name=median"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_scenario_gets_one_line_with_file_and_key(tmp_path, mistake):
    changes, expected = MISTAKES[mistake]
    path, out = write(tmp_path, **changes), tmp_path / "out"
    refused(byzax("run", path, "--out", out), f"{path}: ", *expected)
    assert not out.exists()


ATTACK = lambda **parts: lambda n, f: Attack(**parts)  # noqa: E731
WHOLE = softmax((8, 8), 10)
MODEL = lambda **parts: lambda shape, classes, **o: WHOLE._replace(**parts)  # noqa: E731
FILTER = lambda judge: lambda n, f, **o: Filter(lambda params: (), judge)  # noqa: E731
# what a plug-in of a user gives -> what is said about it
BROKEN = {
    "takes no n and f": ("rule", lambda: None, r"rule: lambda .*: write def mine\(n, f, "),
    "divides by zero": ("attack", lambda n, f: n / 0, r"attack: none fails: ZeroDivisionError: .* \(.*input.py:"),
    "has no memory": ("optimizer", lambda: np.ones(2**50), "optimizer: sgd needs more memory than there is: "),
    "gives no optimizer": ("optimizer", lambda: 3, "optimizer: sgd must give a GradientTransformation .*, got int"),
    "gives no rule": ("rule", lambda n, f: "krum", "rule: average must give an Aggregator, got str"),
    "aggregate of another shape": (
        "rule",
        lambda n, f: Aggregator(lambda d: (), lambda rows, state, context: (rows, state, Info())),
        r"rule: average: apply must give an aggregate \[d=650\], got float32\[7, 650\]",
    ),
    "aggregate of whole numbers": (
        "rule",
        lambda n, f: Aggregator(lambda d: (), lambda rows, state, context: (rows[0].astype(int), state, Info())),
        r"rule: average: apply must give an aggregate \[d=650\], got int32\[650\]",
    ),
    "no Info": (
        "rule",
        lambda n, f: Aggregator(lambda d: (), lambda rows, state, context: (rows[0], state)),
        r"rule: average: apply must give \(aggregate, state, Info\(\)\), got \(float32\[650\], \(\)\) "
        r"\(.*test_bad_input.py:\d+\)",
    ),
    "weights of another shape": (
        "rule",
        lambda n, f: Aggregator(lambda d: (), lambda rows, state, context: (rows[0], state, Info(rows[0]))),
        r"rule: average: Info.weights must be \[n=7\] or None, got float32\[650\]",
    ),
    "no Info in a rule without state": (
        "rule",
        lambda n, f: stateless(n, lambda rows: rows.mean(axis=0)),
        r"rule: average: apply fails: TypeError: this function must give \(aggregate, info\), got .*return Info\(\) "
        r"too \(.*test_bad_input.py:\d+\)",
    ),
    "a dict for Info": (
        "rule",
        lambda n, f: stateless(n, lambda rows: (rows.mean(axis=0), {"weights": None})),
        r"this function must give \(aggregate, info\), got \(float32\[\d+\], dict\): the last value must be an "
        r"Info, such as Info\(\) \(.*test_bad_input.py:\d+\)",
    ),
    "state that changes": (
        "rule",
        lambda n, f: Aggregator(lambda d: jnp.zeros(d), lambda rows, state, context: (state, rows, Info())),
        r"rule: average: apply changes its state from float32\[650\] to float32\[7, 650\]",
    ),
    "NumPy in a rule": (
        "rule",
        lambda n, f: Aggregator(lambda d: (), lambda rows, state, context: (np.sort(rows)[0], state, Info())),
        "rule: average: apply fails: NumPy cannot compute .*test_bad_input.py:",
    ),
    "gives no attack": ("attack", lambda n, f: None, "attack: none must give an Attack, got None"),
    "rows of another shape": (
        "attack",
        ATTACK(forge=lambda key, view, state: (view.params, state)),
        r"attack: none: forge must give rows \[n=7, d=650\], got float32\[650\]",
    ),
    "rows alone": (
        "attack",
        ATTACK(forge=lambda key, view, state: view.rows),
        r"attack: none: forge must give \(rows, state\), got float32\[7, 650\]",
    ),
    "forge that fails": (
        "attack",
        ATTACK(forge=lambda key, view, state: view.row),
        "attack: none: forge fails: AttributeError: 'View' object has no attribute 'row'",
    ),
    "batch of another shape": (
        "attack",
        ATTACK(corrupt=lambda key, batch: batch._replace(y=batch.y / 2)),
        r"attack: none: corrupt must give a Batch of x float32\[77, 8, 8\] and y int32\[77\], got Batch",
    ),
    "gives no model": ("model", lambda shape, classes, **o: [], r"model: softmax must give a Model, got \(\)"),
    "logits of another shape": (
        "model",
        MODEL(predict=lambda params, x: params),
        r"model: softmax: predict must give logits \[77, 10\], got float32\[650\]",
    ),
    "parameters in a tree": (
        "model",
        MODEL(init=lambda key: {}, loss=lambda p, x, y, key=None, shares=None: x.sum(), predict=lambda params, x: x),
        r"model: softmax: init must give parameters \[d\], got dict",
    ),
    "no parameters": (
        "model",
        MODEL(init=lambda key: jnp.zeros(0), loss=lambda *_: jnp.zeros(()), predict=lambda params, x: x[:, :2].ravel()),
        r"model: softmax: init must give parameters \[d\] to train, d >= 1, got none",
    ),
    "losses of a batch": (
        "model",
        MODEL(loss=lambda p, x, y, key=None, shares=None: y),
        r"model: softmax: loss must give a number, got int32\[77\]",
    ),
    "one loss of a batch": (
        "model",
        MODEL(judge=lambda logits, y: (logits.sum(), y == 0)),
        r"model: softmax: judge must give \(losses, right\), each \[77\], got \(float32\[\], bool\[77\]\)",
    ),
    "gives no data": ("data", lambda **options: 3, "data: gaussian_mixture must give a Dataset, got int"),
    "partition that forgets a worker": (
        "partition",
        lambda: lambda labels, workers, rng: [np.arange(3)],
        r"data.partition: iid must give a list of 7 arrays, one for each worker, got 1 of them \(.*input.py:\d+\)",
    ),
    "partition of positions that are not there": (
        "partition",
        lambda: lambda labels, workers, rng: [np.array([10**6])] * workers,
        r"data.partition: iid must give worker 0 .* whole numbers in 0..1257, got 1000000 to 1000000 \(",
    ),
    "gives no filter": ("filter", lambda n, f, **o: 3, "filter: kardam must give a Filter, got int"),
    "accepted alone": (
        "filter",
        FILTER(lambda row, sent, context, state: row > 0),
        r"filter: kardam: judge must give \(row, accepted, state\), got bool\[650\]",
    ),
    "a truth value for each number": (
        "filter",
        FILTER(lambda row, sent, context, state: (row, row > 0, state)),
        r"filter: kardam: judge must give a truth value for accepted, got bool\[650\]",
    ),
    "a filter whose state changes": (
        "filter",
        FILTER(lambda row, sent, context, state: (row, row[0] > 0, row)),
        r"filter: kardam: judge changes its state from \(\) to float32\[650\]",
    ),
    "a filtered row of another shape": (
        "filter",
        FILTER(lambda row, sent, context, state: (row[:2], row[0] > 0, state)),
        r"filter: kardam: judge must give a row \[d=650\], got float32\[2\]",
    ),
    "schedule that is no timeline": (
        "schedule",
        lambda: lambda n, steps, rng: [0] * 4,
        r"schedule: lambda is called with \(n, f\), and cannot be \(",
    ),
}  # fmt: skip
# the names of the functions in the file of the user
NAMES = {
    "rule": "average",
    "attack": "none",
    "data": "gaussian_mixture",
    "optimizer": "sgd",
    "model": "softmax",
    "partition": "iid",
    "schedule": "synchronous",
    "filter": "kardam",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_part_that_breaks_its_contract_is_refused_before_a_start(tmp_path, kind):
    place, _, expected = BROKEN[kind]
    file = tmp_path / "mine.py"
    file.write_text(f"from {__name__} import BROKEN\n{NAMES[place]} = BROKEN[{kind!r}][1]\n")
    own = f"{file}:{NAMES[place]}"
    # a batch of a size of its own tells the shapes of samples from others
    data = {"name": "digits", "batch_size": 77, **({"partition": own} if place == "partition" else {})}
    others = {} if place == "partition" else {place: own}
    if place == "filter":
        others["schedule"] = EACH
    path = write(tmp_path, **{"data": data, **others})
    result = byzax("run", path, "--out", tmp_path / "out")
    refused(result, f"{path}: ")
    assert re.search(expected, result.stderr), result.stderr
    assert not (tmp_path / "out").exists()


FILES = {
    "unclosed bracket": ("name: a\nsteps: [1, 2\nrule: krum\n", ":3:5: a comma or a ] is missing", "the [ of line 2"),
    "unclosed brace at the end": ("workers: {total: 3\n", ":2:1: a comma or a } is missing", "the { of line 1 is not"),
    "wrong bracket": ("steps: [1, 2}\n", ":1:13: this } does not close the [ of line 1: a ] is needed"),
    "missing comma": ("workers: {total: 3 byzantine: 1}\n", ":1:29: a comma or a } is missing before this place"),
    "bracket too many": ("workers: {total: 3}}\n", ":1:20: this } closes nothing: remove it"),
    "indented too deep": ("name: a\n  steps: 3\n", ":2:8: this line is indented deeper than the one above"),
    "indentation of no line": ("data:\n    name: digits\n  batch_size: 3\n", ":3:3: the indentation fits no line"),
    "list among keys": ("name: a\n- krum\n", ":2:1: a list item (- ) among the keys", "line 1"),
    "key among a list": ("- krum\nname: a\n", ":2:1: a key among the list items", "line 1"),
    "list in the line of its key": ("steps: - 3\n", ":1:8: a list item (- ) cannot stand here", "[a, b]"),
    "colon missing": ("name: a\nsteps 3\nrule: krum\n", ":2:1: 'steps 3' is no 'key: value'"),
    "colon missing in the first line": ("name a\nsteps: 3\n", ":2:6: the line above, 'name a', is no 'key: value'"),
    "colon missing before a mapping": ("name: a\ndata\n  name: digits\n", ":2:1: 'data' is no 'key: value'"),
    "no space after the colon": ("name: a\nsteps:3\nrule: krum\n", ":2:1: 'steps:3' is no 'key: value'", "the space"),
    "no space after any colon": ("name:a\nsteps:3\n", ": a mapping", "is the space after a colon missing?"),
    "no space in braces": ("workers: {total:3, byzantine:1}\n", ":1:11: total:3: a space is missing after the colon"),
    "colon in a value": ("data: mnist: x\n", ":1:12: a second ': ' in one line", "in quotes"),
    "colon without a key": (": a\n", ":1:1: a key is missing before this colon"),
    "key too long": ("a" * 1100 + ": 1\n", ":1:1101: this colon cannot stand here", "shorter"),
    "unclosed quote": ("name: 'a\nsteps: 3\n", ":1:7: this quote is not closed"),
    "text after a quote": ('name: "a" b\n', ":1:11: text after a value that is complete"),
    "backslash": ('name: "\\q"\n', ":1:9: \\q has no meaning in double quotes"),
    "reserved character": ("name: @a\n", ":1:7: a value cannot begin with @: put it in quotes"),
    "tab": ("name: a\ndata:\n\tname: digits\n", ":3:1: YAML indents with spaces, not with tabs"),
    "key twice": ("name: a\nsteps: 3\nname: b\n", ":3:1: name: this key stands here twice, first in line 1"),
    "anchor twice": ("a: &x 1\nb: &x 2\n", ":2:4: this anchor (&) stands here for the second time, first in line 1"),
    "alias of nothing": ("rule: *x\n", ":1:7: no &x stands before *x"),
    "alias without a name": ("rule: *\n", ":1:8: a name is missing here"),
    "alias inside of itself": ("rule: &a {name: [*a]}\n", ":1:18: *a stands inside of &a: a value cannot"),
    "merge of no mapping": ("<<: 3\n", ":1:5: << needs a mapping"),
    "block text": ("name: | a\n", ":1:9: the text after | or > begins on a line of its own"),
    "key that is a number": ("1: a\n", ":1:1: a key must be text, got '1'"),
    "key that is a list": ("[a]: b\n", ":1:1: a key must be text, and this is a list or a mapping"),
    "Python objects": ("name: !!python/object/apply:os.system [ls]\n", ":1:7: !!python/object/apply:os.system: a"),
    "tag": ("steps: !!bool x\n", ":1:8: !!bool: a scenario has no tags"),
    "two documents": ("name: a\n---\nname: b\n", ":2:1: a second document begins here: one scenario per file"),
    "what is not explained": ("%YAML 3.0\n---\na: 1\n", ":1:1: found incompatible YAML document"),
    "nested too deeply": ("a: " + "[" * 3000, ":1:53: more than 50 lists and mappings in each other"),
    "too many digits": ("steps: " + "1" * 5000, ":1:8: a number of 5000 digits: at most 100 can be read"),
    "empty": ("", ": a mapping with at least name, data, rule and attack is needed, the file is empty"),
    "list": ("- krum\n", ": a mapping with at least", "the file holds list"),
    "not text": (b"name: \xff\xfe\n", ": not text in UTF-8"),
    "control character": ("name: \x00\n", ":1:7: the character U+0000 cannot stand in YAML"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_scenario_gets_one_line_with_the_place(tmp_path, kind):
    content, place, *hints = FILES[kind]
    path = tmp_path / "broken.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(byzax("run", path), f"{path}{place}", *hints)


def test_a_missing_file_is_named_with_those_beside_it(tmp_path):
    write(tmp_path, "small.yaml")
    refused(byzax("run", tmp_path / "smal.yaml"), "smal.yaml: no such file; beside it: small.yaml")
    refused(byzax("run", tmp_path / "no" / "such.yaml"), "such.yaml: no such file")
    refused(byzax("run", tmp_path), "cannot be read")


OVERRIDES = {
    "unknown key": ("rule.nam=krum", "rule.nam: unknown key; did you mean 'name'?"),
    "no value": ("steps", "--set steps: key=value is needed"),
    "an item of a list": ("attack.beside[0].workers=3", "a list is set whole: --set 'attack.beside=[...]'"),
    "broken value": ("steps=[1", "--set steps:1:"),
    "key of something without keys": ("steps.a=1", "steps"),
    "part of a component that the grid chooses": ("attack.epsilon=2", "attack.epsilon: grid.attack chooses all"),
    "grid key that does not exist": ("grid.rules=[krum]", "grid.rules: unknown key; did you mean 'rule'?"),
}


@pytest.mark.parametrize("kind", OVERRIDES)
def test_a_mistake_in_an_override_gets_one_line(tmp_path, kind):
    override, expected = OVERRIDES[kind]
    path = write(tmp_path, grid={"attack": ["none", {"name": "empire", "epsilon": 10}]})
    refused(byzax("run", path, "--set", override), f"{path}: ", expected)


def test_an_unknown_executor_option_is_refused(tmp_path):
    refused(byzax("run", write(tmp_path), "--executor", "vectorized"), "did you mean 'vectorised'?")
    refused(byzax("run", write(tmp_path), "--ray-address", "127.0.0.1:6379"), "--ray-address", "--executor ray")


@pytest.mark.parametrize("option", ["--out", "--executor", "--ray-address"])
def test_an_empty_option_is_refused(tmp_path, option):
    refused(byzax("run", write(tmp_path), option, ""), f"{option}: is empty")


def test_a_ray_address_where_nothing_answers_is_refused_at_once(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        path = write(tmp_path, executor="ray")
        refused(byzax("run", path, "--ray-address", address), f"--ray-address {address}: no cluster answers there")


def idx(values: bytes, *shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + values


@pytest.mark.parametrize(("damage", "expected"), [("truncated", "train-images"), ("magic", "train-labels")])
def test_a_damaged_data_file_is_named(tmp_path, damage, expected):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part in ("train", "t10k"):
        images, labels = idx(bytes(20 * 784), 20, 28, 28), idx(bytes(range(10)) * 2, 20)
        if damage == "truncated" and part == "train":
            images = images[:-5]
        if damage == "magic" and part == "train":
            labels = b"\x01" + labels[1:]
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    path = write(tmp_path, data={"name": "mnist", "root": str(folder)}, grid={"rule.name": ["median", "krum"]})
    refused(byzax("run", path, "--out", tmp_path / "out"), f"{path}: data: ", expected)


def test_nothing_is_overwritten(tmp_path):
    path, out = write(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    refused(byzax("run", path, "--out", out), str(out), "used already", "--out")
    refused(byzax("run", path, "--out", out, "--overwrite"), str(out), "used already")
    assert [each.name for each in out.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    path = write(tmp_path)
    refused(byzax("run", path, "--out", path), str(path), "cannot be written")
    refused(byzax("run", path, "--out", path / "below"), "cannot be written (Not a directory)", "--out")


def test_two_files_cannot_share_a_folder(tmp_path):
    one, other = write(tmp_path, "one.yaml"), write(tmp_path, "other.yaml")
    refused(byzax("run", one, other), f"{other}: ", "results/small", str(one))


def test_show_refuses_a_folder_without_results(tmp_path):
    refused(byzax("show", tmp_path), str(tmp_path), "no results here")


def test_the_process_itself_ends_with_code_2_and_one_line(tmp_path):
    path = write(tmp_path, rule="krun")
    process = command("run", path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"{path}: rule: unknown rule 'krun'")


@pytest.mark.slow
def test_a_plug_in_that_cannot_be_used_is_refused_where_its_name_is_asked_for(tmp_path):
    (tmp_path / "attacks").mkdir()
    (tmp_path / "attacks" / "mine.py").write_text("def mine(:\n")
    processes = {
        arguments: command(*arguments, env={"BYZAX_PLUGINS": str(tmp_path)})
        for arguments in (("run", write(tmp_path, attack="mine")), ("list", "attacks"))
    }
    said = f"{tmp_path / 'attacks' / 'mine.py'} (of $BYZAX_PLUGINS): SyntaxError: invalid syntax"
    for (name, _), process in processes.items():
        out, err = process.communicate(timeout=200)
        assert (process.returncode, bool(out), err.count("\n")) == ((2, False, 1) if name == "run" else (0, True, 1)), (
            err
        )
        assert said in err
        assert err.startswith(f"{tmp_path / 'small.yaml'}: attack: " if name == "run" else "left out: ")


def test_a_lack_of_memory_is_one_line(tmp_path, monkeypatch):
    def load(*_):
        raise MemoryError("Unable to allocate 149. TiB")

    monkeypatch.setattr("byzax.experiments.study.load", load)
    refused(byzax("run", write(tmp_path)), "more memory than there is: Unable to allocate 149. TiB")


@pytest.mark.parametrize("command", [["run"], ["certify"]])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BYZAX_THREADS", "abc", "$BYZAX_THREADS: 1 to 1024 threads can be had, got 'abc'"),
        ("BYZAX_THREADS", "0", "got '0'"),
        ("BYZAX_THREADS", "", "got '': such as 4, or unset it"),
        ("BYZAX_CACHE", "a file", "a file cannot be written (Not a directory): name another folder, or unset it"),
    ],
)
def test_an_environment_that_cannot_be_used_is_refused(tmp_path, monkeypatch, command, name, value, said):
    if name == "BYZAX_CACHE":
        (tmp_path / value).touch()
        value = str(tmp_path / value / "below")
        said = said.replace("a file", value)
    monkeypatch.setenv(name, value)
    refused(byzax(*command, write(tmp_path), "--out", tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()
