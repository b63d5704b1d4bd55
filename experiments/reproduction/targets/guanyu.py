"""Six servers of which one lies learn, one server that lies does not (El Mhamdi et al. 2019, GuanYu)."""

from byzax.experiments.reproduction.target import Statement, Target, minus

SINGLE = "parameter_server"
LYING = "guanyu servers=1 byzantine_servers=1 unproven=true server_attack=sign_flip scale=100"
REVERSED = "guanyu servers=6 byzantine_servers=1 server_attack=sign_flip scale=100"
RANDOM = "guanyu servers=6 byzantine_servers=1 server_attack=random_model"

TARGET = Target(
    title="Several servers withstand a lying one",
    paper="El Mhamdi, Guerraoui, Guirguis and Rouault 2019, SGD: Decentralized Byzantine Resilience",
    place="experiments",
    claim="A single server that lies ruins training; with six servers of which one lies the honest ones stay together "
    "and learn as one honest server does.",
    setting="MNIST, MLP 784-100-10, 6 servers with 1 Byzantine (reversed steps times 100, or random models), 18 "
    "workers with 5 that reverse their rows, Multi-Krum, SGD 0.1, batch 32, 200 updates, exponential delays.",
    scaled="the paper trains on CIFAR-10.",
    scenarios=("guanyu",),
    statements=(
        Statement(
            "accuracy, one server that lies",
            lambda runs: runs["guanyu"](topology=LYING),
            high=0.20,
        ),
        *(
            Statement(
                f"one honest server minus GuanYu, {words}",
                lambda runs, label=label: minus(runs["guanyu"](topology=SINGLE), runs["guanyu"](topology=label)),
                high=0.02,
            )
            for label, words in ((REVERSED, "reversed steps"), (RANDOM, "random models"))
        ),
        *(
            Statement(
                f"consensus distance of the honest servers, {words}",
                lambda runs, label=label: runs["guanyu"](topology=label, measure="consensus_distance"),
            )
            for label, words in ((REVERSED, "reversed steps"), (RANDOM, "random models"))
        ),
    ),
    figure=("guanyu", {"hue": "topology", "col": None}),
)
