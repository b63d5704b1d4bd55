"""CIFAR-100 (Krizhevsky 2009): colour photographs of 32x32 pixels, a hundred kinds of things in twenty groups."""

from typing import Literal

from byzax.options import checked
from byzax.simulator.data import _bytes, _files
from byzax.simulator.data._files import Fetch
from byzax.simulator.data.base import Dataset

FETCH = {
    "cifar-100-binary.tar.gz": Fetch(
        ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    )
}
# which of the two bytes before an image, and how many values it has
LABELS = {"coarse": (0, 20), "fine": (1, 100)}

ORIGIN = (
    "Of the versions at https://www.cs.toronto.edu/~kriz/cifar.html the binary one is read, not the pickles for Python"
)


@checked
def cifar100(*, labels: Literal["fine", "coarse"] = "fine", root: str | None = None) -> Dataset:
    """CIFAR-100, `[60000, 32, 32, 3]` in [0, 1], from its binary version or downloaded once with a checksum (0.2 GB).

    The files are looked for in `root`, or without one in $BYZAX_DATA (in the folder itself, in its sub-folder
    `cifar100`, or in `cifar-100-binary` of either), then in `data/cifar100` of the cache folder. In memory it takes
    0.7 GB.

    Samples: 50,000 training and 10,000 test images of 100 labels (fine), or 20 (coarse)

    Args:
        labels: "fine" for the hundred kinds, "coarse" for their twenty groups.
        root: Folder of the two files. None: $BYZAX_DATA, else the cache folder.

    Returns:
        The data set.

    Raises:
        OptionError: For other `labels`.
        DataError: Where a file is missing and cannot be downloaded, or is damaged.

    References:
        Krizhevsky 2009, "Learning multiple layers of features from tiny images"
    """
    label, classes = LABELS[labels]
    folder = _files.find_folder(
        "cifar100", ("train.bin", "test.bin"), root, FETCH, origin=ORIGIN, inside="cifar-100-binary"
    )
    return _bytes.load("cifar100", folder, ("train.bin",), "test.bin", labels=2, label=label, classes=classes)
