"""Files of a run: its folder, written as the run goes on, so that a crash loses no measurement."""

import csv
import functools
import hashlib
import importlib.metadata
import inspect
import io
import os
import platform
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from byzax.experiments import outputs
from byzax.experiments.names import file_name, short
from byzax.experiments.records import read_updates
from byzax.experiments.settings import settings, without_defaults
from byzax.experiments.strict_yaml import dump
from byzax.experiments.writing import atomically, json_text, sync, write_json, write_text
from byzax.members import absolute, file_of, is_builtin, reference_of
from byzax.simulator import snapshots, threads
from byzax.simulator.arrivals import lost_in_words
from byzax.simulator.config.grid import Expansion
from byzax.simulator.config.part import NestedPart, Part, function_of, parts_of
from byzax.simulator.config.study import Study
from byzax.simulator.diagnostics import Diagnostics, Evaluation
from byzax.simulator.executors import Checkpoint
from byzax.simulator.executors.base import byzantine_updates, digest, fixed_byzantine_workers
from byzax.simulator.mistakes import ScenarioError, choices_in_words, on_one_line
from byzax.simulator.snapshots import Snapshot
from byzax.simulator.timeline import Timeline, save, truncate, usage
from byzax.simulator.world import load as load_data

# The combinations of a grid that were left out, beside the scenario.
SKIPPED = "skipped.csv"
# The state that a run goes on from when it was cut; gone when it ended.
SNAPSHOT = "snapshot.npz"
PACKAGES = ("byzax", "jax", "jaxlib", "flax", "optax", "ray", "numpy")


