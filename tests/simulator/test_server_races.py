"""Races of several servers: whose turn it is, real actors that are slow or killed, and replays to the same bits."""

import heapq
import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import byzax
from byzax.simulator import executors, round_contract
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.config.part import Choice
from byzax.simulator.config.study import Study
from byzax.simulator.durations import MessageBits
from byzax.simulator.executors import RunError, loop
from byzax.simulator.executors.base import delivered, digest, plan
from byzax.simulator.executors.driver import Saving
from byzax.simulator.executors.round_crew import News, RoundCrew
from byzax.simulator.executors.round_racing import race_rounds
from byzax.simulator.executors.round_record import RaceRecord
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.parts import topology
from byzax.simulator.replica_steps import GATHER, PULL, UPDATE
from byzax.simulator.round_table import WORK
from byzax.simulator.rounds import Rounds, RoundStep
from byzax.simulator.timeline import check
from byzax.simulator.timeline_files import load, save
from byzax.simulator.wire import wire_bits
from tests.nightly import by_night
from tests.simulator.conftest import processes, same
from tests.simulator.test_replicas import CASES, SCENARIO, scenario_of

# whose turn it is


class Machines:
    """Machines in place of actors: the seconds of turns and messages are asked for, and all that happens is kept."""

    def __init__(self, rounds, computing=lambda turn: 0.0, way=lambda turn, reader: 0.0, kills=()):
        """Takes the seconds of a turn and of a message, and what dies when: pairs of a second and nodes."""
        self.rounds, self.computing, self.way = rounds, computing, way
        self.now, self.order, self.coming = 0.0, itertools.count(), []
        # when each turn was begun and whom it read, and what came when to those that may read it
        self.heard, self.came, self.dead = {}, {}, set()
        for second, nodes in kills:
            self.put(second, News(second, "died", nodes=tuple(nodes)))

    def crew(self):
        return RoundCrew(
            begin=self.begin, send=self.send, pass_by=lambda turn: None, take_back=lambda turn: None,
            leave=lambda node, round_: None, news=self.news, clock=lambda: self.now,
        )  # fmt: skip

    def put(self, second, news):
        heapq.heappush(self.coming, (second, next(self.order), news))

    def node(self, turn):
        return self.rounds.steps[turn.step].kind, turn.node

    def begin(self, turn, heard):
        senders = self.rounds.steps[turn.step].senders[turn.node]
        self.heard[turn] = self.now, [senders[place] for place in heard]
        self.put(self.now + self.computing(turn), News(0.0, "done", turn))

    def send(self, turn, readers):
        for reader in readers:
            self.put(self.now + self.way(turn, reader), News(0.0, "there", turn, (reader,)))

    def news(self, timeout_s):
        until = self.now + timeout_s
        self.now = min(until, max(self.now, self.coming[0][0])) if self.coming else until
        found = []
        while self.coming and self.coming[0][0] <= self.now:
            _, order, news = heapq.heappop(self.coming)
            if news.event == "died":
                self.dead |= {*news.nodes}
            elif self.node(news.turn if news.event == "done" else news.readers[0]) in self.dead:
                continue
            for reader in news.readers:
                self.came.setdefault(reader, {})[news.turn.node] = self.now
            # none of them comes together: each is told with its own second
            found.append(news._replace(at_s=self.now + order * 1e-12))
        return found


def finish(record, latency, bits, machines):
    halfway = None
    for _ in itertools.islice(race_rounds(record, latency, 0, bits, machines.crew()), 1_000_000):
        if halfway is None and record.ended > record.steps // 2:
            halfway = record.timeline()
    assert record.stopped or record.ended == record.steps, "the race does not end"
    made = record.timeline()
    if halfway is not None:
        # what was told on the way stays as it was, and is true in the end
        round_contract.check(record.rounds, halfway, 0)
        np.testing.assert_array_equal(halfway.time_s, made.time_s[: halfway.steps])
        ones = np.ones(len(record.rounds.steps[0].senders), int)
        np.testing.assert_array_equal(delivered(halfway, ones), delivered(made, ones)[: halfway.steps + 1])
    return made


def rounds_of(study):
    described = topology(study.run).rounds
    assert described is not None
    return described(study.run)


GOSSIP = {
    "gossip": {"topology": {"name": "gossip", "graph": "torus", "quorum": 3}},
    "gossip, redrawn": {"topology": {"name": "gossip", "graph": "erdos_renyi", "redraw_every": 2, "quorum": 4}},
}


