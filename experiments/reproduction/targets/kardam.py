"""A filter makes an asynchronous server withstand Byzantine workers (Damaskinos et al. 2018)."""

from byzax.experiments.reproduction.target import Statement, Target, minus

RENEWED = "kardam dampening=constant coefficients=renewed"
KEPT = "kardam dampening=constant"

TARGET = Target(
    title="Kardam makes asynchronous learning withstand Byzantine workers",
    paper="Damaskinos, El Mhamdi, Guerraoui, Patra and Taziki 2018, Asynchronous Byzantine Machine Learning, ICML",
    place="section 5",
    claim="With fewer than a third of the workers Byzantine an asynchronous server fails, and converges with Kardam in "
    "front of it; without Byzantine workers Kardam costs little.",
    setting="MNIST, MLP 784-100-10, n=13, f=4, every row an update, jobs of lognormal duration (sigma 0.5), sign flip "
    "times 10, SGD 0.1, batch 32, 3,000 updates, Kardam without dampening; coefficients of workers kept, or renewed at "
    "the present model.",
    scaled="the paper trains on CIFAR-100 and EMNIST.",
    scenarios=("kardam",),
    statements=(
        Statement(
            "accuracy under attack, no filter",
            lambda runs: runs["kardam"](attack="sign_flip scale=10", filter="null"),
            high=0.20,
        ),
        Statement(
            "accuracy under attack, Kardam with kept coefficients",
            lambda runs: runs["kardam"](attack="sign_flip scale=10", filter=KEPT),
            low=0.85,
        ),
        Statement(
            "accuracy under attack, Kardam with renewed coefficients",
            lambda runs: runs["kardam"](attack="sign_flip scale=10", filter=RENEWED),
            low=0.85,
        ),
        Statement(
            "without an attack: no filter minus Kardam with kept coefficients",
            lambda runs: minus(
                runs["kardam"](attack="none", filter="null"), runs["kardam"](attack="none", filter=KEPT)
            ),
            high=0.05,
        ),
        Statement(
            "without an attack: no filter minus Kardam with renewed coefficients",
            lambda runs: minus(
                runs["kardam"](attack="none", filter="null"), runs["kardam"](attack="none", filter=RENEWED)
            ),
            high=0.05,
        ),
    ),
    figure=("kardam", {"hue": "filter", "col": "attack"}),
)
