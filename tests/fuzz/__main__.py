"""`python -m tests.fuzz --first-seed 0 --count 300`: random scenarios, failures as they come, and a summary."""

import argparse
import collections
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from byzax.simulator import compilation, executors, threads
from byzax.simulator.config.executors import Ray
from tests.fuzz.files import made
from tests.fuzz.fuzzing import small, tried


def main() -> int:
    """The number of seeds that failed, as an exit code of 0 or 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=300, help="seeds in a row")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no seed after so many")
    parser.add_argument("--ray-every", type=int, default=10, help="every so many seeds with Ray too; 0: none")
    parser.add_argument("--shrink-s", type=float, default=300, help="seconds for making a failure small")
    parser.add_argument("--cheap", action="store_true", help="small models and data only")
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    words: collections.Counter[str] = collections.Counter()
    failed, refused, seed = [], 0, given.first_seed
    threads.start()
    compilation.use_disk_cache()
    with tempfile.TemporaryDirectory(prefix="byzax-fuzz-") as folder, ExitStack() as stack:
        files, ray = made(Path(folder)), None
        if given.ray_every:
            ray = stack.enter_context(executors.session(Ray()))
        for seed in range(given.first_seed, given.first_seed + given.count):
            if time.monotonic() > end:
                break
            compilation.make_room()
            begin = time.process_time()
            with_ray = ray if given.ray_every and seed % given.ray_every == 0 else None
            found = tried(seed, files, given.cheap, with_ray)
            words[found.word + (" with ray" if with_ray else "")] += 1
            refused += found.refused
            print(f"seed {seed}: {found.word} ({time.process_time() - begin:.1f} s of CPU)", flush=True)
            if found.fault is not None:
                failed.append(seed)
                print(small(found, with_ray, given.shrink_s), flush=True)
    done = sum(words.values())
    print(f"seeds {given.first_seed} to {given.first_seed + done - 1}: {dict(words)}; {refused} drawings refused")
    print(f"failed: {failed}" if failed else "no failure")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
