"""The runs of a study: one for each seed of each cell of the grid, each with its names and its description."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from byzax.experiments.labels import labels, number_duplicates
from byzax.experiments.names import file_name, short
from byzax.experiments.settings import setting_text, settings, without_defaults
from byzax.members import reference_of
from byzax.simulator.config.grid import OF_COMBINATIONS, Expansion
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import on_one_line


class Entry(NamedTuple):
    """One run of a study: one seed of one cell.

    Attributes:
        slug: Name of its folder.
        scenario: Its cell, with this seed alone.
        rule: The name of the rule in tables and plots.
        attack: The name of the attack there.
        others: The other choices of the grid.
        position: Its place in the study.
        of: Runs that its cell of a table has.
        runs: Runs of its study.
    """

    slug: str
    scenario: Study
    rule: str
    attack: str
    others: dict[str, str]
    position: int
    of: int = 1
    runs: int = 1


def entries_of(expansion: Expansion) -> list[Entry]:
    """The runs of a study, in order.

    Args:
        expansion: The study.

    Returns:
        One entry per cell and seed; the names of their folders are readable and differ.
    """
    rules = labels(cell.study.rule for cell in expansion.cells)
    attacks = labels(cell.study.attack for cell in expansion.cells)
    values: dict[str, list[Any]] = {}
    for cell in expansion.cells:
        for key, value in cell.choices.items():
            if _is_other(key) and not _among(values.setdefault(key, []), value):
                values[key].append(value)
    swept = {
        key: [*zip(each, number_duplicates([*map(on_one_line, each)]), strict=True)] for key, each in values.items()
    }
    made: list[Entry] = []
    taken: set[str] = set()
    for cell in expansion.cells:
        # a key that this combination does not sweep has the scenario's own value
        rest = settings(cell.study) if any(key not in cell.choices for key in swept) else {}
        others = {
            key: _text(texts, cell.choices[key]) if key in cell.choices else setting_text(rest, key)
            for key, texts in swept.items()
        }
        for seed in cell.study.seeds:
            rule, attack = rules[cell.study.rule], attacks[cell.study.attack]
            if not any(key.partition(".")[0] == "pre" for key in swept):
                # a pre-aggregation that no grid varies belongs to the label of the rule
                rule = " + ".join([*(on_one_line(without_defaults(each)) for each in cell.study.pre), rule])
            slug = file_name([rule, attack, *short(others), f"seed-{seed}"], taken)
            taken.add(slug)
            single = cell.study.replace(seed=seed, repeats=1)
            made.append(Entry(slug, single, rule, attack, others, len(made)))
    cells = Counter((run.rule, run.attack, *run.others.items()) for run in made)
    return [run._replace(of=cells[(run.rule, run.attack, *run.others.items())], runs=len(made)) for run in made]


def _text(values: Sequence[tuple[Any, str]], chosen: Any) -> str:
    """The text of a value of a key of the grid."""
    return next(text for value, text in values if _same(value, chosen))


def _among(values: Sequence[Any], value: Any) -> bool:
    return any(_same(each, value) for each in values)


def _same(one: Any, other: Any) -> bool:
    """Tells whether two values of a key are one: 1 and true are not."""
    return one is other or (type(one) is type(other) and not callable(one) and bool(one == other))


def _is_other(key: str) -> bool:
    return key.partition(".")[0] not in {"rule", "attack", "seed"}


def labels_of(run: Entry) -> dict[str, Any]:
    """The fields of a summary that depend on the other runs of the study."""
    return {
        "position": run.position,
        "rule": run.rule,
        "attack": run.attack,
        "others": run.others,
        "settings": settings(run.scenario),
        "of": run.of,
        "runs": run.runs,
    }


def described(run: Entry) -> dict[str, Any]:
    """The description of a run, as its `scenario.yaml` has it.

    Args:
        run: The run.

    Returns:
        Values of YAML by key, defaults included.
    """
    described = run.scenario.model_dump(mode="json", fallback=_written)
    for key in ("repeats", *OF_COMBINATIONS):
        described.pop(key, None)
    return described


def _written(value: Any) -> str:
    """The text of an option that YAML has no value for, such as a class."""
    return reference_of(value) if callable(value) else repr(value)
