"""Scenarios: strict, frozen, and every mistake said in one line with the way out."""

import contextlib
import copy
import json
import operator
import pickle
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import cloudpickle
import numpy as np
import pytest
from pydantic import BaseModel

from byzax.experiments.strict_yaml import dump, parse_text, read_mapping, shipped
from byzax.simulator.config.attack import Workers
from byzax.simulator.config.base import FrozenDict, parse_as
from byzax.simulator.config.grid import expand
from byzax.simulator.config.run import STUDY_KEYS, Run
from byzax.simulator.config.schema import json_schema
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import ScenarioError

SMALLEST = {"name": "t", "data": "digits", "rule": "median", "attack": "empire"}


def test_four_keys_make_a_scenario():
    scenario = parse_as(Study, SMALLEST)
    assert scenario.workers.total == 15
    assert scenario.model.name == "mlp"
    assert scenario.executor.name == "loop"


def test_the_sample_of_the_readme_is_understood():
    scenario = parse_as(
        Study,
        {
            "name": "krum-meets-empire",
            "seed": 0,
            "steps": 200,
            "workers": {"total": 15, "byzantine": 3, "declared": 3},
            "data": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.5}, "batch_size": 32},
            "model": {"name": "mlp", "hidden": [64]},
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
            "worker_momentum": 0.0,
            "rule": {"name": "krum"},
            "attack": {"name": "empire", "epsilon": 1.1},
            "schedule": {"name": "synchronous"},
            "executor": {"name": "ray", "actors": "auto"},
            "evaluate_every": 10,
            "repeats": 3,
            "grid": {"rule.name": ["average", "median"], "attack.name": ["none", "empire"]},
        },
    )
    assert list(scenario.seeds) == [0, 1, 2]
    assert scenario.data.partition.options() == {**scenario.data.partition.options(), "alpha": 0.5}


def test_what_is_written_is_read_back_the_same():
    scenario = parse_as(Study, SMALLEST)
    assert parse_as(Study, scenario.model_dump(mode="json")) == scenario


def test_declared_follows_byzantine_unless_it_is_given():
    assert parse_as(Study, {**SMALLEST, "workers": {"byzantine": 2}}).workers.declared == 2
    assert parse_as(Study, {**SMALLEST, "workers": {"byzantine": 2, "declared": 0}}).workers.declared == 0
    assert parse_as(Study, SMALLEST).workers.declared == parse_as(Study, SMALLEST).workers.byzantine.count


def inner_descriptions(value):
    """A description, and all that are in it."""
    if isinstance(value, BaseModel):
        yield value
    for each in vars(value).values() if isinstance(value, BaseModel) else value if isinstance(value, tuple) else ():
        yield from inner_descriptions(each)


def test_an_assignment_is_refused_in_one_line_with_the_way_to_a_copy():
    study = parse_as(Study, {**SMALLEST, "pre": ["nnm"], "local": {"steps": 2}, "attack": {"name": "little", "z": 2.0}})
    found = [*inner_descriptions(study), study.run]
    assert {type(each).__name__ for each in found} >= {"Study", "Run", "Workers", "Byzantine", "Local", "little_attack"}
    for each in found:
        for name in [*type(each).model_fields, "other"]:
            with pytest.raises(
                AttributeError, match=rf"^{name}: a description .* make a copy, replace\({name}=3\)[^\n]*$"
            ):
                setattr(each, name, 3)
            with pytest.raises(AttributeError, match=rf"^{name}: a description .* make a copy, with replace$"):
                delattr(each, name)


def test_keys_by_place_are_refused_with_the_way_from_a_file():
    for described in (Study, Run, Workers):
        for given in ("x.yaml", SMALLEST):
            with pytest.raises(ScenarioError, match=rf"^{described.__name__}: keys are given as .*byzax\.describe.*$"):
                described(given)


