"""What commands share: how a mistake in what was asked is said, and the exit codes."""

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import typer

# as a shell counts them: 128 + the number of the signal
INTERRUPTED, TERMINATED = 130, 143


def plainly(command: Callable[..., None]) -> Callable[..., None]:
    """The command, where plug-ins that cannot be used and a lack of memory are one line and exit code 2."""

    @functools.wraps(command)
    def called(*arguments: Any, **options: Any) -> None:
        from simulator.registry import PluginError

        try:
            command(*arguments, **options)
        except PluginError as error:
            refuse(error)
        except MemoryError as error:
            refuse(f"this needs more memory than there is: {error}")

    return called


def refuse(error: Exception | str) -> NoReturn:
    """Says it on stderr and ends the command with exit code 2."""
    for line in str(error).splitlines():
        typer.echo(line, err=True)
    raise typer.Exit(2)
