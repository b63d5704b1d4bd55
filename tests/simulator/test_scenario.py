"""Scenarios: strict, frozen, and every mistake said in one line with the way out."""

import pytest

from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import ScenarioError

SMALLEST = {"name": "t", "data": "digits", "rule": "median", "attack": "empire"}


def test_four_keys_make_a_scenario():
    scenario = parse_as(Study, SMALLEST)
    assert scenario.workers.total == 15
    assert scenario.model.name == "mlp"
    assert scenario.executor.name == "ray"


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


def test_a_scenario_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        parse_as(Study, SMALLEST).steps = 3


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"rulee": 1}, ["rulee: unknown key; did you mean 'rule'? known: name, seed"]),
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
        ({"workers": 3}, ["workers: a mapping is needed, got 3"]),
        ({"steps": True}, ["steps: a whole number is needed, got True"]),
        ({"steps": "many", "seed": -1}, ["seed: must be at least", "steps: a whole number is needed"]),
        ({"model": {"name": "mlp", "hidden": [1, "a"]}}, ["model.hidden[1]: a whole number is needed, got 'a'"]),
        (
            {"executor": {"name": "ray", "actors": "all"}},
            ["executor.actors: must be 'auto', got 'all'; or a whole number"],
        ),
        (
            {"executor": {"name": "ray", "actors": 2, "workers_per_actor": 1}},
            ["executor: actors and workers_per_actor"],
        ),
        ({"optimizer": {"name": "sgd", "lr": 0.1}}, ["optimizer.lr: unknown key"]),
        ({"attack": {"name": "empire", "epsilon": float("nan")}}, ["attack.epsilon: a finite number"]),
        ({"attack": {"name": "empire", "epsilon": True}}, ["attack.epsilon: a number is needed"]),
        ({"name": "../elsewhere"}, ["name: letters, digits"]),
        ({"grid": {"rule.name": []}}, ["grid.rule.name: at least one value"]),
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
    schema = Study.model_json_schema()
    assert "neighbours" in schema["$defs"]["krum_rule"]["properties"]
    assert schema["$defs"]["krum_rule"]["additionalProperties"] is False
