"""Views of a ledger: the messages and bits between nodes, by kinds of link, by links and by nodes."""

from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from byzax.experiments.timelines import LabelledTimeline
from byzax.experiments.writing import check_replaceable, write_numbers
from byzax.simulator.durations import WAYS
from byzax.simulator.events import Node
from byzax.simulator.executors.ledger import LinkTotal, link_totals
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.parts import message_bits, topology
from byzax.simulator.wire import varies

# Links with a line of their own.
SHOWN = 10


class NodeTotal(NamedTuple):
    """The messages of a node.

    Attributes:
        node: The node.
        sent: Bits that it sent.
        received: Bits that were sent to it.
    """

    node: Node
    sent: float
    received: float


def read(labelled: LabelledTimeline, path: Path) -> list[LinkTotal]:
    """The links of a run.

    In a direction in which messages vary in size, those of a finished run count as the mean of the measured ones, and
    those of a scenario as the typical one. Models that workers ask single servers for count as shared out evenly among
    the links: those that a finished run measured, and of a scenario the first one of each worker in a round.

    Args:
        labelled: Its timeline.
        path: Where it was read from, for messages.

    Returns:
        The links.

    Raises:
        ScenarioError: For a file of a timeline, which says nothing of nodes and models.
    """
    if labelled.run is None:
        raise ScenarioError(f"{path}: a timeline alone has no links: give a scenario, or the folder of a run")
    run, links = labelled.run, link_totals(labelled.run, labelled.timeline)
    for way in WAYS:
        typical = sum(link.bits for link in links if link.way == way)
        if labelled.measured is not None and typical and varies(run, way):
            factor = labelled.measured[f"bits_{way}"] / typical
            links = [link._replace(bits=link.bits * factor) if link.way == way else link for link in links]
    asked = topology(run).pulls
    if asked is None:
        return links
    bits, count = message_bits(run), asked(labelled.timeline.steps)
    if labelled.measured is not None:
        sent = sum(link.bits for link in links if link.way == "down")
        count = round((labelled.measured["bits_down"] - sent) / bits)
    return with_pulled(links, count, bits)


def with_pulled(links: list[LinkTotal], count: int, bits: float) -> list[LinkTotal]:
    """Links with models that workers ask single servers for, shared out evenly, and the messages that ask for them.

    Args:
        links: The links without these, of all workers to all servers.
        count: Number of the models.
        bits: Bits of one of them.

    Returns:
        The links.
    """
    ups = [link for link in links if link.way == "up"]
    downs = {(link.sender, link.receiver): link for link in links if link.way == "down"}
    least, more = divmod(count, len(ups))
    found = [link for link in links if link.way == "peer"]
    for place, up in enumerate(ups):
        mine, ends = least + (place < more), (up.receiver, up.sender)
        down = downs.get(ends, LinkTotal(*ends, "down", 0, 0.0))
        found.append(up._replace(messages=up.messages + mine))
        if down.messages + mine:
            found.append(down._replace(messages=down.messages + mine, bits=down.bits + mine * bits))
    return sorted(found, key=lambda link: (WAYS.index(link.way), link.sender, link.receiver))


def node_totals(links: list[LinkTotal]) -> list[NodeTotal]:
    """The nodes of links, the one with the most bits first.

    Args:
        links: The links.

    Returns:
        The nodes.
    """
    sent: dict[Node, float] = {}
    received: dict[Node, float] = {}
    for link in links:
        sent[link.sender] = sent.get(link.sender, 0) + link.bits
        received[link.receiver] = received.get(link.receiver, 0) + link.bits
    found = [NodeTotal(node, sent.get(node, 0), received.get(node, 0)) for node in sorted({*sent, *received})]
    return sorted(found, key=lambda each: -(each.sent + each.received))


def tables(labelled: LabelledTimeline, links: list[LinkTotal]) -> list[Table]:
    """The tables of a ledger.

    Args:
        labelled: The timeline of the run.
        links: Its links.

    Returns:
        Totals by kinds of link, and the heaviest links and nodes.
    """
    total = sum(link.bits for link in links) or 1.0
    kinds: dict[tuple[str, str, str], list[LinkTotal]] = {}
    for link in links:
        kinds.setdefault((link.way, link.sender[0], link.receiver[0]), []).append(link)
    by_kind = _table(f"{labelled.name}: messages of {labelled.timeline.steps} updates", "direction", "links")
    for (way, one, other), mine in kinds.items():
        _add(by_kind, f"{way}: {one} to {other}", str(len(mine)), mine, total)
    _add(by_kind, "all", str(len(links)), links, total)
    heavy = sorted(links, key=lambda link: -link.bits)[:SHOWN]
    by_link = _table("the heaviest links" if len(links) > SHOWN else "links", "from", "to")
    for link in heavy:
        _add(by_link, _name(link.sender), _name(link.receiver), [link], total)
    by_node = Table(title=Text("the heaviest nodes"), box=box.SIMPLE_HEAD, title_style="bold")
    for heading in ("node", "bits sent", "bits received", "of all"):
        by_node.add_column(heading, justify="left" if heading == "node" else "right")
    for each in node_totals(links)[:SHOWN]:
        share = (each.sent + each.received) / (2 * total)
        by_node.add_row(_name(each.node), f"{each.sent:,.0f}", f"{each.received:,.0f}", f"{share:.1%}")
    return [by_kind, by_link, by_node]


def write(links: list[LinkTotal], path: Path) -> None:
    """Writes all links as JSON.

    Args:
        links: The links.
        path: The file.

    Raises:
        ScenarioError: Where a file that byzax did not write is there, or it cannot be written.
    """
    check_replaceable(path, "--json")
    rows = [
        {"from": _name(each.sender), "to": _name(each.receiver), "way": each.way, "messages": each.messages,
         "bits": each.bits}
        for each in links
    ]  # fmt: skip
    try:
        write_numbers(path, {"links": rows})
    except OSError as error:
        raise ScenarioError(f"--json {path}: cannot be written ({error.strerror})") from None


def _name(node: Node) -> str:
    return f"{node[0]} {node[1]}"


def _table(title: str, *headings: str) -> Table:
    made = Table(title=Text(title), box=box.SIMPLE_HEAD, title_style="bold")
    for heading in (*headings, "messages", "bits", "of all"):
        made.add_column(heading, justify="left" if heading in ("direction", "from", "to") else "right")
    return made


def _add(made: Table, one: str, other: str, links: list[LinkTotal], total: float) -> None:
    bits = sum(link.bits for link in links)
    made.add_row(one, other, f"{sum(link.messages for link in links):,}", f"{bits:,.0f}", f"{bits / total:.1%}")
