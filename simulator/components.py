"""The parts of a scenario that have a name and options: their types are made from the signatures of the factories."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import jax
import jax.numpy as jnp
import optax
from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Strict, Tag, TypeAdapter, create_model

from byzax import aggregators, attacks, models
from byzax.aggregators import filters, pre
from byzax.simulator import augmentations, data, latency, partitions, rates, registry, schedules
from byzax.simulator.file_cache import reads


class Description(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """Frozen and strict: an unknown key, a wrong type, NaN and infinity are errors."""


class Component(Description, frozen=True):
    """A part that is chosen by `name`; its other fields are the options of the function of that name."""

    name: str

    def options(self) -> dict[str, Any]:
        """The keyword arguments for the function of this name."""
        # what the base has besides belongs to byzax and not to that function
        common = type(self).__mro__[1].model_fields  # pyright: ignore[reportAttributeAccessIssue]
        chosen = {field: getattr(self, field) for field in type(self).model_fields if field not in {"name", *common}}
        # rules know nothing of descriptions
        return {
            field: {"name": value.name, **value.options()} if isinstance(value, NestedRule) else value
            for field, value in chosen.items()
        }


class NestedRule(Component, frozen=True):
    """A rule that is an option of another rule."""


# The file that the function behind each type of a part is from.
files: dict[type[Component], str] = {}


def one_of(
    kind: str,
    factories: dict[str, Callable[..., Any]],
    base: type[Component] = Component,
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """The type of a field that holds one of `factories`: a mapping with `name` and options, or the bare name.

    `aliases`: other names that may be written for some of them.

    Whoever names a file that cannot be used, or a function whose options cannot be written in YAML, gets PluginError,
    which names the file.
    """
    members = []
    for name, function in [*factories.items()]:
        try:
            with registry.named(registry.file_of(function)):
                members.append(_component(kind, name, function, base))
        except registry.PluginError as error:
            registry.leave_out(kind, name, error)
            # nobody else is to take it for one that can be used
            del factories[name]
    unusable = registry.unusable_of(kind)
    # pydantic refuses a discriminator where there is nothing to choose from.
    union = Annotated[Union[tuple(members)], Field(discriminator="name")] if len(members) > 1 else members[0]  # noqa: UP007
    # a plug-in may have a name that is ours for something else
    aliases = {alias: name for alias, name in aliases.items() if alias not in factories}
    names: Any = Literal[(*factories, *aliases)]
    return Annotated[union, BeforeValidator(partial(_named, aliases, unusable), json_schema_input_type=names | union)]


def _named(aliases: Mapping[str, str], unusable: Mapping[str, registry.PluginError], value: Any) -> Any:
    """A part as a mapping, its alias replaced. Raises PluginError where its file cannot be used."""
    named = {"name": value} if isinstance(value, str) else value
    if isinstance(named, Mapping) and isinstance(name := named.get("name"), str):
        if name in unusable:
            raise registry.PluginError(str(unusable[name]))
        if name in aliases:
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
            default = ... if option.default is option.empty else option.default
            if option.annotation == aggregators.Nested:
                known = default if default is ... else TypeAdapter(_nested()).validate_python(default)
                fields[option.name] = _nested(), known
            else:
                fields[option.name] = _from_yaml(option.annotation), default
    summary = (inspect.getdoc(function) or "").split("\n")[0]
    made = create_model(f"{name}_{kind}", __base__=base, __doc__=summary, **fields)
    files[made] = registry.file_of(function)
    return made


@cache
def _nested() -> Any:
    """The type of an option that is a rule: any but those that have such an option themselves."""
    simple = {
        name: function
        for name, function in RULES.items()
        if all(
            option.annotation != aggregators.Nested
            for option in inspect.signature(function, eval_str=True).parameters.values()
        )
    }
    return one_of("rule", simple, NestedRule)


def _from_yaml(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return Union[tuple(map(_from_yaml, get_args(annotation)))]  # noqa: UP007
    # YAML has lists and no tuples; a frozen description has tuples and no lists.
    return Annotated[annotation, Strict(False)] if get_origin(annotation) is tuple else annotation


def reads_files(part: Component) -> None:
    """Note that what is made of a part depends on the files that its options name, as FILE or FILE:NAME."""
    for value in part.options().values():
        if isinstance(value, str):
            for name in {value, value.rpartition(":")[0]} - {""}:
                reads(Path(name))


RULES = registry.members(aggregators)
PRE = registry.members(pre)
FILTERS = registry.members(filters)
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


# Optimizers with a correction for the start of their moving means, which some papers and codes leave out; and what
# these means of the gradients and of their squares begin with in optax, where papers begin elsewhere.
CORRECTED = ("adam", "adamw", "yogi")
MOMENTS = {"adam": (0.0, 0.0), "yogi": (1e-6, 1e-6)}
UNCORRECTED = """bias_correction: false leaves out the division by 1 - b1^t and 1 - b2^t ({who})."""
BEGINNING = """first_moment and second_moment are what the moving means of gradients and of their squares begin with. As
in Reddi et al., ICLR 2021 ("Adaptive Federated Optimization"): bias_correction: false, b2: 0.99, eps: 1e-3,
first_moment: 0, second_moment: 1e-6 (eps²). Zaheer et al. 2018 (Yogi) have no correction either."""


def _optimizer(name: str, learning_rate: float) -> Callable[..., optax.GradientTransformation]:
    """optax's function of this name, with those of its options that are plain numbers or switches."""
    function = getattr(optax, name)
    share: Any = Annotated[float, Field(ge=0, lt=1)]
    types: dict[str, Any] = {"learning_rate": RATE, "momentum": share | None, "bias_correction": bool}
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


# optax's optimizers that need nothing but the gradient, with the learning rate used when a scenario gives none.
OPTIMIZERS = {
    name: _optimizer(name, learning_rate)
    for name, learning_rate in {
        "sgd": 0.1, "adam": 1e-3, "adamw": 1e-3, "adagrad": 0.1, "adamax": 1e-3, "lamb": 1e-3, "lion": 1e-4,
        "nadam": 1e-3, "rmsprop": 1e-3, "yogi": 1e-3,
    }.items()
}  # fmt: skip
