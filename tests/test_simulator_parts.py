"""The contract of all parts of the simulator: options have types and ranges, which are kept; docstrings say it all."""

import inspect
import math
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import numpy as np
import pytest
from pydantic.fields import FieldInfo

from byzax import members
from byzax.options import OptionError, PartError
from byzax.simulator import (
    augmentations,
    data,
    graphs,
    latency,
    optimizers,
    partitions,
    rates,
    schedules,
    timings,
    topologies,
    transforms,
)

# kind of part -> its package, the arguments before its options, and the lines of a docstring that tables are made of
KINDS: dict[str, tuple[Any, tuple[Any, ...], tuple[str, ...]]] = {
    "augmentation": (augmentations, (), ("Formula",)),
    "data": (data, (), ("Samples",)),
    "graph": (graphs, (16,), ("Neighbours",)),
    "latency": (latency, (), ("Formula",)),
    "optimizer": (optimizers, (), ()),
    "partition": (partitions, (), ("Splits",)),
    "rate": (rates, (100,), ("Formula",)),
    "schedule": (schedules, (20, 4), ("Waits", "Ages")),
    "timing": (timings, (), ("Sends", "Model")),
    "topology": (topologies, (20, 4), ("Sends", "Rule")),
    "transform": (transforms, (((6, 4), (4,)),), ("Formula", "Bits", "Error")),
}
# options without a default
REQUIRED = {"path": "nowhere", "target": "y", "file": "nowhere", "half_at": 10.0, "every": 3, "pairs": ((0, 1),)}
MEMBERS = [
    (kind, file.stem)
    for kind, (package, *_) in KINDS.items()
    for file in sorted(Path(package.__file__).parent.glob("*.py"))
    if file.stem != "base" and not file.stem.startswith("_")
]


def options_of(kind, name):
    function = members.find(kind, name)
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return [each for each in parameters if each.kind is each.KEYWORD_ONLY]


