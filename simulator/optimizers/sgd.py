"""Stochastic gradient descent, with momentum or without, by optax."""

from byzax.simulator.optimizers._optax import build_optimizer

sgd = build_optimizer("sgd", learning_rate=0.1)
