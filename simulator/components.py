"""The parts of a scenario that have a name and options: their types are made from the signatures of the factories."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Union, get_origin

import optax
from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Strict, Tag, create_model

import aggregators
import aggregators.filters
import aggregators.pre
import attacks
import models
from simulator import augmentations, data, latency, partitions, rates, registry, schedules
from simulator.file_cache import reads


class Description(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """Frozen and strict: an unknown key, a wrong type, NaN and infinity are errors."""


class Component(Description, frozen=True):
    """A part that is chosen by `name`; its other fields are the options of the function of that name."""

    name: str

    def options(self) -> dict[str, Any]:
        """The keyword arguments for the function of this name."""
        # what the base has besides belongs to byzax and not to that function
        common = type(self).__mro__[1].model_fields  # pyright: ignore[reportAttributeAccessIssue]
        return {field: getattr(self, field) for field in type(self).model_fields if field not in {"name", *common}}


def one_of(
    kind: str,
    factories: dict[str, Callable[..., Any]],
    base: type[Component] = Component,
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """The type of a field that holds one of `factories`: a mapping with `name` and options, or the bare name.

    `aliases`: other names that may be written for some of them.

    Raises PluginError, naming the file, where the options of a function cannot be written in YAML.
    """
    members = []
    for name, function in factories.items():
        with registry.named(registry.file_of(function)):
            members.append(_component(kind, name, function, base))
    # pydantic refuses a discriminator where there is nothing to choose from.
    union = Annotated[Union[tuple(members)], Field(discriminator="name")] if len(members) > 1 else members[0]  # noqa: UP007
    # a plug-in may have a name that is ours for something else
    aliases = {alias: name for alias, name in aliases.items() if alias not in factories}
    names: Any = Literal[(*factories, *aliases)]
    return Annotated[union, BeforeValidator(partial(_named, aliases), json_schema_input_type=names | union)]


def _named(aliases: Mapping[str, str], value: Any) -> Any:
    named = {"name": value} if isinstance(value, str) else value
    if isinstance(named, Mapping) and isinstance(name := named.get("name"), str) and name in aliases:
        return {**named, "name": aliases[name]}
    return named


def _component(kind: str, name: str, function: Callable[..., Any], base: type[Component]) -> type[Component]:
    fields: dict[str, Any] = {"name": (Literal[name], name)}
    for option in inspect.signature(function, eval_str=True).parameters.values():
        if option.kind is option.KEYWORD_ONLY:
            if option.name in base.model_fields:
                raise TypeError(
                    f"the option {option.name} of {name} has the name of a setting that every {kind} has: rename it"
                )
            if option.annotation is option.empty:
                raise TypeError(f"the option {option.name} of {name} needs a type, such as {option.name}: float")
            fields[option.name] = (
                _from_yaml(option.annotation),
                ... if option.default is option.empty else option.default,
            )
    summary = (inspect.getdoc(function) or "").split("\n")[0]
    return create_model(f"{name}_{kind}", __base__=base, __doc__=summary, **fields)


def _from_yaml(annotation: Any) -> Any:
    # YAML has lists and no tuples; a frozen description has tuples and no lists.
    return Annotated[annotation, Strict(False)] if get_origin(annotation) is tuple else annotation


def reads_files(part: Component) -> None:
    """Note that what is made of a part depends on the files that its options name, as FILE or FILE:NAME."""
    for value in part.options().values():
        if isinstance(value, str):
            for name in {value, value.rpartition(":")[0]} - {""}:
                reads(Path(name))


RULES = registry.members(aggregators)
PRE = registry.members(aggregators.pre)
FILTERS = registry.members(aggregators.filters)
ATTACKS = registry.members(attacks)
MODELS = registry.members(models)
DATA = registry.members(data)
PARTITIONS = registry.members(partitions)
AUGMENTATIONS = registry.members(augmentations)
SCHEDULES = registry.members(schedules)
LATENCIES = registry.members(latency)
RATES = registry.members(rates)


class RateSource(Component, frozen=True):
    """How a learning rate changes over a run."""

    warm_up: int = Field(
        default=0, ge=0, description="Updates before it begins, in which the rate rises in equal steps to its start."
    )


# told apart by what is written, so that a mistake is one of this kind and not of both
RATE: Any = Annotated[
    Annotated[float, Field(gt=0), Tag("number")] | Annotated[one_of("rate", RATES, RateSource), Tag("rate")],
    Discriminator(lambda value: "number" if type(value) in (int, float) else "rate"),
]
NOT_NEGATIVE = Annotated[float, Field(ge=0)]


def _optimizer(name: str, learning_rate: float) -> Callable[..., optax.GradientTransformation]:
    """optax's function of this name, with those of its options that are plain numbers or switches."""
    function = getattr(optax, name)
    share: Any = Annotated[float, Field(ge=0, lt=1)]
    types: dict[str, Any] = {"learning_rate": RATE, "momentum": share | None}
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

    def build(**chosen: Any) -> optax.GradientTransformation:
        return function(**chosen)

    build.__doc__ = inspect.getdoc(function)
    build.__signature__ = inspect.Signature(options)  # pyright: ignore[reportFunctionMemberAccess]
    return build


# optax's optimizers that need nothing but the gradient, with the learning rate used when a scenario gives none.
OPTIMIZERS = {
    name: _optimizer(name, learning_rate)
    for name, learning_rate in {
        "sgd": 0.1, "adam": 1e-3, "adamw": 1e-3, "adagrad": 0.1, "adamax": 1e-3, "lamb": 1e-3, "lion": 1e-4,
        "nadam": 1e-3, "rmsprop": 1e-3, "yogi": 1e-3,
    }.items()
}  # fmt: skip
