"""Pictures of topologies and their conditions."""

import pytest
from typer.testing import CliRunner

from byzax.experiments import topologies
from byzax.experiments.cli import app

SCENARIO = """
name: small
steps: 3
workers: {total: 12, byzantine: 2}
data: digits
model: softmax
rule: trimmed_mean
attack: sign_flip
topology: TOPOLOGY
"""
RING = "{name: gossip, graph: ring, byzantine_neighbours: 1}"
# rings in which the two Byzantine nodes, 0 and 1, stand apart: by two nodes and more, and by one
APART = [0, 2, 3, 1, 4, 5, 6, 7, 8, 9, 10, 11]
NEAR = [0, 2, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11]
PULLS = "{name: byzsgd, variant: synchronous}"
GUANYU = "{name: guanyu, servers: 7, byzantine_servers: 1, quorum_servers: 5}"


@pytest.fixture
def scenario(tmp_path):
    def write(topology):
        path = tmp_path / "small.yaml"
        path.write_text(SCENARIO.replace("TOPOLOGY", topology))
        return path

    return write


def ring(order):
    pairs = [[one, other] for one, other in zip(order, [*order[1:], order[0]], strict=True)]
    return f"{{name: gossip, graph: {{name: edges, pairs: {pairs}}}, byzantine_neighbours: 1}}"


def unmet(structure):
    return [each for each in topologies.conditions(structure) if not each.met]


@pytest.mark.parametrize(
    "topology", ["parameter_server", RING, GUANYU, "{name: byzsgd, gather_every: 3}", PULLS, "all_gather"]
)
def test_a_picture_is_made_and_all_conditions_are_met(scenario, tmp_path, topology):
    structure = topologies.read(scenario(topology), [])
    assert topologies.conditions(structure)
    assert not unmet(structure)
    picture = topologies.draw(structure, tmp_path / "picture.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_byzantine_servers_and_workers_are_told(scenario):
    structure = topologies.read(scenario(GUANYU), [])
    assert structure.byzantine == {("worker", 0), ("worker", 1), ("server", 0)}
    numbers = {(each.way, each.kinds): len(each.pairs) for each in structure.links}
    assert numbers == {
        ("up", ("worker", "server")): 84,
        ("peer", ("server", "server")): 42,
        ("down", ("server", "worker")): 84,
    }


def test_links_of_rounds_in_which_nothing_is_exchanged_are_there(scenario):
    structure = topologies.read(scenario("{name: byzsgd, gather_every: 3}"), [])
    assert [len(each.pairs) for each in structure.links if each.way == "peer"] == [5 * 4]


def test_servers_whose_lies_may_be_the_median_are_a_condition_that_is_not_met(scenario):
    topology = "{name: byzsgd, variant: synchronous, servers: 4, byzantine_servers: 2, unproven: true}"
    (mostly_lies,) = unmet(topologies.read(scenario(topology), []))
    assert mostly_lies.words == "most of what is read is honest: 4 > 2 * 2"


def test_of_a_graph_that_is_drawn_anew_the_first_round_is_shown(scenario):
    graph = "{name: random_regular, degree: 4}"
    topology = f"{{name: gossip, graph: {graph}, redraw_every: 1, byzantine_neighbours: 2}}"
    structure = topologies.read(scenario(topology), [])
    assert [len(each.pairs) for each in structure.links] == [12 * 4]
    assert structure.name.endswith("first round")
    assert not [each for each in topologies.conditions(structure) if "11 neighbours" in each.reads]


def test_honest_nodes_that_are_cut_off_are_told(scenario):
    structure = topologies.read(scenario(ring(APART)), [])
    (cut,) = unmet(structure)
    assert cut.words == "each has a way to each other one over honest nodes"


def test_more_byzantine_neighbours_than_the_rule_is_told_are_a_condition_that_is_not_met(scenario):
    structure = topologies.read(scenario(ring(NEAR)), [])
    assert ("node 2", "at most f = 1 Byzantine neighbours: 2") in {
        (each.receivers, each.words) for each in unmet(structure)
    }


def test_more_byzantine_workers_than_declared_are_a_condition_that_is_not_met(scenario):
    structure = topologies.read(scenario("parameter_server"), ["workers.declared=1"])
    assert [each.words for each in unmet(structure)] == ["at most f = 1 Byzantine workers are declared: 2"]


@pytest.mark.parametrize(
    ("topology", "rule", "words"),
    [
        (RING, "krum", "node 0 has 2 neighbours"),
        ("{name: guanyu, servers: 5}", "median", "must be at least 3 byzantine_servers + 3"),
        ("parameter_server", "krum", ""),
    ],
)
def test_a_topology_that_cannot_be_built_is_an_error_with_its_reason(scenario, tmp_path, topology, rule, words):
    picture = tmp_path / "picture.svg"
    arguments = ["topology", str(scenario(topology)), "--set", f"rule={rule}", "--out", str(picture)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == (2 if words else 0)
    assert words in done.output
    assert picture.exists() == (not words)


def test_a_file_of_somebody_else_is_not_replaced(scenario, tmp_path):
    mine = tmp_path / "mine.png"
    mine.write_text("mine")
    done = CliRunner().invoke(app, ["topology", str(scenario(RING)), "--out", str(mine)])
    assert done.exit_code == 2
    assert mine.read_text() == "mine"
