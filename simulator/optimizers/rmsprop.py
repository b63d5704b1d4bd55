"""optax's rmsprop."""

from byzax.simulator.optimizers._optax import adapted

rmsprop = adapted("rmsprop", learning_rate=0.001)
