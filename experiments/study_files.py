"""Files of a study beside its runs: the scenario, and the combinations of its grid that were left out."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from byzax.experiments import outputs
from byzax.experiments.entries import entries_of
from byzax.experiments.marks import list_in_mark
from byzax.experiments.strict_yaml import dump
from byzax.experiments.writing import write_errors
from byzax.simulator.config.grid import Expansion
from byzax.simulator.mistakes import choices_in_words

# The combinations of a grid that were left out, beside the scenario.
SKIPPED = "skipped.csv"


def save_study(folder: Path, expansion: Expansion) -> None:
    """Writes the scenario, with its overrides and grid, and lists the runs in the folder's mark.

    Args:
        folder: The folder of the study.
        expansion: The study.

    Raises:
        WriteError: Where a file cannot be written.
    """
    with write_errors(folder):
        list_in_mark(folder, ["scenario.yaml", *(f"runs/{run.slug}" for run in entries_of(expansion))])
        (folder / "runs").mkdir(exist_ok=True)
        outputs.save_text(folder / "scenario.yaml", dump(expansion.study.given()))
        if expansion.skipped:
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\n").writerows(
                [("combination", "reason"), *skipped_combinations(expansion)]
            )
            outputs.save_text(folder / SKIPPED, text.getvalue())
        else:
            outputs.remove([folder / SKIPPED])


def skipped_combinations(expansion: Expansion) -> list[tuple[str, str]]:
    """The combinations of a grid that were left out.

    Args:
        expansion: The study.

    Returns:
        Each combination in words, and the reason.
    """
    return [(choices_in_words(each.choices), each.reason) for each in expansion.skipped]


def read_skipped(folder: Path) -> list[tuple[str, str]]:
    """Reads the combinations that were left out from the folder of a study.

    Args:
        folder: The folder of the study.

    Returns:
        Each combination in words, and the reason; empty where none was left out, or the file is damaged.
    """
    try:
        with (folder / SKIPPED).open(newline="") as file:
            return [(row[0], row[1]) for row in list(csv.reader(file))[1:] if len(row) == 2]
    except (OSError, ValueError, csv.Error):
        return []


def skipped_lines(skipped: Iterable[tuple[str, str]]) -> list[str]:
    """Lines about combinations that were left out, one for each reason.

    Args:
        skipped: Combinations and reasons.

    Returns:
        The lines.

    Example:
        >>> skipped_lines([("f=2", "n is 5"), ("f=3", "n is 5")])
        ['skipped: n is 5 (2 combinations, such as f=2)']
    """
    combinations: dict[str, list[str]] = {}
    for combination, reason in skipped:
        combinations.setdefault(reason, []).append(combination)
    return [
        f"skipped: {reason} ({f'{len(names)} combinations, such as ' if len(names) > 1 else ''}{names[0]})"
        for reason, names in combinations.items()
    ]
