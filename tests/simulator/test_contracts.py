"""Parts of the user's own that break their contract: one line with the key, what is needed, and the file and line."""

import functools
import itertools
import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import byzax
from byzax import members
from byzax.aggregators import Aggregator, Info, filters, pre
from byzax.aggregators import base as rules
from byzax.aggregators.filters import Filter
from byzax.aggregators.pre import Mixer
from byzax.attacks import Attack
from byzax.attacks import base as attacks
from byzax.options import Nested, options_of
from byzax.simulator import augmentations, contracts, data, latency, partitions, rates, schedules, timings, transforms
from byzax.simulator.data.base import Dataset, dataset
from byzax.simulator.schedules import Schedule
from byzax.simulator.timings import Timing
from byzax.simulator.topologies import Topology, gossip
from byzax.simulator.transforms import Transform
from tests.nightly import by_day, by_night

SMALL: dict[str, Any] = {
    "data": {"name": "digits", "batch_size": 4},
    "model": "softmax",
    "rule": "median",
    "attack": "none",
    "workers": {"total": 7, "byzantine": 1},
    "steps": 3,
}
# one row at a time, which a filter judges
EACH = {"schedule": {"name": "asynchronous", "apply": "each"}, "rule": "average"}


MINE = {
    "rule": """
import jax.numpy as jnp
from byzax.aggregators import Info
from byzax.aggregators.base import stateless

def mine(n: int, f: int, *, scale: float = 1.0):
    return stateless(n, lambda rows: (scale * rows.mean(axis=0), Info()))
""",
    "attack": """
from byzax.attacks.base import honest_mean, stateless

def mine(n: int, f: int, *, scale: float = 2.0):
    return stateless(lambda key, view: -scale * honest_mean(view))
""",
    "transform": """
from byzax.simulator.transforms.base import stateless

def mine(shapes, *, scale: float = 1.0):
    send = lambda keys, vector: scale * vector
    return stateless(send, lambda keys, message: message, 10, unbiased=True, omega=1.0, contraction=0.5)
""",
}


def refusal(**changes):
    """The message about a run with these parts, which is refused before a start."""
    with pytest.raises(byzax.ScenarioError) as caught:
        byzax.validate(byzax.Run(**{**SMALL, **changes}))
    return str(caught.value)


def settings(kind, function):
    """A run with a function as its part of a kind, and the key of the part."""
    match kind:
        case "base":
            workers = {"total": 11, "byzantine": 2}
            return {"rule": {"name": "bulyan", "base": function}, "workers": workers}, "rule.base"
        case "timing":
            return {"attack": {"name": "empire", "timing": function}}, "attack.timing"
        case "pre":
            return {"pre": [function]}, "pre[0]"
        case "filter":
            return {"filter": function, **EACH}, "filter"
        case "graph":
            return {"topology": {"name": "gossip", "graph": function}}, "topology.graph"
        case "mixing":
            return {"topology": {"name": "gossip", "mixing": function}, "rule": "average"}, "topology.mixing"
        case "transform":
            return {"wire": {"up": [function]}}, "wire.up"
        case "partition":
            return {"data": {**SMALL["data"], "partition": function}}, "data.partition"
        case "augmentation":
            return {"data": {**SMALL["data"], "augment": [function]}}, "data.augment[0]"
        case "up.delay" | "down.delay":
            return {"latency": {"name": "constant", kind[:-6]: {"delay": function}}}, f"latency.{kind}"
        case "factors":
            return {"latency": {"name": "constant", "factors": function}}, "latency.factors"
        case "rate":
            return {"optimizer": {"name": "sgd", "learning_rate": function}}, "optimizer.learning_rate"
        case "local.rate":
            return {"local": {"steps": 2, "learning_rate": function}}, "local.learning_rate"
        case "local.optimizer":
            return {"local": {"steps": 2, "optimizer": function}}, "local.optimizer"
        case "later latency":
            # where events are ordered one by one, and latencies are asked for by them
            return {"latency": function, "schedule": "asynchronous"}, "latency"
    return {kind: function}, kind


