"""The cost of an update with Multi-Krum and Bulyan, beside the average (Damaskinos et al. 2019)."""

from collections.abc import Mapping

from byzax.experiments.reproduction.cells import Cells
from byzax.experiments.reproduction.target import Statement, Target

MODELS = {"mlp hidden=[100]": "MLP", "cnn": "CNN"}
THEIRS = {"multi_krum": 0.19, "bulyan": 0.43}
# updates between which seconds are counted: not those in which the program is compiled
FROM, TO = 20, 120


def seconds(runs: Mapping[str, Cells], rule: str, model: str) -> dict[int, float]:
    """The seconds of the updates between two evaluations, the second of which counts, by seed."""
    cells = runs["overhead"]
    begin, end = (cells(rule, model=model, measure="wall_s", step=step) for step in (FROM, TO))
    return {seed: end[seed] - value for seed, value in begin.items()}


def overhead(runs: Mapping[str, Cells], rule: str, model: str) -> dict[int, float]:
    """The share by which an update is longer than with the average, by seed."""
    base = seconds(runs, "average", model)
    return {seed: value / base[seed] - 1 for seed, value in seconds(runs, rule, model).items()}


TARGET = Target(
    title="What an update costs with Multi-Krum and Bulyan",
    paper="Damaskinos, El Mhamdi, Guerraoui, Guirguis and Rouault 2019, AggregaThor, SysML",
    place="figures of the experiments",
    claim="An update takes 19 % longer with Multi-Krum than with the average, and 43 % longer with Bulyan.",
    setting="MNIST, MLP 784-100-10 and CNN, n=19, f=4, batch 32; seconds of updates 20 to 120, evaluations among them.",
    scaled="another system, network and machine: a comparison, without a bound.",
    scenarios=("overhead",),
    statements=tuple(
        Statement(
            f"{words}: share by which an update with {rule} is longer (theirs: {theirs:.2f})",
            lambda runs, rule=rule, model=model: overhead(runs, rule, model),
        )
        for model, words in MODELS.items()
        for rule, theirs in THEIRS.items()
    ),
)
