"""History helps: centred clipping with momentum at the workers (Karimireddy et al. 2021)."""

from byzax.experiments.reproduction.target import Statement, Target, largest, minus

RULES = ("krum", "median", "geometric_median")
CLIPPING = "centered_clipping tau=1"
ATTACKS = {"little ddof=1": "ALIE", "empire epsilon=0.1": "IPM 0.1"}

TARGET = Target(
    title="Centred clipping with momentum stands where rules without memory fail",
    paper="Karimireddy, He and Jaggi 2021, Learning from History for Byzantine Robust Optimization, ICML",
    place="figures 3 and 4",
    claim="Under ALIE and IPM rules that look at one update at a time fail; with momentum at the workers, and centred "
    "clipping around the last aggregate, training goes on.",
    setting="MNIST (standardised), MLP 784-100-10, n=25, f=11, SGD 0.1, batch 32, 600 updates, worker momentum 0, 0.9, "
    "0.99 (m = beta m + (1 - beta) g), centred clipping with tau 1 and one iteration; mean of the last five "
    "evaluations.",
    scaled="the authors clip at 10 with m = beta m + g and beta 0.9, which is 1 for ours.",
    scenarios=("clipping",),
    statements=(
        *(
            Statement(
                f"{words}: accuracy of centred clipping, worker momentum 0.9",
                lambda runs, attack=attack: runs["clipping"](CLIPPING, attack, worker_momentum=0.9),
                low=0.85,
            )
            for attack, words in ATTACKS.items()
        ),
        *(
            Statement(
                f"{words}: the same minus the best of Krum, the median and the geometric median without momentum",
                lambda runs, attack=attack: minus(
                    runs["clipping"](CLIPPING, attack, worker_momentum=0.9),
                    largest([runs["clipping"](rule, attack, worker_momentum=0) for rule in RULES]),
                ),
                low=0.20,
            )
            for attack, words in ATTACKS.items()
        ),
        *(
            Statement(
                f"{words}: centred clipping, worker momentum 0.99 minus 0",
                lambda runs, attack=attack: minus(
                    runs["clipping"](CLIPPING, attack, worker_momentum=0.99),
                    runs["clipping"](CLIPPING, attack, worker_momentum=0),
                ),
            )
            for attack, words in ATTACKS.items()
        ),
    ),
    figure=("clipping", {"col": "worker_momentum", "where": {"attack": "little ddof=1"}}),
)
