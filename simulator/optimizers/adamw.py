"""AdamW (Loshchilov and Hutter 2019): Adam with decoupled weight decay, by optax."""

from byzax.simulator.optimizers._optax import build_optimizer

adamw = build_optimizer("adamw", learning_rate=0.001)
