"""Properties of a random scenario: it is refused in one line, or runs and is the same in every executor."""

import itertools
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import jax.numpy as jnp
import numpy as np

from byzax.simulator import event_contract, executors
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Study, Task
from byzax.simulator.executors import Checkpoint, RunError, loop
from byzax.simulator.executors.base import Prepared, network_of, prepare
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.validation import validate

Execute = Callable[[Task], Iterator[Checkpoint]]
# an update of `vectorised` may differ from that of `loop` by so much, of the largest parameter
ROUNDING = 1e-5
PERTURBED = 5


class Fault(AssertionError):
    """Something that must never happen; the first word says what kind of thing it is."""


class Result(NamedTuple):
    """The result of a run: its checkpoints by seed and step, and why it ended early, if it did."""

    checkpoints: list[Checkpoint]
    ended: str


def refusal(mapping: dict[str, Any]) -> str | None:
    """The reason why a scenario is refused, None where it is not. Raises Fault where that is not said in one line."""
    try:
        with alert():
            validate(parse_as(Study, mapping).task)
    except ScenarioError as error:
        lines = str(error).splitlines()
        if not lines or not all(lines) or max(map(len, lines)) > 600:
            raise Fault(f"refusal: is not one line: {error}") from error
        return str(error)
    return None


def check(mapping: dict[str, Any], ray: Execute | None = None) -> str:
    """Runs a scenario that is not refused with all executors; gives "equal", or another word for what was seen.

    "sensitive": `vectorised` is another, and so is `loop` where its numbers are moved by a rounding. The events of each
    keep the contract of a table. Raises Fault.
    """
    with alert():
        described = {name: parse_as(Study, mapping | {"executor": name}).task for name in ("loop", "vectorised")}
        expected = result(described["loop"], execute_alone)
        _sound(expected, pairs=described["loop"].run.topology.name == "pairwise")
        _check_events(described["loop"].run)
        got = result(described["vectorised"], execute_alone)
        word = "equal"
        if apart := difference(expected, got):
            if not any(_sooner(difference(expected, moved), apart) for moved in _moved(described["loop"])):
                raise Fault(f"executors: vectorised differs from loop: {apart[1]}")
            word = "sensitive"
        if ray is not None:
            other = result(parse_as(Study, mapping | {"executor": {"name": "ray", "actors": 2}}).task, ray)
            if unlike := _not_the_same(expected, other):
                raise Fault(f"ray: differs from loop: {unlike}")
        if expected.ended:
            return f"{word}, stopped"
        return word if np.isfinite(expected.checkpoints[-1].params).all() else f"{word}, diverged"


def _check_events(run: Run) -> None:
    """Raises Fault where the events of a run cannot happen, or forge an honest message."""
    prepared = prepare(run)
    network, here = network_of(run, prepared)
    try:
        ranks = prepared.first.byzantine_ranks
        event_contract.check(
            network, prepared.timeline.steps, lambda update: np.asarray(ranks(here, jnp.asarray(update))) >= 0
        )
    except ValueError as error:
        raise Fault(f"events: {error}") from error


def execute_alone(task: Task) -> Iterator[Checkpoint]:
    """A run in a session of its own."""
    with executors.session(task.executor) as execute:
        yield from execute(task)


def result(task: Task, execute: Execute) -> Result:
    """All checkpoints of a run. Raises Fault for anything but an end that byzax says itself.

    Repeats are run one by one, as the command does on CPU: one that ends early does not take the others with it.
    """
    found: list[Checkpoint] = []
    ends: list[str] = []
    for some in task.repeats:
        try:
            for checkpoint in execute(some):
                found.append(checkpoint)
        except RunError as error:
            text = str(error)
            # what byzax foresees, and no error from inside of a part
            if "\n" in text or not text.startswith(("stopped after", "update ")):
                raise Fault(f"run: {task.executor.name}: {text}") from error
            ends.append(text)
        except Warning as warning:
            raise Fault(f"warning: {task.executor.name}: {type(warning).__name__}: {warning}") from warning
        except (Exception, KeyboardInterrupt) as error:
            raise Fault(f"{type(error).__name__}: {task.executor.name}: {error}") from error
    return Result(sorted(found, key=_place), next(iter(ends), ""))


def _place(checkpoint: Checkpoint) -> tuple[int, int]:
    return checkpoint.seed, checkpoint.step


def _sound(run: Result, pairs: bool = False) -> None:
    """Raises Fault where numbers are not finite and nothing says so."""
    for each in run.checkpoints:
        norms = each.updates.aggregate_norm
        if pairs:
            # two Byzantine nodes have no mean over the honest ones
            norms = norms[~np.isnan(norms)]
        if not np.isfinite(each.params).all() and np.isfinite(each.evaluation.test_loss):
            raise Fault(f"finite: after step {each.step} the model is not finite, and its test loss is")
        if each.step and np.isfinite(each.params).all() and not np.isfinite(norms).all():
            raise Fault(f"finite: step {each.step} has an aggregate that is not finite, and the model is")