@pytest.mark.parametrize("name", [*CASES, *GOSSIP])
def test_a_race_of_machines_without_haste_is_the_plan(name):
    study = parse_as(Study, SCENARIO | (CASES | GOSSIP)[name] | {"steps": 20, "workers": {"total": 12, "byzantine": 2}})
    rounds, planned = rounds_of(study), plan(study.run)
    machines = Machines(rounds)
    made = finish(RaceRecord(rounds, 20), study.run.latency, wire_bits(study.run), machines)
    round_contract.check(rounds, check(made, 12), 0)
    round_contract.check(rounds, planned, 0)
    for one, other in zip(made.rounds, planned.rounds, strict=True):
        # the last turns of a plan may come after its last update
        done = np.isfinite(one.end_s)
        assert done[:-2].all()
        np.testing.assert_array_equal(one.taken[done], other.taken[done])
        np.testing.assert_allclose(one.end_s[done], other.end_s[done], atol=1e-9)
    np.testing.assert_allclose(made.time_s, planned.time_s, atol=1e-9)
    np.testing.assert_array_equal(made.rows.workers, planned.rows.workers)
    np.testing.assert_allclose(made.rows.arrived_s, planned.rows.arrived_s, atol=1e-9)


LATENCY, BITS = Choice("latency", LatencyPart), MessageBits(32, 32, 32)


def drawn_rounds(data, n, servers):
    """Rounds of servers, or of peers of which each goes on alone where it hears too few."""
    everyone, them = tuple(range(n)), tuple(range(servers))
    work = RoundStep(WORK, "worker", ((),) * n, works=True)
    rows, models = data.draw(st.integers(1, n), "rows"), data.draw(st.integers(1, servers), "models")
    if data.draw(st.booleans(), "peers"):
        linked = np.random.default_rng(n).random((3, n, n)) < 0.6
        linked |= np.eye(n, dtype=bool)
        joined = data.draw(st.sampled_from([None, lambda seed, t: linked[t % 3]]), "joined")
        mix = RoundStep("mix", "worker", (everyone,) * n, WORK, rows, alone=True, joined=joined)
        return Rounds((work, mix), "mix", everyone[1:])
    steps = (
        work,
        RoundStep(UPDATE, "server", (everyone,) * servers, WORK, rows),
        RoundStep(GATHER, "server", (them,) * servers, UPDATE, models, every=data.draw(st.integers(1, 3), "every")),
        RoundStep(PULL, "worker", (them,) * n, GATHER, models),
    )
    return Rounds(steps, GATHER, them[1:])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_each_node_reads_the_first_that_come_to_it_whoever_is_late_lost_or_dead(data):
    n, servers = data.draw(st.integers(3, 5), "workers"), data.draw(st.integers(3, 5), "servers")
    rounds, steps = drawn_rounds(data, n, servers), data.draw(st.integers(1, 6), "steps")
    nodes = [*dict.fromkeys((step.kind, i) for step in rounds.steps for i in range(len(step.senders)))]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), "seed"))
    kills = [
        (float(rng.exponential(3.0)), {nodes[i] for i in rng.permutation(len(nodes))[: rng.integers(1, 3)]})
        for _ in range(data.draw(st.integers(0, 2), "kills"))
    ]
    crashes = [{"worker": 0, "at": 2.0, "back": 4.0}] if data.draw(st.booleans(), "crash") else []
    outages = [{"from": 1.0, "until": 3.0, "between": [[0, 1], [2]]}] if data.draw(st.booleans(), "outage") else []
    loss = data.draw(st.sampled_from([0.0, 0.2]), "loss")
    latency = LATENCY.validate(
        {"name": "constant", "seconds": 0.0, "loss": loss, "crashes": crashes, "outages": outages}
    )
    machines = Machines(
        rounds, lambda turn: float(rng.exponential(0.3)), lambda turn, reader: float(rng.exponential(1.0)), kills
    )
    made = finish(RaceRecord(rounds, steps), latency, BITS, machines)
    if made.steps:
        round_contract.check(rounds, check(made, n), 0)
    assert made.steps == steps or "never happens" in made.stopped
    for turn, (begun_s, heard) in machines.heard.items():
        step = rounds.steps[turn.step]
        peers = step.kind == rounds.steps[turn.step - 1].kind
        others = [sender for sender in heard if sender != turn.node or not peers]
        if step.reads and (turn.round + 1) % step.every:
            assert heard == [turn.node]
        elif step.reads and not (step.alone and not others):
            assert len(heard) == step.quorums(0, turn.round)[turn.node]
            came = machines.came.get(turn, {})
            if not crashes or machines.node(turn) != ("worker", 0):
                assert others == [*came][: len(others)]
            else:
                # what it had died with it
                assert begun_s < 2 + 1e-6 or all(came[sender] >= 4 for sender in others)
                assert not 2 + 1e-6 < begun_s < 4
    if not (kills or crashes or outages or loss):
        ends = next(each.end_s for each in made.rounds if each.step == rounds.ends)
        assert np.isfinite(ends[:, list(rounds.honest)]).all()
    # who is not killed, and could be heard, is not said to be lost
    lost = {("worker", i) for _, i in made.lost.tolist()} | {("server", i) for _, i in made.lost_servers.tolist()}
    assert lost <= {node for _, those in kills for node in those}