GIVEN = {
    "smallest": SMALLEST,
    "inner": {
        **SMALLEST,
        "workers": {"total": 12, "byzantine": {"count": 2, "which": "random"}},
        "data": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.25}, "augment": ["flip"]},
        "rule": {"name": "bulyan", "base": {"name": "krum", "distance": "plain"}},
        "attack": {"name": "little", "z": 1.5, "workers": 1, "beside": ["empire"]},
        "worker_momentum": 0.9,
        "executor": {"name": "vectorised"},
        "early_stopping": {"patience": 3},
        "grid": {"rule": ["krum", {"name": "multi_krum", "m": 3}], "seed": [1, 2]},
    },
    # the default of one key follows from another
    "the same optimizer with steps at the worker": {**SMALLEST, "optimizer": "sgd", "local": {"steps": 2}},
    "a plain optimizer": {**SMALLEST, "optimizer": "sgd"},
    "declared": {**SMALLEST, "workers": {"byzantine": 2, "declared": 3}},
    "a race": {**SMALLEST, "clock": "wall", "executor": "ray", "latency": "constant"},
    **{name: dict(read_mapping(file)) for name, file in shipped().items()},
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_what_a_description_shows_makes_it_again_and_is_needed_for_it(given):
    study = parse_as(Study, given)
    for described in (study, study.run, study.workers):
        kind = type(described)
        shown = eval(repr(described), {kind.__name__: dict})
        assert parse_as(kind, shown) == described
        for key in shown:
            rest = {name: value for name, value in shown.items() if name != key}
            with contextlib.suppress(ScenarioError):
                assert parse_as(kind, rest) != described, key


def test_what_is_as_by_default_is_not_shown():
    bare = {**SMALLEST, "rule": "multi_krum", "attack": "little", "executor": "vectorised"}
    study = parse_as(Study, bare)
    whole = parse_as(Study, study.model_dump(mode="json"))
    assert {*whole.given()} > {*study.given()}
    assert repr(whole) == repr(study) == f"Study({', '.join(f'{key}={bare[key]!r}' for key in study.given())})"
    assert repr(whole.rule) == "multi_krum_rule(name='multi_krum')"


def test_a_function_is_shown_as_it_was_given():
    study = Study(**{**SMALLEST, "rule": {"name": named, "sizes": [1]}, "attack": {"name": named, "sizes": [2]}})
    assert f"rule={named!r}, attack={{'name': {named!r}, 'sizes': [2]}}" in repr(study)


def named(n: int, f: int, *, sizes: Sequence[int] = (1,), by_name: Mapping[str, int] = MappingProxyType({"a": 1})):
    """A rule of one's own with options that could be changed in place."""


def mutable_parts(value, place=""):
    """All that can be changed in place below a value, by where it is."""
    if isinstance(value, BaseModel):
        inner = {name: getattr(value, name) for name in type(value).model_fields}
    elif isinstance(value, Mapping):
        inner = value
    else:
        inner = dict(enumerate(value)) if isinstance(value, tuple) else {}
    if isinstance(value, (list, set)) or (isinstance(value, dict) and not isinstance(value, FrozenDict)):
        yield place
    for key, each in inner.items():
        yield from mutable_parts(each, f"{place}.{key}")


def test_nothing_in_a_description_can_be_changed_in_place_and_all_are_hashable():
    grid = {
        "rule": ["krum", {"name": "multi_krum", "m": 3}, {"name": named, "sizes": [1, 2], "by_name": {"b": 2}}, named],
        "pre": [[], ["nnm", {"name": "clip", "bound": 2.0}]],
        "optimizer.learning_rate": [*np.array([0.1, 0.5])],
        "seed": range(2),
    }
    given = {
        **SMALLEST,
        "record": {"rows": [1, 2]},
        "latency": {"name": "constant", "crashes": [{"worker": 1, "at": 2}]},
    }
    study = Study(**given, grid=grid)
    for described in (study, study.run, *study.task, *(cell.study for cell in expand(study).cells)):
        assert [*mutable_parts(described)] == []
        assert isinstance(hash(described), int)
    for place in (study.grid, study.grid["rule"][1]):
        kept = dict(place)
        for change in (
            lambda place=place: place.update(rule=[]),
            lambda place=place: place.pop("rule"),
            lambda place=place: place.clear(),
            lambda place=place: operator.setitem(place, "rule", []),
            lambda place=place: operator.delitem(place, "rule"),
            lambda place=place: operator.ior(place, {"rule": []}),
            lambda place=place: place.setdefault("x", []),
            lambda place=place: place.popitem(),
        ):
            with pytest.raises(TypeError, match="cannot be changed in place"):
                change()
        assert place == kept
    # what was given stays the caller's, and is given back as it was
    assert study.given()["grid"] == {**grid, "seed": [0, 1], "optimizer.learning_rate": [0.1, 0.5]}
    assert grid["rule"][2]["sizes"] == [1, 2]
    for again in (
        study.replace(),
        copy.deepcopy(study),
        pickle.loads(cloudpickle.dumps(study)),
        parse_as(Study, study.given()),
    ):
        assert again == study
        assert hash(again) == hash(study)
    assert study != study.replace(grid={**grid, "seed": [1, 0]})
    assert parse_text(dump(study.given()), "x")["grid"]["pre"] == grid["pre"]


