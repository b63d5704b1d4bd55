"""optax's sgd."""

from byzax.simulator.optimizers._optax import adapted

sgd = adapted("sgd", learning_rate=0.1)
