"""The adversary: Byzantine workers, their attacks, updates and knowledge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax import models
from byzax.simulator.core import build
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.senders import Arrivals
from byzax.simulator.validation.part_checks import check_parts
from byzax.simulator.world import byzantine_ranks, share_out, world
from tests.nightly import by_day, by_night
from tests.simulator.conftest import Remembered, at, run, small

THREE = {"total": 9, "byzantine": 3}


def forged(rows, step=0, workers=None, seed=0, state=None, with_state=False, **changes):
    """The rows of an update after the adversary, and where asked its state."""
    scenario = small(**{"workers": THREE, **changes})
    # buckets are what the rule sees
    seen = scenario.workers.byzantine.count * 2 + 1 if scenario.schedule.name == "basgd" else len(rows)
    core, here = build(scenario.run, seen), world(at(scenario, seed))
    workers = range(len(rows)) if workers is None else workers
    server = core.start(here)
    state = core.init_adversary(rows.shape[1]) if state is None else state
    arrived = Arrivals(np.array([*workers]), np.zeros(len(rows), int))
    made, state = core.forge(here, jnp.asarray(step), arrived, jnp.asarray(rows), server, state)
    return (np.asarray(made), state) if with_state else np.asarray(made)


def some_rows(seed=0, n=9):
    return np.random.default_rng(seed).normal(size=(n, 650)).astype(np.float32) + 1


@pytest.mark.parametrize(
    ("when", "active"),
    [
        ({"from": 3}, {3, 4, 5, 6, 7, 8}),
        ({"until": 2}, {0, 1}),
        ({"every": 3}, {0, 3, 6}),
        ({"from": 1, "until": 8, "every": 3}, {1, 4, 7}),
    ],
)
def test_an_attack_is_carried_out_in_its_updates_only(when, active):
    rows = some_rows()
    changed = {
        step for step in range(9) if not np.array_equal(forged(rows, step, attack={"name": "zero", **when}), rows)
    }
    assert changed == active


def test_an_attack_learns_nothing_in_updates_in_which_it_is_not_carried_out():
    rows, attack = some_rows(), {"name": "counting", "every": 2}
    state, seen = None, []
    for step in range(4):
        made, state = forged(rows, step, attack=attack, state=state, with_state=True)
        seen.append(made)
    # the second time it pulls twice as hard
    params = seen[0][0] * 10 + rows.mean(0)
    np.testing.assert_allclose(seen[2][0], (params - 2 * rows.mean(0)) / 10, rtol=1e-4, atol=1e-5)
    assert np.array_equal(seen[1], rows)


def test_poisoned_batches_go_by_the_model_that_the_worker_was_handed():
    attack = {"name": "label_flip", "from": 1, "until": 3}
    scenario, clean = small(workers=THREE, attack=attack), small(workers=THREE, attack="none")
    core, other, here = build(scenario.run, 9), build(clean.run, 9), world(scenario.run)
    params = core.start(here).params
    for worker in (0, 2, 3):
        for handed in range(4):
            # the worker's own count of jobs makes no difference
            one, its = ((each.work(here, params, worker, 7 - handed, handed)) for each in (core, other))
            assert np.array_equal(one, its) == (worker >= 3 or handed not in (1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["loop", "vectorised"])
def test_poison_that_begins_late_begins_then_though_workers_have_few_jobs(executor):
    changes = {"schedule": {"name": "sampled", "participants": 3}, "steps": 8, "evaluate_every": 1}
    params = {}
    for name, attack in (("clean", "none"), ("poisoned", {"name": "label_flip", "from": 5})):
        scenario = small(workers={"total": 9, "byzantine": 9}, attack=attack, executor=executor, **changes)
        params[name] = [each.params for each in run(scenario)]
    same = [np.array_equal(*pair) for pair in zip(*params.values(), strict=True)]
    assert same == [True] * 6 + [False] * 3


# others in every update
CHANGING = {"total": 9, "byzantine": {"count": 2, "per_round": "sampled"}}


MIXED = {"name": "label_flip", "workers": 1, "beside": [{"name": "empire", "epsilon": 1.0}]}


@pytest.mark.parametrize("attack", [*map(by_night, ("none", "sign_flip", "label_flip")), MIXED])
def test_a_late_row_is_a_lie_if_it_is_forged_now_or_was_poisoned_under_the_model_it_is_from(attack):
    scenario = small(workers=CHANGING, attack=attack)
    core, here = build(scenario.run, 9), world(scenario.run)
    server = core.start(here)._replace(step=jnp.asarray(4))
    ranks = [np.asarray(core.byzantine_ranks(here, jnp.asarray(step))) for step in range(5)]
    # of the two Byzantine workers of an update number 0 poisons where both attacks are there
    poisoning = {"label_flip": [0, 1]}.get(attack, []) if isinstance(attack, str) else [0]
    sending = [rank for rank in (0, 1) if rank not in poisoning]
    counts = set()
    for versions in ([4] * 9, [0] * 9, [*range(5), 0, 1, 2, 3]):
        _, seen, _ = core.update(here, server, Arrivals(np.arange(9), np.array(versions)), jnp.asarray(some_rows()))
        lies = [ranks[4][w] in sending or ranks[version][w] in poisoning for w, version in enumerate(versions)]
        np.testing.assert_allclose(seen.byzantine_weight, sum(lies) / 9, rtol=1e-6)
        counts.add(tuple(lies))
    assert len(counts) > 1 or attack in ("none", "sign_flip")


@pytest.mark.parametrize("apply", by_day(["buffer"], ("table", "buffer")))
def test_statistics_are_those_of_rows_that_are_no_lies_whenever_they_were_poisoned(apply):
    schedule = {"name": "asynchronous", "apply": apply} | ({"rows": 9} if apply == "buffer" else {})
    scenario = small(workers=CHANGING, attack=MIXED, schedule=schedule)
    core, here, rows = build(scenario.run, 9), world(scenario.run), np.zeros((9, 650), np.float32)
    # each row says whose it is
    rows[:, :9] = np.eye(9)
    server = core.start(here)
    cases = set()
    for step in range(1, 12):
        now, then = (np.asarray(core.byzantine_ranks(here, jnp.asarray(each))) for each in (step, 0))
        arrived = Arrivals(np.arange(9), np.zeros(9, int))
        made, _ = core.forge(here, jnp.asarray(step), arrived, jnp.asarray(rows), server, core.init_adversary(650))
        told = (np.asarray(made)[now == 1][0, :9] < 0).tolist()
        assert told == ((now < 0) & (then != 0)).tolist()
        cases.add((bool(now[then == 0][0] < 0), bool(now[then == 1][0] < 0)))
    assert (True, True) in cases


@pytest.mark.slow
def test_a_row_that_the_server_keeps_stays_the_lie_that_it_was():
    attack = {"name": "empire", "epsilon": 2.0}
    scenario = small(workers=CHANGING, attack=attack, schedule="asynchronous")
    core, here, rows = build(scenario.run, 9), world(scenario.run), some_rows()
    server, state, lied, table = core.start(here), core.init_adversary(650), np.zeros(9, bool), Remembered(9)
    # all rows, and then new ones of one worker after the other
    for step, workers in enumerate([np.arange(9), *np.arange(6)[:, None]]):
        made, state = table.forged(core, here, step, workers, rows[workers], server, state)
        now = np.asarray(core.byzantine_ranks(here, jnp.asarray(step))) >= 0
        lied[workers] = now[workers]
        # a lie tells nothing of what honest workers sent, though its worker is honest by now
        expected = np.where(lied[workers, None], -2 * rows[~lied & ~now].mean(0), rows[workers])
        np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)
        server, seen, _ = core.update(here, server, table.arrived(step), jnp.asarray(table.sent))
        np.testing.assert_allclose(seen.byzantine_weight, lied.sum() / 9, rtol=1e-6)


def test_attacks_beside_each_other_have_their_own_workers():
    rows = some_rows()
    attack = {
        "name": "zero",
        "workers": 1,
        "beside": [{"name": "sign_flip"}, {"name": "constant", "workers": 1, "value": 7.0}],
    }
    made = forged(rows, attack=attack)
    assert not made[0].any()
    np.testing.assert_array_equal(made[1], -rows[1])
    assert (made[2] == 7).all()
    np.testing.assert_array_equal(made[3:], rows[3:])
    # who does what goes by the worker, not by the place in the update
    np.testing.assert_array_equal(forged(rows[::-1], workers=range(8, -1, -1), attack=attack), made[::-1])


def test_an_attack_is_told_how_many_workers_carry_it_out():
    rows = some_rows()
    # the paper's z for (9, 2): 3 supporters of 7, Phi^-1(4/7)
    attack = {"name": "little", "workers": 2, "beside": ["zero"]}
    honest = rows[3:].astype(np.float64)
    expected = honest.mean(0) - 0.1800124 * honest.std(0)
    np.testing.assert_allclose(forged(rows, attack=attack)[0], expected, rtol=1e-4, atol=1e-5)


def test_poison_and_forged_rows_stand_beside_each_other():
    attack = {"name": "label_flip", "workers": 1, "beside": ["zero"]}
    scenario, clean = small(workers=THREE, attack=attack), small(workers=THREE, attack="none")
    core, other, here = build(scenario.run, 9), build(clean.run, 9), world(scenario.run)
    params = core.start(here).params
    changed = [
        not np.array_equal(core.work(here, params, worker, 0, 0), other.work(here, params, worker, 0, 0))
        for worker in range(9)
    ]
    assert changed == [True] + [False] * 8
    rows = some_rows()
    assert np.array_equal(forged(rows, attack=attack)[0], rows[0])
    assert not forged(rows, attack=attack)[1:3].any()


def test_those_who_collude_take_statistics_from_their_own_rows_alone():
    rows = some_rows()
    own = rows[:3].astype(np.float64)
    made = forged(rows, attack={"name": "little", "z": 1.5, "knowledge": "colluding"})
    np.testing.assert_allclose(made[:3], np.tile(own.mean(0) - 1.5 * own.std(0), (3, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attack", ["min_max", "min_sum"])
def test_min_max_and_min_sum_of_those_who_collude_know_no_other_distances(attack):
    """As in the authors' code for unknown honest gradients."""
    rows = some_rows()
    own = rows[:3].astype(np.float64)
    mean, towards = own.mean(axis=0), -own.std(axis=0)
    between = ((own[:, None] - own[None]) ** 2).sum(axis=2)
    low, high = 0.0, 100.0
    for _ in range(60):
        gamma = (low + high) / 2
        far = ((own - mean - gamma * towards) ** 2).sum(axis=1)
        fits = far.max() <= between.max() if attack == "min_max" else far.sum() <= between.sum(axis=1).max()
        low, high = (gamma, high) if fits else (low, gamma)
    made = forged(rows, attack={"name": attack, "knowledge": "colluding"})
    np.testing.assert_allclose(made[:3], np.tile(mean + low * towards, (3, 1)), rtol=1e-3, atol=1e-4)


