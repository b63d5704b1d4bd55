"""One omniscient worker ends the average, and eight of twenty do not end Krum (Blanchard et al. 2017)."""

from byzax.experiments.reproduction.target import Statement, Target

TARGET = Target(
    title="One omniscient worker ruins the average; eight of twenty do not ruin Krum",
    paper="Blanchard, El Mhamdi, Guerraoui and Stainer 2017, Machine Learning with Adversaries, NeurIPS",
    place="figures 4 and 5, omniscient",
    claim="A single worker that sends the gradient reversed and scaled takes the average away; Krum learns with as "
    "many such workers as its condition allows.",
    setting="MNIST, MLP 784-100-10, n=20, f=1 and f=8, rows -100 times the honest mean, SGD 0.1, batch 32, 500 "
    "updates.",
    scaled="f=8 of 20 in place of the 9 that are often quoted, which violate n >= 2f + 3.",
    scenarios=("krum-2",),
    statements=(
        Statement(
            "accuracy of the average, one Byzantine worker",
            lambda runs: runs["krum-2"]("average", workers__byzantine=1),
            high=0.15,
        ),
        Statement(
            "accuracy of Krum, one Byzantine worker",
            lambda runs: runs["krum-2"]("krum", workers__byzantine=1),
            low=0.85,
        ),
        Statement(
            "accuracy of Krum, eight Byzantine workers",
            lambda runs: runs["krum-2"]("krum", workers__byzantine=8),
            low=0.85,
        ),
    ),
    figure=("krum-2", {"col": "workers.byzantine"}),
)