def wrong_values(annotation, bounds=()):
    """Values just outside an annotation, for each of its types, and one of no type at all."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        found = [each.metadata if isinstance(each, FieldInfo) else [each] for each in inner[1:]]
        return wrong_values(inner[0], [bound for each in found for bound in each])
    if origin in (Union, UnionType):
        return [value for each in inner if each is not type(None) for value in wrong_values(each)]
    if origin is Literal:
        return ["no such word"]
    if origin is tuple:
        return [(value,) for value in wrong_values(inner[0])]
    if annotation in (int, float):
        return ["a word", True, *([1.5] if annotation is int else []), *beyond(annotation, bounds)]
    if annotation in (bool, str):
        return [0.5]
    return []


def beyond(kind, bounds):
    def next_to(value, sign):
        return value + sign if kind is int else math.nextafter(value, sign * math.inf)

    for bound in bounds:
        match bound:
            case annotated_types.Ge(ge=value):
                yield next_to(value, -1)
            case annotated_types.Gt(gt=value):
                yield kind(value)
            case annotated_types.Le(le=value):
                yield next_to(value, 1)
            case annotated_types.Lt(lt=value):
                yield kind(value)
    if kind is float and bounds:
        yield math.nan


CASES = [
    pytest.param(kind, name, option.name, value, id=f"{kind}-{name}-{option.name}-{value}")
    for kind, name in MEMBERS
    for option in options_of(kind, name)
    # that of an optimizer is a number or a part in a scenario, and a number or a function from Python
    for value in ([0.0, -1.0, "fast"] if option.name == "learning_rate" else wrong_values(option.annotation))
]


@pytest.mark.parametrize(("kind", "name", "option", "value"), CASES)
def test_an_option_out_of_its_range_is_refused_by_its_name(kind, name, option, value):
    required = {each.name: REQUIRED[each.name] for each in options_of(kind, name) if each.default is each.empty}
    with pytest.raises(OptionError, match=rf"^{name}: {option} must .*, got ") as refused:
        members.find(kind, name)(*KINDS[kind][1], **required | {option: value})
    assert (refused.value.part, refused.value.option) == (name, option)
    assert "\n" not in str(refused.value)


IMPOSSIBLE = [
    ("rate", "cosine", {"start": 0.1, "final": 0.2}, "final must be at most start = 0.1, got 0.2"),
    ("rate", "linear", {"start": 0.1, "final": 0.2}, "final must be at most start = 0.1, got 0.2"),
    ("schedule", "synchronous", {"quorum": 21}, "quorum must be from 1 to n = 20 rows, got 21"),
    ("schedule", "asynchronous", {"apply": "buffer", "rows": 21}, "rows must be at most n = 20, .* got 21"),
    ("schedule", "stale_synchronous", {"apply": "buffer", "rows": 21}, "rows must be at most n = 20, .* got 21"),
    ("schedule", "stale_synchronous", {"bound": 0, "max_age": 3}, "bound must be at least 1 with max_age, .* got 0"),
    ("schedule", "basgd", {"buckets": 21}, "buckets must be at most n = 20, got 21"),
    ("schedule", "sampled", {"participants": 21}, "participants must be at most n = 20, got 21"),
    ("schedule", "sampled", {"asked": 9}, "asked must be from participants = 10 to n = 20, got 9"),
    ("schedule", "sampled", {"asked": 21}, "asked must be from participants = 10 to n = 20, got 21"),
    ("schedule", "sampled", {"doubted": 11}, "doubted must be at most participants = 10, got 11"),
    ("data", "gaussian_mixture", {"samples": 9}, "samples must be at least classes = 10, got 9"),
    ("data", "linear_regression", {"samples": 10**8}, "samples must be at most 50000000 with 20 numbers each"),
]


@pytest.mark.parametrize(("kind", "name", "options", "message"), IMPOSSIBLE)
def test_options_that_do_not_go_together_are_refused_by_the_name_of_one(kind, name, options, message):
    with pytest.raises(OptionError, match=f"^{name}: {message}"):
        members.find(kind, name)(*KINDS[kind][1], **options)


@pytest.mark.parametrize("name", [name for kind, name in MEMBERS if kind == "schedule"])
@pytest.mark.parametrize(("n", "f"), [(0, 0), (5, 6), (5, -1)])
def test_a_schedule_for_impossible_numbers_of_workers_is_refused(name, n, f):
    with pytest.raises(PartError, match=rf"^{name} needs n >= 1 workers and 0 <= f <= n .*, got n={n}, f={f}$"):
        schedules.build(name, n, f)


def test_values_just_outside_are_derived_from_every_kind_of_bound():
    found = {(option, repr(value)) for _, _, option, value in (case.values for case in CASES)}
    assert {("pixels", "0"), ("smallest", "0.0"), ("smallest", "1.0000000000000002"), ("b1", "1.0")} <= found
    assert {("axis", "'no such word'"), ("shape", "(0,)"), ("bound", "-1"), ("quorum", "0"), ("mean", "nan")} <= found


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_every_option_has_a_type_and_files_are_the_only_ones_without_a_default(kind, name):
    for option in options_of(kind, name):
        assert option.annotation is not option.empty
        assert option.default is not option.empty or option.name in REQUIRED


# parts that can be made from their options alone: the others read files, or make a whole data set
QUICK = [(kind, name) for kind, name in MEMBERS if kind != "data" and name not in ("trace", "edge_file")]


@pytest.mark.parametrize(("kind", "name"), QUICK)
def test_numpy_numbers_are_as_good_as_pythons(kind, name):
    given = {each.name: REQUIRED.get(each.name, each.default) for each in options_of(kind, name)}
    given = {key: np.array(value)[()] if type(value) in (int, float) else value for key, value in given.items()}
    members.find(kind, name)(*KINDS[kind][1], **given)


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_docstrings_describe_every_argument_and_what_is_returned(kind, name):
    function = members.find(kind, name)
    text = inspect.getdoc(function) or ""
    for argument in inspect.signature(function).parameters:
        assert re.search(rf"^ +{argument}: \S", text, re.MULTILINE), argument
    sections = re.findall(r"^(\w+):", text, re.MULTILINE)
    assert {"Returns", *(["References"] if kind != "optimizer" else []), *KINDS[kind][2]} <= {*sections}
    assert len(text.split("\n", 1)[0]) <= 115
    for line in KINDS[kind][2]:
        assert len(re.findall(rf"^{line}: \S", text, re.MULTILINE)) == 1
    if kind != "optimizer":
        # the section of the sources is the last one, its first line the main source
        assert re.search(r"\nReferences:\n( {4}\S.*(\n|$))+$", text)


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_a_part_is_an_attribute_of_its_package(kind, name):
    assert getattr(KINDS[kind][0], name) is members.find(kind, name)
