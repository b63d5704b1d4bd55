"""RMSProp (Tieleman and Hinton 2012), by optax."""

from byzax.simulator.optimizers._optax import build_optimizer

rmsprop = build_optimizer("rmsprop", learning_rate=0.001)
