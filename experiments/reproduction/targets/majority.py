"""The majority of signs withstands workers that flip theirs, until they are half (Bernstein et al. 2019)."""

from byzax.experiments.reproduction.target import Statement, Target, minus

COUNTS = (0, 4, 8, 9, 11)

TARGET = Target(
    title="The majority of signs holds until half of the workers flip theirs",
    paper="Bernstein, Zhao, Azizzadenesheli and Anandkumar 2019, signSGD with Majority Vote, ICLR",
    place="figure on adversaries",
    claim="Accuracy falls slowly with the number of workers that send the signs of their gradient reversed, and is "
    "lost beyond half of them.",
    setting="MNIST, MLP 784-100-10, n=20, f = 0, 4, 8, 9, 11 that reverse their own gradient, sign majority, rate "
    "3e-4, batch 32, 300 updates.",
    scaled="the paper trains ResNet-50 on ImageNet with 7 workers.",
    scenarios=("majority",),
    statements=(
        *(
            Statement(
                f"accuracy, f={count}",
                lambda runs, count=count: runs["majority"](workers__byzantine=count),
                low=0.85 if count <= 9 else None,
                high=None if count <= 9 else 0.15,
                quick=count in (0, 9, 11),
            )
            for count in COUNTS
        ),
        Statement(
            "f=0 minus f=4",
            lambda runs: minus(runs["majority"](workers__byzantine=0), runs["majority"](workers__byzantine=4)),
            high=0.05,
        ),
    ),
    quick={"majority": {"repeats": 1, "grid": {"workers.byzantine": [0, 9, 11]}}},
    figure=("majority", {"hue": "workers.byzantine", "col": None}),
    remark="Nine of 20 leave a majority of two: accuracy has fallen to 0.80, five points below the bound, and is "
    "lost at eleven, as the paper says.",
)
