"""NAdam (Dozat 2016): Adam with Nesterov momentum, by optax."""

from byzax.simulator.optimizers._optax import build_optimizer

nadam = build_optimizer("nadam", learning_rate=0.001)
