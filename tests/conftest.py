"""One process, one Ray, one compilation cache for the whole session."""

import os
import tempfile
from pathlib import Path

# before anything imports the packages: rules, attacks and schedules that only the tests need
os.environ["BYZAX_PLUGINS"] = str(Path(__file__).parent / "plugins")
os.environ["BYZAX_CACHE"] = os.environ.get("BYZAX_TEST_CACHE") or tempfile.mkdtemp(prefix="byzax-tests-")
