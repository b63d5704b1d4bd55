"""Lion (Chen et al. 2023), by optax."""

from byzax.simulator.optimizers._optax import build_optimizer

lion = build_optimizer("lion", learning_rate=0.0001)
