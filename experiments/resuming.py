"""Going on with a study: the runs in its folder that are kept, those that go on, and those that are new."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from byzax.experiments import marks, outputs
from byzax.experiments.entries import Entry, described, entries_of, labels_of
from byzax.experiments.locking import locked
from byzax.experiments.names import counted
from byzax.experiments.records import COUNTED, Damaged, Summary, read_summary
from byzax.experiments.run_files import SNAPSHOT
from byzax.experiments.strict_yaml import read_mapping
from byzax.experiments.study_files import save_study
from byzax.experiments.versions import recorded_files, user_files, versions
from byzax.experiments.writing import write_errors, write_json
from byzax.simulator import snapshots
from byzax.simulator.config.grid import Expansion
from byzax.simulator.mistakes import ScenarioError, join_lines, on_one_line, shorten
from byzax.simulator.snapshots import Snapshot

# Keys of a run that decide none of its numbers; of the executor only whether it gives the bits of `loop`.
FREE = ("name", "executor", "snapshots", "skip_impossible", "report", "log")
# What a run is begun again for where it is not what it was: all that may change a last bit.
VERSIONS = ("byzax", "jax", "jaxlib", "flax", "optax", "numpy", "python", "devices", "float64", "threads", "commit")
# Differences of one run that a message names.
MOST_NAMED = 3


class Earlier(NamedTuple):
    """A run in the folder of a study.

    Attributes:
        folder: Its folder.
        described: The values that decide its numbers and its files, by dotted key.
        summary: Its summary; None where it is damaged.
    """

    folder: Path
    described: Mapping[str, Any]
    summary: Summary | None


class Standing(NamedTuple):
    """The runs of a study that are in its folder.

    Attributes:
        kept: Those with all their files, by the names that they have in the study.
        snapshots: The snapshots of those that go on, likewise.
        folders: The folders of all that are the same as one of the study, likewise.
        failed: Those of `kept` that failed.
        notes: Lines about runs that the study does not have, and about those that begin again.
    """

    kept: frozenset[str] = frozenset()
    snapshots: Mapping[str, Snapshot] = MappingProxyType({})
    folders: Mapping[str, Path] = MappingProxyType({})
    failed: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


# Of a study without any run.
NEW = Standing()


def compare(folder: Path, expansion: Expansion, retry_failed: bool) -> Standing:
    """Compares a study with the runs in its folder; changes nothing.

    A run is the same where its description and the user's own files are.

    Args:
        folder: The folder.
        expansion: The study.
        retry_failed: Whether failed runs are run again.

    Returns:
        The runs that are there.

    Raises:
        ScenarioError: Where another run is there under the name of one of the study.
    """
    earlier = [*_earlier(folder)]
    if not earlier:
        return NEW
    entries = {entry.slug: entry for entry in entries_of(expansion)}
    described = {slug: _described(entry) for slug, entry in entries.items()}
    by_description = {_text(each.described): each for each in earlier}
    same = {slug: by_description[text] for slug in entries if (text := _text(described[slug])) in by_description}
    used = {each.folder for each in same.values()}
    rest = {each.folder.name: each for each in earlier if each.folder not in used}
    changed = [slug for slug in entries if slug not in same and slug in rest]
    if changed:
        source = expansion.source or "the study"
        lines = [
            f"{rest[slug].folder}: was run with {_difference(rest[slug].described, described[slug])} in {source}: "
            f"{marks.ANOTHER}, or run all anew ({marks.OVERWRITE})"
            for slug in changed
        ]
        raise ScenarioError(join_lines(lines))
    notes = []
    if rest:
        notes.append(
            f"{folder}: {len(rest)} of the runs there are not in {expansion.source or 'the study'} any more, and stay: "
            f"such as {next(iter(rest))}"
        )
    kept: list[str] = []
    lost: list[str] = []
    held: dict[str, Snapshot] = {}
    for slug, each in same.items():
        status = "damaged" if each.summary is None else each.summary.status
        if status in COUNTED or (status == "failed" and not retry_failed):
            kept.append(slug)
            lost += [slug] * (status == "failed")
        elif (each.folder / SNAPSHOT).exists():
            try:
                _check_versions(each.folder)
                held[slug] = snapshots.load(each.folder / SNAPSHOT)
            except ValueError as error:
                notes.append(f"{each.folder}: begins again: {error}")
    places = {slug: each.folder for slug, each in same.items()}
    return Standing(frozenset(kept), held, places, frozenset(lost), tuple(notes))


def take_over(folder: Path, expansion: Expansion, standing: Standing) -> None:
    """Gives the runs in a folder the names and labels that they have in a study, which depend on all of its runs.

    Args:
        folder: The folder, with the mark of the study.
        expansion: The study.
        standing: Its runs in the folder.

    Raises:
        WriteError: Where a file cannot be written.
    """
    if not standing.folders:
        return
    with write_errors(folder):
        _rename(folder, standing.folders)
        for entry in entries_of(expansion):
            if entry.slug in standing.kept:
                _relabel(folder / "runs" / entry.slug, entry)
                # where the process was killed just after the summary was written
                (folder / "runs" / entry.slug / SNAPSHOT).unlink(missing_ok=True)


def _earlier(folder: Path) -> Iterator[Earlier]:
    """The runs in the folder of a study whose descriptions can be read."""
    for path in sorted(folder.glob("runs/[!.]*")):
        try:
            raw = read_mapping(path / "scenario.yaml")
            files = {key: sha256 for key, (_, sha256) in recorded_files(path).items()}
        except ValueError:
            # begins again, or is in the way of no run
            continue
        try:
            summary = read_summary(path)
        except Damaged:
            summary = None
        yield Earlier(path, _comparable(raw, files), summary)


def _described(entry: Entry) -> Mapping[str, Any]:
    files = {key: sha256 for key, (_, sha256) in user_files(entry.scenario).items()}
    return _comparable(described(entry), files)


def _comparable(raw: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """The keys of a description that decide numbers and files, dotted, with the content of the user's own files."""
    executor = raw.get("executor", {})
    batched = executor.get("name") == "vectorised" or executor.get("batch", False)
    own = {f"the file of {key}": f"sha256 {sha256[:12]}" for key, sha256 in files.items()}
    # a key that is not there is one that a version before did not have: with nothing in it, it says the same
    plain = {key: value for key, value in raw.items() if key not in FREE and value not in (None, [])}
    return {**dict(_flat("", plain)), **own, "executor": executor if batched else "loop or ray"}


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _flat(f"{key}.{name}".removeprefix("."), each)
    else:
        yield key, value


