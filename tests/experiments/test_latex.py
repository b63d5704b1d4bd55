"""Tables in LaTeX: what they hold, and that a document with them is set."""

import re
import shutil
import subprocess

import pandas as pd
import pytest

from byzax.experiments import report
from byzax.experiments.latex import escape, latex
from tests.experiments.test_tables import BASE, moved
from tests.experiments.written import study_of


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    ends = {"trimmed_mean": moved(-0.2), "median": BASE}
    folder = study_of(
        tmp_path_factory.mktemp("latex") / "mine",
        lambda run, step: ends[run.scenario.rule.name][run.scenario.seed],
        repeats=8,
        grid={"pre": [["nnm"], ["clip", "nnm"]], "rule.name": [*ends], "attack.name": ["none", "sign_flip"]},
    )
    return latex(report.read([folder]))


def test_a_table_has_the_cells_and_the_best_in_bold(source):
    first, second = re.findall(r"\\begin{tabular}.*?\\end{tabular}", source, re.DOTALL)
    mean, std = pd.Series(BASE).mean(), pd.Series(BASE).std()
    good, bad = rf"\textbf{{{mean:.3f} $\pm$ {std:.3f}}}", rf"{mean - 0.2:.3f} $\pm$ {std:.3f}"
    assert rf"{{[nnm]}} & median & {good} & {good} &" in first
    assert rf"{{[clip, nnm]}} & trimmed\_mean & {bad} & {bad} &" in first
    assert r"pre & rule & none & sign\_flip & worst case \\" in first
    assert r"median & 1.00 &" in second
    assert r"\caption{Final test accuracy, mean $\pm$ standard deviation over 8 seeds;" in source


def test_nothing_is_left_that_latex_would_take_for_a_command():
    text = r"50 % of a_b & c^2 ~ #1 {x} $y$ \z < | >"
    plain = re.sub(r"\\(text\w+\{\}|[&%$#_{}])", "", escape(text))
    assert not set(plain) & set(r"\%_&^~#{}$<>|")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex to set the document")
def test_a_document_with_the_tables_is_set(source, tmp_path):
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{source}\end{{document}}"
    (tmp_path / "paper.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").exists()