def test_an_option_that_could_be_changed_in_place_is_refused():
    def listed(n: int, f: int, *, sizes: list[int] | None = None):
        """A rule of one's own."""

    with pytest.raises(
        ScenarioError, match=r"^rule: .*the option sizes of listed is a list, .* such as tuple\[int, ...\]"
    ):
        parse_as(Study, {**SMALLEST, "rule": listed})


def test_a_dotted_key_where_there_are_none_says_where_they_are():
    for wrong in (
        lambda: Run(data="digits", rule="krum", attack="none", **{"rule.distance": "plain"}),
        lambda: parse_as(Study, SMALLEST).replace(**{"workers.total": 5}),
        lambda: parse_as(Study, SMALLEST).workers.replace(**{"byzantine.count": 1}),
    ):
        with pytest.raises(
            ScenarioError, match=r"^\w+\.\w+: dotted keys are for .*: give (\w+) whole here, such as \1=\{"
        ):
            wrong()


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"rulee": 1}, ["rulee: unknown key; did you mean 'rule'? known: seed, steps"]),
        ({"rule": "medain"}, ["rule: unknown rule 'medain'; did you mean 'median'?"]),
        ({"rule": {"name": "median", "foo": 1}}, ["rule.foo: unknown key; known: name"]),
        ({"data": {"name": "digits", "batchsize": 3}}, ["data.batchsize: unknown key; did you mean 'batch_size'?"]),
        ({"data": {"name": "digits", "partition": {"name": "iid", "alpha": 1}}}, ["data.partition.alpha: unknown key"]),
        (
            {"data": {"name": "digits", "partition": "idd"}},
            ["data.partition: unknown partition 'idd'; did you mean 'iid'?"],
        ),
        ({"workers": {"total": 3, "byzantine": 4}}, ["workers: byzantine is 4, but there are only 3 workers"]),
        ({"workers": {"total": 3, "byzantine": 1, "declared": 4}}, ["workers: declared is 4, but there are only 3"]),
        ({"workers": {"total": 1, "byzantine": 4}}, ["workers: byzantine is 4, but there is only 1 worker"]),
        ({"workers": {"declared": -1}}, ["workers.declared: must be at least 0, got -1"]),
        ({"worker_momentum": "0.9"}, ["worker_momentum: a number, or a mapping of beta, kind, is needed, got '0.9'"]),
        ({"workers": 3}, ["workers: must be a mapping, got 3"]),
        ({"steps": True}, ["steps: must be a whole number, got True"]),
        ({"steps": "many", "seed": -1}, ["seed: must be at least", "steps: must be a whole number"]),
        ({"model": {"name": "mlp", "hidden": [1, "a"]}}, ["model.hidden[1]: must be a whole number, got 'a'"]),
        (
            {"executor": {"name": "ray", "actors": "all"}},
            ["executor.actors: must be 'auto' or a whole number, got 'all'"],
        ),
        (
            {"executor": {"name": "ray", "actors": 2, "workers_per_actor": 1}},
            ["executor: actors and workers_per_actor"],
        ),
        ({"optimizer": {"name": "sgd", "lr": 0.1}}, ["optimizer.lr: unknown key"]),
        ({"attack": {"name": "empire", "epsilon": float("nan")}}, ["attack.epsilon: must be a finite number"]),
        ({"attack": {"name": "empire", "epsilon": True}}, ["attack.epsilon: must be a number"]),
        ({"name": "../elsewhere"}, ["name: must be letters, digits"]),
        ({"grid": {"rule.name": []}}, ["grid.rule.name: must have at least one value"]),
    ],
)
def test_a_mistake_is_one_line_with_key_and_way_out(change, lines):
    with pytest.raises(ScenarioError) as error:
        parse_as(Study, {**SMALLEST, **change})
    said = str(error.value).splitlines()
    assert len(said) == len(lines)
    for line, expected in zip(said, lines, strict=True):
        assert line.startswith(expected)


