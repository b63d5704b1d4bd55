"""What a run leaves on disk: a folder, written as it goes, so that a crash loses nothing that was measured."""

import csv
import functools
import hashlib
import importlib.metadata
import io
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from byzax.experiments import outputs
from byzax.experiments.names import compact, file_name, said_of, short
from byzax.experiments.settings import plain, settings
from byzax.experiments.strict_yaml import dump
from byzax.experiments.study import Study
from byzax.experiments.writing import atomically, json_text, sync, write_json, write_text
from byzax.simulator import threads
from byzax.simulator.arrivals import lost_in_words
from byzax.simulator.components import Component, NestedRule, files
from byzax.simulator.diagnostics import Evaluation, Update
from byzax.simulator.executors import Checkpoint
from byzax.simulator.executors.base import byzantine_updates, digest, fixed_liars
from byzax.simulator.scenario import Scenario, ScenarioError
from byzax.simulator.timeline import Timeline, cut, save, usage
from byzax.simulator.world import load as load_data

# The combinations of a grid that were left out, beside the scenario.
SKIPPED = "skipped.csv"
PACKAGES = ("byzax", "jax", "jaxlib", "flax", "optax", "ray", "numpy")


class WriteError(RuntimeError):
    """A file of results that cannot be written, such as on a full disk; one line that names it."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Makes a WriteError of whatever keeps the files of a folder from being written."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"{error.filename or folder}: cannot be written ({error.strerror or error})") from None


class Run(NamedTuple):
    """One seed of one cell.

    `slug`: its folder's name. `rule` and `attack`: how tables and plots call them. `others`: what else the grid
    chose. `position`: its place in the study. `of`: how many runs its cell of a table has, and `runs` its study.
    """

    slug: str
    scenario: Scenario
    rule: str
    attack: str
    others: dict[str, str]
    position: int
    of: int = 1
    runs: int = 1


def runs(study: Study) -> list[Run]:
    """Every run of a study, in order; their folder names are readable and differ."""
    rules = labels(cell.scenario.rule for cell in study.cells)
    attacks = labels(cell.scenario.attack for cell in study.cells)
    made: list[Run] = []
    taken: set[str] = set()
    for cell in study.cells:
        others = {key: compact(value) for key, value in cell.choices.items() if _is_other(key)}
        for seed in cell.scenario.seeds:
            rule, attack = rules[cell.scenario.rule], attacks[cell.scenario.attack]
            if not any(key.partition(".")[0] == "pre" for key in cell.choices):
                # what always stands before the rule belongs to it
                rule = " + ".join([*(compact(plain(each)) for each in cell.scenario.pre), rule])
            slug = file_name([rule, attack, *short(others), f"seed-{seed}"], taken)
            taken.add(slug)
            single = cell.scenario.model_copy(update={"seed": seed, "repeats": 1})
            made.append(Run(slug, single, rule, attack, others, len(made)))
    cells = Counter((run.rule, run.attack, *run.others.items()) for run in made)
    return [run._replace(of=cells[(run.rule, run.attack, *run.others.items())], runs=len(made)) for run in made]


def _is_other(key: str) -> bool:
    return key.partition(".")[0] not in {"rule", "attack", "seed"}


def labels(parts: Iterable[Component]) -> dict[Component, str]:
    """A name for each different component: its own, with the options that are not the default everywhere.

    Of settings that byzax has for all of a kind (who carries out an attack, and when) only those in which namesakes
    differ. Attacks at the same time are joined by +. Where all have the same names, only what differs is said.
    """
    different = list(dict.fromkeys(parts))
    together = [[part, *getattr(part, "beside", ())] for part in different]
    alike = len(different) > 1 and len({tuple(each.name for each in one) for one in together}) == 1
    labels = {}
    for part, one in zip(different, together, strict=True):
        named = []
        for place, each in enumerate(one):
            there = [other[place] for other in together if place < len(other)]
            said = _options(each, [other for other in there if other.name == each.name], alike)
            if not place or said or not alike:
                named.append(compact({"name": each.name, **said}))
        labels[part] = " + ".join(named)
    return labels


def _options(part: Component, namesakes: Sequence[Component], alike: bool) -> dict[str, Any]:
    """What a label says of a part beside its name; `alike`: no more than that in which it and its namesakes differ."""
    own, values = part.options(), part.model_dump(exclude={"name", "beside"})
    return {
        key: _nested(getattr(part, key)) if isinstance(getattr(part, key), NestedRule) else _short(value)
        for key, value in values.items()
        if any(getattr(other, key) != getattr(part, key) for other in namesakes)
        or (key in own and not alike and getattr(part, key) != type(part).model_fields[key].default)
    }


def _nested(rule: NestedRule) -> dict[str, Any]:
    """The name of a rule that is an option, and the options in which it is not as by default."""
    changed = {key: value for key, value in rule.options().items() if value != type(rule).model_fields[key].default}
    return {"name": rule.name, **changed}


def _short(value: Any) -> Any:
    """The name alone of a part that has no other setting: honest for {name: honest}."""
    return value["name"] if isinstance(value, Mapping) and set(value) == {"name"} else value


def begin(folder: Path, run: Run) -> None:
    """Makes the folder of a run and says in it what will run. It is there whole or not at all. Raises WriteError."""
    here = folder / "runs" / f".{run.slug}"
    described = run.scenario.model_dump(mode="json")
    del described["repeats"], described["grid"]
    own = [{"key": key, "file": file, "sha256": held} for key, (file, held) in own_files(run.scenario).items()]
    with writing(here):
        # what a stop on the way left of it is written over
        here.mkdir(parents=True, exist_ok=True)
        (here / "scenario.yaml").write_text(dump(described))
        (here / "versions.json").write_text(json_text({**versions(), "own_files": own}))
        _append(here / "metrics.csv", [("step", "time_s", "gradients", "wall_s", *Evaluation._fields)])
        _append(here / "updates.csv", [("step", *Update._fields)])
        (here / "summary.json").write_text(json_text(_summary(run, "running", None)))
        here.rename(folder / "runs" / run.slug)


def record(folder: Path, run: Run, checkpoint: Checkpoint, hidden: Sequence[str] = ()) -> None:
    """Appends what a checkpoint says, but for the `hidden` fields of its evaluation. Raises WriteError."""
    here = folder / "runs" / run.slug
    wall_s = round(checkpoint.wall_s, 6)
    row = (checkpoint.step, checkpoint.time_s, checkpoint.gradients, wall_s, *_shown(checkpoint.evaluation, hidden))
    count = len(checkpoint.updates.aggregate_norm)
    steps = range(checkpoint.step - count + 1, checkpoint.step + 1)
    with writing(here):
        _append(here / "metrics.csv", [row])
        _append(here / "updates.csv", zip(steps, *(map(float, each) for each in checkpoint.updates), strict=True))


def finish(
    folder: Path,
    run: Run,
    seen: Sequence[Checkpoint],
    status: str,
    reason: str | None = None,
    hidden: Sequence[str] = (),
    trace: str = "",
) -> None:
    """Writes the last model, the summary and what went wrong. Raises WriteError.

    `status` is complete, degraded, failed or interrupted.
    """
    with writing(folder / "runs" / run.slug):
        _finish(folder / "runs" / run.slug, run, seen, status, reason, hidden, trace)


def _finish(
    here: Path,
    run: Run,
    seen: Sequence[Checkpoint],
    status: str,
    reason: str | None,
    hidden: Sequence[str],
    trace: str,
) -> None:
    if seen:
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
            # of one that was cut short no more is told than what was carried out
            happened = cut(last.timeline, last.step)
            often = byzantine_updates(run.scenario, last.seed, happened.steps)
            summary |= _times(here, happened, fixed_liars(run.scenario, last.seed), often)
        # JSON has no NaN
        measured = _shown(seen[-1].evaluation, hidden)._asdict()
        summary |= {k: v if np.isfinite(v) else str(v) for k, v in measured.items()}
    if trace:
        write_text(here / "error.txt", trace)
    for path in here.glob("*.csv"):
        # on the disk before the summary says that it is complete
        sync(path)
    write_json(here / "summary.json", summary)


def complete(last: Checkpoint) -> str:
    """The status of a run that made all its updates: complete, or degraded where workers were lost on the way."""
    return "degraded" if _lost(last) else "complete"


def _lost(last: Checkpoint) -> dict[int, int]:
    """The workers that were lost unplanned, and the place of the first update without each."""
    return (
        {} if last.timeline is None else {worker: step for step, worker in cut(last.timeline, last.step).lost.tolist()}
    )


def _shown(evaluation: Evaluation, hidden: Sequence[str]) -> Evaluation:
    return evaluation._replace(**dict.fromkeys(hidden, np.nan))


def _times(here: Path, timeline: Timeline, liars: list[int], often: np.ndarray) -> dict[str, float]:
    """Writes how each worker spent its time, and how many rows had which age; gives what a table says of it.

    `liars` are Byzantine always; `often` `[n]`: in how many updates each worker is.
    """
    n = len(often)
    spent = usage(timeline, n)
    for name in ("workers.csv", "ages.csv"):
        # half of one is there where a signal came while it was written
        (here / name).unlink(missing_ok=True)
    _append(here / "workers.csv", [("worker", "byzantine", "byzantine_updates", *spent._fields)])
    ever = [worker in liars or count > 0 for worker, count in enumerate(often.tolist())]
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


def _summary(run: Run, status: str, reason: str | None) -> dict[str, Any]:
    scenario = run.scenario
    data = load_data(scenario.data)
    return {
        "position": run.position,
        "rule": run.rule,
        "attack": run.attack,
        "others": run.others,
        "settings": settings(scenario),
        "seed": scenario.seed,
        "of": run.of,
        "runs": run.runs,
        "status": status,
        **({"reason": reason} if reason else {}),
        "classes": data.classes,
        # which number stands for which label, where they had other names
        **({"labels": list(data.labels)} if data.labels else {}),
    }


@functools.cache
def versions() -> Mapping[str, Any]:
    """The code and the machine that the numbers come from. Raises ScenarioError where JAX has no device to run on."""
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
        "threads": threads.counted(),
        "commit": _commit(),
    }


def own_files(scenario: Scenario) -> dict[str, tuple[str, str]]:
    """The Python files of the user's own that a run uses, by key: the path, and the SHA-256 of what it holds.

    They are that of `model: module` and those of parts that are plug-ins; none of them is run. Raises ScenarioError
    where one cannot be read.
    """
    plugins = [Path(folder).absolute() for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder]
    found = {}
    for key, part in _parts(scenario, ""):
        place = Path(files.get(type(part), "")).absolute()
        if part.name == "module":
            place = Path(part.options()["path"].rpartition(":")[0]).absolute()
        elif not any(folder in place.parents for folder in plugins):
            continue
        try:
            found[key] = str(place), hashlib.sha256(place.read_bytes()).hexdigest()
        except OSError as error:
            raise ScenarioError(f"{key}: {place}: cannot be read ({error.strerror})") from None
    return found


def _parts(value: Any, key: str) -> Iterator[tuple[str, Component]]:
    """All parts of a scenario that have a name, with their keys."""
    if isinstance(value, Component):
        yield key, value
    if isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _parts(getattr(value, field), f"{key}.{field}".removeprefix("."))
    elif isinstance(value, tuple):
        for i, each in enumerate(value):
            yield from _parts(each, f"{key}[{i}]")


def _commit() -> str | None:
    root = Path(__file__).parents[1]
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


def save_study(folder: Path, study: Study) -> None:
    """Puts the scenario, with its overrides and grid, beside the runs, and lists the runs in the folder's mark.

    Raises WriteError.
    """
    with writing(folder):
        outputs.enter(folder, ["scenario.yaml", *(f"runs/{run.slug}" for run in runs(study))])
        (folder / "runs").mkdir(exist_ok=True)
        outputs.save_text(folder / "scenario.yaml", dump(study.raw))
        if study.skipped:
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\n").writerows([("combination", "reason"), *skipped(study)])
            outputs.save_text(folder / SKIPPED, text.getvalue())


def skipped(study: Study) -> list[tuple[str, str]]:
    """The combinations of a grid that were left out, and why."""
    return [(said_of(each.choices), each.reason) for each in study.skipped]


def read_skipped(folder: Path) -> list[tuple[str, str]]:
    """The same, as the folder of a study tells it: nothing where none was left out, or the file is damaged."""
    try:
        with (folder / SKIPPED).open(newline="") as file:
            return [(row[0], row[1]) for row in list(csv.reader(file))[1:] if len(row) == 2]
    except (OSError, ValueError, csv.Error):
        return []
