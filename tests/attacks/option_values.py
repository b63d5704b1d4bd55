"""Values of options, from their types: the nearest ones on both sides of each bound, and of other types."""

import math
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np


def kinds(annotation: Any) -> list[tuple[Any, list[Any]]]:
    """The types of which a value may be one, each with the bounds that stand beside it."""
    if get_origin(annotation) in (Union, UnionType):
        return [kind for each in get_args(annotation) for kind in kinds(each)]
    if get_origin(annotation) is Annotated:
        inner, *beside = get_args(annotation)
        bounds = [bound for field in beside for bound in getattr(field, "metadata", [])]
        return [(kind, [*own, *bounds]) for kind, own in kinds(inner)]
    return [(annotation, [])]


def _beside(kind: Any, value: float, direction: int) -> float:
    return value + direction if kind is int else float(np.nextafter(value, direction * math.inf))


def values(annotation: Any) -> tuple[list[Any], list[Any]]:
    """Values of an option that are refused, and values that are taken.

    Args:
        annotation: The type of the option. The ranges of a union must not meet: what one of its types refuses is
            refused.
    """
    refused, taken = [], []
    for kind, bounds in kinds(annotation):
        for bound in bounds:
            for name, direction, inside in (("ge", -1, 0), ("gt", 0, 1), ("le", 1, 0), ("lt", 0, -1)):
                limit = getattr(bound, name, None)
                if limit is not None:
                    refused.append(_beside(kind, limit, direction) if direction else limit)
                    taken.append(_beside(kind, limit, inside) if inside else limit)
            if getattr(bound, "allow_inf_nan", None) is False:
                refused += [math.inf, math.nan]
        if kind is float and any(hasattr(bound, "ge") or hasattr(bound, "gt") for bound in bounds):
            refused.append(math.nan)
        if get_origin(kind) is Literal:
            taken += get_args(kind)
            if all(isinstance(each, int) for each in get_args(kind)):
                refused.append(max(get_args(kind)) + 1)
        if get_origin(kind) is tuple:
            wrong, right = values(get_args(kind)[0])
            refused += [(each,) for each in wrong]
            taken += [(each,) for each in right]
        if kind is bool:
            taken += [True, False]
    every = {kind for kind, _ in kinds(annotation)}
    refused += [] if str in every else ["no such word"]
    refused += [] if float in every else [0.5]
    return refused, taken
