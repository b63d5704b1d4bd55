"""The settings of a run as short texts: subtitles of tables and plots, and the keys in which joined studies differ."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from byzax.simulator.config.grid import OF_COMBINATIONS
from byzax.simulator.config.part import Part
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import label_of, on_one_line

# Keys that change no number of a run, or that tables show elsewhere.
LEFT_OUT = {"name", "seed", "repeats", "executor", "evaluate_every", "skip_impossible", "measure", "log", "record",
            "snapshots", "report", *OF_COMBINATIONS}  # fmt: skip
# The order of settings in a line, and the field's words for keys that have one.
ORDER = ("data", "data.partition", "model", "workers.total", "workers.byzantine", "workers.declared", "workers", "rule",
         "attack", "pre", "steps", "optimizer")  # fmt: skip
WORDS = {"data.partition": "partition", "workers.total": "n", "workers.byzantine": "f", "workers.declared": "declared"}


def settings(scenario: Study) -> dict[str, str]:
    """The settings of a scenario by dotted key.

    Args:
        scenario: The scenario.

    Returns:
        Keys such as `data`, `data.partition`, `data.partition.alpha`, `workers.byzantine` and texts such as `digits`,
        `dirichlet`, `0.1`, `3`. A component's name stands under the key of the component. Keys of every table are
        always there, others where they differ from their defaults.
    """
    always = {
        "data": scenario.data.label,
        "data.partition": scenario.data.partition.label,
        "model": scenario.model.label,
        "workers.total": str(scenario.workers.total),
        "workers.byzantine": str(scenario.workers.byzantine.count),
        "rule": scenario.rule.label,
        "attack": scenario.attack.label,
        "steps": str(scenario.steps),
        "optimizer": scenario.optimizer.label,
        **dict(
            _flat("optimizer.learning_rate", without_defaults(rate)) if (rate := _rate(scenario)) is not None else ()
        ),
    }
    changed = {key: value for key, value in without_defaults(scenario).items() if key not in LEFT_OUT}
    return always | {key.removesuffix(".count"): text for name in changed for key, text in _flat(name, changed[name])}


def _rate(scenario: Study) -> Any:
    """The learning rate at the server; None for an optimizer of the user's own without that option."""
    return scenario.optimizer.options().get("learning_rate")


def without_defaults(value: Any) -> Any:
    """A description as mappings, lists and scalars, without options that have their default values.

    A description without a name, such as `stragglers: {}`, is kept whole where all its options have their defaults: its
    absence has another meaning.

    Args:
        value: A description, mapping, sequence or scalar.

    Returns:
        The same as plain values; a name alone is a text.
    """
    if isinstance(value, BaseModel):
        chosen = {name: getattr(value, name) for name in type(value).model_fields}
        changed = {}
        for name, field in type(value).model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data=chosen)
            if name == "name" or without_defaults(chosen[name]) != without_defaults(default):
                changed[name] = (
                    value.label if name == "name" and isinstance(value, Part) else without_defaults(chosen[name])
                )
        changed = changed or {name: without_defaults(each) for name, each in chosen.items() if each is not None}
        return changed["name"] if set(changed) == {"name"} else changed
    if isinstance(value, Mapping):
        value = {**value, "name": label_of(value["name"])} if "name" in value else value
        return value["name"] if set(value) == {"name"} else {key: without_defaults(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_defaults(each) for each in value]
    return value


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        yield key, on_one_line(value)
        return
    for name, each in value.items():
        yield from _flat(key if name == "name" else f"{key}.{name}", each)


def setting_text(settings: Mapping[str, str], key: str) -> str:
    """The setting at a key of a grid, with the options inside it.

    Args:
        settings: Settings by dotted key.
        key: A key of a grid.

    Returns:
        The text; `default` where there is no setting.

    Example:
        >>> setting_text({"data.partition": "dirichlet", "data.partition.alpha": "0.1"}, "data.partition")
        'dirichlet alpha=0.1'
    """
    whole = key.removesuffix(".name").removesuffix(".count")
    inside = [] if whole != key else [k for k in settings if k.startswith(f"{whole}.")]
    words = [
        *([settings[whole]] if whole in settings else []),
        *(f"{k[len(whole) + 1 :]}={settings[k]}" for k in inside),
    ]
    return " ".join(words) or "default"


def differing_keys(every: Sequence[Mapping[str, str]], known: Collection[str]) -> list[str]:
    """The keys in which runs differ.

    Args:
        every: The settings of each run.
        known: Keys that are listed already; rule and attack always are.

    Returns:
        The other keys. Where the names of two components differ, the key of the component stands for its options too.
    """
    covered = [*(key.removesuffix(".name").removesuffix(".count") for key in known), "rule", "attack"]
    keys: list[str] = []
    # a component before its options
    for key in sorted({key for each in every for key in each}, key=lambda key: (_place(key), key.count("."), key)):
        within = any(key == other or key.startswith(f"{other}.") for other in covered)
        if not within and len({each.get(key) for each in every}) > 1:
            keys.append(key)
            covered.append(key)
    return keys


def shared_settings(every: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The settings that all runs share.

    Args:
        every: The settings of each run.

    Returns:
        The settings with the same text in all.
    """
    first, *rest = every or [{}]
    return {key: text for key, text in first.items() if all(other.get(key) == text for other in rest)}


def settings_line(shared: Mapping[str, str], rules: Collection[str] = (), attacks: Collection[str] = ()) -> str:
    """One line of settings: `data digits, partition dirichlet alpha=0.1, n=15, f=3, steps=200, optimizer sgd ...`.

    Args:
        shared: The shared settings, by dotted key.
        rules: The labels of the rules; options in all of them are not repeated.
        attacks: The labels of the attacks, likewise.

    Returns:
        The line.
    """
    labels = {"rule": rules, "attack": attacks}
    by_head: dict[str, list[str]] = {}
    for key in shared:
        by_head.setdefault(_head(key), []).append(key)
    parts = []
    for head in sorted(by_head, key=_place):
        options = {key[len(head) + 1 :]: shared[key] for key in by_head[head] if key != head}
        if head in labels:
            parts += [
                f"{head}.{name}={text}" for name, text in options.items() if not _in_labels(name, text, labels[head])
            ]
        elif head not in shared:
            parts += [f"{head}.{name}={text}" for name, text in options.items()]
        elif options or not shared[head][:1].isdigit():
            inside = [f"{name}={text}" for name, text in options.items()]
            parts.append(" ".join([WORDS.get(head, head), shared[head], *inside]))
        else:
            parts.append(f"{WORDS.get(head, head)}={shared[head]}")
    return ", ".join(parts)


def _place(key: str) -> int:
    head = _head(key)
    return ORDER.index(head) if head in ORDER else len(ORDER)


def _head(key: str) -> str:
    """The key of the component in `ORDER` that a key belongs to."""
    within = [head for head in ORDER if key == head or key.startswith(f"{head}.")]
    return max(within, key=len, default=key.partition(".")[0])


def _in_labels(name: str, text: str, labels: Collection[str]) -> bool:
    return bool(labels) and all(f"{name}={text}" in label for label in labels)
