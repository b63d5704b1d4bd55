"""The one table of rules that drives the shared tests, and the inputs they are fed with."""

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from byzax import aggregators
from byzax.aggregators import Context
from tests.nightly import by_night


class Member(NamedTuple):
    """A rule with options, its oracle, and whether it promises anything against Byzantine rows.

    `nightly`: a further option of a rule that is in the table already; the contract tests take it at night only.
    `lacks`: which of the SYMMETRIES the definition of the rule has not, and why. `weights`: `shares` of the aggregate,
    or the rule's own `selection` (they sum to 1, but the aggregate is not that combination), or `none`. `pools`: it has
    an `among`. `trusted`: rows that are never Byzantine. `nan`: what a NaN counts as. `asks`: it needs a context.
    """

    name: str
    options: dict
    oracle: object
    robust: bool = True
    nightly: bool = False
    lacks: Mapping = MappingProxyType({})
    weights: str = "shares"
    pools: bool = True
    trusted: tuple = ()
    nan: float = 1e30
    asks: bool = False

    @property
    def id(self):
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    def build(self, n, f):
        rule = aggregators.build(self.name, n, f, **self.options)
        return within(rule) if self.asks else rule

    def smallest_n(self, f):
        """From the docstring, so that the docstring cannot say anything else than the code."""
        factor, offset = re.search(
            r"^ *Condition: n >= (\d*)f(?: \+ (\d+))?$", aggregators.factory(self.name).__doc__, re.M
        ).groups()
        return max(1, int(factor or 1) * f + int(offset or 0))

    def suspects(self, n):
        """The rows that may be Byzantine."""
        return np.delete(np.arange(n), list(self.trusted))


def context(d):
    """The context of a server whose own data want every coordinate to grow."""
    return Context(
        jax.random.key(3),
        jnp.zeros(d),
        gradient=lambda: jnp.full(d, oracles.OWN),
        loss=lambda params: 0.5 * jnp.sum((params + oracles.OWN) ** 2),
    )


def within(rule):
    """The rule as a server uses it: in a compiled update, where its context is at hand."""
    compiled = jax.jit(lambda rows, state: rule.apply(rows, state, context(rows.shape[-1])))

    def apply(rows, state):
        return compiled(rows, state) if hasattr(rows, "shape") else rule.apply(rows, state, None)

    return rule._replace(apply=apply)


SYMMETRIES = {
    "order": "the order of the rows does not matter",
    "translation": "moving all rows moves the aggregate",
    "scale": "scaling all rows scales the aggregate",
    "repetition": "columns that are repeated are decided as before",
    "unanimity": "equal rows are their own aggregate",
    "majority": "where all but f rows agree the others do not matter",
    "masking": "f rows of any numbers leave the aggregate near the others",
}
FROM_ORIGIN = "norms are taken from the origin"
LAST = "differences are taken from the last aggregate, at first 0"
EACH_PULLS = "a row is shortened, not removed"
OWN_LENGTH = "the aggregate is as long as the server's own row"
DESCENT = "the server's loss decides, after a step of fixed length"
SIGNS = "signs have no length"
GROUPS = {"order": "rows form groups by their place"}
COUNTED = {"translation": SIGNS, "majority": "a row with as many numbers of each sign stays"}
SYBILS = {"translation": FROM_ORIGIN, "majority": "rows that agree are sybils"}
SHORT = {"translation": FROM_ORIGIN, "majority": "short rows stay, Byzantine or not"}
PIVOT = {"order": "the trusted row is known by its place"}
SMOOTHED = {"scale": "nu is a length", "repetition": "nu is a length, which repeated columns change"}
FIXED = {
    "scale": "tau is a length",
    "repetition": "tau is a length, which repeated columns change",
    "unanimity": "an aggregate is no longer than tau",
}


def _bulyan(base, kind="lower"):
    return lambda rows, f: oracles.bulyan(rows, f, base, kind)


def _bulyan_of_less(rows, f, base):
    return oracles.bulyan(rows, f, base, theta=len(rows) - 2 * f - 2)


