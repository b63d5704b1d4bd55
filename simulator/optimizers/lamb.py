"""LAMB (You et al. 2020), by optax."""

from byzax.simulator.optimizers._optax import build_optimizer

lamb = build_optimizer("lamb", learning_rate=0.001)
