"""Random model: whoever asks gets a model of random numbers (El Mhamdi et al. 2019)."""

import jax

from byzax.attacks.base import Array, Attack, NotNegative, View, check, rank, stateless
from byzax.options import checked


@checked
def random_model(n: int, f: int, *, standard_deviation: NotNegative = 1.0) -> Attack:
    """Each Byzantine sender sends a model of random numbers, another one to every receiver.

    Rows are ways from the receiver's model, so that the row is that model less the random one. It is meant for
    Byzantine servers (`topology.server_attack`) and nodes that send models; of gradients it makes random rows.

    Formula: w - N(0, standard_deviation² I), w the receiver's model
    Knows: nothing

    Args:
        n: Number of senders.
        f: Number of Byzantine ones among them.
        standard_deviation: Of each parameter of the random model.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        El Mhamdi, Guerraoui, Guirguis, Rouault 2019, "SGD: Decentralized Byzantine Resilience", experiments
    """
    check("random_model", n, f)

    def make_rows(key: Array, view: View) -> Array:
        draws = jax.random.normal(key, (max(f, 1), view.rows.shape[1]), view.rows.dtype)
        return view.params - standard_deviation * draws[rank(view.byzantine)]

    return stateless(make_rows, reads_own=False)
