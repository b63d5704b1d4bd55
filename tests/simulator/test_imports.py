"""Imports between folders (ARCHITECTURE.md), read from the source and seen at run time."""

import ast
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# how a part is found, how its options are checked, and the numbers among them: what all folders stand on
FOUNDATION = {"members", "numbers", "options"}
ALLOWED = {
    "aggregators": FOUNDATION,
    "attacks": FOUNDATION,
    "models": FOUNDATION,
    "simulator": {"aggregators", "attacks", "models", *FOUNDATION},
    "experiments": {"aggregators", "attacks", "models", "simulator", *FOUNDATION},
}


def imports(path: Path) -> set[str]:
    """The packages that a file imports; of byzax the subpackages, such as byzax.simulator."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in found]
    return {".".join(part[:2]) if part[0] == "byzax" else part[0] for part in parts}


@pytest.mark.parametrize("package", ALLOWED)
def test_dependencies_point_one_way(package):
    allowed = {f"byzax.{name}" for name in (package, *ALLOWED[package])}
    for path in (ROOT / package).rglob("*.py"):
        found = imports(path)
        # `import byzax` is for where the package lies, which Ray sends to the nodes of a cluster
        ours = {name for name in found if name.startswith("byzax.")}
        assert ours <= allowed, f"{path.relative_to(ROOT)} imports {ours - allowed}"
        assert not found & {*ALLOWED, "tests"}, f"{path.relative_to(ROOT)} imports a folder and not byzax"


def test_the_foundation_stands_on_nothing_of_byzax():
    assert not {name for name in imports(ROOT / "src/byzax/numbers.py") if name.startswith("byzax")}
    ours = {name for name in imports(ROOT / "src/byzax/options.py") if name.startswith("byzax")}
    assert ours == {"byzax.numbers"}
    ours = {name for name in imports(ROOT / "src/byzax/members.py") if name.startswith("byzax")}
    assert ours == {"byzax.options"}


def test_ray_is_imported_in_one_folder():
    users = {p.parent for name in ALLOWED for p in (ROOT / name).rglob("*.py") if "ray" in imports(p)}
    assert users == {ROOT / "simulator/executors/ray"}


def test_the_single_machine_part_does_not_load_ray_and_handles_no_signal():
    names = (
        "aggregators",
        "attacks",
        "models",
        "simulator.core",
        "simulator.executors.loop",
        "simulator.executors.vectorised",
    )
    modules = ", ".join(f"byzax.{name}" for name in names)
    handlers = "[signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]"
    code = f"import signal, sys; before = {handlers}; import {modules}; "
    code += f"sys.exit('ray' in sys.modules or before != {handlers})"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
def test_every_module_can_be_imported_first():
    folders = ("aggregators", "attacks", "models", "simulator", "experiments")
    files = [path.relative_to(ROOT) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]

    def imported(name):
        command = [sys.executable, "-c", f"import byzax.{name}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return name if done.returncode else None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        assert not [*filter(None, pool.map(imported, names))]
