"""The file of a report."""

from pathlib import Path

from byzax.experiments import outputs
from byzax.experiments.html_report.content import content
from byzax.experiments.html_report.page import page
from byzax.experiments.result import Result
from byzax.experiments.writing import check_replaceable, write_text
from byzax.simulator.mistakes import ScenarioError

NAME = "report.html"


def write(result: Result, file: Path | None = None) -> Path:
    """Writes the report of a study.

    Args:
        result: The results.
        file: The file; None for `NAME` in the folder of the results.

    Returns:
        The file.

    Raises:
        ScenarioError: Where a file that byzax did not write is there, or the file cannot be written.
    """
    path = file or result.folder / NAME
    if path.is_dir():
        raise ScenarioError(f"{path}: is a folder: name a file in it, such as {path / NAME}")
    try:
        if path.resolve() == (result.folder / NAME).resolve():
            outputs.save_text(path, page(content(result)))
        else:
            check_replaceable(path, "--out")
            write_text(path, page(content(result)))
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be written ({error.strerror or error}): name another file") from None
    return path
