"""The cost of Bulyan without an attack falls with the size of the batch (El Mhamdi et al. 2018, 5.2.3)."""

from collections.abc import Mapping

from byzax.experiments.reproduction.cells import Cells
from byzax.experiments.reproduction.target import Statement, Target, minus


def gap(runs: Mapping[str, Cells], batch: int) -> dict[int, float]:
    """Accuracy of the average minus that of Bulyan, by seed."""
    return minus(
        runs["hidden-3"]("average", data__batch_size=batch), runs["hidden-3"]("bulyan", data__batch_size=batch)
    )


TARGET = Target(
    title="What Bulyan costs without an attack falls with the batch",
    paper="El Mhamdi, Guerraoui and Rouault 2018, The Hidden Vulnerability of Distributed Learning in Byzantium, ICML",
    place="section 5.2.3",
    claim="Where nobody attacks Bulyan is behind averaging with small batches and level with it with larger ones.",
    setting="as hidden-1, with 39 workers, f declared as 9, none of them Byzantine; accuracy at update 250.",
    scenarios=("hidden-3",),
    statements=(
        Statement("average minus Bulyan, batch 1", lambda runs: gap(runs, 1), low=0.30),
        *(
            Statement(f"average minus Bulyan, batch {batch}", lambda runs, batch=batch: gap(runs, batch))
            for batch in (3, 6, 12, 24)
        ),
        Statement("average minus Bulyan, batch 48", lambda runs: gap(runs, 48), high=0.06),
    ),
    figure=("hidden-3", {"hue": "rule", "col": "data.batch_size"}),
)
