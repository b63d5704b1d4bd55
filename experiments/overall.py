"""Rules over all settings of a study: average ranks, interquartile means and performance profiles."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from byzax.experiments.gathering import Results, has_result, varying_keys
from byzax.experiments.names import counted
from byzax.experiments.reported import report_values
from byzax.experiments.scores import Score, score_of
from byzax.experiments.statistics import LEVEL, Ranking, interquartile_mean, profile, rank


class Overall(NamedTuple):
    """Rules over the settings (attack and other keys) in which all of them have a result.

    Attributes:
        score: The score.
        rules: The rules, the best average rank first.
        ranking: Their ranks, in that order.
        middle: `[rules]`, the interquartile mean of each over all settings and seeds.
        settings: Number of settings.
    """

    score: Score
    rules: list[str]
    ranking: Ranking
    middle: list[float]
    settings: int

    @property
    def caption(self) -> str:
        """The meaning of the columns, and the difference of ranks that counts."""
        apart = f"ranks that differ by {self.ranking.critical:.2f} differ at 5 % (Nemenyi)"
        friedman = "" if np.isnan(self.ranking.p) else f", Friedman's test that none does: p = {self.ranking.p:.2g}"
        alike = "; ranks may differ by chance" if self.ranking.p > LEVEL else ""
        return (
            f"over {counted(self.settings, 'setting')}: average rank of the means, 1 the best; {apart}{friedman}{alike}"
            f"; IQM: mean of the middle half of all runs, {self.score.words}"
        )


def _values(results: Results) -> tuple[Score, dict[str, list[list[float]]]]:
    """The score, and for each rule the values of its runs in each setting that all rules have."""
    frame = results.frame
    score = score_of(frame)
    # runs with classes and runs with values have no common score
    part = frame.loc[frame["classes"].notna()] if score.higher_is_better else frame
    values = report_values(part, results.curves, score, results.report)
    there = part.assign(value=values).loc[has_result(part) & np.isfinite(values)]
    keys = [*varying_keys(frame), "attack"]
    rules = [*dict.fromkeys(there["rule"])]
    found: dict[str, list[list[float]]] = {rule: [] for rule in rules}
    for _, group in there.groupby(keys, sort=False):
        by_rule = {str(rule): each["value"].tolist() for rule, each in group.groupby("rule", sort=False)}
        if len(by_rule) == len(rules):
            for rule in rules:
                found[rule].append(by_rule[rule])
    return score, found


def overall(results: Results) -> Overall | None:
    """Compares rules over all settings.

    Args:
        results: The results.

    Returns:
        The comparison; None for one rule, or fewer than two settings that all rules have.
    """
    if results.frame.empty:
        return None
    score, values = _values(results)
    settings = min(map(len, values.values()), default=0)
    if len(values) < 2 or settings < 2:
        return None
    means = np.array([[np.mean(runs) for runs in of_rule] for of_rule in values.values()]).T
    found = rank(means, score.higher_is_better)
    order = np.argsort(found.ranks, kind="stable").tolist()
    rules = [*values]
    middle = [interquartile_mean(np.concatenate(values[rules[i]])) for i in order]
    return Overall(score, [rules[i] for i in order], found._replace(ranks=found.ranks[order]), middle, settings)


def overall_rows(found: Overall) -> tuple[list[str], list[list[str]]]:
    """The comparison as text.

    Args:
        found: The comparison.

    Returns:
        The headings, and the rows.
    """
    rows = [
        [rule, f"{place:.2f}", f"{middle:{found.score.digits}}"]
        for rule, place, middle in zip(found.rules, found.ranking.ranks, found.middle, strict=True)
    ]
    return ["rule", "average rank", "IQM"], rows


def profiles(results: Results, thresholds: Sequence[float] | None = None) -> pd.DataFrame:
    """The performance profiles of rules.

    Args:
        results: The results.
        thresholds: The thresholds; None for 101 of them, from the lowest to the highest value of all runs.

    Returns:
        One row per rule and threshold: `rule`, `threshold`, `share` (of runs that are at least as good, every setting
        counting alike).
    """
    columns = ["rule", "threshold", "share"]
    if results.frame.empty:
        return pd.DataFrame(columns=columns)
    score, values = _values(results)
    every = [value for of_rule in values.values() for runs in of_rule for value in runs]
    if not every:
        return pd.DataFrame(columns=columns)
    at = np.linspace(min(every), max(every), 101) if thresholds is None else np.asarray(thresholds, float)
    parts = []
    for rule, of_rule in values.items():
        wide = np.full((len(of_rule), max(map(len, of_rule))), np.nan)
        for row, runs in zip(wide, of_rule, strict=True):
            row[: len(runs)] = runs
        shares = profile(wide, at, score.higher_is_better)
        parts.append(pd.DataFrame({"rule": rule, "threshold": at, "share": shares}))
    return pd.concat(parts, ignore_index=True)
