"""Who may import whom (ARCHITECTURE.md), read from the source and seen at run time."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"aggregators", "attacks", "models", "simulator", "experiments", "tests"}
ALLOWED = {
    "aggregators": set(),
    "attacks": set(),
    "models": set(),
    "simulator": {"aggregators", "attacks", "models"},
    "experiments": {"aggregators", "attacks", "models", "simulator"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_dependencies_point_one_way(package):
    for path in (ROOT / package).rglob("*.py"):
        foreign = (imports(path) & OURS) - {package} - ALLOWED[package]
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_ray_is_imported_in_one_folder():
    users = {p.parent for name in ALLOWED for p in (ROOT / name).rglob("*.py") if "ray" in imports(p)}
    assert users == {ROOT / "simulator/executors/ray"}


def test_the_single_machine_part_does_not_load_ray_and_handles_no_signal():
    modules = "aggregators, attacks, models, simulator.core, simulator.executors.loop, simulator.executors.vectorised"
    handlers = "[signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]"
    code = f"import signal, sys; before = {handlers}; import {modules}; "
    code += f"sys.exit('ray' in sys.modules or before != {handlers})"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
