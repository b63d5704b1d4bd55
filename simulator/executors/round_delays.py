"""The seconds of jobs and messages in a race of rounds, as they are in virtual time."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.durations import BLOCK, DrawMessages, MessageBits, build_draws, build_links
from byzax.simulator.executors.round_record import Turn
from byzax.simulator.outages import Departures, build_departures
from byzax.simulator.rounds import Rounds, RoundStep


class Delays(NamedTuple):
    """The seconds of jobs and messages.

    Attributes:
        computing: The seconds of computing of a job.
        due_s: Of a message to a turn that may read it, at this place there, and the second at which it is sent, the
            second before which it is not there; infinite where it is lost.
    """

    computing: Callable[[Turn], float]
    due_s: Callable[[Turn, int, float], float]


def build_delays(rounds: Rounds, source: LatencyPart, seed: int, bits: MessageBits) -> Delays:
    """Builds the draws of these seconds.

    Args:
        rounds: The steps of a round.
        source: The latency in a scenario.
        seed: Seed of the run.
        bits: Bits of a message of each direction.

    Returns:
        The seconds, whoever asks for them first.

    Raises:
        ScenarioError: As `build_draws`.
    """
    (job,) = (step for step in rounds.steps if step.works)
    draws = build_draws(source, len(job.senders), seed, bits)
    links = {
        number: _build_link(rounds, step, source, seed, bits) for number, step in enumerate(rounds.steps) if step.reads
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

    @cache
    def departures(step: int, node: int, at: int) -> Departures:
        sender = next(each.kind for each in rounds.steps if each.name == rounds.steps[step].reads)
        link = (sender, rounds.steps[step].senders[node][at]), (rounds.steps[step].kind, node)
        return build_departures(source.outages, [link])

    def due_s(turn: Turn, at: int, sent_s: float) -> float:
        delay_s, lost = block(messages[turn.step], turn.round, lambda first: links[turn.step](first, BLOCK))
        place = turn.round % BLOCK, turn.node, at
        if lost[place]:
            return np.inf
        if source.outages:
            (sent_s,), (cut,) = departures(turn.step, turn.node, at)(np.array([sent_s]))
            if cut:
                return np.inf
        return float(sent_s + delay_s[place])

    return Delays(computing, due_s)


def _build_link(rounds: Rounds, step: RoundStep, source: LatencyPart, seed: int, bits: MessageBits) -> DrawMessages:
    way = rounds.way(step)
    return build_links(source, seed, step.largest_bits(getattr(bits, way)), way, step.senders)
