"""Nearest-neighbour mixing in front of rules lifts the worst case on unlike data (Allouah et al. 2023)."""

from collections.abc import Mapping

from byzax.experiments.reproduction.cells import Cells
from byzax.experiments.reproduction.target import Statement, Target, minus, smallest

RULES = ("krum", "median", "trimmed_mean", "geometric_median")
ATTACKS = ("sign_flip", "empire epsilon=search evaluations=8", "little z=search evaluations=8", "mimic")


def worst(runs: Mapping[str, Cells], rule: str, pre: str) -> dict[int, float]:
    """The accuracy of a rule under the attack of the smallest mean, by seed."""
    return smallest([runs["nnm"](rule, attack, pre=pre) for attack in ATTACKS])


TARGET = Target(
    title="Nearest-neighbour mixing lifts the worst case of rules on unlike data",
    paper="Allouah, Farhadkhani, Guerraoui, Gupta, Pinot and Stephan 2023, Fixing by Mixing, AISTATS",
    place="figures 1 and 2, tables of the appendix",
    claim="With NNM in front the worst accuracy over attacks rises for Krum, the median, the trimmed mean and the "
    "geometric median where workers hold unlike data.",
    setting="MNIST, MLP 784-100-10, n=17, f=4 drawn at random, Dirichlet 0.1, SGD 0.25, worker momentum 0.9, clipping "
    "to 2, batch 25, 200 updates; sign flip, searched IPM, searched ALIE, mimic; best accuracy.",
    scaled="MLP in place of a convolutional network, 200 updates in place of 800, eight tries of a strength in an "
    "update, and no gamma-similarity.",
    scenarios=("nnm",),
    statements=tuple(
        statement
        for rule in RULES
        for statement in (
            Statement(f"worst accuracy of {rule}", lambda runs, rule=rule: worst(runs, rule, "[]")),
            Statement(
                f"lift of the worst accuracy of {rule} by NNM",
                lambda runs, rule=rule: minus(worst(runs, rule, "[nnm]"), worst(runs, rule, "[]")),
                low=0.0,
            ),
        )
    ),
)
