"""optax's nadam."""

from byzax.simulator.optimizers._optax import adapted

nadam = adapted("nadam", learning_rate=0.001)
