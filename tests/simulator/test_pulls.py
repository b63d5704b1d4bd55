"""ByzSGD's synchronous variant: pulls and filters against a plain reading, all executors, the ledger, and refusals."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import byzax
from byzax.options import OptionError
from byzax.simulator import event_contract, executors
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.executors import loop
from byzax.simulator.executors.base import digest, network_of, plan, prepare
from byzax.simulator.executors.driver import Saving
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.parts import message_bits
from byzax.simulator.pulls import Pulling, largest_coefficient, largest_distance, start_pulls
from byzax.simulator.topologies import build
from tests.experiments.command import byzax as command
from tests.nightly import by_night
from tests.reference import pulls as reference
from tests.reference.drawn import drawn

STEPS, N, SERVERS, EVERY = 12, 8, 5, 4
FAR, NEAR = {"name": "sign_flip", "scale": 40.0}, {"name": "sign_flip", "scale": 1.0}
TOPOLOGY = {
    "name": "byzsgd", "variant": "synchronous", "servers": SERVERS, "byzantine_servers": 1, "gather_every": EVERY,
    "window": 20, "server_attack": FAR,
}  # fmt: skip
SCENARIO = {
    "name": "pulls", "steps": STEPS, "evaluate_every": 3, "model": "softmax", "rule": "trimmed_mean",
    "data": {
        "name": "gaussian_mixture", "samples": 240, "shape": [5], "classes": 3, "separation": 2.0, "batch_size": 8,
        "partition": {"name": "dirichlet", "alpha": 0.5},
    },
    "attack": "equivocate", "executor": "loop", "optimizer": {"name": "sgd", "learning_rate": 0.3},
    "workers": {"total": N, "byzantine": 2}, "topology": TOPOLOGY,
}  # fmt: skip
CASES = {
    "far": {},
    "near, momentum": {"topology": TOPOLOGY | {"server_attack": NEAR}, "worker_momentum": {"beta": 0.5}},
    "few remembered": {"topology": TOPOLOGY | {"window": 3}, "steps": 20},
}


def given_of(name="far", **changes):
    return SCENARIO | CASES[name] | changes


def study_of(name="far", **changes) -> Study:
    return parse_as(Study, given_of(name, **changes))


def states_of(study):
    """The models of servers and workers before each round and after the last, and the models pulled by then."""
    prepared = prepare(study.run)
    network, here = network_of(study.run, prepared)
    begin = loop._start(network, loop._begin(study.run, network, here), None)
    servers, workers, pulled = [], [], []

    def look(states):
        kinds = {kind: sum(node[0] == kind for node in states) for kind in ("server", "worker")}
        servers.append([states["server", i].params for i in range(kinds["server"])])
        workers.append([states["worker", j].params for j in range(kinds["worker"])])
        assert network.count_pulls is not None
        pulled.append(network.count_pulls(states))

    look(begin.states)
    for _, moment in loop.updates(network, here, begin, prepared.timeline, lambda step: False):
        look(moment.states)
    return np.array(servers), np.array(workers), np.diff(pulled, axis=0)


def first_of(study):
    how = Pulling(SERVERS, 1, N, 2, EVERY, 1)
    return [int(each.first) for each in start_pulls(how, 1, study.seed)]


def checkpoints_of(name, executor, **changes):
    study = study_of(name, executor=executor, **changes)
    with executors.session(study.executor) as execute:
        return list(execute(study.task))


def is_the_same(one, other):
    return all(
        np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
        for a, b in zip(
            (*one.evaluation, one.params, *one.traffic), (*other.evaluation, other.params, *other.traffic), strict=True
        )
    )


# runs against the plain reading


@pytest.mark.parametrize("name", ["far", "near, momentum", by_night("few remembered")])
def test_a_run_is_that_of_the_definition(name):
    study = study_of(name)
    expected = reference.train(given_of(name), drawn(study), first_of(study), reference.Paper())
    servers, workers, pulled = states_of(study)
    np.testing.assert_array_equal(pulled, expected.pulled)
    np.testing.assert_allclose(servers, expected.servers, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(workers, expected.workers, rtol=1e-4, atol=1e-5)
    # a mistake would be seen: servers and workers differ, models are refused, and some workers find none
    assert np.abs(servers[-2] - servers[-2][1]).max() > 1e-3
    assert np.abs(workers[-2] - workers[-2][-1]).max() > 1e-3
    assert pulled.sum(axis=1).max() > 1
    assert expected.alone


@pytest.fixture(scope="module")
def told():
    study = study_of("far")
    return study, states_of(study)


class Passes(reference.Paper):
    """Without filters."""

    def is_smooth(self, coefficient, known, share):
        return True

    def is_near(self, distance, first_step, t, every, n, f):
        return True


class PassesSmooth(reference.Paper):
    """Without the models filter."""

    def is_near(self, distance, first_step, t, every, n, f):
        return True


class PassesNear(reference.Paper):
    """Without the Lipschitz filter."""

    def is_smooth(self, coefficient, known, share):
        return True


class OtherShare(reference.Paper):
    """The quantile of the Byzantine servers."""

    def share(self, servers, liars):
        return liars / servers


class AllOfThem(reference.Paper):
    """The largest coefficient in the place of a quantile."""

    def share(self, servers, liars):
        return 1.0


class Backwards(reference.Paper):
    """The servers in the other order."""

    def server(self, first, t, tries, servers):
        return (first + t - tries) % servers


class SameStart(reference.Paper):
    """All workers begin with one server."""

    def server(self, first, t, tries, servers):
        return (t + tries) % servers


class Standing(reference.Paper):
    """Each worker begins with the same server in every round."""

    def server(self, first, t, tries, servers):
        return (first + tries) % servers


@pytest.mark.parametrize(
    "mutant", [Passes, PassesSmooth, PassesNear, OtherShare, AllOfThem, Backwards, SameStart, Standing]
)
def test_another_definition_is_noticed(told, mutant):
    study, (_, workers, pulled) = told
    other = reference.train(given_of("far"), drawn(study), first_of(study), mutant())
    assert (pulled != other.pulled).any() or np.abs(workers - other.workers).max() > 1e-3


def test_lies_that_are_far_are_never_kept():
    servers, workers, pulled = states_of(study_of("far"))
    _, trusting, _ = states_of(study_of("far", topology=TOPOLOGY | {"server_attack": "none"}))
    assert pulled[:, 0].sum() > 0
    # a lie is 40 steps away from the model of its receiver
    honest = workers[:, 2:] - servers[:, -1:]
    assert np.linalg.norm(honest, axis=-1).max() < 2 * np.linalg.norm(trusting[:, 2:] - servers[:, -1:], axis=-1).max()


def test_workers_of_equal_servers_keep_their_model_or_their_own_guess():
    # nobody lies to a server, and all have one model
    study = study_of(attack="none", workers={"total": N, "byzantine": 0}, topology=TOPOLOGY | {"server_attack": "none"})
    servers, workers, pulled = states_of(study)
    assert (servers == servers[:, :1]).all()
    kept = (workers == servers[:, :1]).all(axis=-1)
    in_scatter = np.arange(1, STEPS + 1) % EVERY != 0
    asked = pulled.sum(axis=1)
    assert not asked[~in_scatter].any()
    assert kept[1:][~in_scatter].all()
    # who asked all servers may have refused all, and nobody else has
    assert (kept[1:] | (asked == SERVERS)).all()
    assert (asked[in_scatter] == 1).mean() > 0.5


@pytest.mark.parametrize("executor", ["loop", by_night("vectorised")])
def test_with_an_exchange_in_every_round_both_variants_are_one(executor):
    synchronous = checkpoints_of("far", executor, topology=TOPOLOGY | {"gather_every": 1})
    other = {"variant": "asynchronous", "window": None, "gather_every": 1, "unproven": True}
    all_of_them = {"quorum_servers": SERVERS, "quorum_workers": N}
    asynchronous = checkpoints_of("far", executor, topology=TOPOLOGY | other | all_of_them)
    for one, two in zip(synchronous, asynchronous, strict=True):
        np.testing.assert_allclose(one.params, two.params, rtol=1e-5, atol=1e-6)
        assert one.traffic == two.traffic


# the filters


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0, np.inf]), max_size=12),
    st.integers(1, 7),
    st.integers(1, 9),
    st.data(),
)
def test_the_largest_coefficient_is_a_quantile_of_the_last_ones(tried, servers, window, data):
    liars = data.draw(st.integers(0, servers - 1))
    how = Pulling(servers, liars, N, 2, EVERY, window)
    ring = np.full(window, np.inf)
    for place, each in enumerate(tried):
        ring[place % window] = each
    last, share = tried[-window:], (servers - liars) / servers
    found = float(largest_coefficient(jnp.asarray(ring), jnp.asarray(len(tried)), how))
    at_most = [value for value in last if sum(v <= value for v in last) >= share * len(last) - 1e-9]
    assert found == min(at_most, default=np.inf)


def test_the_largest_distance_is_that_of_the_bound():
    how = Pulling(5, 1, 12, 2, 10, 1)
    # (3 * 10 + 2) * 10 / 8 = 40, and 2 * (t - 1 mod 10)
    assert [float(largest_distance(jnp.float32(0.5), jnp.asarray(t), how)) for t in (0, 1, 2, 9, 11)] == [
        0.5 * (40 + 2 * more) for more in (9, 0, 1, 8, 0)
    ]
    assert largest_distance(jnp.float32(0.5), jnp.asarray(3), how._replace(f=0)) == np.inf


@pytest.mark.parametrize("executor", ["loop", "vectorised"])
def test_models_that_are_no_numbers_are_refused(executor):
    changes = {"topology": TOPOLOGY | {"server_attack": "non_finite"}, "steps": 8}
    (*_, last) = checkpoints_of("far", executor, **changes)
    assert np.isfinite(last.params).all()
    assert np.isfinite(last.evaluation.train_loss)


# executors


@pytest.mark.parametrize("name", ["far", by_night("near, momentum"), by_night("few remembered")])
def test_compiled_loops_are_within_rounding_of_one_event_after_the_other(name):
    recording = {"record": {"weights": True, "rows": 2}}
    for one, other in zip(*(checkpoints_of(name, each, **recording) for each in ("loop", "vectorised")), strict=True):
        np.testing.assert_allclose(other.params, one.params, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.evaluation, one.evaluation, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(other.weights, one.weights, rtol=1e-5)
        assert one.traffic == other.traffic
        for a, b in zip(other.recorded, one.recorded, strict=True):
            for name_of, mine, expected in zip(a._fields, a, b, strict=True):
                np.testing.assert_allclose(mine, expected, rtol=1e-3, atol=1e-5, err_msg=name_of)


@pytest.mark.parametrize(
    ("name", "actors"), [("far", 2), by_night("near, momentum", 1), by_night("far", 5), by_night("few remembered", 3)]
)
def test_ray_is_bitwise_equal_to_loop(ray_session, name, actors):
    changes = {"record": {"weights": True, "rows": 2}}
    expected = checkpoints_of(name, "loop", **changes)
    got = list(ray_session(study_of(name, executor={"name": "ray", "actors": actors}, **changes)))
    for one, other in zip(expected, got, strict=True):
        assert is_the_same(one, other)
        for a, b in zip(one.recorded, other.recorded, strict=True):
            np.testing.assert_equal(a._asdict(), b._asdict())
    assert digest(expected) == digest(got)


@pytest.mark.slow
def test_ray_is_bitwise_equal_to_loop_where_nothing_is_forged(ray_session):
    changes = {"topology": TOPOLOGY | {"server_attack": "none"}, "attack": "none"}
    expected = checkpoints_of("far", "loop", **changes)
    got = list(ray_session(study_of("far", executor={"name": "ray", "actors": 2}, **changes)))
    assert all(is_the_same(*pair) for pair in zip(expected, got, strict=True))


@pytest.mark.parametrize("executor", ["loop", by_night("vectorised")])
def test_a_run_that_was_left_goes_on_to_the_same_numbers(executor):
    kept, study = [], study_of("near, momentum", executor=executor)
    with executors.session(study.executor) as execute:
        saving = Saving(lambda seed, snapshot: kept.append(snapshot), every_s=None, every=3)
        whole = list(execute(study.task, saving=saving))
        assert len(kept) > 1
        for snapshot in kept:
            rest = list(execute(study.task, {0: snapshot}))
            assert all(is_the_same(*pair) for pair in zip(whole[-len(rest) :], rest, strict=True))


def test_a_timeline_is_replayed():
    study = study_of()
    whole = checkpoints_of("far", "loop")
    assert all(is_the_same(*pair) for pair in zip(whole, loop.replay(study.task, plan(study.run)), strict=True))


def test_the_table_can_be_carried_out():
    study = study_of()
    network, here = network_of(study.run, prepare(study.run))
    event_contract.check(network, STEPS, lambda update: np.asarray(here.byzantine_rank) >= 0)


# the ledger


def test_every_model_that_was_pulled_is_a_message(told, tmp_path):
    study, (_, _, pulled) = told
    result = byzax.run(given_of(), out=tmp_path / "results", quiet=True)
    bits, rounds = message_bits(study.run), result.metrics["step"].to_numpy()
    gathered = rounds // EVERY
    asked = np.array([pulled[:t].sum() for t in rounds])
    assert result.metrics["bits_up"].tolist() == (rounds * N * SERVERS * bits).tolist()
    assert result.metrics["bits_peer"].tolist() == (gathered * SERVERS * (SERVERS - 1) * bits).tolist()
    assert result.metrics["bits_down"].tolist() == ((gathered * N * SERVERS + asked) * bits).tolist()
    messages = rounds * N * SERVERS + gathered * SERVERS * (SERVERS - 1 + N) + 2 * asked
    assert result.metrics["messages"].tolist() == messages.tolist()
    # the command shares what was asked for out among the links
    file, last = tmp_path / "links.json", result.metrics.iloc[-1]
    assert command("ledger", str(tmp_path / "results"), "--json", str(file)).exit_code == 0
    links = json.loads(file.read_text())["links"]
    assert sum(link["messages"] for link in links) == last["messages"]
    for way in ("up", "down", "peer"):
        assert sum(link["bits"] for link in links if link["way"] == way) == last[f"bits_{way}"]


def test_of_a_scenario_the_first_model_of_every_round_is_counted(tmp_path):
    scenario, file = tmp_path / "pulls.yaml", tmp_path / "links.json"
    scenario.write_text(json.dumps(given_of()))
    assert command("ledger", str(scenario), "--json", str(file)).exit_code == 0
    links = json.loads(file.read_text())["links"]
    down = sum(link["messages"] for link in links if link["way"] == "down")
    assert down == 3 * N * SERVERS + (STEPS - 3) * N


# what is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quorum_servers": 4}, "quorum_servers is for the asynchronous variant: with variant synchronous all wait"),
        ({"quorum_workers": 6}, "quorum_workers is for the asynchronous variant"),
        # whatever it is
        ({"quorum_servers": 1}, "quorum_servers is for the asynchronous variant"),
        ({"servers": 4}, r"servers must be at least 3 byzantine_servers \+ 2 = 5"),
        ({"variant": "asynchronous", "window": 3}, "window is of the filters of the synchronous variant"),
        ({"variant": "synchron"}, "variant"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, words):
    with pytest.raises(OptionError, match=words):
        build("byzsgd", 8, 2, **{"variant": "synchronous"} | options)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "adam"}, "by its own gradient: take optimizer sgd, or take variant asynchronous"),
        ({"local": {"steps": 2}}, "leave local out"),
        ({"variance_reduction": "saga"}, "leave variance_reduction out"),
        ({"privacy": {"level": "sample", "clip": 1.0, "noise": 1.0, "delta": 1e-5}}, "leave privacy out"),
        ({"latency": {"name": "constant", "peer": {"delay": 1.0}}}, "leave latency.peer out"),
        (
            {"latency": {"name": "constant", "loss": 0.1}},
            "^topology: byzsgd with variant synchronous: .*leave latency.loss, latency.crashes and latency.outages out",
        ),
        ({"clock": "wall", "executor": "ray"}, "take clock virtual"),
        (
            {"wire": {"down": ["qsgd"]}},
            "sends no models to workers that could be compressed: leave it out, or take another topology, or other",
        ),
        ({"schedule": "asynchronous"}, "take schedule synchronous with quorum all"),
    ],
)
def test_scenarios_that_cannot_be_are_refused_in_one_line(changes, words):
    with pytest.raises(ScenarioError, match=words) as caught:
        byzax.validate(study_of(**changes))
    assert "\n" not in str(caught.value)
