"""Latency models against their formulas, and what the rest of a latency does to them."""

import numpy as np
import pytest

from byzax.simulator import keys, latency, parts
from byzax.simulator.durations import MessageBits, build_draws, iterate_jobs
from tests.simulator.conftest import small

MODELS = ["constant", "exponential", "shifted_exponential", "lognormal", "pareto"]


def spans(described, n=4, count=20_000, seed=0, bits=1000):
    draws = build_draws(small(latency=described).latency, n, seed, MessageBits(bits, bits, bits))
    return [draw(0, count) for draw in draws]


# P(x <= t) by hand
DISTRIBUTIONS = {
    "exponential": ({"mean": 2.0}, lambda t: 1 - np.exp(-t / 2)),
    "shifted_exponential": ({"shift": 1.0, "mean": 0.5}, lambda t: np.where(t < 1, 0, 1 - np.exp(-(t - 1) / 0.5))),
    "pareto": ({"scale": 0.7, "alpha": 1.5}, lambda t: np.where(t < 0.7, 0, 1 - (0.7 / np.maximum(t, 0.7)) ** 1.5)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_times_follow_the_formula(name):
    options, below = DISTRIBUTIONS[name]
    drawn = np.sort(spans({"name": name, **options})[2].compute)
    # Kolmogorov and Smirnov: above 1.95 / sqrt(count) once in a thousand
    assert np.abs(below(drawn) - (np.arange(len(drawn)) + 0.5) / len(drawn)).max() < 1.95 / np.sqrt(len(drawn))


def test_lognormal_has_its_median_and_the_deviation_of_its_logarithm():
    drawn = np.log(spans({"name": "lognormal", "median": 3.0, "sigma": 0.4})[0].compute)
    # both within four standard errors
    assert abs(drawn.mean() - np.log(3)) < 4 * 0.4 / np.sqrt(len(drawn))
    assert abs(drawn.std() - 0.4) < 4 * 0.4 / np.sqrt(2 * len(drawn))
    assert spans({"name": "constant", "seconds": 2.5})[0].compute[:3].tolist() == [2.5] * 3


@pytest.mark.parametrize("name", MODELS)
def test_a_jobs_time_depends_on_seed_worker_and_job_and_on_nothing_else(name):
    full = {"name": name, "up": {"delay": {"name": "exponential"}}, "loss": 0.3, "stragglers": {"burst": 3.0}}
    source = small(latency=full).latency
    bits = MessageBits(100, 100, 100)
    whole = [draw(0, 50) for draw in build_draws(source, 3, 1, bits)]
    parts = build_draws(source, 3, 1, bits)
    # other sizes of blocks, workers in another order
    pieces = {i: [parts[i](0, 7), parts[i](7, 1), parts[i](8, 42)] for i in (2, 0, 1)}
    for i in range(3):
        for name_, series in whole[i]._asdict().items():
            assert np.array_equal(series, np.concatenate([getattr(piece, name_) for piece in pieces[i]]))
    one = next(iterate_jobs(build_draws(source, 3, 1, bits)[1]))
    assert one == tuple(series[0] for series in whole[1])
    if name != "constant":
        assert not np.array_equal(whole[0].compute, whole[1].compute)
        assert not np.array_equal(whole[0].compute, build_draws(source, 3, 2, bits)[0](0, 50).compute)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0,-1", "seconds must be a number >= 0, got '-1'"),
        ("0,1,5", "2 values are needed"),
        ("0", "2 values are needed"),
        (",1", "a worker among them"),
    ],
)
def test_a_line_of_a_trace_that_says_nothing_clear_is_refused_with_its_number(tmp_path, line, said):
    file = tmp_path / "trace.csv"
    file.write_text(f"worker,seconds\n0,1\n{line}\n")
    with pytest.raises(ValueError, match=f"line 3: .*{said}"):
        latency.build("trace", file=str(file))


def test_a_trace_of_a_spreadsheet_is_read(tmp_path):
    file = tmp_path / "trace.csv"
    file.write_bytes("\ufeffworker, seconds\r\nä, 1.5\r\n".encode())
    assert latency.build("trace", file=str(file))(np.random.default_rng(0), 0, 0, 2).tolist() == [1.5, 1.5]


def test_messages_take_their_delay_and_bits_over_bandwidth():
    link = {"up": {"delay": 0.25, "bandwidth": 1e3}, "down": {"bandwidth": 4e3}}
    drawn = spans({"name": "constant", **link}, bits=2000)[0]
    assert (drawn.up[0], drawn.down[0]) == (2.25, 0.5)
    random = spans({"name": "constant", "up": {"delay": {"name": "exponential", "mean": 0.5}}})[0]
    assert random.up.mean() == pytest.approx(0.5, rel=4 / np.sqrt(20_000))


