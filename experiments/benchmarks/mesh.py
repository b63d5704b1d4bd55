"""Memory that an update takes of each device of a mesh, as XLA plans it: nothing is carried out.

Data are made. Samples are on every device, and are left out.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from byzax.experiments.writing import write_numbers
from byzax.simulator import threads
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.executors.vectorised import compile_update

WORKERS, BYZANTINE, BATCH = 8, 2, 8
MODELS = {
    "mlp": {"name": "mlp", "hidden": [1024, 1024]},
    "cnn": {"name": "cnn"},
    "lstm": {"name": "lstm", "hidden": 256},
    "transformer": {"name": "transformer", "width": 256, "heads": 8, "layers": 4},
}
# parts of the workers, and of the parameters
SHAPES = [(1, 1), (1, 2), (1, 4), (1, 8), (2, 4)]


def scenario(model: dict[str, Any], rule: str, attack: str, shape: tuple[int, int]) -> Study:
    """A run of images of 28x28 pixels, whose workers have momentum.

    Args:
        model: The model.
        rule: The name of the rule.
        attack: The name of the attack.
        shape: Parts of the workers, and of the parameters.

    Returns:
        The run.
    """
    workers, parameters = shape
    return parse_as(
        Study,
        {
            "name": "mesh",
            "steps": 1,
            "workers": {"total": WORKERS, "byzantine": BYZANTINE},
            "data": {"name": "gaussian_mixture", "samples": 300, "shape": [28, 28], "batch_size": BATCH},
            "model": model,
            "rule": rule,
            "attack": attack,
            "worker_momentum": 0.9,
            "executor": {"name": "vectorised", "mesh": {"workers": workers, "parameters": parameters}},
        },
    )


def measure(described: Study) -> dict[str, Any]:
    """Measures what an update takes of one device.

    Args:
        described: The run.

    Returns:
        The number of parameters, and bytes: of the model with the states of server and adversary, of the memories of
        workers, and of all that an update makes in between.
    """
    update = compile_update(described.task)
    sizes = {kind: _bytes_of_one_device(states) for kind, states in update.state.nodes.items()}
    return {
        "parameters": update.d,
        "model_bytes": sum(size for kind, size in sizes.items() if kind != "worker"),
        "memory_bytes": sizes["worker"],
        "temporary_bytes": update.compiled.memory_analysis().temp_size_in_bytes,
    }


def _bytes_of_one_device(states: Any) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(states)
    )


def run(
    models: Sequence[str],
    rule: str,
    attack: str,
    shapes: Sequence[tuple[int, int]],
    path: Path | None,
    say: Callable[[str], None],
) -> None:
    """Measures meshes.

    Args:
        models: Names of models, in `MODELS`.
        rule: The name of the rule.
        attack: The name of the attack.
        shapes: Parts of the workers, and of the parameters, of each mesh.
        path: File for all numbers as JSON; None for none.
        say: Receives the lines of the table.
    """
    described = {(name, shape): scenario(MODELS[name], rule, attack, shape) for name in models for shape in shapes}
    threads.start(max(workers * parameters for workers, parameters in shapes))
    say(
        f"MB of one device in an update of {WORKERS} workers with momentum, batch {BATCH}, {rule}, {attack}; jax "
        f"{jax.__version__}, {jax.default_backend()}"
    )
    say(f"{'model':12} {'parameters':>10} {'W x P':>6} {'model':>8} {'memories':>9} {'between':>8} {'all':>8}  of one")
    table, first = [], {}
    for (name, shape), study in described.items():
        row = {"model": name, "mesh": shape, **measure(study)}
        table.append(row)
        sizes = [row[f"{part}_bytes"] for part in ("model", "memory", "temporary")]
        share = sum(sizes) / first.setdefault(name, sum(sizes))
        columns = " ".join(
            f"{size / 1e6:{width}.2f}" for size, width in zip([*sizes, sum(sizes)], (8, 9, 8, 8), strict=True)
        )
        say(f"{name:12} {row['parameters']:10} {'{} x {}'.format(*shape):>6} {columns} {share:7.2f}")
        if path is not None:  # finished measurements are kept
            write_numbers(path, {"records": table})
