"""Jobs whose rows nobody reads, as compiled loops leave them out: as many in all updates of one size."""

import numpy as np

from byzax.simulator.events import EventBlock, Network
from byzax.simulator.executors.waves import HeldRows
from byzax.simulator.timeline import Timeline


def with_few_kinds(network: Network, timeline: Timeline, held: HeldRows, at_once: int) -> Network:
    """The network with so many unread jobs in each update as have all updates with as many events.

    Each number of jobs is compiled apart. Where updates take a few of many workers, the number of Byzantine ones among
    them is another in nearly every update: those beyond the fewest do a job like any other, and nobody reads it.

    Args:
        network: The network.
        timeline: The timeline of the run.
        held: The places of held rows.
        at_once: Updates whose events are looked at together.

    Returns:
        The network, whose table may list other steps.
    """
    doing = _steps_that_do_them(network)
    # jobs whose rows are held are in groups of any size
    if not doing.any() or held.most > 0:
        return network
    left_out = doing > 0
    fewest: dict[int, int] = {}
    most: dict[int, int] = {}
    for since in range(0, timeline.steps, at_once):
        block = network.table.events(since, min(since + at_once, timeline.steps))
        counts = np.add.reduceat(left_out[block.step].astype(int), block.bounds[:-1])
        for size, count in set(zip(np.diff(block.bounds).tolist(), counts.tolist(), strict=True)):
            fewest[size] = min(count, fewest.get(size, count))
            most[size] = max(count, most.get(size, count))
    if fewest == most:
        return network

    def events(since: int, until: int) -> EventBlock:
        block = network.table.events(since, until)
        unread, sizes = left_out[block.step], np.diff(block.bounds)
        before = np.cumsum(unread) - unread
        # the first ones of each update stay
        number = before - np.repeat(before[block.bounds[:-1]], sizes)
        others = unread & (number >= np.repeat([fewest[size] for size in sizes.tolist()], sizes))
        return block._replace(step=np.where(others, doing[block.step], block.step))

    return network._replace(table=network.table._replace(events=events))


def _steps_that_do_them(network: Network) -> np.ndarray:
    """For each step of unread jobs the step by which its nodes do the others; 0 for other steps."""
    found = np.zeros(len(network.steps), int)
    for place, step in enumerate(network.steps):
        if step.unread:
            found[place] = next(i for i in range(place + 1, len(network.steps)) if network.steps[i].kind == step.kind)
    return found
