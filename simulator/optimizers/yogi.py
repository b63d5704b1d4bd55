"""Yogi (Zaheer et al. 2018), by optax."""

from byzax.simulator.optimizers._optax import build_optimizer

yogi = build_optimizer("yogi", learning_rate=0.001)
