"""What is said about the runs of a study before they start: allowed, and perhaps not what was meant."""

from collections import Counter
from collections.abc import Callable, Iterable

from experiments.names import counted
from experiments.study import Study
from simulator.scenario import Scenario

# Each gives lines about one scenario, beginning with the key that they are about. They are asked once for every run of
# a grid: what takes long is cached.
NOTES: tuple[Callable[[Scenario], Iterable[str]], ...] = ()


def notes(study: Study) -> list[str]:
    """The notes about a study, each different one once, with the file and how many combinations it is about.

    Args:
        study: checked already, so that every part of it can be built.

    Returns:
        Lines such as `FILE: note: data: x: uint8 [1000, 28, 28, 1], 0 to 255`, in the order of the combinations.
    """
    found = Counter(line for cell in study.cells for note in NOTES for line in dict.fromkeys(note(cell.scenario)))
    every = len(study.cells)
    return [
        f"{study.path}: note: {line}" + (f" (in {count} of {counted(every, 'combination')})" if count < every else "")
        for line, count in found.items()
    ]
