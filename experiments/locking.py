"""One process at a time writes into a folder of results."""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from byzax.experiments.marks import ANOTHER, HOLDER, LOCK
from byzax.experiments.writing import write_json
from byzax.simulator.mistakes import ScenarioError


class Holder(NamedTuple):
    """The process that writes into a folder.

    Attributes:
        process: Its number.
        host: The machine.
        since: The local time at which it began.
        jobs: Number of runs that are executed side by side.
    """

    process: int
    host: str
    since: str
    jobs: int = 1

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


@contextmanager
def locked(folders: Sequence[Path]) -> Iterator[None]:
    """Holds the locks of folders of results.

    Args:
        folders: The folders, which exist.

    Raises:
        ScenarioError: Where another process holds one of them; the message says which.
    """
    with ExitStack() as stack:
        for folder in folders:
            try:
                stack.enter_context(FileLock(folder / LOCK, blocking=False))
            except Timeout:
                raise ScenarioError(
                    f"{folder}: byzax runs there already ({holder(folder) or 'another process'}): wait for its end, or "
                    f"{ANOTHER}"
                ) from None
            except OSError as error:
                raise ScenarioError(f"{folder}: cannot be locked ({error.strerror or error})") from None
            now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            write_json(folder / HOLDER, Holder(os.getpid(), socket.gethostname(), now)._asdict())
            stack.callback((folder / HOLDER).unlink, missing_ok=True)
        yield


def tell_jobs(folder: Path, jobs: int) -> None:
    """Tells who asks how many runs are executed side by side.

    Args:
        folder: A folder whose lock this process holds.
        jobs: Their number.
    """
    before = holder(folder)
    if before is not None:
        # what is only told need not be there, such as on a full disk
        with suppress(OSError):
            write_json(folder / HOLDER, before._replace(jobs=jobs)._asdict())


def holder(folder: Path) -> Holder | None:
    """The process that writes into a folder of results.

    Args:
        folder: The folder.

    Returns:
        The process; None where there is none, or it cannot be found out.
    """
    if not (folder / LOCK).exists():
        return None
    try:
        with FileLock(folder / LOCK, blocking=False):
            return None
    except (Timeout, OSError):
        pass
    try:
        return Holder(**json.loads((folder / HOLDER).read_text()))
    except (OSError, ValueError, TypeError):
        return None
