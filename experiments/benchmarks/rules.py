"""Time and memory of each rule beside the memory's speed, plain versions and peers: one run, one table."""

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from math import comb
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax import aggregators
from byzax.aggregators import Context
from byzax.aggregators import pre as before
from byzax.aggregators.kernels.columns import mean_around_median
from byzax.aggregators.smea import MOST_SUBSETS
from byzax.experiments.benchmarks import peers, straightforward
from byzax.experiments.benchmarks.models import product_speed
from byzax.experiments.benchmarks.timing import benchmark_rows, peak_memory, time_calls
from byzax.experiments.writing import write_numbers
from byzax.simulator import interrupts, threads

SIZES = ((25, 5, 100_000), (51, 23, 79_510), (50, 10, 1_000_000), (200, 40, 100_000), (1000, 200, 10_000))
# The least work of each rule: passes over the rows, and products of all pairs of them, each once.
FLOORS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("cge", "monna", "norm_clipping", "centered_clipping", "fltrust", "clip", "arc"), (2, 0)),
    **dict.fromkeys(("aksel", "signguard"), (3, 0)),
    **dict.fromkeys(("krum", "medoid", "brute", "smea", "caf", "clipped_clustering", "foolsgold"), (0, 1)),
    **dict.fromkeys(("multi_krum", "bulyan"), (1, 1)),
    # its mixing is a product with another matrix, of which each number counts
    "nnm": (0, 3),
}
AT_LEAST_ONE_PASS = (1, 0)


# A rule, or what stands before one: from rows, the server's own row and a key to the result and the number of
# iterations, None where it does not iterate.
MeasuredRule = Callable[[jax.Array, jax.Array, jax.Array], tuple[Any, Any]]


class Floors(NamedTuple):
    """The machine's own speed.

    Attributes:
        copy_s: Seconds to copy the rows.
        pass_s: Seconds to read them once.
        product_s: Seconds of their products with themselves, each pair of rows once, at the rate of large products.
        flop_per_s: That rate.
    """

    copy_s: float
    pass_s: float
    product_s: float
    flop_per_s: float


SECOND_STAGE = "bulyan's second stage"


def measured_names() -> tuple[str, ...]:
    """The names of all rules, and of what stands before them.

    Returns:
        The names.
    """
    return (*aggregators.available(), SECOND_STAGE, *before.available())


def build_measured_rule(name: str, n: int, f: int, d: int) -> MeasuredRule | str:
    """Builds a rule for a measurement.

    Args:
        name: Its name.
        n: Number of rows.
        f: Number of Byzantine rows.
        d: Number of parameters.

    Returns:
        The rule as a function, or the reason why it cannot be measured at this size.
    """
    if name == "smea" and comb(n, f) > MOST_SUBSETS:
        return "too many subsets"
    if name == SECOND_STAGE:
        if n <= 4 * f:
            return "no rows are left by the first"
        count = n - 2 * f
        return lambda rows, own, key: (mean_around_median(rows[:count], 2 * f, "lower"), None)
    try:
        if name in before.available():
            mixer = before.factory(name)(n, f)
            return lambda rows, own, key: (mixer.mix(rows, Context(key))[0], None)
        rule = aggregators.build(name, n, f)
    except ValueError as error:
        return str(error)
    state = rule.init(d)

    def call(rows: jax.Array, own: jax.Array, key: jax.Array) -> tuple[Any, Any]:
        context = Context(key, own, gradient=lambda: own, loss=lambda params: 0.5 * jnp.sum((params - own) ** 2))
        aggregate, _, info = rule.apply(rows, state, context)
        return aggregate, info.iterations

    return call


def measure_floors(rows: jax.Array, repeats: int) -> Floors:
    """Measures the machine's own speed.

    Args:
        rows: `[n, d]`.
        repeats: Number of timed calls.

    Returns:
        Best seconds.
    """

    def best(function: Callable[[jax.Array], jax.Array]) -> float:
        compiled = jax.jit(function)
        jax.block_until_ready(compiled(rows))
        return time_calls(lambda: jax.block_until_ready(compiled(rows)), repeats)["best_s"]

    n, d = rows.shape
    ones, rate = jnp.ones(n, rows.dtype), product_speed(repeats, time.perf_counter)
    return Floors(best(jnp.copy), best(lambda rows: ones @ rows), n * n * d / rate, rate)


def with_equal_rows(rows: np.ndarray, f: int) -> np.ndarray:
    """The rows with f that are equal, as the attack `little` makes them of the others.

    Args:
        rows: `[n, d]`.
        f: Number of Byzantine rows.

    Returns:
        `[n, d]`.
    """
    honest, forged = rows[f:], rows.copy()
    forged[:f] = honest.mean(axis=0) - 1.5 * honest.std(axis=0)
    return forged


