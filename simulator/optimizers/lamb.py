"""optax's lamb."""

from byzax.simulator.optimizers._optax import adapted

lamb = adapted("lamb", learning_rate=0.001)
