"""Attacks that are optimised cost at least what a fixed one costs (Shejwalkar and Houmansadr 2021)."""

from byzax.experiments.reproduction.target import Statement, Target, minus

RULES = ("krum", "multi_krum", "bulyan", "median", "trimmed_mean")

TARGET = Target(
    title="Optimised attacks cost every rule at least as much as a fixed one",
    paper="Shejwalkar and Houmansadr 2021, Manipulating the Byzantine, NDSS",
    place="tables 2 and 3",
    claim="Attacks tailored to the rule, and min-max and min-sum, which know no rule, cost accuracy that is at least "
    "that of ALIE, with every rule.",
    setting="MNIST, MLP 784-100-10, n=25, f=5, SGD 0.1 with momentum 0.9, batch 32, 300 updates; best accuracy. "
    "Tailored: ALIE at the strength that moves the rule farthest, found anew for every update.",
    scaled="25 workers that compute gradients in place of 50 clients; bound: no more than one point better than ALIE.",
    scenarios=("optimised",),
    statements=tuple(
        Statement(
            f"accuracy of {rule} under {attack} minus that under ALIE",
            lambda runs, rule=rule, attack=attack: minus(
                runs["optimised"](rule, attack), runs["optimised"](rule, "little")
            ),
            high=0.01,
        )
        for rule in RULES
        for attack in ("optimised", "min_max", "min_sum")
    ),
    figure=("optimised", {"hue": "attack", "col": "rule"}),
    remark="The tailored attack costs every rule four to twelve points more than ALIE. Min-max and min-sum, which "
    "know no rule, do so with three rules of five.",
)