MEMBERS = [
    Member("average", {}, oracles.average, robust=False),
    Member("median", {}, oracles.median, weights="none"),
    *(
        Member("median", {"median": kind}, functools.partial(oracles.median, kind=kind), nightly=True, weights="none")
        for kind in ("lower", "upper")
    ),
    Member("geometric_median", {}, oracles.geometric_median),
    Member(
        "geometric_median",
        {"nu": 2.0, "iterations": 1},
        functools.partial(oracles.weiszfeld, nu=2.0, iterations=1),
        nightly=True,
        lacks={**SMOOTHED, "translation": FROM_ORIGIN, "majority": "one step is no minimum"},
    ),
    Member(
        "geometric_median",
        {"nu": 2.0, "iterations": 3, "start": "mean"},
        functools.partial(oracles.weiszfeld, nu=2.0, iterations=3, start="mean"),
        robust=False,  # a row far away takes the mean with it
        nightly=True,
        lacks=SMOOTHED,
    ),
    Member("medoid", {}, oracles.medoid),
    Member("krum", {}, oracles.krum),
    Member("krum", {"distance": "plain"}, lambda rows, f: oracles.krum(rows, f, power=1), nightly=True),
    Member(
        "krum",
        {"neighbours": "n-f-1"},
        lambda rows, f: oracles.krum(rows, f, neighbours=len(rows) - f - 1),
        nightly=True,
    ),
    Member("krum", {"distance": "fourth"}, functools.partial(oracles.krum, power=4), nightly=True),
    *(
        Member(
            "krum",
            {"neighbours": neighbours},
            lambda rows, f, fewer=fewer: oracles.krum(rows, f, neighbours=len(rows) - f - fewer),
            nightly=True,
        )
        for neighbours, fewer in (("n-f", 0), ("n-f-3", 3))
    ),
    Member("multi_krum", {}, oracles.multi_krum),
    Member("multi_krum", {"distance": "plain"}, functools.partial(oracles.multi_krum, power=1), nightly=True),
    Member(
        "multi_krum",
        {"neighbours": "n-f-1"},
        lambda rows, f: oracles.multi_krum(rows, f, neighbours=len(rows) - f - 1),
        nightly=True,
    ),
    Member("multi_krum", {"m": 1}, lambda rows, f: oracles.multi_krum(rows, f, m=1), nightly=True),
    Member("brute", {}, oracles.brute),
    Member("bulyan", {}, _bulyan(oracles.krum), weights="selection", pools=False),
    Member("bulyan", {"median": "mid"}, _bulyan(oracles.krum, "mid"), nightly=True, weights="selection", pools=False),
    Member(
        "bulyan", {"median": "upper"}, _bulyan(oracles.krum, "upper"), nightly=True, weights="selection", pools=False
    ),
    *(
        Member(
            "bulyan",
            {"theta": "n-2f-2", **options},
            functools.partial(_bulyan_of_less, base=base),
            nightly=True,
            weights="selection",
            pools=False,
        )
        for options, base in (({}, oracles.krum), ({"base": "median"}, oracles.median))
    ),
    Member("bulyan", {"base": "median"}, _bulyan(oracles.median), nightly=True, weights="selection", pools=False),
    *(
        Member("bulyan", {"base": base}, _bulyan(oracle), nightly=True, weights="selection", pools=False)
        for base, oracle in (
            ({"name": "krum", "distance": "plain"}, functools.partial(oracles.krum, power=1)),
            (
                {"name": "krum", "neighbours": "n-f"},
                lambda rows, f: oracles.krum(rows, f, neighbours=len(rows) - f),
            ),
            ({"name": "multi_krum", "m": 1, "distance": "fourth"}, functools.partial(oracles.krum, power=4)),
            ({"name": "median", "median": "lower"}, functools.partial(oracles.median, kind="lower")),
        )
    ),
    Member(
        "bulyan",
        {"base": "geometric_median"},
        _bulyan(oracles.geometric_median),
        nightly=True,
        weights="selection",
        pools=False,
    ),
    Member("bulyan", {"base": "average"}, _bulyan(oracles.average), nightly=True, weights="selection", pools=False),
    Member("bulyan", {"base": "brute"}, _bulyan(oracles.brute), nightly=True, weights="selection", pools=False),
    Member(
        "bulyan", {"base": "multi_krum"}, _bulyan(oracles.multi_krum), nightly=True, weights="selection", pools=False
    ),
    Member(
        "bulyan",
        {"base": "trimmed_mean"},
        _bulyan(oracles.trimmed_mean),
        nightly=True,
        weights="selection",
        pools=False,
    ),
    Member(
        "bulyan",
        {"base": "mean_around_median"},
        _bulyan(oracles.mean_around_median),
        nightly=True,
        weights="selection",
        pools=False,
    ),
    Member("bulyan", {"base": "phocas"}, _bulyan(oracles.phocas), nightly=True, weights="selection", pools=False),
    Member("bulyan", {"base": "aksel"}, _bulyan(oracles.aksel), nightly=True, weights="selection", pools=False),
    Member("trimmed_mean", {}, oracles.trimmed_mean, weights="none"),
    Member("mean_around_median", {}, oracles.mean_around_median, weights="none"),
    Member(
        "mean_around_median",
        {"count": "n-f-1"},
        lambda rows, f: oracles.mean_around_median(rows, f, count=len(rows) - f - 1),
        nightly=True,
        weights="none",
    ),
    Member(
        "mean_around_median",
        {"median": "lower"},
        lambda rows, f: oracles.mean_around_median(rows, f, kind="lower"),
        nightly=True,
        weights="none",
    ),
    Member("phocas", {}, oracles.phocas, weights="none"),
    Member("median_of_means", {}, oracles.median_of_means, lacks=GROUPS, pools=False),
    Member(
        "median_of_means",
        {"median": "coordinate"},
        lambda rows, f: oracles.median_of_means(rows, f, of=oracles.median),
        nightly=True,
        lacks=GROUPS,
        weights="none",
        pools=False,
    ),
    Member("cge", {}, oracles.cge, lacks=SHORT),
    Member(
        "cge",
        {"output": "sum"},
        lambda rows, f: oracles.cge(rows, f) * (len(rows) - f),
        robust=False,  # no mean: n-f times as far from the honest rows
        nightly=True,
        lacks={**SHORT, "unanimity": "it is a sum"},
        weights="selection",
    ),
    Member(
        "norm_clipping",
        {},
        oracles.norm_clipping,
        lacks={"translation": FROM_ORIGIN, "majority": EACH_PULLS},
        weights="none",
        pools=False,
    ),
    Member(
        "norm_clipping",
        {"tau": 1.0},
        lambda rows, f: oracles.norm_clipping(rows, f, tau=1.0),
        nightly=True,
        lacks={**FIXED, "translation": FROM_ORIGIN, "majority": EACH_PULLS},
        weights="none",
        pools=False,
    ),
    Member(
        "centered_clipping",
        {},
        oracles.centered_clipping,
        lacks={"translation": LAST, "majority": EACH_PULLS},
        weights="none",
        pools=False,
    ),
    Member(
        "centered_clipping",
        {"tau": 0.1, "iterations": 3},
        lambda rows, f: oracles.centered_clipping(rows, f, tau=0.1, iterations=3),
        nightly=True,
        lacks={**FIXED, "translation": LAST, "majority": EACH_PULLS},
        weights="none",
        pools=False,
    ),
    Member(
        "centered_clipping",
        {"start": "median"},
        functools.partial(oracles.centered_clipping, start="median"),
        nightly=True,
        weights="none",
        pools=False,
    ),
    Member(
        "centered_clipping",
        {"start": "mean", "iterations": 3},
        functools.partial(oracles.centered_clipping, start="mean", iterations=3),
        robust=False,  # a row far away takes the mean with it
        nightly=True,
        weights="none",
        pools=False,
    ),
    Member(
        "clipped_clustering",
        {},
        oracles.clipped_clustering,
        lacks={"translation": FROM_ORIGIN, "majority": "one of two clusters is larger, whoever is in it"},
        weights="selection",
        pools=False,
    ),
    Member(
        "sign_majority",
        {},
        oracles.sign_majority,
        lacks={"translation": SIGNS, "scale": SIGNS, "unanimity": SIGNS},
        nan=0,
        weights="none",
    ),
    Member("aksel", {}, oracles.aksel),
    Member("aksel", {"count": "n-f"}, lambda rows, f: oracles.aksel(rows, f, count=len(rows) - f), nightly=True),
    Member(
        "aksel",
        {"median": "lower"},
        functools.partial(oracles.aksel, centre=functools.partial(oracles.median, kind="lower")),
        nightly=True,
    ),
    Member("smea", {}, oracles.smea, pools=False),
    Member("monna", {}, oracles.monna, lacks=PIVOT, pools=False, trusted=(-1,)),
    Member(
        "monna",
        {"pivot": 0},
        lambda rows, f: oracles.monna(rows, f, pivot=0),
        nightly=True,
        lacks=PIVOT,
        pools=False,
        trusted=(0,),
    ),
    Member(
        "fltrust",
        {},
        oracles.fltrust,
        lacks={
            "translation": FROM_ORIGIN,
            "scale": OWN_LENGTH,
            "unanimity": OWN_LENGTH,
            "majority": "it is not the majority that is trusted",
        },
        weights="selection",
        pools=False,
        asks=True,
    ),
    Member(
        "zeno",
        {},
        oracles.zeno,
        lacks={"translation": DESCENT, "scale": DESCENT, "majority": DESCENT},
        pools=False,
        asks=True,
    ),
    Member(
        "dnc",
        {},
        oracles.dnc,
        lacks={
            "majority": "only what stands out in one direction is dropped",
            "masking": "a row far out hides another that is less far",
        },
        pools=False,
        asks=True,
    ),
    Member("caf", {}, oracles.caf, pools=False),
    Member("signguard", {"share": 1.0}, oracles.signguard, lacks=COUNTED, weights="selection", pools=False),
    *(
        Member(
            "signguard",
            {"share": 1.0, "similarity": kind},
            functools.partial(oracles.signguard, similarity=kind),
            nightly=True,
            lacks=lacks,
            weights="selection",
            pools=False,
        )
        for kind, lacks in (("cosine", COUNTED), ("distance", {"translation": SIGNS}))
    ),
    Member(
        "foolsgold",
        {},
        oracles.foolsgold,
        robust=False,  # a Byzantine worker alone has the largest weight
        lacks={**SYBILS, "unanimity": "it is a sum"},
        weights="selection",
        pools=False,
    ),
    Member(
        "foolsgold",
        {"output": "mean"},
        functools.partial(oracles.foolsgold, divide=True),
        robust=False,
        nightly=True,
        lacks=SYBILS,
        pools=False,
    ),
]
ROBUST = [member for member in MEMBERS if member.robust]


