"""CIFAR-10 (Krizhevsky 2009): colour photographs of 32x32 pixels, ten kinds of things."""

from byzax.options import checked
from byzax.simulator.data import _bytes, _files
from byzax.simulator.data._files import Fetch
from byzax.simulator.data.base import Dataset

TRAIN, TEST = tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"
FETCH = {
    "cifar-10-binary.tar.gz": Fetch(
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    )
}

ORIGIN = (
    "Of the versions at https://www.cs.toronto.edu/~kriz/cifar.html the binary one is read, not the pickles for Python"
)


@checked
def cifar10(*, root: str | None = None) -> Dataset:
    """CIFAR-10, `[60000, 32, 32, 3]` in [0, 1], from its binary version or downloaded once with a checksum (0.2 GB).

    The files are looked for in `root`, or without one in $BYZAX_DATA (in the folder itself, in its sub-folder
    `cifar10`, or in `cifar-10-batches-bin` of either), then in `data/cifar10` of the cache folder. In memory it takes
    0.7 GB.

    Samples: 50,000 training and 10,000 test images of 10 labels

    Args:
        root: Folder of the six files. None: $BYZAX_DATA, else the cache folder.

    Returns:
        The data set.

    Raises:
        DataError: Where a file is missing and cannot be downloaded, or is damaged.

    References:
        Krizhevsky 2009, "Learning multiple layers of features from tiny images"
    """
    folder = _files.find_folder("cifar10", (*TRAIN, TEST), root, FETCH, origin=ORIGIN, inside="cifar-10-batches-bin")
    return _bytes.load("cifar10", folder, TRAIN, TEST, labels=1, label=0, classes=10)
