"""optax's lion."""

from byzax.simulator.optimizers._optax import adapted

lion = adapted("lion", learning_rate=0.0001)
