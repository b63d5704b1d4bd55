"""Attacks: `build(name, n, f, **options)` returns an `Attack`; one file per attack, found by its name."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.attacks.base import Answer, Attack, Batch, Goal, View, view_of
from byzax.options import Nested

__all__ = ["Answer", "Attack", "Batch", "Goal", "Nested", "View", "available", "build", "factory", "view_of"]

members.open_folder("attack")


def available() -> tuple[str, ...]:
    """The names of all attacks."""
    return members.available("attack")


def factory(reference: str | Callable[..., Attack]) -> Callable[..., Attack]:
    """The function behind an attack's name: `factory("little")(n, f)`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("attack", reference)


def build(name: str, n: int, f: int, **options: Any) -> Attack:
    """The attack of a name.

    Args:
        name: A name of `available()`, or `"path/to/file.py:name"`.
        n: Number of workers.
        f: Number of Byzantine workers among them.
        **options: Those of the attack.

    Returns:
        The attack.

    Raises:
        PartError: For an unknown name or an impossible (n, f); as `OptionError` for an option out of its range.
        PluginError: Where a file of your own cannot be used.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> attack, rows = build("sign_flip", n=3, f=1, scale=2.0), jnp.ones((3, 2))
        >>> view = view_of(rows, jnp.array([True, False, False]))
        >>> attack.forge(jax.random.key(0), view, attack.init(2))[0].tolist()
        [[-2.0, -2.0], [1.0, 1.0], [1.0, 1.0]]
    """
    return factory(name)(n, f, **options)


def __getattr__(name: str) -> Callable[..., Attack]:
    return members.attribute("attack", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
