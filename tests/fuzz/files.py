"""Small data files for the choices that need one, the same every time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def _labelled(rng: np.random.Generator, samples: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.permutation(np.arange(samples) % classes)
    centres = 1.5 * rng.normal(size=(classes, features))
    return (centres[labels] + rng.normal(size=(samples, features))).astype(np.float32), labels


def _images(folder: Path) -> dict[str, Any]:
    x, y = _labelled(np.random.default_rng(1), 150, 64, 4)
    low, high = x.min(), x.max()
    np.savez(folder / "images.npz", x=((x - low) / (high - low)).reshape(-1, 8, 8, 1), y=y)
    return {"path": str(folder / "images.npz")}


def _owned(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    x, y = _labelled(rng, 160, 6, 3)
    place = folder / "owned"
    place.mkdir(exist_ok=True)
    for name, values in {
        "x": x,
        "y": y,
        "owners": rng.integers(0, 15, len(y)),
        "x_test": x[:40],
        "y_test": y[:40],
    }.items():
        np.save(place / f"{name}.npy", values)
    return {"path": str(place)}


def _values(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(140, 4)).astype(np.float32)
    np.savez(folder / "values.npz", x=x, y=x @ rng.normal(size=4) + 0.1 * rng.normal(size=140))
    return {"path": str(folder / "values.npz")}


def _tokens(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    whole = (rng.integers(0, 5, 150)[:, None] + rng.integers(1, 5, 150)[:, None] * np.arange(7)) % 5
    np.savez(folder / "tokens.npz", x=whole[:, :-1], y=whole[:, -1])
    return {"path": str(folder / "tokens.npz"), "tokens": True}


def _csv(folder: Path) -> dict[str, Any]:
    x, y = _labelled(np.random.default_rng(5), 130, 3, 3)
    lines = [f"{a:.4f},{'red' if b > 0 else 'blue'},{c:.4f},{label}" for (a, b, c), label in zip(x, y, strict=True)]
    (folder / "table.csv").write_text("\n".join(["length,colour,width,kind", *lines]) + "\n")
    return {"path": str(folder / "table.csv"), "target": "kind"}


def _csv_values(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(120, 3))
    lines = [",".join(f"{value:.4f}" for value in (*row, row.sum())) for row in x]
    (folder / "values.csv").write_text("\n".join(["a,b,c,price", *lines]) + "\n")
    return {"path": str(folder / "values.csv"), "target": "price", "task": "regression"}


def _libsvm(folder: Path) -> dict[str, Any]:
    x, y = _labelled(np.random.default_rng(7), 120, 5, 2)
    lines = [
        f"{2 * label - 1} " + " ".join(f"{i + 1}:{v:.4f}" for i, v in enumerate(row))
        for row, label in zip(x, y, strict=True)
    ]
    (folder / "two.libsvm").write_text("\n".join(lines) + "\n")
    return {"path": str(folder / "two.libsvm")}


def _trace(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(8)
    lines = [f"{worker},{rng.exponential():.4f}" for worker in range(20) for _ in range(3)]
    (folder / "trace.csv").write_text("\n".join(["worker,seconds", *lines]) + "\n")
    return {"file": str(folder / "trace.csv")}


def _module(folder: Path) -> dict[str, Any]:
    lines = [
        "from flax import nnx",
        "class Small(nnx.Module):",
        "    def __init__(self, shape, classes, *, rngs):",
        "        self.layer = nnx.Linear(shape[-1], classes or 1, rngs=rngs)",
        "    def __call__(self, x):",
        "        return self.layer(x.reshape(x.shape[0], -1, x.shape[-1]).mean(axis=1))",
    ]
    (folder / "small.py").write_text("\n".join(lines) + "\n")
    return {"path": f"{folder / 'small.py'}:Small"}


# for each choice that has to be given a file, the options that give it one
MAKERS: dict[str, tuple[Callable[[Path], dict[str, Any]], ...]] = {
    "arrays": (_images, _owned, _values, _tokens),
    "csv": (_csv, _csv_values),
    "libsvm": (_libsvm,),
    "trace": (_trace,),
    "module": (_module,),
}
# data sets that have to be downloaded, or prepared by a tool of somebody else's
ABSENT = {"california", "cifar10", "cifar100", "emnist", "fashion_mnist", "femnist", "mnist", "shakespeare", "svhn"}
# models that take minutes of a CPU for three updates
TOO_LARGE = {"resnet18", "resnet20"}


def made(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Makes all files in a folder; for each choice the options that give it one of them."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: [make(folder) for make in makers] for name, makers in MAKERS.items()}