ARGUMENTS = {
    "rule": "n, f",
    "base": "n, f",
    "pre": "n, f",
    "filter": "n, f",
    "attack": "n, f",
    "model": "shape, classes",
    "schedule": "n, f",
    "topology": "n, f",
    "graph": "n",
    "mixing": "n, f",
    "transform": "shapes",
    "rate": "updates",
    "local.rate": "updates",
}
KINDS = [
    "rule", "base", "pre", "filter", "attack", "timing", "model", "data", "partition", "augmentation", "schedule",
    "topology", "graph", "mixing", "transform", "latency", "later latency", "up.delay", "down.delay", "factors", "rate",
    "local.rate", "optimizer", "local.optimizer",
]  # fmt: skip


def written(kind, body):
    """A function of a kind with this body, compiled as that of a file `mine.py` of the user's own."""
    space: dict[str, Any] = {}
    source = f"def mine({ARGUMENTS.get(kind, '')}):\n    {body}\n"
    exec(compile(source, "/nowhere/mine.py", "exec"), space)
    return space["mine"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("body", "said", "line"),
    [
        ("return None", "must give a", 1),
        ("return 3", "must give a", 1),
        ("raise ValueError('too few of them')", "too few of them", 2),
        ("raise RuntimeError('no such thing')", "mine fails: RuntimeError: no such thing", 2),
        ("return {}['x']", "mine fails: KeyError: 'x'", 2),
    ],
)
def test_a_function_that_fails_or_gives_nothing_is_told_at_its_key_with_its_line(kind, body, said, line):
    changes, key = settings(kind, written(kind, body))
    text = refusal(**changes)
    assert "\n" not in text
    assert text.startswith(f"{key}: "), text
    assert said in text
    assert text.endswith(f" (/nowhere/mine.py:{line})"), text


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_of_another_signature_is_told_which_is_needed(kind):
    for wrong in (lambda one, two, three, four, five, six: None, lambda *, n, f, other, **_: None):
        needs = len(ARGUMENTS.get(kind, "").split())
        if not needs and wrong.__code__.co_argcount == 0:
            continue
        changes, key = settings(kind, wrong)
        with pytest.raises(byzax.ScenarioError) as caught:
            byzax.Run(**{**SMALL, **changes})
        text = str(caught.value)
        assert text.startswith(f"{key}: ")
        assert "\n" not in text
        arguments = ", ".join([*filter(None, [ARGUMENTS.get(kind, "")]), "*, option: float = 1.0"])
        assert f"write def mine({arguments}), which gives a" in text
        assert re.search(r"test_contracts\.py:\d+\)$", text)


# of each kind whose function gives more than functions: what it gives, with some field changed
PLAIN: dict[str, Any] = {
    "rule": lambda n, f: rules.stateless(n, lambda rows: (rows.mean(axis=0), Info())),
    "pre": lambda n, f: Mixer(n, lambda rows, context: (rows, jnp.eye(n))),
    "filter": lambda n, f: Filter(lambda params: (), lambda row, sent, context, state: (row, jnp.bool_(True), state)),
    "attack": lambda n, f: attacks.stateless(lambda key, view: view.rows),
    "model": lambda shape, classes: byzax.models.softmax(shape, classes),
    "schedule": lambda n, f: Schedule(),
    "timing": lambda: timings.late(age=3),
    "topology": lambda n, f: gossip(n, f),
    "transform": lambda shapes: transforms.build("sign", shapes),
}
FIELDS = [
    (kind, field, wrong)
    for kind, made in {
        "rule": Aggregator,
        "pre": Mixer,
        "filter": Filter,
        "attack": Attack,
        "schedule": Schedule,
        "timing": Timing,
        "topology": Topology,
        "transform": Transform,
    }.items()
    for field in made._fields
    for wrong in [object(), {"unheard of"}, -1, "text"]
]


@pytest.mark.parametrize(
    ("kind", "field", "wrong"), [case if i % 3 == 0 else by_night(*case) for i, case in enumerate(FIELDS)]
)
def test_no_field_of_another_type_is_taken_and_the_message_names_it(kind, field, wrong):
    def mine(*sizes):
        return PLAIN[kind](*sizes)._replace(**{field: wrong})

    changes, key = settings(kind, mine)
    text = refusal(**changes)
    assert "\n" not in text
    assert text.startswith(f"{key}: mine: {field} must be "), text
    assert re.search(r"test_contracts\.py:\d+\)$", text)