class WriteError(RuntimeError):
    """A file of results that cannot be written, such as on a full disk; one line that names it."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns an OSError while files of a folder are written into a WriteError.

    Args:
        folder: The folder, named in the error where the file is not known.

    Raises:
        WriteError: For a file that cannot be written, such as on a full disk.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(f"{error.filename or folder}: cannot be written ({error.strerror or error})") from None


class Entry(NamedTuple):
    """One run of a study: one seed of one cell.

    Attributes:
        slug: Name of its folder.
        scenario: Its cell, with this seed alone.
        rule: The name of the rule in tables and plots.
        attack: The name of the attack there.
        others: The other choices of the grid.
        position: Its place in the study.
        of: Runs that its cell of a table has.
        runs: Runs of its study.
    """

    slug: str
    scenario: Study
    rule: str
    attack: str
    others: dict[str, str]
    position: int
    of: int = 1
    runs: int = 1


def runs(expansion: Expansion) -> list[Entry]:
    """The runs of a study, in order.

    Args:
        expansion: The study.

    Returns:
        One entry per cell and seed; the names of their folders are readable and differ.
    """
    rules = labels(cell.study.rule for cell in expansion.cells)
    attacks = labels(cell.study.attack for cell in expansion.cells)
    values = {key: values for key, values in expansion.study.grid.items() if _is_other(key)}
    swept = {
        key: [*zip(each, number_duplicates([*map(on_one_line, each)]), strict=True)] for key, each in values.items()
    }
    made: list[Entry] = []
    taken: set[str] = set()
    for cell in expansion.cells:
        others = {key: _text(swept[key], value) for key, value in cell.choices.items() if _is_other(key)}
        for seed in cell.study.seeds:
            rule, attack = rules[cell.study.rule], attacks[cell.study.attack]
            if not any(key.partition(".")[0] == "pre" for key in cell.choices):
                # a pre-aggregation that no grid varies belongs to the label of the rule
                rule = " + ".join([*(on_one_line(without_defaults(each)) for each in cell.study.pre), rule])
            slug = file_name([rule, attack, *short(others), f"seed-{seed}"], taken)
            taken.add(slug)
            single = cell.study.replace(seed=seed, repeats=1)
            made.append(Entry(slug, single, rule, attack, others, len(made)))
    cells = Counter((run.rule, run.attack, *run.others.items()) for run in made)
    return [run._replace(of=cells[(run.rule, run.attack, *run.others.items())], runs=len(made)) for run in made]


def _text(values: Sequence[tuple[Any, str]], chosen: Any) -> str:
    """The text of a value of a key of the grid."""
    return next(text for value, text in values if value is chosen)


def _is_other(key: str) -> bool:
    return key.partition(".")[0] not in {"rule", "attack", "seed"}


def labels(parts: Iterable[Part]) -> dict[Part, str]:
    """Names of components in tables, one for each different component.

    A label holds the component's name and the options that differ from their defaults. Settings that byzax has for all
    components of a kind (the workers and updates of an attack) are named only where components of one name differ in
    them.
    Attacks at the same time are joined by +. Where all components have the same name, the label holds only the
    differences.

    Args:
        parts: The components; the same one may occur several times.

    Returns:
        The label of each component.
    """
    different = list(dict.fromkeys(parts))
    together = [[part, *getattr(part, "beside", ())] for part in different]
    alike = len(different) > 1 and len({tuple(each.name for each in one) for one in together}) == 1
    labels = {}
    for part, one in zip(different, together, strict=True):
        named = []
        for place, each in enumerate(one):
            counterparts = [other[place] for other in together if place < len(other)]
            options = _options(each, [other for other in counterparts if other.name == each.name], alike)
            if not place or options or not alike:
                named.append(on_one_line({"name": each.name, **options}))
        labels[part] = " + ".join(named)
    return dict(zip(labels, number_duplicates([*labels.values()]), strict=True))


def number_duplicates(texts: Sequence[str]) -> list[str]:
    """Numbers equal texts, such as functions of the user's own with the same name.

    Args:
        texts: The texts.

    Returns:
        The texts in the same order, all different.

    Example:
        >>> number_duplicates(["mine", "krum", "mine"])
        ['mine (1)', 'krum', 'mine (2)']
    """
    often, seen = Counter(texts), Counter[str]()
    found = []
    for text in texts:
        seen[text] += 1
        found.append(f"{text} ({seen[text]})" if often[text] > 1 else text)
    return found


def _options(part: Part, namesakes: Sequence[Part], alike: bool) -> dict[str, Any]:
    """The options of a component in its label; with `alike` only those in which it and its namesakes differ."""
    own, values = part.options(), part.model_dump(exclude={"name", "beside"})
    return {
        key: without_defaults(getattr(part, key)) if isinstance(getattr(part, key), NestedPart) else _short(value)
        for key, value in values.items()
        if any(getattr(other, key) != getattr(part, key) for other in namesakes)
        or (
            key in own
            and not alike
            and without_defaults(getattr(part, key)) != without_defaults(type(part).model_fields[key].default)
        )
    }


def _short(value: Any) -> Any:
    """The name alone of a part that has no other setting: honest for {name: honest}."""
    return value["name"] if isinstance(value, Mapping) and set(value) == {"name"} else value


def described(run: Entry) -> dict[str, Any]:
    """The description of a run, as its `scenario.yaml` has it.

    Args:
        run: The run.

    Returns:
        Values of YAML by key, defaults included.
    """
    described = run.scenario.model_dump(mode="json", fallback=_written)
    del described["repeats"], described["grid"]
    return described


def begin(folder: Path, run: Entry) -> None:
    """Makes the folder of a run with its description, whole or not at all; what an earlier try left there goes.

    Args:
        folder: The folder of the study.
        run: The run.

    Raises:
        WriteError: Where a file cannot be written.
    """
    here = folder / "runs" / f".{run.slug}"
    own = [{"key": key, "file": file, "sha256": held} for key, (file, held) in user_files(run.scenario).items()]
    with writing(here):
        _clear(folder / "runs" / run.slug)
        # an interrupted start may have left files here
        here.mkdir(parents=True, exist_ok=True)
        _clear(here, keep_folder=True)
        (here / "scenario.yaml").write_text(dump(described(run)))
        (here / "versions.json").write_text(json_text({**versions(), "own_files": own}))
        _append(here / "metrics.csv", [("step", "time_s", "gradients", "wall_s", *Evaluation._fields)])
        _append(here / "updates.csv", [("step", *Diagnostics._fields)])
        if run.scenario.record.weights:
            _append(here / "weights.csv", [("step", *range(run.scenario.workers.total))])
        (here / "summary.json").write_text(json_text(_summary(run, "running", None)))
        here.rename(folder / "runs" / run.slug)


def _clear(here: Path, keep_folder: bool = False) -> None:
    """Removes the files of a run."""
    if here.is_dir():
        for path in outputs.run_files(here):
            path.unlink()
        if not keep_folder:
            here.rmdir()


def resume(folder: Path, run: Entry, snapshot: Snapshot) -> list[Checkpoint]:
    """Takes the files of a run back to a snapshot.

    Args:
        folder: The folder of the study.
        run: The run.
        snapshot: The snapshot.

    Returns:
        The checkpoints until then, without models and timelines.

    Raises:
        WriteError: Where a file cannot be written.
    """
    here = folder / "runs" / run.slug
    evaluated = snapshot.evaluations[-1].step
    with writing(here):
        for name in ("metrics.csv", "updates.csv", "weights.csv"):
            if (here / name).exists():
                _cut(here / name, evaluated)
        for path in outputs.run_files(here):
            number = re.fullmatch(r"update-(\d+)\.npz", path.name)
            if path.name in ("workers.csv", "ages.csv", "error.txt") or (number and int(number[1]) >= evaluated):
                path.unlink()
        # the executor may be another one
        write_text(here / "scenario.yaml", dump(described(run)))
        write_json(here / "summary.json", _summary(run, "running", None))
    updates = read_updates(here)[list(Diagnostics._fields)].to_numpy()
    history, since = [], 0
    for each in snapshot.evaluations:
        series = Diagnostics(*updates[since : each.step].T)
        history.append(
            Checkpoint(run.scenario.seed, *each[:-1], evaluation=each.evaluation, updates=series, params=np.empty(0))
        )
        since = each.step
    return history


def _cut(path: Path, last: int) -> None:
    """Removes the rows of a table that are later than update `last`."""
    with path.open(newline="") as file:
        heading, *rows = csv.reader(file)
    text = io.StringIO(newline="")
    kept = [row for row in rows if len(row) == len(heading) and int(row[0]) <= last]
    csv.writer(text, lineterminator="\n").writerows([heading, *kept])
    write_text(path, text.getvalue())


def save_snapshot(folder: Path, run: Entry, snapshot: Snapshot) -> None:
    """Writes the snapshot of a run; the one before stays until it is whole.

    Args:
        folder: The folder of the study.
        run: The run.
        snapshot: The snapshot.

    Raises:
        WriteError: Where it cannot be written.
    """
    here = folder / "runs" / run.slug
    with writing(here):
        for path in here.glob("*.csv"):
            # the rows before a snapshot that says that they are there
            sync(path)
        atomically(here / SNAPSHOT, lambda file: snapshots.save(snapshot, file))


def _written(value: Any) -> str:
    """The text of an option that YAML has no value for, such as a class."""
    return reference_of(value) if callable(value) else repr(value)


def record(folder: Path, run: Entry, checkpoint: Checkpoint, hidden: Sequence[str] = ()) -> None:
    """Appends a checkpoint to the files of a run.

    Args:
        folder: The folder of the study.
        run: The run.
        checkpoint: The checkpoint.
        hidden: Fields of the evaluation that are not written.

    Raises:
        WriteError: Where a file cannot be written.
    """
    here = folder / "runs" / run.slug
    wall_s = round(checkpoint.wall_s, 6)
    row = (checkpoint.step, checkpoint.time_s, checkpoint.gradients, wall_s, *_shown(checkpoint.evaluation, hidden))
    count = len(checkpoint.updates.aggregate_norm)
    steps = range(checkpoint.step - count + 1, checkpoint.step + 1)
    with writing(here):
        _append(here / "metrics.csv", [row])
        _append(here / "updates.csv", zip(steps, *(map(float, each) for each in checkpoint.updates), strict=True))
        if checkpoint.weights is not None:
            _append(
                here / "weights.csv",
                ([step, *each] for step, each in zip(steps, checkpoint.weights.tolist(), strict=True)),
            )
        for update in checkpoint.recorded:
            arrays = {name: value for name, value in update._asdict().items() if name != "diagnostics"}
            atomically(here / update_file(update.step), lambda file, arrays=arrays: np.savez(file, **arrays))


def update_file(step: int) -> str:
    """The name of the file of a recorded update.

    Args:
        step: Number of the update, from 0.

    Returns:
        The name, inside the folder of the run.
    """
    return f"update-{step:08}.npz"


def finish(
    folder: Path,
    run: Entry,
    seen: Sequence[Checkpoint],
    status: str,
    reason: str | None = None,
    hidden: Sequence[str] = (),
    trace: str = "",
) -> None:
    """Writes the last model, the summary and the error of a run.

    Args:
        folder: The folder of the study.
        run: The run.
        seen: The checkpoints so far; only the last one needs its parameters and timeline.
        status: complete, degraded, failed or interrupted.
        reason: The reason for the status; None where there is none.
        hidden: Fields of the evaluation that are not written.
        trace: Traceback of a failure, for `error.txt`; empty for none.

    Raises:
        WriteError: Where a file cannot be written.
    """
    with writing(folder / "runs" / run.slug):
        _finish(folder / "runs" / run.slug, run, seen, status, reason, hidden, trace)


def _finish(
    here: Path,
    run: Entry,
    seen: Sequence[Checkpoint],
    status: str,
    reason: str | None,
    hidden: Sequence[str],
    trace: str,
) -> None:
    # a run that went on has no model before its first evaluation then
    if seen and len(seen[-1].params):
        last = seen[-1]
        atomically(here / "params.npz", lambda file: np.savez(file, params=last.params, step=last.step))
    lost = _lost(seen[-1]) if seen else {}
    summary = _summary(run, status, "; ".join(filter(None, (reason, lost_in_words(lost)))))
    if lost:
        summary["lost"] = {str(worker): step + 1 for worker, step in sorted(lost.items())}
    if status in ("complete", "degraded"):
        summary["digest"] = digest(list(seen))
    if seen:
        last = seen[-1]
        summary |= {"step": last.step, "time_s": last.time_s, "gradients": last.gradients}
        summary |= {"wall_s": round(last.wall_s, 6)}
        if last.timeline is not None:
            if run.scenario.clock == "wall":
                timeline = last.timeline
                atomically(here / "timeline.npz", lambda file: save(timeline, file))
            # a run that was cut short has only the updates that were carried out
            happened = truncate(last.timeline, last.step)
            often = byzantine_updates(run.scenario.run, happened.steps)
            summary |= _times(here, happened, fixed_byzantine_workers(run.scenario.run), often)
        # JSON has no NaN
        measured = _shown(seen[-1].evaluation, hidden)._asdict()
        summary |= {k: v if np.isfinite(v) else str(v) for k, v in measured.items()}
    if trace:
        write_text(here / "error.txt", trace)
    for path in here.glob("*.csv"):
        # on the disk before a summary with a final status
        sync(path)
    write_json(here / "summary.json", summary)
    if status != "interrupted":
        (here / SNAPSHOT).unlink(missing_ok=True)


def final_status(last: Checkpoint) -> str:
    """The status of a run that made all its updates.

    Args:
        last: The last checkpoint.

    Returns:
        complete, or degraded where workers were lost unplanned.
    """
    return "degraded" if _lost(last) else "complete"


def _lost(last: Checkpoint) -> dict[int, int]:
    """The workers that were lost unplanned, each with the position of the first update without it."""
    return (
        {}
        if last.timeline is None
        else {worker: step for step, worker in truncate(last.timeline, last.step).lost.tolist()}
    )


def _shown(evaluation: Evaluation, hidden: Sequence[str]) -> Evaluation:
    return evaluation._replace(**dict.fromkeys(hidden, np.nan))


def _times(here: Path, timeline: Timeline, byzantine: list[int], often: np.ndarray) -> dict[str, float]:
    """Writes `workers.csv` and `ages.csv`: the time of each worker, and the number of rows of each age.

    Args:
        here: The folder of the run.
        timeline: The updates that were carried out.
        byzantine: The workers that are Byzantine in every update.
        often: `[n]`, the number of updates in which each worker is Byzantine.

    Returns:
        The use of time for the summary, by field.
    """
    n = len(often)
    spent = usage(timeline, n)
    for name in ("workers.csv", "ages.csv"):
        # half of one is there where a signal came while it was written
        (here / name).unlink(missing_ok=True)
    _append(here / "workers.csv", [("worker", "byzantine", "byzantine_updates", *spent._fields)])
    ever = [worker in byzantine or count > 0 for worker, count in enumerate(often.tolist())]
    columns = [part.tolist() for part in (often, *spent)]
    _append(here / "workers.csv", zip(range(n), ever, *columns, strict=True))
    ages = np.bincount(timeline.ages)
    _append(here / "ages.csv", [("age", "rows"), *enumerate(ages.tolist())])
    end = timeline.time_s[-1] if timeline.steps else 0.0
    begun = sum(part.sum() for part in spent[:4])
    return {
        "updates_per_s": float(timeline.steps / end) if end else 0.0,
        "mean_age": float(timeline.ages.mean()) if len(timeline.ages) else 0.0,
        "waiting": float(spent.waiting_s.sum() / (n * end)) if end else 0.0,
        "unused": float(1 - spent.used.sum() / begun) if begun else 0.0,
    }


def labels_of(run: Entry) -> dict[str, Any]:
    """The fields of a summary that depend on the other runs of the study."""
    return {
        "position": run.position,
        "rule": run.rule,
        "attack": run.attack,
        "others": run.others,
        "settings": settings(run.scenario),
        "of": run.of,
        "runs": run.runs,
    }


def _summary(run: Entry, status: str, reason: str | None) -> dict[str, Any]:
    data = load_data(run.scenario.data)
    return {
        **labels_of(run),
        "seed": run.scenario.seed,
        "status": status,
        **({"reason": reason} if reason else {}),
        "classes": data.classes,
        # which number stands for which label, where they had other names
        **({"labels": list(data.labels)} if data.labels else {}),
    }


@functools.cache
def versions() -> Mapping[str, Any]:
    """The versions of the packages, and the machine.

    Returns:
        JSON values by name.

    Raises:
        ScenarioError: Where JAX has no device to run on.
    """
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:
        raise ScenarioError(f"JAX has no device: {' '.join(str(error).split())}") from None

    found: dict[str, Any] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    affinity = getattr(os, "sched_getaffinity", None)
    return found | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": len(affinity(0)) if affinity else os.cpu_count(),
        "devices": sorted({device.device_kind for device in devices}),
        # both change the numbers
        "float64": bool(jax.config.jax_enable_x64),  # pyright: ignore[reportAttributeAccessIssue]
        "threads": threads.running(),
        "commit": _commit(),
    }


def user_files(scenario: Study) -> dict[str, tuple[str, str]]:
    """The Python files of the user's own that a run uses: those of `model: module` and of components outside byzax.

    Args:
        scenario: The run. None of its components is called.

    Returns:
        By key the file, and the SHA-256 of its content; of a function without a file, as in a notebook, that of its
        source.

    Raises:
        ScenarioError: Where a file cannot be read.
    """
    found = {}
    for key, part in parts_of(scenario):
        function: Any = function_of(part)
        file = Path(file_of(function)).absolute()
        if part.name == "module":
            given = part.options()["path"]
            function, file = given, absolute(given.rpartition(":")[0] if isinstance(given, str) else file_of(given))
        elif is_builtin(function):
            continue
        try:
            held = _source(function) if callable(function) and not file.is_file() else file.read_bytes()
        except OSError as error:
            raise ScenarioError(f"{key}: {file}: cannot be read ({error.strerror or error})") from None
        found[key] = str(file), hashlib.sha256(held).hexdigest()
    return found


def _source(function: Any) -> bytes:
    """The source of a function without a file; of one that was typed at a prompt its compiled code."""
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):
        called = function if hasattr(function, "__code__") else type(function).__call__
        return inspect.unwrap(called).__code__.co_code


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _append(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def save_study(folder: Path, expansion: Expansion) -> None:
    """Writes the scenario, with its overrides and grid, and lists the runs in the folder's mark.

    Args:
        folder: The folder of the study.
        expansion: The study.

    Raises:
        WriteError: Where a file cannot be written.
    """
    with writing(folder):
        outputs.list_in_mark(folder, ["scenario.yaml", *(f"runs/{run.slug}" for run in runs(expansion))])
        (folder / "runs").mkdir(exist_ok=True)
        outputs.save_text(folder / "scenario.yaml", dump(expansion.study.given()))
        if expansion.skipped:
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\n").writerows(
                [("combination", "reason"), *skipped_combinations(expansion)]
            )
            outputs.save_text(folder / SKIPPED, text.getvalue())
        else:
            outputs.remove([folder / SKIPPED])


def skipped_combinations(expansion: Expansion) -> list[tuple[str, str]]:
    """The combinations of a grid that were left out.

    Args:
        expansion: The study.

    Returns:
        Each combination in words, and the reason.
    """
    return [(choices_in_words(each.choices), each.reason) for each in expansion.skipped]


def read_skipped(folder: Path) -> list[tuple[str, str]]:
    """Reads the combinations that were left out from the folder of a study.

    Args:
        folder: The folder of the study.

    Returns:
        Each combination in words, and the reason; empty where none was left out, or the file is damaged.
    """
    try:
        with (folder / SKIPPED).open(newline="") as file:
            return [(row[0], row[1]) for row in list(csv.reader(file))[1:] if len(row) == 2]
    except (OSError, ValueError, csv.Error):
        return []
