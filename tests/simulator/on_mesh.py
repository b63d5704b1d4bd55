"""Runs on a mesh, in a process of its own: `python -m tests.simulator.on_mesh DEVICES FILE < CHANGES`.

Reads a list of changes to the small scenario as JSON, and writes the checkpoints of each run to a file. Each run is
left in its middle too, and gone on with from there: it must have the numbers of the whole one, bit by bit.
"""

import json
import pickle
import sys
from pathlib import Path

from byzax.simulator import executors
from byzax.simulator.executors import vectorised
from tests.simulator.conftest import same, small
from tests.simulator.test_snapshots import left, rest_is_same


def whole_and_resumed(scenario, path):
    """The checkpoints of a run that has the same numbers where it was cut."""
    with executors.session(scenario.executor) as execute:
        whole, kept = left(execute, scenario, path)
        assert same(whole, list(execute(scenario.task)))
        snapshot = kept[len(kept) // 2]
        assert rest_is_same(whole, list(execute(scenario.task, {0: snapshot})), snapshot)
    return whole


if __name__ == "__main__":
    devices, file = int(sys.argv[1]), Path(sys.argv[2])
    vectorised.LONGEST_LOOP = 3
    mesh = {"name": "vectorised", "mesh": {"workers": devices}}
    made = [
        whole_and_resumed(small(**changes, executor=mesh), file.with_suffix(".npz")) for changes in json.load(sys.stdin)
    ]
    file.write_bytes(pickle.dumps(made))
