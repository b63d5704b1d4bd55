"""The one table of rules that drives the shared tests, and the inputs they are fed with."""

import functools
import re
from typing import NamedTuple

import jax
import numpy as np
import oracles

import aggregators


class Member(NamedTuple):
    """A rule with options, its oracle, and whether it promises anything against Byzantine rows.

    `nightly`: a further option of a rule that is in the table already; the contract tests take it at night only.
    """

    name: str
    options: dict
    oracle: object
    robust: bool = True
    nightly: bool = False

    @property
    def id(self):
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    def build(self, n, f):
        return aggregators.build(self.name, n, f, **self.options)

    def smallest_n(self, f):
        """From the docstring, so that the docstring cannot say anything else than the code."""
        factor, offset = re.search(
            r"^ *Condition: n >= (\d*)f(?: \+ (\d+))?$", aggregators.factory(self.name).__doc__, re.M
        ).groups()
        return max(1, int(factor or 1) * f + int(offset or 0))


def _bulyan(base, kind="lower"):
    return lambda rows, f: oracles.bulyan(rows, f, base, kind)


MEMBERS = [
    Member("average", {}, oracles.average, robust=False),
    Member("median", {}, oracles.median),
    Member("geometric_median", {}, oracles.geometric_median),
    Member("krum", {}, oracles.krum),
    Member("krum", {"distance": "plain"}, lambda rows, f: oracles.krum(rows, f, power=1)),
    Member(
        "krum",
        {"neighbours": "n-f-1"},
        lambda rows, f: oracles.krum(rows, f, neighbours=len(rows) - f - 1),
        nightly=True,
    ),
    Member("multi_krum", {}, oracles.multi_krum),
    Member("multi_krum", {"m": 1}, lambda rows, f: oracles.multi_krum(rows, f, m=1), nightly=True),
    Member("brute", {}, oracles.brute),
    Member("bulyan", {}, _bulyan(oracles.krum)),
    Member("bulyan", {"median": "mid"}, _bulyan(oracles.krum, "mid"), nightly=True),
    Member("bulyan", {"median": "upper"}, _bulyan(oracles.krum, "upper"), nightly=True),
    Member("bulyan", {"base": "median"}, _bulyan(oracles.median)),
    Member("bulyan", {"base": "geometric_median"}, _bulyan(oracles.geometric_median), nightly=True),
    Member("bulyan", {"base": "average"}, _bulyan(oracles.average), nightly=True),
    Member("bulyan", {"base": "brute"}, _bulyan(oracles.brute), nightly=True),
    Member("bulyan", {"base": "multi_krum"}, _bulyan(oracles.multi_krum), nightly=True),
]
ROBUST = [member for member in MEMBERS if member.robust]


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
    found = _applied(member.name, tuple(member.options.items()), n, f)(padded)
    return jax.tree.map(lambda each: each[:count], found)


@functools.cache
def _applied(name, options, n, f):
    rule = aggregators.build(name, n, f, **dict(options))

    def one(rows):
        aggregate, _, info = rule.apply(rows, rule.init(rows.shape[1]))
        return aggregate, info

    return jax.jit(lambda batches: jax.lax.map(one, batches))


def agree(outputs, batches, f, oracle):
    """Which cases of `[count, n, d]` the oracle confirms: the one comparison that accepts rules and rejects mutants."""
    expected = np.stack([oracle(rows, f) for rows in batches])
    scale = np.abs(batches).max(axis=(1, 2)).clip(1e-30)
    return np.abs(outputs - expected).max(axis=1) <= 2e-5 * scale
