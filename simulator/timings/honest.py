"""In time: Byzantine workers send when honest ones would."""

from byzax.options import checked
from byzax.simulator.timings.base import Timing


@checked
def honest() -> Timing:
    """Byzantine workers send when honest ones would, by the latency model.

    Sends: by the latency model
    Model: the one handed

    Returns:
        The timing.

    References:
        The protocol, as in all papers of attacks that say nothing of time
    """
    return Timing()
