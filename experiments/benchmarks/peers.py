"""The same rules in other packages, where they are installed: byzfl and byzpy, both on PyTorch.

They run in a process of their own, so that one that never ends, or takes all memory, is ended and the benchmark goes
on. Neither is needed by byzax; docs/benchmarks.md says how to install them.
"""

import importlib.machinery
import importlib.metadata
import importlib.util
import json
import select
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from byzax.experiments.benchmarks.timing import peak_memory, time_calls

PEERS = ("byzfl", "byzpy")
LIMIT_S = 60.0  # for a first call and the repeats of one rule


def installed_peers() -> dict[str, str]:
    """The peers that are installed.

    Returns:
        Their versions by name.
    """
    peers = {}
    for name in PEERS:
        if importlib.util.find_spec(name) and importlib.util.find_spec("torch"):
            peers[name] = importlib.metadata.version(name)
    return peers


@contextmanager
def peer_process(peer: str, n: int, f: int, d: int, repeats: int) -> Iterator[Callable[[str], dict | None]]:
    """Starts a process that measures rules of a peer on the benchmark's rows.

    Args:
        peer: Name of the peer.
        n: Number of rows.
        f: Number of Byzantine rows.
        d: Number of parameters.
        repeats: Number of timed calls.

    Returns:
        A context manager with a function from the name of a rule to `best_s`, `memory_bytes` and the `answer` `[d]`; or
        to the reason under `failed`, with `longer_than_s` where it took too long; or to None where the peer has no such
        rule.
    """
    process: subprocess.Popen | None = None

    def measure(rule: str) -> dict | None:
        nonlocal process
        if rule not in TABLES[peer]:
            return None
        started = process is None or process.poll() is not None
        if started:
            command = [sys.executable, "-m", __name__, peer, *map(str, (n, f, d, repeats))]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{rule}\n".encode())
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], LIMIT_S + (30 if started else 0))
        line = process.stdout.readline() if ready else b""
        if not line:
            process.kill()
            process.wait()
            return {"failed": "it died"} if ready else {"failed": "no end", "longer_than_s": LIMIT_S}
        answer = json.loads(line)
        if "answer" in answer:
            path = Path(answer["answer"])
            answer["answer"] = np.load(path)
            path.unlink()
        return answer

    try:
        yield measure
    finally:
        if process is not None:
            process.kill()
            process.wait()


def byzfl_modules(*names: str) -> tuple[Any, ...]:
    """Imports modules of byzfl without its `__init__`, which asks for torchvision though they do not need it.

    Args:
        *names: Of the modules, such as "byzfl.aggregators.aggregators".

    Returns:
        The modules.
    """
    spec = importlib.machinery.PathFinder.find_spec("byzfl")
    assert spec is not None
    module = types.ModuleType("byzfl")
    module.__path__ = list(spec.submodule_search_locations or [])
    sys.modules["byzfl"] = module
    return tuple(importlib.import_module(name) for name in names)


def _by_byzfl(kind: str, name: str, **fixed: Any) -> Callable[[int, int], Callable[[Any], Any]]:
    def build(n: int, f: int) -> Callable[[Any], Any]:
        rules, pre = byzfl_modules("byzfl.aggregators.aggregators", "byzfl.aggregators.preaggregators")
        options = {key: f if value == "f" else value for key, value in fixed.items()}
        return getattr(rules if kind == "rule" else pre, name)(**options)

    return build


def _by_byzpy(place: str, name: str, **fixed: Any) -> Callable[[int, int], Callable[[Any], Any]]:
    def build(n: int, f: int) -> Callable[[Any], Any]:
        options = {key: {"f": f, "n-1": n - 1, "n-f-2": n - f - 2}.get(value, value) for key, value in fixed.items()}
        rule = getattr(importlib.import_module(f"byzpy.{place}"), name)(**options)
        run = rule.aggregate if hasattr(rule, "aggregate") else rule.pre_aggregate
        return lambda rows: run(list(rows))

    return build