def _text(described: Mapping[str, Any]) -> str:
    return json.dumps(described, sort_keys=True, default=str)


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The keys in which two descriptions differ, in words."""
    keys = [key for key in {**now, **before} if before.get(key) != now.get(key)]
    words = [
        f"{key} {shorten(on_one_line(before.get(key)))}, which is {shorten(on_one_line(now.get(key)))}"
        for key in keys[:MOST_NAMED]
    ]
    return " and ".join(words) + (f" (and {len(keys) - MOST_NAMED} others)" if len(keys) > MOST_NAMED else "")


def _rename(folder: Path, places: Mapping[str, Path]) -> None:
    moving = {slug: place for slug, place in places.items() if place.name != slug}
    # one may have the name that another one is to have
    taken = {place.name for place in places.values()}
    aside = {slug: folder / "runs" / f"{slug}{marks.ASIDE}" for slug in moving if slug in taken}
    marks.list_in_mark(folder, [f"runs/{path.name}" for path in aside.values()])
    marks.list_in_mark(folder, [f"runs/{slug}" for slug in moving])
    for slug, path in aside.items():
        moving[slug].rename(path)
    for slug, place in moving.items():
        aside.get(slug, place).rename(folder / "runs" / slug)


def _relabel(here: Path, entry: Entry) -> None:
    """Puts the labels and the position that a run has in the study now into its summary."""
    path = here / "summary.json"
    before = json.loads(path.read_text())
    after = {**before, **labels_of(entry)}
    if after != before:
        write_json(path, after)


def _check_versions(here: Path) -> None:
    """Raises ValueError where a run was begun with other packages or another kind of machine."""
    try:
        before = json.loads((here / "versions.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{here / 'versions.json'}: cannot be read ({error})") from None
    now = versions()
    for name in VERSIONS:
        if before.get(name) != now[name]:
            raise ValueError(f"it was begun with {name} {before.get(name)}, and here it is {now[name]}")


@contextmanager
def opened(
    folders: Sequence[Path],
    expansions: Sequence[Expansion],
    inputs: Sequence[Path],
    overwrite: bool = False,
    retry_failed: bool = False,
    kind: marks.ResultsKind = "study",
) -> Iterator[list[Standing]]:
    """Holds the folders of studies for this process, and prepares them.

    Args:
        folders: The folders.
        expansions: The study of each.
        inputs: Files that are read, which are never removed.
        overwrite: Whether results that are there are removed; else they are gone on with.
        retry_failed: Whether failed runs are run again.
        kind: The kind of results.

    Yields:
        The runs of each study that are there.

    Raises:
        ScenarioError: Where a folder cannot be used, is in use, or holds other runs under the names of these.
        WriteError: Where a file cannot be written.
    """
    outputs.check(folders, inputs, overwrite, kind, goes_on=True)
    for folder in folders:
        outputs.make(folder)
    with locked(folders):
        if overwrite:
            outputs.claim(folders, inputs, overwrite, kind)
        together = [*zip(folders, expansions, strict=True)]
        standings = [compare(folder, each, retry_failed) for folder, each in together]
        outputs.claim(folders, inputs, kind=kind, goes_on=True)
        for (folder, each), standing in zip(together, standings, strict=True):
            outputs.remove_begun(folder)
            save_study(folder, each)
            take_over(folder, each, standing)
        yield standings


def lines(folder: Path, expansion: Expansion, standing: Standing) -> list[str]:
    """Lines about the runs of a study that are there, for the person who runs it.

    Args:
        folder: The folder.
        expansion: The study.
        standing: Its runs in the folder.

    Returns:
        The lines; none for a new study.
    """
    if not standing.folders and not standing.notes:
        return []
    count = len(entries_of(expansion))
    numbers = [(len(standing.kept), "there already"), (len(standing.snapshots), "to be gone on with")]
    numbers.append((count - len(standing.kept) - len(standing.snapshots), "to be run"))
    words = ", ".join(f"{number} {what}" for number, what in numbers if number)
    said = [f"{folder}: of {counted(count, 'run')} {words}"]
    if standing.failed:
        said.append(
            f"{folder}: {len(standing.failed)} of those that are there failed: --retry-failed (in Python "
            "retry_failed=True) runs them again"
        )
    return [*said, *standing.notes]
