"""Rows within the spread of the honest ones harm every rule (Baruch et al. 2019)."""

from byzax.experiments.reproduction.target import Statement, Target, minus

RULES = ("average", "trimmed_mean", "median", "krum", "bulyan")

TARGET = Target(
    title="A shift of 1.5 deviations goes unnoticed and harms every robust rule",
    paper="Baruch, Baruch and Goldberg 2019, A Little Is Enough, NeurIPS",
    place="experiments on MNIST",
    claim="The attack costs the rules that remove outliers more than it costs averaging, Bulyan and the trimmed mean "
    "most.",
    setting="MNIST, MLP 784-100-10, n=51, f=12, z=1.5, SGD 0.1 with momentum 0.9 at the server, batch 128, 300 "
    "updates.",
    scaled="the paper's tables were not at hand: the bounds are ours, final and best accuracy are given for all rules.",
    scenarios=("alie",),
    statements=(
        *(
            Statement(
                f"average without an attack minus {rule} under attack, last update",
                lambda runs, rule=rule: minus(runs["alie"]("average", "none"), runs["alie"](rule, "little z=1.5")),
                low=0.15,
            )
            for rule in ("bulyan", "trimmed_mean", "median")
        ),
        *(
            Statement(
                f"accuracy of {rule} under attack, {words}",
                lambda runs, rule=rule, report=report: runs["alie"](rule, "little z=1.5", report=report),
            )
            for report, words in (("last", "last update"), ("best", "best evaluation"))
            for rule in RULES
        ),
    ),
    figure=("alie", {"col": "attack"}),
)
