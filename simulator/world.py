"""The arrays of a run: everything that is data or depends on the seed, as one tuple."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.config.data import DataPart
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import ContractError, build, errors_of, location, require, type_name
from byzax.simulator.data.base import Dataset, Split, split
from byzax.simulator.file_cache import file_cache
from byzax.simulator.keys import Purpose, generator
from byzax.simulator.normalising import Scaling, apply_scaling, fit_scaling
from byzax.simulator.partitions import Samples
from byzax.simulator.units import Units, measure_units

Array = jax.Array


class World(NamedTuple):
    """The arrays of a run: an argument of the core's functions, so that compiled code holds no data.

    Attributes:
        key: Root key of the run.
        start_key: Root key of the model's first parameters; `key` unless the model has a seed of its own.
        byzantine_key: Root key of the draws of Byzantine workers; `key` unless these have a seed of their own.
        x: `[N, ...]`, all samples as they are stored; `scaled_samples` gives those that models get.
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
        degrees: `[T, n]`, the number of neighbours of each node in each round, where graphs are drawn anew; else None.
        unit: The value of a byte of 1 as a sum of two numbers, `[2]`, of which the first has few digits; None where
            samples are no bytes.
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
    degrees: Array | None = None
    unit: Array | None = None


# Samples that are looked at together for numbers that are not finite.
CHECKED_AT_ONCE = 4096
# Training samples on which loss and accuracy are measured; the test set is measured whole.
TRAIN_EVALUATED = 2000

# What differs between two seeds of a scenario: the axes along which worlds are stacked.
SEED_AXES = World(*[0] * len(World._fields))._replace(x=None, y=None, units=None, unit=None)  # pyright: ignore[reportArgumentType]


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
    dataset = build(data)
    _check(data.label, dataset, location(data))
    return dataset


def _check(name: str, data: Dataset, place: str) -> None:
    """Raises ContractError for a data set whose arrays are not what `Dataset` says, or do not fit each other."""

    def need(fits: bool, wanted: str, got: Any) -> None:
        require(fits, f"{name} must give {wanted}, got {got}{place}")

    def is_array(value: Any, *kinds: Any) -> bool:
        return isinstance(value, np.ndarray) and value.dtype in kinds

    x, y, classes = data.x, data.y, data.classes
    made = "as dataset() of byzax.simulator.data.base makes them"
    fits = is_array(x, *((np.float32, np.int32) if data.divisor is None else (np.uint8,))) and x.ndim > 1
    wanted = "float32 [N, ...], or int32 for characters" if data.divisor is None else "uint8 [N, ...] to be divided"
    need(fits, f"samples x {wanted}, {made}", type_name(x))
    kind, what = (np.float32, "values y float32") if classes is None else (np.int32, "labels y int32")
    need(is_array(y, kind) and y.ndim == 1, f"{what} [N], {made}", type_name(y))
    need(0 < len(x) == len(y), "at least one sample, and a label or value for each", f"{len(x)} samples and {len(y)}")
    if classes is not None:
        fits = y.min() >= 0 and y.max() < classes
        need(fits, f"labels in 0..{classes - 1} for classes={classes}", f"{y.min()} to {y.max()}")
    for key, values in (("x", x), ("y", y)):
        # by blocks: a mask of all samples would take as much as a quarter of these
        blocks = (values[first : first + CHECKED_AT_ONCE] for first in range(0, len(values), CHECKED_AT_ONCE))
        finite = values.dtype.kind != "f" or all(np.isfinite(block).all() for block in blocks)
        need(finite, f"finite numbers in {key}", "a NaN or an infinite one")
    if data.owners is not None:
        fits = is_array(data.owners, np.int32) and data.owners.shape == y.shape
        need(fits, f"owners int32 [N={len(y)}], {made}", type_name(data.owners))
    if data.test is not None:
        positions = isinstance(data.test, np.ndarray) and data.test.dtype.kind in "iu" and data.test.ndim == 1
        need(positions, "positions of test samples, whole numbers [T]", type_name(data.test))
        low, high = (int(data.test.min()), int(data.test.max())) if len(data.test) else (0, 0)
        need(0 <= low <= high < len(y), f"positions of test samples in 0..{len(y) - 1}", f"{low} to {high}")
        distinct = len(np.unique(data.test)) == len(data.test)
        need(distinct, "positions of test samples, each once", "one of them twice")
    if data.labels is not None:
        need(len(data.labels) == classes, f"as many names of labels as classes={classes}", len(data.labels))


def _samples_on_device(data: DataPart) -> dict[str, Any]:
    # a grid over seeds of the split reads and places the samples once
    return _place_samples(data.replace(seed=None))


