"""The runs of a study in groups, each of which is executed together."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from byzax.experiments.entries import Entry, entries_of
from byzax.experiments.resuming import NEW, Standing
from byzax.simulator.config.grid import Expansion
from byzax.simulator.config.study import Study
from byzax.simulator.executors import Snapshot


class RunGroup(NamedTuple):
    """Runs that are executed together.

    Attributes:
        folder: The folder of their study.
        cell: The position of their cell in the grid.
        scenario: Their cell of the grid.
        runs: The runs by seed.
        snapshots: The snapshots of those that go on, by seed.
    """

    folder: Path
    cell: int
    scenario: Study
    runs: dict[int, Entry]
    snapshots: dict[int, Snapshot]


def scattered(groups: Sequence[RunGroup], seed: int) -> list[RunGroup]:
    """Groups in an order in which early results cover all cells.

    Args:
        groups: The groups.
        seed: Seed of the order.

    Returns:
        The first group of each cell in random order, then the second of each, and so on.
    """
    counts: Counter[tuple[Path, int]] = Counter()
    generator = random.Random(seed)
    placed = []
    for group in groups:
        cell = group.folder, group.cell
        placed.append((counts[cell], generator.random(), group))
        counts[cell] += 1
    return [group for _, _, group in sorted(placed, key=lambda each: each[:2])]


def group_runs(expansion: Expansion, folder: Path, standing: Standing = NEW) -> list[RunGroup]:
    """Groups the runs of a study: all seeds of a cell where the executor advances them together, else each run alone.

    Args:
        expansion: The study.
        folder: Its folder.
        standing: The runs of it that are there.

    Returns:
        The groups, in order, without the runs that are there. A run in a group of its own can fail without the others.
    """
    groups = []
    runs = iter(entries_of(expansion))
    for number, cell in enumerate(expansion.cells):
        by_seed = {seed: next(runs) for seed in cell.study.seeds}
        left = {seed: run for seed, run in by_seed.items() if run.slug not in standing.kept}
        held = {seed: standing.snapshots[run.slug] for seed, run in left.items() if run.slug in standing.snapshots}
        # on CPU it takes one seed after the other
        if cell.study.executor.name == "vectorised" and jax.default_backend() != "cpu":
            if len({held[seed].state.step if seed in held else 0 for seed in left}) > 1:
                # seeds that advance together begin together
                held = {}
            groups += [RunGroup(folder, number, cell.study, left, held)] if left else []
        else:
            groups += [
                RunGroup(folder, number, run.scenario, {seed: run}, {seed: held[seed]} if seed in held else {})
                for seed, run in left.items()
            ]
    return groups
