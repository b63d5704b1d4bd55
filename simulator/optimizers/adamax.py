"""Adamax (Kingma and Ba 2015): Adam with the infinity norm, by optax."""

from byzax.simulator.optimizers._optax import build_optimizer

adamax = build_optimizer("adamax", learning_rate=0.001)
