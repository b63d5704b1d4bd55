"""Mimic, without and with bucketing, where each worker has few labels (Karimireddy 2022)."""

from byzax.experiments.reproduction.target import Statement, Target
from byzax.experiments.reproduction.targets.bucketing_3 import PAPER, RULES, SETTING, lifts

TARGET = Target(
    title="A worker that is copied counts more often; bucketing takes that back",
    paper=PAPER,
    place="mimic, in the authors' logs",
    claim="Where each worker has few labels, Byzantine workers that copy one of them are enough against Krum and the "
    "median; bucketing lifts all rules.",
    setting=SETTING,
    scaled="MLP 784-100-10 in place of their CNN; the Byzantine workers hold a fifth of the samples, which nobody "
    "trains on then.",
    scenarios=("bucketing-3",),
    statements=(
        Statement("accuracy of the average", lambda runs: runs["bucketing-3"]("average", "mimic", pre="[]"), low=0.80),
        *(
            Statement(
                f"accuracy of {words}, without bucketing",
                lambda runs, rule=rule: runs["bucketing-3"](rule, "mimic", pre="[]"),
            )
            for rule, words in RULES.items()
        ),
        *lifts("mimic"),
    ),
    figure=("bucketing-3", {"col": "pre", "where": {"attack": "mimic"}}),
)
