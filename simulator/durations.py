"""The durations of all jobs: the latency part of a scenario, for one seed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from byzax.simulator.config.latency import LatencyPart, Link, Stragglers
from byzax.simulator.config.part import Part, function_of
from byzax.simulator.contracts import ContractError, build, errors_of, location, type_name
from byzax.simulator.keys import Purpose, generator
from byzax.simulator.latency import Latency, factory
from byzax.simulator.mistakes import Impossible

# Jobs of a worker that are drawn at once, and the first ones where jobs are begun one by one.
BLOCK, FIRST = 256, 8
# The directions of messages between nodes, whose places are part of recorded results.
Way = Literal["up", "down", "peer"]
WAYS: tuple[Way, ...] = ("up", "down", "peer")


class MessageBits(NamedTuple):
    """The bits of a message of each direction.

    Attributes:
        up: From a worker to another node.
        down: To a worker.
        peer: Between other nodes, or between workers.
    """

    up: float
    down: float
    peer: float


# Seconds that a part of a job may take, unless it takes none: so that sums over a run, and counts divided by them, are
# finite.
SHORTEST_S, LONGEST_S = 1e-100, 1e100


class Durations(NamedTuple):
    """The durations of a worker's jobs.

    Attributes:
        down: `[count]`, seconds until the model has arrived.
        compute: `[count]`, seconds of computing.
        up: `[count]`, seconds until the row has arrived.
        lost: `[count]`, whether the message with the row is lost.
    """

    down: np.ndarray
    compute: np.ndarray
    up: np.ndarray
    lost: np.ndarray


class Draw(Protocol):
    """Draws the durations of the jobs of one worker, in order."""

    def __call__(self, first: int, count: int, /) -> Durations:
        """The durations of the next jobs.

        Args:
            first: Number of the first job, the one after those drawn before.
            count: Number of jobs.

        Returns:
            The durations.

        Raises:
            ScenarioError: For a duration that is no number of seconds, or too short or too long to be counted.
        """
        ...


def build_draws(source: LatencyPart, n: int, seed: int, bits: MessageBits) -> list[Draw]:
    """Builds the draws of the durations of all workers.

    They are drawn by worker and job: no number depends on the schedule, or on how many are drawn at once.

    Args:
        source: The latency in a scenario.
        n: Number of workers.
        seed: Seed of the run.
        bits: Bits of messages, by which links with a bandwidth delay them.

    Returns:
        The draw of each worker, n of them.

    Raises:
        ScenarioError: Where a part of the latency cannot be built; it begins with the key of that.
    """
    compute, up, down = (
        _seconds(key, part)
        for key, part in (
            ("latency", source),
            ("latency.up.delay", source.up.delay),
            ("latency.down.delay", source.down.delay),
        )
    )
    factors = _factors(source.factors, n, seed)
    slow = _slowdowns(source.stragglers, n, seed)
    sizes = ((source.up, bits.up), (source.down, bits.down))
    fixed = [0.0 if link.bandwidth is None else size / link.bandwidth for link, size in sizes]

    def worker(number: int) -> Draw:
        rng: list[np.random.Generator] = []

        def draw(first: int, count: int) -> Durations:
            if not rng:
                # most of a large population are never asked
                rng.append(generator(seed, Purpose.LATENCY, number))
                rng.extend(generator(seed, Purpose.MESSAGES, number, i) for i in range(3))
            with np.errstate(over="ignore"):
                spans = Durations(
                    down=down(rng[2], number, first, count) + fixed[1],
                    compute=compute(rng[0], number, first, count) * factors[number] * slow[number](count),
                    up=up(rng[1], number, first, count) + fixed[0],
                    lost=rng[3].random(count) < source.loss if source.loss else np.zeros(count, bool),
                )
            for key, times in zip(("latency.down", "latency", "latency.up"), spans[:3], strict=True):
                _check_times(key, f"worker {number}", times)
            return spans

        return draw

    return [worker(number) for number in range(n)]


class DrawMessages(Protocol):
    """Draws the times that messages take in consecutive rounds, in order."""

    def __call__(self, first: int, count: int, /) -> tuple[np.ndarray, np.ndarray]:
        """The times of the messages of the next rounds.

        Args:
            first: The first round, the one after those drawn before.
            count: Number of rounds.

        Returns:
            Seconds `[count, receivers, k]`, and whether each message is lost. A node has its own at once.
        """
        ...


def build_links(
    source: LatencyPart, seed: int, bits: float, way: Way, senders: Sequence[Sequence[int]]
) -> DrawMessages:
    """Builds the draws of the times of messages between nodes, each link with random numbers of its own.

    Args:
        source: The latency in a scenario.
        seed: Seed of the run.
        bits: Bits of a message.
        way: The direction: from workers, to workers, or between other nodes.
        senders: For each receiver the nodes that send to it.

    Returns:
        The draw.

    Raises:
        ScenarioError: Where the delay cannot be built; it begins with its key.
    """
    link: Link = getattr(source, way)
    seconds = _seconds(f"latency.{way}.delay", link.delay)
    fixed = 0.0 if link.bandwidth is None else bits / link.bandwidth
    pairs = [(receiver, place) for receiver, those in enumerate(senders) for place in range(len(those))]
    own = np.array([senders[receiver][place] == receiver for receiver, place in pairs]) & (way == "peer")
    places = tuple(np.array(pairs).T)

    def streams(use: int) -> list[np.random.Generator]:
        return [generator(seed, Purpose.LINKS, WAYS.index(way), senders[to][place], to, use) for to, place in pairs]

    # the same for all links needs no numbers
    delaying = [] if function_of(link.delay) is factory("constant") else streams(0)
    losing = streams(1) if source.loss else []

    def draw(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        spans, missing = np.empty((count, len(pairs))), np.zeros((count, len(pairs)), bool)
        if not delaying:
            spans[:] = seconds(np.random.default_rng(0), 0, first, count)[:, None]
        for i, rng in enumerate(delaying):
            to, place = pairs[i]
            spans[:, i] = seconds(rng, to if way == "down" else senders[to][place], first, count)
        for i, rng in enumerate(losing):
            missing[:, i] = rng.random(count) < source.loss
        _check_times(f"latency.{way}", "messages", spans := spans + fixed)
        spans[:, own], missing[:, own] = 0, False
        shape = count, len(senders), max(map(len, senders))
        delay_s, lost = np.zeros(shape), np.zeros(shape, bool)
        delay_s[:, *places], lost[:, *places] = spans, missing
        return delay_s, lost

    return draw


def iterate_jobs(draw: Draw) -> Iterator[tuple[float, float, float, bool]]:
    """Iterates over the jobs of a worker, without end.

    Args:
        draw: Draws their durations.

    Yields:
        `(down, compute, up, lost)` of each job: three durations in seconds, and whether its message is lost.
    """
    # most workers of a large population are asked once, if at all
    first, count = 0, FIRST
    while True:
        yield from zip(*(part.tolist() for part in draw(first, count)), strict=True)
        first, count = first + count, min(2 * count, BLOCK)


def _check_times(key: str, whose: str, times: np.ndarray) -> None:
    """Raises Impossible for a time that cannot be counted."""
    if times.min(initial=LONGEST_S) >= SHORTEST_S and times.max(initial=0) <= LONGEST_S:
        return
    wrong = (times != 0) & ~((times >= SHORTEST_S) & (times <= LONGEST_S))
    if wrong.any():
        raise Impossible(
            f"{key}: gives {whose} a time of {times[wrong][0]:g} s, which cannot be counted: choose options that give "
            f"0, or {SHORTEST_S:g} to {LONGEST_S:g} s"
        )


def _factors(factors: tuple[float, ...] | Part | None, n: int, seed: int) -> np.ndarray:
    if factors is None:
        return np.ones(n)
    if isinstance(factors, tuple):
        return np.array(factors)
    latency = _seconds("latency.factors", factors)
    return np.array([latency(generator(seed, Purpose.FACTORS, i), i, 0, 1)[0] for i in range(n)])


def _seconds(key: str, part: Part) -> Latency:
    """A latency model whose results are checked."""
    with errors_of(key, part):
        model = build(part)
    # once: there are calls for every few jobs
    place = location(part, model)

    def check(times: Any, worker: int, first: int, count: int) -> None:
        if not (isinstance(times, np.ndarray) and times.shape == (count,) and times.dtype.kind in "fiu"):
            raise ContractError(
                f"{part.label} must give an array of NumPy with the seconds of {count} jobs, [{count}], got "
                f"{type_name(times)}{place}"
            )
        if not (times >= 0).all():
            job = int(np.argmin(times >= 0))
            got = f"{times[job]:g} s for job {first + job}"
            raise ContractError(f"{part.label} gives worker {worker} {got}: at least 0 is needed{place}")

    def seconds(rng: np.random.Generator, worker: int, first: int, count: int) -> np.ndarray:
        with errors_of(key, part):
            times = model(rng, worker, first, count)
            check(times, worker, first, count)
        return times

    return seconds


def _slowdowns(stragglers: Stragglers | None, n: int, seed: int) -> list[Callable[[int], np.ndarray]]:
    """For each worker a function that gives the factors `[jobs]` of its next jobs."""
    slow: list[Callable[[int], np.ndarray]] = [np.ones] * n
    if stragglers is None:
        return slow
    count = round(stragglers.share * n)
    for worker in generator(seed, Purpose.STRAGGLERS).permutation(n)[:count].tolist():
        if stragglers.burst is None:
            slow[worker] = lambda jobs: np.full(jobs, stragglers.factor)
        else:
            rng = generator(seed, Purpose.SPELLS, worker)
            spells = _spells(stragglers.factor, stragglers.burst, stragglers.pause, rng)
            slow[worker] = lambda jobs, spells=spells: np.fromiter(spells, float, jobs)
    return slow


def _spells(factor: float, burst: float, pause: float, rng: np.random.Generator) -> Iterator[float]:
    """Factors of jobs: spells of 1 and of `factor` in turn, of geometric lengths with the means `pause` and `burst`."""
    is_slow = rng.random() < burst / (burst + pause)
    while True:
        for _ in range(rng.geometric(1 / (burst if is_slow else pause))):
            yield factor if is_slow else 1.0
        is_slow = not is_slow