@pytest.mark.parametrize("kind", ["rule", "filter", "attack"])
@pytest.mark.parametrize("form", by_day([iter], [frozenset, set, list, tuple, iter]), ids=lambda form: form.__name__)
def test_needs_are_any_collection_of_the_words_that_are_known(kind, form):
    def mine(n, f):
        return PLAIN[kind](n, f)._replace(needs=form(["loss", "after"]))

    changes, _ = settings(kind, mine)
    byzax.run(**{**SMALL, **changes}, quiet=True)


@pytest.mark.parametrize("kind", ["rule", "filter", "attack"])
@pytest.mark.parametrize(
    ("needs", "unknown"), [({"loss", "los"}, "'los'"), ("loss", "'loss'"), (None, "None"), (["params"], "'params'")]
)
def test_a_word_of_needs_that_is_not_known_is_named_with_those_that_are(kind, needs, unknown):
    def mine(n, f):
        return PLAIN[kind](n, f)._replace(needs=needs)

    changes, key = settings(kind, mine)
    first = "ask_rule" if kind == "attack" else "gradient"
    words = f"needs must be a set of words, of '{first}', 'loss', 'after', got {unknown} ("
    assert refusal(**changes).startswith(f"{key}: mine: {words}")


NORMS = [
    (by_night if name == "resnet18" else pytest.param)(name, norm)
    for name in ("mlp", "resnet20", "resnet18")
    for norm in ("batch", "group")
]


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_what_a_model_of_byzax_predicts_by_is_no_mistake(name, norm):
    given = byzax.Run(**{**SMALL, "model": {"name": name, "norm": norm}}).model
    model = contracts.build(given, (8, 8), 10)
    assert (model.statistics is not None) == (norm == "batch")


# what functions of arrays can give that byzax could cast or spread without a word
WRONG_NUMBERS = {
    "whole numbers": lambda rows: rows.astype(int),
    "truth values": lambda rows: rows > 0,
    "complex numbers": lambda rows: rows.astype(complex),
    "one number": lambda rows: rows.sum(),
    "an axis too many": lambda rows: rows[..., None],
    "an axis of length 1": lambda rows: rows[..., :1],
    "a number of Python": lambda rows: 0.5,
    "nothing": lambda rows: None,
}
PLACES = {
    "rule of stateless": ("rule", lambda wrong: lambda n, f: rules.stateless(n, lambda x: (wrong(x[0]), Info()))),
    "rule of stateful": (
        "rule",
        lambda wrong: lambda n, f: rules.stateful(n, lambda d: (), lambda x, s: (wrong(x[0]), s, Info())),
    ),
    "rule": (
        "rule",
        lambda wrong: lambda n, f: Aggregator(lambda d: (), lambda x, s, context=None: (wrong(x[0]), s, Info())),
    ),
    "base": ("base", lambda wrong: lambda n, f: rules.stateless(n, lambda x: (wrong(x[0]), Info()))),
    "base without a helper": (
        "base",
        lambda wrong: lambda n, f: Aggregator(lambda d: (), lambda x, s, context=None: (wrong(x[0]), s, Info())),
    ),
    "mixed rows": ("pre", lambda wrong: lambda n, f: Mixer(n, lambda x, context: (wrong(x), jnp.eye(n)))),
    "shares": ("pre", lambda wrong: lambda n, f: Mixer(n, lambda x, context: (x, wrong(jnp.eye(n))))),
    "filtered row": (
        "filter",
        lambda wrong: lambda n, f: Filter(lambda params: (), lambda row, sent, context, s: (wrong(row), row[0] > 0, s)),
    ),
    "forged rows of stateless": (
        "attack",
        lambda wrong: lambda n, f: attacks.stateless(lambda key, view: wrong(view.rows)),
    ),
    "forged row of stateless": (
        "attack",
        lambda wrong: lambda n, f: attacks.stateless(lambda key, view: wrong(view.rows[0])),
    ),
    "forged rows": ("attack", lambda wrong: lambda n, f: Attack(forge=lambda key, view, s: (wrong(view.rows), s))),
    "parameters": (
        "model",
        lambda wrong: lambda shape, classes: softmax()._replace(init=lambda k: wrong(softmax().init(k))),
    ),
    "loss": ("model", lambda wrong: lambda shape, classes: softmax()._replace(loss=lambda p, *_: wrong(p[0]))),
    "logits": (
        "model",
        lambda wrong: lambda shape, classes: softmax()._replace(predict=lambda p, x: wrong(softmax().predict(p, x))),
    ),
    "augmented images": ("augmentation", lambda wrong: lambda: lambda key, x: wrong(x)),
    "weights by age": (
        "schedule",
        lambda wrong: lambda n, f: lagging(n, f)._replace(weight=lambda ages: wrong(ages / 2)),
    ),
    "rate": ("rate", lambda wrong: lambda updates: lambda step: wrong(jnp.full(3, 0.1))),
    "change of an optimizer": (
        "optimizer",
        lambda wrong: (
            lambda: optax.GradientTransformation(
                lambda params: (), lambda updates, state, params=None: (wrong(updates), state)
            )
        ),
    ),
}


