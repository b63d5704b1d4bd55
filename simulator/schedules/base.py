"""What a schedule is: the type shared by every file of this folder."""

from collections.abc import Callable

import numpy as np

from simulator.timeline import Timeline

# (n workers, steps, random generator) -> the whole order of events
Schedule = Callable[[int, int, np.random.Generator], Timeline]
