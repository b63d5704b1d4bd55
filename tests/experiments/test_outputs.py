"""Nothing that byzax did not write is removed or replaced, and what a killed process left stands in nobody's way."""

import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from byzax.experiments import marks, outputs, run_files
from byzax.experiments.entries import entries_of
from byzax.experiments.study import load
from byzax.experiments.study_files import save_study
from byzax.experiments.writing import atomically, check_replaceable
from byzax.simulator.data import _files
from byzax.simulator.executors import session
from byzax.simulator.mistakes import ScenarioError
from tests.experiments.command import ROOT, byzax, write
from tests.nightly import by_night


def everything(folder):
    """All that lies below a folder: what each file holds, where each link leads, and when a file was changed."""
    found = {}
    for here, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(here, name)
            if path.is_symlink():
                found[path] = os.readlink(path)
            else:
                found[path] = None if path.is_dir() else (path.read_bytes(), path.stat().st_mtime_ns)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A scenario and the folder of its results."""
    folder = tmp_path_factory.mktemp("finished")
    path = write(folder, steps=1)
    assert byzax("run", path, "--out", folder / "out").exit_code == 0
    return path, folder / "out"


@pytest.fixture
def study(finished, tmp_path):
    """The scenario, and a copy of the folder of its results."""
    path, out = finished
    subprocess.run(["cp", "-a", out, tmp_path / "out"], check=True)
    return path, tmp_path / "out"


def refuses(folder, *arguments):
    """Asserts that a command is refused in one line and changes nothing below a folder."""
    before = everything(folder)
    result = byzax(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert everything(folder) == before
    return result.stderr


@pytest.fixture
def thesis(tmp_path):
    """A folder of the user's, with files that are called like those of a study."""
    thesis = tmp_path / "thesis"
    (thesis / "runs" / "exp1").mkdir(parents=True)
    for name in ("accuracy-of-us.png", "time.svg", "tuned-mine.yaml", "scenario.yaml", "tune.csv", "summary.md"):
        (thesis / name).write_text(f"mine: {name}")
    for name in ("params.npz", "metrics.csv", "summary.json"):
        (thesis / "runs" / "exp1" / name).write_text("mine")
    return thesis


def test_a_link_to_the_folder_of_a_run_is_not_followed(study, thesis):
    path, out = study
    (out / "runs" / "a").symlink_to(thesis / "runs" / "exp1")
    assert "holds runs/a, which byzax did not write" in refuses(out.parent, "run", path, "--out", out, "--overwrite")


def test_a_link_in_place_of_the_folder_of_a_run_that_byzax_made_is_not_followed(study, thesis):
    path, out = study
    (own,) = (out / "runs").iterdir()
    own.rename(out.parent / "moved")
    own.symlink_to(thesis / "runs" / "exp1")
    assert f"holds runs/{own.name}" in refuses(out.parent, "run", path, "--out", out, "--overwrite")


def test_a_link_to_a_folder_of_runs_is_not_followed(study, thesis, tmp_path):
    path, out = study
    (out / "runs").rename(tmp_path / "moved")
    (out / "runs").symlink_to(thesis)
    assert "holds runs, which byzax did not write" in refuses(tmp_path, "run", path, "--out", out, "--overwrite")
    other = tmp_path / "other"
    other.mkdir()
    (other / "runs").symlink_to(thesis)
    assert "holds runs, which byzax did not write" in refuses(tmp_path, "run", path, "--out", other, "--overwrite")


@pytest.mark.parametrize("command", ["run", "tune", "certify"])
def test_a_folder_without_the_mark_is_not_touched_whatever_its_files_are_called(finished, thesis, command):
    path, _ = finished
    what = ["--rule", "median"] if command == "certify" else [path]
    said = refuses(thesis.parent, command, *what, "--out", thesis, "--overwrite")
    assert "which byzax did not write" in said
    assert "--overwrite" not in refuses(thesis.parent, command, *what, "--out", thesis)


