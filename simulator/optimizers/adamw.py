"""optax's adamw."""

from byzax.simulator.optimizers._optax import adapted

adamw = adapted("adamw", learning_rate=0.001)
