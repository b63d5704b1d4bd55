"""optax's adamax."""

from byzax.simulator.optimizers._optax import adapted

adamax = adapted("adamax", learning_rate=0.001)
