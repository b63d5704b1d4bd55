"""Declarations and docstrings of every model are true."""

import inspect
import sys

import jax
import pytest
from flax import linen

from byzax import models
from byzax.options import OptionError, options_of
from tests.attacks.option_values import values
from tests.models import own
from tests.models.test_models import LARGE, NET, SHIPPED, SMALL, batch_of
from tests.nightly import by_night

AS_RNN = {option.name for option in options_of(models.factory("rnn"))}
ALL = {name: {option.name for option in options_of(models.factory(name))} for name in LARGE}
NIGHTLY = {**ALL, "gru": AS_RNN, "lstm": AS_RNN, "mlp": set()}
# by day not those of the residual networks, whose tracing takes seconds, nor those that gru and lstm have as rnn has
# them, and an initialiser of one model: what a name stands for is one function
OPTIONS = [
    (by_night if option.name in NIGHTLY.get(name, {"initialiser"}) else pytest.param)(
        name, option, id=f"{name}-{option.name}"
    )
    for name in SHIPPED
    for option in options_of(models.factory(name))
]
# a shape and a number of classes that each model accepts, and the options without a default
SIZES = {name: (shape, classes, options if name == "module" else {}) for name, shape, classes, options in SMALL}
# options whose values have to fit those of others
OTHERS = {("transformer", "width"): {"heads": 1}, ("transformer", "heads"): {"width": 1}}


def built(name, options):
    shape, classes, needed = SIZES[name]
    # a vocabulary is for characters
    shape = shape[:1] if "vocabulary" in options else shape
    return models.build(name, shape, classes, **{**needed, **options})


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_an_option_out_of_its_range_is_refused_by_name_and_the_bounds_are_taken(name, option):
    refused, taken = values(option.annotation)
    assert refused
    for value in refused:
        with pytest.raises(OptionError, match=f"^{name}: {option.name} must be ") as caught:
            built(name, {option.name: value})
        assert (caught.value.part, caught.value.option) == (name, option.name)
    for value in taken:
        built(name, {option.name: value, **OTHERS.get((name, option.name), {})})


# written down by itself: the types say the same
OUTSIDE = [
    ("gru", "truncate", 0),
    ("lenet", "pooling", "sum"),
    ("linear", "l2", -0.1),
    ("mlp", "dropout", 1.0),
    ("mlp", "groups", 0),
    ("mlp", "norm", "instance"),
    ("resnet20", "norm", "none"),
    ("rnn", "vocabulary", 0),
    ("softmax", "initialiser", "he"),
    ("transformer", "width", 0),
]


@pytest.mark.parametrize(("name", "option", "value"), OUTSIDE)
def test_what_no_network_can_have_is_refused(name, option, value):
    with pytest.raises(OptionError, match=f"^{name}: {option} must be .*, got {value!r}$"):
        built(name, {option: value})


CONVOLVING = [
    ("module", (8, 8), 4, {"path": f"{NET}:{name}"}) for name in ("Convolving", "Widening", "LinenConvolving")
]


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options"),
    # by day one of each kind
    [by_night(*case) if case[0] in {*LARGE, "gru", "lstm", "transformer"} else case for case in [*SMALL, *CONVOLVING]],
)
def test_a_model_is_declared_to_be_batched_exactly_where_it_has_no_convolution_and_no_steps(
    name, shape, classes, options
):
    model = models.build(name, shape, classes, **options)
    params = jax.eval_shape(model.init, jax.random.key(0))
    x, y = jax.eval_shape(lambda: batch_of(shape, classes))
    convolves = "conv_general_dilated" in str(jax.make_jaxpr(model.loss)(params, x, y))
    assert model.batch != (convolves or name in {"rnn", "gru", "lstm", "transformer"})


def test_a_user_decides_about_batches_where_byzax_does_not_see():
    for name in ("Small", "Convolving", "Linen", "LinenConvolving"):
        for batch in (True, False):
            assert models.build("module", (8, 8), 4, path=f"{NET}:{name}", batch=batch).batch is batch


def test_the_class_itself_is_as_good_as_its_path():
    for found in (own.Small, own.Linen):
        model = models.build("module", (8, 8), 4, path=found)
        named = models.build("module", (8, 8), 4, path=f"{NET}:{found.__name__}")
        key = jax.random.key(0)
        assert (model.init(key) == named.init(key)).all()
    with pytest.raises(ValueError, match=r"module Nothing in .*own.py needs parameters"):
        models.build("module", (8,), 3, path=own.Nothing)
    with pytest.raises(ValueError, match="module: int in builtins is no flax module"):
        models.build("module", (8,), 3, path=int)


def test_a_class_without_a_file_is_told_by_its_module(monkeypatch):
    # as in a notebook
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    made = type("Net", (linen.Module,), {"__module__": "__main__", "__call__": lambda self: None})
    with pytest.raises(ValueError, match="Net in __main__"):
        models.build("module", (8,), 3, path=made)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_docstring_says_what_the_model_is_takes_and_gives(name):
    function = models.factory(name)
    lines = inspect.getdoc(function).splitlines()
    assert lines[0].endswith(".")
    # what the tables of `byzax list` are made of
    assert sum(line.startswith("Size: ") for line in lines) == 1
    for section in ("Args", "Returns", "Raises", "References"):
        assert lines.count(f"{section}:") == 1, section
        assert lines[lines.index(f"{section}:") + 1].startswith("    ")
    for argument in inspect.signature(function).parameters:
        assert sum(line.startswith(f"    {argument}: ") for line in lines) == 1, argument
    summary = sys.modules[function.__module__].__doc__.splitlines()
    assert len(summary) == 1
    assert summary[0].endswith(".")
