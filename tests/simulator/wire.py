"""The common part of the tests of transforms: a model, the encodings of all messages, keys and vectors."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator import transforms
from byzax.simulator.transforms import Transform, WireKeys
from tests.reference import packing

# two matrices, one of them an array of four axes, and a vector
SHAPES = ((9, 8), (8,), (3, 3, 2, 4))
D = 9 * 8 + 8 + 3 * 3 * 2 * 4
DRAWS = 4000


def keys_of(own: Any, shared: Any = 0) -> WireKeys:
    return WireKeys(jax.random.key(own), jax.random.fold_in(jax.random.key(99), shared))


def permuted(key: Any, k: int, d: int = D) -> np.ndarray:
    return np.asarray(jax.random.permutation(key, d))[:k]


def drawn_by_seed(k: int) -> packing.Codec:
    return packing.random_k(D, k, lambda seed: permuted(jax.random.key(np.uint32(seed)), k))


def drawn_by_all(k: int, keys: WireKeys) -> packing.Codec:
    return packing.shared_mask(D, k, lambda: permuted(keys.shared, k))


# name in tests -> name, options, and the encoding of a message with the keys of that message
CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "float16": ("float16", {}, lambda keys: packing.float16(D)),
    "bfloat16": ("bfloat16", {}, lambda keys: packing.bfloat16(D)),
    "int8": ("int8", {"block": 50}, lambda keys: packing.int8(D, 50)),
    "int8-wide": ("int8", {"block": 1000}, lambda keys: packing.int8(D, 1000)),
    "qsgd": ("qsgd", {"levels": 5}, lambda keys: packing.qsgd(D, 5)),
    "qsgd-wide": ("qsgd", {"levels": 256}, lambda keys: packing.qsgd(D, 256)),
    "qsgd-elias": ("qsgd", {"levels": 40, "coding": "elias"}, lambda keys: packing.qsgd(D, 40, "elias")),
    "qsgd-elias-few": ("qsgd", {"levels": 1, "coding": "elias"}, lambda keys: packing.qsgd(D, 1, "elias")),
    "terngrad": ("terngrad", {}, lambda keys: packing.terngrad(D)),
    "sign": ("sign", {}, lambda keys: packing.sign(D)),
    "natural": ("natural", {}, lambda keys: packing.natural(D)),
    "top_k": ("top_k", {"share": 0.05}, lambda keys: packing.top_k(D, 8)),
    "top_k-bitmap": ("top_k", {"share": 0.3}, lambda keys: packing.top_k(D, 46)),
    "top_k-dense": ("top_k", {"share": 0.99}, lambda keys: packing.top_k(D, 150)),
    "top_k-error": ("top_k", {"share": 0.05, "error_feedback": True}, lambda keys: packing.top_k(D, 8)),
    "threshold": ("threshold", {"above": 2.2}, lambda keys: packing.threshold(D)),
    "threshold-bitmap": ("threshold", {"above": 0.7}, lambda keys: packing.threshold(D)),
    "threshold-dense": ("threshold", {"above": 1e-9}, lambda keys: packing.threshold(D)),
    "threshold-none": ("threshold", {"above": 1e9}, lambda keys: packing.threshold(D)),
    "random_k": ("random_k", {"share": 0.1}, lambda keys: drawn_by_seed(15)),
    "shared_mask": ("shared_mask", {"share": 0.1}, lambda keys: drawn_by_all(15, keys)),
    "powersgd": ("powersgd", {"rank": 1}, lambda keys: packing.powersgd(SHAPES, 1)),
    "powersgd-2": ("powersgd", {"rank": 2}, lambda keys: packing.powersgd(SHAPES, 2)),
    "ef21": ("ef21", {"inner": {"name": "top_k", "share": 0.05}}, lambda keys: packing.top_k(D, 8)),
    "difference": (
        "difference",
        {"inner": {"name": "random_k", "share": 0.1}, "probability": 0.4},
        lambda keys: packing.difference(D, drawn_by_seed(15)),
    ),
    "difference-mask": (
        "difference",
        {"inner": {"name": "shared_mask", "share": 0.1}, "probability": 0.4},
        # the coin has a key of its own
        lambda keys: packing.difference(
            D, drawn_by_all(15, keys._replace(shared=jax.random.split(keys.shared)[1]))
        ),
    ),
    "difference-elias": (
        "difference",
        {"inner": {"name": "qsgd", "coding": "elias"}, "probability": 0.4},
        lambda keys: packing.difference(D, packing.qsgd(D, 16, "elias")),
    ),
}  # fmt: skip


@cache
def made(case: str, shapes: Any = SHAPES, **options: Any) -> Transform:
    name, given_options, _ = CASES[case]
    transform = transforms.build(name, shapes, **given_options, **options)
    return transform._replace(encode=jax.jit(transform.encode), decode=jax.jit(transform.decode))


def vector_of(seed: int, d: int = D) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=d).astype(np.float32)


def received(transform: Transform, keys: WireKeys, vector: Any) -> np.ndarray:
    """The vector that a receiver makes of a sender's first message."""
    message, _ = transform.encode(keys, jnp.asarray(vector), transform.init())
    return np.asarray(transform.decode(keys, message, transform.init_receiver())[0])


def assert_mean(drawn: np.ndarray, expected: np.ndarray) -> None:
    """Checks the mean of independent draws `[draws, ...]`, of which there are thousands, against what it should be."""
    draws = len(drawn)
    # five standard errors; for numbers that are rarely rounded up Bernstein's term, of 18 ranges over 3 times the
    # draws; and the rounding of a float32
    allowed = 5 * drawn.std(axis=0) / np.sqrt(draws) + 6 * np.ptp(drawn, axis=0).max() / draws
    assert (np.abs(drawn.mean(axis=0) - expected) <= allowed + 1e-6 * np.abs(expected).max()).all()


def squared(vector: Any) -> float:
    return float(np.sum(np.asarray(vector, np.float64) ** 2))
