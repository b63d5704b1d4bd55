"""Progress of runs: a forecast everywhere, one line in a notebook, nothing but failures if quiet."""

import io
import itertools

import numpy as np
import pytest
from rich.console import Console

from byzax.experiments import progress
from byzax.experiments.entries import Entry
from byzax.experiments.progress import can_animate, forecast, report
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.diagnostics import Evaluation
from byzax.simulator.executors.base import Checkpoint
from tests.experiments.command import SMALL

RUNS = [Entry(f"run-{i}", parse_as(Study, SMALL | {"steps": 100}), "nnm [1] + krum", "none", {}, i) for i in range(3)]


def at(step, stopped=""):
    evaluation = Evaluation(*[0.5] * len(Evaluation._fields))
    return Checkpoint(0, step, 0.0, 0, 1.0, evaluation, None, np.zeros(1), stopped=stopped)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets: `clock[0]` seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_forecast_is_what_is_left_at_the_speed_of_what_is_done(clock):
    expected = forecast(300)
    assert expected.text() == ""
    expected.advance(RUNS[0], 50)
    clock[0] = 0.5
    # from half a second nothing is foretold
    assert expected.text() == ""
    clock[0] = 10.0
    assert expected.text() == "about 50 s left"
    expected.advance(RUNS[0], 100)
    clock[0] = 1000.0
    assert expected.text() == "about 33 min left"
    # the second run fails after ten updates: what it left undone takes no time
    expected.advance(RUNS[1], 10)
    expected.end(RUNS[1])
    clock[0] = 11_000.0
    assert expected.text() == "about 2.8 h left"
    expected.advance(RUNS[2], 100)
    expected.end(RUNS[2])
    assert expected.text() == ""


def steps(clock, console, **options):
    """The progress of three runs, of which the second fails, in 20 s each."""
    with report(console, 3, 300, **options) as told:
        told.starting("loop")
        for i, run in enumerate(RUNS):
            told.begin([run], 100)
            for step in (0, 50, 100) if i != 1 else (0, 50):
                clock[0] += 10.0 if step else 0.0
                told.advance(run, at(step))
            told.done(run, at(100)) if i != 1 else told.failed(run, "out of [memory]")
    return console.file.getvalue()


def test_a_plain_log_has_a_forecast_until_all_is_done(clock):
    lines = steps(clock, Console(file=io.StringIO(), width=200)).splitlines()
    assert lines == [
        "3 runs, 300 updates; starting loop",
        "[1/3] nnm [1] + krum, none, seed 0: test accuracy 0.500 (1.0 s); about 40 s left",
        "[2/3] nnm [1] + krum, none, seed 0: failed: out of [memory]",
        "[3/3] nnm [1] + krum, none, seed 0: test accuracy 0.500 (1.0 s)",
        "2 of 3 runs, 1 failed, in 50 s",
    ]


def test_a_long_run_says_where_it_is_and_how_long_it_takes(clock):
    console = Console(file=io.StringIO(), width=200)
    with report(console, 1, 100) as told:
        clock[0] = 20.0
        told.advance(RUNS[0], at(50))
    said = "nnm [1] + krum, none, seed 0: step 50 of 100, test accuracy 0.500; about 20 s left"
    assert said in console.file.getvalue().splitlines()


def test_a_notebook_has_one_line_and_no_escape_codes(clock, monkeypatch):
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    # a cell's command has a terminal, as far as it can tell
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    assert not can_animate(console)
    text = steps(clock, console)
    assert "\x1b" not in text
    rewritten, failure, last = (line.split("\r")[-1].rstrip() for line in text.split("\n"))
    assert rewritten == "nnm [1] + krum, none, seed 0: failed: out of [memory]"
    assert failure == "2 of 3 runs, 1 failed, in 50 s"
    assert last == ""
    assert "0 of 3 runs; about 50 s left; nnm [1] + krum, none, seed 0: step 50 of 100, test accuracy 0.500" in text
    # a shorter line covers the one before it
    shown = text.split("\n")[0].split("\r")[1:]
    assert all(len(line) >= len(before.rstrip()) for before, line in itertools.pairwise(shown))
    assert all(len(line) < 120 for line in text.replace("\n", "\r").split("\r"))


def test_quiet_says_nothing_but_failures(clock):
    for terminal in (True, False):
        text = steps(clock, Console(file=io.StringIO(), width=200, force_terminal=terminal), quiet=True)
        assert text == "nnm [1] + krum, none, seed 0: failed: out of [memory]\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_runs_under_way_at_once_are_counted_each_by_itself(clock, terminal):
    # of two studies that have a run of one name
    one, other = RUNS[0], RUNS[1]._replace(slug=RUNS[0].slug)
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal)
    with report(console, 2, 200) as told:
        told.starting("loop in 2 processes")
        for run in (one, other):
            told.begin([run], 100)
            told.advance(run, at(0))
        told.advance(one, at(50))
        told.advance(other, at(50))
        clock[0] = 20.0
        told.done(one, at(50, stopped="no better"))
        told.failed(other, "killed")
        told.begin([RUNS[2]], 100)
    text = console.file.getvalue()
    assert "failed" in text
    if not terminal:
        # half of the updates of each are made, and what neither makes takes no time
        assert "[1/2] nnm [1] + krum, none, seed 0: test accuracy 0.500 (1.0 s); about 10 s left" in text
        assert text.splitlines()[-1] == "1 of 2 runs, 1 failed, in 20 s"


def test_a_terminal_is_animated_and_a_pipe_is_not():
    assert can_animate(Console(file=io.StringIO(), force_terminal=True))
    assert not can_animate(Console(file=io.StringIO(), force_terminal=False))
