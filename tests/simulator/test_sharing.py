"""Runs that differ in numbers alone share what is compiled, and each has the numbers that it has alone."""

import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax.members import available, find, is_builtin
from byzax.numbers import MOST, Number, Numbers, TooMany
from byzax.simulator import executors
from byzax.simulator.executors import sharing
from tests.nightly import by_day
from tests.simulator.conftest import run, same, small

# settings with numbers that are drawn
SETTINGS = {
    "rate": lambda draw: {"optimizer": {"name": "sgd", "learning_rate": draw()}},
    "momentum": lambda draw: {"optimizer": {"name": "sgd", "learning_rate": draw(), "momentum": draw()}},
    "adam": lambda draw: {"optimizer": {"name": "adam", "learning_rate": draw(), "b1": draw()}},
    "falling": lambda draw: {"optimizer": {"name": "sgd", "learning_rate": {"name": "cosine", "start": draw()}}},
    "memory": lambda draw: {"worker_momentum": draw()},
    "penalties": lambda draw: {"regularisation": {"l1": draw(), "l2": draw(), "max_norm": 9 * draw()}},
    "clipping": lambda draw: {"clipping": {"norm": draw(), "value": draw()}},
    "local": lambda draw: {"local": {"steps": 2, "learning_rate": draw(), "proximal": draw()}},
    "controlled": lambda draw: {"local": {"steps": 2, "learning_rate": draw(), "control_variates": True}},
    "private": lambda draw: {"privacy": {"level": "worker", "clip": draw(), "noise": draw()}},
    "little": lambda draw: {"attack": {"name": "little", "z": draw()}},
    "empire": lambda draw: {"attack": {"name": "empire", "epsilon": draw()}},
    "rule": lambda draw: {"rule": {"name": "geometric_median", "nu": draw()}},
    "before": lambda draw: {"pre": [{"name": "clip", "bound": draw()}]},
}
# of a part by its name what a run with it needs besides
NEEDED = {"silent": {"schedule": {"name": "synchronous", "quorum": 9}, "latency": "exponential"}}
OWN = """
from byzax import attacks

def mine(n, f, *, strength: float = 1.0):
    assert type(strength) is float, "functions of one's own get floats"
    return attacks.build("empire", n, f, epsilon=strength)
"""


@pytest.fixture(autouse=True)
def _forget():
    sharing._PROGRAMS.clear()


def programs():
    """All programs."""
    return [program for each in sharing._PROGRAMS.values() for program in each]


def cell(**changes):
    """A short run in compiled loops."""
    return small(executor="vectorised", steps=4, evaluate_every=2, **changes)


def alone(scenario):
    """The run in a process that has seen no other."""
    sharing._PROGRAMS.clear()
    return run(scenario)


def constant(scenario, monkeypatch):
    """The run with its numbers as constants."""
    with monkeypatch.context() as patched:
        patched.setattr(sharing.Shared, "_program", lambda self: None)
        return run(scenario)


