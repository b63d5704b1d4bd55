"""One process, one Ray, one compilation cache for the whole session."""

import os
import tempfile
from pathlib import Path

# before anything imports the packages: rules, attacks and schedules that only the tests need
os.environ["BYZAX_PLUGINS"] = str(Path(__file__).parent / "plugins")
if "BYZAX_TEST_CACHE" in os.environ:
    os.environ["BYZAX_CACHE"] = os.environ["BYZAX_TEST_CACHE"]
else:
    folder = tempfile.TemporaryDirectory(prefix="byzax-tests-", ignore_cleanup_errors=True)
    os.environ["BYZAX_CACHE"] = folder.name
