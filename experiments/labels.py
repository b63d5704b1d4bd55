"""Labels of parts in tables, plots and names of folders: the name, and the options in which parts differ."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from byzax.experiments.settings import without_defaults
from byzax.simulator.config.part import NestedPart, Part
from byzax.simulator.mistakes import on_one_line


def labels(parts: Iterable[Part]) -> dict[Part, str]:
    """Names of components in tables, one for each different component.

    A label holds the component's name and the options that differ from their defaults. Settings that byzax has for all
    components of a kind (the workers and updates of an attack) are named only where components of one name differ in
    them.
    Attacks at the same time are joined by +. Where all components have the same name, the label holds only the
    differences.

    Args:
        parts: The components; the same one may occur several times.

    Returns:
        The label of each component.
    """
    different = list(dict.fromkeys(parts))
    together = [[part, *getattr(part, "beside", ())] for part in different]
    alike = len(different) > 1 and len({tuple(each.name for each in one) for one in together}) == 1
    labels = {}
    for part, one in zip(different, together, strict=True):
        named = []
        for place, each in enumerate(one):
            counterparts = [other[place] for other in together if place < len(other)]
            options = _options(each, [other for other in counterparts if other.name == each.name], alike)
            if not place or options or not alike:
                named.append(on_one_line({"name": each.name, **options}))
        labels[part] = " + ".join(named)
    return dict(zip(labels, number_duplicates([*labels.values()]), strict=True))


def number_duplicates(texts: Sequence[str]) -> list[str]:
    """Numbers equal texts, such as functions of the user's own with the same name.

    Args:
        texts: The texts.

    Returns:
        The texts in the same order, all different.

    Example:
        >>> number_duplicates(["mine", "krum", "mine"])
        ['mine (1)', 'krum', 'mine (2)']
    """
    often, seen = Counter(texts), Counter[str]()
    found = []
    for text in texts:
        seen[text] += 1
        found.append(f"{text} ({seen[text]})" if often[text] > 1 else text)
    return found


def _options(part: Part, namesakes: Sequence[Part], alike: bool) -> dict[str, Any]:
    """The options of a component in its label; with `alike` only those in which it and its namesakes differ."""
    own, values = part.options(), part.model_dump(exclude={"name", "beside"})
    return {
        key: without_defaults(getattr(part, key)) if isinstance(getattr(part, key), NestedPart) else _short(value)
        for key, value in values.items()
        if any(getattr(other, key) != getattr(part, key) for other in namesakes)
        or (
            key in own
            and not alike
            and without_defaults(getattr(part, key)) != without_defaults(type(part).model_fields[key].default)
        )
    }


def _short(value: Any) -> Any:
    """The name alone of a part that has no other setting: honest for {name: honest}."""
    return value["name"] if isinstance(value, Mapping) and set(value) == {"name"} else value