def test_a_file_that_is_only_called_like_one_of_byzax_is_not_removed(study):
    path, out = study
    (out / "accuracy-of-my-thesis.png").write_text("mine")
    assert "accuracy-of-my-thesis.png" in refuses(out, "run", path, "--out", out, "--overwrite")


def test_a_mark_cannot_name_what_byzax_does_not_write(study, tmp_path):
    path, out = study
    (tmp_path / "thesis.tex").write_text("mine")
    (out / "notes.tex").write_text("mine")
    with (out / ".byzax").open("a") as file:
        file.write("../thesis.tex\nnotes.tex\nruns/../../thesis.tex\n/etc/passwd\nruns/..\n")
    assert "holds notes.tex" in refuses(tmp_path, "run", path, "--out", out, "--overwrite")


@pytest.mark.parametrize("mark", ["", "byzax\n", "byzax other\nscenario.yaml\n", "\0", "link"])
def test_a_mark_that_is_none_proves_nothing(study, tmp_path, mark):
    path, out = study
    real = (out / ".byzax").rename(tmp_path / "mark")
    if mark == "link":
        (out / ".byzax").symlink_to(real)
    else:
        (out / ".byzax").write_text(mark)
    refuses(tmp_path, "run", path, "--out", out, "--overwrite")


def test_results_of_another_kind_are_not_overwritten(study):
    _, out = study
    assert "holds a study" in refuses(out, "certify", "--rule", "median", "--out", out, "--overwrite")
    assert "choose another folder (--out, in Python out=)\n" in refuses(
        out, "certify", "--rule", "median", "--out", out
    )


def test_nothing_is_removed_where_one_of_several_folders_cannot_be_had(study, thesis, tmp_path):
    path, _ = study
    (tmp_path / "other.yaml").write_text(path.read_text())
    (tmp_path / path.name).write_text(path.read_text())
    files = tmp_path / path.name, tmp_path / "other.yaml"
    assert byzax("run", *files, "--out", tmp_path / "both").exit_code == 0
    (tmp_path / "both" / "other" / "mine.txt").write_text("mine")
    refuses(tmp_path, "run", *files, "--out", tmp_path / "both", "--overwrite")


def test_a_folder_that_is_reached_through_a_link_is_overwritten_where_it_has_the_mark(study, tmp_path):
    path, out = study
    (tmp_path / "link").symlink_to(out)
    assert byzax("run", path, "--out", tmp_path / "link", "--overwrite", "--set", "seed=7").exit_code == 0
    assert [each.name for each in (out / "runs").iterdir()] == ["average_none_seed-7"]
    assert (tmp_path / "link").is_symlink()


def test_show_replaces_nothing_that_byzax_did_not_write(study, tmp_path):
    _, out = study
    (out / "summary.md").unlink()
    (out / "summary.md").symlink_to(write(tmp_path, "mine.md"))
    assert "summary.md: byzax did not write this file" in refuses_to_write(tmp_path, "show", out)
    (out / "summary.md").unlink()
    assert byzax("show", out).exit_code == 0
    # results that were put together by hand: what is new is written, and written again
    together = tmp_path / "together"
    (together / "runs").mkdir(parents=True)
    subprocess.run(["cp", "-a", *(out / "runs").iterdir(), together / "runs"], check=True)
    assert byzax("show", together).exit_code == 0
    assert byzax("show", together).exit_code == 0
    (together / ".byzax").unlink()
    assert "byzax did not write this file" in refuses_to_write(tmp_path, "show", together)


@pytest.mark.parametrize("target", ["nowhere", "../thesis.txt", ".", None])
def test_show_writes_through_no_link_and_into_no_folder_in_the_place_of_the_mark(study, tmp_path, target):
    _, out = study
    # what is there without a mark is not replaced: here nothing stands in the way but the mark itself
    for path in out.iterdir():
        if path.is_file():
            path.unlink()
    mark = out / marks.MARK
    if target is None:
        mark.mkdir()
    else:
        mark.symlink_to(target)
    (out.parent / "thesis.txt").write_text("mine")
    assert f"{marks.MARK}: is no file of byzax" in refuses_to_write(tmp_path, "show", out)
    assert not (out / "nowhere").exists()
    assert (out.parent / "thesis.txt").read_text() == "mine"