def measure(
    name: str, rows: jax.Array, equal: jax.Array | None, n: int, f: int, repeats: int, keep: bool
) -> dict[str, Any]:
    """Measures a rule of byzax.

    Args:
        name: Its name.
        rows: `[n, d]`.
        equal: `[n, d]`, rows of which f are equal, of which the best seconds are measured too; None for none.
        n: Number of rows.
        f: Number of Byzantine rows.
        repeats: Number of timed calls.
        keep: Whether the record holds the aggregate.

    Returns:
        The record: times, memory and iterations, or the reason under `failed`.
    """
    d = rows.shape[1]
    rule = build_measured_rule(name, n, f, d)
    if isinstance(rule, str):
        return {"name": name, "failed": rule}
    own, key = jnp.full(d, 0.1, rows.dtype), jax.random.key(0)
    start = time.perf_counter()
    compiled = jax.jit(rule).lower(rows, own, key).compile()
    compile_s = time.perf_counter() - start
    plan = compiled.memory_analysis()
    answer, iterations = jax.block_until_ready(compiled(rows, own, key))
    record: dict[str, Any] = {
        "name": name,
        "compile_s": compile_s,
        "planned_bytes": None if plan is None else plan.temp_size_in_bytes + plan.output_size_in_bytes,
        "answer": np.asarray(answer) if keep else None,
        "iterations": None if iterations is None else int(iterations),
    }
    del answer
    if peak := peak_memory(lambda: jax.block_until_ready(compiled(rows, own, key))):
        record |= {"memory_bytes": peak.extra, "process_bytes": peak.total}
    record |= time_calls(lambda: jax.block_until_ready(compiled(rows, own, key)), repeats)
    if equal is not None:
        jax.block_until_ready(compiled(equal, own, key))
        record["equal_s"] = time_calls(lambda: jax.block_until_ready(compiled(equal, own, key)), repeats)["best_s"]
    return record


def time_plain_versions(name: str, rows: jax.Array, host: np.ndarray, n: int, f: int, repeats: int) -> dict[str, float]:
    """Measures a rule as it is usually written, in jax.numpy and NumPy.

    Args:
        name: Its name.
        rows: `[n, d]`, on the device.
        host: `[n, d]`, on the host.
        n: Number of rows.
        f: Number of Byzantine rows.
        repeats: Number of timed calls.

    Returns:
        Best seconds, by `jnp_s` and `numpy_s`, where they end within minutes.
    """
    times = {}
    function = straightforward.RULES.get(name)
    if straightforward.feasible(name, jnp, n, f):
        assert function is not None
        compiled = jax.jit(lambda rows: function(jnp, rows, f))
        jax.block_until_ready(compiled(rows))
        times["jnp_s"] = time_calls(lambda: jax.block_until_ready(compiled(rows)), repeats)["best_s"]
    if straightforward.feasible(name, np, n, f):
        assert function is not None
        times["numpy_s"] = time_calls(lambda: function(np, host, f), repeats)["best_s"]
    return times