def test_a_missing_key_is_named():
    with pytest.raises(ScenarioError, match="data: is missing"):
        parse_as(Study, {key: value for key, value in SMALLEST.items() if key != "data"})


def test_the_schema_describes_every_option_of_a_rule():
    schema = json_schema(Study)
    krum = schema["$defs"]["rule.Part.krum"]
    assert "neighbours" in krum["properties"]
    assert krum["additionalProperties"] is False
    assert schema["$defs"]["optimizer.Part.sgd"]["properties"]["momentum"]["anyOf"][0]["exclusiveMaximum"] == 1
    # every reference leads somewhere
    text = json.dumps(schema)
    assert {*re.findall(r'"#/\$defs/([^"]+)"', text)} <= {*schema["$defs"]}
    assert "x-part" not in text


def test_a_copy_is_checked_and_defaults_follow():
    run = parse_as(Study, {**SMALLEST, "workers": {"total": 9, "byzantine": 2}}).run
    assert run.replace(workers={"total": 9, "byzantine": 1}).workers.declared == 1
    assert run.replace(seed=3) == run.model_copy(update={"seed": 3}) != run
    assert len({run, run.replace(seed=3), run.replace(seed=0), run.replace(rule="krum")}) == 3
    for wrong in ({"seed": -1}, {"rule": "medain"}, {"steps": True}, {"nothing": 1}):
        with pytest.raises(ScenarioError, match=next(iter(wrong))):
            run.replace(**wrong)
    with pytest.raises(ScenarioError, match="byzantine is 10, but there are only 9"):
        run.workers.replace(byzantine=10)


def test_a_run_has_everything_that_decides_numbers_and_a_study_the_rest():
    study = parse_as(Study, {**SMALLEST, "repeats": 3, "seed": 4, "evaluate_every": 7, "executor": "loop"})
    assert [name for name in Study.model_fields if name not in Run.model_fields] == [*STUDY_KEYS]
    with pytest.raises(ScenarioError, match=r"^executor, repeats: keys of a Study and not of a Run"):
        study.run.replace(repeats=2, executor="loop")
    assert study.task.seeds == (4, 5, 6)
    assert [each.run.seed for each in study.task.repeats] == [4, 5, 6]
    assert study.task.run == study.run == parse_as(Study, {**SMALLEST, "seed": 4, "name": "other"}).run


def test_a_run_travels_to_other_processes():
    def mine(n: int, f: int, *, k: int = 1):
        """A rule of one's own."""

    beside = {"name": "little", "workers": 1, "beside": [{"name": "empire", "epsilon": 2.0}]}
    options = {
        "rule": {"name": "bulyan", "base": {"name": "krum", "distance": "plain"}},
        "attack": beside,
        "pre": ["nnm"],
    }
    run = parse_as(Study, {**SMALLEST, **options}).run
    assert pickle.loads(pickle.dumps(run)) == run
    own = run.replace(rule={"name": mine, "k": 2})
    again = cloudpickle.loads(cloudpickle.dumps(own))
    assert again.rule.options() == {"k": 2}
    assert again.attack == own.attack


def test_a_direct_mistake_is_said_as_in_a_file():
    with pytest.raises(ScenarioError) as caught:
        Run(data="digits", rule="krumm", attack="none", steps="many")
    assert sorted(line.partition(":")[0] for line in str(caught.value).splitlines()) == ["rule", "steps"]


def test_updates_to_record_must_happen():
    for rows in ([0, 200], -1, 0, [-1], "every"):
        with pytest.raises(ScenarioError, match=r"record\.rows"):
            parse_as(Study, {**SMALLEST, "record": {"rows": rows}})
    record = parse_as(Study, {**SMALLEST, "record": {"rows": 50}}).record
    assert list(record.steps(200)) == [0, 50, 100, 150]
