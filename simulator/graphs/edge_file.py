"""Edges that are read from a CSV file."""

import csv
import math
from pathlib import Path

from byzax.options import PartError, checked
from byzax.simulator.file_cache import depends_on, file_cache
from byzax.simulator.graphs.base import NodeGraph, need_nodes


@checked
def edge_file(n: int, *, file: str) -> NodeGraph:
    """The edges in a CSV file, one on every line: two numbers of nodes, and the weight of the edge or none.

    Neighbours: those that a line joins a node with

    Args:
        n: Number of nodes.
        file: Path of the CSV file, without a line of names; a relative one begins at the working directory. Its third
            column, where there is one, has weights, for a `mixing` that reads weights.

    Returns:
        The graph.

    Raises:
        PartError: For a file that cannot be read or has no line; for a line that is not two numbers of nodes, or has
            another number of values than the first one, or a weight that is not above 0 and at most 1.

    References:
        A file
    """
    need_nodes("edge_file", n)
    return _read(file, n)


@file_cache(maxsize=4)
def _read(file: str, n: int) -> NodeGraph:
    edges: list[tuple[int, int]] = []
    weights: list[float] = []
    columns = 0
    try:
        depends_on(Path(file).expanduser())
        # spreadsheets put a mark before the first value
        with Path(file).expanduser().open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines, skipinitialspace=True)
            for values in filter(None, reader):
                place = f"edge_file {file}: line {reader.line_num}"
                columns = columns or len(values)
                if len(values) != columns or columns not in (2, 3):
                    raise PartError(f"{place}: two numbers of nodes are needed, and a weight or none on all lines")
                pair = [_number(text) for text in values]
                if not all(0 <= each < n and each % 1 == 0 for each in pair[:2]):
                    raise PartError(
                        f"{place}: two numbers of nodes, 0 to {n - 1}, are needed, got {','.join(values[:2])}"
                    )
                edges.append((int(pair[0]), int(pair[1])))
                if columns == 3 and not 0 < pair[2] <= 1:
                    raise PartError(f"{place}: a weight above 0 and at most 1 is needed, got {values[2]}")
                weights += pair[2:]
    except (OSError, RuntimeError, UnicodeDecodeError, csv.Error) as error:
        raise PartError(f"edge_file {file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not edges:
        raise PartError(f"edge_file {file}: holds no line: one for each edge is needed")
    return NodeGraph(tuple(edges), tuple(weights) or None)


def _number(text: str) -> float:
    """The number that a text is; NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
