"""Random scenarios of a few seeds by day and of hundreds by night; and that the fuzz sees what it is there for."""

import os
import time
import warnings
from functools import cache

import numpy as np
import pytest
import yaml

from byzax.simulator import compilation
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.executors import Loop, Ray, Vectorised
from byzax.simulator.config.schema import json_schema
from byzax.simulator.config.study import Study
from byzax.simulator.executors import RunError, compiled_updates
from byzax.simulator.mistakes import ScenarioError
from tests.fuzz import checking, fuzzing
from tests.fuzz.checking import Fault, Result, alert, check, difference, execute_alone, refusal, result
from tests.fuzz.drawing import Drawing, _plugins
from tests.fuzz.files import ABSENT, TOO_LARGE, made
from tests.fuzz.fuzzing import small, tried
from tests.fuzz.shrinking import changes, shrunk
from tests.nightly import by_day

# seeds of the night; small scenarios, by day those that compile fast
FIRST, COUNT = int(os.environ.get("BYZAX_FUZZ_FIRST", "0")), int(os.environ.get("BYZAX_FUZZ_COUNT", "300"))
RAY_EVERY = 10
SMALL_ONES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return made(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("seed", by_day([2], SMALL_ONES))
def test_a_small_random_scenario_is_refused_in_one_line_or_the_same_in_loop_and_vectorised(files, seed):
    found = tried(seed, files, cheap=True)
    assert found.fault is None, small(found, seconds=60)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_a_random_scenario_is_refused_in_one_line_or_the_same_in_all_executors(request, files, seed):
    compilation.make_room(share=0.2)
    ray = request.getfixturevalue("ray_execute") if seed % RAY_EVERY == 0 else None
    found = tried(seed, files, ray=ray)
    assert found.fault is None, small(found, ray)


def named(value, path=()):
    """Every name and key of a drawn scenario, with the keys that lead to it."""
    if isinstance(value, dict):
        if "name" in value and path:
            path = (*path, value["name"])
        for key, inner in value.items():
            yield from named(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from named(inner, path)
    else:
        yield path
        yield (*path, str(value))


@pytest.mark.slow
def test_every_choice_and_option_of_the_schema_is_drawn(files):
    drawn = {path for seed in range(4000) for path in named(Drawing(seed, files).scenario())}
    seen = {each for path in drawn for each in path}
    schema = json_schema(Study)
    missing = set()
    for definition in schema["$defs"].values():
        properties = definition.get("properties", {})
        name = properties.get("name", {}).get("const")
        if name not in ABSENT | TOO_LARGE | _plugins():
            missing |= {(name, key) for key in ({name} if name else set()) | properties.keys() if key not in seen}
    # executors are not drawn: every scenario runs in all of them
    executors = {each.model_fields["name"].default: each for each in (Loop, Vectorised, Ray)}
    unseen = {*executors, *(key for each in executors.values() for key in each.model_fields)} - seen
    # options that are given with a file, or left out, for a download or a further file would be needed
    further = {"test_path", "root", "owner", "strength"}
    assert {key for _, key in missing} - unseen - further == set()


def test_a_seed_gives_the_same_scenario_again(files):
    assert Drawing(7, files).scenario() == Drawing(7, files).scenario() != Drawing(8, files).scenario()


SMALL = {
    "name": "fuzz", "steps": 3, "evaluate_every": 1, "workers": {"total": 5, "byzantine": 1}, "rule": "median",
    "data": {"name": "gaussian_mixture", "samples": 120, "shape": [4], "classes": 3, "batch_size": 8},
    "model": "softmax", "attack": "sign_flip",
}  # fmt: skip


def small_run(**changes):
    return parse_as(Study, SMALL | {"executor": "loop"} | changes).task


@cache
def ran(seed=0):
    return result(small_run(seed=seed), execute_alone)


@pytest.mark.slow
def test_a_wrong_row_in_one_executor_is_seen(monkeypatch):
    rows_of = compiled_updates._rows_of
    wrong = lambda wave, *given: 1.001 * rows_of(wave, *given) if wave.rows else None  # noqa: E731
    monkeypatch.setattr(compiled_updates, "_rows_of", wrong)
    # compiled without that; what is compiled here is for nobody else
    compiled_updates.build_advance.cache_clear()
    try:
        with pytest.raises(Fault, match=r"^executors: vectorised differs from loop: seed 1, step 1: parameters differ"):
            check(SMALL | {"seed": 1})
    finally:
        compiled_updates.build_advance.cache_clear()


def test_a_tie_that_a_rounding_decides_is_no_fault(monkeypatch):
    one, other = ran(0), ran(1)
    monkeypatch.setattr(checking, "result", lambda task, _: one if task.executor.name == "loop" else other)
    monkeypatch.setattr(checking, "_moved", lambda task: iter([one, one]))
    with pytest.raises(Fault, match=r"^executors"):
        check(SMALL)
    # where loop itself is another when it is moved by a rounding
    monkeypatch.setattr(checking, "_moved", lambda task: iter([one, other]))
    assert check(SMALL) == "sensitive"


@pytest.mark.slow
def test_rounding_alone_moves_a_run_of_loop_by_less_than_executors_may_differ():
    expected = ran()
    for moved in checking._moved(small_run()):
        assert difference(expected, moved) is None
        assert checking._not_the_same(expected, moved)


def fault_of(execute):
    with pytest.raises(Fault) as raised, alert():
        result(small_run(), execute)
    return str(raised.value)


def warn(task):
    warnings.warn("an overflow", RuntimeWarning, stacklevel=1)
    yield from ()


def fail(task):
    raise ZeroDivisionError("of what")
    yield


def test_whatever_byzax_does_not_say_itself_is_a_fault():
    assert fault_of(warn).startswith("warning: loop: RuntimeWarning: an overflow")
    assert fault_of(fail).startswith("ZeroDivisionError: loop: of what")
    # an attack of the tests that fails on purpose
    assert fault_of(lambda task: execute_alone(small_run(attack="failing"))).startswith("run: loop: work failed")
    # what byzax foresees is none
    assert result(small_run(), stop).ended == "stopped after 2 of 3 updates"


def stop(task):
    raise RunError("stopped after 2 of 3 updates")
    yield


def test_a_computation_without_end_is_a_fault():
    def compute():
        with alert(computing_s=0.2):
            while time.process_time():
                pass

    with pytest.raises(Fault, match=r"^hang: no end within 0.2 s of computing"):
        compute()


def test_numbers_that_are_not_finite_without_a_word_are_a_fault():
    run = ran()
    broken = run.checkpoints[1]._replace(params=np.full_like(run.checkpoints[1].params, np.nan))
    with pytest.raises(Fault, match=r"^finite: after step 1 the model is not finite, and its test loss is"):
        checking._sound(run._replace(checkpoints=[broken]))
    said = broken._replace(evaluation=broken.evaluation._replace(test_loss=np.nan))
    checking._sound(run._replace(checkpoints=[said]))
    # an exchange of two Byzantine nodes has no aggregate of an honest one
    whole = run.checkpoints[1]
    nothing = whole._replace(updates=whole.updates._replace(aggregate_norm=np.array([np.nan])))
    with pytest.raises(Fault, match=r"^finite: step 1 has an aggregate that is not finite"):
        checking._sound(run._replace(checkpoints=[nothing]))
    checking._sound(run._replace(checkpoints=[nothing]), pairs=True)


def test_every_difference_of_two_runs_is_seen():
    run = ran()
    last = run.checkpoints[-1]
    far = last.params.copy()
    far[3] += 1e-4 * np.abs(far).max()
    others = {
        "parameters differ": last._replace(params=far),
        "finite of": last._replace(params=np.where(np.arange(len(far)) == 2, np.nan, far)),
        "seed, step, time": last._replace(time_s=last.time_s + 1e-9),
        "aggregate_norm": last._replace(
            updates=last.updates._replace(aggregate_norm=last.updates.aggregate_norm * 1.01)
        ),
        "test_loss": last._replace(evaluation=last.evaluation._replace(test_loss=last.evaluation.test_loss * 1.01)),
        "honest_cosine": last._replace(updates=last.updates._replace(honest_cosine=np.array([np.nan]))),
    }
    assert difference(run, run) is None
    assert checking._not_the_same(run, run) == ""
    for words, other in others.items():
        place, said = difference(run, run._replace(checkpoints=[*run.checkpoints[:-1], other]))
        assert place == 3
        assert words in said
        assert checking._not_the_same(run, run._replace(checkpoints=[*run.checkpoints[:-1], other]))
    assert difference(run, run._replace(checkpoints=run.checkpoints[:-1]))[0] == 3
    assert "the end" in difference(run, Result(run.checkpoints, "stopped after 2"))[1]
    bit = last._replace(params=np.nextafter(last.params, np.inf))
    assert (
        checking._not_the_same(run, run._replace(checkpoints=[*run.checkpoints[:-1], bit]))
        == "params of seed 0, step 3"
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ScenarioError(""), "refusal"), (ScenarioError("rule: " + 700 * "x"), "refusal"), (KeyError("rows"), "KeyError")],
)
def test_a_refusal_that_is_no_line_is_a_fault(monkeypatch, files, error, kind):
    def validate(task):
        raise error

    monkeypatch.setattr(checking, "validate", validate)
    found = tried(0, files)
    assert str(found.fault).startswith(kind)
    assert "name: fuzz" in small(found)


