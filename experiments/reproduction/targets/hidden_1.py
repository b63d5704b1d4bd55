"""One coordinate is enough against Krum, the geometric median and Brute (El Mhamdi et al. 2018, 5.2.1)."""

from byzax.experiments.reproduction.target import Statement, Target

LAST, ALL = "hidden_vulnerability coordinate=last", "hidden_vulnerability coordinate=all"

TARGET = Target(
    title="One coordinate, hidden in the distance, ruins Krum and Brute for good",
    paper="El Mhamdi, Guerraoui and Rouault 2018, The Hidden Vulnerability of Distributed Learning in Byzantium, ICML",
    place="section 5.2.1",
    claim="Rows that stay within the distance of honest ones and differ in one coordinate are accepted, and the model "
    "does not come back when the attack ends.",
    setting="MNIST in [0, 1], MLP 784-100-10 (Glorot), L2 1e-4, rate 10000/(t + 10000), 300 updates; 30 honest and 27 "
    "Byzantine workers, batch 83 (Brute: 6 and 5, batch 256). The largest size that the rule accepts, in the last "
    "coordinate or in all; the attack ends at update 50, and its workers follow the protocol from then on.",
    scenarios=("hidden-1-krum", "hidden-1-brute"),
    statements=(
        Statement(
            "accuracy of the average without an attack",
            lambda runs: runs["hidden-1-krum"]("average", "none"),
            low=0.94,
            quick=True,
        ),
        Statement(
            "accuracy of Krum without an attack",
            lambda runs: runs["hidden-1-krum"]("krum", "none"),
            low=0.90,
            quick=True,
        ),
        Statement(
            "accuracy of Krum at update 100, one coordinate",
            lambda runs: runs["hidden-1-krum"]("krum", LAST, step=100),
            high=0.70,
            quick=True,
        ),
        Statement(
            "accuracy of Krum at update 300, one coordinate",
            lambda runs: runs["hidden-1-krum"]("krum", LAST, step=300),
            high=0.70,
            quick=True,
        ),
        Statement(
            "accuracy of Krum at update 100, all coordinates",
            lambda runs: runs["hidden-1-krum"]("krum", ALL, step=100),
            high=0.70,
        ),
        Statement(
            "accuracy of Krum at update 300, all coordinates",
            lambda runs: runs["hidden-1-krum"]("krum", ALL, step=300),
            high=0.70,
        ),
        Statement(
            "accuracy of the geometric median at update 300, one coordinate",
            lambda runs: runs["hidden-1-krum"]("geometric_median", LAST),
        ),
        Statement(
            "accuracy of the geometric median at update 300, all coordinates",
            lambda runs: runs["hidden-1-krum"]("geometric_median", ALL),
        ),
        Statement(
            "accuracy of Brute without an attack", lambda runs: runs["hidden-1-brute"]("brute", "none"), low=0.90
        ),
        Statement(
            "accuracy of Brute at update 300, one coordinate",
            lambda runs: runs["hidden-1-brute"]("brute", LAST),
            high=0.70,
        ),
        Statement(
            "accuracy of Brute at update 300, all coordinates",
            lambda runs: runs["hidden-1-brute"]("brute", ALL),
            high=0.70,
        ),
    ),
    quick={
        "hidden-1-krum": {
            "repeats": 1,
            "grid": {
                "rule.name": ["average", "krum"],
                "attack": [
                    "none",
                    {"name": "hidden_vulnerability", "until": 50},
                    {"name": "hidden_vulnerability", "coordinate": "all", "until": 50},
                ],
            },
        }
    },
    figure=("hidden-1-krum", {"col": "attack"}),
    remark="Krum takes a forged row in every update, and in all coordinates it is lost for good. One coordinate is "
    "made up for: the forged rows hold the honest mean at all others, and training goes on there. With the "
    "coordinate of largest deviation Krum had 0.574 at update 50, and 0.878 at update 100, when the attack "
    "had ended (one seed). Brute averages six rows and is not led away by either.",
)
