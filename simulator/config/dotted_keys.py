"""Dotted keys of a description, such as `rule.name`: they are checked, and values are put at them."""

import difflib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from byzax.members import PluginError
from byzax.options import PartError
from byzax.simulator.config.base import thaw
from byzax.simulator.config.choices import choice_of
from byzax.simulator.config.part import Choice
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import LONGEST_VALUE, ScenarioError, quote


def put(mapping: Mapping[str, Any], key: str, value: Any, description: type[BaseModel] = Study) -> dict[str, Any]:
    """Puts a value at a dotted key of a mapping.

    A part is a bare name or a mapping. A new name replaces the whole part: options written for another name do not
    carry over, but the settings that all parts of the kind share do.

    Args:
        mapping: The mapping.
        key: The dotted key.
        value: The value; of a grid as a study holds it, frozen.
        description: Class that the mapping describes.

    Returns:
        A copy of the mapping with the value.

    Raises:
        ScenarioError: Where the key goes through a value that has no keys.

    Example:
        >>> put({"rule": {"name": "krum", "distance": "plain"}}, "rule.name", "median")
        {'rule': {'name': 'median'}}
        >>> put({"rule": "krum"}, "rule.distance", "plain")
        {'rule': {'name': 'krum', 'distance': 'plain'}}
    """
    return _put(mapping, key.split("."), thaw(value), "", description)


def _put(
    mapping: Mapping[str, Any], path: list[str], value: Any, above: str, description: type[BaseModel] | None
) -> dict[str, Any]:
    head, *rest = path
    place = f"{above}{head}"
    field = description.model_fields.get(head) if description else None
    choice = choice_of(field.annotation, field.metadata) if field else None
    old = mapping.get(head, _default_name(field.default) if field else None)
    inside = {"name": old} if choice and (isinstance(old, str) or callable(old)) else old
    kept = {key: each for key, each in inside.items() if key in _shared(choice)} if isinstance(inside, dict) else {}
    if rest == ["name"] and choice:
        same = isinstance(inside, dict) and inside.get("name") == value
        new = inside if same else {"name": value, **kept}
    elif rest:
        if inside is not None and not isinstance(inside, dict):
            raise ScenarioError(f"{place}.{'.'.join(rest)}: unknown key; {place} is {quote(inside)} and has no keys")
        inner = _chosen(choice, inside) if choice else _description(field.annotation) if field else None
        new = _put(inside or {}, rest, value, f"{place}.", inner)
    elif choice and (isinstance(value, (str, dict)) or callable(value)):
        chosen = value if isinstance(value, dict) else {"name": value}
        new = {**chosen, **{key: each for key, each in kept.items() if key not in chosen}}
    else:
        new = value
    return {**mapping, head: new}


def _default_name(default: Any) -> str | None:
    name = getattr(default, "name", default)
    return name if isinstance(name, str) else None


def _shared(choice: Any) -> set[str]:
    """The names of the settings that a part keeps when its name changes."""
    return set(choice.base.model_fields) - {"name"} if isinstance(choice, Choice) else set()


def _chosen(choice: Any, inside: Any) -> type[BaseModel] | None:
    """The description of the part that a mapping names; None where there is none, an error when it is parsed."""
    name = (inside or {}).get("name")
    if name is not None:
        with suppress(PartError, PluginError):
            return choice.type_of(name)
    return choice.base if isinstance(choice, Choice) else None


def _description(annotation: Any) -> type[BaseModel] | None:
    """The class of the description that a field holds; None where it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_description, get_args(annotation))), None)


def unknown_key(key: str, description: type[BaseModel] = Study) -> str:
    """Checks that a dotted key can be one of a description.

    Options of parts depend on the part that is chosen, and are checked when the mapping is parsed.

    Args:
        key: The dotted key.
        description: Class of the description.

    Returns:
        The mistake, without the key; empty where there is none.
    """
    place: type[BaseModel] | None = description
    known: list[str] = []
    names: list[str] = []
    above = ""
    for part in key.split("."):
        if place is None:
            return f"unknown key; {above.removesuffix('.')} has no keys"
        known = [f"{above}{name}" for name in place.model_fields]
        names = [f"{above}{name}.name" for name, each in place.model_fields.items() if _chosen_by_name(each)]
        field = place.model_fields.get(part)
        if field is None:
            break
        choice = choice_of(field.annotation, field.metadata)
        if isinstance(choice, Choice):
            rest = key.removeprefix(f"{above}{part}").removeprefix(".").partition(".")[0]
            if rest not in choice.base.model_fields:
                return ""
            place = choice.base
        elif choice:
            return ""
        else:
            place = _description(field.annotation)
        above += f"{part}."
    else:
        return ""
    near = difflib.get_close_matches(key[:LONGEST_VALUE], [*known, *names], n=1)
    return f"unknown key; {f'did you mean {near[0]!r}?' if near else 'known: ' + ', '.join(known)}"


def _chosen_by_name(field: FieldInfo) -> bool:
    return choice_of(field.annotation, field.metadata) is not None


def put_order(key: str) -> tuple[int, bool]:
    """The sort key of dotted keys, in the order in which their values are put into a mapping.

    Args:
        key: The dotted key.

    Returns:
        The sort key: outer keys come before inner ones, a name before the options beside it.
    """
    # a name decides which other keys there are inside, a whole part decides the name
    return key.removesuffix(".name").count("."), key.endswith(".name")