def difference(one: Result, other: Result) -> tuple[int, str] | None:
    """The first place in which two runs are further apart than rounding, and what is there; None for nowhere."""
    with np.errstate(invalid="ignore"):
        # infinite numbers are compared too
        return _difference(one, other)


def _difference(one: Result, other: Result) -> tuple[int, str] | None:
    for place, (a, b) in enumerate(itertools.zip_longest(one.checkpoints, other.checkpoints)):
        if a is None or b is None:
            return place, f"{len(one.checkpoints)} checkpoints and {len(other.checkpoints)}"
        if (a.seed, a.step, a.time_s, a.gradients) != (b.seed, b.step, b.time_s, b.gradients):
            return place, f"seed, step, time or gradients: {a[:4]} and {b[:4]}"
        where = f"seed {a.seed}, step {a.step}"
        # every update may differ by so much
        much = ROUNDING * max(1, a.step)
        finite = np.isfinite(a.params)
        if not np.array_equal(finite, np.isfinite(b.params)):
            return place, f"{where}: {finite.sum()} and {np.isfinite(b.params).sum()} finite of {len(finite)}"
        gap = np.abs(a.params[finite] - b.params[finite]).max(initial=0)
        if not gap <= much * max(1e-3, np.abs(a.params[finite]).max(initial=0)):
            return (
                place,
                f"{where}: parameters differ by {gap:.3g}, the largest is {np.abs(a.params[finite]).max():.3g}",
            )
        for name, x, y in zip(a.updates._fields, a.updates, b.updates, strict=True):
            scale = np.nan_to_num(a.updates.aggregate_norm, posinf=0) if name == "honest_distance" else 1.0
            if not np.all((x == y) | (np.isnan(x) & np.isnan(y)) | (np.abs(x - y) <= 1e-3 * (scale + np.abs(x)))):
                return place, f"{where}: {name} is {x} and {y}"
        for name, x, y in zip(a.evaluation._fields, a.evaluation, b.evaluation, strict=True):
            # an answer may change where two logits are nearly equal
            close = abs(x - y) <= (0.05 if "accuracy" in name or "success" in name else 1e-3 * (0.1 + abs(x)))
            if not (x == y or (np.isnan(x) and np.isnan(y)) or close):
                return place, f"{where}: {name} is {x} and {y}"
    if one.ended != other.ended:
        return len(one.checkpoints), f"the end: {one.ended!r} and {other.ended!r}"
    return None


def _sooner(found: tuple[int, str] | None, apart: tuple[int, str]) -> bool:
    return found is not None and found[0] <= apart[0]


def _moved(task: Task) -> Iterator[Result]:
    """Runs of `loop` in which every row and model is moved by a few units in the last place."""
    for number in range(PERTURBED):
        rng = np.random.default_rng(number)

        def near(vector: Any, rng: np.random.Generator = rng) -> Any:
            by = 4 * np.finfo(np.float32).eps * rng.normal(size=vector.shape)
            return jnp.asarray(vector + by * jnp.abs(vector).max(), vector.dtype)

        def prepared(*arguments: Any, near: Callable[[Any], Any] = near) -> Prepared:
            made = prepare(*arguments)

            def core_of(seen: int) -> Any:
                core = made.core_of(seen)

                def update(here: Any, server: Any, *others: Any) -> Any:
                    return core.update(here, server._replace(params=near(server.params)), *others)

                return core._replace(work=lambda *given: near(core.work(*given)), update=update)

            return made._replace(core_of=core_of)

        with mock.patch.object(loop, "prepare", prepared):
            yield result(task, execute_alone)


def _not_the_same(one: Result, other: Result) -> str:
    """The differences of two runs that must agree in every bit; empty where there are none."""
    if one.ended != other.ended or len(one.checkpoints) != len(other.checkpoints):
        return f"{len(one.checkpoints)} checkpoints, {one.ended!r}; and {len(other.checkpoints)}, {other.ended!r}"
    for a, b in zip(one.checkpoints, other.checkpoints, strict=True):
        same = {
            "seed, step or time": _place(a) == _place(b) and (a.time_s, a.gradients) == (b.time_s, b.gradients),
            "params": np.array_equal(a.params, b.params, equal_nan=True),
            "evaluation": np.array_equal(a.evaluation, b.evaluation, equal_nan=True),
            "updates": all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a.updates, b.updates, strict=True)),
        }
        if wrong := [name for name, equal in same.items() if not equal]:
            return f"{' and '.join(wrong)} of seed {a.seed}, step {a.step}"
    return ""


@contextmanager
def alert(computing_s: float = 200, waiting_s: float = 1800) -> Iterator[None]:
    """Makes warnings errors inside, and a Fault of what computes or waits for longer than so many seconds."""

    def late(number: int, frame: Any) -> None:
        raise Fault(f"hang: no end within {computing_s} s of computing and {waiting_s} s of waiting")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, computing_s), signal.SIGALRM: (signal.ITIMER_REAL, waiting_s)}
    before = {number: signal.signal(number, late) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # two processes may compile the same at once
            warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
            yield
    except Warning as warning:
        raise Fault(f"warning: {type(warning).__name__}: {warning}") from warning
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
