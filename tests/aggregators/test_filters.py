"""Filters of single rows, against float64 versions written from the papers, over honest and Byzantine rows."""

import re
from collections import Counter
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax.aggregators import Context, filters
from byzax.aggregators.filters import Sent
from tests.nightly import by_day, by_night

ETA = 0.1
DAMPENING = {
    "exponential": lambda age, alpha: np.exp(-alpha * age),
    "inverse": lambda age, alpha: 1 / (1 + age),
    "constant": lambda age, alpha: 1.0,
}


# --- sequences of rows, and the server that meets them ----------------------------------------------------------------


def rows_of(seed, n, f, count=300, d=6, silent=0):
    """`count` rows of n workers of which the first f are Byzantine: rows, workers, ages.

    The last `silent` workers never send.
    """
    rng = np.random.default_rng(seed)
    gradient = rng.normal(size=d)
    # heterogeneous: the rows of each worker have a mean of their own
    own = gradient + rng.normal(size=(n, d))
    workers = rng.integers(0, n - silent, count)
    rows = own[workers] + 0.3 * rng.normal(size=(count, d))
    attacks = [
        lambda row: -10 * row, lambda row: 1e-3 * row, lambda row: 0 * row, lambda row: 1e30 * row,
        lambda row: np.full(d, np.nan), lambda row: np.where(np.arange(d) == 1, np.inf, row), lambda row: row,
        lambda row: -row, lambda row: gradient,
    ]  # fmt: skip
    for place in np.flatnonzero(workers < f):
        rows[place] = attacks[rng.integers(len(attacks))](rows[place])
    return rows.astype(np.float32), workers, rng.integers(0, 12, count)


@lru_cache
def server(judge):
    """The run of a server that does plain SGD with what the filter accepts, one compiled loop."""

    def step(carry, now):
        params, state = carry
        row, worker, age, own = now
        context = Context(jax.random.key(0), params, lambda: own)
        handed, accepted, state = judge.judge(row, Sent(worker, age), context, state)
        return (jnp.where(accepted, params - ETA * handed, params), state), (accepted, handed, state, params)

    return jax.jit(lambda start, *events: jax.lax.scan(step, (start, judge.init(start)), events)[1])


def served(judge, sequence, own=None):
    """The verdicts of the filter on each row, the rows it handed on, its states, and the model before each row.

    `own`: the server's own row at each step, `[count, d]`.
    """
    rows = sequence[0]
    start = np.linspace(-1, 1, rows.shape[1], dtype=np.float32)
    return jax.tree.map(np.asarray, server(judge)(start, *sequence, np.zeros_like(rows) if own is None else own))


@lru_cache
def made(name, n, f, **options):
    return filters.factory(name)(n, f, **options)


# --- Kardam: the oracle and its mutants -------------------------------------------------------------------------------


def bound(known, n, f):
    """The (n-f)-th smallest of n coefficients, where a worker without one has the smallest of all."""
    return sorted([-np.inf] * (n - len(known)) + list(known.values()))[n - f - 1]


def in_turn(before, worker, f):
    """Tells whether, with this row, no f workers have more than f of the last 2f+1: counted over the f that have most.

    Places that are empty, or were given up, may yet be those of others, one each.
    """
    window = ([None] * 2 * f + [*before, worker])[-2 * f - 1 :]
    counts = Counter(("nobody", place) if each is None else each for place, each in enumerate(window))
    return f == 0 or sum(sorted(counts.values())[-f:]) <= f