def measure_size(
    n: int, f: int, d: int, chosen: Sequence[str], repeats: int, plain: bool, others: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Measures at one size: first the machine, then each rule.

    Args:
        n: Number of rows.
        f: Number of Byzantine rows.
        d: Number of parameters.
        chosen: Names of the rules.
        repeats: Number of timed calls.
        plain: Whether plain versions are measured too.
        others: Peers that are measured too.

    Returns:
        The records.
    """
    host = benchmark_rows(n, d)
    rows = jax.device_put(host, may_alias=True)
    machine = measure_floors(rows, repeats)
    equal = jax.device_put(with_equal_rows(host, f))
    yield {"name": "machine", **machine._asdict()}
    with ExitStack() as stack:
        asked = {peer: stack.enter_context(peers.peer_process(peer, n, f, d, repeats)) for peer in others}
        for name in chosen:
            passes, products = FLOORS.get(name, AT_LEAST_ONE_PASS)
            measured = measure(name, rows, equal if products else None, n, f, repeats, bool(others))
            record = {"n": n, "f": f, "d": d, **measured}
            answer = record.pop("answer", None)
            if "failed" not in record:
                if record["iterations"] is not None:
                    passes = record["iterations"]
                record["floor_s"] = passes * machine.pass_s + products * machine.product_s
                record["floor"] = {"passes": passes, "products": products}
                if plain:
                    record |= time_plain_versions(name, rows, host, n, f, repeats)
            for peer, ask in asked.items():
                measured = ask(name)
                if measured is not None:
                    theirs = measured.pop("answer", None)
                    if theirs is not None and answer is not None:
                        measured["same_answer"] = theirs.shape == answer.shape and bool(
                            np.allclose(theirs, answer, rtol=0, atol=1e-3 * np.abs(answer).max())
                        )
                    record[peer] = measured
            yield record | {"copy_s": machine.copy_s}


HEADER = (
    f"{'rule':19}{'ms':>9}{'/ copy':>8}{'floor':>22}{'/ floor':>9}{'equal':>7}{'compile s':>11}{'memory':>8}{'jnp':>8}"
    f"{'NumPy':>8}"
)


def table_line(record: dict[str, Any], others: Sequence[str]) -> str:
    """A record as a row of the table.

    Args:
        record: The record.
        others: Peers that have columns.

    Returns:
        The line.
    """
    if record["name"] == "machine":
        parts = (f"{1000 * record[key + '_s']:.2f} ms to {what}" for key, what in MACHINE.items())
        return f"the machine: {', '.join(parts)} at {record['flop_per_s'] / 1e9:.0f} GFLOP/s"
    name, size = f"{record['name']:22}", 4 * record["n"] * record["d"]
    if "failed" in record:
        return f"{name} {record['failed']}"
    best = record["best_s"]
    passes, products = record["floor"].values()
    floor = ", ".join(
        f"{count} {what}{'' if count == 1 else 'es' if what == 'pass' else 's'}"
        for count, what in ((products, "product"), (passes, "pass"))
        if count
    )
    text = f"{name}{1000 * best:9.2f}{best / record['copy_s']:8.2f}{floor:>22}{best / record['floor_s']:9.2f}"
    text += f"{record['equal_s'] / best:7.2f}" if "equal_s" in record else f"{'-':>7}"
    planned = record["planned_bytes"]
    text += f"{record['compile_s']:11.2f}{'-' if planned is None else f'{planned / size:.2f}':>8}"
    for key in ("jnp_s", "numpy_s"):
        text += f"{record[key] / best:8.1f}" if key in record else f"{'-':>8}"
    for peer in others:
        text += f"{_theirs(record.get(peer), best):>10}"
    return text


MACHINE = {"copy": "copy the rows", "pass": "read them once (a pass)", "product": "multiply each pair of them"}


def _theirs(measured: dict[str, Any] | None, best: float) -> str:
    if measured is None:
        return "-"
    if "longer_than_s" in measured:
        return f">{measured['longer_than_s'] / best:.0f}"
    if "failed" in measured:
        return "fails"
    return f"{measured['best_s'] / best:.1f}{'' if measured.get('same_answer') else '*'}"


LEGEND = """\
/ copy: best time over that of a copy of the rows. floor: what the definition needs at least, in passes over the rows
and products of all pairs of rows, each once, at the rate of large products (iterations, where a rule iterates, count
one pass each). equal: the time where f rows are equal, as the attack little makes them, over that where all differ.
memory: what XLA plans beside the rows, in sizes of the rows. jnp, NumPy: how many times as long the rule as it is
usually written takes there"""


def run(
    sizes: Sequence[tuple[int, int, int]],
    chosen: Sequence[str],
    repeats: int,
    plain: bool,
    others: Sequence[str],
    path: Path | None,
    say: Callable[[str], None],
) -> None:
    """Measures all sizes.

    Args:
        sizes: Numbers (n, f, d).
        chosen: Names of the rules.
        repeats: Number of timed calls.
        plain: Whether plain versions are measured too.
        others: Peers that are measured too.
        path: File for all numbers as JSON; None for none.
        say: Receives the lines of the table.
    """
    versions = peers.installed_peers()
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "device": jax.devices()[0].device_kind,
        "threads": threads.running(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        **{peer: versions[peer] for peer in others},
    }
    say(", ".join(f"{key}: {value}" for key, value in about.items()))
    say(LEGEND + (f"; {', '.join(others)}: the same, * where the answer differs." if others else "."))
    measurements: list[dict[str, Any]] = []
    for n, f, d in sizes:
        say(f"\nn={n} f={f} d={d:,}")
        for record in measure_size(n, f, d, chosen, repeats, plain, others):
            say(table_line(record, others))
            if record["name"] == "machine":
                say(HEADER + "".join(f"{peer:>10}" for peer in others))
            measurements.append(record)
            if path is not None:  # finished measurements are kept
                write_numbers(path, {**about, "records": measurements})
            interrupts.check()
    if peaks := [record["process_bytes"] for record in measurements if "process_bytes" in record]:
        say(f"\nthe most memory of this process while a rule ran, rows and all: {max(peaks) / 2**30:.2f} GiB")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [row for row in info.read_text().splitlines() if row.startswith("model name")] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()