def softmax():
    return byzax.models.softmax((8, 8), 10)


def lagging(n, f):
    return schedules.asynchronous(n, f)


# numbers that are right at one place, where the others are wrong
RIGHT = {
    ("parameters", "an axis of length 1"),
    ("rate", "one number"),
    ("rate", "a number of Python"),
    *(("loss", number) for number in ("one number", "a number of Python", "an axis of length 1")),
}


def _each_by_day(place, wrong):
    """By day every place gets three of the wrong numbers, and every wrong number some places."""
    return (list(WRONG_NUMBERS).index(wrong) + list(PLACES).index(place)) % 3 == 0


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        pair if _each_by_day(*pair) else by_night(*pair)
        for pair in itertools.product(PLACES, WRONG_NUMBERS)
        if pair not in RIGHT
    ],
)
def test_no_result_of_another_shape_or_type_is_cast(place, wrong):
    kind, make = PLACES[place]
    changes, key = settings(kind, make(WRONG_NUMBERS[wrong]))
    text = refusal(**changes)
    assert text.startswith(f"{key}: "), text
    assert "\n" not in text
    assert re.search(r"test_contracts\.py:\d+\)$", text), text


SECONDS = {
    "none": lambda count: None,
    "a list": lambda count: [1.0] * count,
    "one too few": lambda count: np.ones(count - 1),
    "one number": lambda count: 1.0,
    "words": lambda count: np.full(count, "a second"),
    "complex": lambda count: np.ones(count, complex),
    "negative": lambda count: np.full(count, -1.0),
    "one NaN": lambda count: np.where(np.arange(count) == count - 1, np.nan, 1.0),
}


@pytest.mark.parametrize("wrong", SECONDS)
@pytest.mark.parametrize("kind", ["latency", "later latency", "up.delay", "down.delay", "factors"])
def test_times_that_are_no_seconds_are_told_at_the_key_of_the_model(kind, wrong):
    changes, key = settings(kind, lambda: lambda rng, worker, first, count: SECONDS[wrong](count))
    text = refusal(**changes)
    assert text.startswith(f"{key}: lambda "), text
    assert "\n" not in text
    assert re.search(r"seconds of \d+ jobs|s for job \d+: at least 0 is needed", text)
    assert re.search(r"test_contracts\.py:\d+\)$", text), text


def positions(wrong):
    def partition(samples, workers, rng):
        return wrong([part.copy() for part in np.array_split(np.arange(len(samples.labels)), workers)])

    return partition


POSITIONS = {
    "none": lambda parts: None,
    "none for one": lambda parts: [None, *parts[1:]],
    "a worker too few": lambda parts: parts[1:],
    "nothing for one": lambda parts: [parts[0][:0], *parts[1:]],
    "a mask": lambda parts: [parts[0] > 0, *parts[1:]],
    "fractions": lambda parts: [parts[0] / 2, *parts[1:]],
    "lists": lambda parts: [part.tolist() for part in parts],
    "negative": lambda parts: [parts[0] - 1, *parts[1:]],
    "beyond the last": lambda parts: [*parts[:-1], parts[-1] + 1],
    "one sample twice": lambda parts: [parts[1], *parts[1:]],
    "of two axes": lambda parts: [parts[0][:, None], *parts[1:]],
}


@pytest.mark.parametrize("wrong", POSITIONS)
def test_positions_that_are_none_are_told_at_the_partition(wrong):
    changes, key = settings("partition", lambda: positions(POSITIONS[wrong]))
    text = refusal(**changes)
    assert text.startswith(f"{key}: "), text
    assert "\n" not in text
    assert re.search(r"test_contracts\.py:\d+\)$", text), text


