"""Gaussian rows ruin the average of a linear model; Krum and Multi-Krum withstand them (Blanchard et al. 2017)."""

from byzax.experiments.reproduction.target import Statement, Target, minus

TARGET = Target(
    title="Gaussian rows ruin the average, not Krum and Multi-Krum",
    paper="Blanchard, El Mhamdi, Guerraoui and Stainer 2017, Machine Learning with Adversaries, NeurIPS",
    place="figures 4 and 6",
    claim="With a third of the workers sending Gaussian rows averaging does not learn and Krum does, the better the "
    "larger the batch; Multi-Krum loses next to nothing.",
    setting="MNIST (standardised), softmax regression, n=20, f=6, rows N(0, 200² I), SGD 0.01, 500 updates, batches of "
    "3 and 32, Multi-Krum with m = n-f-2.",
    scaled="the paper trains a multi-layer perceptron; with one, averaging still reaches 67 to 82 %, since huge random "
    "weights act as random features.",
    scenarios=("krum-1",),
    statements=(
        Statement(
            "accuracy of the average under attack, batch 32",
            lambda runs: runs["krum-1"]("average", "gaussian", data__batch_size=32),
            high=0.40,
            quick=True,
        ),
        Statement(
            "accuracy of the average without an attack, batch 32",
            lambda runs: runs["krum-1"]("average", "none", data__batch_size=32),
            low=0.87,
            quick=True,
        ),
        Statement(
            "accuracy of Krum under attack, batch 32",
            lambda runs: runs["krum-1"]("krum", "gaussian", data__batch_size=32),
            low=0.85,
            quick=True,
        ),
        Statement(
            "Krum under attack, batch 32 minus batch 3",
            lambda runs: minus(
                runs["krum-1"]("krum", "gaussian", data__batch_size=32),
                runs["krum-1"]("krum", "gaussian", data__batch_size=3),
            ),
            low=0.10,
        ),
        Statement(
            "average without an attack minus Multi-Krum under attack, batch 32",
            lambda runs: minus(
                runs["krum-1"]("average", "none", data__batch_size=32),
                runs["krum-1"]("multi_krum", "gaussian", data__batch_size=32),
            ),
            high=0.02,
            quick=True,
        ),
    ),
    quick={
        "krum-1": {
            "repeats": 1,
            "steps": 300,
            "evaluate_every": 100,
            "grid": {
                "data.batch_size": [3, 32],
                "rule.name": ["average", "krum", "multi_krum"],
                "attack": ["none", {"name": "gaussian", "standard_deviation": 200}],
            },
        }
    },
    figure=("krum-1", {"where": {"data.batch_size": 32}}),
)
