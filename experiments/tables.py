"""Tables of results: cells with their counts, the best of a block, and the shared settings."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from byzax.experiments.gathering import (
    MEASURES,
    Results,
    differs_by_run,
    diverged,
    has_result,
    num_expected,
    scores_at_equal,
    varying_keys,
)
from byzax.experiments.names import counted, joined
from byzax.experiments.records import TIMES, Record
from byzax.experiments.reported import report_values, report_words
from byzax.experiments.scores import SUCCESS, Score, score_named, score_of
from byzax.experiments.settings import settings_line, shared_settings
from byzax.experiments.statistics import (
    LEVEL,
    NOTHING,
    Interval,
    holm,
    mean_interval,
    paired_differences,
    seeds_needed,
    signed_rank_p,
    worst_interval,
)
from byzax.simulator.config.measures import MEASURE_COLUMNS

# Smallest number of values with a standard deviation.
FEWEST = 3
# The column of the worst mean of a row, and what is bold.
WORST = "worst case"
BOLD = "the best rule and those not significantly worse (paired Wilcoxon tests, Holm, 5 %)"


class TableCell(NamedTuple):
    """The result of the runs of one cell.

    Attributes:
        mean: Mean of the score; infinite where a value is not finite.
        std: Standard deviation of a sample (n - 1).
        low: Lowest value.
        high: Highest value.
        counted: Number of runs with a value.
        of: Number of runs asked for.
        interval: The 95 % interval of the mean; NaN for fewer than three runs.
        by_seed: The value of each seed; of several runs with one seed their mean.
        worst: Whether it is the worst of the cells of its row: the interval is then what is shown.
    """

    mean: float
    std: float
    low: float
    high: float
    counted: int
    of: int
    interval: Interval = NOTHING
    by_seed: Mapping[int, float] = MappingProxyType({})
    worst: bool = False


class Shortage(NamedTuple):
    """A number of seeds with which no difference can be significant.

    Attributes:
        seeds: The number.
        rules: Number of rules that are compared.
        needed: The fewest seeds that could tell two of them apart.
    """

    seeds: int
    rules: int
    needed: int

    @property
    def words(self) -> str:
        """A sentence for a caption."""
        return (
            f"{counted(self.seeds, 'seed')} cannot rank {self.rules} rules at 5 % (paired Wilcoxon tests, Holm): it "
            f"takes {self.needed}"
        )


class Table(NamedTuple):
    """Rules (and other keys) by attacks.

    Attributes:
        title: The title.
        words: The kind of the numbers.
        score: The score.
        keys: Headings of the first columns, the last of them the rule.
        names: The texts in these columns, a tuple for each row.
        columns: Headings of the other columns: the attacks, and `WORST` where there are several.
        cells: `[rows][columns]`.
        best: `[rows][columns]`, whether a rule is the best of its block (rows with the same other keys) or not
            significantly worse; none where there are too few seeds.
        shortage: The largest comparison that has too few seeds; None for none.
        classes: Number of classes of the data of each row; NaN for values.
        seeds: The seeds of all runs.
    """

    title: str
    words: str
    score: Score
    keys: list[str]
    names: list[tuple[str, ...]]
    columns: list[str]
    cells: list[list[TableCell]]
    best: list[list[bool]]
    shortage: Shortage | None
    classes: list[float]
    seeds: list[int]

    @property
    def caption(self) -> str:
        """The kind of the numbers, what stands beside the means, and what is bold."""
        every = [cell for row in self.cells for cell in row if not cell.worst]
        most = max(cell.of for cell in every)
        counts = {cell.counted for cell in every if cell.counted}
        if most == 1 and len(self.seeds) == 1:
            return f"{self.words}, seed {self.seeds[0]}"
        if most >= FEWEST and min(counts, default=most) < FEWEST:
            fewer = "; of two the range, of one its value"
        else:
            fewer = "; of one its value" if most == 2 and 1 in counts else ""
        worst = f"; {WORST} with its 95 % interval" if WORST in self.columns and most >= FEWEST else ""
        bold = f"; bold: {BOLD}" if any(any(row) for row in self.best) else ""
        short = f"; {self.shortage.words}" if self.shortage else ""
        return f"{self.words}, {spread_text(most)}{fewer}{worst}{bold}{short}"


def spread_text(seeds: int) -> str:
    """The name of the spread over repeats.

    Args:
        seeds: Number of repeats.

    Returns:
        Words for a caption.
    """
    return {1: "one seed", 2: "range over 2 seeds"}.get(seeds, f"mean ± standard deviation over {seeds} seeds")


def table(title: str, words: str, frame: pd.DataFrame, values: pd.Series, score: Score) -> Table:
    """The table of a score.

    Args:
        title: The title.
        words: The kind of the numbers.
        frame: One row per run.
        values: The value of each run.
        score: The score.

    Returns:
        The table.
    """
    keys = [*varying_keys(frame), "rule"]
    names = [tuple(row) for row in frame[keys].drop_duplicates().to_numpy()]
    # rules that are compared stand below each other
    blocks = list(dict.fromkeys(name[:-1] for name in names))
    names.sort(key=lambda name: blocks.index(name[:-1]))
    columns = list(frame["attack"].unique())
    places = dict(iter(frame.assign(value=values.where(has_result(frame))).groupby([*keys, "attack"], sort=False)))
    # a cell that was never begun should have as many runs as the others
    most = max(frame["of"].tolist())
    cells = [[_cell(places.get((*name, attack)), most) for attack in columns] for name in names]
    if len(columns) > 1:
        columns.append(WORST)
        cells = [[*row, _worst(row, score.higher_is_better)] for row in cells]
    classes = frame.groupby(keys)["classes"].first()
    best, shortage = _best(names, cells, 1 if score.higher_is_better else -1)
    return Table(
        title,
        words,
        score,
        keys,
        [tuple(map(str, name)) for name in names],
        columns,
        cells,
        best,
        shortage,
        [float(classes.loc[name if len(keys) > 1 else name[0]]) for name in names],
        sorted(set(frame["seed"])),
    )


def _cell(group: pd.DataFrame | None, most: int) -> TableCell:
    if group is None:
        return TableCell(math.nan, math.nan, math.nan, math.nan, 0, most)
    there = group.loc[group["value"].notna()]
    values = there["value"].to_numpy(float)
    of = num_expected(group)
    if not len(values):
        return TableCell(math.nan, math.nan, math.nan, math.nan, 0, of)
    mean = float(values.mean())
    # of numbers that no run has written, such as 1e300, it is infinite
    with np.errstate(over="ignore"):
        std = float(values.std(ddof=1)) if len(values) > 1 and math.isfinite(mean) else math.nan
    by_seed = there.groupby("seed")["value"].mean().to_dict()
    interval = mean_interval(values.tolist())
    return TableCell(mean, std, float(values.min()), float(values.max()), len(values), of, interval, by_seed)


def _worst(row: Sequence[TableCell], higher_is_better: bool) -> TableCell:
    """The worst mean of a row, over the seeds that all its cells have; nothing where one cell is empty."""
    seeds = sorted(set.intersection(*(set(cell.by_seed) for cell in row)))
    of = max(cell.of for cell in row)
    if not seeds:
        return TableCell(math.nan, math.nan, math.nan, math.nan, 0, of, worst=True)
    values = np.array([[cell.by_seed[seed] for seed in seeds] for cell in row])
    pick = np.min if higher_is_better else np.max
    each = pick(values, axis=0)
    return TableCell(
        float(pick(values.mean(axis=1))),
        math.nan,
        float(each.min()),
        float(each.max()),
        len(seeds),
        of,
        worst_interval(values, higher_is_better),
        dict(zip(seeds, each.tolist(), strict=True)),
        worst=True,
    )


def _best(
    names: Sequence[tuple[str, ...]], cells: Sequence[Sequence[TableCell]], sign: int
) -> tuple[list[list[bool]], Shortage | None]:
    """Mask of the best cells of each column and block with all that are not significantly worse, and what was short."""
    marked = [[False] * len(row) for row in cells]
    short: list[Shortage] = []
    blocks: dict[tuple[str, ...], list[int]] = {}
    for i, name in enumerate(names):
        blocks.setdefault(name[:-1], []).append(i)
    for block_rows in blocks.values():
        for j in range(len(cells[0])):
            usable = [i for i in block_rows if cells[i][j].counted and math.isfinite(cells[i][j].mean)]
            # a row alone in its block is compared with none
            if len(usable) < 2:
                continue
            first = max(usable, key=lambda i: sign * cells[i][j].mean)
            others = [i for i in usable if i != first]
            found = [paired_differences(cells[first][j].by_seed, cells[i][j].by_seed) for i in others]
            needed, pairs = seeds_needed(len(others)), min(map(len, found))
            if pairs < needed:
                short.append(Shortage(pairs, len(usable), needed))
                continue
            marked[first][j] = True
            for i, p in zip(others, holm([*map(signed_rank_p, found)]), strict=True):
                marked[i][j] = p > LEVEL
    return marked, max(short, key=lambda each: each.needed - each.seeds, default=None)


def cell_text(cell: TableCell, digits: str) -> str:
    """The text of a cell.

    Args:
        cell: The cell.
        digits: Format of a number.

    Returns:
        `0.912 ± 0.004`; of two runs `0.908 to 0.916`, of one its value; of the worst case `0.60 [0.55, 0.66]`, with its
        interval; with `(2 of 3)` where runs are missing.
    """
    if not cell.counted:
        return "-"
    if not math.isfinite(cell.mean):
        text = "not finite"
    elif cell.worst:
        low, high = cell.interval
        ends = "" if math.isnan(low) else f" [{low:{digits}}, {high:{digits}}]"
        text = f"{cell.mean:{digits}}{ends}"
    elif cell.counted >= FEWEST:
        text = f"{cell.mean:{digits}} ± {cell.std:{digits}}"
    elif cell.counted == 2:
        text = f"{cell.low:{digits}} to {cell.high:{digits}}"
    else:
        text = f"{cell.mean:{digits}}"
    return text if cell.counted == cell.of else f"{text} ({cell.counted} of {cell.of})"


def text_rows(listed: Table) -> tuple[list[str], list[list[str]]]:
    """A table as text.

    Args:
        listed: The table.

    Returns:
        The headings, and the rows.
    """
    rows = [
        [*name, *(cell_text(cell, listed.score.digits) for cell in row)]
        for name, row in zip(listed.names, listed.cells, strict=True)
    ]
    return [*listed.keys, *listed.columns], rows


def tables(results: Results) -> list[Table]:
    """All tables of results: of whole runs, and at equal time and work where these differ.

    Runs with classes and runs with values have tables of their own, and so have the success of backdoors and each
    column of `measure`.

    Args:
        results: The results.

    Returns:
        The tables.
    """
    frame, curves = results.frame, results.curves
    listed: list[Table] = []

    def add(part: pd.DataFrame, values: pd.Series, score: Score, words: str, where: str = "") -> None:
        listed.append(table(f"{results.name}: {words}{_by(part)}{where}", f"{words}{where}", part, values, score))

    def add_reported(part: pd.DataFrame, score: Score) -> None:
        add(part, report_values(part, curves, score, results.report), score, report_words(score, results.report))

    for part in (frame.loc[frame["classes"].notna()], frame.loc[frame["classes"].isna()]):
        if part.empty:
            continue
        evaluations = curves.loc[curves["run"].isin(part["run"])]
        score = score_of(part)
        add_reported(part, score)
        for measure, words in MEASURES.items():
            if bool(has_result(part).any()) and differs_by_run(evaluations.loc[has_result(evaluations)], measure):
                then, end = scores_at_equal(part, evaluations, measure)
                where = f" at {end:.4g} {words}, where the shortest run ends"
                add(then, report_values(then, evaluations, score, "last"), score, score.words, where)
    backdoors = frame.loc[frame["attack_success"].notna()]
    if len(backdoors):
        add_reported(backdoors, SUCCESS)
    for column in (name for name in MEASURE_COLUMNS if name in frame):
        measured = frame.loc[frame[column].notna()]
        if len(measured):
            add_reported(measured, score_named(column))
    return listed


def shared_settings_line(results: Results) -> str:
    """The settings that all runs share.

    Args:
        results: The results.

    Returns:
        One line: data, partition, model, n, f and other settings.
    """
    shared = shared_settings([record.summary.settings for record in results.records.values()])
    return settings_line(shared, results.frame["rule"].unique().tolist(), results.frame["attack"].unique().tolist())


def _by(frame: pd.DataFrame) -> str:
    """The keys in which the runs of a table differ: ` by pre, rule and attack`."""
    keys = [key for key in [*varying_keys(frame), "rule", "attack"] if len(set(frame[key])) > 1]
    return f" by {joined(keys)}" if keys else ""


def problem_lines(results: Results) -> list[str]:
    """Messages about runs that were not completed, lost workers, or diverged.

    Args:
        results: The results.

    Returns:
        One line for each run, then one for each study with missing runs.
    """
    lines = []
    frame = results.frame
    for run in frame.loc[~has_result(frame)].to_dict("records"):
        step = "" if pd.isna(run["step"]) else f" after step {run['step']:.0f}"
        reason = f" ({run['reason']})" if isinstance(run["reason"], str) else ""
        lines.append(f"{run['run']}: {run['status']}{step}{reason}")
    for run in frame.loc[frame["status"] == "degraded", "run"]:
        record = results.records[run]
        lines.append(f"{run}: degraded: {record.summary.reason or _lost(record) or 'nodes were lost'}")
    lines += [
        f"{run}: diverged (its test loss is not finite: what else is measured is that of a broken model)"
        for run in frame.loc[diverged(frame), "run"]
    ]
    return lines + _missing(results)


def _lost(record: Record) -> str:
    """`worker 4 lost from update 161 on, worker 7 lost from update 203 on`; empty where none was lost."""
    lost = {"worker": record.summary.lost, "server": record.summary.lost_servers}
    losses = [f"{word} {node} lost from update {at} on" for word, those in lost.items() for node, at in those.items()]
    return ", ".join(losses)


def _missing(results: Results) -> list[str]:
    """A line for each study with runs that have no folder."""
    lines = []
    for study, records in _by_study(results).items():
        asked = max((record.summary.runs or 0 for record in records), default=0)
        damaged = sum(line.startswith(f"{records[0].folder.parent}/") for line in results.damaged)
        if asked > len(records) + damaged:
            lines.append(f"{study}: {counted(asked - len(records) - damaged, 'run')} of {asked} not begun")
    return lines


def _by_study(results: Results) -> dict[str, list[Record]]:
    by_study: dict[str, list[Record]] = {}
    for record in results.records.values():
        by_study.setdefault(record.folder.parent.parent.name, []).append(record)
    return by_study


def early_stop_lines(frame: pd.DataFrame) -> list[str]:
    """Messages about completed runs that were stopped early.

    Args:
        frame: One row per run.

    Returns:
        One line for each run.
    """
    stopped = frame.loc[(frame["status"] == "complete") & frame["reason"].notna()]
    return [f"{run}: {reason}" for run, reason in zip(stopped["run"], stopped["reason"], strict=True)]


def time_rows(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The table of the use of time by rule, schedule and attack.

    Args:
        frame: One row per run.

    Returns:
        The headings, and the rows: means over the runs with a result.
    """
    keys = [*varying_keys(frame), "rule", "attack"]
    headings = ["runs", "seconds", "gradients", "updates per second", "mean age of a row", "workers' time waiting"]
    rows = []
    groups: Any = frame.groupby(keys, sort=False)
    for names, group in groups:
        counted_runs = group.loc[has_result(group)]
        of = num_expected(group)
        runs = str(of) if len(counted_runs) == of else f"{len(counted_runs)} of {of}"
        time_s, gradients, rate, age, waiting, unused = counted_runs[["time_s", "gradients", *TIMES]].mean()
        numbers = [f"{time_s:.4g}", f"{gradients:.0f}", f"{rate:.3g}", f"{age:.2f}", f"{waiting:.0%}", f"{unused:.0%}"]
        rows.append([*map(str, names), runs, *(numbers if len(counted_runs) else ["-"] * len(numbers))])
    return [*keys, *headings, "jobs unused"], rows