X, Y = np.zeros((60, 4), np.float32), (np.arange(60) % 3).astype(np.int32)
DATA = {
    "samples of float64": Dataset(X.astype(float), Y, 3),
    "samples of uint8": Dataset(X.astype(np.uint8), Y, 3),
    "a list of samples": Dataset(X.tolist(), Y, 3),  # pyright: ignore[reportArgumentType]
    "samples without features": Dataset(X[:, 0], Y, 3),
    "a NaN": Dataset(np.where(np.arange(4) == 1, np.nan, X).astype(np.float32), Y, 3),
    "labels of float32": Dataset(X, Y.astype(np.float32), 3),
    "labels of two axes": Dataset(X, Y[:, None], 3),
    "too few labels": Dataset(X, Y[1:], 3),
    "labels beyond classes": Dataset(X, Y, 2),
    "negative labels": Dataset(X, Y - 1, 3),
    "no classes": Dataset(X, Y, None),
    "classes that are no number": Dataset(X, Y, "3"),  # pyright: ignore[reportArgumentType]
    "no class at all": Dataset(X, Y, 0),
    "an infinite value": Dataset(X, np.full(60, np.inf, np.float32), None),
    "too few owners": Dataset(X, Y, 3, owners=Y[1:]),
    "owners of words": Dataset(X, Y, 3, owners=Y.astype(str)),
    "test samples that are not there": Dataset(X, Y, 3, test=np.array([60])),
    "a test sample twice": Dataset(X, Y, 3, test=np.array([1, 1])),
    "a mask of test samples": Dataset(X, Y, 3, test=Y > 1),
    "too few names": Dataset(X, Y, 3, labels=("one", "two")),
    "no samples": Dataset(X[:0], Y[:0], 3),
}


@pytest.mark.parametrize("wrong", DATA)
def test_a_data_set_that_breaks_its_contract_is_told_with_the_line(wrong):
    text = refusal(data=lambda: DATA[wrong])
    assert text.startswith(("data: lambda must give ", "data: lambda: classes must be ")), text
    assert re.search(r"test_contracts\.py:\d+\)$", text), text


def test_a_data_set_that_keeps_its_contract_is_taken():
    byzax.validate(byzax.Run(**{**SMALL, "data": {"name": lambda: dataset(X, Y, 3), "batch_size": 4}}))


SCHEDULES = {
    "due": {"due": lambda board: None},
    "free": {"free": lambda board, worker: "yes"},
    "waits": {"waits": lambda board: 3},
    "no order": {"order": lambda situation: [0, 1], "asked": 2},
    "order of nothing": {"order": lambda situation: lambda step: None, "asked": 2},
    "order of others": {"order": lambda situation: lambda step: [0, 7], "asked": 2},
    "plan": {"plan": lambda situation: [0, 1]},
    "fails": {"due": lambda board: board.nowhere},
}


@pytest.mark.parametrize("wrong", SCHEDULES)
def test_a_schedule_whose_functions_give_something_else_is_told_with_the_line(wrong):
    text = refusal(schedule=lambda n, f: Schedule(**SCHEDULES[wrong]))
    assert text.startswith("schedule: "), text
    assert "\n" not in text
    assert re.search(r"test_contracts\.py:\d+\)$", text), text


BUILT = {
    "rule": lambda: byzax.aggregators.krum(7, 1),
    "pre": lambda: pre.nnm(7, 1),
    "filter": lambda: filters.kardam(7, 1),
    "attack": lambda: byzax.attacks.sign_flip(7, 1),
    "model": softmax,
    "schedule": lambda: schedules.synchronous(7, 1),
    "optimizer": lambda: optax.sgd(0.1),
    "data": lambda: data.digits(),
    "partition": lambda: partitions.iid(),
    "augmentation": lambda: augmentations.flip(),
    "latency": lambda: latency.constant(),
    "rate": lambda: rates.cosine(100),
}


