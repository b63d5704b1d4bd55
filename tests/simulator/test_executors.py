"""The promises of the executors: real runs, real Ray actors, real kills."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from byzax.simulator import executors
from byzax.simulator.executors import RunError, Saving, node_host
from byzax.simulator.executors import ray as ray_executor
from byzax.simulator.executors.base import digest, network_of, plan, prepare
from byzax.simulator.executors.grouping import groups_of
from byzax.simulator.executors.ray import pool, ray
from byzax.simulator.timeline import check, truncate
from byzax.simulator.world import world
from tests.nightly import by_day, by_night
from tests.simulator.conftest import at, loop, processes, run, same, small

# by way of the executor, which sets what Ray reads when it is imported
errors = ray.exceptions

# Between them: heterogeneous data, worker momentum, a selecting rule, an optimizer with state, poisoned data, a rule
# and an attack that remember, an attack that asks the rule, updates of some workers, rows from models of several ages;
# every schedule, and Byzantine workers with every timing; whole numbers as samples, values in place of labels, dropout.
RANDOM = {"latency": {"name": "lognormal", "sigma": 1.0}}
TWO = {"workers": {"total": 7, "byzantine": 2}}
OWN = str(Path(__file__).parent.parent / "models" / "own.py") + ":Small"
SCENARIOS = {
    "selecting": {
        "rule": "krum",
        "attack": "little",
        "data": {"name": "digits", "batch_size": 8, "partition": {"name": "dirichlet", "alpha": 0.3}},
        "model": {"name": "mlp", "hidden": [16]},
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    },
    "poisoned": {"rule": "median", "attack": "label_flip", "worker_momentum": 0.9, "optimizer": "adamw"},
    "subset": {"rule": "median", "attack": "sign_flip", "schedule": "subset"},
    "late": {"rule": "median", "attack": "sign_flip", "schedule": {"name": "subset", "age": 1}},
    "remembering": {"rule": "remembering", "attack": "counting", "worker_momentum": 0.5},
    "drawing": {"rule": "fltrust", "pre": ["nnm", {"name": "bucketing", "s": 2}], "attack": "counting"},
    # more updates than are submitted ahead
    "lagging": {
        "rule": "remembering",
        "attack": "counting",
        "schedule": "lagging",
        "worker_momentum": 0.5,
        "steps": 20,
    },
    "quorum": {
        **RANDOM,
        "schedule": {"name": "synchronous", "quorum": "n-f"},
        "rule": "median",
        "attack": {"name": "little", "timing": {"name": "chosen", "every": 2}},
        "worker_momentum": 0.5,
        "steps": 25,
    },
    "table": {
        **RANDOM,
        "schedule": {"name": "asynchronous", "staleness": "polynomial"},
        "rule": "krum",
        "attack": {"name": "empire", "timing": {"name": "replay", "age": 4}},
        "worker_momentum": 0.5,
        "steps": 25,
    },
    "warming up": {
        **RANDOM,
        "workers": {"total": 5, "byzantine": 1},
        "schedule": {"name": "asynchronous", "warm_up": "partial"},
        "rule": "median",
        "attack": "sign_flip",
        "steps": 12,
    },
    "buffer": {
        **RANDOM,
        **TWO,
        "schedule": {"name": "asynchronous", "apply": "buffer", "rows": 5, "max_age": 6},
        "rule": "trimmed_mean",
        "attack": {"name": "empire", "timing": "first"},
        "worker_momentum": 0.9,
        "steps": 20,
    },
    "each": {
        "latency": {"name": "exponential", "loss": 0.2, "crashes": [{"worker": 3, "at": 1.0, "back": 2.0}]},
        "workers": {"total": 7, "byzantine": 2, "declared": 0},
        "schedule": {"name": "stale_synchronous", "bound": 1, "apply": "each"},
        "attack": {"name": "empire", "timing": {"name": "late", "age": 3}},
        "steps": 25,
    },
    # rows that leave the table with their workers, and come back with one
    "dying": {
        "latency": {
            "name": "exponential",
            "crashes": [{"worker": 3, "at": 2.5, "back": 3.2}, {"worker": 5, "at": 2.5}],
        },
        "schedule": {"name": "asynchronous", "max_age": 3},
        "rule": "krum",
        "attack": {"name": "min_max", "knowledge": "own"},
        "worker_momentum": 0.5,
        "steps": 25,
    },
    # last rows as they were sent and as they were computed, asked for and multiplied by age, of more and more workers
    "hiding": {
        **RANDOM,
        **TWO,
        "schedule": {"name": "asynchronous", "warm_up": "partial", "staleness": "polynomial"},
        "rule": "trimmed_mean",
        "attack": {"name": "counting", "knowledge": "colluding", "beside": [{"name": "gaussian", "workers": 1}]},
        "worker_momentum": 0.5,
        "steps": 25,
    },
    # last rows of workers that were Byzantine when they came, claim samples, and leave
    "drawn": {
        "latency": {"name": "exponential", "crashes": [{"worker": 5, "at": 2.5}]},
        "workers": {"total": 7, "byzantine": {"count": 2, "per_round": "sampled"}},
        "data": {"name": "digits", "batch_size": 8, "partition": {"name": "dirichlet", "alpha": 0.5}},
        "schedule": {"name": "asynchronous", "max_age": 4},
        "weights": "samples",
        "rule": "average",
        "attack": {"name": "claims", "factor": 3.0, "attack": "label_flip", "workers": 1, "beside": ["sign_flip"]},
        "steps": 25,
    },
    # a rule that remembers gets rows one by one, and attackers know the last ones of all, or what they computed
    "one by one": {
        **RANDOM,
        "workers": {"total": 7, "byzantine": {"count": 3, "per_round": "sampled"}, "declared": 0},
        "schedule": {"name": "asynchronous", "apply": "each", "staleness": "exponential"},
        "rule": "remembering",
        "attack": {"name": "counting", "workers": 1, "beside": [{"name": "little", "knowledge": "colluding"}]},
        "steps": 25,
    },
    # refused rows, an optimizer and a rule with states behind them, and a filter that asks the server's data
    "filtered": {
        "latency": {"name": "exponential", "loss": 0.1},
        "workers": {"total": 7, "byzantine": 2},
        "schedule": {"name": "asynchronous", "apply": "each"},
        "filter": {"name": "kardam", "dampening": "inverse"},
        "rule": "remembering",
        "attack": {"name": "sign_flip", "scale": 10.0},
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
        "steps": 30,
    },
    "scored": {
        **RANDOM,
        **TWO,
        "schedule": {"name": "stale_synchronous", "bound": 2, "apply": "each"},
        "filter": {"name": "zeno_plus_plus", "delay": 3},
        "attack": {"name": "empire", "timing": "first"},
        "steps": 25,
    },
    "suspecting": {
        "latency": "exponential",
        "schedule": {"name": "stale_synchronous", "bound": 1, "suspect_after_s": 4.0},
        "rule": "median",
        "attack": "counting",
        "local": {"steps": 2},
        "steps": 20,
    },
    "buckets": {**RANDOM, **TWO, "schedule": "basgd", "rule": "median", "attack": "little", "steps": 20},
    # who lies changes, two attacks of which one asks the rule, and neither knows everything or lies always
    "mixed": {
        "workers": {"total": 7, "byzantine": {"count": 3, "per_round": "sampled"}},
        "attack": {
            "name": "counting",
            "knowledge": "colluding",
            "workers": 2,
            "every": 2,
            "beside": [{"name": "empire", "knowledge": "own", "from": 1}],
        },
        "rule": "median",
    },
    "rounds": {
        **RANDOM,
        "workers": {"total": 20, "byzantine": 5},
        "schedule": {"name": "sampled", "participants": 6, "asked": 8, "doubted": 1},
        "weights": "samples",
        "data": {"name": "digits", "batch_size": 8, "partition": {"name": "dirichlet", "alpha": 0.5}},
        "rule": "multi_krum",
        "attack": "little",
        "worker_momentum": 0.5,
        "steps": 12,
    },
    # exactly two Byzantine of eight participants, which claim samples and shift the change that their model stands for
    "claiming": {
        **RANDOM,
        "workers": {"total": 20, "byzantine": {"count": 5, "participating": 2}},
        "schedule": {"name": "sampled", "participants": 8},
        "weights": "samples",
        "data": {"name": "digits", "batch_size": 8, "partition": {"name": "dirichlet", "alpha": 0.5}},
        "local": {"steps": 2, "learning_rate": 0.1, "send": "model"},
        "rule": "multi_krum",
        "attack": {"name": "claims", "factor": 3.0, "attack": "little"},
        "steps": 6,
    },
    "recurrent": {
        "data": {"name": "letters", "batch_size": 8},
        "model": {"name": "rnn", "hidden": 6, "embedding": 4, "truncate": 5, "dropout": 0.3},
        "rule": "median",
        "attack": "sign_flip",
        "worker_momentum": 0.5,
    },
    # what goes by the model that was handed, where jobs, updates and versions are counted differently
    "changing": {
        **RANDOM,
        "workers": {"total": 7, "byzantine": {"count": 2, "per_round": "sampled"}},
        "attack": {"name": "label_flip", "workers": 1, "from": 4, "beside": ["sign_flip"]},
        "schedule": {"name": "asynchronous", "apply": "buffer", "rows": 5},
        "local": {"steps": 2, "learning_rate": {"name": "inverse_time", "start": 0.3, "half_at": 5}},
        "rule": "median",
        "steps": 12,
    },
    "own model": {"model": {"name": "module", "path": OWN}, "rule": "median", "attack": "sign_flip"},
    "regression": {
        **TWO,
        "data": {"name": "slope", "batch_size": 8, "validation": 0.2},
        "model": {"name": "linear", "l1": 0.01, "l2": 0.01},
        "rule": "fltrust",
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
        "local": {"steps": 2, "learning_rate": 0.05},
    },
    # what a worker remembers: gradients of its batches, and momentum over them; some rows are never used
    "reduced": {
        **RANDOM,
        **TWO,
        "schedule": {"name": "asynchronous", "apply": "buffer", "rows": 5, "max_age": 3},
        "rule": "median",
        "attack": "sign_flip",
        "variance_reduction": "saga",
        "worker_momentum": {"beta": 0.5, "kind": "heavy_ball"},
        "clipping": {"norm": 2.0, "value": 0.5},
        "regularisation": {"l1": 1e-4, "l2": 1e-3, "max_norm": 3.5},
        "optimizer": {"name": "sgd", "learning_rate": {"name": "cosine", "start": 0.2, "warm_up": 3}},
        "steps": 20,
    },
    "adaptive": {
        **TWO,
        "local": {
            "steps": 3,
            "optimizer": {"name": "adam", "learning_rate": {"name": "inverse_time", "start": 0.01, "half_at": 3.0}},
            "proximal": 0.1,
        },
        "optimizer": {"name": "yogi", "learning_rate": 0.05},
        "rule": "median",
        "attack": "label_flip",
    },
    "controlled": {
        **TWO,
        "data": {"name": "digits", "batch_size": 8, "partition": {"name": "dirichlet", "alpha": 0.3}},
        "local": {"steps": 3, "learning_rate": 0.2, "control_variates": True},
        "optimizer": {"name": "sgd", "learning_rate": 0.5},
        "rule": "median",
        "attack": "sign_flip",
    },
    "epochs": {
        **TWO,
        "data": {"name": "digits", "batch_size": 8, "partition": {"name": "dirichlet", "alpha": 0.3}},
        "local": {"epochs": 1, "send": "model"},
        "rule": "median",
        "attack": "label_flip",
    },
    # gradients of single samples in chunks, of batches of any size, with units that are dropped and attacked samples
    "private": {
        **TWO,
        "data": {"name": "digits", "batch_size": 8, "batches": "poisson"},
        "model": {"name": "mlp", "hidden": [10], "dropout": 0.2},
        "privacy": {"level": "sample", "clip": 0.5, "noise": 0.5, "chunk": 3},
        "worker_momentum": 0.5,
        "rule": "median",
        "attack": {"name": "label_flip", "workers": 1, "beside": ["little"]},
    },
    # rows with noise of which some are never used, after momentum
    "noisy rows": {
        **RANDOM,
        **TWO,
        "data": {"name": "digits", "batch_size": 8, "batches": "without_replacement"},
        "privacy": {"level": "worker", "clip": 0.5, "noise": 0.1},
        "schedule": {"name": "asynchronous", "apply": "buffer", "rows": 5, "max_age": 3},
        "worker_momentum": 0.5,
        "rule": "median",
        "attack": "empire",
        "steps": 20,
    },
    # groups that lose members, and of which some updates have fewer
    "masked": {
        **RANDOM,
        **TWO,
        "workers": {"total": 9, "byzantine": 1},
        "masks": {"groups": 4, "range": 2.0, "dropped": "lost"},
        "schedule": {"name": "synchronous", "quorum": 8},
        "rule": "median",
        "attack": "little",
        "worker_momentum": 0.5,
        "steps": 12,
    },
    "recovered": {
        **RANDOM,
        **TWO,
        "masks": {"groups": 3, "range": 2.0},
        "schedule": {"name": "synchronous", "quorum": 6},
        "rule": "krum",
        "workers": {"total": 7, "byzantine": 0},
        "steps": 12,
    },
    "noisy mean": {
        **RANDOM,
        **TWO,
        "privacy": {"level": "server", "clip": 0.5, "noise": 0.1},
        "schedule": {"name": "asynchronous", "apply": "buffer", "rows": 5, "staleness": "polynomial"},
        "attack": "sign_flip",
        "steps": 20,
    },
    # the server's own row with what it remembers, norms over a batch that is not full, parts with seeds of their own
    "own row": {
        **TWO,
        "data": {"name": "digits", "batch_size": 50, "seed": 3, "partition": {"name": "dirichlet", "alpha": 0.3}},
        "model": {"name": "mlp", "hidden": [10], "norm": "batch", "seed": 4},
        "local": {"epochs": 1, "learning_rate": 0.1},
        "worker_momentum": 0.5,
        "optimizer": {"name": "sgd", "learning_rate": 0.5, "momentum": 0.5},
        "rule": "fltrust",
        "attack": {"name": "optimised", "attack": "empire", "measure": "loss", "evaluations": 4},
        "steps": 4,
    },
}


# Each scenario compiles anew, in each actor. By day one in step.
BY_DAY = ["selecting"]


@pytest.mark.parametrize(
    ("name", "actors"),
    [
        (name, actors) if name in BY_DAY and actors == 2 else by_night(name, actors)
        for name in SCENARIOS
        for actors in (1, 2, 5)
    ],
)
def test_ray_is_bitwise_equal_to_loop_for_any_number_of_actors(ray_session, name, actors):
    expected = loop(**SCENARIOS[name], repeats=2)
    got = list(ray_session(small(**SCENARIOS[name], repeats=2, executor={"name": "ray", "actors": actors})))
    assert same(expected, got)
    assert digest([c for c in expected if c.seed == 1]) == digest([c for c in got if c.seed == 1])


def test_the_comparison_sees_one_wrong_bit_wherever_it_is():
    *before, last = loop()
    params, cosine = last.params.copy(), last.updates.honest_cosine.copy()
    params[3], cosine[1] = np.nextafter(params[3], np.inf), np.nextafter(cosine[1], np.inf)
    for change in (
        {"params": params},
        {"updates": last.updates._replace(honest_cosine=cosine)},
        {"evaluation": last.evaluation._replace(test_loss=np.nextafter(last.evaluation.test_loss, np.inf))},
        {"time_s": np.nextafter(last.time_s, np.inf)},
        {"step": last.step + 1},
        {"seed": last.seed + 1},
    ):
        changed = [*before, last._replace(**change)]
        assert not same(loop(), changed)
        assert digest(loop()) != digest(changed)
    slower = [*before, last._replace(wall_s=last.wall_s + 1)]
    assert same(loop(), slower)
    assert digest(loop()) == digest(slower)


@pytest.mark.slow
def test_one_worker_per_actor_gives_the_same_numbers(ray_session):
    changes = {"workers": {"total": 3, "byzantine": 0}}
    one_each = small(**changes, executor={"name": "ray", "workers_per_actor": 1, "adversary_actor": True})
    assert same(loop(**changes), list(ray_session(one_each)))


@pytest.mark.parametrize(
    ("schedule", "streams"),
    [
        ("synchronous", 1),
        # other workers in every update, all with the newest model; the same workers, some with an older one
        by_night({"name": "lagging", "age": 0}, 0),
        by_night({"name": "subset", "age": 1}, 0),
        by_night("asynchronous", 0),
    ],
)
def test_updates_in_step_are_carried_out_by_actors_and_others_are_tasks(ray_session, monkeypatch, schedule, streams):
    made = []
    stream = ray_executor.planned.Stream
    monkeypatch.setattr(ray_executor.planned, "Stream", lambda *given: made.append(stream(*given)) or made[-1])
    monkeypatch.delattr(ray_executor.planned.Tasks if streams else stream, "submit" if streams else "execute")
    assert len(list(ray_session(small(schedule=schedule, executor={"name": "ray", "actors": 1})))) == 3
    assert len(made) == streams


def test_an_update_that_is_recorded_is_carried_out_beside_the_others(ray_session):
    changes = {"steps": 9, "evaluate_every": 3, "record": {"rows": 4}, "worker_momentum": 0.5}
    expected, got = loop(**changes), list(ray_session(small(**changes, executor={"name": "ray", "actors": 2})))
    assert same(expected, got)
    for one, other in zip(expected, got, strict=True):
        for update, like in zip(one.recorded, other.recorded, strict=True):
            assert update.step == like.step
            assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(update, like, strict=True))
            assert all(np.asarray(x).dtype == np.asarray(y).dtype for x, y in zip(update[:-1], like[:-1], strict=True))
    assert [update.step for each in got for update in each.recorded] == [0, 4, 8]


def test_an_actor_computes_its_workers_at_once_where_batch_is_on_and_only_there(monkeypatch):
    counted = []
    together = node_host._all_at_once
    monkeypatch.setattr(node_host, "_all_at_once", lambda step: counted.append(step.name) or together(step))
    rows = []
    for batch in (False, True):
        task = small(executor={"name": "ray", "batch": batch}, attack="sign_flip").task
        prepared = prepare(task.run)
        network, _ = network_of(task.run, prepared)
        host = node_host.NodeHost()
        host.host(task, prepared.timeline, {kind: np.arange(n) for kind, n in network.nodes.items()}, None)
        block = network.table.events(0, 1)
        ((_, jobs), *_) = groups_of(block, 0, 0, network.steps, lambda kind, nodes: np.zeros(len(nodes), int))
        ((first, (server, _)),) = network.table.kept(0).items()
        sent = host.carry_out(jobs, False, host.shown({first: server}))
        rows.append(sent.rows)
        assert counted == ["work"] * batch
    np.testing.assert_allclose(*rows, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("executor", "count"),
    [({"actors": 3}, 3), ({"actors": 9}, 7), ({"workers_per_actor": 3}, 3), ({"workers_per_actor": 7}, 1)],
)
def test_seven_workers_are_hosted_by_as_many_actors_as_asked_for_and_needed(executor, count):
    assert pool.hosting(small(executor={"name": "ray", **executor}).task) == count


BATCHED = {"name": "ray", "batch": True, "actors": 1}


@pytest.mark.parametrize(
    ("name", "executor"),
    [
        (name, executor) if (name, executor) == ("selecting", "vectorised") else by_night(name, executor)
        for name in SCENARIOS
        for executor in ("vectorised", BATCHED)
    ],
)
def test_batched_updates_are_within_rounding_of_loop(ray_session, name, executor):
    changes = {**SCENARIOS[name], "repeats": 2, "steps": min(SCENARIOS[name].get("steps", 4), 12), "evaluate_every": 4}
    scenario = small(**changes, executor=executor)
    got = run(scenario) if executor == "vectorised" else list(ray_session(scenario))
    got = sorted(got, key=lambda checkpoint: (checkpoint.seed, checkpoint.step))
    for a, b in zip(loop(**changes), got, strict=True):
        assert (a.seed, a.step, a.time_s) == (b.seed, b.step, b.time_s)
        np.testing.assert_allclose(a.params, b.params, rtol=1e-5, atol=1e-6 * np.abs(a.params).max())
        np.testing.assert_allclose(a.evaluation, b.evaluation, rtol=1e-4)
        for x, y in zip(a.updates, b.updates, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


# a learning rate so large that the loss goes up and down
WORSE = 50.0


@pytest.mark.parametrize(
    ("schedule", "executor"),
    [
        ("synchronous", "loop"),
        *(by_night("synchronous", executor) for executor in ("vectorised", {"name": "ray", "actors": 1})),
        *(by_night("asynchronous", executor) for executor in ("loop", "vectorised")),
    ],
)
def test_a_repeat_that_gets_no_better_ends_early_and_others_go_on(ray_session, executor, schedule):
    changes = {
        "steps": 40, "evaluate_every": 2, "repeats": 2, "schedule": schedule, "attack": "none", **RANDOM,
        "early_stopping": {"patience": 2}, "executor": executor,
        "optimizer": {"name": "sgd", "learning_rate": WORSE},
    }  # fmt: skip
    scenario = small(**changes)
    execute = ray_session if isinstance(executor, dict) else execute_alone
    whole = list(execute(scenario.replace(early_stopping=None)))
    got = list(execute(scenario))
    for seed in (0, 1):
        every = [c for c in whole if c.seed == seed]
        losses = [c.evaluation.validation_loss for c in every]
        # the first evaluation that is the second in a row without a new best one
        since = [next(k for k in range(i + 1) if losses[i - k] == min(losses[: i + 1])) for i in range(len(losses))]
        end = next(i for i, worse in enumerate(since) if worse >= 2)
        assert 0 < end < len(every) - 1
        mine = [c for c in got if c.seed == seed]
        assert same(every[: end + 1], mine)
        assert [bool(c.stopped) for c in mine] == [False] * end + [True]
        step = every[end].step
        assert mine[-1].stopped == f"stopped early after step {step}: no better validation loss in 2 evaluations"
        assert check(mine[-1].timeline, 7).steps == step


def test_a_run_that_gets_better_goes_to_its_end_and_says_nothing():
    how = {"patience": 2, "measure": "validation_accuracy"}
    checkpoints = run(small(steps=8, evaluate_every=4, attack="none", early_stopping=how))
    assert [(c.step, c.stopped) for c in checkpoints] == [(0, ""), (4, ""), (8, "")]
    assert same(checkpoints, run(small(steps=8, evaluate_every=4, attack="none")))


@pytest.mark.parametrize("name", ["quorum", "buffer", "suspecting", "buckets"])
def test_a_timeline_that_is_cut_is_that_of_a_run_with_fewer_updates(name):
    def jobs(made):
        """All jobs but those that begin at the very end, and what became of them."""
        end = made.time_s[-1]
        parts = [(made.rows, np.full(len(made.rows.jobs), -1)), (made.unused, made.outcomes)]
        every = [(*map(int, (w, j, v, o)),) for rows, said in parts for w, j, v, o, s in zip(
            rows.workers, rows.jobs, rows.handed, said, rows.started_s, strict=True) if s < end]  # fmt: skip
        return sorted(every)

    whole, short = (plan(small(**{**SCENARIOS[name], "steps": steps}).run) for steps in (20, 9))
    made = truncate(whole, 9)
    check(made, 7)
    assert jobs(made) == jobs(short)
    assert np.array_equal(made.time_s, short.time_s)
    assert truncate(whole, 20) is whole
    nothing = truncate(whole, 0)
    assert (nothing.steps, nothing.first.tolist(), len(nothing.rows.jobs), len(nothing.outcomes)) == (0, [0], 0, 0)


def test_the_order_of_events_is_the_seeds_own():
    scenario = small(schedule="subset")
    zero, again, one = (plan(at(scenario, seed)).rows.workers for seed in (0, 0, 1))
    assert np.array_equal(zero, again)
    assert not np.array_equal(zero, one)


@pytest.mark.parametrize("executor", by_day(["loop"], ("loop", "vectorised")))
def test_checkpoints_come_at_the_evaluations_and_hold_all_updates(executor):
    checkpoints = run(small(executor=executor))
    assert [c.step for c in checkpoints] == [0, 4, 6]
    assert [len(c.updates.aggregate_norm) for c in checkpoints] == [0, 4, 2]
    assert [c.time_s for c in checkpoints] == [0.0, 4.0, 6.0]


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    first, again, other = loop(), run(small()), loop(seed=1)
    assert same(first, again)
    assert not np.array_equal(first[-1].params, other[-1].params)


@pytest.mark.slow
def test_repeats_whose_test_sets_have_other_sizes_give_the_numbers_of_loop():
    data = {"name": "synthetic_alpha_beta", "devices": 20, "test_by": "owners", "batch_size": 4}
    changes = {"data": data, "steps": 2, "evaluate_every": 2, "repeats": 2}
    assert len({len(world(at(small(**changes), seed)).test) for seed in range(2)}) == 2
    got, expected = run(small(**changes, executor="vectorised")), run(small(**changes))
    assert [(c.seed, c.step) for c in got] == [(c.seed, c.step) for c in expected]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one.params, other.params, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.evaluation, other.evaluation, rtol=1e-4, atol=1e-5)


def test_a_failing_worker_is_named_with_job_and_stage(ray_session):
    for executor in ("loop", {"name": "ray", "actors": 1}):
        scenario = small(attack="failing", executor=executor)
        with pytest.raises(RunError, match=r"work failed \(worker 0, job 0\): ArithmeticError: this batch cannot"):
            run(scenario) if executor == "loop" else list(ray_session(scenario))


def test_a_failing_rule_is_named_with_step_and_stage(ray_session):
    for executor in ("loop", {"name": "ray", "actors": 1}):
        scenario = small(rule="failing", executor=executor)
        with pytest.raises(RunError, match=r"update failed \(step 0\): ArithmeticError: this rule always fails"):
            run(scenario) if executor == "loop" else list(ray_session(scenario))


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["loop", "vectorised", "ray"])
def test_a_rule_without_an_answer_ends_the_run_at_its_update_and_what_was_before_is_kept(ray_session, executor):
    described = small(rule={"name": "brute", "effort": 1}, executor=executor)
    checkpoints = (ray_session if executor == "ray" else execute_alone)(described)
    assert next(checkpoints).step == 0
    with pytest.raises(RunError, match=r"^update 1 failed: brute is undecided.*effort"):
        next(checkpoints)


def execute_alone(scenario):
    with executors.session(scenario.executor) as execute:
        yield from execute(scenario.task)


@pytest.mark.parametrize(
    ("role", "name", "schedule"),
    [
        ("WorkerActor", "worker actor 0", "synchronous"),
        by_night("WorkerActor", "worker actor 0", "lagging"),
        by_night("WorkerActor", "worker actor 0", "asynchronous"),
        by_night("WorkerActor", "worker actor 0", "stale_synchronous"),
        by_night("WorkerActor", "worker actor 0", "basgd"),
        by_night("AdversaryActor", "the adversary actor", "synchronous"),
        by_night("AdversaryActor", "the adversary actor", "asynchronous"),
        by_night("ServerActor", "the parameter-server actor", "synchronous"),
        by_night("ServerActor", "the parameter-server actor", "asynchronous"),
    ],
)
def test_a_killed_actor_is_replaced_and_the_run_goes_on_with_the_same_numbers(
    ray_session, notices, role, name, schedule, capfd
):
    changes = {"steps": 400, "evaluate_every": 50, "schedule": schedule, "worker_momentum": 0.9}
    alone = role == "AdversaryActor"
    scenario = small(**changes, executor={"name": "ray", "actors": 1, "adversary_actor": alone})
    notices.clear()
    checkpoints = ray_session(scenario, saving=Saving(every_s=None, every=120))
    kept = [next(checkpoints) for _ in range(4)]
    victims = processes(f"ray::{role}")
    assert victims
    for process in victims:
        process.kill()
    kept.extend(checkpoints)
    assert same(loop(**changes), kept)
    (line,) = notices
    assert re.fullmatch(f".*{name}.* died: its process was killed .*; the run goes on after update (120|0)", line)
    assert "worker died" not in "".join(capfd.readouterr())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "schedule"), [("raylet", "synchronous"), ("gcs_server", "asynchronous")])
def test_a_ray_whose_head_dies_is_started_anew_and_the_run_goes_on_with_the_same_numbers(name, schedule):
    # a Ray of its own, in a process of its own: that of the session stays
    command = [sys.executable, "-c", HEADLESS, name, schedule]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # actors go on without it until somebody looks, a second later, and there is a snapshot every 200 updates
    assert re.search(f"Ray's process {name} died; the run goes on after update 1[02468]00", done.stdout)


HEADLESS = """
import sys
import psutil
from byzax.simulator import executors
from byzax.simulator.executors import Saving
from tests.simulator.conftest import run, same, small

