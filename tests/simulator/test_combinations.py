"""Combinations of a study: grid, zip, when, exclude, include and ranges, against loops in plain Python."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import byzax
from byzax.experiments import study as studies
from byzax.experiments.api import described
from byzax.experiments.entries import entries_of
from byzax.experiments.strict_yaml import dump, parse_text
from byzax.simulator.config.base import parse_as, thaw
from byzax.simulator.config.grid import expand
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import ScenarioError

BASE = {"name": "s", "data": "digits", "model": "softmax", "rule": "krum", "attack": "none"}


def choices(**keys):
    return [cell.choices for cell in expand(parse_as(Study, {**BASE, **keys})).cells]


def test_values_of_zip_go_together_and_with_every_combination_of_the_grid():
    found = choices(grid={"seed": [0, 1]}, zip={"steps": [10, 20, 30], "data.batch_size": [8, 16, 32]})
    assert found == [
        {"seed": seed, "steps": steps, "data.batch_size": batch}
        for seed in (0, 1)
        for steps, batch in ((10, 8), (20, 16), (30, 32))
    ]


def test_several_groups_of_zip_are_combined():
    found = choices(zip=[{"steps": [1, 2], "evaluate_every": [3, 4]}, {"seed": [5, 6], "data.batch_size": [7, 8]}])
    assert [tuple(each.values()) for each in found] == [(1, 3, 5, 7), (1, 3, 6, 8), (2, 4, 5, 7), (2, 4, 6, 8)]


def test_a_key_of_when_is_swept_where_its_condition_holds():
    found = choices(
        grid={"attack": ["none", "little", "empire"]},
        when=[
            {"where": {"attack.name": "little"}, "grid": {"attack.z": [1.0, 1.5]}},
            {"where": {"attack": "empire"}, "grid": {"attack.epsilon": {"from": 1, "to": 3}}},
        ],
    )
    assert found == [
        {"attack": "none"},
        {"attack": "little", "attack.z": 1.0},
        {"attack": "little", "attack.z": 1.5},
        *({"attack": "empire", "attack.epsilon": value} for value in (1, 2, 3)),
    ]


def test_exclude_and_include():
    found = choices(
        grid={"rule.name": ["krum", "median"], "workers.byzantine": [1, 2, 3]},
        exclude=[{"rule.name": "krum", "workers.byzantine": [2, 3]}],
        include={"rule.name": "bulyan", "workers.byzantine": 1},
    )
    assert [tuple(each.values()) for each in found] == [
        ("krum", 1), ("median", 1), ("median", 2), ("median", 3), ("bulyan", 1),
    ]  # fmt: skip


def test_a_part_is_asked_for_by_its_name_however_it_is_written():
    for written in ("krum", {"name": "krum"}):
        for asked in ({"rule": "krum"}, {"rule": {"name": "krum"}}, {"rule.name": "krum"}):
            assert choices(grid={"rule": [written, "median"]}, exclude=[asked]) == [{"rule": "median"}]
        with_options = {"name": "krum", "distance": "plain"}
        assert len(choices(grid={"rule": [written, with_options]}, exclude=[{"rule": "krum"}])) == 1


def test_include_alone_lists_the_combinations():
    assert choices(include=[{"rule": "median"}, {"rule": "krum", "seed": 4}]) == [
        {"rule": "median"},
        {"rule": "krum", "seed": 4},
    ]


KEYS = ("seed", "steps", "data.batch_size", "evaluate_every")
LISTS = st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_study_has_the_combinations_of_plain_loops(data):
    grid = data.draw(st.dictionaries(st.sampled_from(KEYS[:2]), LISTS, min_size=1))
    batches, every = data.draw(LISTS), data.draw(LISTS)
    length = min(len(batches), len(every))
    group = {"data.batch_size": batches[:length], "evaluate_every": every[:length]}
    first = next(iter(grid))
    patterns = [{first: data.draw(st.sampled_from(grid[first]))}] if data.draw(st.booleans()) else []
    where = {"data.batch_size": data.draw(st.sampled_from(group["data.batch_size"]))}
    further = data.draw(LISTS)
    wanted = [{}]
    for key, values in grid.items():
        wanted = [{**each, key: value} for each in wanted for value in values]
    wanted = [
        {**each, "data.batch_size": batch, "evaluate_every": number}
        for each in wanted
        for batch, number in zip(*group.values(), strict=True)
    ]
    wanted = [
        more
        for each in wanted
        for more in (
            [{**each, "workers.total": 20 + value} for value in further]
            if each["data.batch_size"] == where["data.batch_size"]
            else [each]
        )
    ]
    for pattern in patterns:
        wanted = [each for each in wanted if any(each[key] != value for key, value in pattern.items())]
    keys = {
        "grid": grid,
        "zip": group,
        "when": [{"where": where, "grid": {"workers.total": [20 + value for value in further]}}],
        "exclude": patterns,
    }
    if not wanted:
        with pytest.raises(ScenarioError, match="leaves no combination"):
            choices(**keys)
        return
    assert choices(**keys) == wanted
    # what is written is read back the same
    study = parse_as(Study, {**BASE, **keys})
    again = parse_as(Study, parse_text(dump(study.given()), "again"))
    assert [cell.choices for cell in expand(again).cells] == wanted


@pytest.mark.parametrize(
    ("given_range", "values"),
    [
        ({"from": 1, "to": 4}, [1, 2, 3, 4]),
        ({"from": 1, "to": 8, "step": 3}, [1, 4, 7]),
        ({"from": 0.0, "to": 0.3, "step": 0.1}, [0.0, 0.1, 0.2, 0.3]),
        ({"from": 0, "to": 10, "count": 3}, [0, 5, 10]),
        ({"from": 0, "to": 1, "count": 5}, [0, 0.25, 0.5, 0.75, 1]),
        ({"from": 0.001, "to": 1.0, "count": 4, "scale": "log"}, [0.001, 0.01, 0.1, 1.0]),
        ({"from": 1, "to": 100, "count": 3, "scale": "log"}, [1, 10, 100]),
        ({"from": 3, "to": 3}, [3]),
    ],
)
def test_a_range_stands_for_its_values(given_range, values):
    study = parse_as(Study, {**BASE, "grid": {"optimizer.learning_rate": given_range}})
    found = study.grid["optimizer.learning_rate"]
    assert list(found) == values
    assert [type(one) for one in found] == [type(one) for one in values] or not all(isinstance(v, int) for v in values)


@given(st.floats(1e-6, 1e3), st.floats(1.01, 1e4), st.integers(2, 30), st.sampled_from(["linear", "log"]))
def test_a_range_by_count_ends_where_it_says_at_equal_distances(first, factor, count, scale):
    last = first * factor
    keys = {"from": first, "to": last, "count": count, "scale": scale}
    values = list(parse_as(Study, {**BASE, "grid": {"optimizer.learning_rate": keys}}).grid["optimizer.learning_rate"])
    assert len(values) == count
    assert (values[0], values[-1]) == (first, last)
    scaled = [math.log(value) for value in values] if scale == "log" else values
    apart = [after - before for before, after in itertools.pairwise(scaled)]
    assert max(apart) - min(apart) <= 1e-6 * max(map(abs, scaled)) + 1e-6 * max(apart)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"grid": {"steps": {"from": 4, "to": 1}}}, ["grid.steps", "to must be at least from", "{from: 1, to: 4}"]),
        ({"grid": {"steps": {"from": 1}}}, ["grid.steps", "to: "]),
        ({"grid": {"steps": {"from": 1, "to": 2, "by": 1}}}, ["grid.steps", "by: "]),
        ({"grid": {"steps": {"from": 1, "to": 9, "step": 1, "count": 3}}}, ["step and count: give one"]),
        ({"grid": {"steps": {"from": 0, "to": 9, "count": 3, "scale": "log"}}}, ["from above 0"]),
        ({"grid": {"steps": {"from": 1, "to": 1_000_000}}}, ["more than 10000 values"]),
        ({"zip": {"steps": [1, 2], "seed": [1]}}, ["zip: ", "2 of steps and 1 of seed", "equally long"]),
        ({"grid": {"steps": [1]}, "zip": {"steps": [1]}}, ["zip.steps: is in grid too"]),
        ({"zip": [{"steps": [1]}, {"steps": [2]}]}, ["zip[1].steps: is in zip[0] too"]),
        ({"zip": {"stpes": [1]}}, ["zip.stpes: unknown key; did you mean 'steps'"]),
        ({"zip": [1]}, ["zip", "mapping"]),
        ({"grid": {"steps": [1, 2]}, "exclude": [{"steps": 3}]}, ["exclude[0]: no combination has steps=3"]),
        ({"grid": {"steps": [1, 2]}, "exclude": [{"steps": [1, 2]}]}, ["exclude: leaves no combination"]),
        (
            {"grid": {"steps": [1]}, "when": [{"where": {"steps": 2}, "grid": {"seed": [1]}}]},
            ["when[0].where: no combination has steps=2"],
        ),
        (
            {"grid": {"steps": [1]}, "when": [{"where": {"steps": 1}, "grid": {"steps": [1]}}]},
            ["when[0].grid.steps: is swept already"],
        ),
        ({"when": [{"where": {"steps": 1}}]}, ["when[0].grid: is missing"]),
        ({"include": [{"repeats": 2}]}, ["include.repeats: this key cannot be swept"]),
        ({"include": [{"rule.nam": 2}]}, ["rule.nam: unknown key"]),
        ({"grid": {"steps": [1]}, "include": [{"steps": 1}]}, ["the same run twice"]),
    ],
)
def test_mistakes_name_the_place_and_the_way_out(keys, words):
    with pytest.raises(ScenarioError) as error:
        choices(**keys)
    for word in words:
        assert word in str(error.value), str(error.value)


STUDY = {
    **BASE,
    "grid": {"rule.name": ["median", "krum"], "attack": ["none", "little"]},
    "zip": {"data.batch_size": [8, 16], "steps": [1, 2]},
    "when": [{"where": {"attack": "little"}, "grid": {"attack.z": [1, 2]}}],
    "exclude": [{"rule.name": "krum", "data.batch_size": 16}],
    "include": [{"rule": "bulyan", "attack": "sign_flip"}],
}


def test_all_runs_of_a_study_have_the_same_columns():
    entries = entries_of(described(STUDY, {}))
    assert {tuple(entry.others) for entry in entries} == {("data.batch_size", "steps")}
    assert entries[-1].others == {"data.batch_size": "default", "steps": "200"}
    assert len({entry.slug for entry in entries}) == len(entries)


@pytest.mark.parametrize(
    ("key", "value", "number"),
    [
        ("steps", 3, 10),  # batch sizes go on without it
        ("attack", "none", 4),  # nothing of when; three of the grid and that of include
        ("attack", "little", 4),  # ends the sweep over attack.z, too
        ("rule", "median", 7),  # nothing is excluded
        ("data.batch_size", 8, 13),  # nothing is excluded
    ],
)
def test_a_key_that_is_set_is_varied_no_more(key, value, number):
    cells = described(STUDY, {key: value}).cells
    assert len(cells) == number
    assert all(key not in cell.choices for cell in cells)


def test_extends_sets_keys_over_those_of_another_file(tmp_path):
    (tmp_path / "base.yaml").write_text(dump({**STUDY, "workers": {"total": 12, "byzantine": 2}}))
    (tmp_path / "middle.yaml").write_text("extends: base.yaml\nworkers: {byzantine: 1}\ninclude: []\n")
    (tmp_path / "last.yaml").write_text("extends: middle.yaml\nname: last\ngrid: {rule.name: [median]}\nexclude: []\n")
    expansion = studies.load(tmp_path / "last.yaml")
    assert expansion.study.name == "last"
    assert (expansion.study.workers.total, expansion.study.workers.byzantine.count) == (12, 1)
    assert thaw(expansion.study.grid) == {"rule.name": ["median"], "attack": ["none", "little"]}
    assert len(expansion.cells) == 6
    assert "extends" not in expansion.study.given()
    assert byzax.describe(tmp_path / "last.yaml") == expansion.study


def test_extends_takes_the_name_of_a_scenario_that_comes_with_byzax(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: quickstart\nname: mine\nsteps: 7\n")
    assert studies.load(tmp_path / "mine.yaml").study.steps == 7
    assert studies.load(tmp_path / "mine.yaml").study.rule == byzax.describe("quickstart").rule


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a": "extends: a.yaml\n"}, ["a.yaml: extends: ", "circle"]),
        ({"a": "extends: b.yaml\n", "b": "extends: a.yaml\n"}, ["circle"]),
        ({"a": "extends: c.yaml\n"}, ["c.yaml: no such file"]),
        ({"a": "extends: [b.yaml]\n"}, ["extends: the path of a scenario is needed"]),
        ({"a": "extends: b.yaml\nsteps: many\n", "b": dump(BASE)}, ["a.yaml", "steps"]),
        ({"a": "extends: b.yaml\nsteps: {x: 1}\n", "b": dump(BASE)}, ["a.yaml", "steps"]),
    ],
)
def test_a_file_that_cannot_be_extended_is_named(tmp_path, files, words):
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(ScenarioError) as error:
        studies.load(tmp_path / "a.yaml")
    for word in words:
        assert word in str(error.value), str(error.value)
