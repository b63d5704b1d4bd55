"""Filters in a run: what a refused row leaves as it is, and what a filter saves."""

import jax
import numpy as np
import pytest

from byzax.simulator.core import build
from byzax.simulator.executors.base import plan
from byzax.simulator.senders import Arrivals
from byzax.simulator.world import world
from tests.nightly import by_day
from tests.simulator.conftest import run, small

EACH = {"schedule": {"name": "asynchronous", "apply": "each"}, "latency": {"name": "lognormal", "sigma": 0.3}}
SEVEN = {"workers": {"total": 7, "byzantine": 2}, **EACH}
MOMENTUM = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}


def same(one, other):
    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=True), one, other))


def judged(core, here, server, worker, row):
    """The server after one row of this worker, and what was seen of it."""
    return core.update(here, server, Arrivals(np.array([worker]), np.asarray(server.step)[None]), row[None])[:2]


@pytest.mark.parametrize("optimizer", by_day([MOMENTUM], (MOMENTUM, "adam", "adamw")))
def test_a_refused_row_leaves_model_optimizer_and_rule_as_they_are(optimizer):
    scenario = small(**SEVEN, filter="kardam", rule="remembering", optimizer=optimizer)
    core, here = build(scenario.run, 1), world(scenario.run)
    server, rows = core.start(here), np.random.default_rng(0).normal(size=(7, 650)).astype(np.float32)
    for worker in range(6):
        server, _ = judged(core, here, server, worker, rows[worker])
    # something is moving
    assert not same(server.params, core.start(here).params)
    for bad in (np.full(650, np.nan, np.float32), 1e30 * rows[6]):
        after, seen = judged(core, here, server, 6, bad)
        assert same((server.params, server.optimizer, server.rule), (after.params, after.optimizer, after.rule))
        assert after.step == server.step + 1
        assert (seen.accepted, seen.aggregate_norm, seen.undecided) == (0, 0, 0)
        assert not same(server.filter, after.filter)
        good, _ = judged(core, here, after, 5, rows[5])
        assert np.isfinite(good.params).all()
    # one shape, compiled once
    assert core.update._cache_size() == 1


def test_an_accepted_row_is_the_one_that_the_filter_hands_on():
    scenario = small(**SEVEN, filter={"name": "kardam", "dampening": "inverse"}, optimizer={"name": "sgd"})
    plain = small(**SEVEN, optimizer={"name": "sgd"})
    here, rows = world(scenario.run), np.random.default_rng(0).normal(size=(7, 650)).astype(np.float32)
    core, without = build(scenario.run, 1), build(plain.run, 1)
    server, accepted = core.start(here), 0
    for worker in range(7):
        before = server
        # handed two versions ago: a third of the weight
        arrived = Arrivals(np.array([worker]), np.asarray(server.step)[None] - 2)
        server, seen, _ = core.update(here, server, arrived, rows[[worker]])
        if seen.accepted:
            expected, alone = judged(without, here, before._replace(filter=None), worker, rows[worker] / 3)
            np.testing.assert_allclose(server.params, expected.params, rtol=1e-5, atol=1e-7)
            assert alone.accepted == 1
            accepted += 1
    assert accepted


@pytest.mark.slow
def test_behind_a_filter_no_row_counts_as_byzantine_and_of_one_row_no_more_than_one_can_be():
    for filter in ("kardam", None):
        scenario = small(workers={"total": 10, "byzantine": 3}, **EACH, filter=filter)
        assert len(run(scenario)[-1].updates.accepted) == 2
    with pytest.raises(ValueError, match=r"a filter judges single rows, .* sees 7"):
        build(small(filter="kardam").run, 7)


# and how many of the Byzantine rows get through: Zeno++ shortens them, and near the end most rows are noise
FILTERS = {
    "kardam": ({"name": "kardam", "dampening": "constant"}, 0.05),
    "zeno_plus_plus": ("zeno_plus_plus", 0.35),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILTERS)
def test_plain_asynchrony_fails_where_a_filter_stands(name):
    chosen, most = FILTERS[name]
    changes = {
        "workers": {"total": 12, "byzantine": 2}, "attack": {"name": "sign_flip", "scale": 10.0}, "steps": 500,
        "data": {"name": "digits", "batch_size": 32}, "evaluate_every": 500, "executor": "vectorised", **EACH,
    }  # fmt: skip
    plain, guarded = (run(small(**changes, filter=filter))[-1] for filter in (None, chosen))
    assert plain.evaluation.test_accuracy < 0.3
    assert guarded.evaluation.test_accuracy > 0.8
    assert plain.updates.accepted.all()
    lies = plan(small(**changes).run).rows.workers < 2
    assert guarded.updates.accepted[lies].mean() < most
    assert guarded.updates.accepted[~lies].mean() > 0.6


@pytest.mark.slow
def test_the_frequency_filter_holds_byzantine_workers_that_are_always_first():
    changes = {
        "workers": {"total": 10, "byzantine": 3}, "attack": {"name": "empire", "epsilon": 1.1, "timing": "first"},
        "steps": 400, "evaluate_every": 400, "executor": "vectorised", "filter": FILTERS["kardam"][0], **EACH,
    }  # fmt: skip
    scenario = small(**changes)
    lies = plan(scenario.run).rows.workers < 3
    assert lies.mean() > 0.7
    accepted = run(scenario)[-1].updates.accepted == 1
    assert accepted.sum() > 50
    assert lies[accepted].mean() <= 0.5