def test_who_knows_its_own_row_only_sees_no_deviation_and_no_other():
    rows = some_rows()
    made = forged(rows, attack={"name": "little", "z": 1.5, "knowledge": "own"})
    np.testing.assert_allclose(made[:3], rows[:3], rtol=1e-5)
    made = forged(rows, attack={"name": "empire", "epsilon": 0.5, "knowledge": "own"})
    np.testing.assert_allclose(made[:3], -0.5 * rows[:3], rtol=1e-5)


# attacks that use statistics, distances, all rows, and the rule in use
CURIOUS = ["little", "min_max", "hijack", "reverse_gradient", "counting"]


@pytest.mark.parametrize(
    ("rule", "attack"),
    [
        (rule, attack) if (rule, attack) == ("median", "little") else by_night(rule, attack)
        for rule in ("median", "krum")
        for attack in CURIOUS
    ],
)
def test_what_is_hidden_changes_no_lie(attack, rule):
    rows, others = some_rows(0), some_rows(1)
    others[:3] = rows[:3]
    for knowledge, unseen in (("colluding", [3, 4, 5, 6, 7, 8]), ("own", [1, 2, 3, 4, 5, 6, 7, 8])):
        changed = rows.copy()
        changed[unseen] = 5 * some_rows(2)[unseen] - 3
        lie = {"name": attack, "knowledge": knowledge}
        one, other = (forged(each, attack=lie, rule=rule)[0] for each in (rows, changed))
        np.testing.assert_array_equal(one, other)
        seen = rows.copy()
        seen[0] = 5 * rows[0] - 3
        assert not np.array_equal(forged(seen, attack=lie, rule=rule)[0], one)


