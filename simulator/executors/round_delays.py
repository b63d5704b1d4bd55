"""The seconds of jobs and messages in a race of rounds, as they are in virtual time."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.durations import BLOCK, build_draws, build_links
from byzax.simulator.executors.round_record import Turn
from byzax.simulator.rounds import Rounds


class Delays(NamedTuple):
    """The seconds of jobs and messages.

    Attributes:
        computing: The seconds of computing of a job.
        of: The seconds of a message on its way to the turn that may read it, by its place there, and whether it is
            lost.
    """

    computing: Callable[[Turn], float]
    of: Callable[[Turn, int], tuple[float, bool]]


def build_delays(rounds: Rounds, source: LatencyPart, seed: int, bits: int) -> Delays:
    """Builds the draws of these seconds.

    Args:
        rounds: The steps of a round.
        source: The latency in a scenario.
        seed: Seed of the run.
        bits: Bits of a message.

    Returns:
        The seconds, whoever asks for them first.

    Raises:
        ScenarioError: As `build_draws`.
    """
    (job,) = (step for step in rounds.steps if step.works)
    draws = build_draws(source, len(job.senders), seed, bits)
    links = {
        number: build_links(source, seed, bits * step.size, rounds.way(step), step.senders)
        for number, step in enumerate(rounds.steps)
        if step.reads
    }
    jobs: list[np.ndarray] = []
    messages: Mapping[int, list[tuple[np.ndarray, np.ndarray]]] = {number: [] for number in links}

    def block(known: list[Any], round_: int, draw: Callable[[int], Any]) -> Any:
        # nodes come to a block one after the other, and draws are in order
        while len(known) <= round_ // BLOCK:
            known.append(draw(len(known) * BLOCK))
        return known[round_ // BLOCK]

    def computing(turn: Turn) -> float:
        spans = block(jobs, turn.round, lambda first: np.stack([draw(first, BLOCK).compute for draw in draws], axis=1))
        return float(spans[turn.round % BLOCK, turn.node])

    def of(turn: Turn, at: int) -> tuple[float, bool]:
        delay_s, lost = block(messages[turn.step], turn.round, lambda first: links[turn.step](first, BLOCK))
        place = turn.round % BLOCK, turn.node, at
        return float(delay_s[place]), bool(lost[place])

    return Delays(computing, of)
