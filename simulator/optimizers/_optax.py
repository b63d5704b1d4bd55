"""Optimizers of optax as parts: their options that are numbers or switches, with ranges and with papers' variants."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from pydantic import Field

from byzax.simulator.config.rates import Rate

NOT_NEGATIVE = Annotated[float, Field(ge=0)]
# Optimizers with a correction for the start of their moving means, which some papers and codes leave out; and what
# these means of the gradients and of their squares begin with in optax, where papers begin elsewhere.
CORRECTED = ("adam", "adamw", "yogi")
MOMENTS = {"adam": (0.0, 0.0), "yogi": (1e-6, 1e-6)}
UNCORRECTED = """bias_correction: false leaves out the division by 1 - b1^t and 1 - b2^t ({who})."""
BEGINNING = """first_moment and second_moment are what the moving means of gradients and of their squares begin with. As
in Reddi et al., ICLR 2021 ("Adaptive Federated Optimization"): bias_correction: false, b2: 0.99, eps: 1e-3,
first_moment: 0, second_moment: 1e-6 (eps²). Zaheer et al. 2018 (Yogi) have no correction either."""


def adapted(name: str, learning_rate: float) -> Callable[..., optax.GradientTransformation]:
    """optax's function of this name, with those of its options that are plain numbers or switches.

    Args:
        name: In optax.
        learning_rate: The default of the option `learning_rate`.

    Returns:
        A function of keyword arguments that gives an `optax.GradientTransformation`.
    """
    function = getattr(optax, name)
    share: Any = Annotated[float, Field(ge=0, lt=1)]
    types: dict[str, Any] = {"learning_rate": Rate, "momentum": share | None, "bias_correction": bool}
    types["first_moment"] = float
    types |= dict.fromkeys(("b1", "b2", "decay"), share)
    options = [
        option.replace(
            kind=option.KEYWORD_ONLY,
            default=learning_rate if option.name == "learning_rate" else option.default,
            annotation=bool if isinstance(option.default, bool) else types.get(option.name, NOT_NEGATIVE),
        )
        for option in inspect.signature(function).parameters.values()
        if option.name in {"learning_rate", "momentum"} or isinstance(option.default, (bool, float))
    ]

    own = {"bias_correction": True} if name in CORRECTED else {}
    own |= dict(zip(("first_moment", "second_moment"), MOMENTS.get(name, ()), strict=False))
    options += [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=types.get(key, NOT_NEGATIVE))
        for key, value in own.items()
    ]

    def build(**chosen: Any) -> optax.GradientTransformation:
        begin = {key: chosen.pop(key, value) for key, value in own.items()}
        made = function(**chosen)
        return made if begin == own else _begun(made, **begin)

    words = [inspect.getdoc(function) or ""]
    if name in CORRECTED:
        who = "Reddi et al. 2021, FedAdam and FedYogi" if name in MOMENTS else "as in BERT's code"
        words.append(UNCORRECTED.format(who=who))
    if name in MOMENTS:
        words.append(BEGINNING)
    build.__name__ = build.__qualname__ = name
    build.__module__ = f"byzax.simulator.optimizers.{name}"
    build.__doc__ = "\n\n".join(words)
    build.__signature__ = inspect.Signature(options)  # pyright: ignore[reportFunctionMemberAccess]
    return build


def _begun(
    made: optax.GradientTransformation,
    bias_correction: bool,
    first_moment: float | None = None,
    second_moment: float | None = None,
) -> optax.GradientTransformation:
    """An optimizer whose moving means begin elsewhere (None: as they are), with or without the correction for that."""

    def begin(state: Any) -> Any:
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
        return jax.tree.map(begin, made.init(params), is_leaf=lambda state: isinstance(state, optax.ScaleByAdamState))

    return optax.GradientTransformation(init, made.update)
