"""The honest mean, reversed: small it turns Krum, large it turns the average (Xie et al. 2019)."""

import numpy as np

from byzax.experiments.reproduction.target import Statement, Target

WORKERS, BYZANTINE, D = 25, 11, 1_000


def reversing_epsilon(seed: int) -> float:
    """The smallest epsilon, over (n-f)/f, at which the mean of all rows points against the honest mean."""
    from byzax.aggregators.average import average

    honest = np.random.default_rng(seed).standard_normal((WORKERS - BYZANTINE, D)) + 1
    mean, rule = honest.mean(axis=0), average(WORKERS, BYZANTINE)

    def turned(epsilon: float) -> bool:
        rows = np.concatenate([np.tile(-epsilon * mean, (BYZANTINE, 1)), honest]).astype(np.float32)
        return bool(np.dot(np.asarray(rule.apply(rows, rule.init(D))[0], np.float64), mean) < 0)

    low, high = 0.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if turned(middle) else (middle, high)
    return high / ((WORKERS - BYZANTINE) / BYZANTINE)


TARGET = Target(
    title="A small reversed mean turns Krum and the geometric median, a large one the average",
    paper="Xie, Koyejo and Gupta 2019, Fall of Empires, UAI",
    place="experiments; theorems 1 to 3",
    claim="Krum selects rows of -epsilon times the honest mean when epsilon is small, and then follows them; averaging "
    "is turned round exactly beyond epsilon = (n-f)/f.",
    setting="MNIST, MLP 784-100-10, n=25, f=11, epsilon 0.1, 0.5 and 10, SGD 0.1, batch 32, 300 updates.",
    scaled="the paper trains on CIFAR-10, with epsilon 0.1 to 10.",
    scenarios=("empires",),
    statements=(
        Statement(
            "accuracy of Krum, epsilon 0.1",
            lambda runs: runs["empires"]("krum", "empire epsilon=0.1"),
            high=0.20,
            quick=True,
        ),
        Statement(
            "accuracy of the geometric median, epsilon 0.1",
            lambda runs: runs["empires"]("geometric_median", "empire epsilon=0.1"),
            high=0.20,
            quick=True,
        ),
        Statement(
            "accuracy of the average, epsilon 0.1",
            lambda runs: runs["empires"]("average", "empire epsilon=0.1"),
            low=0.88,
        ),
        Statement("accuracy of the median, epsilon 0.1", lambda runs: runs["empires"]("median", "empire epsilon=0.1")),
        Statement(
            "accuracy of the average, epsilon 10",
            lambda runs: runs["empires"]("average", "empire epsilon=10"),
            high=0.15,
        ),
        Statement("accuracy of Krum, epsilon 10", lambda runs: runs["empires"]("krum", "empire epsilon=10"), low=0.85),
        Statement(
            "smallest epsilon that turns the mean round, over (n-f)/f",
            lambda runs: {seed: reversing_epsilon(seed) for seed in (0, 1, 2)},
            low=0.9999,
            high=1.0001,
            quick=True,
        ),
    ),
    quick={
        "empires": {
            "repeats": 1,
            "grid": {
                "rule.name": ["average", "krum", "geometric_median"],
                "attack": ["none", {"name": "empire", "epsilon": 0.1}],
            },
        }
    },
    figure=("empires", {"col": "attack"}),
    remark="Krum under large rows misses its bound by less than a point, within its interval.",
)
