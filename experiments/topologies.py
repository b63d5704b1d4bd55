"""Views of a topology: a picture of its nodes and links, and a table of what its receivers need."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import networkx
import numpy as np
from matplotlib import rc_context
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from byzax.experiments import study
from byzax.experiments.figures import STYLE, verbatim
from byzax.experiments.writing import check_replaceable, write_picture
from byzax.simulator.config.run import Run
from byzax.simulator.events import Node
from byzax.simulator.executors.base import fixed_byzantine_workers, network_of, plan, prepare
from byzax.simulator.executors.ledger import Links, links
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.parts import f_of_rule, groups_of, rule_of, topology
from byzax.simulator.rounds import Rounds, RoundStep
from byzax.simulator.timeline import Timeline
from byzax.simulator.validation.rule_rows import check_rule

# Nodes of a picture that are numbered.
NUMBERED = 60
HONEST, BYZANTINE = "#0072B2", "#D55E00"


class Structure(NamedTuple):
    """The nodes and links of a run.

    Attributes:
        run: The run.
        name: Title of picture and table.
        timeline: Its timeline, of one update.
        nodes: The nodes that send or receive, by kinds.
        byzantine: Those that are Byzantine.
        links: The links between them.
    """

    run: Run
    name: str
    timeline: Timeline
    nodes: list[Node]
    byzantine: frozenset[Node]
    links: list[Links]


class Condition(NamedTuple):
    """A condition of receivers that are alike.

    Attributes:
        receivers: The receivers, in words.
        reads: The messages that they read, in words.
        words: The condition.
        met: Whether it is met.
    """

    receivers: str
    reads: str
    words: str
    met: bool


def read(path: Path, overrides: Sequence[str]) -> Structure:
    """The nodes and links of a scenario.

    Args:
        path: A scenario, or the folder of a run or of a study; of a grid its first run counts.
        overrides: Texts `key=value`.

    Returns:
        The nodes and links.

    Raises:
        ScenarioError: For a scenario that cannot be read, or whose topology cannot be built.
    """
    file = path / "scenario.yaml" if path.is_dir() else path
    cell = study.load(file, overrides).cells[0].study
    run = cell.run
    try:
        for rows in topology(run).inboxes or ():
            check_rule(run, rows)
        timeline = plan(run, steps=1)
        found = [_of_first_round(run, each) for each in links(run, timeline)]
        network, _ = network_of(run, prepare(run, timeline))
    except ValueError as error:
        raise ScenarioError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
    byzantine = {("worker", worker) for worker in fixed_byzantine_workers(run)}
    byzantine |= {(kind, node) for kind, nodes in network.byzantine.items() for node in nodes}
    ends = {(each.kinds[side], node) for each in found for side in (0, 1) for node in each.pairs[:, side].tolist()}
    name = f"{cell.name}: {run.topology.label}{', the graph of the first round' * bool(_redrawn(run))}"
    return Structure(run, name, timeline, sorted(ends), frozenset(byzantine & ends), found)


def _redrawn(run: Run) -> list[RoundStep]:
    """The steps whose senders are drawn anew in each round."""
    describe = topology(run).rounds
    return [] if describe is None else [step for step in describe(run).steps if step.joined is not None]


def _of_first_round(run: Run, found: Links) -> Links:
    """The links of the first round, where they are drawn anew in each."""
    for step in _redrawn(run):
        assert step.joined is not None
        joined = step.joined(run.seed, 0)
        there = [joined[receiver, step.senders[receiver].index(sender)] for sender, receiver in found.pairs.tolist()]
        found = found._replace(pairs=found.pairs[np.array(there, bool)])
    return found


def conditions(structure: Structure) -> list[Condition]:
    """The conditions under which the receivers of a run withstand Byzantine senders.

    Args:
        structure: The nodes and links.

    Returns:
        The conditions; of receivers that are alike once.
    """
    run = structure.run
    parts, describe = topology(run), topology(run).rounds
    rounds = None if describe is None else describe(run)
    # processes that exchange messages one by one wait for all of them
    exchanging = rounds is not None and rounds.exchanges
    found = [] if rounds is None or exchanging else list(_of_rounds(structure, rounds))
    if parts.pulls is not None:
        found.append(_of_medians(structure))
    if parts.mixes:
        found += _of_neighbours(structure)
    elif parts.inboxes is None:
        groups = groups_of(run)
        reads = "rows" if groups is None else f"means of {groups.number} groups"
        seen = int(structure.timeline.seen.min())
        found += _of_rule(structure, "server 0", f"{reads} of {run.workers.total} workers", seen)
    elif rounds is None:
        found += _of_receivers(structure)
    else:
        for rows in parts.inboxes:
            who = "processes" if exchanging else "servers"
            found += _of_rule(structure, who, f"{rows} rows of {run.workers.total} workers", rows)
    return list(dict.fromkeys(found))


def _of_rule(structure: Structure, receivers: str, reads: str, rows: int) -> Iterator[Condition]:
    """The conditions of a rule that sees so many rows of workers."""
    run, declared = structure.run, structure.run.workers.declared
    count = run.workers.byzantine.count
    yield Condition(
        receivers, reads, f"at most f = {declared} Byzantine workers are declared: {count}", count <= declared
    )
    yield _fits(run, receivers, reads, rows)


def _of_receivers(structure: Structure) -> Iterator[Condition]:
    """The conditions of nodes that apply the rule to the rows of workers, each to those of its own."""
    run = structure.run
    groups: dict[tuple[str, int, int], list[int]] = {}
    for each in (each for each in structure.links if each.way == "up"):
        for receiver in np.unique(each.pairs[:, 1]).tolist():
            senders = each.pairs[each.pairs[:, 1] == receiver, 0].tolist()
            liars = sum((each.kinds[0], sender) in structure.byzantine for sender in senders)
            if (each.kinds[1], receiver) not in structure.byzantine and each.kinds[0] == "worker":
                groups.setdefault((each.kinds[1], len(senders), liars), []).append(receiver)
    for (kind, rows, liars), nodes in sorted(groups.items()):
        f, who, reads = f_of_rule(run, rows), _nodes(nodes, kind), f"rows of {rows} workers, {liars} Byzantine"
        yield Condition(who, reads, f"at most f = {f} Byzantine workers: {liars}", liars <= f)
        yield _fits(run, who, reads, rows)


def _fits(run: Run, receivers: str, reads: str, rows: int) -> Condition:
    """The condition of the rule, with what stands before it."""
    f, (_, rule) = f_of_rule(run, rows), rule_of(run)
    called = " + ".join([*(each.label for each in run.pre), rule.label])
    try:
        check_rule(run, rows)
    except ValueError as error:
        return Condition(receivers, reads, str(error), False)
    return Condition(receivers, reads, f"{called} takes {rows} rows with f = {f}", True)


def _of_rounds(structure: Structure, rounds: Rounds) -> Iterator[Condition]:
    """The conditions of quorums: no Byzantine node can hold a step up, and more than half of what is read is honest."""
    kinds = {step.name: step.kind for step in rounds.steps}
    for step in rounds.steps:
        for node, senders in enumerate(step.senders):
            if not step.reads or (step.kind, node) in structure.byzantine:
                continue
            kind, q = kinds[step.reads], int(step.quorums(structure.run.seed, 0)[node])
            if step.joined is not None:
                mine = step.joined(structure.run.seed, 0)[node]
                senders = [sender for place, sender in enumerate(senders) if mine[place]]
            liars = sum((kind, sender) in structure.byzantine for sender in senders)
            who = f"honest {step.kind}s"
            reads = f"{q} messages of {len(senders)} {kind}s ({step.reads}), {liars} Byzantine"
            yield Condition(
                who, reads, f"waits for no Byzantine node: {q} <= {len(senders)} - {liars}", q <= len(senders) - liars
            )
            yield Condition(who, reads, f"most of what is read is honest: {q} > 2 * {liars}", q > 2 * liars)


def _of_medians(structure: Structure) -> Condition:
    """The condition of nodes that all take the median of the models of all servers."""
    servers = [node for node in structure.nodes if node[0] == "server"]
    liars = len(structure.byzantine.intersection(servers))
    reads = f"{len(servers)} models of {len(servers)} servers, {liars} Byzantine"
    words = f"most of what is read is honest: {len(servers)} > 2 * {liars}"
    return Condition("honest nodes", reads, words, len(servers) > 2 * liars)


def _of_neighbours(structure: Structure) -> Iterator[Condition]:
    """The conditions of nodes that apply the rule to what their neighbours send."""
    run = structure.run
    graph: Any = networkx.DiGraph()
    graph.add_nodes_from(structure.nodes)
    for each in structure.links:
        graph.add_edges_from(((each.kinds[0], i), (each.kinds[1], j)) for i, j in each.pairs.tolist())
    honest = [node for node in structure.nodes if node not in structure.byzantine]
    together = len(honest) > 0 and networkx.is_strongly_connected(graph.subgraph(honest))
    yield Condition(
        "honest nodes", "models of honest nodes", "each has a way to each other one over honest nodes", together
    )
    groups: dict[tuple[int, int], list[int]] = {}
    for node in honest:
        senders = list(graph.predecessors(node))
        liars = sum(sender in structure.byzantine for sender in senders)
        groups.setdefault((len(senders), liars), []).append(node[1])
    for (senders, liars), nodes in sorted(groups.items()):
        who, reads = _nodes(nodes), f"{senders} neighbours, {liars} Byzantine"
        # of a quorum, or a pair, fewer
        rows = min(senders + 1, (topology(run).inboxes or (senders + 1,))[-1])
        f = f_of_rule(run, rows)
        yield Condition(who, reads, f"at most f = {f} Byzantine neighbours: {liars}", liars <= f)
        yield _fits(run, who, reads, rows)


def _nodes(numbers: list[int], kind: str = "node") -> str:
    """Nodes of a kind in words: all of a few, and of many the first ones."""
    shown = ", ".join(map(str, numbers[:6])) + (f" and {len(numbers) - 6} more" if len(numbers) > 6 else "")
    return f"{kind}{'s' * (len(numbers) > 1)} {shown}"


def tables(structure: Structure) -> list[Table]:
    """The tables of a topology.

    Args:
        structure: The nodes and links.

    Returns:
        Its links by kinds, and its conditions.
    """
    kinds = Table(title=Text(structure.name), box=box.SIMPLE_HEAD, title_style="bold")
    for heading in ("direction", "links", "senders", "receivers", "largest number of links to one node"):
        kinds.add_column(heading, justify="left" if heading == "direction" else "right")
    for each in structure.links:
        senders, receivers = (np.unique(each.pairs[:, side]) for side in (0, 1))
        most = np.bincount(each.pairs[:, 1]).max()
        numbers = (len(each.pairs), len(senders), len(receivers), most)
        kinds.add_row(f"{each.way}: {each.kinds[0]} to {each.kinds[1]}", *(f"{number:,}" for number in numbers))
    needed = Table(title=Text("conditions"), box=box.SIMPLE_HEAD, title_style="bold")
    for heading in ("receivers", "read", "condition", "met"):
        needed.add_column(heading)
    for each in conditions(structure):
        met = Text("yes") if each.met else Text("no", style="bold red")
        needed.add_row(Text(each.receivers), Text(each.reads), Text(each.words), met)
    return [kinds, needed]


def draw(structure: Structure, path: Path) -> Path:
    """Draws nodes and links, Byzantine nodes in another colour and shape.

    Args:
        structure: The nodes and links.
        path: The picture, PNG or SVG.

    Returns:
        The path.

    Raises:
        ScenarioError: Where the picture cannot be written.
    """
    if path.suffix not in (".png", ".svg"):
        raise ScenarioError(f"--out {path}: .png or .svg is needed")
    check_replaceable(path, "--out")
    kinds = sorted({node[0] for node in structure.nodes})
    places = _in_circle(structure) if len(kinds) == 1 else _in_rows(structure)
    few = len(structure.nodes) <= NUMBERED
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 8 if len(kinds) == 1 else 5), layout="constrained")
        axes: Any = figure.subplots()
        axes.set_axis_off()
        _draw_links(axes, structure, places)
        markers = dict(zip(sorted(kinds, key=lambda kind: kind != "worker"), itertools.cycle("osDPv^"), strict=False))
        for kind in markers:
            for is_byzantine in (False, True):
                mine = [
                    node for node in structure.nodes
                    if node[0] == kind and (node in structure.byzantine) == is_byzantine
                ]  # fmt: skip
                if mine:
                    x, y = np.array([places[node] for node in mine]).T
                    axes.scatter(
                        x, y, 260 if few else 25, BYZANTINE if is_byzantine else HONEST, marker=markers[kind], zorder=3,
                        edgecolors="black" if is_byzantine else "white", linewidths=1.2 if few else 0.4,
                        label=f"{kind}, Byzantine" if is_byzantine else kind,
                    )  # fmt: skip
        if few:
            for node, (x, y) in places.items():
                axes.annotate(str(node[1]), (x, y), ha="center", va="center", fontsize=7, color="white", zorder=4)
        axes.margins(0.08)
        figure.legend(
            loc="outside upper left", ncols=4, frameon=False, title=verbatim(structure.name), alignment="left",
            title_fontproperties={"size": 10.5, "weight": "bold"}, markerscale=0.6 if few else 1.5,
        )  # fmt: skip
        write_picture(path, figure, "--out")
    return path


def _draw_links(axes: Any, structure: Structure, places: dict[Node, np.ndarray]) -> None:
    """Lines between nodes; those between nodes of one row are arcs, as a straight one would hide what lies between."""
    lines = set()
    for each in structure.links:
        for i, j in each.pairs.tolist():
            lines.add(tuple(sorted([(each.kinds[0], i), (each.kinds[1], j)])))
    several = len({node[0] for node in structure.nodes}) > 1
    way = np.linspace(0, 1, 20)[:, None]
    curves = []
    for one, other in sorted(lines):
        begin, end = places[one], places[other]
        curve = begin + way * (end - begin)
        if several and begin[1] == end[1]:
            curve[:, 1] += (0.05 + 0.35 * abs(end[0] - begin[0])) * 4 * (way * (1 - way))[:, 0]
        curves.append(curve)
    alpha = float(np.clip(40 / max(len(curves), 1), 0.08, 0.7))
    axes.add_collection(LineCollection(curves, colors="#555555", linewidths=0.9, alpha=alpha, zorder=1))


def _in_circle(structure: Structure) -> dict[Node, np.ndarray]:
    """The places of nodes of one kind: near to those that they have links with."""
    graph: Any = networkx.Graph()
    graph.add_nodes_from(structure.nodes)
    for each in structure.links:
        graph.add_edges_from(((each.kinds[0], i), (each.kinds[1], j)) for i, j in each.pairs.tolist())
    circle = networkx.circular_layout(graph)
    degrees = {degree for _, degree in graph.degree}
    if len(graph) > NUMBERED or degrees <= {2} or degrees == {len(graph) - 1}:
        return circle
    return networkx.kamada_kawai_layout(graph, pos=circle)


def _in_rows(structure: Structure) -> dict[Node, np.ndarray]:
    """The places of nodes of several kinds: a row for each kind, workers below, others by their links from these."""
    graph: Any = networkx.Graph()
    graph.add_edges_from(each.kinds for each in structure.links)
    heights = networkx.single_source_shortest_path_length(graph, "worker")
    places: dict[Node, np.ndarray] = {}
    for kind, height in heights.items():
        mine = [node for node in structure.nodes if node[0] == kind]
        across = (np.arange(len(mine)) + 0.5) / len(mine)
        places |= {node: np.array([x, 0.6 * height]) for node, x in zip(mine, across, strict=True)}
    return places
