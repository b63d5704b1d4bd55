"""Proven bounds of the rules, with sources, by name of the rule; None where we know of none.

Throughout q = f / (n - 2f), and S is a set of n-f honest rows. The coefficients kappa are those of Allouah et al.,
"Fixing by Mixing", AISTATS 2023, table 1, except where `note` says that the bound is derived here.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from byzax.simulator.config.part import Part


class Bound(NamedTuple):
    """A proven bound.

    Attributes:
        value: The bound.
        note: Its source.
    """

    value: float
    note: str


def fraction(n: int, f: int) -> float:
    """q = f / (n - 2f), a lower bound on the kappa of every rule.

    Args:
        n: Number of rows.
        f: Number of Byzantine rows.

    Returns:
        q; inf from n = 2f on.

    References:
        Allouah et al., AISTATS 2023, proposition 6
    """
    return f / (n - 2 * f) if n > 2 * f else math.inf


def eta(n: int, f: int) -> float:
    """eta(n, f) of Krum: sqrt(2 (n - f + (f (n-f-2) + f² (n-f-1)) / (n - 2f - 2))).

    Args:
        n: Number of rows.
        f: Number of Byzantine rows.

    Returns:
        eta; inf below n = 2f + 3.

    References:
        Blanchard et al. 2017, proposition 1
    """
    if n < 2 * f + 3:
        return math.inf
    return math.sqrt(2 * (n - f + (f * (n - f - 2) + f**2 * (n - f - 1)) / (n - 2 * f - 2)))


def sine(rule: Part, pre: tuple[Part, ...], n: int, f: int, spread: float, norm: float) -> Bound | None:
    """sin alpha = eta sqrt(d) sigma / |g|, proven for Krum as in the paper.

    Args:
        rule: The rule.
        pre: Steps before it.
        n: Number of rows.
        f: Number of Byzantine rows.
        spread: sqrt(d) sigma.
        norm: |g|.

    Returns:
        The bound, from 1 on without meaning; None for other rules.

    References:
        Blanchard et al. 2017, proposition 1
    """
    if pre or rule.name != "krum" or not _as_published(rule.options()) or n < 2 * f + 3:
        return None
    return Bound(eta(n, f) * spread / norm, "Blanchard et al. 2017, proposition 1")


def _as_published(options: Mapping[str, Any]) -> bool:
    """Tells whether these options of krum or multi_krum are those of Blanchard et al. 2017."""
    return (options["distance"], options["neighbours"]) == ("squared", "n-f-2")


def _krum(options: Mapping[str, Any], n: int, f: int) -> Bound | None:
    """The kappa of krum, and of multi_krum with m <= n - f, for squared distances to so many neighbours.

    The paper's Krum sums over the n-f nearest rows, itself among them. With k other rows k+1-f of these k+1 are sure to
    be honest, and no honest row's k nearest are farther than k honest ones where k < n-f. The same proof: the sum over
    them of |x_i - x_j|² is at most 2 sum over S of |x - mean|² for the row of the smallest score, and on average over
    the m <= n-f rows with the smallest, whose sum is at most m/(n-f) of that of the honest rows;
    |x_i - mean|² <= (1+a) |x_i - x_j|² + (1+1/a) |x_j - mean|² with a = 1.
    """
    others = {"n-f-1": n - f - 1, "n-f-2": n - f - 2, "n-f-3": n - f - 3}.get(options["neighbours"])
    if options["distance"] != "squared" or others is None or others < 1 or others + 1 <= f:
        return None
    note = "Allouah et al. 2023, table 1 (n-f nearest rows, itself among them)"
    if others < n - f - 1:
        note = f"the proof for n-f nearest rows (Allouah et al. 2023) for {options['neighbours']} others"
    return Bound(6 * (n - f) / (others + 1 - f), note)


def kappa(rule: Part, pre: tuple[Part, ...], n: int, f: int) -> Bound | None:
    """An upper bound on the kappa of a rule, with or without nnm before it.

    nnm gives 8f/(n-f) (kappa + 1) (Allouah et al. 2023, lemma 1).

    Args:
        rule: The rule.
        pre: Steps before it.
        n: Number of rows.
        f: Number of Byzantine rows.

    Returns:
        The bound; None where none is known.
    """
    if [each.name for each in pre] == ["nnm"]:
        alone = kappa(rule, (), n, f)
        return alone and Bound(8 * f / (n - f) * (alone.value + 1), f"nnm: Allouah et al. 2023; rule: {alone.note}")
    if pre or n <= 2 * f:
        return None
    q, table, options = fraction(n, f), "Allouah et al. 2023, table 1", rule.options()
    match rule.name:
        case "average" if f == 0:
            return Bound(0.0, "it is the mean")
        case "krum":
            return _krum(options, n, f)
        case "multi_krum" if options["m"] is None or options["m"] <= n - f:
            return _krum(options, n, f)
        case "geometric_median" if options["nu"] is None:
            return Bound(4 * (1 + q) ** 2, table)
        case "median":
            # At least a honest rows lie beyond the median, and by Cantelli's inequality a share p of them at a distance
            # t from their mean means p <= v / (v + t²). For odd n an instance attains it.
            beyond = (n + 1) // 2 - f if n % 2 else n // 2 - f
            return Bound(
                min(4 * (1 + q) ** 2, (n - f - beyond) / beyond),
                f"Cantelli's inequality{', exact' if n % 2 else ''}; {table} has {4 * (1 + q) ** 2:.3g}",
            )
        case "trimmed_mean" if options["trim"] in (None, f):
            return Bound(6 * q * (1 + q), table)
        case "brute":
            # |F - mean| <= f/(n-f) 2 diameter(S) (Farhadkhani et al. 2022), diameter² <= 2 (n-f) mean squared deviation
            return Bound(8 * f**2 / (n - f), "lambda = 2f/(n-f) (Farhadkhani et al. 2022), diameter² <= 2 (n-f) v")
        case "smea":
            # two sets whose largest eigenvalues are at most v: each mean is within sqrt(q v) of that of the common rows
            return Bound(4 * q, "derived: means of two sets with eigenvalues <= v, q between each and what they share")
    return None


def leak(rule: Part, pre: tuple[Part, ...], n: int, f: int, d: int) -> float | None:
    """The largest gamma / sigma at which Krum selects one of f equal rows mu + gamma e_c among normal honest rows.

    sqrt(d) sqrt(2 (n-f-2) / (n-2f-1) - 1): a Byzantine row has f-1 equal neighbours and n-2f-1 honest ones at gamma² +
    d
    sigma², an honest row n-f-2 at 2 d sigma², as d grows (El Mhamdi et al. 2018 has Omega(sqrt(d)), without the
    constant).

    Args:
        rule: The rule.
        pre: Steps before it.
        n: Number of rows.
        f: Number of Byzantine rows.
        d: Number of parameters.

    Returns:
        gamma / sigma; None for other rules.
    """
    if pre or f < 1 or rule.name != "krum" or not _as_published(rule.options()) or n < 2 * f + 2:
        return None
    return math.sqrt(d) * math.sqrt(2 * (n - f - 2) / (n - 2 * f - 1) - 1)


def standing(rule: Part, pre: tuple[Part, ...], n: int, f: int) -> Bound | None:
    """The number of Byzantine rows that provably cannot break a rule, whatever they are; it may withstand more.

    Args:
        rule: The rule.
        pre: Steps before it.
        n: Number of rows.
        f: Number of declared rows.

    Returns:
        The number; None where none is known.
    """
    if pre:
        return None
    half, blanchard, options = (n - 1) // 2, "Blanchard et al. 2017", rule.options()
    match rule.name:
        case "average":
            return Bound(0, f"{blanchard}, lemma 1")
        case "median":
            return Bound(half, "Donoho and Huber 1983: half of the rows")
        case "geometric_median" if options["nu"] is None:
            return Bound(half, "Lopuhaä and Rousseeuw 1991: half of the rows")
        case "trimmed_mean":
            return Bound(f if options["trim"] is None else options["trim"], "Yin et al. 2018: those that are cut")
        case "multi_krum" if options["m"] == n:
            return Bound(0, f"{blanchard}, lemma 1: it is the average")
        case "krum" if _as_published(options) and n >= 2 * f + 3:
            return Bound(f, f"{blanchard}, 2f + 2 < n")
        case "multi_krum" if _as_published(options) and n >= 2 * f + 3 and (options["m"] or 0) <= n - f - 2:
            return Bound(f, f"{blanchard}, 2f + 2 < n")
        case "bulyan" if n >= 4 * f + 3:
            return Bound(f, "El Mhamdi et al. 2018, n >= 4f + 3")
        case "brute":
            return Bound(f, "El Mhamdi et al. 2018, n >= 2f + 1")
    return None
