"""The simulator: scenarios, the pure core, and three executors that replay a timeline with it."""

import os

# XLA splits some sums by the number of threads it may use, which changes their last bits. One thread per process makes
# numbers independent of the number of cores; Ray uses the cores through its actors. XLA reads this when it starts.
os.environ.setdefault("NPROC", os.environ.get("BYZAX_THREADS", "1"))
