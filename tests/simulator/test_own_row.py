"""The server's own row is made the way workers make theirs, and what is asked of a model is asked of the next one."""

import jax
import numpy as np
import pytest

from byzax.simulator import core, jobs, memories, server_row
from byzax.simulator.core import build
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.validation import validate
from byzax.simulator.world import world
from tests.nightly import by_day, by_night
from tests.simulator.conftest import run, small
from tests.simulator.test_core import new, prepared, softmax_gradient

# Every way of making rows.
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
# each compiles a server and a worker of its own
ways = pytest.mark.parametrize("way", by_day(["saga and momentum"], WAYS))


@pytest.fixture
def keys_of_the_server(monkeypatch):
    """Workers draw in job t with the keys that the server's row of update t is made with."""

    def drawn(root, purpose, worker, job):
        own = Purpose.SERVER_BATCH if purpose == Purpose.WORK else purpose
        return jax.random.fold_in(derive(root, Purpose.RULE, job), int(own))

    # the functions that are compiled with these keys are for this test alone
    for kept in (jobs.build_work, memories.with_job_keys):
        kept.cache_clear()
    for module in (jobs, memories):
        monkeypatch.setattr(module, "derive", drawn)
    yield
    for kept in (jobs.build_work, memories.with_job_keys):
        kept.cache_clear()


@ways
def test_the_servers_row_is_that_of_a_worker_who_holds_its_samples_and_draws_with_its_keys(way, keys_of_the_server):
    # each of the 7 workers holds as many samples as the server: their numbers of steps are its own
    data = {"name": "digits", "batch_size": 32} | WAYS[way].get("data", {})
    changes = {"rule": "own_row", "optimizer": {"name": "sgd", "learning_rate": 1.0}} | WAYS[way] | {"data": data}
    _, functions, here, server = prepared(**changes)
    assert int(here.sizes.max()) == len(here.validation) == 180
    there = here._replace(shards=here.validation[None], sizes=np.array([len(here.validation)]))
    kept = functions.memory and functions.memory.start(there, len(server.params))
    rows = np.zeros((7, len(server.params)), np.float32)
    for step in range(4):
        params, own = server.params, ()
        if functions.memory and functions.memory.receive:
            kept = functions.memory.receive(kept, params)
            own = (kept,)
        row = functions.work(there, params, 0, step, step, *own)
        if functions.memory:
            kept, row = functions.memory.remember(there, kept, row, 0, step)
        server, _, _ = functions.update(here, server, new(range(7)), rows)
        np.testing.assert_allclose(params - server.params, row, rtol=1e-5, atol=1e-6)
        assert np.abs(row).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("way", ["epochs", "epochs of full batches"])
def test_with_epochs_the_servers_row_is_as_long_as_that_of_a_worker_with_more_samples(way):
    scenario = small(**{
        "rule": "own_row", "attack": "none", "steps": 12, "evaluate_every": 12,
        "workers": {"total": 1, "byzantine": 0}, "data": {"name": "digits", "batch_size": 32},
        "optimizer": {"name": "sgd", "learning_rate": 0.01}, **WAYS[way],
    })  # fmt: skip
    seen = run(scenario)[-1].updates
    own, cosine, gap = seen.aggregate_norm, seen.honest_cosine, seen.honest_distance
    # the row of the only worker is the mean of the honest ones
    honest = own * cosine + np.sqrt(np.maximum(gap**2 - own**2 * (1 - cosine**2), 0))
    assert np.mean(own) == pytest.approx(np.mean(honest), rel=0.3)


