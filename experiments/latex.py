"""Tables in LaTeX, with booktabs: for a paper, one table after the other."""

from collections.abc import Sequence

from byzax.experiments.gathering import Results
from byzax.experiments.overall import overall, overall_rows
from byzax.experiments.tables import Table, shared_settings_line, tables, text_rows

SPECIAL = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


def escape(text: str) -> str:
    """A text as LaTeX prints it.

    Example:
        >>> escape("trimmed_mean 0.9 ± 0.1")
        'trimmed\\\\_mean 0.9 $\\\\pm$ 0.1'
    """
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def latex(results: Results) -> str:
    """All tables of a study, each a `table` with the best in bold.

    Args:
        results: The results.

    Returns:
        The source; its document needs `\\usepackage{booktabs}`.
    """
    subject = shared_settings_line(results)
    parts = ["% \\usepackage{booktabs} in the preamble"]
    for listed in tables(results):
        headings, rows = text_rows(listed)
        caption = f"{listed.caption[0].upper()}{listed.caption[1:]}. {subject}."
        parts.append(_tabular(headings, _with_bold(listed, rows), len(listed.keys), caption))
    if found := overall(results):
        parts.append(_tabular(*_escaped(*overall_rows(found)), 1, f"Rules {found.caption}. {subject}."))
    return "\n\n".join(parts) + "\n"


def _escaped(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Sequence[str], list[list[str]]]:
    return headings, [[escape(text) for text in row] for row in rows]


def _with_bold(listed: Table, rows: Sequence[Sequence[str]]) -> list[list[str]]:
    keys = len(listed.keys)
    _, texts = _escaped((), rows)
    for row, best in zip(texts, listed.best, strict=True):
        row[keys:] = [rf"\textbf{{{text}}}" if bold else text for text, bold in zip(row[keys:], best, strict=True)]
    return texts


def _tabular(headings: Sequence[str], rows: Sequence[Sequence[str]], names: int, caption: str) -> str:
    """A table whose first `names` columns are texts; rows are escaped, headings and caption are not yet."""
    columns = "l" * names + "c" * (len(headings) - names)
    lines = [
        r"\begin{table}",
        rf"  \caption{{{escape(caption)}}}",
        r"  \centering",
        rf"  \begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        f"    {' & '.join(_guarded([*map(escape, headings)]))} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(_guarded(row))} \\\\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _guarded(row: Sequence[str]) -> list[str]:
    """The cells of a row, the first one so that what stands before it does not take it for an option."""
    return [f"{{{row[0]}}}" if row[0].startswith(("[", "*")) else row[0], *row[1:]]
