"""Optimizers of optax as parts: their numbers and switches as options with ranges, and the variants of papers."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from pydantic import Field

from byzax.options import checked
from byzax.simulator.config.rates import RateField

Decay = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

# Optimizers that correct their moving means for the values that these start with, which some papers and codes omit;
# and the start values of the means of gradients and of squared gradients in optax, where papers have others.
CORRECTED = ("adam", "adamw", "yogi")
START_VALUES = {"adam": (0.0, 0.0), "yogi": (1e-6, 1e-6)}

OPTIONS = {
    "momentum": "Decay of the momentum. None: no momentum.",
    "nesterov": "Whether Nesterov momentum is used.",
    "bias_correction": "Whether the moving means are divided by 1 - b1^t and 1 - b2^t; false as {who}.",
    "first_moment": "Start value of the moving mean of the gradients.",
    "second_moment": "Start value of the moving mean of the squared gradients.",
}
VARIANTS = """Variants: as in Reddi et al., ICLR 2021 ("Adaptive Federated Optimization") with bias_correction: false,
b2: 0.99, eps: 1e-3, first_moment: 0, second_moment: 1e-6 (eps²). Zaheer et al. 2018 (Yogi) have no correction
either."""


def build_optimizer(name: str, learning_rate: float) -> Callable[..., optax.GradientTransformation]:
    """Builds the factory of an optimizer of optax, with those of its options that are plain numbers or switches.

    Args:
        name: Name in optax.
        learning_rate: Default of the option `learning_rate`.

    Returns:
        A function of keyword arguments that returns an `optax.GradientTransformation`. Its signature holds the types
        and ranges of the options, and it raises OptionError for an option out of its range.
    """
    function = getattr(optax, name)
    optional: Any = Decay | None  # pyright: ignore[reportOperatorIssue]
    types: dict[str, Any] = {"learning_rate": RateField, "momentum": optional, "bias_correction": bool}
    types["first_moment"] = float
    types |= dict.fromkeys(("b1", "b2", "decay"), Decay)
    parameters = [
        parameter.replace(
            kind=parameter.KEYWORD_ONLY,
            default=learning_rate if parameter.name == "learning_rate" else parameter.default,
            annotation=bool if isinstance(parameter.default, bool) else types.get(parameter.name, NotNegative),
        )
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name in {"learning_rate", "momentum"} or isinstance(parameter.default, (bool, float))
    ]

    # options that optax does not have
    added = {"bias_correction": True} if name in CORRECTED else {}
    added |= dict(zip(("first_moment", "second_moment"), START_VALUES.get(name, ()), strict=False))
    parameters += [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=types.get(key, NotNegative))
        for key, value in added.items()
    ]

    def build(**options: Any) -> optax.GradientTransformation:
        start = {key: options.pop(key, value) for key, value in added.items()}
        optimizer = function(**{"learning_rate": learning_rate} | options)
        return optimizer if start == added else _start_elsewhere(optimizer, **start)

    build.__name__ = build.__qualname__ = name
    build.__module__ = f"byzax.simulator.optimizers.{name}"
    build.__doc__ = _document(name, function, [parameter.name for parameter in parameters])
    # a description holds a schedule as a part; the server has made a function of it when it comes here
    signature = [
        parameter.replace(annotation=Positive | Callable[..., Any]) if parameter.name == "learning_rate" else parameter
        for parameter in parameters
    ]
    build.__signature__ = inspect.Signature(signature)  # pyright: ignore[reportFunctionMemberAccess]
    factory = checked(build)
    factory.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    return factory


def _document(name: str, function: Callable[..., Any], options: list[str]) -> str:
    """The docstring: optax's own, and the options that are byzax's or that it does not describe."""
    who = "in Reddi et al. 2021, FedAdam and FedYogi" if name in START_VALUES else "in BERT's code"
    words = [inspect.getdoc(function) or ""]
    lines = [
        f"  {key}: {OPTIONS[key].format(who=who)}" for key in options if key in OPTIONS or f"  {key}: " not in words[0]
    ]
    if lines:
        words.append("\n".join(["Further options:", *lines]))
    if name in START_VALUES:
        words.append(VARIANTS)
    return "\n\n".join(words)


def _start_elsewhere(
    optimizer: optax.GradientTransformation,
    bias_correction: bool,
    first_moment: float | None = None,
    second_moment: float | None = None,
) -> optax.GradientTransformation:
    """The optimizer with other start values of its moving means (None: the same), with or without their correction."""

    def change(state: Any) -> Any:
        if not isinstance(state, optax.ScaleByAdamState):
            return state
        moments = {
            key: jax.tree.map(lambda old, value=value: jnp.full_like(old, value), getattr(state, key))
            for key, value in (("mu", first_moment), ("nu", second_moment))
            if value is not None
        }
        # the correction of a step that is never reached is 1, and the count stays there
        count = jnp.asarray(state.count)
        count = count if bias_correction else jnp.full_like(count, jnp.iinfo(count.dtype).max)
        return state._replace(count=count, **moments)

    def init(params: Any) -> Any:
        return jax.tree.map(
            change, optimizer.init(params), is_leaf=lambda state: isinstance(state, optax.ScaleByAdamState)
        )

    return optax.GradientTransformation(init, optimizer.update)
