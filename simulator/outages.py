"""Links that are down for a while: which messages they lose, and which leave later."""

from collections.abc import Callable, Sequence

import numpy as np

from byzax.options import PartError
from byzax.simulator.config.latency import Outage, name_of
from byzax.simulator.config.run import Run
from byzax.simulator.events import Node


def check_servers(run: Run, servers: int) -> None:
    """Checks that the servers named in crashes and outages exist.

    Args:
        run: The run.
        servers: Number of servers.

    Raises:
        PartError: Names the key, and the way out.
    """
    named = [("crashes", crash.node) for crash in run.latency.crashes]
    named += [("outages", node) for outage in run.latency.outages for group in outage.groups for node in group]
    known = f"name servers 0 to {servers - 1}" if servers else "name workers"
    for key, node in named:
        if node[0] == "server" and node[1] >= servers:
            raise PartError(f"{run.topology.label}: has no {name_of(node)}, which latency.{key} names: {known}")


# Gives of the seconds at which messages are sent, `[..., L]`, those at which they leave, and whether they are lost.
Departures = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def build_departures(outages: Sequence[Outage], links: Sequence[tuple[Node, Node]]) -> Departures:
    """Builds the function that says when messages leave.

    Args:
        outages: The outages.
        links: Sender and receiver of each of L links.

    Returns:
        A function from the seconds at which messages are sent, `[..., L]`, to those at which they leave, and whether
        they are lost instead, which is then at the second at which the outage is over.
    """
    in_order = sorted(outages, key=lambda outage: outage.begin_s)
    cuts = [(outage, np.array([_apart(outage, *link) for link in links], bool)) for outage in in_order]
    cuts = [(outage, apart) for outage, apart in cuts if apart.any()]

    def departures(sent_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        leaves_s, lost = sent_s, np.zeros(sent_s.shape, bool)
        # what leaves when one is over may meet the next one
        for outage, apart in cuts:
            met = apart & ~lost & (leaves_s >= outage.begin_s) & (leaves_s < outage.until)
            leaves_s = np.where(met, outage.until, leaves_s)
            lost = lost | (met & (outage.messages == "lost"))
        return leaves_s, lost

    return departures


def _apart(outage: Outage, one: Node, other: Node) -> bool:
    """Tells whether an outage has two nodes in two groups."""
    groups = [next((i for i, group in enumerate(outage.groups) if node in group), None) for node in (one, other)]
    return None not in groups and groups[0] != groups[1]
