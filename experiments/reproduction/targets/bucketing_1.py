"""Robust rules lose rare labels without an attack, and bucketing gives them back (Karimireddy et al. 2022)."""

from byzax.experiments.reproduction.target import Statement, Target, minus

BUCKETS = "[bucketing s=2]"
RULES = {
    "krum": "Krum",
    "median": "median",
    "geometric_median nu=0.1": "geometric median",
    "centered_clipping tau=10 iterations=3": "centred clipping",
}
# accuracies in the authors' logs, without and with bucketing
THEIRS = {
    "krum": (0.899, 0.933),
    "median": (0.804, 0.956),
    "geometric_median nu=0.1": (0.826, 0.973),
    "centered_clipping tau=10 iterations=3": (0.988, 0.988),
}

TARGET = Target(
    title="Robust rules lose rare labels where nobody attacks; bucketing gives them back",
    paper="Karimireddy, He and Jaggi 2022, Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing, ICLR",
    place="table 1 and the authors' logs, long tail without Byzantine workers",
    claim="With labels of a long tail sorted over the workers Krum, the median and the geometric median are far below "
    "the average, and bucketing of two lifts each; centred clipping loses nothing.",
    setting="MNIST (standardised), n=24, f=0, class i keeps the share 0.5^i and samples are dealt sorted, SGD 0.01, "
    "batch 32; mean of the last five evaluations.",
    scaled="MLP 784-100-10 and 1,500 updates in place of their CNN and 4,500; the test set keeps all labels, so that "
    "accuracies are lower than theirs, where rare labels are rare in the test as well.",
    scenarios=("bucketing-1",),
    statements=(
        *(
            Statement(
                f"average minus {words}, without bucketing",
                lambda runs, rule=rule: minus(
                    runs["bucketing-1"]("average", pre="[]"), runs["bucketing-1"](rule, pre="[]")
                ),
                low=None if "clipping" in rule else 0.02,
                high=0.02 if "clipping" in rule else None,
            )
            for rule, words in RULES.items()
        ),
        *(
            Statement(
                f"lift of {words} by bucketing (theirs: {THEIRS[rule][1] - THEIRS[rule][0]:.3f})",
                lambda runs, rule=rule: minus(
                    runs["bucketing-1"](rule, pre=BUCKETS), runs["bucketing-1"](rule, pre="[]")
                ),
                low=-0.02 if "clipping" in rule else 0.01,
            )
            for rule, words in RULES.items()
        ),
    ),
    figure=("bucketing-1", {"hue": "rule", "col": "pre"}),
    remark="Krum takes one row, and with sorted labels that is one label's or the mean of two workers': bucketing "
    "of two does not help it in 1,500 updates.",
)
