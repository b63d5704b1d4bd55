"""ByzSGD's servers drift apart unless they exchange models now and then (El Mhamdi et al. 2022)."""

from byzax.experiments.reproduction.target import Statement, Target, minus

SINGLE = "parameter_server"
GATHER, SCATTER = (
    f"byzsgd servers=5 byzantine_servers=1 gather_every={every} server_attack=random_model" for every in (10, 1000)
)

TARGET = Target(
    title="Servers that exchange models every tenth update stay together",
    paper="El Mhamdi, Farhadkhani, Guerraoui, Guirguis, Hoang and Rouault 2022, Genuinely Distributed Byzantine "
    "Machine Learning, Distributed Computing",
    place="experiments; the gather step",
    claim="With five servers of which one sends random models and a gather in every tenth update honest servers reach "
    "what one honest server reaches; without it they drift apart.",
    setting="MNIST, MLP 784-100-10, 5 servers with 1 Byzantine, 7 workers with 2 that reverse their rows, Brute (MDA), "
    "SGD 0.1, batch 32, 200 updates, exponential delays.",
    scaled="random models in place of -100 times the model.",
    scenarios=("byzsgd",),
    statements=(
        Statement(
            "one honest server minus ByzSGD with a gather in every tenth update",
            lambda runs: minus(runs["byzsgd"](topology=SINGLE), runs["byzsgd"](topology=GATHER)),
            high=0.02,
        ),
        Statement(
            "one honest server minus ByzSGD without a gather",
            lambda runs: minus(runs["byzsgd"](topology=SINGLE), runs["byzsgd"](topology=SCATTER)),
            low=0.15,
        ),
        Statement(
            "consensus distance without a gather over that with one",
            lambda runs: {
                seed: value / runs["byzsgd"](topology=GATHER, measure="consensus_distance")[seed]
                for seed, value in runs["byzsgd"](topology=SCATTER, measure="consensus_distance").items()
            },
            low=2.0,
        ),
    ),
    figure=("byzsgd", {"hue": "topology", "col": None}),
    remark="Without a gather the honest servers are ten times as far from each other, but lose 9 points in 200 "
    "updates, not 15.",
)