def kardam(sequence, models, n, f, dampening="exponential", alpha=0.2, coefficients="kept", **wrong):
    """The verdicts of Kardam on each row, as the paper and the docstring have it; `wrong` replaces a part of it."""
    part = {
        "bound": bound, "in_turn": in_turn, "finite": lambda row: np.isfinite(row).all(), "forgets": True,
        "keeps_refused": True, "divided": True, "patience": lambda refused: len(set(refused)) >= n - f,
        "compared": lambda last, worker, newest: last, "moves": True, "bad": np.inf,
    } | wrong  # fmt: skip
    last, before, weight, moved = np.zeros(models.shape[1]), models[0].astype(float), 1.0, 1.0
    kept, order, refused, newest, said = {}, [], [], {}, []
    for row, worker, age, model in zip(*sequence, models, strict=True):
        row, model = row.astype(float), model.astype(float)
        step = np.linalg.norm(model - before) / (weight if part["divided"] else 1)
        if step > 0 or not part["moves"]:
            moved = step
        now = newest | {worker: row}

        def growth(x, against, moved=moved):
            with np.errstate(all="ignore"):
                return np.linalg.norm(x - against) / moved if np.isfinite(x).all() else part["bad"]

        if coefficients == "renewed":
            known = {each: growth(x, last) for each, x in now.items()}
        else:
            known = kept | {worker: growth(row, part["compared"](last, worker, newest))}
        right = (
            part["finite"](row) and known[worker] <= part["bound"](known, n, f) and part["in_turn"](order, worker, f)
        )
        if right or part["keeps_refused"]:
            kept = known
        newest[worker] = row
        if right:
            if not any(said) and part["forgets"]:
                kept = {}
            last, before, weight, refused = row, model, DAMPENING[dampening](age, alpha), []
            order.append(worker)
        else:
            refused.append(worker)
            if part["patience"](refused):
                order.append(None)
                refused = []
        said.append(bool(right))
    return np.array(said)


CASES = [(4, 1, 0), (4, 1, 1), (7, 2, 0), (10, 3, 2), (13, 2, 1), (6, 0, 0), (1, 0, 0), (9, 2, 0)]
CASES_BY_DAY = [*CASES[:4], (1, 0, 0)]
OPTIONS = [{}, {"dampening": "inverse"}, {"dampening": "constant"}, {"alpha": 0.7}, {"coefficients": "renewed"}]


@pytest.mark.parametrize(
    ("n", "f", "silent", "options"),
    [
        (*case, options)
        if (case in CASES_BY_DAY if options == {} else case == CASES[2] and options in OPTIONS[2::2])
        else by_night(*case, options)
        for options in OPTIONS
        for case in CASES
    ],
    ids=str,
)
def test_kardam_says_of_every_row_what_the_paper_says(n, f, silent, options):
    for seed in range(3):
        sequence = rows_of(seed, n, f, silent=silent)
        said, handed, _, models = served(made("kardam", n, f, **options), sequence)
        np.testing.assert_array_equal(said, kardam(sequence, models, n, f, **options))
        assert 0.05 < said.mean() < 1 or f == 0
        chosen = {"dampening": "exponential", "alpha": 0.2} | options
        weights = DAMPENING[chosen["dampening"]](sequence[2], chosen["alpha"]) * np.ones(len(said))
        np.testing.assert_allclose(handed[said], (weights[:, None] * sequence[0])[said], rtol=1e-5)


