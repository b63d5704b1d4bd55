"""Compiled code is kept on disk, so that runs and actors share it and nothing compiles twice."""

import hashlib
import os
import platform
from functools import lru_cache
from pathlib import Path

import jax
import platformdirs

# Functions of one kind that are kept with their compiled code. Those of a run take 8 MB, and a sweep of rates needs new
# ones for each: 128 of a kind were a gigabyte. A grid comes back to as many attacks or rules.
KEPT = 32
# Decorates a function that makes functions to be compiled: equal arguments give the same one, compiled once.
kept = lru_cache(maxsize=KEPT)


def cache_folder() -> Path:
    """`$BYZAX_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("BYZAX_CACHE") or platformdirs.user_cache_dir("byzax"))


def keep() -> None:
    """Makes this process look up compiled code in the cache folder and put there what it compiles."""
    # compiled code fits one kind of processor: a folder shared by several machines keeps them apart
    folder = cache_folder() / "compiled" / _processor()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def make_room(share: float = 0.5) -> None:
    """Lets go of all compiled code of this process where it takes this share of the memory maps that Linux allows it.

    Each compiled function takes some thirty; XLA ends the process with a segmentation fault when it gets no more. To be
    called between runs: what is needed again is looked up on disk.
    """
    maps, most = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
    if maps.exists() and most.exists() and maps.read_bytes().count(b"\n") > share * int(most.read_text()):
        jax.clear_caches()


def _processor() -> str:
    features = platform.processor()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        features += "".join(line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features")))
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