def test_with_local_steps_the_servers_row_is_what_its_own_batches_change():
    local = {"steps": 4, "learning_rate": 0.3, "proximal": 2.0}
    _, functions, here, server = prepared(rule="own_row", local=local, regularisation={"l2": 0.5})
    draw = jax.random.fold_in(derive(here.key, Purpose.RULE, 0), int(Purpose.SERVER_BATCH))
    start = at = np.asarray(server.params, np.float64)
    for number in range(4):
        places = jax.random.randint(jax.random.fold_in(draw, number), (8,), 0, len(here.validation))
        position = np.asarray(here.validation)[np.asarray(places)]
        x, y = np.asarray(here.x, np.float64)[position].reshape(8, -1), np.asarray(here.y)[position]
        at = at - 0.3 * (softmax_gradient(at, x, y) + 0.5 * at + 2.0 * (at - start))
    after, _, _ = functions.update(here, server, new(range(7)), np.zeros((7, 650), np.float32))
    np.testing.assert_allclose(np.asarray(server.params) - after.params, start - at, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_the_servers_momentum_moves_where_its_row_is_asked_for_and_not_by_an_adversary_that_guesses():
    changes = {"worker_momentum": {"beta": 0.5, "kind": "heavy_ball"}, "optimizer": {"name": "sgd", "learning_rate": 1}}
    _, functions, here, server = prepared(rule="own_row", attack="counting", **changes)
    _, plain, _, bare = prepared(rule="own_row", attack="counting", optimizer=changes["optimizer"])
    rows, velocity = np.ones((7, 650), np.float32), 0.0
    for _ in range(3):
        functions.forge(here, server.step, new(range(7)), rows, server, functions.init_adversary(650))
        gradient = server.params - plain.update(here, bare._replace(params=server.params, step=server.step),
                                                new(range(7)), rows)[0].params  # fmt: skip
        velocity = 0.5 * velocity + np.asarray(gradient, np.float64)
        after, _, _ = functions.update(here, server, new(range(7)), rows)
        np.testing.assert_allclose(np.asarray(server.params) - after.params, velocity, rtol=1e-3, atol=1e-5)
        server = after


@pytest.fixture
def made(monkeypatch):
    """A list with an entry for each row of the server's own that was made."""
    entries = []

    def build(*given):
        own = server_row.build_server_row(*given)

        def row(*asked):
            jax.debug.callback(lambda: entries.append(True))
            return own.make(*asked)

        return own._replace(make=row)

    monkeypatch.setattr(core, "build_server_row", build)
    return entries


@pytest.mark.parametrize("memory", [by_night({}), {"worker_momentum": 0.5}, by_night({"variance_reduction": "saga"})])
@pytest.mark.parametrize("attack", [by_night("fang"), "optimised"])
def test_an_adversary_that_asks_the_rule_many_times_makes_the_servers_row_once(memory, attack, made):
    _, functions, here, server = prepared(rule="fltrust", attack=attack, **memory)
    rows = np.random.default_rng(0).normal(size=(7, 650)).astype(np.float32)
    functions.forge(here, server.step, new(range(7)), rows, server, functions.init_adversary(650))
    jax.effects_barrier()
    assert len(made) == 1


@pytest.mark.slow
@pytest.mark.parametrize("memory", [{}, {"worker_momentum": 0.5}, {"variance_reduction": "saga"}])
def test_a_filter_with_a_delay_makes_the_servers_row_for_the_first_of_so_many_rows(memory, made):
    scenario = small(
        filter={"name": "zeno_plus_plus", "delay": 3}, schedule={"name": "asynchronous", "apply": "each"}, **memory
    )
    functions, here = build(scenario.run, 1), world(scenario.run)
    server = functions.start(here)
    for number, times in enumerate((1, 1, 1, 2, 2, 2, 3)):
        server, _, _ = functions.update(here, server, new([number]), np.ones((1, 650), np.float32))
        jax.effects_barrier()
        assert len(made) == times


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "best"), [(0.1, 1), (4.0, 0)])
def test_zeno_judges_the_step_that_the_server_takes(rate, best):
    optimizer = {"name": "sgd", "learning_rate": rate}
    data = {"name": "digits", "batch_size": 500}
    rule = {"name": "zeno", "rho": 0.0}
    changes = {"workers": {"total": 2, "byzantine": 1}, "rule": rule, "optimizer": optimizer, "data": data}
    _, functions, here, server = prepared(**changes)
    gradient = np.asarray(functions.work(here, server.params, 1, 0, 0))
    # at a small rate the longer of the two goes down more, at a large one it goes too far
    _, seen, _ = functions.update(here, server, new(range(2)), np.stack([gradient, 8 * gradient]))
    assert float(seen.byzantine_weight) == (1.0 if best == 0 else 0.0)


def test_an_adversary_knows_where_an_aggregate_leads_with_the_servers_rate_and_momentum():
    optimizer = {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9}
    for local in ({}, {"local": {"steps": 2, "send": "model"}}):
        _, functions, here, server = prepared(attack="arriving", optimizer=optimizer, **local)
        for seed in range(2):
            rows = np.random.default_rng(seed).normal(size=(7, 650)).astype(np.float32)
            forged, _ = functions.forge(here, server.step, new(range(7)), rows, server, functions.init_adversary(650))
            # what an attack makes is a descent, also where rows are models
            shown = server.params - forged[0] if local else forged[0]
            server, _, _ = functions.update(here, server, new(range(7)), rows)
            np.testing.assert_allclose(shown, server.params, rtol=1e-5, atol=1e-6)


def test_rules_that_compare_changes_refuse_models_and_harm_by_loss_does_not():
    local = {"steps": 2, "learning_rate": 0.1, "send": "model"}
    for rule in ("fltrust", "zeno"):
        with pytest.raises(ScenarioError, match=f"rule: {rule}.* with local.send model they are models: take delta"):
            validate(small(rule=rule, local=local).task)
    validate(small(rule="median", local=local, attack={"name": "optimised", "measure": "loss"}).task)