@pytest.mark.parametrize("kind", BUILT)
def test_what_a_function_gave_is_refused_in_place_of_the_function(kind):
    changes, key = settings(kind, BUILT[kind]())
    text = refusal(**changes)
    assert text.startswith(f"{key}: "), text
    assert "\n" not in text
    assert "give the function, " in text or "which gives" in text or "must give a function" in text
    if "give the function, " not in text:
        # a function, which is one of this kind only when it is called
        return
    # by whatever way it comes in
    whole: dict[str, Any] = {**SMALL, **changes}
    head = next(iter(changes))
    entrances: list[Any] = [
        lambda: byzax.run(**whole, quiet=True),
        lambda: byzax.run(whole, quiet=True),
        lambda: byzax.Study(name="one", **whole),
        lambda: byzax.Run(**SMALL).replace(**changes),
        lambda: byzax.run(byzax.Run(**SMALL), quiet=True, **dict[str, Any](changes)),
        lambda: byzax.run(whole | {"grid": {head: [changes[head]]}}, quiet=True),
    ]
    for enter in entrances:
        with pytest.raises(byzax.ScenarioError) as caught:
            enter()
        assert str(caught.value).removeprefix("grid.").partition(" (in the run")[0] == text, str(caught.value)


def due_of_two(n, f):
    return Schedule(due=lambda board: len(board.waiting) >= 2)


@pytest.mark.parametrize(
    ("schedule", "rows", "way_out"),
    [
        (lambda n, f: Schedule(), "1 row", "a Schedule without due makes an update of each single row: give it one"),
        (lambda n, f: Schedule(oldest=3), "1 row", "a Schedule without due makes an update of each single row: give "),
        (due_of_two, "2 rows", ""),
    ],
)
@pytest.mark.parametrize("part", [{"rule": "krum"}, {"rule": "average", "pre": ["nnm"]}])
def test_where_a_schedule_of_ones_own_gives_too_few_rows_it_is_named(schedule, rows, way_out, part):
    text = refusal(schedule=schedule, **part)
    name = schedule.__name__.strip("<>")
    assert f"; with the schedule {name} the rule sees {rows} of 7 workers" in text, text
    assert way_out in text, text
    assert re.search(r"test_contracts\.py:\d+\)$", text), text


# the types of what the functions of parts give, with the functions in them
MADE: dict[str, Any] = {
    "rule": byzax.aggregators.krum(7, 1),
    "pre": pre.nnm(7, 1),
    "filter": filters.kardam(7, 1),
    "attack": byzax.attacks.backdoor(7, 1),
    "model": byzax.models.softmax((8, 8), 10),
    "schedule": schedules.asynchronous(7, 1),
    "timing": timings.late(),
}


def functions_in(made, above=()):
    """The fields of a part that are functions, by the names that lead to them."""
    for name, value in made._asdict().items():
        if hasattr(value, "_fields"):
            yield from functions_in(value, (*above, name))
        elif callable(value):
            yield (*above, name)


def with_field(made, path, value):
    first, *rest = path
    return made._replace(**{first: with_field(getattr(made, first), rest, value) if rest else value})


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        pytest.param(kind, path, id=f"{kind}-{'.'.join(path)}")
        for kind, made in MADE.items()
        for path in functions_in(made)
    ],
)
def test_a_function_that_takes_other_arguments_is_told_which_it_must_take(kind, path):
    wrong = with_field(MADE[kind], path, lambda one, two, three, four, five, six: None)
    changes, key = settings(kind, lambda *arguments: wrong)
    text = refusal(**changes)
    assert re.match(rf"{re.escape(key)}: lambda: {path[-1]} is called with \(", text), text
    assert f"): it must be {path[-1]}(" in text, text
    assert "\n" not in text
    assert re.search(r"test_contracts\.py:\d+\)$", text), text


def test_a_loss_without_shares_is_told_so_before_it_would_take_a_key_for_them():
    def mine(shape, classes):
        made = byzax.models.softmax(shape, classes)
        return made._replace(loss=lambda params, x, y, shares=None: made.loss(params, x, y, None, shares))

    text = refusal(model=mine)
    assert text.startswith("model: mine: loss is called with (params, x, y, key, shares), and cannot be (too many"), (
        text
    )
    assert "it must be loss(params, x, y, key=None, shares=None) (" in text, text


OF_OPTAX = [name for name in dir(optax.schedules) if re.fullmatch(r"[a-z].*_schedule", name)]


