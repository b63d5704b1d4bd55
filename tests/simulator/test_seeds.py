"""Seeds of parts: what moves with each of them, and what does not."""

import jax
import numpy as np
import pytest

from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.executors.base import byzantine_updates
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.world import byzantine_ranks, load, share_out, world
from tests.simulator.conftest import at, loop, run, same, small

DATA = {"name": "digits", "batch_size": 8}


def parts(seed: int, **changes) -> dict[str, bytes]:
    """The draws of a run of this seed, by purpose."""
    scenario = small(workers={"total": 7, "byzantine": {"count": 2, "which": "random"}}, **changes)
    here = world(at(scenario, seed))
    return {
        "data": b"".join(np.asarray(each).tobytes() for each in (here.shards, here.train, here.test, here.validation)),
        "start": np.asarray(jax.random.key_data(here.start_key)).tobytes(),
        "byzantine": np.asarray(here.byzantine_rank).tobytes(),
        "batches": np.asarray(jax.random.key_data(here.key)).tobytes(),
    }


def test_each_seed_holds_its_own_part_and_no_other():
    moved = {
        "data": ({"data": {**DATA, "seed": 0}}, {"start", "byzantine", "batches"}),
        "start": ({"model": {"name": "softmax", "seed": 0}}, {"data", "byzantine", "batches"}),
        "nothing": ({}, {"data", "start", "byzantine", "batches"}),
    }
    for changes, expected in moved.values():
        zero, three = parts(0, **changes), parts(3, **changes)
        assert {name for name in zero if zero[name] != three[name]} == expected
        # seeds that are the run's own change nothing
        assert zero == parts(0)


def test_who_is_byzantine_has_a_seed_of_its_own_whether_fixed_or_drawn_for_each_update():
    def scenario(**chosen):
        return small(workers={"total": 7, "byzantine": {"count": 2, **chosen}})

    fixed = scenario(which="random", seed=5)
    assert np.array_equal(byzantine_ranks(fixed.run), byzantine_ranks(at(fixed, 1)))
    assert np.array_equal(byzantine_ranks(fixed.run), byzantine_ranks(at(scenario(which="random"), 5)))
    drawn = scenario(per_round="sampled", seed=5)
    assert np.array_equal(byzantine_updates(drawn.run, 9), byzantine_updates(at(drawn, 1), 9))
    assert np.array_equal(byzantine_updates(drawn.run, 9), byzantine_updates(at(scenario(per_round="sampled"), 5), 9))
    with pytest.raises(ScenarioError, match=r"workers\.byzantine: seed: nobody is drawn with which first"):
        scenario(seed=5)


@pytest.mark.slow
def test_seeds_equal_to_that_of_the_run_give_its_bits_in_a_batch_of_seeds_too():
    seeded = {"data": {**DATA, "seed": 0}, "model": {"name": "softmax", "seed": 0}}
    assert same(run(small(**seeded)), loop())
    batch = run(small(**seeded, executor="vectorised", repeats=2))
    starts = {each.seed: each.params for each in batch if each.step == 0}
    ends = {each.seed: each.params for each in batch if each.step == 6}
    assert np.array_equal(starts[0], starts[1])
    assert not np.allclose(ends[0], ends[1], atol=1e-4)
    np.testing.assert_allclose(ends[0], loop()[-1].params, rtol=1e-4, atol=1e-6)


def test_a_grid_over_seeds_reads_the_data_once_and_compiles_the_model_once():
    from byzax.simulator.core import build

    one, other = (small(data={**DATA, "seed": s}, model={"name": "softmax", "seed": s}) for s in (1, 2))
    assert load(one.data) is load(other.data)
    assert world(one.run).x is world(other.run).x
    assert build(one.run, 7).work is build(other.run, 7).work
    assert not np.array_equal(share_out(one.data, 7, 0)[0].test, share_out(other.data, 7, 0)[0].test)


def test_an_option_with_the_name_of_a_shared_setting_is_refused():
    def made(*, seed: int = 0):
        """Made data."""

    with pytest.raises(ScenarioError, match=r"data: .*option seed of made has a name that byzax uses for every data"):
        small(data=made)


@pytest.mark.parametrize("key", ["data", "model"])
def test_a_seed_that_cannot_be_is_refused_with_its_key(key):
    described = {"data": {"name": "digits", "seed": -1}, "model": {"name": "softmax", "seed": -1}}
    base = small().model_dump(mode="json")
    with pytest.raises(ScenarioError, match=f"{key}.seed: "):
        parse_as(Study, {**base, key: described[key]})