_COORDINATES, _GEOMETRY, _NORMS = (f"aggregators.{kind}_wise" for kind in ("coordinate", "geometric", "norm"))
TABLES: dict[str, dict[str, Callable[[int, int], Callable[[Any], Any]]]] = {
    "byzfl": {
        "average": _by_byzfl("rule", "Average"),
        "median": _by_byzfl("rule", "Median"),
        "trimmed_mean": _by_byzfl("rule", "TrMean", f="f"),
        "mean_around_median": _by_byzfl("rule", "Meamed", f="f"),
        "geometric_median": _by_byzfl("rule", "GeometricMedian", T=8),
        "krum": _by_byzfl("rule", "Krum", f="f"),
        "multi_krum": _by_byzfl("rule", "MultiKrum", f="f"),
        "centered_clipping": _by_byzfl("rule", "CenteredClipping"),
        "brute": _by_byzfl("rule", "MDA", f="f"),
        "monna": _by_byzfl("rule", "MoNNA", f="f", idx=-1),
        "smea": _by_byzfl("rule", "SMEA", f="f"),
        "caf": _by_byzfl("rule", "CAF", f="f"),
        "nnm": _by_byzfl("pre", "NNM", f="f"),
        "bucketing": _by_byzfl("pre", "Bucketing", s=2),
        "clip": _by_byzfl("pre", "Clipping", c=1.0),
        "arc": _by_byzfl("pre", "ARC", f="f"),
    },
    "byzpy": {
        "median": _by_byzpy(_COORDINATES, "CoordinateWiseMedian"),
        "trimmed_mean": _by_byzpy(_COORDINATES, "CoordinateWiseTrimmedMean", f="f"),
        "mean_around_median": _by_byzpy(_COORDINATES, "MeanOfMedians", f="f"),
        "geometric_median": _by_byzpy(_GEOMETRY, "GeometricMedian"),
        "krum": _by_byzpy(_GEOMETRY, "Krum", f="f"),
        "multi_krum": _by_byzpy(_GEOMETRY, "MultiKrum", f="f", q="n-f-2"),
        "brute": _by_byzpy(_GEOMETRY, "MinimumDiameterAveraging", f="f"),
        "monna": _by_byzpy(_GEOMETRY, "MoNNA", f="f", reference_index="n-1"),
        "smea": _by_byzpy(_GEOMETRY, "SMEA", f="f"),
        "cge": _by_byzpy(_NORMS, "ComparativeGradientElimination", f="f"),
        "caf": _by_byzpy(_NORMS, "CAF", f="f"),
        "centered_clipping": _by_byzpy(_NORMS, "CenteredClipping", c_tau=100.0),
        "nnm": _by_byzpy("pre_aggregators", "NearestNeighborMixing", f="f"),
        "bucketing": _by_byzpy("pre_aggregators", "Bucketing", bucket_size=2),
        "clip": _by_byzpy("pre_aggregators", "Clipping", threshold=1.0),
        "arc": _by_byzpy("pre_aggregators", "ARC", f="f"),
    },
}


def _serve(peer: str, n: int, f: int, d: int, repeats: int) -> None:
    """Answers each line of the input, a rule, by a line of the output."""
    import tempfile

    import torch  # pyright: ignore[reportMissingImports]

    from byzax.experiments.benchmarks.timing import benchmark_rows

    original = torch.from_numpy(benchmark_rows(n, d))
    rows = original.clone()
    answers = sys.stdout
    sys.stdout = sys.stderr  # output of a peer is no answer
    for line in sys.stdin:
        try:
            rule = TABLES[peer][line.strip()](n, f)
            peak = peak_memory(lambda rule=rule: rule(rows))
            record: dict[str, Any] = {"memory_bytes": peak and peak.extra}
            # some change the rows that they are given: each call gets them as they were
            record["in_place"] = not torch.equal(rows, original)
            fresh = (lambda: rows.copy_(original)) if record["in_place"] else (lambda: None)
            record |= time_calls(lambda rule=rule: rule(rows), repeats, fresh)
            fresh()
            answer = rule(rows)
            answer = torch.stack(list(answer)) if isinstance(answer, (list, tuple)) else torch.as_tensor(answer)
            with tempfile.NamedTemporaryFile(suffix=".npy", delete=False) as file:
                np.save(file, answer.numpy())
            record["answer"] = file.name
            fresh()
        except Exception as error:
            record = {"failed": " ".join(f"{type(error).__name__}: {error}".split())}
        print(json.dumps(record), file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], *map(int, sys.argv[2:]))