def check_cells(settings, seed, monkeypatch):
    """Some cells with drawn numbers, one after the other: each has the numbers that it has alone."""
    rng = random.Random(seed)
    cells = [cell(**settings(lambda: rng.uniform(0.1, 0.9))) for _ in range(3)]
    together = [run(each) for each in cells]
    assert [program.fails for program in programs()] == [False]
    for scenario, got in zip(cells, together, strict=True):
        assert same(got, alone(scenario))
        # XLA computes with constants ahead: their last bits may be others
        for one, other in zip(got, constant(scenario, monkeypatch), strict=True):
            np.testing.assert_allclose(one.params, other.params, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", by_day(["momentum"], SETTINGS))
def test_cells_share_one_program_and_have_the_numbers_that_they_have_alone(case, monkeypatch):
    check_cells(SETTINGS[case], case, monkeypatch)


@pytest.mark.parametrize("mutant", by_day(["a constant"], ["a constant", "an argument"]))
def test_a_number_of_the_first_cell_would_be_found(mutant, monkeypatch):
    if mutant == "a constant":
        monkeypatch.setattr(Number, "__jax_array__", lambda self: jnp.asarray(self.value))
    else:
        first = {}
        arguments = Numbers.arguments
        monkeypatch.setattr(Numbers, "arguments", lambda self: first.setdefault(self, arguments(self)))
    with pytest.raises(AssertionError):
        check_cells(SETTINGS["rate"], 0, monkeypatch)


@pytest.mark.slow
def test_what_a_number_decides_is_not_shared_with_one_that_decides_otherwise():
    scenarios = [cell(worker_momentum=beta) for beta in (0.9, 0.0, 0.5)]
    together = [run(each) for each in scenarios]
    assert len(programs()) == 2
    for scenario, got in zip(scenarios, together, strict=True):
        assert same(got, alone(scenario))


@pytest.mark.slow
def test_a_number_that_python_computes_with_elsewhere_is_a_constant():
    # the directions of signguard's sample are counted
    scenarios = [cell(rule={"name": "signguard", "share": share}) for share in (0.1, 0.5, 0.1)]
    together = [run(each) for each in scenarios]
    assert len(programs()) == 2
    for scenario, got in zip(scenarios, together, strict=True):
        assert same(got, alone(scenario))


@pytest.mark.slow
def test_runs_that_take_turns_have_their_own_numbers():
    scenarios = [cell(optimizer={"name": "sgd", "learning_rate": rate}) for rate in (0.1, 0.7)]
    with executors.session(scenarios[0].executor) as execute:
        turns = [*zip(*(execute(scenario.task) for scenario in scenarios), strict=True)]
    for scenario, got in zip(scenarios, zip(*turns, strict=True), strict=True):
        assert same(list(got), alone(scenario))


@pytest.mark.slow
def test_functions_of_ones_own_get_floats(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    for strength in (0.5, 2.0):
        got = run(cell(attack={"name": f"{tmp_path / 'own.py'}:mine", "strength": strength}))
        assert same(got, run(cell(attack={"name": "empire", "epsilon": strength})))


def test_what_takes_nothing_but_floats_gets_them(monkeypatch):
    scenario = cell(worker_momentum=0.9)
    expected = run(scenario)
    monkeypatch.setattr(Number, "__jax_array__", lambda self: object())
    got = alone(scenario)
    assert [program.fails for program in programs()] == [True]
    assert same(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in ("optimizer", "rule", "attack", "pre")
        for name in available(kind)
        if is_builtin(find(kind, name))
    ],
)
def test_every_part_takes_its_numbers_as_arguments(kind, name):
    scenario = {kind: [name] if kind == "pre" else name, **NEEDED.get(name, {})}
    run(cell(workers={"total": 11, "byzantine": 2}, **scenario))
    assert [program.fails for program in programs()] == [False]


def test_numbers_are_computed_with_as_floats():
    values = 0.3, 0.7
    numbers = Numbers(values)

    def computed(a, b):
        return [
            1 - a, a * 3, 3 * a, a / b, 2 / b, a**2, 2**a, a**b, -a, abs(-b), +a, a // 0.2, a % 0.2, 0.5 - a * b,
            a + True,
        ]  # fmt: skip

    for taken in (values, (0.9, 0.25), (1.5, 3.0)):
        assert numbers.take(taken)
        got = computed(*numbers.given)
        assert all(isinstance(each, Number) for each in got)
        assert [each.value for each in got] == computed(*taken)


@pytest.mark.parametrize(
    "decide",
    [
        lambda a: a > 0.2, lambda a: a >= 1, lambda a: a > 1, lambda a: a <= 1.7, lambda a: a == 0.5, bool, round,
        lambda a: int(a * 10), math.sqrt, lambda a: f"{a:.1f}", lambda a: float(np.float64(2) * a), math.ceil, str,
        lambda a: np.asarray(a).tolist(), lambda a: a is None, lambda a: a == "search", lambda a: max(a, 1.0) == 1.0,
    ],
)  # fmt: skip
def test_numbers_remember_what_they_decide(decide):
    for value in (0.3, 1.7, 0.5, 0.0):
        for other in (0.3, 1.7, 0.5, 0.0):
            numbers = Numbers([value])
            with numbers.watched():
                assert decide(numbers.given[0]) == decide(value)
            # others are not taken where they decide otherwise
            if numbers.take([other]):
                assert decide(other) == decide(value)
            assert numbers.take([value])


def test_numbers_take_others_where_they_decide_the_same():
    numbers = Numbers([0.3])
    with numbers.watched():
        assert numbers.given[0] * 2 > 0.5
    assert numbers.take([0.4])
    assert not numbers.take([0.2])
    assert numbers.take([0.3])
    numbers = Numbers([0.0])
    with numbers.watched():
        math.copysign(1, numbers.given[0])
    assert not numbers.take([-0.0])
    numbers = Numbers([2.0])
    1 / numbers.given[0]
    assert not numbers.take([0.0])


def test_nothing_is_decided_unseen():
    (number,) = Numbers([0.5]).given
    for read in (bool, float, str, jnp.asarray, lambda number: number > 0.1, math.sqrt):
        with pytest.raises(RuntimeError, match="outside of it"):
            read(number)


def test_more_numbers_than_there_is_room_for_are_refused():
    numbers = Numbers([0.5])
    (number,) = numbers.given
    with numbers.read_from(jnp.zeros(MOST)):
        for i in range(MOST):
            jnp.asarray(number * i)
        with pytest.raises(TooMany):
            jnp.asarray(number * MOST)


def test_numbers_have_the_type_of_floats_in_compiled_code():
    numbers = Numbers([0.5])
    (number,) = numbers.given

    def half(values, x):
        with numbers.read_from([values[0]]):
            return x * number, jnp.power(number, x), jax.jit(jnp.multiply)(x, number)

    for dtype in (jnp.float32, jnp.bfloat16):
        found = jax.jit(half)(sharing._as_array(0.5), jnp.ones(3, dtype))
        assert [each.dtype for each in found] == [dtype] * 3
