"""Links that fail, nodes that die and messages that get lost, in virtual time: against one message after the other."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import byzax
from byzax.simulator import executors, rounds
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.config.part import Choice
from byzax.simulator.config.study import Study
from byzax.simulator.durations import Durations, MessageBits
from byzax.simulator.executors.base import plan
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.replica_steps import GATHER, PULL, UPDATE
from byzax.simulator.round_table import WORK
from byzax.simulator.rounds import Rounds, RoundStep, plan_rounds
from byzax.simulator.timeline import Outcome
from byzax.simulator.usage import usage
from tests.reference import peers
from tests.reference import replicas as reference

DATA = {"name": "gaussian_mixture", "samples": 60, "shape": [3], "classes": 2, "batch_size": 4}
SCENARIO = {
    "name": "outages", "steps": 6, "data": DATA, "model": "softmax", "rule": "average", "attack": "none",
    "executor": "loop", "workers": {"total": 4, "byzantine": 0}, "evaluate_every": 6,
}  # fmt: skip
STEPS = 5


def source_of(**latency):
    return Choice("latency", LatencyPart).validate({"name": "constant", **latency})


def planned_with(described, steps, computing, delays, source):
    """The plan with these seconds of computing `[T, n]` and of messages `[T, receivers, k]`, infinite for lost ones."""

    def build_draws(source, n, seed, bits):
        def draw(worker):
            nothing = np.zeros(rounds.BLOCK)
            return lambda first, count: Durations(
                nothing, np.resize(computing[:, worker], count), nothing, nothing.astype(bool)
            )

        return [draw(worker) for worker in range(n)]

    order = iter([step for step in described.steps if step.reads])

    def build_links(source, seed, bits, way, senders):
        spans = delays[next(order).name].copy()
        if way == "peer":
            for node, those in enumerate(senders):
                spans[:, node, those.index(node)] = 0
        whole = np.concatenate([spans, np.zeros((rounds.BLOCK - len(spans), *spans.shape[1:]))])
        return lambda first, count: (np.where(np.isinf(whole), 0, whole), np.isinf(whole))

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(rounds, "build_draws", build_draws)
        monkeypatch.setattr(rounds, "build_links", build_links)
        return plan_rounds(described, steps, source, 0, MessageBits(32, 32, 32))


def leaves_of(outages):
    """The second at which a message leaves, from the outages as they are written."""

    def leaves(sender, receiver, now):
        for each in sorted(outages, key=lambda each: each["from"]):
            sides = [
                [name for name, group in enumerate(each["between"]) if spelled(node) in group]
                for node in (sender, receiver)
            ]
            if sides[0] and sides[1] and sides[0] != sides[1] and each["from"] <= now < each["until"]:
                if each["messages"] == "lost":
                    return math.inf
                now = each["until"]
        return now

    return leaves


def spelled(node):
    kind, number = node
    return number if kind == "worker" else f"server {number}"


def draw_outages(data, nodes):
    found = []
    for i in range(data.draw(st.integers(0, 2), "outages")):
        begin = data.draw(st.integers(0, 12), f"from {i}")
        sides = [data.draw(st.integers(0, 2), f"side of {node}") for node in nodes]
        groups = [[spelled(node) for node, side in zip(nodes, sides, strict=True) if side == k] for k in range(2)]
        if all(groups):
            mode = data.draw(st.sampled_from(["lost", "delayed"]))
            length = data.draw(st.integers(1, 9), f"seconds of {i}")
            found.append({"from": float(begin), "until": float(begin + length), "between": groups, "messages": mode})
    return found


def draw_lives(data, count, word):
    """Crashes of nodes as they are written, and the spells of life of each."""
    crashes, spells = [], {}
    for node in range(count):
        spells[node] = [(0.0, math.inf)]
        if data.draw(st.integers(0, 3), f"{word} {node} dies") == 0:
            at = float(data.draw(st.integers(1, 15), f"{word} {node} at"))
            back = data.draw(st.sampled_from([None, 1.0, 4.0, 9.0]), f"{word} {node} back after")
            crashes.append({word: node, "at": at} | ({} if back is None else {"back": at + back}))
            spells[node] = [(0.0, at)] + ([] if back is None else [(at + back, math.inf)])
    return crashes, spells


def seconds_of(data):
    # few different seconds: many messages arrive together
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), "seed"))
    most = data.draw(st.integers(1, 5), "different seconds")
    lost = data.draw(st.sampled_from([0.0, 0.2]), "loss")

    def draw(*shape, losing=True):
        found = rng.integers(0 if losing else 1, most + 1, shape).astype(float)
        return np.where(rng.random(shape) < lost, np.inf, found) if losing else found

    return draw


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_servers_hear_whom_the_messages_one_by_one_say(data):
    n, servers = data.draw(st.integers(2, 4), "workers"), data.draw(st.integers(2, 4), "servers")
    rows, models = data.draw(st.integers(1, n), "rows"), data.draw(st.integers(1, servers), "models")
    every, draw = data.draw(st.integers(1, 2), "every"), seconds_of(data)
    computing = draw(STEPS, n, losing=False)
    delays = {UPDATE: draw(STEPS, servers, n), GATHER: draw(STEPS, servers, servers), PULL: draw(STEPS, n, servers)}
    outages = draw_outages(data, [("worker", i) for i in range(n)] + [("server", i) for i in range(servers)])
    crashes, spells = draw_lives(data, servers, "server")
    everyone, them = tuple(range(n)), tuple(range(servers))
    described = Rounds(
        (
            RoundStep(WORK, "worker", ((),) * n, works=True),
            RoundStep(UPDATE, "server", (everyone,) * servers, WORK, rows),
            RoundStep(GATHER, "server", (them,) * servers, UPDATE, models, every=every),
            RoundStep(PULL, "worker", (them,) * n, GATHER, models),
        ),
        GATHER,
        them,
    )
    made = planned_with(described, STEPS, computing, delays, source_of(outages=outages, crashes=crashes))
    names = {reference.UPDATE: UPDATE, reference.GATHER: GATHER, reference.PULL: PULL}
    expected = reference.heard(
        n, servers, rows, models, every, STEPS, lambda worker, t: computing[t, worker],
        lambda phase, t, sender, receiver: delays[names[phase]][t, receiver, sender],
        leaves=leaves_of(outages),
        dead=lambda server, now: not any(begin <= now < end for begin, end in spells[server]),
        dies=[(crash["at"], crash["server"]) for crash in crashes],
    )  # fmt: skip
    # the run ends with the first round that no server ends
    ended = [t for t in range(STEPS) if not any((reference.GATHER, i, t) in expected for i in them)]
    assert made.steps == min(ended, default=STEPS)
    times = {each.step: each for each in made.rounds}
    for phase, name in names.items():
        for node in range(n if name == PULL else servers):
            for t in range(made.steps):
                end_s, senders = expected.get((phase, node, t), (math.inf, []))
                assert times[name].end_s[t, node] == end_s
                assert np.flatnonzero(times[name].taken[t, node]).tolist() == senders


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_peers_hear_whom_the_messages_one_by_one_say(data):
    n, draw = data.draw(st.integers(2, 5), "nodes"), seconds_of(data)
    quorum = data.draw(st.integers(1, n - 1), "quorum")
    pairs = [(i, j) for i in range(n) for j in range(i) if data.draw(st.booleans(), f"edge {i} {j}")]
    around = [sorted({j for pair in pairs if i in pair for j in pair} - {i}) for i in range(n)]
    senders = tuple(tuple(sorted([i, *around[i]])) for i in range(n))
    computing, delays = draw(STEPS, n, losing=False), draw(STEPS, n, max(map(len, senders)))
    outages = draw_outages(data, [("worker", i) for i in range(n)])
    crashes, spells = draw_lives(data, n, "worker")
    described = Rounds(
        (
            RoundStep("work", "worker", ((),) * n, works=True),
            RoundStep("mix", "worker", senders, "work", quorum + 1, alone=True),
        ),
        "mix",
        tuple(range(n)),
    )
    made = planned_with(described, STEPS, computing, {"mix": delays}, source_of(outages=outages, crashes=crashes))
    leaves = leaves_of(outages)
    expected = peers.heard(
        around, quorum, STEPS, lambda node, t: computing[t, node],
        lambda t, sender, receiver, now: leaves(("worker", sender), ("worker", receiver), now)
        + delays[t, receiver, senders[receiver].index(sender)],
        lambda node: spells[node],
    )  # fmt: skip
    work, mix = made.rounds
    assert made.steps == min((t for t in range(STEPS) if all((i, t) not in expected for i in range(n))), default=STEPS)
    for t in range(made.steps):
        for node in range(n):
            sent, now, read = expected.get((node, t), (math.inf, math.inf, None))
            assert (work.end_s[t, node], mix.end_s[t, node]) == (sent, now)
            mine = {senders[node][place] for place in np.flatnonzero(mix.taken[t, node])}
            assert mine == (set() if read is None else read | {node})


# one server


def timeline_of(steps=6, **latency):
    # worker 3 is the fastest
    source = {"name": "constant", "seconds": 1.0, "factors": [1.0, 1.0, 1.0, 0.5], **latency}
    schedule = {"name": "synchronous", "quorum": 3}
    return plan(parse_as(Study, SCENARIO | {"latency": source, "schedule": schedule, "steps": steps}).run)


CUT = {"from": 2.5, "until": 10.5, "between": [[3], ["server 0", 0]]}


@pytest.mark.parametrize("messages", ["lost", "delayed"])
def test_a_worker_that_is_cut_off_is_not_waited_for_and_comes_back(messages):
    made = timeline_of(20, outages=[CUT | {"messages": messages}])
    mine = made.rows.workers == 3
    updates = made.updates[mine].tolist()
    arrived_s = made.rows.arrived_s[mine]
    # its row of second 2.5 is the first that does not leave
    assert updates[:2] == [0, 1]
    assert updates[2] == 11
    assert (arrived_s[2:] >= 10.5).all()
    lost = made.unused.workers[made.outcomes == Outcome.LOST].tolist()
    # the row, and the model that it asked for
    assert lost == ([3, 3] if messages == "lost" else [])
    assert made.time_s[:10].tolist() == [*range(1, 11)]


def test_who_waits_for_all_waits_for_the_links():
    waiting = parse_as(
        Study,
        SCENARIO | {"latency": {"name": "constant", "outages": [CUT]}, "schedule": "synchronous", "steps": 4},
    )
    # the row of second 3 is lost; the worker asks for a model again when the links are back
    assert plan(waiting.run).time_s.tolist() == [1.0, 2.0, 11.5, 12.5]
    late = waiting.replace(latency={"name": "constant", "outages": [CUT | {"messages": "delayed"}]})
    assert plan(late.run).time_s.tolist() == [1.0, 2.0, 10.5, 11.5]


def test_links_within_a_group_and_of_nodes_in_none_work():
    apart = timeline_of(8, outages=[{"from": 0.0, "until": 50.0, "between": [[0, 1], [2, 3]]}])
    assert apart.time_s.tolist() == list(range(1, 9))
    assert (apart.sizes >= 3).all()


def test_a_server_that_died_goes_on_with_the_next_messages_and_agrees_again():
    guanyu = {"name": "guanyu", "servers": 7, "byzantine_servers": 0, "quorum_servers": 4}
    study = parse_as(
        Study,
        SCENARIO | {
            "topology": guanyu, "workers": {"total": 6, "byzantine": 0}, "steps": 10,
            "latency": {"name": "constant", "crashes": [{"server": 2, "at": 2.5, "back": 6.5}]},
        },
    )  # fmt: skip
    times = {each.step: each for each in plan(study.run).rounds}
    assert np.isfinite(times[UPDATE].end_s[:, 2]).tolist() == [True] * 2 + [False] * 4 + [True] * 4
    assert np.isfinite(times[UPDATE].end_s[:, 1]).all()
    models = [update.params for update in byzax.simulate(study.run)]
    # it keeps its model while it is dead, and is with the others again after its first round
    np.testing.assert_array_equal(models[5][2], models[1][2])
    assert np.abs(models[5][2] - models[5][1]).max() > 1e-4
    np.testing.assert_allclose(models[6][2], models[6][1], atol=1e-6)


def test_a_run_that_ends_says_what_is_missing_and_what_to_change():
    guanyu = {"name": "guanyu", "servers": 4, "byzantine_servers": 0, "quorum_servers": 4}
    crashes = [{"server": 0, "at": 3.5}]
    study = parse_as(
        Study,
        SCENARIO | {
            "topology": guanyu, "workers": {"total": 6, "byzantine": 0},
            "latency": {"name": "constant", "crashes": crashes},
        },
    )  # fmt: skip
    said = (
        r"^update 4 never happens: no server takes the step gather: server 0 waits for 4 messages of the step update, "
        r"of which 3 are sent to it and 3 get there: choose smaller quorums in the topology, or fewer lost messages, "
        r"crashes and outages in latency$"
    )
    with executors.session(study.executor) as execute, pytest.raises(RuntimeError, match=said):
        list(execute(study.task))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outages": [CUT | {"until": 2.0}]}, "latency.outages.0.*: until is 2 and must be above from, which is 2.5"),
        ({"outages": [CUT | {"between": [[1]]}]}, "latency.outages.0.*between"),
        ({"outages": [CUT | {"between": [[1], [2, 1]]}]}, "latency.outages.*between names worker 1 twice"),
        (
            {"outages": [CUT | {"between": [[1], [None]]}]},
            r"^\S*latency.outages\[0\].between: names None: a node is the number",
        ),
        ({"outages": [CUT | {"between": [[1], ["srever 1"]]}]}, "between: names 'srever 1'"),
        ({"outages": [CUT | {"between": [1, 2]}]}, "between: must be a list of groups"),
        ({"outages": [CUT | {"between": [[1], [9]]}]}, r"latency.outages: worker 9 is outside 0..3"),
        ({"outages": [CUT | {"between": [["servers"], [1]]}]}, "latency.outages.0.*between"),
        ({"outages": [CUT | {"between": [["server 1"], [1]]}]}, "has no server 1, which latency.outages names"),
        ({"crashes": [{"server": 0, "at": 1.0}]}, "its only server does not die: name workers"),
        ({"crashes": [{"at": 1.0}]}, "latency.crashes.0.*must name one node: give either worker or server"),
        ({"crashes": [{"server": 0, "worker": 1, "at": 1.0}]}, "latency.crashes.0.*must name one node"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, words):
    with pytest.raises(ScenarioError, match=words) as caught:
        byzax.validate(parse_as(Study, SCENARIO | {"latency": {"name": "constant", **changes}}))
    assert "\n" not in str(caught.value)


SERVERS = [["server 0"], ["server 1"], ["server 2"]]
GOSSIP = {"name": "gossip", "graph": "ring", "quorum": 2}


@pytest.mark.parametrize(
    ("groups", "topology", "links"),
    [
        ([[0], [2]], GOSSIP, False),
        ([[0], [2], [1]], GOSSIP, True),
        ([[0, 1], [2]], "pairwise", True),
        ([[1], [3]], "pairwise", False),
        ([[0], [2]], {"name": "gossip", "graph": {"name": "erdos_renyi", "p": 0.5}, "redraw_every": 1}, True),
        ([[0], [1]], "parameter_server", False),
        ([[0, 1], [2, "server 0"]], "parameter_server", True),
        ([[0], [1, 2]], {"name": "guanyu", "servers": 3, "byzantine_servers": 0}, False),
        ([["server 1"], ["server 0"]], {"name": "guanyu", "servers": 3, "byzantine_servers": 0}, True),
    ],
    ids=str,
)
def test_an_outage_between_nodes_that_have_no_link_is_refused(groups, topology, links):
    latency = {"name": "constant", "outages": [CUT | {"between": groups}]}
    study = parse_as(Study, SCENARIO | {"latency": latency, "topology": topology})
    if links:
        byzax.validate(study)
        return
    said = rf"^latency.outages\[0\].between: \w+ has no link between worker {groups[0][0]} and worker {groups[1][0]}, "
    with pytest.raises(ScenarioError, match=said):
        byzax.validate(study)


@pytest.mark.parametrize(
    ("topology", "latency", "key"),
    [
        ({"quorum_workers": 4}, {"crashes": [{"worker": 1, "at": 0.0}]}, "topology.quorum_workers"),
        (
            {"quorum_servers": 3, "quorum_workers": 3},
            {"crashes": [{"server": 1, "at": 0.0}]},
            "topology.quorum_servers",
        ),
        ({"quorum_servers": 3}, {"crashes": [{"worker": 1, "at": 0.0}]}, "latency.crashes"),
        ({}, {"outages": [{"from": 0.0, "until": 1e6, "between": SERVERS}]}, "latency.outages"),
    ],
)
def test_a_run_that_never_makes_an_update_names_the_key_that_was_written(topology, latency, key):
    guanyu = {"name": "guanyu", "servers": 3, "byzantine_servers": 0, **topology}
    study = SCENARIO | {"topology": guanyu, "latency": {"name": "constant", **latency}}
    with pytest.raises(ScenarioError, match=rf"^{key}: update 1 never happens"):
        byzax.validate(parse_as(Study, study))


def test_a_race_refuses_links_that_fail():
    study = SCENARIO | {"latency": {"name": "constant", "outages": [CUT]}, "executor": "ray", "clock": "wall"}
    with pytest.raises(ScenarioError, match="links fail in virtual time alone: take clock virtual"):
        byzax.validate(parse_as(Study, study))


@pytest.mark.parametrize(("back", "computing"), [(4.5, 6.5), (None, 2.5)])
def test_a_job_is_over_when_its_worker_dies(back, computing):
    latency = {"name": "constant", "seconds": 1.0, "crashes": [{"worker": 8, "at": 2.5, "back": back}]}
    topology = {"name": "gossip", "graph": "torus", "quorum": 2, "byzantine_neighbours": 1}
    study = parse_as(
        Study,
        {
            "name": "dies", "steps": 8, "data": "digits", "model": "softmax", "rule": "median", "attack": "sign_flip",
            "workers": {"total": 9, "byzantine": 1}, "topology": topology, "latency": latency,
        },
    )  # fmt: skip
    timeline = plan(study.run)
    found = usage(timeline, 9)
    assert (found.computing_s[8], found.lost[8]) == (computing, 1)
    assert (found.computing_s <= timeline.time_s[-1]).all()
