"""Kills `byzax` at one file operation after the other, and runs it again with --overwrite: a program of the tests.

`python -m tests.experiments.killed FOLDER STRIDE COMMAND ...` prints a line for each operation at which a process was
killed and after which the command failed or a file of somebody else was touched. `FOLDER/out` is its --out. All
processes are forks of this one, for imports take the time, and what is computed is computed once.
"""

import builtins
import importlib
import io
import os
import pickle
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from byzax.experiments import cli, command_steps, running
from byzax.experiments.marks import LOCK
from byzax.simulator.config.study import Task
from byzax.simulator.executors import session

OPERATIONS = ("replace", "rename", "unlink", "mkdir", "rmdir")


def kill_at(count: int, counts: int, folder: Path) -> None:
    """Makes this process kill itself before its operation number `count` on files in a folder; counts into a pipe."""
    seen = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal seen
            mode = str(named.get("mode", given[1] if len(given) > 1 else "r"))
            changes = function is not original or any(letter in mode for letter in "wxa")
            if changes and str(given[0]).startswith(str(folder)):
                seen += 1
                os.write(counts, b".")
                if seen == count:
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **named)

        return call

    original = io.open
    io.open = builtins.open = counted(original)  # pyright: ignore[reportAttributeAccessIssue]
    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))


def import_ahead(folder: Path, arguments: list[str]) -> None:
    """Carries out a command once, in a fork, and imports what it imported: later forks need not."""
    forked(folder, arguments)
    for name in (folder.parent / "modules").read_text().split():
        # modules of the standard library that are there only by their package are imported with it
        with suppress(ImportError, AttributeError):
            importlib.import_module(name)


def forked(folder: Path, arguments: list[str], count: int = 0, after_s: float | None = None) -> tuple[int, int]:
    """The exit code of a command (negative: its signal), and the number of its operations on files in a folder.

    Its process group is killed before operation number `count`, or after so many seconds; 0 and None for never.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        log = os.open(folder.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 1
        try:
            kill_at(count, writer, folder)
            cli.app(arguments, prog_name="byzax")
        except SystemExit as end:
            code = int(end.code or 0)
            (folder.parent / "modules").write_text(" ".join(sys.modules))
        finally:
            os._exit(code)
    os.close(writer)
    timer = threading.Timer(after_s or 0, os.killpg, (child, signal.SIGKILL))
    if after_s is not None:
        timer.start()
    operations = 0
    while got := os.read(reader, 4096):
        operations += len(got)
    os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    timer.cancel()
    # actors of an embedded Ray
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return code, operations


def computed_once(place: Path) -> None:
    """Makes runs give what they gave the first time, from files in a folder, and leaves out what is traced."""
    place.mkdir()

    @contextmanager
    def again(executor: Any, **where: Any) -> Any:
        def execute(task: Task, snapshots: Any = None, saving: Any = None) -> Any:
            kept = place / f"{task.run.rule.name}-{task.run.seed}-{task.run.steps}"
            if not kept.exists():
                with session(executor, **where) as first:
                    kept.write_bytes(pickle.dumps(list(first(task))))
            yield from pickle.loads(kept.read_bytes())

        yield execute

    running.session = again  # pyright: ignore[reportAttributeAccessIssue]
    command_steps.check_studies = lambda studies, *others: studies


def tried(folder: Path, arguments: list[str], stride: int, start: Path | None) -> None:
    """Kills a command at every `stride`-th operation, on top of the results in `start`, and runs it again."""
    again = [*arguments, "--overwrite"]
    first = again if start else arguments
    _, operations = forked(folder, first, 0)
    assert operations > 10, (folder.parent / "log").read_text()
    for count in range(1 + operations % stride, operations + 1, stride):
        shutil.rmtree(folder, ignore_errors=True)
        if start:
            shutil.copytree(start, folder)
        killed, _ = forked(folder, first, count)
        left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        code, _ = forked(folder, again, 0)
        after = {path.name for path in folder.iterdir()}
        if code or killed != -signal.SIGKILL or not {"scenario.yaml", ".byzax"} <= after:
            log = " ".join((folder.parent / "log").read_text().split())
            print(f"{arguments[0]} killed at {count} of {operations} ({killed}): {code}, {log}; left {left}")
        elif wrong := [name for name in after if name.startswith(".byzax-") and name != LOCK]:
            print(f"{arguments[0]} killed at {count}: {wrong} is still there")
    print(f"{arguments[0]}: {operations} operations")


if __name__ == "__main__":
    place, stride, *command = sys.argv[1:]
    out = Path(place, "out")

    computed_once(Path(place, "computed"))
    tried(out, [*command, "--out", str(out)], int(stride), None)
    shutil.copytree(out, Path(place, "before"))
    tried(out, [*command, "--out", str(out)], int(stride), Path(place, "before"))
