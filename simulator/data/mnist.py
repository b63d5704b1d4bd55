"""MNIST (LeCun et al. 1998): handwritten digits of 28x28 pixels."""

from byzax.options import checked
from byzax.simulator.data import _files, _idx
from byzax.simulator.data.base import Dataset

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
# of the published .gz files; files you provide yourself may be packed differently and are not held to these
SHA256 = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


@checked
def mnist(*, root: str | None = None) -> Dataset:
    """MNIST, `[70000, 28, 28]` in [0, 1], from IDX files (gzip or not) or downloaded once with a checksum.

    The files are looked for in `root`, or without one in $BYZAX_DATA (in the folder itself or in its sub-folder
    `mnist`), then in `data/mnist` of the cache folder ($BYZAX_CACHE, else the user's).

    Samples: 60,000 training and 10,000 test images of 10 labels

    Args:
        root: Folder of the four files. None: $BYZAX_DATA, else the cache folder.

    Returns:
        The data set.

    Raises:
        DataError: Where a file is missing and cannot be downloaded, or is damaged.

    References:
        LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition"
    """
    return _idx.load("mnist", _files.find_folder("mnist", _idx.FILES, root, _idx.build_fetches(MIRRORS, SHA256)))