def refuses_to_write(folder, *arguments):
    before = everything(folder)
    result = byzax(*arguments)
    assert result.exit_code == 2, result.output
    after = everything(folder)
    # what is byzax's own may have been made anew
    for path, held in before.items():
        assert held == after[path] or path.name in marks.read_mark(path.parent)[1] | {".byzax"}, path
        assert path.is_symlink() == isinstance(held, str)
    return result.stderr


def test_a_picture_or_numbers_take_only_the_place_of_their_own(finished, tmp_path, monkeypatch):
    path, _ = finished
    monkeypatch.chdir(tmp_path)
    for command, name in (("timeline", "timeline.png"), ("partition", "partition.png")):
        for _ in range(2):
            assert byzax(command, path).exit_code == 0
        (tmp_path / name).write_text("mine")
        assert f"--out {name}: is there, and byzax did not write it" in refuses(tmp_path, command, path)
    (tmp_path / "partition.png").unlink()
    (tmp_path / "partition.svg").write_text("mine")
    assert "--out partition.svg: is there" in refuses(tmp_path, "partition", path)
    assert "--out partition.svg: is there" in refuses(tmp_path, "partition", path, "--out", "partition.svg")
    (tmp_path / "numbers.json").write_text('{"mine": 1}')
    assert "--json numbers.json: is there" in refuses(tmp_path, "bench", "rules", "--json", "numbers.json")
    (tmp_path / "empty.json").touch()
    check_replaceable(tmp_path / "empty.json", "--json")


