"""The server's own row is made the way workers make theirs, and what is asked of a model is asked of the next one."""

import jax
import numpy as np
import pytest

from simulator.keys import Purpose, derive
from simulator.scenario import ScenarioError
from tests.simulator.conftest import run, small
from tests.simulator.test_core import new, prepared, softmax_gradient

# Every way of making rows, at one worker, whose row is then the mean of the honest ones.
WAYS = {
    "plain": {},
    "steps": {"local": {"steps": 5, "learning_rate": 0.01}},
    "epochs": {"local": {"epochs": 1, "learning_rate": 0.01}, "data": {"name": "digits", "batch_size": 100}},
    "epochs of full batches": {"local": {"epochs": 2, "learning_rate": 0.01, "last_batch": "drop"}},
    "a falling rate": {
        "local": {"steps": 3, "learning_rate": {"name": "step", "start": 0.1, "every": 2, "factor": 0.3}}
    },
    "adam": {"local": {"steps": 4, "optimizer": {"name": "adam", "learning_rate": 0.01}}},
    "proximal": {"local": {"steps": 8, "learning_rate": 0.1, "proximal": 5.0}},
    "control variates": {"local": {"steps": 3, "learning_rate": 0.1, "control_variates": True}},
    "clipping": {"clipping": {"norm": 0.1}, "local": {"steps": 5, "learning_rate": 0.1}},
    "penalties": {"regularisation": {"l2": 3.0, "l1": 0.3}},
    "momentum": {"worker_momentum": 0.9},
    "heavy ball": {"worker_momentum": {"beta": 0.9, "kind": "heavy_ball"}},
    "saga": {"variance_reduction": "saga", "data": {"name": "digits", "batch_size": 400}},
    "saga and momentum": {"variance_reduction": "saga", "worker_momentum": 0.5},
    "augmented": {"data": {"name": "digits", "batch_size": 32, "augment": [{"name": "cutout", "size": 7}]}},
    "dropout": {"model": {"name": "mlp", "hidden": [50], "dropout": 0.8}},
}
BY_DAY = ("steps", "epochs", "heavy ball", "saga")


def lengths(**changes) -> tuple[np.ndarray, np.ndarray]:
    """In each update the length of the server's own row, and of the row of the only worker."""
    scenario = small(**{
        "rule": "own_row", "attack": "none", "steps": 12, "evaluate_every": 12,
        "workers": {"total": 1, "byzantine": 0}, "data": {"name": "digits", "batch_size": 32},
        "optimizer": {"name": "sgd", "learning_rate": 0.01}, **changes,
    })  # fmt: skip
    seen = run(scenario)[-1].updates
    own, cosine, gap = seen.aggregate_norm, seen.honest_cosine, seen.honest_distance
    return own, own * cosine + np.sqrt(np.maximum(gap**2 - own**2 * (1 - cosine**2), 0))


@pytest.mark.parametrize("way", [pytest.param(w, marks=[] if w in BY_DAY else pytest.mark.slow) for w in WAYS])
def test_the_servers_own_row_is_as_long_as_that_of_an_honest_worker_in_every_way_of_making_rows(way):
    own, honest = lengths(**WAYS[way])
    assert np.mean(own) == pytest.approx(np.mean(honest), rel=0.3)
    # also how it grows or falls over a run
    assert own[-1] / own[0] == pytest.approx(honest[-1] / honest[0], rel=0.4)


def test_with_local_steps_the_servers_row_is_what_its_own_batches_change():
    local = {"steps": 4, "learning_rate": 0.3, "proximal": 2.0}
    _, core, here, server = prepared(rule="own_row", local=local, regularisation={"l2": 0.5})
    draw = jax.random.fold_in(derive(here.key, Purpose.RULE, 0), int(Purpose.SERVER_BATCH))
    start = at = np.asarray(server.params, np.float64)
    for number in range(4):
        places = jax.random.randint(jax.random.fold_in(draw, number), (8,), 0, len(here.own))
        position = np.asarray(here.own)[np.asarray(places)]
        x, y = np.asarray(here.x, np.float64)[position].reshape(8, -1), np.asarray(here.y)[position]
        at = at - 0.3 * (softmax_gradient(at, x, y) + 0.5 * at + 2.0 * (at - start))
    after, _ = core.update(here, server, new(range(7)), np.zeros((7, 650), np.float32))
    np.testing.assert_allclose(np.asarray(server.params) - after.params, start - at, rtol=1e-3, atol=1e-6)


def test_the_servers_momentum_moves_where_its_row_is_asked_for_and_not_by_an_adversary_that_guesses():
    changes = {"worker_momentum": {"beta": 0.5, "kind": "heavy_ball"}, "optimizer": {"name": "sgd", "learning_rate": 1}}
    _, core, here, server = prepared(rule="own_row", attack="counting", **changes)
    _, plain, _, bare = prepared(rule="own_row", attack="counting", optimizer=changes["optimizer"])
    rows, velocity = np.ones((7, 650), np.float32), 0.0
    for _ in range(3):
        core.forge(here, server.step, new(range(7)), rows, server, core.adversary(650))
        gradient = server.params - plain.update(here, bare._replace(params=server.params, step=server.step),
                                                new(range(7)), rows)[0].params  # fmt: skip
        velocity = 0.5 * velocity + np.asarray(gradient, np.float64)
        after, _ = core.update(here, server, new(range(7)), rows)
        np.testing.assert_allclose(np.asarray(server.params) - after.params, velocity, rtol=1e-3, atol=1e-5)
        server = after


@pytest.mark.parametrize(("rate", "best"), [(0.1, 1), (4.0, 0)])
def test_zeno_judges_the_step_that_the_server_takes(rate, best):
    optimizer = {"name": "sgd", "learning_rate": rate}
    data = {"name": "digits", "batch_size": 500}
    rule = {"name": "zeno", "rho": 0.0}
    changes = {"workers": {"total": 2, "byzantine": 1}, "rule": rule, "optimizer": optimizer, "data": data}
    _, core, here, server = prepared(**changes)
    gradient = np.asarray(core.work(here, server.params, 1, 0, 0))
    # at a small rate the longer of the two goes down more, at a large one it goes too far
    _, seen = core.update(here, server, new(range(2)), np.stack([gradient, 8 * gradient]))
    assert float(seen.byzantine_weight) == (1.0 if best == 0 else 0.0)


def test_an_adversary_knows_where_an_aggregate_leads_with_the_servers_rate_and_momentum():
    optimizer = {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9}
    for local in ({}, {"local": {"steps": 2, "send": "model"}}):
        _, core, here, server = prepared(attack="arriving", optimizer=optimizer, **local)
        for seed in range(2):
            rows = np.random.default_rng(seed).normal(size=(7, 650)).astype(np.float32)
            forged, _ = core.forge(here, server.step, new(range(7)), rows, server, core.adversary(650))
            server, _ = core.update(here, server, new(range(7)), rows)
            np.testing.assert_allclose(forged[0], server.params, rtol=1e-5, atol=1e-6)


def test_rules_that_compare_changes_refuse_models_and_harm_by_loss_does_not():
    from experiments.building import build

    local = {"steps": 2, "learning_rate": 0.1, "send": "model"}
    for rule in ("fltrust", "zeno"):
        with pytest.raises(ScenarioError, match=f"rule: {rule}.* with local.send model they are models: take delta"):
            build(small(rule=rule, local=local))
    build(small(rule="median", local=local, attack={"name": "optimised", "measure": "loss"}))