@pytest.mark.parametrize(
    ("knowledge", "known"), [by_night("omniscient", [0, 1, 2]), ("colluding", [0, 1]), by_night("own", [0])]
)
def test_harm_is_measured_on_samples_of_those_that_the_attack_knows(knowledge, known):
    attack = {"name": "losing", "workers": 2, "knowledge": knowledge, "beside": ["zero"]}
    scenario = small(workers=THREE, attack=attack)
    core, here, rows = build(scenario.run, 9), world(scenario.run), jnp.asarray(some_rows())
    # every worker holds one sample, so that losses tell whose it was
    here = here._replace(shards=here.shards[:, :1], sizes=jnp.ones(9, jnp.int32))
    params = jnp.asarray(np.random.default_rng(0).normal(size=650), jnp.float32)
    model = models.softmax((64,), 10)
    own = [float(model.loss(params, here.x[at], here.y[at])) for at in here.shards]
    server = core.start(here)
    arrived = Arrivals(np.arange(9), np.zeros(9, int))
    made, _ = core.forge(here, jnp.asarray(0), arrived, rows, server._replace(params=params), core.init_adversary(650))
    # the mean of eight draws from the samples of these workers
    shares = {(a / 8, b / 8, (8 - a - b) / 8) for a in range(9) for b in range(9 - a)}
    fits = [share for share in shares if np.isclose(np.dot(share, own[:3]), made[0, 0], rtol=1e-5)]
    drawn = {worker for share in fits for worker in range(3) if share[worker]}
    assert len(fits) == 1
    assert drawn == set(known)


