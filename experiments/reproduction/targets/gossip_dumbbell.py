"""Robust mixing where two cliques hold labels of their own and nobody lies (He et al. 2022)."""

from byzax.experiments.reproduction.target import Statement, Target, minus

AVERAGE, CLIPPED, TRIMMED = "weighted_average", "clipped_gossip tau=1", "self_centred rule=trimmed_mean"

TARGET = Target(
    title="A rule that leaves the farthest neighbour out cuts a bridge; clipping does not",
    paper="He, Karimireddy and Jaggi 2022, Byzantine-Robust Decentralized Learning via ClippedGossip",
    place="dumbbell, in the authors' logs",
    claim="Where two cliques with labels of their own are joined by one edge and nobody lies, ClippedGossip learns "
    "what gossip averaging learns, and the trimmed mean leaves the other clique out.",
    setting="MNIST (standardised), two cliques of five nodes with 960 samples each, SGD 0.01 with momentum 0.9, batch "
    "32, 900 rounds; accuracy of the mean of all models.",
    scaled="MLP 784-64-10 in place of their CNN.",
    scenarios=("gossip-dumbbell",),
    statements=(
        Statement(
            "ClippedGossip, tau 1 (theirs: 0.938 of 2 x 10 nodes)",
            lambda runs: runs["gossip-dumbbell"](topology__mixing=CLIPPED, measure="mean_model_accuracy"),
            low=0.88,
        ),
        Statement(
            "weighted average minus ClippedGossip",
            lambda runs: minus(
                runs["gossip-dumbbell"](topology__mixing=AVERAGE, measure="mean_model_accuracy"),
                runs["gossip-dumbbell"](topology__mixing=CLIPPED, measure="mean_model_accuracy"),
            ),
            high=0.01,
        ),
        Statement(
            "ClippedGossip minus trimmed mean, b=1 (theirs: 0.069)",
            lambda runs: minus(
                runs["gossip-dumbbell"](topology__mixing=CLIPPED, measure="mean_model_accuracy"),
                runs["gossip-dumbbell"](topology__mixing=TRIMMED, measure="mean_model_accuracy"),
            ),
            low=0.05,
        ),
    ),
    figure=("gossip-dumbbell", {"y": "mean_model_accuracy", "hue": "topology.mixing", "col": None}),
)