name, schedule = sys.argv[1:]
changes = {"steps": 3000, "evaluate_every": 500, "schedule": schedule, "worker_momentum": 0.9}
scenario = small(**changes, executor={"name": "ray", "actors": 1})
with executors.session(scenario.executor, notice=print) as execute:
    checkpoints = execute(scenario.task, saving=Saving(every_s=None, every=200))
    seen = [next(checkpoints), next(checkpoints), next(checkpoints)]
    (head,) = [each for each in psutil.Process().children(recursive=True) if each.name() == name]
    head.kill()
    seen += checkpoints
    assert same(seen, run(small(**changes)))
    assert same(seen, list(execute(scenario.task)))
"""


@pytest.mark.slow
def test_an_actor_that_died_between_two_runs_is_replaced_before_the_next(ray_session):
    scenario = small(executor={"name": "ray", "actors": 1})
    expected = list(ray_session(scenario))
    victim = processes("ray::WorkerActor")[0]
    victim.kill()
    victim.wait(10)
    assert same(expected, list(ray_session(scenario)))


# half a minute of waiting
@pytest.mark.slow
def test_an_actor_without_a_place_is_named_with_what_it_asked_for(ray_session, monkeypatch):
    monkeypatch.setattr(pool, "START_S", 3)
    # hired as if there were a GPU, which the cluster of the tests lacks
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 1.0, "CPU": 2.0})
    line = (
        r"worker actor 5 \(asks for 0.15 GPU, 0.001 CPU\) did not start: no answer within 3 s or more; "
        r"free in the cluster: 0 of 1 GPU and \S+ of 2 CPU$"
    )
    with pytest.raises(RunError, match=line):
        list(ray_session(small(executor={"name": "ray", "actors": 6})))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            errors.OutOfMemoryError("2 worker(s) were killed\nmemory\n..."),
            "Ray ended it because its node ran out of memory",
        ),
        (errors.GetTimeoutError("Get timed out"), "no answer within 120 s or more"),
        (errors.ActorDiedError(), "its process was killed"),
        (
            errors.ActorDiedError(errors.RayTaskError("__init__", "Traceback\nImportError: no jax\n", ImportError())),
            "ImportError: no jax",
        ),
    ],
)
def test_why_an_actor_is_gone_is_said_in_one_line(error, said):
    assert pool.cause(error).startswith(said)
    assert "\n" not in pool.cause(error)


def test_an_embedded_ray_reports_no_usage(ray_session):
    reporting = processes("dashboard.py")
    assert reporting
    assert all(process.environ()["RAY_USAGE_STATS_ENABLED"] == "0" for process in reporting)


@pytest.mark.slow
def test_numbers_do_not_depend_on_the_number_of_cores():
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("this machine offers one core only: there is nothing to compare")
    code = (
        "import os, sys; os.sched_setaffinity(0, map(int, sys.argv[1:]))\n"
        "from tests.simulator.conftest import run, small; from byzax.simulator.executors.base import digest\n"
        "data = {'name': 'gaussian_mixture', 'shape': [28, 28], 'samples': 600}\n"
        "print(digest(run(small(data=data, model='cnn', steps=3))))"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", code, *map(str, which)],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
        ).stdout
        for which in (cores[:1], cores)
    ]  # fmt: skip
    assert printed[0] == printed[1] != ""
