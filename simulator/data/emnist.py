"""EMNIST (Cohen et al. 2017): handwritten letters and digits, 28x28 pixels."""

from typing import Literal

from byzax.options import checked
from byzax.simulator.data import _files, _idx
from byzax.simulator.data._files import Fetch
from byzax.simulator.data.base import Dataset

# one archive for all splits
FETCH = {
    "gzip.zip": Fetch(
        ("https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",),
        "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
    )
}
CLASSES = {"balanced": 47, "byclass": 62, "bymerge": 47, "letters": 26, "digits": 10, "mnist": 10}


@checked
def emnist(
    *,
    split: Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"] = "balanced",
    root: str | None = None,
) -> Dataset:
    """EMNIST, images of 28x28 in [0, 1], from IDX files (gzip or not) or downloaded once with a checksum (0.6 GB).

    The files of all splits are one archive and share a folder: `root`, or without one $BYZAX_DATA (itself, its
    sub-folder `emnist` or that one's `gzip`), else `data/emnist` of the cache folder. The images lie on their side in
    the files and are turned upright. In memory a sample takes 3 kB: byclass and bymerge 2.6 GB, balanced 0.4 GB.

    Samples: balanced 131,600 of 47 labels, byclass 814,255 of 62, bymerge of 47, letters 145,600 of 26, digits 280,000

    Args:
        split: "byclass" has digits, capital and small letters; "bymerge" merges those that look alike; "balanced" is
            the same with as many samples of each; "letters" has a label for each of 26 letters of either case; "digits"
            has digits alone; "mnist" is like MNIST.
        root: Folder of the files. None: $BYZAX_DATA, else the cache folder.

    Returns:
        The data set.

    Raises:
        OptionError: For an unknown `split`.
        DataError: Where a file is missing and cannot be downloaded, or is damaged.

    References:
        Cohen, Afshar, Tapson and van Schaik 2017, "EMNIST: an extension of MNIST to handwritten letters"
    """
    files = tuple(
        f"emnist-{split}-{part}-{kind}-ubyte" for part in ("train", "test") for kind in ("images-idx3", "labels-idx1")
    )
    folder = _files.find_folder("emnist", files, root, FETCH, inside="gzip")
    return _idx.load("emnist", folder, files, CLASSES[split], first=int(split == "letters"), turned=True)