def test_a_file_is_begun_under_a_name_of_its_own(tmp_path):
    for name in (".result.json.tmp", ".writable", ".result.json.part"):
        (tmp_path / name).write_text("mine")
    before = everything(tmp_path)
    for _ in range(2):
        atomically(tmp_path / "result.json", lambda file: file.write(b"new"))
    assert {path: held for path, held in everything(tmp_path).items() if path.name != "result.json"} == before
    with pytest.raises(ZeroDivisionError):
        atomically(tmp_path / "result.json", lambda file: file.write(bytes(1 // 0)))
    assert len(everything(tmp_path)) == 4


# what a random tree is made of: names that byzax writes, and that it does not
FILES = [*marks.RUN_FILES, "summary.md", "accuracy.png", "accuracy_x.svg", "tuned.yaml", "notes.txt", ".writable",
         ".summary.json.tmp", ".byzax-0123abcd.tmp", ".byzax-0123abcd.tmp.txt"]  # fmt: skip
FOLDERS = ["runs", "krum_none_seed-0", ".krum_none_seed-0", "mine", "plots"]


def grow(rng, here, outside, tidy, depth=0):
    """Fills a folder with files, folders and links at random; `tidy`: in places where byzax has those of such names."""
    files, folders = FILES, FOLDERS
    if tidy:
        files = [["summary.md", "accuracy.png", "tuned.yaml"], [], marks.RUN_FILES, []][min(depth, 3)]
        folders = [["runs"], FOLDERS[1:], [], []][min(depth, 3)]
    for name in rng.sample(files, rng.randrange(min(4, len(files) + 1))):
        (here / name).write_text(f"{rng.random()}")
    most = min(len(folders), 2) if depth < 3 else 0
    for name in rng.sample(folders, most if tidy else rng.randrange(most + 1)):
        (here / name).mkdir(exist_ok=True)
        grow(rng, here / name, outside, tidy, depth + 1)
    if rng.random() < (0.05 if tidy else 0.2):
        name = rng.choice([*FILES, *FOLDERS])
        if not os.path.lexists(here / name):
            (here / name).symlink_to(rng.choice(outside))


def mark(rng, folder):
    """Puts a mark into a folder at random; gives the names that it lists."""
    if rng.random() < 0.25:
        return set()
    listed = rng.sample([*FILES, "runs/krum_none_seed-0", "runs/mine", "../outside/notes.txt", "runs"], 16)
    (folder / ".byzax").write_text("\n".join(["byzax study", *listed, ""]))
    return set(listed)


def is_own(name, listed):
    """The files that byzax may remove, written anew: a listed file of a known name, or a file of a listed run."""
    first, _, rest = name.partition("/")
    known = {"summary.md", "accuracy.png", "accuracy_x.svg", "tuned.yaml", "scenario.yaml"}
    if not rest:
        return first == ".byzax-0123abcd.tmp" or first in known & listed
    run, _, last = rest.partition("/")
    inside = {*marks.RUN_FILES, ".byzax-0123abcd.tmp"}
    return first == "runs" and f"runs/{run.removeprefix('.')}" in listed and last in inside


def in_own_run(path, listed):
    """Tells whether this is a folder inside that of a listed run, which is removed whole."""
    return len(path.parts) > 2 and path.parts[0] == "runs" and f"runs/{path.parts[1].removeprefix('.')}" in listed


def survives(tmp_path, seed):
    """Asserts of a random tree that claiming it changes nothing but what is byzax's own. Gives whether it was had."""
    rng = random.Random(seed)
    outside, out = tmp_path / "outside", tmp_path / "out"
    for folder in (outside, out):
        folder.mkdir()
        grow(rng, folder, [outside, outside / "notes.txt", tmp_path / "nowhere", out], rng.random() < 0.5)
    listed = mark(rng, out)
    before, overwrite = everything(tmp_path), rng.random() < 0.9
    own = {path for path, held in before.items() if isinstance(held, tuple) and out in path.parents
           and path.name != ".byzax" and is_own(path.relative_to(out).as_posix(), listed)}  # fmt: skip
    others = {path: held for path, held in before.items() if path not in own | {out / ".byzax"} and out in path.parents}
    foreign = {path for path, held in others.items() if held is not None or in_own_run(path.relative_to(out), listed)}
    try:
        outputs.claim([out], [], overwrite)
    except ScenarioError:
        assert everything(tmp_path) == before
        assert foreign or not overwrite
        return False
    after = everything(tmp_path)
    assert not foreign, sorted(foreign)
    assert own == set() or overwrite
    gone = {path for path in before if path not in after}
    assert {path for path in gone if before[path] is not None} == own
    assert {path: held for path, held in before.items() if path not in gone and path != out / ".byzax"} == {
        path: after[path] for path in before if path not in gone and path != out / ".byzax"
    }
    assert marks.read_mark(out) == ("study", frozenset())
    return True


@pytest.mark.parametrize(
    "seeds", [range(60), pytest.param(range(60, 2000), marks=pytest.mark.slow)], ids=["day", "night"]
)
def test_whatever_a_folder_holds_only_what_is_byzaxs_own_goes(tmp_path, seeds):
    had = 0
    for seed in seeds:
        (here := tmp_path / str(seed)).mkdir()
        had += survives(here, seed)
    assert 0 < had < len(seeds)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_can_be", lambda kind, name: True),
        ("_own_folder", lambda name, listed: name.startswith("runs")),
        ("_own_file", lambda name, listed: name.rpartition("/")[2] in marks.RUN_FILES),
        ("_own_file", lambda name, listed: True),
    ],
)
def test_mistaken_ideas_of_what_is_own_are_caught(tmp_path, monkeypatch, name, wrong):
    monkeypatch.setattr(marks, name, wrong)

    def fails(seed):
        (here := tmp_path / str(seed)).mkdir()
        try:
            survives(here, seed)
        except (AssertionError, OSError):
            return True
        return False

    assert any(fails(seed) for seed in range(60))


def test_what_a_person_put_into_the_cache_stays(tmp_path, monkeypatch):
    (tmp_path / "outside").write_text("mine")
    with zipfile.ZipFile(tmp_path / "cache.zip", "w") as packed:
        for name in ("one", "two", "three"):
            packed.writestr(name, "from the archive")
    held = (tmp_path / "cache.zip").read_bytes()
    fetch = {"cache.zip": _files.Fetch(("http://nowhere",), hashlib.sha256(held).hexdigest())}
    monkeypatch.setattr("pooch.retrieve", lambda *_, fname, path, **__: (path / fname).write_bytes(held))
    for had in (False, True):
        cache = tmp_path / f"{had}"
        cache.mkdir()
        (cache / "one").write_text("mine")
        (cache / ".two.part").symlink_to(tmp_path / "outside")
        (cache / "three").symlink_to(tmp_path / "outside")
        if had:
            (cache / "cache.zip").write_bytes(held)
        assert _files._download(cache, ["two"], fetch) == ""
        assert [(cache / name).read_text() for name in ("one", "two", "three")] == ["mine", "from the archive", "mine"]
        assert (cache / "cache.zip").exists() == had
    (cache / "cache.zip").write_bytes(b"another one of mine")
    assert "its checksum is not the published one: remove it" in _files._download(cache, ["two"], fetch)
    assert (cache / "cache.zip").read_bytes() == b"another one of mine"
    assert (tmp_path / "outside").read_text() == "mine"


class Killed(BaseException):
    """The stand-in for a SIGKILL in a test that goes on."""


def kill_at(patch, count):
    """Makes the file operation number `count` and all that follow fail; gives how many there were, in a list."""
    seen = [0]

    def counted(function):
        def call(*given, **named):
            writes = function is not original or any(letter in str((*given[1:2], *named.values())) for letter in "wxa")
            if writes:
                seen[0] += 1
                if 0 < count <= seen[0]:
                    # a process that is dead cleans nothing up
                    raise Killed
            return function(*given, **named)

        return call

    original = io.open
    patch.setattr(io, "open", counted(original))
    for name in ("replace", "rename", "unlink", "mkdir", "rmdir"):
        patch.setattr(os, name, counted(getattr(os, name)))
    return seen


# at night every one, and of whole commands (below)
@pytest.mark.parametrize("stride", [11, by_night(1)])
def test_after_a_kill_at_any_file_operation_the_folder_can_be_overwritten(tmp_path, monkeypatch, stride):
    path = write(tmp_path, repeats=2, steps=1)
    described = load(path)
    with session(described.study.executor) as execute:
        seen = list(execute(described.study.replace(repeats=1).task))
    monkeypatch.setattr(os, "fsync", lambda place: None)

    def run(out, overwrite):
        outputs.claim([out], [path], overwrite)
        save_study(out, described)
        for run in entries_of(described):
            run_files.begin(out, run)
            for checkpoint in seen:
                run_files.record(out, run, checkpoint)
            run_files.finish(out, run, seen, "complete")
        for name in ("summary.csv", "summary.md", "accuracy.png"):
            outputs.save_text(out / name, "numbers")

    run(tmp_path / "whole", False)
    for start in (None, tmp_path / "whole"):
        with monkeypatch.context() as patch:
            (operations,) = [kill_at(patch, 0)]
            run(tmp_path / "counted" if start is None else start, start is not None)
        assert operations[0] > 30
        for count in range(1, operations[0] + 1, stride):
            out = tmp_path / f"{start is None}-{count}"
            if start is not None:
                shutil.copytree(start, out)
            with monkeypatch.context() as patch:
                kill_at(patch, count)
                with pytest.raises(Killed):
                    run(out, start is not None)
            run(out, True)
            assert {each.relative_to(out) for each in out.rglob("*")} == {
                each.relative_to(tmp_path / "whole") for each in (tmp_path / "whole").rglob("*")
            }
            shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.parametrize("command", [["run"], ["tune", "--over", "steps=[1,2]"]], ids=["run", "tune"])
def test_after_a_kill_of_the_process_the_folder_can_be_overwritten(tmp_path, command):
    path = write(tmp_path, repeats=2, steps=2)
    killing = [sys.executable, "-W", "ignore", "-m", "tests.experiments.killed", tmp_path, "4", command[0], path]
    done = subprocess.run([*killing, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(line.endswith(" operations") for line in done.stdout.splitlines()), done.stdout
    assert len(done.stdout.splitlines()) == 2
