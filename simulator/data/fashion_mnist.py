"""Fashion-MNIST (Xiao et al. 2017): pictures of clothes, 28x28 pixels."""

from byzax.options import checked
from byzax.simulator.data import _files, _idx
from byzax.simulator.data.base import Dataset

MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
)
# of the published .gz files; files you provide yourself may be packed differently and are not held to these
SHA256 = {
    "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


@checked
def fashion_mnist(*, root: str | None = None) -> Dataset:
    """Fashion-MNIST, `[70000, 28, 28]` in [0, 1], from IDX files (gzip or not) or downloaded once with a checksum.

    The files are looked for in `root`, or without one in $BYZAX_DATA (in the folder itself or in its sub-folder
    `fashion_mnist`), then in `data/fashion_mnist` of the cache folder ($BYZAX_CACHE, else the user's).

    Samples: 60,000 training and 10,000 test images of 10 labels

    Args:
        root: Folder of the four files. None: $BYZAX_DATA, else the cache folder.

    Returns:
        The data set.

    Raises:
        DataError: Where a file is missing and cannot be downloaded, or is damaged.

    References:
        Xiao, Rasul and Vollgraf 2017, "Fashion-MNIST: a novel image dataset"
    """
    return _idx.load(
        "fashion_mnist", _files.find_folder("fashion_mnist", _idx.FILES, root, _idx.build_fetches(MIRRORS, SHA256))
    )
