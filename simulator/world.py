"""The arrays of a run: everything that is data or depends on the seed, as one tuple."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.config.data import DataPart
from byzax.simulator.config.run import Run
from byzax.simulator.data.base import Dataset, Split, split
from byzax.simulator.file_cache import file_cache
from byzax.simulator.keys import Purpose, generator
from byzax.simulator.normalising import Scaling, fit_scaling
from byzax.simulator.partitions import Samples
from byzax.simulator.units import Units, measure_units

Array = jax.Array


class World(NamedTuple):
    """The arrays of a run: an argument of the core's functions, so that compiled code holds no data.

    Attributes:
        key: Root key of the run.
        start_key: Root key of the model's first parameters; `key` unless the model has a seed of its own.
        byzantine_key: Root key of the draws of Byzantine workers; `key` unless these have a seed of their own.
        x: `[N, ...]`, all samples.
        y: `[N]`, their labels or values.
        shards: `[n, longest]`, positions of each worker's samples in `x`, of which the first `sizes` count.
        sizes: `[n]`, the number of samples of each worker.
        train: Positions on which training loss and accuracy are measured: at most `TRAIN_EVALUATED` samples, chosen
            once, that some worker holds.
        test: Positions of the test samples.
        validation: Positions of the samples kept for validation, which are also the server's own.
        byzantine_rank: `[n]`, the number of each worker among the Byzantine ones, 0..f-1, and -1 for the honest; -1 for
            all where the Byzantine workers are drawn for every update.
        scaling: The scaling of the samples (`simulator/normalising.py`); None where they stay as they are.
        units: The range of the data (`simulator/units.py`); None for characters.
    """

    key: Array
    start_key: Array
    byzantine_key: Array
    x: Array
    y: Array
    shards: Array
    sizes: Array
    train: Array
    test: Array
    validation: Array
    byzantine_rank: Array
    scaling: Scaling | None
    units: Units | None


# Training samples on which loss and accuracy are measured; the test set is measured whole.
TRAIN_EVALUATED = 2000

# What differs between two seeds of a scenario: the axes along which worlds are stacked.
SEED_AXES = World(*[0] * len(World._fields))._replace(x=None, y=None, units=None)  # pyright: ignore[reportArgumentType]


def load(data: DataPart) -> Dataset:
    """Loads the data set of a scenario.

    Args:
        data: The data set and its options; its seed makes no difference.

    Returns:
        The data set, on the host.

    Raises:
        ValueError: Where the data is missing or damaged, or has labels that cannot be.
    """
    return _load(data.replace(seed=None))


@file_cache(maxsize=4)
def _load(data: DataPart) -> Dataset:
    data.reads_files()
    dataset = data.make()
    if isinstance(dataset, Dataset):
        _check(data.label, dataset)
    return dataset


def _check(name: str, data: Dataset) -> None:
    """Raises ValueError for a data set, such as one of a plug-in, whose labels do not fit its samples or classes."""
    count = len(data.y)
    if not count or any(len(each) != count for each in (data.x, data.owners) if each is not None):
        raise ValueError(
            f"{name} gives {len(data.x)} samples with {count} labels: as many owners and labels are needed"
        )
    if data.classes is not None and not (
        np.issubdtype(data.y.dtype, np.integer) and data.y.min() >= 0 and data.y.max() < data.classes
    ):
        raise ValueError(
            f"{name} gives labels {data.y.dtype} from {data.y.min()} to {data.y.max()}: whole numbers in 0.."
            f"{data.classes - 1} are needed for classes={data.classes}"
        )


def _samples_on_device(data: DataPart) -> dict[str, Any]:
    # a grid over seeds of the split reads and places the samples once
    return _place_samples(data.replace(seed=None))


@file_cache(maxsize=2)
def _place_samples(data: DataPart) -> dict[str, Any]:
    # placed once: all runs of a process read the same copy
    dataset = load(data)
    return {"x": jnp.asarray(dataset.x), "y": jnp.asarray(dataset.y), "units": measure_units(dataset)}


def world(run: Run) -> World:
    """The arrays of a run, on the device.

    Args:
        run: The run.

    Returns:
        The world.

    Raises:
        ValueError: Where the data is missing, or cannot be split among the workers as described.
    """
    n, seed = run.workers.total, run.seed
    parts, shares = share_out(run.data, n, seed)
    # a partition may leave samples to nobody; where few are held some count twice, for every seed evaluates as many
    held = generator(own_seed(run.data.seed, seed), Purpose.EVALUATE).permutation(np.sort(np.concatenate(shares)))
    evaluated = np.resize(held, min(TRAIN_EVALUATED, len(parts.train)))
    shards = np.zeros((n, max(map(len, shares))), np.int32)
    for shard, share in zip(shards, shares, strict=True):
        shard[: len(share)] = share
    return World(
        key=jax.random.key(seed),
        start_key=jax.random.key(own_seed(run.model.seed, seed)),
        byzantine_key=jax.random.key(own_seed(run.workers.byzantine.seed, seed)),
        **_samples_on_device(run.data),
        shards=jnp.asarray(shards),
        sizes=jnp.array([len(share) for share in shares], jnp.int32),
        train=jnp.asarray(evaluated, jnp.int32),
        test=jnp.asarray(parts.test, jnp.int32),
        validation=jnp.asarray(parts.validation, jnp.int32),
        byzantine_rank=jnp.asarray(byzantine_ranks(run)),
        scaling=scaling_of(run.data, n, seed),
    )


def byzantine_ranks(run: Run) -> np.ndarray:
    """The number of each worker among the Byzantine ones, on the host.

    Args:
        run: The run.

    Returns:
        `[n]`, 0..f-1 for Byzantine workers in the order of their own numbers, -1 for the honest; -1 for all where the
        Byzantine workers are drawn for every update.

    Raises:
        ValueError: Where the choice depends on the data, and that is missing or cannot be split as described.
    """
    n, byzantine, seed = run.workers.total, run.workers.byzantine, run.seed
    ranks = np.full(n, -1, np.int32)
    if byzantine.per_round == "sampled":
        return ranks
    if byzantine.which == "first":
        chosen = np.arange(n)
    elif byzantine.which == "random":
        chosen = generator(own_seed(byzantine.seed, seed), Purpose.BYZANTINE).permutation(n)
    else:
        parts, shares = share_out(run.data, n, seed)
        chosen = np.argsort(-_label_distances(load(run.data), parts.train, shares), kind="stable")
    ranks[np.sort(chosen[: byzantine.count])] = np.arange(byzantine.count)
    return ranks


def _label_distances(data: Dataset, train: np.ndarray, shares: list[np.ndarray]) -> np.ndarray:
    """The distance of each worker's labels from those of all, `[n]`: total variation, or of the means of values."""
    classes = data.classes
    if classes is None:
        return np.array([abs(data.y[share].mean() - data.y[train].mean()) for share in shares])

    def distribution(positions: np.ndarray) -> np.ndarray:
        return np.bincount(data.y[positions], minlength=classes) / len(positions)

    whole = distribution(train)
    return np.array([np.abs(distribution(share) - whole).sum() / 2 for share in shares])


