"""The content of `versions.json`: versions of packages, the machine, and the user's own files that a run uses."""

import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from byzax.members import absolute, file_of, is_builtin
from byzax.simulator import threads
from byzax.simulator.config.part import function_of, kind_of, parts_of
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import ScenarioError

PACKAGES = ("byzax", "jax", "jaxlib", "flax", "optax", "ray", "numpy")


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


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def described_versions(scenario: Study) -> dict[str, Any]:
    """The content of `versions.json` of a run.

    Args:
        scenario: The run.

    Returns:
        JSON values by name: those of `versions`, and `own_files`.

    Raises:
        ScenarioError: Where JAX has no device to run on, or a file cannot be read.
    """
    own = [{"key": key, "file": file, "sha256": held} for key, (file, held) in user_files(scenario).items()]
    return {**versions(), "own_files": own}


def recorded_files(run: Path) -> dict[str, tuple[str, str]]:
    """The files of the user's own that a run used, from its `versions.json`.

    Args:
        run: Folder of the run.

    Returns:
        As `user_files`.

    Raises:
        ValueError: Where the file is missing or damaged; the message names the kind of error.
    """
    try:
        recorded = json.loads((run / "versions.json").read_text())["own_files"]
        return {str(file["key"]): (str(file["file"]), str(file["sha256"])) for file in recorded}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(type(error).__name__) from None


def user_files(scenario: Study) -> dict[str, tuple[str, str]]:
    """The Python files of the user's own that make a run's numbers: those of `model: module` and of components.

    Loggers are none of them.

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
        if kind_of(part) == "logger":
            continue
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