def test_a_peer_that_is_back_begins_with_the_round_that_the_others_are_at():
    everyone = tuple(range(4))
    steps = (
        RoundStep(WORK, "worker", ((),) * 4, works=True),
        RoundStep("mix", "worker", (everyone,) * 4, WORK, 2, alone=True),
    )
    latency = LATENCY.validate(
        {"name": "constant", "seconds": 1.0, "crashes": [{"worker": 0, "at": 5.5, "back": 30.2}]}
    )
    machines = Machines(Rounds(steps, "mix", everyone), way=lambda turn, reader: 0.05)
    made = finish(RaceRecord(machines.rounds, 40), latency, BITS, machines)
    assert made.steps == 40
    jobs = {turn.round: begun_s for turn, (begun_s, _) in machines.heard.items() if turn.step == 0 and turn.node == 0}
    assert [*jobs][:6] == [0, 1, 2, 3, 4, 5]
    after = [round_ for round_, begun_s in jobs.items() if begun_s > 6]
    assert after[0] in (27, 28, 29)
    assert after == [*range(after[0], 40)]


def test_a_race_without_an_honest_server_is_refused_with_the_way_out():
    topology = {"name": "guanyu", "servers": 1, "byzantine_servers": 1, "unproven": True}
    study = race_of(topology=topology)
    with pytest.raises(ScenarioError, match=r"^topology: guanyu: without an honest server.*clock virtual"):
        byzax.validate(study)
    byzax.validate(race_of(topology=topology, clock="virtual", executor="loop"))


def test_times_that_cannot_be_are_named():
    study = scenario_of("ByzSGD")
    rounds, made = rounds_of(study), plan(study.run)
    work, update, gather, pull = made.rounds

    def refused(words, *times, **changes):
        with pytest.raises(ValueError, match=words):
            round_contract.check(rounds, made._replace(rounds=times, **changes), 0)

    def with_taken(step, place, value):
        taken = step.taken.copy()
        taken[place] = value
        return step._replace(taken=taken)

    unheard = int(np.flatnonzero(~update.taken[2, 1])[0])
    one_more = with_taken(update, (2, 1, unheard), True)
    refused("update 2, update of server 1: reads", work, one_more, gather, pull)
    refused("update 2, update of server 1: .*number", work, with_taken(update, (2, 1), False), gather, pull)
    late = work.end_s.copy()
    late[3, int(np.flatnonzero(update.taken[3, 0])[0])] = np.inf
    refused("update 3, update of server 0: reads a message of work", work._replace(end_s=late), update, gather, pull)
    other = with_taken(with_taken(gather, (0, 3), False), (0, 3, 2), True)
    refused("update 0, gather of server 3: does not read its own", work, update, other, pull)
    back = pull.begin_s.copy()
    back[1, 5] = 0.0
    refused("update 1, pull of worker 5: reads", work, update, gather, pull._replace(begin_s=back))
    refused("update 7 does not end with", work, update, gather, pull, time_s=made.time_s * [1, 1, 1, 1, 1, 1, 1, 2])
    refused("other steps: work, update", work, update)


# real actors

