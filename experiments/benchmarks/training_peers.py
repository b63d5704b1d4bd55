"""Training by byzfl's own clients and server, where it is installed, on the data of the benchmark.

It runs in a process of its own, as `peers` does: `python -m byzax.experiments.benchmarks.training_peers`.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from byzax.experiments.benchmarks.peers import byzfl_modules

# names of byzfl by ours
MODELS = {"mlp": "fc_mnist", "cnn": "cnn_mnist"}
RULES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "average": {"name": "Average", "parameters": {}},
        "median": {"name": "Median", "parameters": {}},
        "trimmed_mean": {"name": "TrMean", "parameters": {"f": "f"}},
        "krum": {"name": "Krum", "parameters": {"f": "f"}},
    }
)
LIMIT_S = 300.0  # for a process
SAMPLES = 3000


def measure(model: str, rule: str, case: tuple[int, int, int], steps: int, repeats: int, threads: int) -> dict:
    """Measures byzfl's updates per second, in a process of its own.

    Args:
        model: Name in `MODELS`.
        rule: Name in `RULES`.
        case: Workers, Byzantine workers, and samples of a batch.
        steps: Updates of a run.
        repeats: Runs after the first one.
        threads: Threads of PyTorch.

    Returns:
        `updates_per_s`, the median of the runs; or the reason under `failed`.
    """
    numbers = map(str, (*case, steps, repeats, threads))
    command = [sys.executable, "-m", __name__, model, rule, *numbers]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {LIMIT_S:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["it died"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def _train(model: str, rule: str, workers: int, byzantine: int, batch: int, steps: int, repeats: int, threads: int):
    """Trains as byzfl's benchmark does (algorithm DSGD), without its evaluations and files."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    (framework,) = byzfl_modules("byzfl.fed_framework")
    draw = np.random.default_rng(0)
    x = torch.from_numpy(draw.standard_normal((SAMPLES, 1, 28, 28), dtype=np.float32))
    y = torch.from_numpy(draw.integers(0, 10, SAMPLES))
    honest = workers - byzantine
    whole = torch.utils.data.TensorDataset(x, y)
    shares = [torch.utils.data.Subset(whole, list(range(i, SAMPLES, honest))) for i in range(honest)]
    of_both = {
        "model_name": MODELS[model],
        "device": "cpu",
        "optimizer_name": "SGD",
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "milestones": [],
        "learning_rate_decay": 1.0,
    }
    of_clients = {
        "loss_name": "NLLLoss",
        "LabelFlipping": False,
        "momentum": 0.9,
        "nb_labels": 10,
        "store_per_client_metrics": False,
    }
    clients = [
        framework.Client(
            of_both
            | of_clients
            | {"training_dataloader": torch.utils.data.DataLoader(share, batch_size=batch, shuffle=True)}
        )
        for share in shares
    ]
    parameters = {key: byzantine if value == "f" else value for key, value in RULES[rule]["parameters"].items()}
    server = framework.Server(
        of_both
        | {
            "aggregator_info": {"name": RULES[rule]["name"], "parameters": parameters},
            "pre_agg_list": [],
            "test_loader": torch.utils.data.DataLoader(whole, batch_size=500),
        }
    )
    little = framework.ByzantineClient(
        {"name": "ALittleIsEnough", "f": byzantine, "parameters": {"tau": 1.0}},
    )

    def update() -> None:
        for client in clients:
            client.set_model_state(server.get_dict_parameters())
            client.compute_gradients()
        rows = [client.get_flat_gradients_with_momentum() for client in clients]
        server.update_model_with_gradients(rows + little.apply_attack(rows))

    seconds = []
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        for _ in range(steps):
            update()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"updates_per_s": steps / float(np.median(seconds[1:]))}))


if __name__ == "__main__":
    _train(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
