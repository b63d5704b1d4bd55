"""Notes about the runs of a study before they start: settings that are allowed, and perhaps not meant."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from byzax.experiments.attack_notes import attack_notes
from byzax.experiments.names import counted
from byzax.simulator.config.data import DataPart
from byzax.simulator.config.grid import Expansion
from byzax.simulator.config.part import Part
from byzax.simulator.config.study import Study
from byzax.simulator.config.triggers import notes_on_floors
from byzax.simulator.contracts import build
from byzax.simulator.data import Dataset
from byzax.simulator.file_cache import file_cache
from byzax.simulator.validation.link_checks import link_notes
from byzax.simulator.validation.weighing import weight_notes
from byzax.simulator.world import load, share_out

# Largest number of samples whose values are checked.
CHECKED_SAMPLES = 4096
# Scaling is advised for images with a wider range, for columns with a larger deviation or mean, and for values to
# predict with a larger deviation.
WIDE_IMAGE, WIDE_COLUMN, WIDE_VALUES = 10.0, 10.0, 100.0


def data_notes(scenario: Study) -> tuple[str, ...]:
    """Notes about the user's own files, and about numbers of a size that models train badly on.

    Args:
        scenario: The scenario.

    Returns:
        One line for each note, beginning with its key.

    Raises:
        ValueError: Where the data is missing or damaged.
    """
    data = scenario.data
    # one cache entry for all augmentations and batch sizes, which change no note
    return _data_notes(type(data).model_validate({"name": data.name, **data.options(), "normalise": data.normalise}))


@file_cache(maxsize=8)
def _data_notes(source: DataPart) -> tuple[str, ...]:
    data = load(source)
    lines = [f"data: {line}" for line in data.about]
    if source.normalise == "none" and (scale := _scale(data)):
        lines.append(f"data.normalise: is none, and {scale}")
    if data.classes is None and (deviation := float(data.y.std(dtype=np.float64))) > WIDE_VALUES:
        lines.append(
            f"data: the values to predict have a deviation of {deviation:.3g}, and losses are squares of that: bring "
            "them near 1, or take a small learning rate"
        )
    return tuple(lines)


def _scale(data: Dataset) -> str:
    """Advice about the scaling of the samples; empty where none is needed."""
    if not np.issubdtype(data.dtype, np.floating):
        return ""
    some = data.values(slice(None, None, -(-len(data.x) // CHECKED_SAMPLES)))
    low, high = float(some.min()), float(some.max())
    if data.x.ndim > 2:
        if high - low <= WIDE_IMAGE:
            return ""
        return f"the numbers of a sample go from {low:g} to {high:g}: images train better with standard, or unit"
    deviations, means = some.std(axis=0, dtype=np.float64), np.abs(some.mean(axis=0, dtype=np.float64))
    if max(deviations.max(), means.max()) <= WIDE_COLUMN:
        return ""
    return (
        f"columns have deviations from {deviations.min():.3g} to {deviations.max():.3g} and means up to "
        f"{means.max():.3g}: they train better with per_feature"
    )


def single_sample_notes(scenario: Study) -> Iterator[str]:
    """A note about last batches of one sample with batch norm, below which no layer gets a gradient.

    Args:
        scenario: The scenario.

    Returns:
        At most one line.
    """
    size, local = scenario.data.batch_size, scenario.local
    epochs = local is not None and local.epochs is not None
    if size == 1 or not (epochs or scenario.variance_reduction) or _least_batch(scenario.model, scenario.data) == 1:
        return
    n, keeps = scenario.workers.total, local is None or local.last_batch == "keep"
    for seed in scenario.seeds:
        held = np.array([len(share) for share in share_out(scenario.data, n, seed)[1]])
        alone = (held % size == 1) & (keeps | (held < size))
        if alone.any():
            way_out = "local.last_batch drop, another batch_size" if epochs and keeps else "another batch_size"
            yield (
                f"data.batch_size: the last batch of {alone.sum()} of {n} workers holds one sample (seed {seed}), of "
                f"which batch norm gives its bias: nothing below it learns from that batch: take {way_out}, or another "
                "norm"
            )
            return


def privacy_notes(scenario: Study) -> Iterator[str]:
    """Notes about what epsilon does not claim, or not count.

    Args:
        scenario: The scenario.

    Returns:
        At most two lines.
    """
    private = scenario.privacy
    if private is None:
        return
    if scenario.data.normalise != "none":
        yield (
            "data.normalise: is fitted to the training samples of all workers, which epsilon does not count: take "
            "none, or samples of a known range"
        )
    drawn = scenario.local is None or scenario.local.epochs is None
    if private.level == "sample" and drawn and scenario.data.batches == "replacement":
        yield (
            "privacy: of batches drawn with replacement no amplification is claimed, and epsilon is large: "
            "data.batches poisson draws every sample by itself"
        )


@file_cache(maxsize=32)
def _least_batch(part: Part, data: DataPart) -> int:
    """The fewest samples of a batch that a model learns from."""
    part.reads_files()
    dataset = load(data)
    return build(part, dataset.x.shape[1:], dataset.classes).least_batch


# Functions from a scenario to lines, each beginning with a key. They are called for every cell of a grid, so that slow
# ones cache their results.
NOTES: tuple[Callable[[Study], Iterable[str]], ...] = (
    data_notes,
    single_sample_notes,
    lambda scenario: link_notes(scenario.task.run),
    lambda scenario: weight_notes(scenario.task),
    attack_notes,
    privacy_notes,
)


def notes(expansion: Expansion) -> list[str]:
    """The notes about a study, each different one once.

    Args:
        expansion: The study, which has been checked: every component can be built.

    Returns:
        Lines such as `FILE: note: data: x: uint8 [1000, 28, 28, 1], 0 to 255`, in the order of the combinations, with
        the number of combinations where it is not all.
    """
    lines = Counter(line for cell in expansion.cells for note in NOTES for line in dict.fromkeys(note(cell.study)))
    every = len(expansion.cells)
    lines.update(dict.fromkeys(notes_on_floors([cell.study for cell in expansion.cells]), every))
    return [
        (f"{expansion.source}: " if expansion.source else "")
        + f"note: {line}"
        + (f" (in {count} of {counted(every, 'combination')})" if count < every else "")
        for line, count in lines.items()
    ]