STILL = {"name": "constant", "seconds": 0.0}
# six servers and six workers, of which one each is Byzantine, hear five
SIX = {
    "workers": {"total": 6, "byzantine": 1}, "topology": {"name": "guanyu", "servers": 6, "byzantine_servers": 1},
    "clock": "wall", "latency": STILL, "evaluate_every": 5, "steps": 20,
}  # fmt: skip
# four servers and three workers are enough
FEW = {
    "topology": {
        "name": "byzsgd", "servers": 6, "byzantine_servers": 1, "quorum_servers": 4, "quorum_workers": 3,
        "gather_every": 3,
    },
}  # fmt: skip
# with less to compile
HONEST = {
    "workers": {"total": 6, "byzantine": 0}, "attack": "none",
    "topology": FEW["topology"] | {"byzantine_servers": 0, "server_attack": "none"},
}  # fmt: skip
MS = {
    "name": "exponential", "mean": 0.005,
    **{way: {"delay": {"name": "exponential", "mean": 0.005}} for way in ("up", "down", "peer")},
}  # fmt: skip
MISHAPS = MS | {"loss": 0.02, "crashes": [{"worker": 3, "at": 0.5, "back": 1.0}, {"worker": 5, "at": 1.5}]}
RACES = {
    "GuanYu": {},
    "delays": {"latency": MS, "topology": SIX["topology"] | {"server_attack": "equivocate"}, "attack": "little"},
    "momentum": {
        "worker_momentum": 0.9, "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.5},
        "topology": SIX["topology"] | {"server_attack": {"name": "stale"}},
    },
    "mishaps": {**FEW, "latency": MISHAPS, "worker_momentum": 0.5, "steps": 40},
    "gossip": {
        "topology": {"name": "gossip", "graph": "complete", "quorum": 4}, "latency": MISHAPS, "steps": 40,
        "worker_momentum": 0.9,
    },
    "redrawn": {
        "topology": {"name": "gossip", "graph": "erdos_renyi", "redraw_every": 2, "quorum": 3}, "latency": MS,
        "rule": "average",
    },
    "outages": {
        **FEW,
        "latency": MS | {
            "crashes": [{"server": 2, "at": 0.5, "back": 1.0}, {"server": 5, "at": 1.5}],
            "outages": [{"from": 0.6, "until": 1.2, "between": [[0, 1, "server 0"], [3, "server 4"]]}],
        },
    },
    "wire": {
        **FEW, "latency": MS, "worker_momentum": 0.9, "topology": FEW["topology"] | {"server_attack": "equivocate"},
        "wire": {
            "up": [{"name": "top_k", "share": 0.3, "error_feedback": True}], "peer": ["float16"],
            "down": [{"name": "qsgd", "levels": 16}],
        },
    },
    "recorded": {**FEW, "latency": MS, "record": {"weights": True, "rows": 4}},
}  # fmt: skip


def race_of(actors=2, **changes):
    given = SCENARIO | SIX | {"executor": {"name": "ray", "actors": actors}} | changes
    if given["topology"]["name"] != "gossip":
        given["topology"] = {"server_attack": "sign_flip"} | given["topology"]
    return parse_as(Study, given)


def replays(study, raced):
    """Checks the timeline of a race, and that it replays to the same bits."""
    timeline = raced[-1].timeline
    round_contract.check(rounds_of(study), check(timeline, study.workers.total), study.seed)
    again = list(loop.replay(study.task, timeline))[: len(raced)]
    assert same(raced, again)
    assert digest(raced) == digest(again)
    assert [each.gradients for each in raced] == [each.gradients for each in again]
    for one, other in zip(
        *([each for part in those for each in part.recorded] for those in (raced, again)), strict=True
    ):
        np.testing.assert_equal(one._asdict(), other._asdict())
    return timeline


@pytest.mark.parametrize(("name", "actors"), [by_night(name, actors) for name in RACES for actors in (2, 6)])
def test_a_race_of_several_servers_replays_to_the_same_bits(ray_session, tmp_path, name, actors):
    study = race_of(actors, **RACES[name])
    raced = list(ray_session(study))
    assert [each.step for each in raced] == [*range(0, study.steps + 1, 5)]
    timeline = replays(study, raced)
    # a message counts from the evaluation on after which it was sent
    assert raced[-1].traffic == list(loop.replay(study.task, timeline))[-1].traffic
    save(timeline, tmp_path / "timeline.npz")
    for one, other in zip(load(tmp_path / "timeline.npz").rounds, timeline.rounds, strict=True):
        np.testing.assert_equal(one, other)
    if study.run.latency.name == "exponential":
        # nobody takes turns: nodes hear others in other rounds
        assert len(np.unique(timeline.rounds[1].taken.reshape(-1, 6), axis=0)) > 3


