"""optax's adagrad."""

from byzax.simulator.optimizers._optax import adapted

adagrad = adapted("adagrad", learning_rate=0.1)
