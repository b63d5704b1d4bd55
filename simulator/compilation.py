"""Caches of compiled code: on disk, shared by runs and actors, and in the memory of a process."""

import hashlib
import os
import platform
from functools import lru_cache
from pathlib import Path

import jax
import platformdirs

# Number of functions that each `compiled_once` keeps with their compiled code. Those of a run take 8 MB, and a sweep of
# rates needs new ones for each: 128 of a kind were a gigabyte. A grid returns to at most so many attacks or rules.
MAX_COMPILED = 32
# Decorates a function that returns functions to compile: equal arguments give the same one, which is compiled once.
compiled_once = lru_cache(maxsize=MAX_COMPILED)


def cache_folder() -> Path:
    """The folder of byzax's caches: `$BYZAX_CACHE`, else the user's cache folder."""
    return Path(os.path.expanduser(os.environ.get("BYZAX_CACHE") or platformdirs.user_cache_dir("byzax")))


def use_disk_cache() -> None:
    """Makes this process read compiled code from the cache folder, and write there what it compiles."""
    # compiled code fits one kind of processor: a folder shared by several machines keeps them apart
    folder = cache_folder() / "compiled" / _processor()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def make_room(share: float = 0.5) -> None:
    """Drops all compiled code of this process where it takes too many of the memory maps that Linux allows a process.

    Each compiled function takes some thirty maps; XLA ends the process with a segmentation fault when it gets no more.
    To be called between runs: what is needed again is read from disk.

    Args:
        share: Share of the allowed maps from which on compiled code is dropped.
    """
    maps, most = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
    if maps.exists() and most.exists() and maps.read_bytes().count(b"\n") > share * int(most.read_text()):
        jax.clear_caches()


def _processor() -> str:
    features = platform.processor()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        features += "".join(line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features")))
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