@pytest.mark.slow
def test_seconds_of_links_pass_for_real_and_a_slow_server_is_seldom_heard(ray_session, tmp_path):
    (tmp_path / "own.py").write_text(
        "import numpy as np\n\n\ndef slow():\n"
        "    def seconds(rng, sender, first, count):\n"
        "        return np.full(count, 0.4 if sender == 4 else 0.01)\n"
        "    return seconds\n"
    )
    study = race_of(2, latency={"name": "constant", "seconds": 0.01, "peer": {"delay": f"{tmp_path}/own.py:slow"}})
    begin = time.monotonic()
    raced = list(ray_session(study))
    timeline = replays(study, raced)
    # of job, the way between servers, and no more
    assert 20 * 0.02 < raced[-1].time_s < time.monotonic() - begin
    update, gather = ({each.step: each for each in timeline.rounds}[name] for name in (UPDATE, GATHER))
    others = np.arange(6) != 4
    assert gather.taken[:, others, 4].mean() < 0.1
    assert gather.taken[:, others][:, :, others].mean() > 0.9
    # messages are read no sooner than they can be there
    sent_s = np.where(gather.taken[:, 0, 1:4], update.end_s[:, 1:4], -np.inf).max(axis=1)
    assert (gather.begin_s[1:, 0] - sent_s[1:] > 0.01 - 1e-6).all()


@pytest.mark.parametrize(
    ("changes", "actors", "goes_on"),
    [
        ({**HONEST, "latency": MS, "steps": 60}, 3, True),
        by_night({**FEW, "latency": MS, "steps": 60}, 3, True),
        # each actor has a server and a worker: five of each are enough
        by_night({"steps": 60}, 6, True),
        by_night({"steps": 60, "worker_momentum": 0.9}, 6, True),
        by_night({"steps": 60}, 2, False),
    ],
)
def test_a_killed_actor_takes_its_servers_and_workers_out_of_the_race(ray_session, notices, changes, actors, goes_on):
    study = race_of(actors, **{"latency": MS} | changes)
    notices.clear()
    checkpoints, kept, reason = ray_session(study), [], None
    kept = [next(checkpoints), next(checkpoints)]
    # of the session's actors some may be idle
    for process in processes("ray::WorkerActor")[: 1 if goes_on else None]:
        process.kill()
    begin = time.monotonic()
    try:
        for checkpoint in checkpoints:
            kept.append(checkpoint)
    except RunError as error:
        reason = str(error)
    assert time.monotonic() - begin < 60
    timeline = replays(study, kept)
    if not goes_on:
        assert reason is not None
        assert "never happens" in reason
        return
    assert kept[-1].step == 60
    for pairs, step in ((timeline.lost, WORK), (timeline.lost_servers, PULL)):
        assert len(pairs) in (0, 6 // actors)
        last = GATHER if step == PULL else WORK
        ends = {each.step: each.end_s for each in timeline.rounds}[last]
        for round_, node in pairs.tolist():
            assert not np.isfinite(ends[round_:, node]).any()
            assert np.isfinite(ends[: min(round_, 3), node]).all()
    if len(timeline.lost):
        (line,) = notices
        assert "died: its process was killed" in line
        assert "worker" in line.split(";")[1]
        assert "server" in line.split(";")[1]


@pytest.mark.slow
def test_a_race_without_the_actor_that_evaluates_ends_with_its_name(ray_session):
    checkpoints = ray_session(race_of(2, steps=2000))
    next(checkpoints)
    for process in processes("ray::ServerActor"):
        process.kill()
    with pytest.raises(RunError, match="the parameter-server actor died: its process was killed"):
        list(checkpoints)


# runs in virtual time


PEERS = {
    "GuanYu": {},
    "gossip": {"topology": {"name": "gossip", "graph": "ring"}},
    "gossip with a quorum": {"topology": {"name": "gossip", "graph": "complete", "quorum": 4}, "latency": MS},
}


@pytest.mark.parametrize("kind", [by_night(kind) for kind in PEERS])
def test_a_killed_actor_with_a_server_or_peer_is_replaced_and_the_run_goes_on_to_the_same_numbers(
    ray_session, notices, kind
):
    usual = SIX | {"clock": "virtual", "steps": 120, "evaluate_every": 20, "worker_momentum": 0.9}
    one, other = (
        race_of(**usual | PEERS[kind] | {"executor": each}) for each in ("loop", {"name": "ray", "actors": 3})
    )
    with executors.session(one.executor) as execute:
        expected = list(execute(one.task))
    notices.clear()
    checkpoints = ray_session(other, saving=Saving(every_s=None, every=30))
    kept = [next(checkpoints) for _ in range(3)]
    for process in processes("ray::WorkerActor"):
        process.kill()
    kept.extend(checkpoints)
    assert same(expected, kept)
    assert digest(expected) == digest(kept)
    (line,) = notices
    assert "died: its process was killed" in line
    assert "the run goes on after update" in line