@file_cache(maxsize=2)
def _place_samples(data: DataPart) -> dict[str, Any]:
    # placed once: all runs of a process read the same copy
    dataset = load(data)
    unit = None if dataset.divisor is None else jnp.asarray(split_unit(dataset.divisor))
    return {"x": jnp.asarray(dataset.x), "y": jnp.asarray(dataset.y), "units": measure_units(dataset), "unit": unit}


def split_unit(divisor: int) -> np.ndarray:
    """The two parts of 1 / divisor by which compiled code divides bytes with the bits of a division.

    A division by a number that is the same for many is compiled to a product with its inverse, which is wrong in the
    last bit for half of all bytes. The first part has 16 bits, so that its product with a byte is exact; what is added
    is rounded once.

    Args:
        divisor: The number to divide by.

    Returns:
        The parts `[2]`, float32.
    """
    mantissa, exponent = math.frexp(1 / divisor)
    first = math.ldexp(math.floor(math.ldexp(mantissa, 16)), exponent - 16)
    return np.array([first, 1 / divisor - first], np.float32)


def read_samples(world: World, positions: Array) -> Array:
    """The values of samples before they are scaled.

    Args:
        world: Arrays of the run.
        positions: `[b]`, positions in the pool.

    Returns:
        Samples `[b, ...]`, float32, or int32 for characters.
    """
    x = world.x[positions]
    if world.unit is None:
        return x
    x = x.astype(jnp.float32)
    return x * world.unit[0] + x * world.unit[1]


def scaled_samples(world: World, positions: Array) -> Array:
    """The samples that models get as `data.normalise` scales them.

    Args:
        world: Arrays of the run.
        positions: `[b]`, positions in the pool.

    Returns:
        Samples `[b, ...]`, float32, or int32 for characters.
    """
    return apply_scaling(world.scaling, read_samples(world, positions))


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
    sizes = np.array([len(share) for share in shares], np.int32)
    shards = np.zeros((n, sizes.max()), np.int32)
    shards[np.arange(shards.shape[1]) < sizes[:, None]] = np.concatenate(shares)
    return World(
        key=jax.random.key(seed),
        start_key=jax.random.key(own_seed(run.model.seed, seed)),
        byzantine_key=jax.random.key(own_seed(run.workers.byzantine.seed, seed)),
        **_samples_on_device(run.data),
        shards=jnp.asarray(shards),
        sizes=jnp.asarray(sizes),
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
    owners = None if dataset.owners is None else dataset.owners[parts.train]
    samples = Samples(dataset.y[parts.train], owners, lambda: dataset.values(parts.train))
    with errors_of("data.partition", data.partition):
        divide = build(data.partition)
        positions = divide(samples, n, generator(seed, Purpose.PARTITION))
        _check_positions(data.partition.label, positions, n, len(parts.train), location(data.partition, divide))
    return parts, [parts.train[position] for position in positions]


def _check_positions(name: str, positions: Any, n: int, count: int, place: str) -> None:
    """Raises ContractError unless there are positions of `count` samples for each of n workers, none of them twice."""
    several = isinstance(positions, (list, tuple, np.ndarray)) and len(positions) == n
    got = f"{len(positions)} of them" if isinstance(positions, (list, tuple)) else type_name(positions)
    require(several, f"{name} must give a list of {n} arrays, one for each worker, got {got}{place}")
    kinds = [isinstance(each, np.ndarray) and each.ndim == 1 and each.dtype.kind in "iu" for each in positions]
    if not all(kinds):
        worker = kinds.index(False)
        raise ContractError(
            f"{name} must give worker {worker} an array of NumPy with positions, whole numbers, got "
            f"{type_name(positions[worker])}{place}"
        )
    # of all workers at once: a population may have 100,000 of them
    sizes, whole = np.array([len(each) for each in positions]), np.concatenate(positions)
    if not sizes.all():
        raise ContractError(f"{name} leaves worker {np.argmin(sizes)} of {n} workers without a sample{place}")
    outside = np.flatnonzero((whole < 0) | (whole >= count))
    if outside.size:
        worker = int(np.searchsorted(np.cumsum(sizes), outside[0], side="right"))
        each = positions[worker]
        raise ContractError(
            f"{name} must give worker {worker} an array of NumPy with positions, whole numbers in 0..{count - 1}, got "
            f"{each.min()} to {each.max()}{place}"
        )
    taken = np.bincount(whole)
    require(taken.max() == 1, f"{name} gives sample {np.argmax(taken)} {taken.max()} times, and once is allowed{place}")


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
    return fit_scaling(data.normalise, load(data), share_out(data, n, seed)[0].train)


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
