"""Bulyan stands where Krum is led away by one coordinate (El Mhamdi et al. 2018, 5.2.2)."""

from byzax.experiments.reproduction.target import Statement, Target, minus

LAST, ALL = "hidden_vulnerability coordinate=last", "hidden_vulnerability coordinate=all"

TARGET = Target(
    title="Bulyan stands where Krum is led away",
    paper="El Mhamdi, Guerraoui and Rouault 2018, The Hidden Vulnerability of Distributed Learning in Byzantium, ICML",
    place="section 5.2.2",
    claim="Bulyan over Krum reaches what averaging reaches without an attack, where Krum itself does not.",
    setting="as hidden-1, with 30 honest and 9 Byzantine workers.",
    scenarios=("hidden-2",),
    statements=(
        Statement(
            "average without an attack minus Bulyan, one coordinate",
            lambda runs: minus(runs["hidden-2"]("average", "none"), runs["hidden-2"]("bulyan", LAST)),
            high=0.02,
            quick=True,
        ),
        Statement(
            "average without an attack minus Bulyan, all coordinates",
            lambda runs: minus(runs["hidden-2"]("average", "none"), runs["hidden-2"]("bulyan", ALL)),
            high=0.02,
        ),
        Statement(
            "Bulyan minus Krum, one coordinate",
            lambda runs: minus(runs["hidden-2"]("bulyan", LAST), runs["hidden-2"]("krum", LAST)),
            low=0.20,
            quick=True,
        ),
        Statement(
            "Bulyan minus Krum, all coordinates",
            lambda runs: minus(runs["hidden-2"]("bulyan", ALL), runs["hidden-2"]("krum", ALL)),
            low=0.20,
        ),
    ),
    quick={
        "hidden-2": {
            "repeats": 1,
            "steps": 150,
            "grid": {
                "rule.name": ["average", "krum", "bulyan"],
                "attack": [
                    "none",
                    {"name": "hidden_vulnerability", "until": 50},
                    {"name": "hidden_vulnerability", "coordinate": "all", "until": 50},
                ],
            },
        }
    },
    figure=("hidden-2", {"col": "attack"}),
    remark="Bulyan holds, as the paper says. But nine Byzantine workers of 39 do not lead Krum away with this "
    "attack, whose largest accepted size falls with their share: it costs a point or two.",
)
