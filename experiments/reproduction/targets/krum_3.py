"""The price of Krum falls with the size of the batch (Blanchard et al. 2017, figure 5)."""

from collections.abc import Mapping

from byzax.experiments.reproduction.cells import Cells
from byzax.experiments.reproduction.target import Statement, Target, minus


def gap(runs: Mapping[str, Cells], batch: int) -> dict[int, float]:
    """Accuracy of the average without an attack minus that of Krum under attack, by seed."""
    cells = runs["krum-3"]
    return minus(
        cells("average", "none", data__batch_size=batch), cells("krum", "empire epsilon=100", data__batch_size=batch)
    )


TARGET = Target(
    title="What Krum costs falls with the size of the batch",
    paper="Blanchard, El Mhamdi, Guerraoui and Stainer 2017, Machine Learning with Adversaries, NeurIPS",
    place="figure 5",
    claim="The error of Krum with 9 omniscient workers of 21 comes close to that of averaging without any as the batch "
    "grows; from a batch of 10 on the difference is small.",
    setting="MNIST, MLP 784-100-10, n=21, f=9, rows -100 times the honest mean, SGD 0.1, 500 updates.",
    scaled="batches up to 160.",
    scenarios=("krum-3",),
    statements=(
        *(
            Statement(f"average minus Krum, batch {batch}", lambda runs, batch=batch: gap(runs, batch))
            for batch in (3, 5)
        ),
        *(
            Statement(f"average minus Krum, batch {batch}", lambda runs, batch=batch: gap(runs, batch), high=0.05)
            for batch in (10, 20, 40, 80, 160)
        ),
        Statement("gap at batch 3 minus gap at batch 160", lambda runs: minus(gap(runs, 3), gap(runs, 160)), low=0.02),
    ),
    figure=("krum-3", {"hue": "rule", "col": "data.batch_size"}),
)
