"""The Ray of a session: it is started here or joined, found dead, started anew and cleaned up."""

import logging
import os
import re
import shutil
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError

import byzax
from byzax.members import plugin_folders
from byzax.simulator import threads
from byzax.simulator.engine import EngineLost
from byzax.simulator.executors.base import RunError, SessionLost

# How often Ray tries to reach a cluster.
ATTEMPTS = "RAY_gcs_server_port_wait_time_s"
# The processes that manage an embedded Ray, and the seconds after which a wait looks whether they are there.
MANAGING = ("raylet", "gcs_server")
LOOK_S = 1.0


class Embedded(NamedTuple):
    """A Ray that was started here.

    Attributes:
        folder: The folder of its logs and sockets.
        processes: The numbers of the processes that manage it, by name; none where the system has no /proc.
        asked: The value of $RAY_AUTH_MODE before.
    """

    folder: Path
    processes: dict[str, int]
    asked: str | None


@dataclass(slots=True)
class Head:
    """The Ray of a session.

    Attributes:
        embedded: The one that was started here; None for one that was joined, or was there before.
        joined: Host and port of the cluster that was joined; None for none.
    """

    embedded: Embedded | None = None
    joined: tuple[str, int] | None = None


def connect(address: str | None) -> Embedded | None:
    """Starts an embedded Ray and says what it is made of, or joins the cluster at `address`."""
    asked = environment = None
    # an actor must have as many threads as this process is to have: they change the last bits of some sums
    variables = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "NPROC": str(threads.requested())}
    if address:
        # a node of a cluster may have other code than this one: it gets this package; plug-ins it must have itself
        variables["BYZAX_PLUGINS"] = os.pathsep.join(map(os.path.abspath, plugin_folders()))
        environment = {"env_vars": variables, "py_modules": [os.path.dirname(str(byzax.__file__))]}
        variables = {}
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # an embedded Ray listens on every network of the machine: it always asks for its token, as it does by itself
        # where this says nothing
        asked = os.environ.pop("RAY_AUTH_MODE", None)
    if address and address.startswith("ray://"):
        raise RunError(
            f"Ray at {address}: byzax reaches no actors through Ray Client: run it on a node of the cluster, with the "
            "address that `ray start` printed there, or auto"
        )
    # Ray would make 20 attempts of 40 s each to reach what is not a cluster
    if impatient := bool(address) and ATTEMPTS not in os.environ:
        os.environ[ATTEMPTS] = "1"
    handler = signal.getsignal(signal.SIGTERM)
    # an embedded Ray hands its environment on: for one of their own actors would need new processes
    with warnings.catch_warnings(), _environment(variables):
        # Ray forks and at once replaces the new process: none of JAX's threads is missed in between
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        try:
            made = ray.init(
                # without an address Ray would join whatever cluster the environment names
                address=address or "local",
                include_dashboard=False if address is None else None,
                runtime_env=environment,
                # Ray's default of 15 starves the actors of an embedded Ray beside any other process
                _system_config=None if address else {"worker_niceness": 0},
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (OSError, RuntimeError, ValueError) as error:
            where = f"Ray at {address} (with RAY_AUTH_MODE=token if it asks for one)" if address else "Ray"
            raise RunError(f"{where}: {line(error)}") from None
        finally:
            # an embedded Ray, started later, needs more than that
            if impatient:
                del os.environ[ATTEMPTS]
            # Ray puts up a handler of its own, which would leave at once
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)
    if address:
        return None
    folder = made.address_info["session_dir"]  # pyright: ignore[reportAttributeAccessIssue]
    return Embedded(Path(folder), _managing_processes(), asked)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _managing_processes() -> dict[str, int]:
    """The processes that Ray started here to manage itself, by name; none where the system has no /proc."""
    processes = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        name, state, parent = _process(stat)
        if name in MANAGING and parent == os.getpid() and state != "Z":
            processes[name] = int(stat.parent.name)
    return processes


def _process(stat: Path) -> tuple[str, str, int]:
    """Name, state and parent of a process; empty for one that ended."""
    try:
        _, name, state, parent = re.match(r"(\d+) \((.*)\) (\S) (\d+)", stat.read_text(), re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess]
    except (OSError, AttributeError):
        return "", "", 0
    return name, state, int(parent)


def lost_head(head: Head) -> str:
    """Names the process of Ray, or the cluster, that is gone; empty where all is there."""
    if head.embedded is not None:
        for name, number in head.embedded.processes.items():
            now, state, _ = _process(Path(f"/proc/{number}/stat"))
            if now != name or state == "Z":
                return f"Ray's process {name}"
    if head.joined is not None:
        try:
            socket.create_connection(head.joined, timeout=LOOK_S).close()
        except OSError:
            return f"the cluster at {head.joined[0]}:{head.joined[1]}"
    return ""


def check_head(head: Head) -> None:
    """Raises EngineLost where Ray, started here, died; SessionLost where the cluster that was joined is gone."""
    if lost := lost_head(head):
        if head.embedded is None:
            raise SessionLost(f"Ray: {lost} is gone")
        raise EngineLost(f"{lost} died")


def fetch(head: Head, references: Any) -> Any:
    """`ray.get`, which looks from time to time whether Ray is still there: it would wait for minutes, or for ever."""
    while True:
        try:
            return ray.get(references, timeout=LOOK_S)
        except GetTimeoutError:
            check_head(head)


def clean_up(embedded: Embedded, keep_logs: bool) -> None:
    """Removes what an embedded Ray that has ended leaves behind: its folder."""
    if embedded.asked is None:
        os.environ.pop("RAY_AUTH_MODE", None)
    else:
        os.environ["RAY_AUTH_MODE"] = embedded.asked
    if not keep_logs:
        shutil.rmtree(embedded.folder, ignore_errors=True)
        latest = embedded.folder.with_name("session_latest")
        if latest.is_symlink() and latest.readlink() == embedded.folder:
            latest.unlink(missing_ok=True)


def line(error: Exception) -> str:
    """The message of an error on one line, of at most 300 characters."""
    return " ".join(str(error).split())[:300]
