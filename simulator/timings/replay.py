"""Replay in time: Byzantine workers send in time what they compute from an old model."""

from byzax.options import checked
from byzax.simulator.timings.base import Count, Reply, Timing


@checked
def replay(*, age: Count = 10) -> Timing:
    """Byzantine workers send in time, from a model `age` updates older than the one handed, unseen by the server.

    Sends: in time
    Model: the one of `age` updates before

    Args:
        age: Updates between the model handed and the one the row is from.

    Returns:
        The timing.

    Raises:
        OptionError: For an `age` below 1.

    References:
        None known to us; a replay as in network protocols
    """
    old = Reply(older=age)
    return Timing(reply=lambda board, worker, last: old, oldest=age)