def test_what_a_refusal_names_is_drawn_anew(files):
    impossible = SMALL | {"rule": "krum", "workers": {"total": 6, "byzantine": 2}, "pre": ["nnm"]}
    said = refusal(impossible)
    assert said.startswith("rule")
    mended = fuzzing._mended(impossible, said, Drawing(0, files))
    assert mended["rule"] != "krum"
    assert {key: mended[key] for key in mended if key != "rule"} == {
        key: impossible[key] for key in impossible if key != "rule"
    }


def test_a_failure_shrinks_to_what_it_needs():
    large = SMALL | {
        "steps": 5, "rule": {"name": "bulyan", "median": "mid"}, "local": {"steps": 3, "proximal": 0.5},
        "pre": ["nnm", "arc"],
        "workers": {"total": 11, "byzantine": {"count": 2, "which": "random"}}, "weights": "samples",
        "attack": {"name": "little", "z": 1.5, "timing": {"name": "late", "age": 3}},
    }  # fmt: skip

    def fails(mapping):
        rule, workers = mapping["rule"], mapping.get("workers", {})
        return "bulyan" in str(rule) and "late" in str(mapping["attack"]) and workers.get("total", 15) >= 7

    assert fails(large)
    assert shrunk(large, fails) == {
        "name": "fuzz", "data": "linear_regression", "rule": "bulyan", "attack": {"name": "little", "timing": "late"},
    }  # fmt: skip
    assert all(len(yaml.safe_dump(each)) <= len(yaml.safe_dump(large)) for each in changes(large))