@pytest.mark.parametrize("name", OF_OPTAX)
def test_a_schedule_of_optax_that_nobody_called_is_told_to_be_called(name):
    for given in (getattr(optax, name), functools.partial(getattr(optax, name))):
        for changes in ({"optimizer": {"name": "sgd", "learning_rate": given}}, {"local": {"learning_rate": given}}):
            text = refusal(**changes)
            assert re.match(
                rf"(optimizer|local)\.learning_rate: ({name}|partial) is a function of optax: call it", text
            ), text
            assert text.endswith(", as lambda updates: optax.cosine_decay_schedule(0.1, updates) does"), text
    built = {"name": "sgd", "learning_rate": lambda updates: optax.cosine_decay_schedule(0.1, updates)}
    byzax.validate(byzax.Run(**{**SMALL, "optimizer": built}))


def test_a_rate_is_a_function_that_gives_a_function_of_the_step():
    text = refusal(optimizer={"name": "sgd", "learning_rate": lambda step: 0.1})
    assert text.startswith("optimizer.learning_rate: lambda must give a function (step) of the learning rate, as ")
    rate = {"name": "sgd", "learning_rate": lambda updates: lambda step: 0.1 / (1 + step)}
    byzax.validate(byzax.Run(**{**SMALL, "optimizer": rate}))


def test_an_optimizer_of_optax_is_named_or_put_into_a_function():
    text = refusal(optimizer=optax.adam)
    assert text.startswith("optimizer: adam is called with its options alone, and cannot be")
    assert "or name byzax's own: adam" in text

    def mine(*, learning_rate: float = 0.1):
        return optax.adamw(learning_rate)

    byzax.validate(byzax.Run(**{**SMALL, "optimizer": {"name": mine, "learning_rate": 0.2}}))


def test_a_class_of_flax_is_told_how_it_is_named():
    class Net:
        """A class that is no function of a model."""

    assert "model={'name': 'module', 'path': Net}" in refusal(model=Net)


def test_of_two_parts_of_one_file_the_one_that_failed_is_told():
    def fails(n: int, f: int):
        raise ValueError("never")

    def calls(n: int, f: int, *, base: byzax.aggregators.Nested = fails):
        return byzax.aggregators.build(base, n, f)  # pyright: ignore[reportArgumentType]

    assert refusal(rule=calls).startswith("rule.base: never (")

    def itself(n: int, f: int, *, base: byzax.aggregators.Nested = "median"):
        raise ValueError("never")

    assert refusal(rule=itself).startswith("rule: never (")


def _options_that_are_parts():
    """All options of byzax's parts that are another part of their kind: (kind, name, option)."""
    return [
        (kind, name, option.name)
        for kind in members.KINDS
        for name in members.available(kind)
        for option in options_of(members.find(kind, name))
        if option.annotation == Nested
    ]


def test_the_options_that_name_a_part_have_the_type_of_a_part():
    assert {("rule", "bulyan", "base"), ("attack", "claims", "attack"), ("attack", "gradient_ascent", "start"),
            ("attack", "optimised", "attack")} <= {*_options_that_are_parts()}  # fmt: skip
    names = {name for kind in members.KINDS for name in members.available(kind)}
    for kind in members.KINDS:
        for name in members.available(kind):
            for option in options_of(members.find(kind, name)):
                if option.annotation is str and option.default in names:
                    pytest.fail(f"{option.name} of {name} names a part and takes no function: give it the type Nested")


# by day a rule and an attack
@pytest.mark.parametrize(
    ("kind", "name", "option"),
    [
        each if each[1] in ("bulyan", "claims") else by_night(*each)
        for each in _options_that_are_parts()
        if each[0] in MINE
    ],
)
@pytest.mark.parametrize("form", by_day(["function"], ["function", "file", "mapping"]))
def test_a_function_can_stand_wherever_a_part_is_an_option_of_another(kind, name, option, form, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE[kind])
    function = members.find(kind, f"{file}:mine")
    given = {"function": function, "file": f"{file}:mine", "mapping": {"name": function, "scale": 3.0}}[form]
    more = {"strength": "scale", "evaluations": 4} if name == "optimised" else {}
    whole: dict[str, Any] = {**SMALL, "rule": "average", "weights": "samples", "workers": {"total": 7, "byzantine": 1}}
    if kind == "rule":
        whole = {**SMALL, "attack": "zero"}
    part = {"name": name, option: given, **more}
    changes = {"wire": {"up": part}} if kind == "transform" else {kind: part}
    result = byzax.run(whole | changes, out=tmp_path / "out", quiet=True)
    assert result.runs["status"].tolist() == ["complete"]
    # what was recorded names it again
    recorded = byzax.run(tmp_path / "out" / "scenario.yaml", quiet=True)
    assert recorded.metrics.drop(columns="wall_s", errors="ignore").equals(
        result.metrics.drop(columns="wall_s", errors="ignore")
    )
    # and it is called by hand too
    sizes = [((64, 10), (10,))] if kind == "transform" else [7, 1]
    made = members.find(kind, name)(*sizes, **{option: given, **more})
    assert isinstance(made, {"rule": Aggregator, "attack": Attack, "transform": Transform}[kind])


