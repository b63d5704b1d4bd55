"""Kills `byzax` at one file operation after the other, and runs it again with --overwrite: a program of the tests.

`python killed.py FOLDER STRIDE COMMAND ...` prints a line for each operation at which a process was killed and after
which the command failed; `FOLDER/out` is its --out. All processes are forks of this one: imports take the time.
"""

import builtins
import io
import os
import shutil
import signal
import sys
from pathlib import Path

OPERATIONS = ("replace", "rename", "unlink", "mkdir", "rmdir", "fsync")


def kill_at(count: int, counts: int) -> None:
    """Makes this process kill itself before its file operation number `count`; the last number goes to a pipe."""
    seen = 0

    def counted(function):
        def call(*given, **named):
            nonlocal seen
            mode = named.get("mode", given[1] if len(given) > 1 else "r")
            if function is not original or any(letter in str(mode) for letter in "wxa"):
                seen += 1
                os.write(counts, b".")
                if seen == count:
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **named)

        return call

    original = io.open
    io.open = builtins.open = counted(original)
    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))


def forked(folder: Path, arguments: list[str], count: int) -> tuple[int, int]:
    """The exit code of a command (negative: its signal), and the number of its file operations."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        log = os.open(folder.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 1
        try:
            kill_at(count, writer)
            main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)
    os.close(writer)
    operations = 0
    while got := os.read(reader, 4096):
        operations += len(got)
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), operations


def tried(folder: Path, arguments: list[str], stride: int, start: Path | None) -> None:
    """Kills a command at every `stride`-th operation, on top of the results in `start`, and runs it again."""
    again = [*arguments, "--overwrite"]
    _, operations = forked(folder, again if start else arguments, 0)
    assert operations > 10, (folder.parent / "log").read_text()
    for count in range(1 + operations % stride, operations + 1, stride):
        shutil.rmtree(folder, ignore_errors=True)
        if start:
            shutil.copytree(start, folder)
        killed, _ = forked(folder, again if start else arguments, count)
        left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        code, _ = forked(folder, again, 0)
        if code or killed != -signal.SIGKILL:
            log = " ".join((folder.parent / "log").read_text().split())
            print(f"{arguments[0]} killed at {count} of {operations} ({killed}): {code}, {log}; left {left}")
    print(f"{arguments[0]}: {operations} operations")


if __name__ == "__main__":
    place, stride, *command = sys.argv[1:]
    out = Path(place, "out")

    import experiments.certify.plot
    import experiments.certify.report
    import experiments.report
    import experiments.tune
    from experiments.cli import app

    def main(given: list[str]) -> None:
        app(given, prog_name="byzax")

    tried(out, [*command, "--out", str(out)], int(stride), None)
    shutil.copytree(out, Path(place, "before"))
    tried(out, [*command, "--out", str(out)], int(stride), Path(place, "before"))
