"""Adagrad (Duchi et al. 2011), by optax."""

from byzax.simulator.optimizers._optax import build_optimizer

adagrad = build_optimizer("adagrad", learning_rate=0.1)
