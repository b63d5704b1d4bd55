"""optax's adam."""

from byzax.simulator.optimizers._optax import adapted

adam = adapted("adam", learning_rate=0.001)
