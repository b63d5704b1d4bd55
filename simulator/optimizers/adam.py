"""Adam (Kingma and Ba 2015), by optax."""

from byzax.simulator.optimizers._optax import build_optimizer

adam = build_optimizer("adam", learning_rate=0.001)
