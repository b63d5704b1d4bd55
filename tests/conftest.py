"""Fixtures of all tests: plug-ins of their own, and one compilation cache, of all processes that run them."""

import gc
import os
import tempfile
from pathlib import Path

# before anything imports the packages: rules, attacks and schedules that only the tests need
os.environ["BYZAX_PLUGINS"] = str(Path(__file__).parent / "plugins")
if "BYZAX_TEST_CACHE" not in os.environ:
    folder = tempfile.TemporaryDirectory(prefix="byzax-tests-", ignore_cleanup_errors=True)
    # processes that run tests side by side begin with the environment of this one
    os.environ["BYZAX_TEST_CACHE"] = folder.name
os.environ["BYZAX_CACHE"] = os.environ["BYZAX_TEST_CACHE"]
# one thread for XLA, as in the actors: a test may be what starts it
os.environ["NPROC"] = "1"

import pytest

from byzax.simulator import compilation

compilation.use_disk_cache()
# tracing makes millions of short-lived objects: by Python's usual 700 a twentieth of the time went into collections
gc.set_threshold(50_000, 20, 100)


def pytest_collection_modifyitems(items):
    # next to each other, so that of the processes that run tests side by side as few as possible start a Ray
    items.sort(key=lambda item: "ray_session" not in getattr(item, "fixturenames", ()))


def pytest_collection_finish():
    # thousands of tests are half a million objects that stay: no collection of garbage need look at them again
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _room_for_compiled_code():
    # two processes of several GB each otherwise, before Linux runs out of maps
    compilation.make_room(share=0.2)


@pytest.fixture(scope="session")
def notices():
    """The notices of the one Ray of the session: that an actor was replaced, and the like."""
    return []


@pytest.fixture(scope="session")
def ray_execute(notices):
    """The one Ray of the session: a function that gives the checkpoints of a task."""
    from byzax.simulator import executors
    from byzax.simulator.config.executors import Ray

    with executors.session(Ray(), notice=notices.append) as execute:
        yield execute


@pytest.fixture(scope="session")
def ray_session(ray_execute):
    """The same of a scenario."""
    return lambda scenario, snapshots=None, **given: ray_execute(scenario.task, snapshots, **given)
