"""Links of a run: delays of links that nobody uses, outages between nodes that have none, forged messages on a wire."""

from collections.abc import Iterator

from byzax.simulator.config.latency import name_of
from byzax.simulator.config.part import Part
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import build
from byzax.simulator.durations import WAYS, Way
from byzax.simulator.events import Node
from byzax.simulator.mistakes import Impossible
from byzax.simulator.parts import topology


def link_notes(run: Run) -> Iterator[str]:
    """Notes about delays of links that change nothing.

    Args:
        run: The run.

    Yields:
        One line for each direction, beginning with its key.
    """
    describe = topology(run).rounds
    rounds = None if describe is None else describe(run)
    used = {"up", "down"} if rounds is None else {rounds.way(step) for step in rounds.steps if step.reads}
    for way in WAYS:
        link = getattr(run.latency, way)
        if link != type(link)() and way not in used:
            others = " and ".join(f"latency.{each}" for each in WAYS if each in used)
            yield (
                f"latency.{way}: with topology {run.topology.label} no message takes its time from it, so that it "
                f"changes nothing: delays here are those of {others}"
            )


def check_outages(run: Run) -> None:
    """Checks that every outage takes links that there are.

    Args:
        run: The run.

    Raises:
        Impossible: Names the outage.
    """
    links = _links(run) if run.latency.outages else None
    if links is None:
        return
    for i, outage in enumerate(run.latency.outages):
        one, other, *_ = outage.groups
        group_of = {node: number for number, group in enumerate(outage.groups) for node in group}
        if not any(group_of.get(by, -1) != group_of.get(to, -1) for by, to in links if {by, to} <= {*group_of}):
            raise Impossible(
                f"latency.outages[{i}].between: {run.topology.label} has no link between {name_of(one[0])} and "
                f"{name_of(other[0])}, nor between others of these groups, so that nothing would fail: name nodes that "
                "send messages to each other"
            )


def _links(run: Run) -> set[tuple[Node, Node]] | None:
    """Sender and receiver of each link of a run; None where these are not always the same."""
    structure = topology(run)
    if structure.rounds is None:
        if not structure.one_server:
            return None
        return {(("worker", worker), ("server", 0)) for worker in range(run.workers.total)}
    rounds = structure.rounds(run)
    if any(step.joined is not None for step in rounds.steps):
        return None
    # in pairs a worker and its peer are one node
    kinds = {step.name: "worker" if rounds.pairs else step.kind for step in rounds.steps}
    return {
        ((kinds[step.reads], sender), (kinds[step.name], node))
        for step in rounds.steps
        if step.reads
        for node, senders in enumerate(step.senders)
        for sender in senders
    }


def forged_ways(run: Run) -> set[Way]:
    """The directions of the messages that are forged in a run."""
    found: set[Way] = set()
    counts = [(each.part, each.end - each.first) for each in run.attacks]
    if any(count and build(part, run.workers.total, count).forge for part, count in counts):
        found |= {"up"} if "up" in topology(run).wire else {"peer"}
    attack: Part | None = getattr(run.topology, "server_attack", None)
    if attack is not None and attack.name != "none" and getattr(run.topology, "byzantine_servers", 0):
        found |= {"down", "peer"}
    return found
