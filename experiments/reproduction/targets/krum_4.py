"""Multi-Krum is as fast as the average without an attack, Krum slower (Blanchard et al. 2017, figure 6)."""

from byzax.experiments.reproduction.target import Statement, Target, minus

TARGET = Target(
    title="Multi-Krum is as fast as the average without an attack",
    paper="Blanchard, El Mhamdi, Guerraoui and Stainer 2017, Machine Learning with Adversaries, NeurIPS",
    place="figure 6",
    claim="Multi-Krum under attack converges as fast as averaging without one; Krum, which takes one row, slower.",
    setting="MNIST, MLP 784-100-10, n=20, f=6, rows N(0, 200² I), SGD 0.1, batch 3, 500 updates; accuracy as the mean "
    "over all updates, a measure of speed.",
    scenarios=("krum-4",),
    statements=(
        *(
            Statement(
                f"average without an attack minus Multi-Krum (m={m}) under attack",
                lambda runs, m=m: minus(
                    runs["krum-4"]("average", "none", report="area"),
                    runs["krum-4"](f"multi_krum m={m}", "gaussian", report="area"),
                ),
                high=0.02,
            )
            for m in (12, 14)
        ),
        Statement(
            "average without an attack minus Krum under attack",
            lambda runs: minus(
                runs["krum-4"]("average", "none", report="area"), runs["krum-4"]("krum", "gaussian", report="area")
            ),
            low=0.05,
        ),
    ),
    figure=("krum-4", {"col": "attack"}),
)