MUTANTS = {
    "the quantile between two values": {"bound": lambda k, n, f: np.quantile(list(k.values()), (n - f) / n)},
    "one row more": {"bound": lambda k, n, f: sorted([-np.inf] * (n - len(k)) + list(k.values()))[min(n - f, n - 1)]},
    "the bound of 2/3": {"bound": lambda k, n, f: sorted([-np.inf] * (n - len(k)) + list(k.values()))[2 * n // 3 - 1]},
    "workers that never sent are left out": {
        "bound": lambda k, n, f: sorted(k.values())[max(int(np.ceil(len(k) * (n - f) / n)) - 1, 0)]
    },
    "no turns": {"in_turn": lambda order, worker, f: True},
    "up to f rows of each worker": {"in_turn": lambda order, p, f: f == 0 or [*order[-2 * f :], p].count(p) <= f},
    "a window of 2f rows": {"in_turn": lambda order, worker, f: in_turn(order[-2 * f + 1 :] if f else [], worker, f)},
    "a window of 2f+2 rows": {"in_turn": lambda order, worker, f: worker not in order[-2 * f - 1 :]},
    "NaN is the smallest": {"finite": lambda row: True, "bad": 0.0},
    "refused rows leave no coefficient": {"keeps_refused": False},
    "the first coefficients are kept": {"forgets": False},
    "moves of light rows are short": {"divided": False},
    "no move is no move": {"moves": False},
    "compared with the worker's own row": {"compared": lambda last, p, newest: newest.get(p, 0 * last)},
    "compared with the newest row": {"compared": lambda last, p, newest: next(reversed(newest.values()), 0 * last)},
    "never patient": {"patience": lambda refused: True},
    "patient for ever": {"patience": lambda refused: False},
    "patient for n rows": {"patience": lambda refused: len(refused) >= 4},
}


@pytest.mark.parametrize("mistake", MUTANTS)
def test_the_sequences_tell_kardam_from_each_mistake(mistake):
    different = 0
    for n, f, silent in CASES[:5]:
        for seed in range(3):
            sequence = rows_of(seed, n, f, silent=silent)
            said, _, _, models = served(made("kardam", n, f), sequence)
            with np.errstate(all="ignore"):
                different += (said != kardam(sequence, models, n, f, **MUTANTS[mistake])).any()
    assert different


# --- Kardam: what it promises -----------------------------------------------------------------------------------------


def test_no_accepted_row_differs_more_than_the_one_of_an_honest_worker():
    """With f Byzantine workers, one of the f+1 largest coefficients is honest, and the bound is not above these."""
    n, f, rng = 10, 3, np.random.default_rng(5)
    rows, workers, ages = rows_of(5, n, f, count=1500)
    rows[workers < f] *= (10 ** rng.uniform(-3, 6, (workers < f).sum()))[:, None].astype(np.float32)
    said, _, states, _ = served(made("kardam", n, f), (rows, workers, ages))
    accepted = 0
    for place in np.flatnonzero(said[1:] & (workers[1:] < f)) + 1:
        coefficients = states.coefficients[place]
        if said[:place].any():
            assert coefficients[workers[place]] <= coefficients[f:].max()
            accepted += 1
    assert accepted > 20


@pytest.mark.slow
def test_after_a_row_close_to_0_kept_coefficients_let_much_through_and_renewed_ones_do_not():
    """The docstring's warning: the small move makes the coefficients of f+1 workers large, and so the bound."""
    n, f, rng = 7, 2, np.random.default_rng(0)
    workers = np.arange(70) % n
    rows = (1 + 0.3 * rng.normal(size=(70, 50))).astype(np.float32)
    rows[36:43] *= 1e-4
    # a round of rows close to 0, a round of usual ones, and the Byzantine row
    bad = 49
    rows[bad] = -20
    for coefficients, through in (("kept", True), ("renewed", False)):
        _, _, states, _ = served(
            made("kardam", n, f, dampening="constant", coefficients=coefficients), (rows, workers, np.zeros(70, int))
        )
        own, bound = states.coefficients[bad, workers[bad]], np.sort(states.coefficients[bad])[n - f - 1]
        assert (own <= bound) == through, (coefficients, own, bound)


@pytest.mark.parametrize(("n", "f"), [(4, 1), by_night(7, 2), by_night(10, 3), by_night(12, 2)])
def test_byzantine_workers_that_send_ten_times_as_often_have_at_most_f_of_any_2f_plus_1_accepted_rows(n, f):
    rng = np.random.default_rng(n)
    count = 2000
    workers = np.where(rng.random(count) < 0.9, rng.integers(0, f, count), rng.integers(f, n, count))
    rows = rng.normal(size=(count, 5)).astype(np.float32)
    said, _, states, _ = served(made("kardam", n, f), (rows, workers, np.zeros(count, int)))
    accepted, windows = workers[said], 0
    clock = states.clock[said]
    for first in range(len(accepted) - 2 * f):
        window = slice(first, first + 2 * f + 1)
        # turns that were given up in between take a place of their own
        if clock[window][-1] - clock[window][0] == 2 * f:
            assert len(set(accepted[window])) == 2 * f + 1
            assert (accepted[window] >= f).sum() >= f + 1
            windows += 1
    assert windows > 20
    assert (accepted < f).mean() <= 0.5


def far(coefficients, workers, n, f):
    """The rows with a coefficient above the bound, whoever's turn it is."""
    return coefficients[np.arange(len(workers)), workers] > np.sort(coefficients, axis=1)[:, n - f - 1]


@pytest.mark.parametrize(("n", "f"), [(20, 2), by_night(16, 5)])
def test_the_slowdown_without_byzantine_workers_is_f_of_n(n, f):
    """A fresh coefficient is as likely as any other to be one of the f largest of n. The paper: less than f/n.

    4,000 rows: the standard deviation of the share is below 0.0075 were they independent; twice that is allowed for
    what they share, four times over.
    """
    rng = np.random.default_rng(0)
    workers = np.concatenate([rng.permutation(n) for _ in range(4000 // n)])
    rows = (0.2 + rng.normal(size=(len(workers), 100))).astype(np.float32)
    said, _, states, _ = served(made("kardam", n, f), (rows, workers, np.zeros(len(workers), int)))
    assert abs(far(states.coefficients, workers, n, f).mean() - f / n) < 0.06
    if 2 * f < n / 4:
        # all have their turn again long before their next row
        assert said.mean() > 1 - f / n - 0.06


def test_with_byzantine_rows_close_to_the_last_one_the_slowdown_is_f_of_n_minus_f():
    n, f, rng = 16, 5, np.random.default_rng(1)
    workers = np.concatenate([rng.permutation(n) for _ in range(250)])
    rows = (0.2 + rng.normal(size=(len(workers), 100))).astype(np.float32)
    rows[workers < f] = 0
    _, _, states, _ = served(made("kardam", n, f), (rows, workers, np.zeros(len(workers), int)))
    share = far(states.coefficients, workers, n, f)[workers >= f].mean()
    assert abs(share - f / (n - f)) < 0.06


def fixed_rows(n, count, alive):
    """Rows of the workers `alive` in turn, the same ones every time, each further from the others than those before."""
    workers = np.array(alive)[np.arange(count) % len(alive)]
    return (np.eye(n, 8)[workers] * 2.0 ** workers[:, None]).astype(np.float32), workers, np.zeros(count, int)


def test_kardam_goes_on_where_the_only_worker_whose_turn_it_is_always_differs_most():
    # worker 0 is silent, 3 differs most from any other: after 1 and 2 it would be 3's turn, for ever
    sequence = fixed_rows(4, 400, [1, 2, 3])
    said, _, _, models = served(made("kardam", 4, 1), sequence)
    assert said[-50:].any()
    stuck = kardam(sequence, models, 4, 1, patience=lambda refused: False)
    assert not stuck[100:].any()


@pytest.mark.parametrize(("n", "f"), [by_night(4, 1), (7, 2), by_night(10, 3)])
def test_rows_are_accepted_as_long_as_n_minus_f_workers_send_and_not_from_f_alone(n, f):
    for silent in (f, n - f):
        for seed in range(3):
            rows, workers, ages = rows_of(seed, n, 0, count=900, silent=silent)
            said, *_ = served(made("kardam", n, f), (rows, workers, ages))
            assert said[-200:].any() == (silent == f)


# --- Zeno++ -----------------------------------------------------------------------------------------------------------


def zeno_plus_plus(sequence, own, learning_rate=0.1, rho=1e-3, epsilon=0.0, delay=10, **wrong):
    """The verdicts of Zeno++ on each row, and the rows it hands on."""
    part = {
        "fresh": lambda step, said: step % delay == 0, "squared": lambda x, g: g @ g, "length": np.linalg.norm,
        "sign": -1, "eps": learning_rate * epsilon,
    } | wrong  # fmt: skip
    said, handed = [], []
    for step, (x, mine) in enumerate(zip(sequence[0].astype(float), own.astype(float), strict=True)):
        if part["fresh"](step, said):
            v = mine
        with np.errstate(all="ignore"):
            g = part["length"](v) / np.linalg.norm(x) * x
            score = learning_rate * (v @ g) + part["sign"] * rho * part["squared"](x, g) + part["eps"]
        said.append(bool(np.isfinite(x).all() and score >= 0))
        handed.append(g)
    return np.array(said), np.stack(handed)


ZENO_OPTIONS = [
    {}, {"delay": 1}, {"rho": 0.05, "delay": 3}, {"rho": 0.0, "epsilon": 0.5}, {"rho": 0.09, "learning_rate": 0.3},
    {"epsilon": -0.2, "delay": 4},
]  # fmt: skip


def own_rows(sequence, seed):
    rng = np.random.default_rng(seed)
    return (sequence[0][sequence[1] >= 3].mean(0) + 0.5 * rng.normal(size=sequence[0].shape)).astype(np.float32)


@pytest.mark.parametrize("options", by_day(ZENO_OPTIONS[::2], ZENO_OPTIONS), ids=str)
def test_zeno_plus_plus_says_of_every_row_what_the_paper_says(options):
    for seed in range(3):
        sequence = rows_of(seed, 7, 3)
        own = own_rows(sequence, seed)
        said, handed, *_ = served(made("zeno_plus_plus", 7, 3, **options), sequence, own)
        expected, rows = zeno_plus_plus(sequence, own, **options)
        np.testing.assert_array_equal(said, expected)
        np.testing.assert_allclose(handed[said], rows[said], rtol=1e-4, atol=1e-5)
        assert 0.2 < said.mean() < 0.95


ZENO_MUTANTS = {
    "the length that was sent": {"squared": lambda x, g: x @ x},
    "no square": {"squared": lambda x, g: np.sqrt(g @ g)},
    "rows as they were sent": {"length": None},
    "a reward for length": {"sign": 1},
    "epsilon as it is": {"eps": 0.3},
    "always a new row": {"fresh": lambda step, said: True},
    "never a new row": {"fresh": lambda step, said: step == 0},
    "a new row a step later": {"fresh": lambda step, said: step % 4 == 1 or step == 0},
    "a delay in accepted rows": {"fresh": lambda step, said: not said or sum(said) % 4 == 0},
}


@pytest.mark.parametrize("mistake", ZENO_MUTANTS)
def test_the_sequences_tell_zeno_plus_plus_from_each_mistake(mistake):
    options = {"rho": 0.03, "epsilon": 0.3, "delay": 4}
    different = 0
    for seed in range(3):
        sequence = rows_of(seed, 7, 3)
        own = own_rows(sequence, seed)
        said, handed, *_ = served(made("zeno_plus_plus", 7, 3, **options), sequence, own)
        if mistake == "rows as they were sent":
            wrong, rows = said, sequence[0]
        else:
            wrong, rows = zeno_plus_plus(sequence, own, **options, **ZENO_MUTANTS[mistake])
        both = said & wrong
        different += (said != wrong).any() or not np.allclose(handed[both], rows[both], rtol=1e-3, atol=1e-4)
    assert different


def test_zeno_plus_plus_lets_honest_rows_through_and_none_that_point_back():
    rng = np.random.default_rng(2)
    rows = (1 + 0.5 * rng.normal(size=(200, 20))).astype(np.float32)
    workers = np.arange(200) % 9
    rows[workers < 5] *= -3
    said, *_ = served(made("zeno_plus_plus", 9, 5), (rows, workers, np.zeros(200, int)), np.abs(rows))
    assert said[workers >= 5].all()
    assert not said[workers < 5].any()


def test_zeno_plus_plus_is_right_where_squares_leave_float32():
    rows = np.array([[1e30, 1e30], [1e-30, 1e-30], [-1e30, 1e25], [1e-30, -1e-25]], np.float32)
    sequence = (rows, np.zeros(4, int), np.zeros(4, int))
    for size in (1e-25, 1, 1e25):
        own = np.full((4, 2), size, np.float32)
        said, handed, *_ = served(made("zeno_plus_plus", 2, 1), sequence, own)
        assert said.tolist() == [True, True, False, False]
        np.testing.assert_allclose(handed[:2], own[:2], rtol=1e-5)


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kardam", "zeno_plus_plus"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_with_one_bad_number_is_refused_and_forgotten(name, value):
    n, f, d = 10, 2, 3000
    rng = np.random.default_rng(3)
    workers = np.arange(120) % n
    rows = (1 + 0.1 * rng.normal(size=(120, d))).astype(np.float32)
    bad = workers < f
    # one among many: XLA's maximum on CPU drops a NaN where it is vectorised
    rows[bad, 1234] = value
    said, _, states, models = served(made(name, n, f), (rows, workers, np.zeros(120, int)), np.ones_like(rows))
    assert not said[bad].any()
    assert said[~bad][-40:].mean() > 0.4
    assert np.isfinite(models).all()
    if name == "kardam":
        assert np.isfinite(states.last[-1]).all()


@pytest.mark.parametrize("name", filters.available())
def test_the_state_keeps_shapes_and_types(name):
    judge = filters.factory(name)(7, 2)
    params = jnp.zeros(5)
    state = judge.init(params)
    context = Context(jax.random.key(0), params, lambda: params)
    _, accepted, after = jax.eval_shape(
        lambda row, state: judge.judge(row, Sent(jnp.asarray(0), jnp.asarray(0)), context, state), params, state
    )
    assert accepted.dtype == bool
    described = [jax.tree.map(lambda each: (each.shape, each.dtype), tree) for tree in (state, after)]
    assert described[0] == described[1]


def test_impossible_numbers_are_refused_with_the_way_out():
    for f in range(1, 4):
        with pytest.raises(ValueError, match=re.escape(f"kardam needs n >= 3f + 1: with n={3 * f} rows f is at most")):
            filters.factory("kardam")(3 * f, f)
        filters.factory("kardam")(3 * f + 1, f)
    with pytest.raises(ValueError, match="kardam: alpha must be at least 0, got -1"):
        filters.factory("kardam")(4, 1, alpha=-1)
    with pytest.raises(
        ValueError, match="kardam: dampening must be 'exponential', 'inverse' or 'constant', got 'linear'"
    ):
        filters.factory("kardam")(4, 1, dampening="linear")
    with pytest.raises(ValueError, match="kardam: coefficients must be 'kept' or 'renewed', got 'new'"):
        filters.factory("kardam")(4, 1, coefficients="new")
    for option, value in (("learning_rate", 0.0), ("rho", -1.0), ("delay", 0), ("delay", 2.5)):
        with pytest.raises(ValueError, match=f"zeno_plus_plus: {option} must be .*, got {value}"):
            filters.factory("zeno_plus_plus")(4, 1, **{option: value})
    with pytest.raises(ValueError, match=re.escape("with n=4 rows f is at most 3")):
        filters.factory("zeno_plus_plus")(4, 4)
    judge = filters.factory("zeno_plus_plus")(4, 1)
    with pytest.raises(ValueError, match=r"data\.validation above 0"):
        judge.judge(jnp.ones(2), Sent(0, 0), Context(jax.random.key(0), jnp.ones(2)), judge.init(jnp.ones(2)))
    with pytest.raises(ValueError, match="unknown filter 'kardm'; did you mean 'kardam'"):
        filters.factory("kardm")
