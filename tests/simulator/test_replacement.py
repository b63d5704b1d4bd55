"""Rows of Byzantine workers where rows are changes or models, weigh by samples, or meet a server with a rate."""

import jax.numpy as jnp
import numpy as np
import pytest

from byzax.simulator.core import build
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.senders import Arrivals
from byzax.simulator.validation import validate
from byzax.simulator.world import world
from tests.nightly import by_night
from tests.simulator.conftest import small

SHARES = {"name": "digits", "batch_size": 8, "partition": {"name": "dirichlet", "alpha": 0.5}}
LOCAL = {"steps": 1, "learning_rate": 0.1}
EVERYONE = Arrivals(np.arange(7), np.zeros(7, int))
ROWS = 0.1 * np.random.default_rng(0).normal(size=(7, 650)).astype(np.float32)


def prepared(**changes):
    scenario = small(**{"workers": {"total": 7, "byzantine": 2}} | changes)
    core, here = build(scenario.run, 7), world(scenario.run)
    return core, here, core.start(here)


def forged(core, here, server, rows, step=0):
    state = core.init_adversary(rows.shape[1])
    return np.asarray(core.forge(here, jnp.asarray(step), EVERYONE, jnp.asarray(rows), server, state)[0])


@pytest.mark.parametrize(
    ("changes", "eta"),
    [
        ({"local": LOCAL, "optimizer": {"name": "sgd", "learning_rate": 0.5}}, 0.5),
        (
            {"local": LOCAL, "optimizer": {"name": "sgd", "learning_rate": 0.5}, "weights": "samples", "data": SHARES},
            0.5,
        ),
        ({"local": LOCAL | {"send": "model"}, "optimizer": {"name": "sgd", "learning_rate": 0.5}}, 0.5),
        ({"optimizer": {"name": "sgd", "learning_rate": 0.05}}, 1.0),
        ({"local": LOCAL, "optimizer": {"name": "adam", "learning_rate": 0.05}}, 1.0),
    ],
    ids=["rate", "samples", "models", "gradients", "adam"],
)
def test_model_replacement_leads_to_the_mean_of_the_byzantine_models(changes, eta):
    """The case in which honest rows are 0 and the server takes plain steps: Bagdasaryan et al. 2020, n / eta.

    Mutants: n / f whatever the rate; by heads where rows weigh by samples; a model multiplied in place of its change.
    """
    core, here, server = prepared(attack="scaled", **changes)
    models = changes.get("local", {}).get("send") == "model"
    params = np.asarray(server.params)
    descents = np.where(np.arange(7)[:, None] < 2, ROWS, 0)
    rows = params - descents if models else descents
    sent = forged(core, here, server, rows)
    sizes = np.asarray(here.sizes, float) if changes.get("weights") else np.ones(7)
    factor = sizes.sum() / sizes[:2].sum() / eta
    np.testing.assert_allclose((params - sent if models else sent)[:2], factor * ROWS[:2], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(sent[2:], rows[2:])
    if "local" in changes and eta < 1:
        after, _, _ = core.update(here, server, EVERYONE, jnp.asarray(sent))
        replaced = params - (sizes[:2, None] * ROWS[:2]).sum(axis=0) / sizes[:2].sum()
        np.testing.assert_allclose(after.params, replaced, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("attack", ["sign_flip", by_night("fang"), {"name": "neurotoxin", "boost": 3.0}])
def test_attacks_do_the_same_to_models_as_to_the_changes_they_stand_for(attack):
    """A mutant turns models round, or writes zeros into them."""
    found = {}
    for send in ("delta", "model"):
        core, here, server = prepared(
            attack=attack, rule="krum", workers={"total": 7, "byzantine": 2}, local=LOCAL | {"send": send}
        )
        params = np.asarray(server.params)
        rows = params - ROWS if send == "model" else ROWS
        state = core.init_adversary(650)
        for step in range(2):
            sent, state = core.forge(here, jnp.asarray(step), EVERYONE, jnp.asarray(rows), server, state)
            server = server._replace(params=server.params + step * 0)
        found[send] = params - np.asarray(sent) if send == "model" else np.asarray(sent)
    np.testing.assert_allclose(found["model"], found["delta"], rtol=1e-3, atol=2e-4)
    assert np.abs(found["delta"][:2] - ROWS[:2]).max() > 0.01


def test_a_claimed_number_of_samples_is_what_a_row_weighs_by():
    claims = {"name": "claims", "factor": 50.0, "attack": "sign_flip", "until": 2}
    core, here, server = prepared(attack=claims, weights="samples", data=SHARES)
    sizes = np.asarray(here.sizes, float)
    for step, factor in ((0, 50.0), (2, 1.0)):
        now = server._replace(step=jnp.asarray(step))
        sent = forged(core, here, now, ROWS, step)
        np.testing.assert_allclose(sent[:2], (-1 if factor > 1 else 1) * ROWS[:2])
        weights = np.where(np.arange(7) < 2, factor, 1) * sizes
        after, seen, _ = core.update(here, now, EVERYONE, jnp.asarray(sent))
        aggregate = weights @ sent / weights.sum()
        # the default optimizer's rate
        np.testing.assert_allclose(np.asarray(server.params) - 0.1 * aggregate, after.params, rtol=1e-4, atol=1e-5)
        assert float(seen.byzantine_weight) == pytest.approx(weights[:2].sum() / weights.sum(), rel=1e-4)


@pytest.mark.slow
def test_a_table_keeps_what_was_claimed_when_a_row_came():
    claims = {"name": "claims", "factor": 50.0, "until": 1}
    core, here, server = prepared(
        attack=claims, weights="samples", data=SHARES, schedule={"name": "asynchronous", "apply": "table"}
    )
    server, _, _ = core.update(here, server, EVERYONE, jnp.asarray(ROWS))
    # only an honest worker sends in the next update, in which nobody claims anything
    again = Arrivals(np.arange(7), np.zeros(7, int), np.array([1] * 6 + [0]))
    server, seen, _ = core.update(here, server, again, jnp.asarray(ROWS))
    weights = np.where(np.arange(7) < 2, 50, 1) * np.asarray(here.sizes, float)
    assert float(seen.byzantine_weight) == pytest.approx(weights[:2].sum() / weights.sum(), rel=1e-4)


def test_claims_are_refused_where_numbers_of_samples_do_not_count():
    with pytest.raises(ScenarioError, match=r"^attack: claims states false numbers of samples.*take weights samples"):
        validate(small(attack="claims").task)
