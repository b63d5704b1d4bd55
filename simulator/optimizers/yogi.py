"""optax's yogi."""

from byzax.simulator.optimizers._optax import adapted

yogi = adapted("yogi", learning_rate=0.001)
