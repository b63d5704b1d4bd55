"""Krum lets one coordinate go as far as the root of the dimension, Bulyan does not (El Mhamdi et al. 2018)."""

import functools
import math

import numpy as np

from byzax.experiments.reproduction.target import Statement, Target

WORKERS, BYZANTINE = 39, 9
DIMENSIONS = (100, 1_000, 10_000)
SEEDS = (0, 1, 2)
# Halvings of the largest shift that is accepted; shifts at which Bulyan is tried.
HALVINGS, TRIED = 24, 20


def byzantine_rows(d: int, shift: float, seed: int) -> np.ndarray:
    """Rows of which the first nine are equal, `shift` in the first coordinate, and the others N(0, I_d): `[39, d]`."""
    rows = np.random.default_rng(seed).standard_normal((WORKERS, d)).astype(np.float32)
    rows[:BYZANTINE] = 0
    rows[:BYZANTINE, 0] = shift
    return rows


@functools.cache
def largest_accepted(d: int, seed: int) -> float:
    """The largest shift with which Krum selects a Byzantine row, by bisection."""
    from byzax.aggregators.krum import krum

    rule = krum(WORKERS, BYZANTINE)
    low, high = 0.0, 4 * math.sqrt(d)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        info = rule.apply(byzantine_rows(d, middle, seed), rule.init(d))[2]
        low, high = (middle, high) if np.asarray(info.weights)[:BYZANTINE].sum() > 0 else (low, middle)
    return low


@functools.cache
def largest_deviation(d: int, seed: int) -> float:
    """The largest distance of Bulyan's first coordinate from 0, over shifts up to twice what Krum accepts."""
    from byzax.aggregators.bulyan import bulyan

    rule = bulyan(WORKERS, BYZANTINE)
    shifts = np.linspace(0, 2 * largest_accepted(d, seed), TRIED + 1)[1:]
    return max(abs(float(rule.apply(byzantine_rows(d, shift, seed), rule.init(d))[0][0])) for shift in shifts.tolist())


def ratio_to_theory(seed: int) -> float:
    """The largest accepted shift at d = 10,000 over sqrt(d) sqrt(2 (n-f-2) / (n-2f-1) - 1)."""
    n, f, d = WORKERS, BYZANTINE, 10_000
    return largest_accepted(d, seed) / math.sqrt(d * (2 * (n - f - 2) / (n - 2 * f - 1) - 1))


def slope(seed: int) -> float:
    """The slope of the log of the largest accepted shift in log d."""
    logs = np.log([largest_accepted(d, seed) for d in DIMENSIONS])
    return float(np.polyfit(np.log(DIMENSIONS), logs, 1)[0])


TARGET = Target(
    title="Krum lets one coordinate go as far as the root of the dimension, Bulyan does not",
    paper="El Mhamdi, Guerraoui and Rouault 2018, The Hidden Vulnerability of Distributed Learning in Byzantium, ICML",
    place="sections 2.3 and 4",
    claim="Among rows with noise s in each of d coordinates Krum accepts a shift of s sqrt(d) in one; what is left of "
    "it with Bulyan does not depend on d.",
    setting="rows N(0, I_d) of 30 honest workers and 9 equal Byzantine ones at g in one coordinate, d = 100, 1,000, "
    "10,000; no training.",
    statements=(
        Statement(
            "largest accepted g over sqrt(d) sqrt(2 (n-f-2) / (n-2f-1) - 1), d = 10,000",
            lambda runs: {seed: ratio_to_theory(seed) for seed in SEEDS},
            low=0.97,
            high=1.03,
            quick=True,
        ),
        Statement(
            "slope of log g in log d",
            lambda runs: {seed: slope(seed) for seed in SEEDS},
            low=0.45,
            high=0.55,
            quick=True,
        ),
        Statement(
            "Bulyan's largest deviation at d = 10,000 over that at d = 100",
            lambda runs: {seed: largest_deviation(10_000, seed) / largest_deviation(100, seed) for seed in SEEDS},
            high=1.5,
            quick=True,
        ),
    ),
    quick={},
)