def test_a_message_of_a_part_itself_is_left_as_it_is():
    def mine(n: int, f: int, *, k: int = 3):
        raise byzax.OptionError("k", "must be less than the moon")

    assert refusal(rule={"name": mine, "k": 4}) == "rule.k: must be less than the moon"

    def other(n: int, f: int):
        raise byzax.PartError("other needs the moon")

    assert refusal(rule=other) == "rule: other needs the moon"


def test_one_part_where_several_can_stand_is_told_how_it_is_written():
    assert refusal(pre="nnm") == "pre: must be a list, got 'nnm': write [nnm]"
    assert refusal(pre=pre.nnm).endswith(": write [nnm]")


@pytest.mark.parametrize(
    ("body", "way_out"),
    [
        ("rows[0] if rows[0, 0] > 0 else rows[1]", "take jnp.where"),
        ("np.median(rows, axis=0)", "take jax.numpy in place of numpy"),
        ("rows * float(rows.sum())", "take jnp.where"),
        ("rows.sum()", "got float32[] ("),
    ],
)
def test_what_cannot_be_compiled_is_told_once_with_the_line_and_the_way_out(body, way_out):
    space: dict[str, Any] = {"np": np, "stateless": rules.stateless, "Info": Info}
    source = f"def mine(n, f):\n    return stateless(n, lambda rows: ({body}, Info()))\n"
    exec(compile(source, "/nowhere/mine.py", "exec"), space)
    text = refusal(rule=space["mine"])
    assert way_out in text
    assert text.endswith(" (/nowhere/mine.py:2)")
    assert text.count(".py:") == 1
    assert "Tracer" not in text


@pytest.mark.parametrize("rate", [lambda step: jnp.float32(jnp.nan), lambda step: -0.1 * step, lambda step: 1 / step])
def test_a_rate_that_is_negative_or_no_number_is_told_before_the_run(rate):
    text = refusal(optimizer={"name": "sgd", "learning_rate": lambda updates: rate})
    assert text.startswith("optimizer.learning_rate: lambda must give rates of at least 0, got ")


@pytest.mark.parametrize(
    ("changes", "way_out"),
    [
        ({"steps": 1e3}, "steps: must be a whole number, got 1000.0: write 1000"),
        ({"steps": "20"}, "write the number 20"),
        (
            {"optimizer": {"name": "sgd", "learning_rate": "1e-4"}},
            "optimizer.learning_rate: must be a number, got '1e-4'",
        ),
        ({"optimizer": {"name": "adam", "eps": "1e-4"}}, "write the number 0.0001 (for PyYAML"),
        ({"attack": {"name": "empire", "epsilon": "1e1"}}, "write the number 10 (for PyYAML"),
    ],
)
def test_a_number_of_another_type_is_told_as_it_must_be_written(changes, way_out):
    assert way_out in refusal(**changes)


def test_lists_make_a_data_set_and_a_pair_is_told_what_makes_one():
    assert dataset([[1.0], [0.5]], [0, 1], 2).x.dtype == np.float32
    assert "dataset(x, y, classes=10) makes one" in refusal(data=lambda: (X, Y))


def test_a_name_that_is_nearly_there_is_asked_for(tmp_path):
    (tmp_path / "mine.py").write_text("def quickly(n, f):\n    pass\n")
    assert refusal(rule=f"{tmp_path / 'mine.py'}:quick").endswith("must hold a function quick; did you mean 'quickly'?")
    with pytest.raises(AttributeError, match="did you mean 'krum'"):
        byzax.aggregators.krumm  # noqa: B018
