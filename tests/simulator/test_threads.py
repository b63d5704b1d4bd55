"""Importing byzax changes nothing in a process, and a run has the threads that it is promised or says so."""

import os
import subprocess
import sys
import threading
import warnings

import pytest

from byzax.simulator import threads

RUN = "run(small(model='softmax', steps=2, evaluate_every=2))"
TOLD = "from byzax.simulator import threads; print(threads.running())"


def printed(code, **variables):
    """The output and the warnings of a process that begins without a number of threads."""
    environment = {name: value for name, value in os.environ.items() if name not in ("NPROC", "BYZAX_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | variables, capture_output=True, text=True, check=True
    )
    return done.stdout.split(), done.stderr


@pytest.mark.slow
def test_importing_everything_starts_no_jax_and_leaves_the_environment():
    code = """
import importlib, os, pkgutil, warnings
# what others do when they are imported is theirs
import flax.nnx, jax, matplotlib.pyplot, optax, pandas, pooch, pydantic, ray, ray.dag, rich, scipy.stats, sklearn, typer
before = [dict(os.environ), list(warnings.filters), dict(jax.config.values)]
import byzax
for package in ("aggregators", "attacks", "models", "simulator", "experiments"):
    package = importlib.import_module(f"byzax.{package}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
from byzax.simulator import threads
after = [dict(os.environ), list(warnings.filters), dict(jax.config.values)]
print(threads.running(), *(one == other for one, other in zip(before, after)))
"""
    # two variables that Ray reads when it is imported are set by what only a session of Ray loads
    ray = {"RAY_IGNORE_UNHANDLED_ERRORS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": ""}
    assert printed(code, **ray)[0] == ["0" if threads.TASKS.exists() else "None", "True", "True", "True"]


linux = pytest.mark.skipif(not threads.TASKS.exists(), reason="this system does not tell how many threads XLA has")


# each in a process of its own, which takes seconds
@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "told"),
    [({}, ["1", "None"]), ({"BYZAX_THREADS": "3"}, ["3", "None"]), ({"NPROC": "2"}, ["2", "2"])],
)
def test_a_run_that_starts_jax_gives_it_one_thread_or_as_many_as_are_asked_for(variables, told):
    begin = "import os; from tests.simulator.conftest import run, small; "
    end = f"{RUN}; {TOLD}; print(os.environ.get('NPROC'))"
    assert printed(begin + end, **variables) == (told, "")


@linux
@pytest.mark.slow
def test_a_run_on_a_mesh_has_one_thread_for_each_of_its_devices():
    begin = "import jax; from tests.simulator.conftest import run, small; "
    mesh = "run(small(model='softmax', steps=2, executor={'name': 'vectorised', 'mesh': {'workers': 3}})); "
    assert printed(f"{begin}{mesh}{TOLD}; print(len(jax.devices()))") == (["3", "3"], "")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("meant", [False, True])
def test_a_run_in_a_process_whose_jax_has_other_threads_says_so(meant):
    code = f"""
import os
os.environ["NPROC"] = "3"
import jax
jax.devices()
del os.environ["NPROC"]
from tests.simulator.conftest import run, small
{RUN}; {TOLD}
"""
    told, warned = printed(code, **({"BYZAX_THREADS": "3"} if meant else {}))
    assert told == ["3"]
    if meant:
        assert warned == ""
    else:
        assert "JAX had started before byzax, with 3 threads in place of 1" in warned


@linux
def test_a_thread_with_the_name_of_one_of_xla_does_not_count():
    threads.start()
    before, over, named = threads.running(), threading.Event(), threading.Event()

    def other():
        # as a thread that a library starts from one of XLA's
        (threads.TASKS / str(threading.get_native_id()) / "comm").write_text(threads.NAME)
        named.set()
        over.wait()

    thread = threading.Thread(target=other)
    thread.start()
    named.wait()
    now = threads.running()
    over.set()
    thread.join()
    assert now == before


def test_other_threads_are_warned_of_once_in_a_process(monkeypatch):
    monkeypatch.setattr(threads, "running", lambda: 3)
    monkeypatch.setattr(threads, "start_with", lambda count, devices: None)
    monkeypatch.setattr(threads, "requested", lambda: 7)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(2):
            threads.start()
    assert len(found) == 1
    assert found[0].filename == __file__


@pytest.mark.parametrize("given", ["abc", "0", "-1", "1.5"])
def test_what_is_no_number_of_threads_is_refused(monkeypatch, given):
    monkeypatch.setenv("NPROC", given)
    with pytest.raises(ValueError, match=r"\$NPROC and \$BYZAX_THREADS are numbers of threads from 1 on"):
        threads.requested()


FAULTS = """
import resource
import numpy as np
from byzax.simulator import threads
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2**22, np.float32)  # 16 MiB, allocated and freed
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20
threads.start_with(1)
faults()
print(faults())
"""


@linux
@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
    reason="glibc alone is told to keep freed memory",
)
def test_freed_memory_is_kept_unless_a_variable_says_otherwise():
    kept, given_back = printed(FAULTS)[0], printed(FAULTS, MALLOC_MMAP_THRESHOLD_="1048576")[0]
    assert int(kept[0]) < 100 < int(given_back[0])
