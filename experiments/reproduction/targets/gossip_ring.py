"""ClippedGossip on a ring without an honest majority (He, Karimireddy and Jaggi 2022)."""

from byzax.experiments.reproduction.target import Statement, Target

# attack: its name, and the authors' accuracies with ClippedGossip, the trimmed mean and MOZI
THEIRS = {
    "empire epsilon=0.1 of=models": ("IPM 0.1", 0.915, 0.113, 0.957),
    "little z=10 sign=plus ddof=1": ("ALIE z=10", 0.942, 0.098, 0.957),
    "dissensus": ("dissensus 1.5", 0.901, 0.098, 0.936),
}
CLIPPED, TRIMMED, UBAR = "clipped_gossip tau=0.1", "self_centred rule=trimmed_mean", "ubar rho=0.4 alpha=0.5"

TARGET = Target(
    title="ClippedGossip learns on a ring without an honest majority",
    paper="He, Karimireddy and Jaggi 2022, Byzantine-Robust Decentralized Learning via ClippedGossip",
    place="malicious ring, in the authors' logs",
    claim="Five honest nodes in a ring with eleven Byzantine leaves learn with ClippedGossip under all three attacks, "
    "and do not with the trimmed mean.",
    setting="MNIST (standardised), 960 samples for each node, SGD 0.01 with momentum 0.9, batch 32, 900 rounds; "
    "accuracy of the mean of the honest models. docs/topologies.md says what each option follows in the authors' code.",
    scaled="MLP 784-64-10 in place of their CNN.",
    scenarios=("gossip-ring",),
    statements=tuple(
        statement
        for attack, (words, clipped, trimmed, ubar) in THEIRS.items()
        for statement in (
            Statement(
                f"{words}: ClippedGossip, tau 0.1 (theirs: {clipped})",
                lambda runs, attack=attack: runs["gossip-ring"](
                    attack=attack, topology__mixing=CLIPPED, measure="mean_model_accuracy"
                ),
                low=0.85,
            ),
            Statement(
                f"{words}: trimmed mean, b=2 (theirs: {trimmed})",
                lambda runs, attack=attack: runs["gossip-ring"](
                    attack=attack, topology__mixing=TRIMMED, measure="mean_model_accuracy"
                ),
                high=0.20,
            ),
            Statement(
                f"{words}: UBAR (theirs, MOZI: {ubar})",
                lambda runs, attack=attack: runs["gossip-ring"](
                    attack=attack, topology__mixing=UBAR, measure="mean_model_accuracy"
                ),
                low=0.85,
            ),
        )
    ),
    figure=("gossip-ring", {"y": "mean_model_accuracy", "hue": "topology.mixing", "col": "attack"}),
)