# Where a test compiles each rule anew, which is what takes the time, the others are tested at night. By day CORE where
# the mistake could be in the rule, FEW where it would be in what wraps every rule, with a state or without.
CORE = {"average", "median", "krum", "bulyan", "trimmed_mean", "centered_clipping", "dnc"}
FEW = {"average", "median", "trimmed_mean", "centered_clipping"}


def each(members, by_day=None):
    """A test of each of these; those that are `nightly`, or of a rule that is not named `by_day`, at night only."""
    slow = [m.nightly or not (by_day is None or m.name in by_day) for m in members]
    marked = [by_night(m) if late else m for m, late in zip(members, slow, strict=True)]
    return pytest.mark.parametrize("member", marked, ids=[m.id for m in members])


def normal(count, n, d, seed=0):
    """Rows in general position: no ties."""
    return np.random.default_rng(seed).normal(size=(count, n, d)).astype(np.float32)


def integers(count, n, d, seed=0, largest=2):
    """Small whole numbers: many equal rows and equal distances, all exact in float32."""
    return np.random.default_rng(seed).integers(-largest, largest + 1, size=(count, n, d)).astype(np.float32)


def attacked(count, n, d, f, seed=0):
    """Normal rows, of which f random ones are moved away together by a random length."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, n, d))
    for batch in rows:
        batch[rng.permutation(n)[:f]] += rng.normal(size=d) * rng.choice([0.5, 2, 100])
    return rows.astype(np.float32)


def outputs(member, batches, f):
    """The rule over `[count, n, d]`, as float64 `[count, d]`."""
    return np.asarray(applied(member, batches, f)[0], np.float64)[:, : batches.shape[2]]


def applied(member, batches, f):
    """Aggregates and information of each case; compiled once for each rule, n and f.

    To that end there are always as many cases, as many columns at least, and what is missing is 0.
    """
    count, n, d = batches.shape
    padded = np.zeros((-(-count // 320) * 320, n, max(5, d)), np.float32)
    padded[:count, :, :d] = batches
    found = _applied(member.id, n, f)(padded)
    return jax.tree.map(lambda each: each[:count], found)


@functools.cache
def _applied(name, n, f):
    (member,) = [each for each in MEMBERS if each.id == name]
    rule = aggregators.build(member.name, n, f, **member.options)

    def one(rows):
        aggregate, _, info = rule.apply(rows, rule.init(rows.shape[1]), context(rows.shape[1]))
        return aggregate, info

    return jax.jit(lambda batches: jax.lax.map(one, batches))


def agree(outputs, batches, f, oracle):
    """The cases of `[count, n, d]` that the oracle confirms: the comparison that accepts rules and rejects mutants."""
    expected = np.stack([oracle(rows, f) for rows in batches])
    scale = np.abs(batches).max(axis=(1, 2)).clip(1e-30)
    return np.abs(outputs - expected).max(axis=1) <= 2e-5 * scale