@pytest.mark.parametrize("knowledge", ["omniscient", "colluding", "own"])
def test_one_row_at_a_time_the_colluding_remember_what_their_workers_computed(knowledge):
    """Under `each` a lie is made from the last row that every worker computed, of all or of one's own."""
    rows = some_rows()
    lie = {"name": "empire", "epsilon": 2.0, "knowledge": knowledge}
    scenario = small(workers=THREE, attack=lie, schedule={"name": "asynchronous", "apply": "each"})
    core, here, table = build(scenario.run, 1), world(scenario.run), Remembered(9)
    server, state = core.start(here), core.init_adversary(650)
    for step, worker in enumerate((3, 4, 1, 0)):
        made, state = table.forged(core, here, step, [worker], rows[[worker]], server, state)
    heard = {"omniscient": [3, 4], "colluding": [1, 0], "own": [0]}[knowledge]
    np.testing.assert_allclose(made[0], -2 * rows[heard].mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("knowledge", ["omniscient", by_night("colluding"), "own"])
@pytest.mark.parametrize("apply", by_day(["each"], ("table", "each")))
def test_a_byzantine_worker_replays_what_it_computed_by_its_own_count_whatever_it_knows(knowledge, apply):
    rows = some_rows(n=24)
    lie = {"name": "stale_replay", "what": "own", "age": 2, "knowledge": knowledge}
    scenario = small(workers=THREE, attack=lie, schedule={"name": "asynchronous", "apply": apply})
    # the rule sees all rows of a table
    core, here, table = build(scenario.run, 9 if apply == "table" else 1), world(scenario.run), Remembered(9)
    server, state = core.start(here), core.init_adversary(650)
    past = {worker: [np.zeros(650)] * 2 for worker in range(9)}
    turns = [[*range(9)] if apply == "table" else [0], *([w] for w in (0, 3, 1, 2, 0, 1, 4, 0, 2, 0))]
    for number, workers in enumerate(turns):
        new = rows[number : number + len(workers)]
        made, state = table.forged(core, here, number, workers, new, server, state)
        for row, sent, worker in zip(new, made, workers, strict=True):
            np.testing.assert_array_equal(sent, past[worker][-2] if worker < 3 else row)
            past[worker].append(row)


def test_an_update_without_a_byzantine_worker_of_an_attack_teaches_it_nothing():
    rows = some_rows(n=6)
    for knowledge in ("omniscient", "colluding", "own"):
        lie = {"name": "counting", "knowledge": knowledge}
        made = forged(rows, workers=range(3, 9), attack=lie, schedule={"name": "synchronous", "quorum": 6})
        np.testing.assert_array_equal(made, rows)


# -- who ------------------------------------------------------------------------------------------------------------


def test_byzantine_workers_are_the_first_or_drawn_by_the_seed():
    assert byzantine_ranks(small(workers=THREE).run).tolist() == [0, 1, 2] + [-1] * 6
    drawn = [
        byzantine_ranks(at(small(workers={"total": 9, "byzantine": {"count": 3, "which": "random"}}), seed))
        for seed in range(20)
    ]
    for each in drawn:
        assert sorted(each[each >= 0].tolist()) == [0, 1, 2]
    assert len({tuple(np.flatnonzero(each >= 0)) for each in drawn}) > 10


def test_by_data_those_lie_whose_labels_are_least_like_everybodys():
    partition = {"name": "dirichlet", "alpha": 0.3}
    scenario = small(
        workers={"total": 7, "byzantine": {"count": 2, "which": "by_data"}},
        data={"name": "digits", "partition": partition},
    )
    parts, shares = share_out(scenario.data, 7, 0)
    labels = np.asarray(world(scenario.run).y)
    everybody = np.array([(labels[parts.train] == c).mean() for c in range(10)])
    distances = [sum(abs((labels[share] == c).mean() - everybody[c]) for c in range(10)) for share in shares]
    assert set(np.flatnonzero(byzantine_ranks(scenario.run) >= 0)) == set(np.argsort(distances)[-2:])


def test_others_lie_in_every_update_where_they_are_sampled():
    workers = {"total": 9, "byzantine": {"count": 3, "per_round": "sampled"}}
    scenario = small(workers=workers, attack="label_flip")
    core, here = build(scenario.run, 9), world(scenario.run)
    rounds = [np.asarray(core.byzantine_ranks(here, jnp.asarray(step))) for step in range(60)]
    for each in rounds:
        assert sorted(each[each >= 0].tolist()) == [0, 1, 2]
    times = np.sum([each >= 0 for each in rounds], axis=0)
    # 60 draws of 3 of 9: 20 each on average, deviation 3.7
    assert times.min() > 5
    assert times.max() < 35
    other = build(small(workers=workers, attack="none").run, 9)
    params = core.start(here).params
    for job in range(3):
        changed = [
            not np.array_equal(core.work(here, params, worker, job, job), other.work(here, params, worker, job, job))
            for worker in range(9)
        ]
        assert changed == (rounds[job] >= 0).tolist()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"attack": {"name": "zero", "workers": 2}},
            "attack.workers: Byzantine workers asked for are 2, and there are 3",
        ),
        ({"attack": {"name": "zero", "workers": 4}}, "attack.workers: Byzantine workers asked for are 4, and there"),
        (
            {"attack": {"name": "zero", "workers": 3, "beside": ["empire"]}},
            "attack.workers: Byzantine workers asked for are 3 and at least 1 for empire, and there are 3",
        ),
        (
            {"attack": {"name": "zero", "beside": ["empire"]}},
            "attack.workers, attack.beside[0].workers: zero and empire would all",
        ),
        ({"attack": {"name": "zero", "beside": [{"name": "empire", "workers": 3}]}}, "attack.beside[0].workers: Byz"),
        (
            {"attack": {"name": "zero", "workers": 1, "beside": [{"name": "empire", "from": 999}]}},
            "attack.beside[0].from: empire begins in update 999",
        ),
        ({"attack": {"name": "zero", "from": 5, "until": 5}}, "until is 5 and must be above from, which is 5"),
        ({"attack": {"name": "zero", "until": 5, "timing": "late"}}, "attack.timing: late needs the same Byzantine"),
        (
            {
                "workers": {"byzantine": {"count": 1, "per_round": "sampled"}},
                "attack": {"name": "zero", "timing": "silent"},
            },
            "attack.timing: silent needs the same Byzantine workers",
        ),
        (
            {"workers": {"byzantine": {"count": 1, "per_round": "sampled", "which": "by_data"}}},
            "workers.byzantine: which: by_data is for the same workers always",
        ),
        *(
            (
                {"workers": {"byzantine": value}},
                "workers.byzantine: a whole number, or a mapping of count, which, per_round, participating, seed, is "
                f"needed, got {value!r}",
            )
            for value in ("2", 2.0, True, [2], None)
        ),
        ({"workers": {"byzantine": {"count": 1, "witch": "first"}}}, "workers.byzantine.witch: unknown key"),
        ({"workers": {"total": 2, "byzantine": 3}}, "byzantine is 3, but there are only 2 workers"),
        ({"attack": {"name": "zero", "beside": ["nothing"]}}, "attack.beside[0]: unknown attack 'nothing'"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_way_out(changes, expected):
    with pytest.raises(ScenarioError) as caught:
        check_parts(small(**{"workers": THREE, **changes}).run)
    assert expected in str(caught.value)


def test_with_less_knowledge_an_update_without_ones_workers_leaves_the_state_as_it_is():
    rows, schedule = some_rows(n=6), {"name": "synchronous", "quorum": 6}
    for knowledge in ("colluding", "own"):
        lie = {"name": "counting", "knowledge": knowledge}
        changes = {"attack": lie, "schedule": schedule}
        _, first = forged(rows, workers=range(3, 9), with_state=True, **changes)
        assert not np.any([np.asarray(leaf).any() for leaf in jax.tree.leaves(first)])
        _, then = forged(rows, workers=range(6), state=first, with_state=True, **changes)
        assert np.asarray(jax.tree.leaves(then)[0]).ravel().tolist() == ([1] if knowledge == "colluding" else [1, 1, 1])


@pytest.mark.parametrize("knowledge", ["omniscient", "colluding", "own"])
def test_an_attack_that_nobody_carries_out_changes_nothing(knowledge):
    scenario = small(workers={"total": 7, "byzantine": 0}, attack={"name": "little", "z": 1.0, "knowledge": knowledge})
    assert build(scenario.run, 7).forge is None


@pytest.mark.parametrize("attack", by_day(["hijack"], ("hijack", "spectral", "fang", "hidden_vulnerability")))
def test_what_only_fills_up_an_update_is_no_row_to_an_attack(attack):
    rows = some_rows(n=6)
    changes = {"attack": attack, "schedule": {"name": "basgd"}, "rule": "median"}
    filled = np.concatenate([rows, 100 * some_rows(1)[:3]])
    whole = forged(rows, workers=[0, 1, 2, 5, 6, 7], **changes)
    padded = forged(filled, workers=[0, 1, 2, 5, 6, 7, -1, -1, -1], **changes)
    np.testing.assert_allclose(padded[:6], whole, rtol=1e-4, atol=1e-5)
