"""Error messages and exit codes of all commands."""

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from byzax.simulator import interrupts
from byzax.simulator.mistakes import quote

# as a shell counts them: 128 + the number of the signal
INTERRUPTED, TERMINATED = 130, 143
MOST_THREADS = 1024
OVERWRITE = Annotated[
    bool, typer.Option("--overwrite", help="Remove the results that byzax wrote into --out, and nothing else.")
]
RETRY_FAILED = Annotated[bool, typer.Option("--retry-failed", help="Run those again that failed before.")]
RETRIES = Annotated[
    int,
    typer.Option(
        "--retries",
        metavar="N",
        min=0,
        max=100,
        help="Times that a run whose process died, such as where memory ran out, is run again from its last snapshot; "
        "with it runs of loop and vectorised on CPUs have processes of their own.",
    ),
]
EXECUTOR = Annotated[str | None, typer.Option("--executor", metavar="NAME", help="loop, vectorised or ray.")]
RAY_ADDRESS = Annotated[str | None, typer.Option("--ray-address", metavar="ADDRESS", help="Join this Ray cluster.")]
JOBS = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        min=1,
        help="Processes that execute runs side by side, with loop or vectorised on CPUs; by default one for each core "
        "where that is worth it. The numbers are the same.",
    ),
]
QUIET = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print no progress: only the results, notes, failures and mistakes.")
]


def report_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Wraps a command so that interrupts, unusable plug-ins and a lack of memory end it with one line and an exit code.

    Paths may begin with ~, the home folder.

    Args:
        command: The command.

    Returns:
        The command, with exit codes 130 for Ctrl-C, 143 for SIGTERM, else 2.
    """

    @functools.wraps(command)
    def called(*arguments: Any, **options: Any) -> None:
        from byzax.members import PluginError

        # a shell leaves ~ alone in --out=~/results
        options = {name: _in_home(value, name == "out") for name, value in options.items()}
        try:
            with interrupts.raise_on_signals():
                command(*arguments, **options)
        except KeyboardInterrupt as end:
            word, code = signal_outcome(end)
            typer.echo(word, err=True)
            raise typer.Exit(code) from None
        except PluginError as error:
            refuse(error)
        except MemoryError as error:
            refuse(f"this needs more memory than there is: {error}")

    return called


def _in_home(value: Any, is_path: bool) -> Any:
    """The paths of an option with the home folder in place of ~; any other value as it is."""
    if isinstance(value, list):
        return [_in_home(each, is_path) for each in value]
    return type(value)(os.path.expanduser(value)) if isinstance(value, Path) or (is_path and value) else value


def signal_outcome(end: KeyboardInterrupt) -> tuple[str, int]:
    """The word and the exit code for the signal that ended a command. The signal counts as handled afterwards.

    Args:
        end: The exception of the signal.

    Returns:
        The word, and the exit code.
    """
    # while Ray waits, the exception of a signal leaves it as a plain KeyboardInterrupt
    kind = interrupts.pending() or type(end)
    interrupts.acknowledge()
    return ("terminated", TERMINATED) if issubclass(kind, interrupts.Terminated) else ("interrupted", INTERRUPTED)


def check_environment() -> None:
    """Ends the command where $BYZAX_THREADS is no number of threads, or $BYZAX_CACHE cannot be written."""
    threads = os.environ.get("BYZAX_THREADS")
    if threads is not None and not (threads.isdecimal() and 1 <= int(threads) <= MOST_THREADS):
        refuse(f"$BYZAX_THREADS: 1 to {MOST_THREADS} threads can be had, got {quote(threads)}: such as 4, or unset it")
    if named := os.path.expanduser(os.environ.get("BYZAX_CACHE", "")):
        try:
            os.makedirs(named, exist_ok=True)
            tempfile.TemporaryFile(dir=named).close()
        except OSError as error:
            refuse(f"$BYZAX_CACHE: {named} cannot be written ({error.strerror}): name another folder, or unset it")


def refuse(error: Exception | str) -> NoReturn:
    """Prints an error on stderr and ends the command with exit code 2.

    Args:
        error: The error; each line of it is printed.
    """
    for line in str(error).splitlines():
        typer.echo(line, err=True)
    raise typer.Exit(2)