def test_messages_have_as_many_bits_as_the_model():
    assert parts.message_bits(small().run) == 32 * 650
    slow = {"name": "constant", "up": {"bandwidth": 650.0 * 32}}
    from byzax.simulator.executors.base import plan

    assert plan(small(latency=slow).run).time_s.tolist() == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]


def test_the_size_of_a_message_is_found_once_for_all_seeds(monkeypatch):
    made, build = [], parts.build
    monkeypatch.setattr(parts, "build", lambda *given: made.append(given) or build(*given))
    parts._parameter_shapes.cache_clear()
    runs = [small(model=model).run.replace(seed=seed) for model in ("softmax", "mlp") for seed in range(3)]
    assert len({parts.message_bits(run) for run in runs}) == 2
    assert len(made) == 2


def test_factors_are_given_or_drawn_and_multiply():
    given = spans({"name": "constant", "seconds": 2.0, "factors": [1.0, 2.0, 3.0, 0.5, 1.0, 1.0, 1.0]}, n=7, count=5)
    assert [each.compute[0] for each in given] == [2.0, 4.0, 6.0, 1.0, 2.0, 2.0, 2.0]
    drawn = [each.compute[0] for each in spans({"name": "constant", "factors": {"name": "lognormal"}}, n=7, count=5)]
    assert len(set(drawn)) == 7


def test_a_share_of_the_workers_is_slow_always_or_in_spells():
    always = spans({"name": "constant", "stragglers": {"share": 0.3, "factor": 5.0}}, n=10, count=50)
    assert sorted(each.compute.mean() for each in always) == [1.0] * 7 + [5.0] * 3
    spells = spans({"name": "constant", "stragglers": {"share": 1.0, "factor": 5.0, "burst": 4.0, "pause": 12.0}}, n=1)
    slow = spells[0].compute == 5
    # a quarter of the time, in spells of four jobs; 1,250 spells, geometric with deviation sqrt(12)
    lengths = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], slow, [0]]))))[::2]
    assert abs(slow.mean() - 0.25) < 0.04
    assert abs(lengths.mean() - 4) < 4 * np.sqrt(12 / len(lengths))


def test_no_two_things_are_drawn_from_one_stream(monkeypatch):
    streams = []
    made = keys.np.random.default_rng
    monkeypatch.setattr(
        keys.np.random, "default_rng", lambda entropy: streams.append(entropy) or made(entropy), raising=True
    )
    stragglers = {"share": 1.0, "burst": 4.0}
    spans({"name": "exponential", "stragglers": stragglers, "factors": {"name": "lognormal"}}, n=7, count=5)
    # zeros at the end of a seed make no difference to NumPy
    states = {tuple(np.random.SeedSequence(entropy).generate_state(4)) for entropy in streams}
    assert len(states) == len(streams) == 7 * 6 + 1


def test_messages_are_lost_with_the_probability_given():
    lost = spans({"name": "constant", "loss": 0.2})[1].lost
    assert abs(lost.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / len(lost))


def test_a_trace_gives_its_lines_in_order_again_and_again(tmp_path):
    file = tmp_path / "times.csv"
    file.write_text("worker,seconds,note\na,1.5,x\nb,4,\na,2.5,\n")
    drawn = spans({"name": "trace", "file": str(file)}, n=3, count=5)
    assert drawn[0].compute.tolist() == [1.5, 2.5, 1.5, 2.5, 1.5]
    assert drawn[1].compute.tolist() == [4.0] * 5
    assert drawn[2].compute.tolist() == drawn[0].compute.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("worker,time\n0,1\n", "lacks the column seconds in its first line"),
        ("worker,seconds\n", "holds no line after the first"),
        ("worker,seconds\n0,1\n0,soon\n", "line 3: seconds must be a number >= 0, got 'soon'"),
        ("worker,seconds\n0,-1\n", "line 2: seconds must be a number >= 0"),
        ("worker,seconds\n0,inf\n", "line 2"),
        ("worker,seconds\n0\n", "line 2"),
    ],
)
def test_a_trace_that_cannot_be_used_is_refused_with_its_line(tmp_path, content, message):
    file = tmp_path / "times.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=f"trace {file}: .*{message}"):
        latency.build("trace", file=str(file))
