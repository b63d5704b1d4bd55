"""The ledger: who sends how many messages of how many bits to whom, and the columns and command that show it."""

import json

import numpy as np
import pandas as pd
import pytest

import byzax
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.executors.base import plan
from byzax.simulator.executors.ledger import link_totals, traffic
from byzax.simulator.parts import message_bits
from tests.experiments.command import byzax as command

DATA = {"name": "gaussian_mixture", "samples": 120, "shape": [5], "classes": 3, "batch_size": 4}
SMALL = {
    "name": "ledger", "steps": 6, "evaluate_every": 2, "data": DATA, "model": "softmax", "rule": "median",
    "attack": "none", "workers": {"total": 10, "byzantine": 0}, "executor": "loop",
}  # fmt: skip
BITS = 32 * 18
EXPONENTIAL = {"name": "exponential", "up": {"delay": {"name": "exponential", "mean": 0.3}}}


def sums(**changes):
    run = parse_as(Study, SMALL | changes).run
    timeline = plan(run)
    sent, links = traffic(run, timeline), link_totals(run, timeline)
    assert message_bits(run) == BITS
    # both count the same messages
    assert sent.messages[-1] == sum(link.messages for link in links)
    for way in ("up", "down", "peer"):
        assert getattr(sent, f"bits_{way}")[-1] == sum(link.bits for link in links if link.way == way)
    assert all((np.diff(each) >= 0).all() for each in sent)
    return timeline, sent, links


def test_one_server_sends_every_worker_its_model_and_gets_a_row_back():
    _, sent, links = sums()
    assert sent.messages.tolist() == [20 * t for t in range(7)]
    assert sent.bits_up.tolist() == sent.bits_down.tolist() == [10 * t * BITS for t in range(7)]
    assert not sent.bits_peer.any()
    assert len(links) == 20


def test_rows_that_nobody_uses_are_sent_too():
    timeline, sent, _ = sums(schedule={"name": "synchronous", "quorum": 6}, latency=EXPONENTIAL)
    end = timeline.time_s[-1]
    parts = (timeline.rows, timeline.unused)
    assert sent.bits_up[-1] == BITS * sum(int((part.computed_s <= end).sum()) for part in parts)
    assert sent.bits_down[-1] == BITS * sum(int((part.handed < 6).sum()) for part in parts)
    assert sent.bits_up[-1] > BITS * 6 * 6


@pytest.mark.parametrize(("graph", "edges"), [("ring", 10), ("complete", 45)])
def test_neighbours_send_each_other_one_model_a_round(graph, edges):
    _, sent, links = sums(topology={"name": "gossip", "graph": graph})
    assert sent.messages.tolist() == [2 * edges * t for t in range(7)]
    assert sent.bits_peer[-1] == 2 * edges * 6 * BITS
    assert {link.way for link in links} == {"peer"}


def test_a_lie_is_a_message_of_the_liar():
    workers = {"total": 10, "byzantine": 2}
    honest, attacked = (
        sums(topology={"name": "gossip", "graph": "ring", "byzantine_neighbours": 1},
             workers=workers, attack=attack)[2]
        for attack in ("none", "sign_flip")
    )  # fmt: skip
    assert honest == attacked


@pytest.mark.parametrize("byzantine", [0, 1])
def test_servers_send_models_to_all_and_workers_rows_to_all_servers(byzantine):
    _, sent, _ = sums(topology={"name": "guanyu", "servers": 6, "byzantine_servers": byzantine})
    assert sent.bits_up[-1] == sent.bits_down[-1] == 6 * 10 * 6 * BITS
    assert sent.bits_peer[-1] == 6 * 6 * 5 * BITS


def test_servers_exchange_models_in_the_rounds_in_which_they_gather():
    _, sent, links = sums(topology={"name": "byzsgd", "servers": 5, "gather_every": 4})
    assert sent.bits_peer.tolist() == [0, 0, 0, 0, *[5 * 4 * BITS] * 3]
    assert sum(link.way == "peer" for link in links) == 20


def test_messages_and_bits_are_columns_of_results(tmp_path):
    result = byzax.run(**SMALL | {"name": "columns"}, out=tmp_path / "results", quiet=True)
    assert result.metrics[["messages", "bits_up", "bits_down", "bits_peer"]].to_numpy().tolist() == [
        [20 * t, 10 * t * BITS, 10 * t * BITS, 0] for t in (0, 2, 4, 6)
    ]
    written = pd.read_csv(next((tmp_path / "results").glob("runs/*/metrics.csv")))
    assert written["messages"].tolist() == [0, 40, 80, 120]
    assert result.runs["bits_up"][0] == 60 * BITS


@pytest.fixture
def finished(tmp_path):
    folder = tmp_path / "results"
    byzax.run(**SMALL | {"topology": {"name": "guanyu", "server_attack": "sign_flip"}}, out=folder, quiet=True)
    return folder


def test_the_command_counts_by_directions_links_and_nodes(finished, tmp_path):
    file = tmp_path / "links.json"
    made = command("ledger", str(finished), "--json", str(file))
    assert made.exit_code == 0
    assert "up: worker to server" in made.output
    assert f"{6 * 10 * 6 * BITS:,}" in made.output
    assert "server 0" in made.output
    links = json.loads(file.read_text())["links"]
    assert len(links) == 60 + 60 + 30
    assert sum(link["messages"] for link in links) == 6 * 150
    # it may be written again, and another's file may not
    assert command("ledger", str(finished), "--json", str(file)).exit_code == 0
    file.write_text("mine")
    refused = command("ledger", str(finished), "--json", str(file))
    assert refused.exit_code == 2
    assert "byzax did not write it" in refused.output