def own_seed(chosen: int | None, seed: int) -> int:
    """The seed of a part of a run.

    Args:
        chosen: The part's own seed; None where it has none.
        seed: Seed of the run.

    Returns:
        The part's own seed where it has one, else the run's.
    """
    return seed if chosen is None else chosen


def split_of(data: DataPart, seed: int) -> Split:
    """The split into training, validation and test samples, on the host.

    Args:
        data: The data set.
        seed: Seed of the run.

    Returns:
        Positions of the samples of each kind.

    Raises:
        ValueError: Where no training or test samples would be left.
    """
    rng = generator(own_seed(data.seed, seed), Purpose.SPLIT)
    return split(load(data), rng, data.validation, data.test, data.test_by)


def share_out(data: DataPart, n: int, seed: int) -> tuple[Split, list[np.ndarray]]:
    """Splits the data and shares the training samples out to the workers, on the host.

    Args:
        data: The data set and its partition.
        n: Number of workers.
        seed: Seed of the run.

    Returns:
        The split, and the positions of the samples of each worker, n arrays.

    Raises:
        ValueError: Where the split or the partition cannot be made, or leaves a worker without a sample.
    """
    # one entry for all repeats that share a seed of the data
    return _share_out(data, n, own_seed(data.seed, seed))


@file_cache(maxsize=64)
def _share_out(data: DataPart, n: int, seed: int) -> tuple[Split, list[np.ndarray]]:
    dataset, parts = load(data), split_of(data, seed)
    divide = data.partition.make()
    owners = None if dataset.owners is None else dataset.owners[parts.train]
    samples = Samples(dataset.y[parts.train], owners, lambda: dataset.x[parts.train])
    positions = divide(samples, n, generator(seed, Purpose.PARTITION))
    if len(positions) != n or not all(map(len, positions)):
        raise ValueError(f"{data.partition.label} leaves one of the {n} workers without a sample")
    return parts, [parts.train[position] for position in positions]


def scaling_of(data: DataPart, n: int, seed: int) -> Scaling | None:
    """The scaling of the samples, fitted on the training samples.

    Args:
        data: The data set and how it is normalised.
        n: Number of workers.
        seed: Seed of the run.

    Returns:
        The scaling; None where the samples stay as they are.

    Raises:
        ValueError: Where the samples cannot be scaled, such as characters.
    """
    return _scaling_of(data, n, own_seed(data.seed, seed))


@file_cache(maxsize=8)
def _scaling_of(data: DataPart, n: int, seed: int) -> Scaling | None:
    return fit_scaling(data.normalise, load(data).x, share_out(data, n, seed)[0].train)


def stack(worlds: list[World]) -> World:
    """Stacks the worlds of several seeds of one scenario.

    Args:
        worlds: The world of each seed.

    Returns:
        One world with a leading axis over seeds in the fields that differ (`SEED_AXES`); shards are padded with zeros
        to one length.
    """
    longest = max(each.shards.shape[1] for each in worlds)
    worlds = [
        each._replace(shards=jnp.pad(each.shards, ((0, 0), (0, longest - each.shards.shape[1])))) for each in worlds
    ]
    fields = {
        name: getattr(worlds[0], name)
        if axis is None
        else jax.tree.map(lambda *each: jnp.stack(each), *(getattr(each, name) for each in worlds))
        for name, axis in SEED_AXES._asdict().items()
    }
    return World(**fields)
